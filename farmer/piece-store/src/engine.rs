//! What both kinds of store share: a directory of extents and the state of every slot.
//!
//! State of a slot: `Free` → `Writing` (one writer has it) → `Present` → `Draining` (removed, readers remain) → `Free`.
//! A slice of a slot exists only in `Present` and `Draining`, and its bytes are written only in `Writing`: this is what
//! makes the slices of `mapping` sound.

pub(crate) mod directory;

use crate::error::StoreError;
use crate::extent::Extent;
use crate::faults::Faults;
use crate::format::{Entry, Manifest, StoreKind, TableEntry};
use crate::options::StoreOptions;
use crate::piece_ref::PieceRef;
use crate::{Put, Verdict};
use directory::Directory;
use parking_lot::{Mutex, RwLock};
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PieceIndex};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Most extents of a store: 2^20, that is 4 PiB of pieces.
const MAX_EXTENTS: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Free,
    Writing,
    Present(Entry),
    Draining,
    /// Its entry could not be written nor cleared: not used again before the store is reopened.
    Lost,
}

#[derive(Debug)]
struct Cell {
    state: SlotState,
    /// References to the slot's bytes; grows only under the lock while `Present`.
    pins: AtomicU32,
}

#[derive(Debug)]
struct Slots {
    extent: Arc<Extent>,
    cells: Vec<Cell>,
}

/// Told when a slot becomes free.
type OnFree = Box<dyn Fn(u64) + Send + Sync>;

/// An open store, whatever its kind.
pub(crate) struct Engine {
    directory: Directory,
    slots_per_extent: u64,
    extents: RwLock<BTreeMap<u32, Slots>>,
    /// Serialises the making of extents.
    growing: Mutex<()>,
    faults: Arc<Faults>,
    on_free: OnFree,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens or makes the store in `path`; `found` is told every piece in it.
    pub(crate) fn open(
        path: &Path,
        kind: StoreKind,
        options: &StoreOptions,
        faults: Arc<Faults>,
        on_free: OnFree,
        mut found: impl FnMut(u64, PieceIndex) -> bool,
    ) -> Result<Arc<Self>, StoreError> {
        let directory = Directory::open(path, kind, options)?;
        let manifest = directory.manifest();
        let slots_per_extent = u64::from(manifest.slots_per_extent);
        let mut extents = BTreeMap::new();
        for number in directory.extent_numbers()? {
            let extent = Arc::new(Extent::open(path, &manifest, number, Arc::clone(&faults))?);
            let first = u64::from(number) * slots_per_extent;
            let mut cells = Vec::with_capacity(manifest.slots_per_extent as usize);
            for (slot, entry) in (0..).zip(extent.read_table()?) {
                let state = match entry {
                    TableEntry::Free => SlotState::Free,
                    TableEntry::Present(entry) if found(first + u64::from(slot), entry.index) => {
                        SlotState::Present(entry)
                    }
                    TableEntry::Present(_) | TableEntry::Damaged => {
                        tracing::warn!(
                            path = %path.display(), extent = number, slot,
                            "an entry of the piece store is damaged, misplaced or double; its piece counts as absent",
                        );
                        extent.write_entry(slot, None)?;
                        SlotState::Free
                    }
                };
                cells.push(Cell { state, pins: AtomicU32::new(0) });
            }
            if directory.left_open() {
                extent.mark_dirty();
            }
            extents.insert(number, Slots { extent, cells });
        }
        Ok(Arc::new(Self {
            directory,
            slots_per_extent,
            extents: RwLock::new(extents),
            growing: Mutex::new(()),
            faults,
            on_free,
        }))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        self.directory.manifest()
    }

    pub(crate) fn bind_chain(&self, chain: GenesisHash) -> Result<(), StoreError> {
        self.directory.bind_chain(chain)
    }

    pub(crate) fn opened_after_power_loss(&self) -> bool {
        self.directory.opened_after_power_loss()
    }

    /// First slot that cannot be addressed.
    pub(crate) fn slot_limit(&self) -> u64 {
        self.slots_per_extent * MAX_EXTENTS
    }

    fn locate(&self, slot: u64) -> (u32, u32) {
        debug_assert!(slot < self.slot_limit());
        ((slot / self.slots_per_extent) as u32, (slot % self.slots_per_extent) as u32)
    }

