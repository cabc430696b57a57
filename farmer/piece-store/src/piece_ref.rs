//! A pinned piece of a store.

use crate::engine::Engine;
use crate::extent::Extent;
use crate::format::Entry;
use primitives::{Blake3Hash, PieceIndex};
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A stored piece, read in place: derefs to the bytes of the mapping.
///
/// While it lives its slot is not written to and the store's lock is held; it is `Send` and `'static`, so it can be held
/// while its bytes are sent out of the file ([`Self::file_region`]). The first touch of mapped bytes that are not in the
/// page cache reads the disk, and a bad disk is then a signal: read the file where that matters.
pub struct PieceRef {
    engine: Arc<Engine>,
    extent: Arc<Extent>,
    slot: u64,
    within: u32,
    entry: Entry,
}

impl PieceRef {
    /// The slot has been pinned for it.
    pub(crate) fn new(
        engine: Arc<Engine>,
        extent: Arc<Extent>,
        slot: u64,
        within: u32,
        entry: Entry,
    ) -> Self {
        Self { engine, extent, slot, within, entry }
    }

    /// Index of the piece.
    pub fn index(&self) -> PieceIndex {
        self.entry.index
    }

    /// BLAKE3 of the bytes, as stored when they were written.
    pub fn hash(&self) -> Blake3Hash {
        self.entry.hash
    }

    /// The file that holds the piece and the byte offset at which it begins, for `sendfile`.
    pub fn file_region(&self) -> (&File, u64) {
        (self.extent.file(), self.extent.item_offset(self.within))
    }

    /// Reads the piece with ordinary reads.
    pub(crate) fn read_through_file(&self, buffer: &mut [u8]) -> io::Result<()> {
        self.extent.read_item(self.within, buffer)
    }
}

impl Drop for PieceRef {
    fn drop(&mut self) {
        self.engine.unpin(self.slot);
    }
}

impl std::ops::Deref for PieceRef {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.extent.item(self.within)
    }
}

impl AsRef<[u8]> for PieceRef {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for PieceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PieceRef").field("index", &self.entry.index).field("hash", &self.entry.hash).finish()
    }
}
