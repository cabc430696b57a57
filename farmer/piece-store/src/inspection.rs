//! Looking at a store without opening it: nothing is locked, made or changed, so that whoever is at work on it is not
//! disturbed and what is wrong with it stays to be seen.

use crate::engine::directory;
use crate::error::StoreError;
use crate::extent;
use crate::format::{
    ENTRY_SIZE, Entry, ExtentGeometry, HEADER_SIZE, Manifest, StoreKind, TableEntry, check_extent_header,
};
use crate::options::ItemKind;
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PieceIndex};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a slot of an inspected store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotContents {
    /// Nothing.
    Free,
    /// A piece.
    Piece {
        /// Its index.
        index: PieceIndex,
        /// The hash stored with it.
        hash: Blake3Hash,
    },
    /// An entry that is none; a store that is opened clears it.
    Damaged {
        /// The piece whose place this is, where the place tells.
        index: Option<PieceIndex>,
    },
}

#[derive(Debug)]
struct InspectedExtent {
    path: PathBuf,
    file: File,
    slots: Vec<SlotContents>,
}

/// An extent that cannot be used as a whole.
#[derive(Debug)]
pub struct BrokenExtent {
    /// Its slots.
    pub slots: std::ops::Range<u64>,
    /// What is wrong with it.
    pub error: StoreError,
}

/// A store as it stood on the disk when it was looked at. Its methods block.
#[derive(Debug)]
pub struct StoreInspection {
    path: PathBuf,
    manifest: Manifest,
    in_use: bool,
    extents: BTreeMap<u32, InspectedExtent>,
    broken: Vec<BrokenExtent>,
}

impl StoreInspection {
    /// Whether the directory holds a store.
    pub fn is_store(path: &Path) -> bool {
        path.join(directory::MANIFEST).is_file()
    }

