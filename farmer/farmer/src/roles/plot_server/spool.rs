//! The spool: finished sectors on disk until their plot-clients have stored them.
//!
//! A sector is `KEY.partial` while it is written, then `KEY.sector`; `KEY.header`, put in place last and as a whole, makes
//! it a finished one. What lies there without header is what a killed process left behind, and is removed.

use super::leases::{SectorRequest, USELESS_AFTER};
use cluster::contract::LeaseKey;
use cluster::transfer::{SectorManifest, StoredFile};
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Hash, SectorGeometry};
use rustix::fs::{FallocateFlags, FlockOperation};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub mod header;

pub use header::{BLOCK_SIZE, SpoolHeader};

/// Directory inside the base path: nothing else lives there, so that everything unknown may be removed.
const DIRECTORY: &str = "spool";

/// Why the spool failed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The disk is full.
    #[error("no room for a sector of {size} bytes in {}: free space there or lower --spool-sectors", path.display())]
    NoSpace {
        /// Bytes that did not fit.
        size: u64,
        /// Where.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process uses the spool.
    #[error("{} is used by another plot-server: give each its own BASE_PATH", .0.display())]
    Locked(PathBuf),
}

fn io_error<'a>(action: &'static str, path: &'a Path, size: u64) -> impl Fn(io::Error) -> SpoolError + 'a {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            SpoolError::NoSpace { size, path: path.to_owned() }
        }
        _ => SpoolError::Io { action, path: path.to_owned(), source },
    }
}

/// A finished sector.
#[derive(Debug)]
pub struct SpooledSector {
    /// What it is.
    pub header: SpoolHeader,
    /// The same for plot-clients.
    pub manifest: Arc<SectorManifest>,
    /// Its bytes, open for reading: whoever still sends them may finish when the sector is removed.
    pub file: File,
}

impl StoredFile for SpooledSector {
    fn file(&self) -> &File {
        &self.file
    }
}

impl SpooledSector {
    /// Compares every block with its hash; `cancelled` ends it early, with false.
    pub fn is_sound(&self, cancelled: impl Fn() -> bool) -> bool {
        let mut block = vec![0; BLOCK_SIZE];
        let size = self.header.sector_size();
        self.header.block_hashes.iter().zip(0_u64..).all(|(hash, index)| {
            let offset = index * BLOCK_SIZE as u64;
            let length = (size - offset).min(BLOCK_SIZE as u64) as usize;
            !cancelled()
                && self.file.read_exact_at(&mut block[..length], offset).is_ok()
                && primitives::hashes::blake3_hash(&block[..length]) == *hash
        })
    }
}

/// The spool's directory, locked for this process.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    _lock: File,
}

