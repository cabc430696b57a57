//! Positional reads of plots: direct I/O where the filesystem has it, the page cache elsewhere.
//!
//! An audit touches every sector once a slot and never the same bytes twice: through the page cache it would evict what
//! the host has better use for. Direct reads want buffer, offset and length aligned, so a thread keeps one aligned
//! scratch buffer and copies out of it.

use rustix::fs::OFlags;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Alignment of direct I/O, in bytes: that of the disks' pages and of the farm's files.
const ALIGNMENT: usize = primitives::farms::DISK_ALIGNMENT as usize;
/// Most bytes read at once by direct I/O; bounds the scratch buffer of a thread.
const DIRECT_READ_MAX: usize = 1024 * 1024;

/// Reads at an offset, without a cursor, from any thread.
pub trait ReadAt: Send + Sync {
    /// Fills `buffer` from byte `offset` on; running into the end is [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.as_slice().read_exact_at(buffer, offset)
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for std::sync::Arc<R> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

/// A file opened for reading, past the page cache if the filesystem allows.
#[derive(Debug)]
pub struct PlotReader {
    file: File,
    path: PathBuf,
    direct: bool,
}

impl PlotReader {
    /// Opens `path` with direct I/O, or without it where a trial read is refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        let direct = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path);
        if let Ok(file) = direct {
            let reader = Self { file, path: path.to_owned(), direct: true };
            // Some filesystems open the file and then refuse each read, or want a coarser alignment.
            if !matches!(reader.read_direct(&mut [0; 1], 0), Err(error) if !is_eof(&error)) {
                return Ok(reader);
            }
        }
        Self::open_buffered(path)
    }

    /// Opens `path` through the page cache.
    pub fn open_buffered(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.to_owned(), direct: false })
    }

    /// Whether reads go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One read of at most [`DIRECT_READ_MAX`] bytes through the thread's aligned scratch buffer.
    fn read_direct(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let skip = (offset % ALIGNMENT as u64) as usize;
        let start = offset - skip as u64;
        let span = (skip + buffer.len()).next_multiple_of(ALIGNMENT);
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < span + ALIGNMENT {
                scratch.resize(span + ALIGNMENT, 0);
            }
            let shift = scratch.as_ptr().align_offset(ALIGNMENT);
            let aligned = &mut scratch[shift..][..span];
            let mut filled = 0;
            while filled < skip + buffer.len() {
                match self.file.read_at(&mut aligned[filled..], start + filled as u64) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            buffer.copy_from_slice(&aligned[skip..][..buffer.len()]);
            Ok(())
        })
    }
}

fn is_eof(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

impl ReadAt for PlotReader {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if !self.direct {
            return FileExt::read_exact_at(&self.file, buffer, offset);
        }
        let mut position = offset;
        for part in buffer.chunks_mut(DIRECT_READ_MAX) {
            self.read_direct(part, position)?;
            position += part.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn direct_and_buffered_reads_agree_at_any_alignment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> =
            (0..3 * 1024 * 1024 + 4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let direct = PlotReader::open(&path).unwrap();
        let buffered = PlotReader::open_buffered(&path).unwrap();
        assert!(!buffered.is_direct());
        for (offset, length) in
            [(0, 1), (1, 4096), (4095, 2), (5000, 2 * 1024 * 1024 + 3), (bytes.len() - 1, 1), (7, 0)]
        {
            let mut read = vec![0; length];
            for reader in [&direct, &buffered] {
                reader.read_exact_at(&mut read, offset as u64).unwrap();
                assert_eq!(read, bytes[offset..][..length], "offset {offset}, length {length}");
            }
        }
        for reader in [&direct, &buffered] {
            let error = reader.read_exact_at(&mut [0; 8], bytes.len() as u64 - 4).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
