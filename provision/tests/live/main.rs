//! Real supervisord and nats-server on this machine; stubs that listen and answer stand in for our roles, since what
//! is tested here is how programs are installed, started, changed, stopped and healed.
#![allow(clippy::unwrap_used, missing_docs)]

mod export;
mod import;
mod lifecycle;
mod packages;
mod plans;
mod rollback;
mod support;
mod trouble;
