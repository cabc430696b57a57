//! What is sent: bytes in memory, or a part of a file, which the kernel sends from its page cache.

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Distance of the bytes that are looked at to see whether a region is in the page cache: the kernel's usual read-ahead.
const PROBE_DISTANCE: usize = 128 * 1024;
/// Bytes read at a time to bring a region into the page cache: little enough to stay in the processor's own cache.
const LOAD_CHUNK: usize = 64 * 1024;

/// A file of which a part is sent, kept as it is while this lives.
pub trait StoredFile: Send + Sync + 'static {
    /// The file.
    fn file(&self) -> &File;
}

impl StoredFile for File {
    fn file(&self) -> &File {
        self
    }
}

/// Part of a file.
#[derive(Clone)]
pub struct FileRegion {
    file: Arc<dyn StoredFile>,
    offset: u64,
    length: usize,
}

impl FileRegion {
    /// `length` bytes of the file from byte `offset` on.
    pub fn new(file: Arc<dyn StoredFile>, offset: u64, length: usize) -> Self {
        Self { file, offset, length }
    }

    pub(crate) fn file(&self) -> &File {
        self.file.file()
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Brings the region into the page cache, so that sending it does not wait for the disk; blocks.
    ///
    /// What is there already costs a few system calls and no copy; unlike a mapping that is touched it does not count as
    /// memory of this process.
    ///
    /// # Errors
    /// What reading the file gives: a bad disk, a truncated file.
    pub fn load(&self) -> io::Result<()> {
        if self.is_loaded()? {
            return Ok(());
        }
        let mut chunk = vec![0; LOAD_CHUNK.min(self.length)];
        for start in (0..self.length).step_by(LOAD_CHUNK) {
            let length = LOAD_CHUNK.min(self.length - start);
            self.file().read_exact_at(&mut chunk[..length], self.offset + start as u64)?;
        }
        Ok(())
    }

    /// Whether the bytes looked at are in the page cache; false also where the file system cannot tell.
    fn is_loaded(&self) -> io::Result<bool> {
        let last = self.length.saturating_sub(1);
        for place in (0..last).step_by(PROBE_DISTANCE).chain([last]) {
            let mut byte = [0];
            let offset = self.offset + place as u64;
            match preadv2(self.file(), &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for FileRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRegion").field("offset", &self.offset).field("length", &self.length).finish()
    }
}

/// Bytes that are sent from where they lie.
#[derive(Debug, Clone)]
pub enum Payload {
    /// In memory.
    Memory(Bytes),
    /// In a file, and in the page cache already ([`FileRegion::load`]): a disk that is waited for stalls others.
    File(FileRegion),
}

impl Payload {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(region) => region.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, read into memory if they are not there.
    ///
    /// # Errors
    /// What reading the file gives.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(region) => {
                let mut bytes = vec![0; region.length];
                region.file().read_exact_at(&mut bytes, region.offset)?;
                Ok(bytes.into())
            }
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Memory(bytes.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_loaded_and_truncated_ones_refused() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        // A hole is in no page cache before it is read.
        file.set_len(2_000_000).unwrap();
        let file: Arc<File> = Arc::new(file);
        let region =
            |offset, length| FileRegion::new(Arc::clone(&file) as Arc<dyn StoredFile>, offset, length);
        for (offset, length) in [(0, 300_000), (7, 1), (299_999, 1), (400_001, 1_599_999), (5, 0)] {
            region(offset, length).load().unwrap();
        }
        let payload = Payload::File(region(100, 250_000));
        assert_eq!((payload.len(), &payload.read().unwrap()[..]), (250_000, &bytes[100..250_100]));
        for (offset, length) in [(1_999_999, 2), (2_000_000, 1), (1_000_000, 1_100_000)] {
            let error = region(offset, length).load().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset} {length}");
        }
    }
}
