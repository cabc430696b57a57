//! The node's ParityDB: layout, reading, writing (archival §10, §11).
//!
//! Architecture invariant: this crate knows where a node keeps what and in which bytes; it archives nothing. Whoever
//! writes through it leaves a database that the network's own tools can read.
//!
//! ParityDB takes an exclusive lock even to read, and replays its log when it is opened: a database is opened only
//! while no node runs on it, and best as a copy; its log is checked first (`log`), since ParityDB trusts it.

mod error;
mod layout;
mod log;
mod read;
mod write;

pub use error::Error;
pub use layout::{NUM_COLUMNS, database_directory};
pub use read::{BlockId, NodeDb};