    /// Makes the extent of `slot` if it is not there yet.
    fn ensure_extent(&self, slot: u64) -> Result<(), StoreError> {
        let (number, _) = self.locate(slot);
        if self.extents.read().contains_key(&number) {
            return Ok(());
        }
        let _growing = self.growing.lock();
        if self.extents.read().contains_key(&number) {
            return Ok(());
        }
        let manifest = self.manifest();
        let extent = Extent::create(self.path(), &manifest, number, Arc::clone(&self.faults))?;
        let cells = (0..manifest.slots_per_extent)
            .map(|_| Cell { state: SlotState::Free, pins: AtomicU32::new(0) })
            .collect();
        self.extents.write().insert(number, Slots { extent: Arc::new(extent), cells });
        Ok(())
    }

    /// Sets a slot's state; gives the extent.
    fn transition(&self, slot: u64, change: impl FnOnce(&mut Cell)) -> Arc<Extent> {
        let (number, within) = self.locate(slot);
        let mut extents = self.extents.write();
        let slots = extents.get_mut(&number).expect("the slot's extent exists");
        change(&mut slots.cells[within as usize]);
        Arc::clone(&slots.extent)
    }

    /// Writes a piece into `slot`: data, then the entry.
    pub(crate) fn write(&self, slot: u64, entry: Entry, item: &[u8]) -> Result<Put, StoreError> {
        let expected = self.manifest().items.size();
        if item.len() != expected {
            return Err(StoreError::ItemSize { expected, found: item.len() });
        }
        self.ensure_extent(slot)?;
        let (_, within) = self.locate(slot);
        let mut before = SlotState::Free;
        let extent = self.transition(slot, |cell| {
            before = cell.state;
            if before == SlotState::Free {
                cell.state = SlotState::Writing;
            }
        });
        match before {
            SlotState::Free => {}
            SlotState::Present(_) => return Ok(Put::AlreadyThere),
            SlotState::Writing | SlotState::Draining | SlotState::Lost => {
                return Err(StoreError::Busy { index: entry.index });
            }
        }
        let (state, result) = match extent.write_item(within, item) {
            // The entry is still zeroes: whatever part of the data was written is not visible.
            Err(error) => (SlotState::Free, Err(error)),
            Ok(()) => match extent.write_entry(within, Some(&entry)) {
                Ok(()) => (SlotState::Present(entry), Ok(Put::Stored)),
                Err(error) => match extent.write_entry(within, None) {
                    Ok(()) => (SlotState::Free, Err(error)),
                    Err(_) => (SlotState::Lost, Err(error)),
                },
            },
        };
        self.transition(slot, |cell| cell.state = state);
        result
    }

    /// Pins a slot if it is present and holds `index`.
    pub(crate) fn get(self: &Arc<Self>, slot: u64, index: PieceIndex) -> Option<PieceRef> {
        if slot >= self.slot_limit() {
            return None;
        }
        let (number, within) = self.locate(slot);
        let extents = self.extents.read();
        let slots = extents.get(&number)?;
        let cell = &slots.cells[within as usize];
        match cell.state {
            SlotState::Present(entry) if entry.index == index => {
                cell.pins.fetch_add(1, Ordering::Relaxed);
                Some(PieceRef::new(Arc::clone(self), Arc::clone(&slots.extent), slot, within, entry))
            }
            _ => None,
        }
    }

    pub(crate) fn hash(&self, slot: u64, index: PieceIndex) -> Option<Blake3Hash> {
        if slot >= self.slot_limit() {
            return None;
        }
        let (number, within) = self.locate(slot);
        match self.extents.read().get(&number)?.cells[within as usize].state {
            SlotState::Present(entry) if entry.index == index => Some(entry.hash),
            _ => None,
        }
    }

    /// Unpins a slot: called when a reference is dropped.
    pub(crate) fn unpin(&self, slot: u64) {
        let (number, within) = self.locate(slot);
        {
            let extents = self.extents.read();
            let cell = &extents.get(&number).expect("a pinned slot's extent exists").cells[within as usize];
            // Release: reads through the reference happen before the slot is written again.
            if cell.pins.fetch_sub(1, Ordering::AcqRel) != 1 || cell.state != SlotState::Draining {
                return;
            }
        }
        self.free_if_drained(slot);
    }

