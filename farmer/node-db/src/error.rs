//! What may go wrong with a node's database.

use primitives::BlockNumber;
use std::path::PathBuf;

/// Why a node's database could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory holds no database of a node.
    #[error(
        "{} is not a node's database: {reason}; expected the node's base path or its `db` directory, with a `metadata` file",
        path.display()
    )]
    NotANodeDatabase {
        /// The directory.
        path: PathBuf,
        /// What is missing or different.
        reason: String,
    },
    /// Another process has the database open.
    #[error(
        "{} is locked: a node is running on it, and ParityDB locks out readers too; stop the node, or work on a copy of \
         the directory (made while the node was stopped, or as a file system snapshot)",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The node was not stopped in order: ParityDB would write what its log holds into the tables.
    #[error(
        "{} holds changes that are still in its log ({log}): the node was killed, or the copy was made while it ran; start \
         the node and stop it in order, or let ParityDB finish the log in a copy (the exporter: --replay-log)",
        path.display()
    )]
    PendingLog {
        /// The directory.
        path: PathBuf,
        /// Name of a log file.
        log: String,
    },
    /// The log refers to what the database does not have: ParityDB would follow it out of its files.
    #[error(
        "{}: {log} {reason}: no node wrote that, so the log was damaged or forged, and the database is not opened; take another \
         copy, of a node that was stopped in order",
        path.display()
    )]
    BadLog {
        /// The directory.
        path: PathBuf,
        /// Name of the log file.
        log: String,
        /// What it says.
        reason: String,
    },
    /// A file is not as long as what is to be in it: ParityDB would read past its end, or change its length.
    #[error(
        "{}: {file} {reason}: no node leaves it so, so it was cut off, damaged or forged, and the database is not opened; take \
         another copy, of a node that was stopped in order",
        path.display()
    )]
    BadFile {
        /// The directory.
        path: PathBuf,
        /// Name of the file.
        file: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// ParityDB could not open it.
    #[error("{}: cannot open the node's database: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// ParityDB's reason.
        source: parity_db::Error,
    },
    /// ParityDB could not read.
    #[error("cannot read {what} from the node's database: {source}")]
    Read {
        /// What was read.
        what: String,
        /// ParityDB's reason.
        source: parity_db::Error,
    },
    /// ParityDB could not write.
    #[error("cannot write {what} to the node's database: {source}")]
    Write {
        /// What was written.
        what: String,
        /// ParityDB's reason.
        source: parity_db::Error,
    },
    /// Something stored there is not what the layout says.
    #[error("the node's database is damaged: {what}: {reason}")]
    Corrupt {
        /// Which entry.
        what: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// The canonical chain of the database has no such block.
    #[error("block {number} is not in the node's database, whose best block is {best}")]
    NoSuchBlock {
        /// The block asked for.
        number: BlockNumber,
        /// The newest block there is.
        best: BlockNumber,
    },
    /// The node has thrown the block's body away.
    #[error(
        "block {number} has no body in {}: the node prunes its blocks or has synced without them; run a node with \
         `--sync full --blocks-pruning archive-canonical` until it is synced, then use its database",
        path.display()
    )]
    PrunedBody {
        /// The first block whose body is missing.
        number: BlockNumber,
        /// The database.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn corrupt(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), reason: reason.into() }
    }
}
