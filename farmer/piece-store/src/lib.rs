//! Flat-file stores of pieces, memory-mapped: [`FullPieceStore`] keeps every piece at its index and grows with history,
//! [`ShardedPieceStore`] has a fixed number of slots and holds whatever pieces are put into it.
//!
//! A store is a directory (all integers little-endian; design §7: magic, version and checksum on everything):
//!
//! | file | content |
//! |---|---|
//! | `manifest.bin` | what the store is: kind, item kind, slots per extent, its random id, the chain it belongs to |
//! | `extent-NNNNNNNN.bin` | header, table of entries (64 bytes a slot), data of the slots; sparse |
//! | `lock` | held exclusively by the process that has the store open |
//! | `in-use` | the kernel's boot id while the store is open; left behind by a crash |
//!
//! **Crash safety.** A slot's data is written first and its entry last, in one write of 64 aligned bytes with a checksum
//! of its own; so after `kill -9` between any two writes a piece is absent or whole. Entries carry the BLAKE3 of the
//! piece, so what a power failure may leave (an entry without its data) is found by [`FullPieceStore::verify`] and by
//! every receiver; [`FullPieceStore::opened_after_power_loss`] says when that is worth doing, and
//! [`FullPieceStore::flush`] forces everything to the disk.
//!
//! **Reading.** A [`PieceRef`] is a pinned slice of the mapping: no copy, `Send`, usable as the owner of a
//! reference-counted buffer. A slot is not reused while a reference to it lives. Writing goes through the file, never
//! through the mapping, so a full disk is an error and not a signal.
//!
//! **Looking.** [`StoreInspection`] reads a store without opening it, also while another process has it open.
//!
//! Architecture invariant: this crate knows nothing of the network, of async runtimes or of KZG. It blocks; callers run
//! it where blocking is allowed.

mod engine;
mod error;
mod extent;
mod faults;
mod format;
mod full;
mod inspection;
mod mapping;
mod options;
mod piece_ref;
mod sharded;

#[cfg(test)]
mod crash_consistency;

pub use error::StoreError;
pub use full::FullPieceStore;
pub use inspection::{BrokenExtent, SlotContents, StoreInspection};
pub use options::{Capacity, ItemKind, StoreOptions};
pub use piece_ref::PieceRef;
pub use sharded::ShardedPieceStore;

/// What became of a piece that was put into a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It has been written.
    Stored,
    /// The store already held this piece index; nothing was written.
    AlreadyThere,
}

/// Verdict on a stored piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its bytes have the hash that was stored with it.
    Valid,
    /// Its bytes changed on the disk, or cannot be read.
    Damaged,
    /// The store does not hold it.
    Absent,
}

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Pieces held.
    pub pieces: u64,
    /// Most pieces it may hold; none for a full store, which grows with history.
    pub capacity_pieces: Option<u64>,
    /// Bytes of one item.
    pub item_bytes: u64,
}
