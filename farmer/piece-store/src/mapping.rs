//! The one module around mmap: a read-only mapping of an extent, given out slice by slice.
#![allow(unsafe_code)]

use memmap2::{Advice, Mmap};
use std::fs::File;
use std::io;

/// A read-only mapping of a whole extent file.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Mmap,
}

impl Mapping {
    /// Maps all of `file`.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the store's exclusive lock keeps other stores out of the directory; this process never truncates an
        // extent, and it writes (through the file) only to slots of which no slice exists, see `engine`. Someone who
        // bypasses the lock and writes to the file can change bytes under a slice: they are only ever sent or hashed.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map })
    }

    /// Bytes `offset..offset + length`.
    ///
    /// Makes no reference to any other byte, so that other slots may be written meanwhile.
    pub(crate) fn slice(&self, offset: u64, length: usize) -> &[u8] {
        let offset = usize::try_from(offset).expect("offsets in a mapping fit a usize");
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= self.map.len()),
            "the slot lies in the mapping"
        );
        // SAFETY: the range was just checked to lie in the mapping, which lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(offset), length) }
    }

    /// Reads `offset..offset + length` into the page cache and maps it, so that touching it neither blocks nor faults.
    ///
    /// # Errors
    /// What reading the file would give: a bad disk is an error here and a signal when the slice is touched.
    pub(crate) fn populate(&self, offset: u64, length: usize) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("offsets in a mapping fit a usize");
        match self.map.advise_range(Advice::PopulateRead, offset, length) {
            // Linux before 5.14 does not know it: the read-ahead is the next best.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.map.advise_range(Advice::WillNeed, offset, length)
            }
            result => result,
        }
    }
}
