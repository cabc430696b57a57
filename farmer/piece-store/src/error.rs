//! Errors of a store.

use crate::options::ItemKind;
use primitives::PieceIndex;
use primitives::rpc::GenesisHash;
use std::io;
use std::path::{Path, PathBuf};

/// Why a store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// File or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The disk has no room; what was being written is not visible and can be tried again.
    #[error("the disk is full: {} could not be written; make room or give the store a smaller size", path.display())]
    DiskFull {
        /// File that was being written.
        path: PathBuf,
    },
    /// Another process has the store open.
    #[error("{} is in use by another process; stop it first", path.display())]
    Locked {
        /// Directory of the store.
        path: PathBuf,
    },
    /// There is no store.
    #[error("{} is no piece store: it has no manifest.bin", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// A file begins with something else than the magic of its format.
    #[error("{} is not a {expected} of a piece store: it begins with {found}", path.display())]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// First bytes in hex.
        found: String,
    },
    /// A file has a format version that this build does not know.
    #[error("{} has format version {found}, this build knows {supported}; use a newer build", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Version known.
        supported: u32,
    },
    /// The checksum of a header does not match, or its fields make no sense.
    #[error("{} is damaged: {what}; move it away and let the store be filled again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A file is shorter or longer than its header says.
    #[error("{} has {found} bytes where {expected} are due; move it away and let the store be filled again",
        path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Bytes due.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// An extent was made for another store.
    #[error("{} belongs to another store; move it away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The directory holds the other kind of store.
    #[error("{} is a {found} store, a {expected} store was expected", path.display())]
    WrongKind {
        /// Directory of the store.
        path: PathBuf,
        /// Kind asked for.
        expected: &'static str,
        /// Kind found.
        found: &'static str,
    },
    /// The store holds other items.
    #[error("{} holds items of kind {found}, {expected} was expected", path.display())]
    WrongItems {
        /// Directory of the store.
        path: PathBuf,
        /// Kind asked for.
        expected: ItemKind,
        /// Kind found.
        found: ItemKind,
    },
    /// The store belongs to another chain.
    #[error("{} holds pieces of the chain with genesis {found}, not of {expected}; use another directory",
        path.display())]
    WrongChain {
        /// Directory of the store.
        path: PathBuf,
        /// Genesis asked for.
        expected: GenesisHash,
        /// Genesis found.
        found: GenesisHash,
    },
    /// The options make no sense.
    #[error("{0}")]
    Options(String),
    /// No slot is free.
    #[error("the store is full: it holds {capacity} pieces")]
    Full {
        /// Slots of the store.
        capacity: u64,
    },
    /// Another thread is writing this piece, or a reader still holds what was removed from its slot; try again.
    #[error("piece {index} is busy: it is being written, or still read after its removal")]
    Busy {
        /// The piece.
        index: PieceIndex,
    },
    /// An item has the wrong size.
    #[error("an item of this store has {expected} bytes, found {found}")]
    ItemSize {
        /// Bytes due.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// A piece index beyond what a store can address.
    #[error("piece index {index} is beyond the {limit} that a store can address")]
    IndexTooLarge {
        /// The index.
        index: PieceIndex,
        /// First index that is refused.
        limit: u64,
    },
}

impl StoreError {
    /// Wraps an I/O error; a full disk becomes its own variant.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned() }
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }

    /// Whether the same call may succeed later without anyone's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
