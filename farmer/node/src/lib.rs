//! Client of the node's JSON-RPC (farming §9): every method and subscription a farmer needs, over one WebSocket that is
//! kept up; reads also by plain HTTP requests.
//!
//! Unlike the reference, which ends with its connection, [`NodeClient`] reconnects with backoff, subscribes again, says
//! so once, and notices when another chain answers at the same address.
//!
//! Architecture invariant: a submission is sent at most once. Reads are repeated after a broken connection; whether a
//! solution or a signature arrived when the connection broke is not known, and the error says exactly that.

mod client;
mod connection;
mod error;
mod subscription;
mod transport;

pub use client::{NodeClient, Options, SystemHealth};
pub use connection::NodeState;
pub use error::Error;
pub use subscription::{Event, Subscription};
