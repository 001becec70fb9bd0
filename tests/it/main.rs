//! One integration binary: one link, shared helpers. Every module runs the built program as a user would.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]
#![allow(clippy::float_cmp, reason = "counts read back from text are exact")]
#![allow(clippy::disallowed_methods, reason = "real programs are waited for in real time")]

mod analyze;
mod architecture;
mod browser;
mod catalog;
mod compare;
mod config;
mod daemon;
mod dashboards;
mod demo;
mod evaluate;
mod export;
mod failures;
mod health;
mod kill;
mod lab;
mod measure;
mod metamorphic;
mod metrics;
mod notify;
mod page;
mod probe;
mod prometheus;
mod seed;
mod series;
mod serve;
mod store;
mod support;
mod versions;
mod watch;
mod web;
mod year;
