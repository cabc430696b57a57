//! The store that keeps every piece at its index.

use crate::engine::Engine;
use crate::error::StoreError;
use crate::faults::Faults;
use crate::format::{Entry, StoreKind};
use crate::options::{ItemKind, StoreOptions};
use crate::piece_ref::PieceRef;
use crate::{Put, Usage, Verdict};
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PieceIndex};
use std::path::Path;
use std::sync::Arc;

/// Every piece of the history at its own index, found in constant time; grows extent by extent as history does.
///
/// Cheap to clone; closed when the last clone and the last [`PieceRef`] are dropped.
#[derive(Debug, Clone)]
pub struct FullPieceStore {
    engine: Arc<Engine>,
}

impl FullPieceStore {
    /// Opens the store in the directory `path`, or makes it.
    ///
    /// # Errors
    /// When the directory cannot be written, is in use, holds another kind of store or another chain's, or is damaged.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(path, options, Arc::default())
    }

    pub(crate) fn open_with(
        path: &Path,
        options: &StoreOptions,
        faults: Arc<Faults>,
    ) -> Result<Self, StoreError> {
        let at_its_index = |slot, index: PieceIndex| index.0 == slot;
        let engine = Engine::open(path, StoreKind::Full, options, faults, Box::new(|_| ()), at_its_index)?;
        Ok(Self { engine })
    }

    /// What its slots hold.
    pub fn items(&self) -> ItemKind {
        self.engine.manifest().items
    }

    /// Binds a store that was opened without a chain to one; a later opening with another is refused.
    ///
    /// # Errors
    /// [`StoreError::WrongChain`] when it is bound to another already; I/O errors.
    pub fn bind_chain(&self, chain: GenesisHash) -> Result<(), StoreError> {
        self.engine.bind_chain(chain)
    }

    /// The chain the store is bound to.
    pub fn chain(&self) -> Option<GenesisHash> {
        self.engine.manifest().chain
    }

    /// Whether the machine went down while the store was open and not flushed: a reason for [`Self::verify_all`].
    pub fn opened_after_power_loss(&self) -> bool {
        self.engine.opened_after_power_loss()
    }

    /// Stores a piece, hashing it.
    ///
    /// # Errors
    /// See [`Self::put_hashed`].
    pub fn put(&self, index: PieceIndex, item: &[u8]) -> Result<Put, StoreError> {
        if self.contains(index) {
            return Ok(Put::AlreadyThere);
        }
        self.put_hashed(index, item, blake3_hash(item))
    }

    /// Stores a piece whose BLAKE3 the caller has just computed or checked.
    ///
    /// # Errors
    /// When the item has the wrong size, the index is too large, the disk is full or fails, or another thread is
    /// writing the same piece. After an error nothing of the piece is visible.
    pub fn put_hashed(&self, index: PieceIndex, item: &[u8], hash: Blake3Hash) -> Result<Put, StoreError> {
        let limit = self.engine.slot_limit();
        if index.0 >= limit {
            return Err(StoreError::IndexTooLarge { index, limit });
        }
        self.engine.write(index.0, Entry { index, hash }, item)
    }

    /// A piece, read in place.
    pub fn get(&self, index: PieceIndex) -> Option<PieceRef> {
        self.engine.get(index.0, index)
    }

    /// Whether the piece is there.
    pub fn contains(&self, index: PieceIndex) -> bool {
        self.hash(index).is_some()
    }

    /// The hash stored with a piece.
    pub fn hash(&self, index: PieceIndex) -> Option<Blake3Hash> {
        self.engine.hash(index.0, index)
    }

    /// Removes a piece; false when it was not there. Readers that hold it keep it.
    ///
    /// # Errors
    /// When the disk fails; the piece is then still there.
    pub fn remove(&self, index: PieceIndex) -> Result<bool, StoreError> {
        if index.0 >= self.engine.slot_limit() {
            return Ok(false);
        }
        self.engine.remove(index.0, index)
    }

    /// Hashes a piece and compares it with the hash stored with it; reads the disk.
    pub fn verify(&self, index: PieceIndex) -> Verdict {
        self.get(index).map_or(Verdict::Absent, |piece| self.engine.verify(&piece, &mut Vec::new()))
    }

    /// Verifies every piece; gives the damaged ones. `go_on` is told each piece and may stop it by false.
    pub fn verify_all(&self, mut go_on: impl FnMut(PieceIndex, Verdict) -> bool) -> Vec<PieceIndex> {
        let mut buffer = Vec::new();
        let mut damaged = Vec::new();
        for index in self.contents() {
            let Some(piece) = self.get(index) else { continue };
            let verdict = self.engine.verify(&piece, &mut buffer);
            if verdict == Verdict::Damaged {
                damaged.push(index);
            }
            if !go_on(index, verdict) {
                break;
            }
        }
        damaged
    }

    /// The pieces held, ascending.
    pub fn contents(&self) -> Vec<PieceIndex> {
        self.engine.contents().into_iter().map(|(_, index)| index).collect()
    }

    /// How many pieces it holds.
    pub fn usage(&self) -> Usage {
        Usage {
            pieces: self.engine.count(),
            capacity_pieces: None,
            item_bytes: self.engine.manifest().items.size() as u64,
        }
    }

    /// Forces everything that was written to the disk: what is acknowledged after this survives a power failure.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.engine.flush()
    }
}