    /// Reads the tables of the store in `path`.
    ///
    /// # Errors
    /// When there is no store, its manifest is damaged, or the directory cannot be read. A bad extent is no error: see
    /// [`Self::broken_extents`].
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        let Some(manifest) = directory::read_manifest(path)? else {
            return Err(StoreError::NotAStore { path: path.to_owned() });
        };
        let mut inspection = Self {
            path: path.to_owned(),
            manifest,
            in_use: directory::is_locked(path)?,
            extents: BTreeMap::new(),
            broken: Vec::new(),
        };
        for number in directory::scan(path)? {
            match inspection.read_extent(number) {
                Ok(extent) => {
                    inspection.extents.insert(number, extent);
                }
                Err(error) => {
                    let first = inspection.first_slot(number);
                    let slots = first..first + u64::from(manifest.slots_per_extent);
                    inspection.broken.push(BrokenExtent { slots, error });
                }
            }
        }
        Ok(inspection)
    }

    fn first_slot(&self, number: u32) -> u64 {
        u64::from(number) * u64::from(self.manifest.slots_per_extent)
    }

    fn read_extent(&self, number: u32) -> Result<InspectedExtent, StoreError> {
        let path = extent::path(&self.path, number);
        let io = |action, error| StoreError::io(action, &path, error);
        let geometry = ExtentGeometry::of(&self.manifest);
        let file = File::open(&path).map_err(|error| io("open", error))?;
        let found = file.metadata().map_err(|error| io("stat", error))?.len();
        if found != geometry.file_size() {
            return Err(StoreError::WrongLength { path, expected: geometry.file_size(), found });
        }
        // Bounded: the manifest's number of slots was checked.
        let mut head = vec![0; HEADER_SIZE as usize + geometry.table_size()];
        file.read_exact_at(&mut head, 0).map_err(|error| io("read the table of", error))?;
        let (header, table) = head.split_at(HEADER_SIZE as usize);
        check_extent_header(header, &self.manifest, number, &path)?;
        let first = self.first_slot(number);
        let (entries, _) = table.as_chunks::<ENTRY_SIZE>();
        let slots = (first..).zip(entries).map(|(slot, bytes)| self.decode(slot, bytes)).collect();
        Ok(InspectedExtent { path, file, slots })
    }

    fn decode(&self, slot: u64, bytes: &[u8; ENTRY_SIZE]) -> SlotContents {
        let place = (self.manifest.kind == StoreKind::Full).then_some(PieceIndex(slot));
        match Entry::decode(bytes, slot) {
            TableEntry::Free => SlotContents::Free,
            TableEntry::Present(Entry { index, hash }) if place.is_none_or(|place| place == index) => {
                SlotContents::Piece { index, hash }
            }
            TableEntry::Present(_) | TableEntry::Damaged => SlotContents::Damaged { index: place },
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a process had the store open.
    pub fn in_use(&self) -> bool {
        self.in_use
    }

    /// Whether it is a full store; else a sharded one.
    pub fn is_full(&self) -> bool {
        self.manifest.kind == StoreKind::Full
    }

    /// What its slots hold.
    pub fn items(&self) -> ItemKind {
        self.manifest.items
    }

    /// The chain the store is bound to.
    pub fn chain(&self) -> Option<GenesisHash> {
        self.manifest.chain
    }

    /// Its random identity.
    pub fn id(&self) -> [u8; 16] {
        self.manifest.store_id
    }

    /// Slots in each extent file.
    pub fn slots_per_extent(&self) -> u32 {
        self.manifest.slots_per_extent
    }

    /// Number of extents that can be read.
    pub fn extents(&self) -> usize {
        self.extents.len()
    }

    /// Extents that cannot be used: shorter than they should be, with a damaged header, another store's.
    pub fn broken_extents(&self) -> &[BrokenExtent] {
        &self.broken
    }

    /// Bytes that the extents take on the disk.
    pub fn disk_bytes(&self) -> u64 {
        let blocks = |extent: &InspectedExtent| extent.file.metadata().map_or(0, |file| file.blocks() * 512);
        self.extents.values().map(blocks).sum()
    }

    /// All slots that are not free, ascending, in the order in which the disk has them.
    pub fn slots(&self) -> impl Iterator<Item = (u64, SlotContents)> {
        self.extents.iter().flat_map(|(number, extent)| {
            let slots = (self.first_slot(*number)..).zip(extent.slots.iter().copied());
            slots.filter(|(_, contents)| *contents != SlotContents::Free)
        })
    }

    fn locate(&self, slot: u64) -> Option<(&InspectedExtent, u32)> {
        let per_extent = u64::from(self.manifest.slots_per_extent);
        let extent = self.extents.get(&u32::try_from(slot / per_extent).ok()?)?;
        Some((extent, (slot % per_extent) as u32))
    }

    /// The extent file with this slot.
    pub fn extent_path(&self, slot: u64) -> Option<&Path> {
        self.locate(slot).map(|(extent, _)| extent.path.as_path())
    }

    /// What the slot held when the table was read.
    pub fn slot(&self, slot: u64) -> SlotContents {
        self.locate(slot).map_or(SlotContents::Free, |(extent, within)| extent.slots[within as usize])
    }

    /// What the slot holds now: in a store that is in use it may have changed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn slot_now(&self, slot: u64) -> io::Result<SlotContents> {
        let Some((extent, within)) = self.locate(slot) else { return Ok(SlotContents::Free) };
        let mut bytes = [0; ENTRY_SIZE];
        let offset = ExtentGeometry::of(&self.manifest).entry_offset(within);
        extent.file.read_exact_at(&mut bytes, offset)?;
        Ok(self.decode(slot, &bytes))
    }

    /// Reads the item of a slot, of [`ItemKind::size`] bytes; whether it is what the entry says is the caller's to find
    /// out.
    ///
    /// # Errors
    /// Those of the disk; [`io::ErrorKind::NotFound`] for a slot of no extent.
    pub fn read(&self, slot: u64, item: &mut [u8]) -> io::Result<()> {
        let (extent, within) = self.locate(slot).ok_or(io::ErrorKind::NotFound)?;
        extent.file.read_exact_at(item, ExtentGeometry::of(&self.manifest).item_offset(within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MANIFEST_SIZE;
    use crate::{Capacity, FullPieceStore, ShardedPieceStore, StoreOptions};
    use primitives::Piece;
    use std::fs;

    const OPTIONS: StoreOptions = StoreOptions { items: ItemKind::Piece, chain: None, slots_per_extent: 4 };

    fn item(number: u8) -> Vec<u8> {
        vec![number; Piece::SIZE]
    }

    fn flip(path: &Path, offset: u64) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    }

    fn names(path: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_look_changes_nothing_and_sees_what_opening_would_clear() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let store = FullPieceStore::open(path, &OPTIONS).unwrap();
        for index in [0, 1, 2, 6] {
            store.put(PieceIndex(index), &item(index as u8)).unwrap();
        }
        let seen = StoreInspection::new(path).unwrap();
        assert!(seen.in_use() && seen.is_full() && seen.extents() == 2);
        store.flush().unwrap();
        drop(store);
        let extent = path.join("extent-00000000.bin");
        let geometry = ExtentGeometry { slots: 4, item_size: Piece::SIZE };
        flip(&extent, geometry.entry_offset(1) + 20);
        flip(&extent, geometry.item_offset(2) + 99);
        let before = names(path);

        let seen = StoreInspection::new(path).unwrap();
        assert!(!seen.in_use());
        let slots: Vec<_> = seen.slots().collect();
        assert_eq!(slots.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 1, 2, 6]);
        assert_eq!(slots[1].1, SlotContents::Damaged { index: Some(PieceIndex(1)) });
        for (slot, sound) in [(0, true), (2, false), (6, true)] {
            let SlotContents::Piece { index, hash } = seen.slot_now(slot).unwrap() else { panic!("{slot}") };
            let mut read = item(0);
            seen.read(slot, &mut read).unwrap();
            assert_eq!(index, PieceIndex(slot));
            assert_eq!(*blake3::hash(&read).as_bytes() == hash.0, sound, "{slot}");
        }
        assert_eq!(seen.slot(3), SlotContents::Free);
        assert_eq!(seen.slot(u64::MAX), SlotContents::Free);
        assert!(seen.read(4000, &mut item(0)).is_err());
        assert_eq!(names(path), before);
        // Opening clears the damaged entry: from then on it is only absent.
        drop(FullPieceStore::open(path, &OPTIONS).unwrap());
        assert_eq!(StoreInspection::new(path).unwrap().slot(1), SlotContents::Free);
    }

    #[test]
    fn broken_extents_are_named_and_the_others_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(!StoreInspection::is_store(path));
        assert!(matches!(StoreInspection::new(path), Err(StoreError::NotAStore { .. })));
        let store = ShardedPieceStore::open(path, &OPTIONS, Capacity::Pieces(12)).unwrap();
        for index in 0..12 {
            store.put(PieceIndex(100 + index), &item(index as u8)).unwrap();
        }
        drop(store);
        flip(&path.join("extent-00000001.bin"), 17);
        File::options().write(true).open(path.join("extent-00000002.bin")).unwrap().set_len(5000).unwrap();
        let seen = StoreInspection::new(path).unwrap();
        assert_eq!(seen.slots().count(), 4);
        let broken: Vec<_> = seen.broken_extents().iter().map(|extent| extent.slots.clone()).collect();
        assert_eq!(broken, [4..8, 8..12]);
        let errors: Vec<_> = seen.broken_extents().iter().map(|extent| extent.error.to_string()).collect();
        assert!(errors[0].contains("checksum") && errors[1].contains("5000 bytes"), "{errors:?}");
    }

    #[test]
    fn lengths_and_numbers_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        drop(FullPieceStore::open(path, &OPTIONS).unwrap());
        // A manifest of terabytes, of holes only.
        let manifest = File::options().write(true).open(path.join(directory::MANIFEST)).unwrap();
        manifest.set_len(1 << 42).unwrap();
        let wrong = |error: StoreError| match error {
            StoreError::WrongLength { expected, found, .. } => (expected, found),
            error => panic!("{error}"),
        };
        assert_eq!(wrong(StoreInspection::new(path).unwrap_err()), (MANIFEST_SIZE as u64, 1 << 42));
        let opening = FullPieceStore::open(path, &OPTIONS);
        assert_eq!(wrong(opening.unwrap_err()), (MANIFEST_SIZE as u64, 1 << 42));
        manifest.set_len(MANIFEST_SIZE as u64).unwrap();
        // What the last process left may be anything; it is not read as a whole.
        File::create(path.join("in-use")).unwrap().set_len(1 << 42).unwrap();
        assert!(FullPieceStore::open(path, &OPTIONS).unwrap().opened_after_power_loss());
        File::create(path.join("extent-99999999.bin")).unwrap();
        let error = StoreInspection::new(path).unwrap_err();
        assert!(error.to_string().contains("extent-99999999.bin"), "{error}");
        assert!(FullPieceStore::open(path, &OPTIONS).is_err());
    }
}
