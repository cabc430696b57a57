//! The store with a fixed number of slots.

use crate::engine::Engine;
use crate::error::StoreError;
use crate::faults::Faults;
use crate::format::{self, ExtentGeometry, StoreKind};
use crate::options::{Capacity, ItemKind, StoreOptions};
use crate::piece_ref::PieceRef;
use crate::{Put, Usage, Verdict};
use parking_lot::Mutex;
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PieceIndex};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Which slot holds which piece, and which slots are free.
#[derive(Debug, Default)]
struct Placement {
    by_index: HashMap<PieceIndex, u64>,
    /// Free slots of extents that exist; the last is taken first.
    free: Vec<u64>,
    /// First slot of no extent: slots from here to the capacity are free.
    fresh: u64,
    capacity: u64,
}

impl Placement {
    fn take(&mut self) -> Option<u64> {
        if self.by_index.len() as u64 >= self.capacity {
            return None;
        }
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        let slot = self.fresh;
        (slot < self.capacity).then(|| {
            self.fresh += 1;
            slot
        })
    }

    fn give_back(&mut self, slot: u64) {
        self.free.push(slot);
    }
}

/// Whatever pieces are put into it, up to a fixed number; the index is rebuilt in memory when it is opened.
///
/// Cheap to clone; closed when the last clone and the last [`PieceRef`] are dropped.
#[derive(Debug, Clone)]
pub struct ShardedPieceStore {
    engine: Arc<Engine>,
    placement: Arc<Mutex<Placement>>,
}

impl ShardedPieceStore {
    /// Opens the store in the directory `path`, or makes it.
    ///
    /// A capacity below what the store already holds drops nothing: it only takes no more.
    ///
    /// # Errors
    /// When the directory cannot be written, is in use, holds another kind of store or another chain's, is damaged, or
    /// when not one piece fits the capacity.
    pub fn open(path: &Path, options: &StoreOptions, capacity: Capacity) -> Result<Self, StoreError> {
        Self::open_with(path, options, capacity, Arc::default())
    }

    pub(crate) fn open_with(
        path: &Path,
        options: &StoreOptions,
        capacity: Capacity,
        faults: Arc<Faults>,
    ) -> Result<Self, StoreError> {
        let placement = Arc::new(Mutex::new(Placement::default()));
        let on_free = {
            let placement = Arc::clone(&placement);
            Box::new(move |slot| placement.lock().give_back(slot))
        };
        let engine = Engine::open(path, StoreKind::Sharded, options, faults, on_free, |slot, index| {
            is_new(&mut placement.lock().by_index, index, slot)
        })?;
        let store = Self { engine, placement };
        store.set_capacity(capacity)?;
        Ok(store)
    }

    fn set_capacity(&self, capacity: Capacity) -> Result<(), StoreError> {
        let slots = self.slots_of(capacity)?;
        if slots == 0 {
            return Err(StoreError::Options(format!(
                "{} has room for no piece: one takes {} bytes",
                self.engine.path().display(),
                self.engine.manifest().items.size()
            )));
        }
        let per_extent = u64::from(self.engine.manifest().slots_per_extent);
        let numbers = self.engine.extent_numbers();
        let mut placement = self.placement.lock();
        placement.capacity = slots.min(self.engine.slot_limit());
        let fresh = numbers.last().map_or(0, |last| (u64::from(*last) + 1) * per_extent);
        placement.fresh = fresh;
        let mut free = self.engine.free_slots();
        // An extent that was moved away is made anew.
        let missing = |number: &u32| numbers.binary_search(number).is_err();
        for number in (0..numbers.last().copied().unwrap_or(0)).filter(missing) {
            let first = u64::from(number) * per_extent;
            free.extend(first..first + per_extent);
        }
        free.retain(|&slot| slot < placement.capacity);
        free.sort_unstable_by(|one, other| other.cmp(one));
        placement.free = free;
        Ok(())
    }