impl Spool {
    /// Opens the spool in `base_path`, makes it if need be, and removes what is not finished.
    ///
    /// # Errors
    /// When another process has it or the operating system refuses.
    pub fn open(base_path: &Path) -> Result<Self, SpoolError> {
        let directory = base_path.join(DIRECTORY);
        fs::create_dir_all(&directory).map_err(io_error("create", &directory, 0))?;
        let lock = File::open(&directory).map_err(io_error("open", &directory, 0))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| SpoolError::Locked(directory.clone()))?;
        Ok(Self { directory, _lock: lock })
    }

    fn path(&self, key: &LeaseKey, extension: &str) -> PathBuf {
        let LeaseKey { public_key, sector_index, history_size } = key;
        self.directory.join(format!("{public_key}-{sector_index}-{history_size}.{extension}"))
    }

    /// Finds what an earlier process finished, and removes everything else: partial files, what cannot be read, what
    /// has waited for a day.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn recover(&self) -> Result<Vec<Arc<SpooledSector>>, SpoolError> {
        let failed = io_error("list", &self.directory, 0);
        let mut found = Vec::new();
        let mut known = std::collections::HashSet::new();
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if path.extension().is_some_and(|extension| extension == "header") {
                match self.recover_sector(&path) {
                    Ok(sector) => {
                        let key = sector.header.request.key;
                        known.extend([self.path(&key, "header"), self.path(&key, "sector")]);
                        found.push(Arc::new(sector));
                    }
                    Err(reason) => tracing::warn!(path = %path.display(), "Dropped from the spool: {reason}"),
                }
            }
            files.push(path);
        }
        for path in files.iter().filter(|path| !known.contains(*path)) {
            tracing::info!(path = %path.display(), "Removed an unfinished file from the spool");
            remove_file(path);
        }
        Ok(found)
    }

    fn recover_sector(&self, path: &Path) -> Result<SpooledSector, String> {
        let read = || {
            let age = SystemTime::now().duration_since(fs::metadata(path)?.modified()?).unwrap_or_default();
            if age > USELESS_AFTER {
                return Err(io::Error::other("nobody fetched it for a day"));
            }
            let size = fs::metadata(path)?.len();
            if size > header::SIZE_MAX {
                return Err(io::Error::other("its header is too long"));
            }
            fs::read(path)
        };
        let header = SpoolHeader::from_bytes(&read().map_err(|error| error.to_string())?);
        let header = header.map_err(|error| format!("its header {error}"))?;
        if self.path(&header.request.key, "header") != path {
            return Err("its header is that of another sector".into());
        }
        self.open_sector(header).map_err(|error| error.to_string())
    }

    fn open_sector(&self, header: SpoolHeader) -> Result<SpooledSector, SpoolError> {
        let path = self.path(&header.request.key, "sector");
        let file = File::open(&path).map_err(io_error("open", &path, 0))?;
        let found = file.metadata().map_err(io_error("examine", &path, 0))?.len();
        let size = header.sector_size();
        if found != size {
            let source = io::Error::other(format!("it has {found} bytes, {size} are due"));
            return Err(SpoolError::Io { action: "use", path, source });
        }
        let manifest = Arc::new(header.manifest());
        Ok(SpooledSector { header, manifest, file })
    }

    /// Begins a sector: all its room is taken at once, so that a full disk is found before anything is encoded.
    ///
    /// # Errors
    /// [`SpoolError::NoSpace`], [`SpoolError::Io`]; nothing is left behind then.
    pub fn create(&self, request: SectorRequest) -> Result<PartialSector, SpoolError> {
        let path = self.path(&request.key, "partial");
        let size = SectorGeometry::new(request.pieces_in_sector).sector_size() as u64;
        let failed = io_error("write", &path, size);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).map_err(&failed)?;
        let partial = PartialSector { request, file, path: path.clone(), armed: true };
        match rustix::fs::fallocate(&partial.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => {}
            // Filesystems without preallocation find a full disk later.
            Err(rustix::io::Errno::OPNOTSUPP) => partial.file.set_len(size).map_err(&failed)?,
            Err(error) => return Err(failed(error.into())),
        }
        Ok(partial)
    }

    /// Makes a written sector a finished one.
    ///
    /// # Errors
    /// [`SpoolError::NoSpace`], [`SpoolError::Io`]; nothing is left behind then.
    pub fn finish(
        &self,
        mut partial: PartialSector,
        metadata: SectorMetadata,
        block_hashes: Vec<Blake3Hash>,
    ) -> Result<Arc<SpooledSector>, SpoolError> {
        let header = SpoolHeader { request: partial.request, metadata, block_hashes };
        let key = partial.request.key;
        let sector = self.path(&key, "sector");
        fs::rename(&partial.path, &sector).map_err(io_error("create", &sector, 0))?;
        partial.armed = false;
        self.write_header(&header)
            .and_then(|()| self.open_sector(header))
            .map(Arc::new)
            .inspect_err(|_| self.remove(&key))
    }

    fn write_header(&self, header: &SpoolHeader) -> Result<(), SpoolError> {
        let key = &header.request.key;
        let (partial, path) = (self.path(key, "header-partial"), self.path(key, "header"));
        let bytes = header.to_bytes();
        let written = fs::write(&partial, &bytes).and_then(|()| fs::rename(&partial, &path));
        written.map_err(io_error("write", &path, bytes.len() as u64)).inspect_err(|_| remove_file(&partial))
    }

    /// Removes a finished sector; the header first, so that what is left of it is known as unfinished.
    pub fn remove(&self, key: &LeaseKey) {
        remove_file(&self.path(key, "header"));
        remove_file(&self.path(key, "sector"));
    }
}

/// Removes a file; one that is gone already is fine, any other failure is only logged, since nobody can mend it here.
fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "Cannot remove a file of the spool");
    }
}

