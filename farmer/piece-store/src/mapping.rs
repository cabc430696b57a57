//! The one module around mmap: a read-only mapping of an extent, given out slice by slice.
#![allow(unsafe_code)]

use memmap2::Mmap;
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
}
