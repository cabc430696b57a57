//! Hosts over SSH: a real sshd on a loopback port, started and stopped by each test, with keys of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod cluster;
mod connecting;
mod methods;
mod sshd;
mod transfer;
mod trouble;
mod trust;