/// A sector while it is written; removed unless it is finished.
#[derive(Debug)]
pub struct PartialSector {
    request: SectorRequest,
    file: File,
    path: PathBuf,
    armed: bool,
}

impl PartialSector {
    /// The file, of the sector's size and open for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Names the file in an error met while writing it.
    pub fn error(&self, source: io::Error) -> SpoolError {
        let size = SectorGeometry::new(self.request.pieces_in_sector).sector_size() as u64;
        io_error("write", &self.path, size)(source)
    }
}

impl Drop for PartialSector {
    fn drop(&mut self) {
        if self.armed {
            remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::header::tests::{metadata, request};
    use super::*;
    use primitives::hashes::blake3_hash;
    use std::time::Duration;

    fn names(spool: &Spool) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&spool.directory)
            .unwrap()
            .map(|entry| entry.unwrap().path().extension().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }

    fn write_sector(spool: &Spool, request: SectorRequest) -> Arc<SpooledSector> {
        let partial = spool.create(request).unwrap();
        let size = SectorGeometry::new(request.pieces_in_sector).sector_size();
        assert_eq!(partial.file().metadata().unwrap().len(), size as u64);
        let bytes: Vec<u8> = (0..size).map(|i| ((i * 31) >> 3) as u8).collect();
        partial.file().write_all_at(&bytes, 0).unwrap();
        let hashes = bytes.chunks(BLOCK_SIZE).map(blake3_hash).collect();
        spool.finish(partial, metadata(&request), hashes).unwrap()
    }

    #[test]
    fn finished_sectors_survive_and_partial_ones_do_not() {
        let base = tempfile::tempdir().unwrap();
        let spool = Spool::open(base.path()).unwrap();
        let written = write_sector(&spool, request(2, 1));
        assert!(written.is_sound(|| false));
        assert!(!written.is_sound(|| true));
        // As after a kill in mid-write: the destructor does not run.
        std::mem::forget(spool.create(request(2, 2)).unwrap());
        // As after a kill between both renames.
        fs::write(spool.path(&request(2, 3).key, "sector"), b"cut off").unwrap();
        fs::write(spool.path(&request(2, 3).key, "header-partial"), b"cut off").unwrap();
        drop(spool);

        let spool = Spool::open(base.path()).unwrap();
        let found = spool.recover().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].header, written.header);
        assert!(found[0].is_sound(|| false));
        assert_eq!(names(&spool), ["header", "sector"]);
        spool.remove(&request(2, 1).key);
        assert!(names(&spool).is_empty());
        assert!(spool.recover().unwrap().is_empty());
    }

    #[test]
    fn dropped_partial_sectors_leave_nothing() {
        let base = tempfile::tempdir().unwrap();
        let spool = Spool::open(base.path()).unwrap();
        drop(spool.create(request(2, 1)).unwrap());
        assert!(names(&spool).is_empty());
    }

    #[test]
    fn damaged_finished_sectors_are_found() {
        let base = tempfile::tempdir().unwrap();
        let spool = Spool::open(base.path()).unwrap();
        let key = request(2, 1).key;
        write_sector(&spool, request(2, 1));
        let file = OpenOptions::new().write(true).open(spool.path(&key, "sector")).unwrap();
        file.write_all_at(&[0xff, 0xff], 1_500_000).unwrap();
        assert!(!spool.recover().unwrap()[0].is_sound(|| false));
        // A wrong length shows at once; the files go.
        file.set_len(77).unwrap();
        assert!(spool.recover().unwrap().is_empty());
        assert!(names(&spool).is_empty());
        // So does a damaged header, and one that has been waiting for too long.
        write_sector(&spool, request(2, 1));
        fs::write(spool.path(&key, "header"), b"ATNSPOOL").unwrap();
        assert!(spool.recover().unwrap().is_empty());
        write_sector(&spool, request(2, 1));
        let header = File::open(spool.path(&key, "header")).unwrap();
        header.set_modified(SystemTime::now() - USELESS_AFTER - Duration::from_secs(60)).unwrap();
        assert!(spool.recover().unwrap().is_empty());
        assert!(names(&spool).is_empty());
    }

    #[test]
    fn a_second_process_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let _spool = Spool::open(base.path()).unwrap();
        assert!(matches!(Spool::open(base.path()), Err(SpoolError::Locked(_))));
    }
}
