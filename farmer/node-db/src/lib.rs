//! The node's ParityDB: layout, reading, writing (archival §10, §11).
//!
//! Architecture invariant: this crate knows where a node keeps what and in which bytes; it archives nothing. Whoever
//! writes through it leaves a database that the network's own tools can read.
//!
//! ParityDB takes an exclusive lock even to read, and replays its log when it is opened: a database is opened only
//! while no node runs on it, and best as a copy. ParityDB also trusts its files: the log is checked before it is replayed
//! (`log`), indices and tables when they are opened and at what is read of them (`tables`).

mod error;
mod files;
mod layout;
mod log;
mod read;
mod tables;
mod write;

pub use error::Error;
pub use layout::{NUM_COLUMNS, database_directory};
pub use read::{BlockId, NodeDb};
