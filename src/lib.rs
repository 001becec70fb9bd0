//! Tells whether a platform is being slowed down on a network, by how much, by what means, since when, and how sure we
//! are.
//!
//! A pure core judges, a thin shell measures, edges translate. Data flows one way:
//!
//! ```text
//!  config + catalogue ─► targets ─► schedule ─► methods ─► probe ─► Measurement
//!                                                                      │
//!         metrics ◄─┐                                                  ▼
//!   status page/API ◄┼─── events ◄── analysis (pure: pair, e-process, mechanism, series)
//!             store ◄┘                                                 ▲
//!                       recorded measurements, pcap, CSV ──────────────┘   (analyze: same core, past data)
//! ```
//!
//! Imports go downwards only:
//! `cli` · `evaluate` · `engine`, `lab`, `web` · `methods`, `config` · `probe`, `analysis`, `recorded`, `report`, `metrics`,
//! `store`, `schedule`, `catalog`, `serve` · `wire`, `clock` · `model`.

pub mod analysis;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod engine;
pub mod evaluate;
pub mod lab;
pub mod methods;
pub mod metrics;
pub mod model;
pub mod notify;
pub mod probe;
pub mod recorded;
pub mod report;
pub mod schedule;
pub mod serve;
pub mod store;
pub mod web;
pub mod wire;
