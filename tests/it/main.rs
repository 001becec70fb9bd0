//! One integration binary: one link, shared helpers. Every module runs the built program as a user would.

mod analyze;
mod architecture;
mod catalog;
mod config;
mod daemon;
mod lab;
mod measure;
mod serve;