    /// Slots that a capacity gives.
    fn slots_of(&self, capacity: Capacity) -> Result<u64, StoreError> {
        let path = self.engine.path();
        let bytes = match capacity {
            Capacity::Pieces(pieces) => return Ok(pieces),
            Capacity::Bytes(bytes) => bytes,
            Capacity::Disk { reserve_bytes } => {
                let disk = rustix::fs::statvfs(path)
                    .map_err(|error| StoreError::io("ask for the free space of", path, error.into()))?;
                let free = disk.f_bavail.saturating_mul(disk.f_frsize);
                let used = self.engine.extent_numbers().into_iter().map(|number| {
                    std::fs::metadata(crate::extent::path(path, number))
                        .map_or(0, |metadata| metadata.blocks() * 512)
                });
                (free + used.sum::<u64>()).saturating_sub(reserve_bytes)
            }
        };
        let geometry = ExtentGeometry::of(&self.engine.manifest());
        let extents = bytes / geometry.file_size();
        let rest = (bytes % geometry.file_size()).saturating_sub(geometry.data_offset());
        Ok(extents * u64::from(geometry.slots) + rest / geometry.item_size as u64)
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
    /// When no slot is free, the item has the wrong size, the disk is full or fails, or another thread is writing the
    /// same piece. After an error nothing of the piece is visible.
    pub fn put_hashed(&self, index: PieceIndex, item: &[u8], hash: Blake3Hash) -> Result<Put, StoreError> {
        let slot = {
            let mut placement = self.placement.lock();
            if let Some(&slot) = placement.by_index.get(&index) {
                return match self.engine.hash(slot, index) {
                    Some(_) => Ok(Put::AlreadyThere),
                    None => Err(StoreError::Busy { index }),
                };
            }
            let slot = placement.take().ok_or(StoreError::Full { capacity: placement.capacity })?;
            placement.by_index.insert(index, slot);
            slot
        };
        let result = self.engine.write(slot, format::Entry { index, hash }, item);
        if let Err(error) = &result {
            let mut placement = self.placement.lock();
            placement.by_index.remove(&index);
            if !error.is_transient() {
                placement.give_back(slot);
            }
        }
        result
    }

    fn slot(&self, index: PieceIndex) -> Option<u64> {
        self.placement.lock().by_index.get(&index).copied()
    }

    /// A piece, read in place.
    pub fn get(&self, index: PieceIndex) -> Option<PieceRef> {
        self.engine.get(self.slot(index)?, index)
    }

    /// Whether the piece is there.
    pub fn contains(&self, index: PieceIndex) -> bool {
        self.hash(index).is_some()
    }

    /// The hash stored with a piece.
    pub fn hash(&self, index: PieceIndex) -> Option<Blake3Hash> {
        self.engine.hash(self.slot(index)?, index)
    }

    /// Removes a piece; false when it was not there. Readers that hold it keep it; its slot is free when they are done.
    ///
    /// # Errors
    /// When the disk fails; the piece is then still there.
    pub fn remove(&self, index: PieceIndex) -> Result<bool, StoreError> {
        let Some(slot) = self.slot(index) else { return Ok(false) };
        // Forgotten before the slot can be given away, so that no two indices ever name one slot.
        let mut forgotten = false;
        if self.engine.hash(slot, index).is_some() {
            forgotten = self.placement.lock().by_index.remove(&index).is_some();
        }
        if !forgotten {
            return Ok(false);
        }
        match self.engine.remove(slot, index) {
            Ok(removed) => Ok(removed),
            Err(error) => {
                // Unless someone has stored it anew meanwhile.
                self.placement.lock().by_index.entry(index).or_insert(slot);
                Err(error)
            }
        }
    }

    /// Hashes a piece and compares it with the hash stored with it; reads the disk.
    pub fn verify(&self, index: PieceIndex) -> Verdict {
        self.get(index).map_or(Verdict::Absent, |piece| self.engine.verify(&piece, &mut Vec::new()))
    }

    /// Verifies every piece; gives the damaged ones. `go_on` is told each piece and may stop it by false.
    pub fn verify_all(&self, mut go_on: impl FnMut(PieceIndex, Verdict) -> bool) -> Vec<PieceIndex> {
        let mut buffer = Vec::new();
        let mut damaged = Vec::new();
        // In order of slots: the disk is read from front to back.
        for (slot, index) in self.engine.contents() {
            let Some(piece) = self.engine.get(slot, index) else { continue };
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
        let mut contents: Vec<_> = self.engine.contents().into_iter().map(|(_, index)| index).collect();
        contents.sort_unstable();
        contents
    }

    /// How many pieces it holds and how many it may hold.
    pub fn usage(&self) -> Usage {
        let placement = self.placement.lock();
        Usage {
            pieces: placement.by_index.len() as u64,
            capacity_pieces: Some(placement.capacity),
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

/// Notes that `slot` holds `index`, unless another slot does.
fn is_new(by_index: &mut HashMap<PieceIndex, u64>, index: PieceIndex, slot: u64) -> bool {
    match by_index.entry(index) {
        Entry::Occupied(_) => false,
        Entry::Vacant(vacant) => {
            vacant.insert(slot);
            true
        }
    }
}