    fn free_if_drained(&self, slot: u64) {
        let mut freed = false;
        self.transition(slot, |cell| {
            if cell.state == SlotState::Draining && cell.pins.load(Ordering::Acquire) == 0 {
                cell.state = SlotState::Free;
                freed = true;
            }
        });
        if freed {
            (self.on_free)(slot);
        }
    }

    /// Removes what `slot` holds if that is `index`: invisible at once, free when the last reader is done.
    pub(crate) fn remove(&self, slot: u64, index: PieceIndex) -> Result<bool, StoreError> {
        let (number, within) = self.locate(slot);
        if slot >= self.slot_limit() || !self.extents.read().contains_key(&number) {
            return Ok(false);
        }
        let mut removed = None;
        let extent = self.transition(slot, |cell| {
            if let SlotState::Present(entry) = cell.state
                && entry.index == index
            {
                cell.state = SlotState::Draining;
                // Held while the entry is cleared, so that the slot cannot be reused before.
                cell.pins.fetch_add(1, Ordering::Relaxed);
                removed = Some(entry);
            }
        });
        let Some(entry) = removed else { return Ok(false) };
        if let Err(error) = extent.write_entry(within, None) {
            self.transition(slot, |cell| {
                cell.state = SlotState::Present(entry);
                cell.pins.fetch_sub(1, Ordering::AcqRel);
            });
            return Err(error);
        }
        self.unpin(slot);
        Ok(true)
    }

    /// Hashes what a reference refers to, through the file: a bad disk is a verdict and no signal.
    pub(crate) fn verify(&self, piece: &PieceRef, buffer: &mut Vec<u8>) -> Verdict {
        buffer.resize(self.manifest().items.size(), 0);
        match piece.read_through_file(buffer) {
            Ok(()) if *blake3::hash(buffer).as_bytes() == piece.hash().0 => Verdict::Valid,
            Ok(()) => Verdict::Damaged,
            Err(error) => {
                tracing::warn!(
                    path = %self.path().display(), piece = %piece.index(), %error,
                    "a stored piece cannot be read",
                );
                Verdict::Damaged
            }
        }
    }

    /// All pieces with their slots, in order of slots.
    pub(crate) fn contents(&self) -> Vec<(u64, PieceIndex)> {
        let extents = self.extents.read();
        let mut contents = Vec::new();
        for (number, slots) in extents.iter() {
            let first = u64::from(*number) * self.slots_per_extent;
            contents.extend((first..).zip(&slots.cells).filter_map(|(slot, cell)| match cell.state {
                SlotState::Present(entry) => Some((slot, entry.index)),
                _ => None,
            }));
        }
        contents
    }

    /// Number of pieces.
    pub(crate) fn count(&self) -> u64 {
        let is_present = |cell: &&Cell| matches!(cell.state, SlotState::Present(_));
        self.extents.read().values().map(|slots| slots.cells.iter().filter(is_present).count() as u64).sum()
    }

    /// Slots of the extents that exist which hold nothing, ascending.
    pub(crate) fn free_slots(&self) -> Vec<u64> {
        let extents = self.extents.read();
        let mut free = Vec::new();
        for (number, slots) in extents.iter() {
            let first = u64::from(*number) * self.slots_per_extent;
            let is_free = |(_, cell): &(u64, &Cell)| cell.state == SlotState::Free;
            free.extend((first..).zip(&slots.cells).filter(is_free).map(|(slot, _)| slot));
        }
        free
    }

    /// Numbers of the extents that exist, ascending.
    pub(crate) fn extent_numbers(&self) -> Vec<u32> {
        self.extents.read().keys().copied().collect()
    }

    /// Forces everything that was written to the disk.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        let extents: Vec<_> = self.extents.read().values().map(|slots| Arc::clone(&slots.extent)).collect();
        extents.iter().try_for_each(|extent| extent.flush())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let clean = self.extents.get_mut().values().all(|slots| !slots.extent.is_dirty());
        if clean {
            self.directory.mark_closed();
        }
    }
}
