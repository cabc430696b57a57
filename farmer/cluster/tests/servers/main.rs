//! What goes to NATS servers and over TCP, in one binary: all of it is built from the same parts.
#![allow(clippy::unwrap_used, missing_docs)]

mod membership;
mod nats;
mod support;
mod transfer;
