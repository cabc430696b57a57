//! One extent file: header, table, data, and its mapping.

use crate::error::StoreError;
use crate::faults::Faults;
use crate::format::{
    self, ENTRY_SIZE, Entry, ExtentGeometry, HEADER_SIZE, Manifest, TableEntry, check_extent_header,
};
use crate::mapping::Mapping;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of one write to the file.
const WRITE_SIZE: usize = 512 * 1024;

/// An open extent.
#[derive(Debug)]
pub(crate) struct Extent {
    number: u32,
    path: PathBuf,
    file: File,
    mapping: Mapping,
    geometry: ExtentGeometry,
    /// Whether something was written since the last flush.
    dirty: AtomicBool,
    faults: Arc<Faults>,
}

/// Path of extent `number`.
pub(crate) fn path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("extent-{number:08}.bin"))
}

/// Number of the extent with this file name.
pub(crate) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("extent-")?.strip_suffix(".bin")?;
    (digits.len() == 8).then(|| digits.parse().ok())?
}

/// Forces a directory's entries to the disk.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| StoreError::io("sync", directory, error))
}

impl Extent {
    /// Makes an empty extent; nothing of it is visible until it is complete.
    pub(crate) fn create(
        directory: &Path,
        manifest: &Manifest,
        number: u32,
        faults: Arc<Faults>,
    ) -> Result<Self, StoreError> {
        let path = path(directory, number);
        let temporary = path.with_extension("new");
        let geometry = ExtentGeometry::of(manifest);
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(&format::encode_extent_header(manifest, number))?;
            // Real zeroes, not a hole: an entry can then be written even when the disk is full.
            file.write_all(&vec![0; geometry.table_size()])?;
            faults.step()?;
            file.set_len(geometry.file_size())?;
            file.sync_all()?;
            faults.step()?;
            fs::rename(&temporary, &path)
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(&temporary);
            return Err(StoreError::io("create", &path, error));
        }
        sync_directory(directory)?;
        Self::open(directory, manifest, number, faults)
    }

    /// Opens an existing extent and checks its header and length.
    pub(crate) fn open(
        directory: &Path,
        manifest: &Manifest,
        number: u32,
        faults: Arc<Faults>,
    ) -> Result<Self, StoreError> {
        let path = path(directory, number);
        let geometry = ExtentGeometry::of(manifest);
        let io = |action, error| StoreError::io(action, &path, error);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(|error| io("open", error))?;
        let found = file.metadata().map_err(|error| io("stat", error))?.len();
        if found < HEADER_SIZE {
            return Err(StoreError::WrongLength { path, expected: geometry.file_size(), found });
        }
        let mut header = vec![0; HEADER_SIZE as usize];
        file.read_exact_at(&mut header, 0).map_err(|error| io("read", error))?;
        check_extent_header(&header, manifest, number, &path)?;
        if found != geometry.file_size() {
            return Err(StoreError::WrongLength { path, expected: geometry.file_size(), found });
        }
        let mapping = Mapping::new(&file).map_err(|error| io("map", error))?;
        Ok(Self { number, path, file, mapping, geometry, dirty: AtomicBool::new(false), faults })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn item_offset(&self, slot: u32) -> u64 {
        self.geometry.item_offset(slot)
    }

    /// The item of `slot`; the caller has it pinned.
    pub(crate) fn item(&self, slot: u32) -> &[u8] {
        self.mapping.slice(self.geometry.item_offset(slot), self.geometry.item_size)
    }

    fn global_slot(&self, slot: u32) -> u64 {
        u64::from(self.number) * u64::from(self.geometry.slots) + u64::from(slot)
    }

    /// Reads the whole table.
    pub(crate) fn read_table(&self) -> Result<Vec<TableEntry>, StoreError> {
        let mut table = vec![0; self.geometry.table_size()];
        self.file
            .read_exact_at(&mut table, HEADER_SIZE)
            .map_err(|error| StoreError::io("read the table of", &self.path, error))?;
        let (entries, _) = table.as_chunks::<ENTRY_SIZE>();
        Ok((0..self.geometry.slots)
            .zip(entries)
            .map(|(slot, bytes)| Entry::decode(bytes, self.global_slot(slot)))
            .collect())
    }

    /// Writes the item of a slot that nobody reads; makes nothing visible.
    pub(crate) fn write_item(&self, slot: u32, item: &[u8]) -> Result<(), StoreError> {
        assert_eq!(item.len(), self.geometry.item_size, "the size of an item was checked");
        let offset = self.geometry.item_offset(slot);
        let write = || -> io::Result<()> {
            for (part, bytes) in item.chunks(WRITE_SIZE).enumerate() {
                self.faults.step()?;
                self.file.write_all_at(bytes, offset + (part * WRITE_SIZE) as u64)?;
            }
            Ok(())
        };
        self.dirty.store(true, Ordering::Relaxed);
        write().map_err(|error| StoreError::io("write", &self.path, error))
    }

    /// Writes the entry of a slot, or zeroes: the step that makes an item visible or invisible.
    pub(crate) fn write_entry(&self, slot: u32, entry: Option<&Entry>) -> Result<(), StoreError> {
        let bytes = entry.map_or([0; ENTRY_SIZE], |entry| entry.encode(self.global_slot(slot)));
        let write = || -> io::Result<()> {
            self.faults.step()?;
            self.file.write_all_at(&bytes, self.geometry.entry_offset(slot))?;
            self.faults.step()?;
            Ok(())
        };
        self.dirty.store(true, Ordering::Relaxed);
        write().map_err(|error| StoreError::io("write the table of", &self.path, error))
    }

    /// Reads an item through the file, so that a bad disk is an error.
    pub(crate) fn read_item(&self, slot: u32, item: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(item, self.geometry.item_offset(slot))
    }

    /// Counts the extent as written to, for the next [`Self::flush`].
    pub(crate) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Forces what was written to the disk.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        if self.dirty.swap(false, Ordering::Relaxed)
            && let Err(error) = self.file.sync_data()
        {
            self.dirty.store(true, Ordering::Relaxed);
            return Err(StoreError::io("sync", &self.path, error));
        }
        Ok(())
    }
}
