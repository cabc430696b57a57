//! The roles on real parts, in one binary: each of these tests is built from the same ones.
#![allow(clippy::unwrap_used, clippy::print_stderr, unreachable_pub, missing_docs, dead_code)]

mod caches;
mod export;
mod fetch;
mod fixtures;
mod nodes;
mod plot;
mod plot_kill;
mod proxy;
#[path = "../roles_support/mod.rs"]
mod roles_support;
mod start;
mod utilities;
mod world;
