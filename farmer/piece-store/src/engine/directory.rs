//! The directory of a store: lock, manifest, and what the last process left behind.

use super::MAX_EXTENTS;
use crate::error::StoreError;
use crate::extent;
use crate::format::{MANIFEST_SIZE, Manifest, StoreKind};
use crate::options::{MAX_SLOTS_PER_EXTENT, StoreOptions};
use parking_lot::Mutex;
use primitives::rpc::GenesisHash;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// File that says what the store is.
pub(crate) const MANIFEST: &str = "manifest.bin";
const LOCK: &str = "lock";
const IN_USE: &str = "in-use";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A boot id has 37 bytes.
const BOOT_ID_MAX: u64 = 256;

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    manifest: Mutex<Manifest>,
    left_open: bool,
    after_power_loss: bool,
    /// Locked as long as the store is open.
    _lock: File,
}

fn random_id() -> [u8; 16] {
    // Every `RandomState` has fresh random keys; an id has to be unique, not secret.
    let halves = [(); 2].map(|()| RandomState::new().build_hasher().finish().to_le_bytes());
    halves.concat().try_into().expect("twice 8 bytes")
}

/// Replaces a small file as one step.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&temporary);
        return Err(StoreError::io("write", &path, error));
    }
    extent::sync_directory(directory)
}

/// The manifest of the store in `path`; none if there is no store.
pub(crate) fn read_manifest(path: &Path) -> Result<Option<Manifest>, StoreError> {
    let file_path = path.join(MANIFEST);
    let io = |action, error| StoreError::io(action, &file_path, error);
    let file = match File::open(&file_path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("open", error)),
    };
    let found = file.metadata().map_err(|error| io("stat", error))?.len();
    let expected = MANIFEST_SIZE as u64;
    if found != expected {
        return Err(StoreError::WrongLength { path: file_path, expected, found });
    }
    let mut bytes = [0; MANIFEST_SIZE];
    file.read_exact_at(&mut bytes, 0).map_err(|error| io("read", error))?;
    Manifest::decode(&bytes, &file_path).map(Some)
}

/// Whether a process has the store in `path` open.
pub(crate) fn is_locked(path: &Path) -> Result<bool, StoreError> {
    let file_path = path.join(LOCK);
    let file = match File::open(&file_path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io("open", &file_path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &file_path, error)),
    }
}

/// Numbers of the extents in `path`, ascending.
pub(crate) fn scan(path: &Path) -> Result<impl Iterator<Item = u32>, StoreError> {
    let mut numbers = Vec::new();
    let entries = fs::read_dir(path).map_err(|error| StoreError::io("list", path, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| StoreError::io("list", path, error))?;
        numbers.extend(entry.file_name().to_str().and_then(extent::number));
    }
    numbers.sort_unstable();
    match numbers.last() {
        Some(&last) if u64::from(last) >= MAX_EXTENTS => Err(StoreError::Damaged {
            path: extent::path(path, last),
            what: "its number is beyond what a store can address",
        }),
        _ => Ok(numbers.into_iter()),
    }
}

impl Directory {
    /// Locks the directory, makes or checks the manifest.
    pub(super) fn open(path: &Path, kind: StoreKind, options: &StoreOptions) -> Result<Self, StoreError> {
        if options.slots_per_extent == 0 || options.slots_per_extent > MAX_SLOTS_PER_EXTENT {
            return Err(StoreError::Options(format!(
                "an extent has 1 to {MAX_SLOTS_PER_EXTENT} slots, not {}",
                options.slots_per_extent
            )));
        }
        fs::create_dir_all(path).map_err(|error| StoreError::io("make the directory", path, error))?;
        let lock = Self::lock(path)?;
        let manifest = Self::manifest_of(path, kind, options)?;
        let (left_open, after_power_loss) = Self::take_over(path)?;
        let directory = Self {
            path: path.to_owned(),
            manifest: Mutex::new(manifest),
            left_open,
            after_power_loss,
            _lock: lock,
        };
        if let Some(chain) = options.chain {
            directory.bind_chain(chain)?;
        }
        Ok(directory)
    }

    fn lock(path: &Path) -> Result<File, StoreError> {
        let file_path = path.join(LOCK);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file_path)
            .map_err(|error| StoreError::io("open", &file_path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &file_path, error)),
        }
    }

    fn manifest_of(path: &Path, kind: StoreKind, options: &StoreOptions) -> Result<Manifest, StoreError> {
        let manifest = match read_manifest(path)? {
            Some(manifest) => manifest,
            None => {
                // Extents without a manifest are someone's data: never begin a new store over them.
                if scan(path)?.next().is_some() {
                    let what = "it is missing beside extents";
                    return Err(StoreError::Damaged { path: path.join(MANIFEST), what });
                }
                let manifest = Manifest {
                    kind,
                    items: options.items,
                    slots_per_extent: options.slots_per_extent,
                    store_id: random_id(),
                    chain: options.chain,
                };
                replace(path, MANIFEST, &manifest.encode())?;
                manifest
            }
        };
        if manifest.kind != kind {
            return Err(StoreError::WrongKind {
                path: path.to_owned(),
                expected: kind.name(),
                found: manifest.kind.name(),
            });
        }
        if manifest.items != options.items {
            return Err(StoreError::WrongItems {
                path: path.to_owned(),
                expected: options.items,
                found: manifest.items,
            });
        }
        Ok(manifest)
    }

    /// Notes that the store is open; says whether the last process left it open, and whether the machine was restarted
    /// since.
    fn take_over(path: &Path) -> Result<(bool, bool), StoreError> {
        let file = path.join(IN_USE);
        let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let read = |file: File| {
            let mut text = String::new();
            file.take(BOOT_ID_MAX).read_to_string(&mut text).map(|_| text)
        };
        let before = match File::open(&file).and_then(read) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // What cannot be understood counts as the worst case.
            Err(_) => Some(String::new()),
        };
        let after_power_loss = before.as_ref().is_some_and(|before| *before != boot_id);
        match replace(path, IN_USE, boot_id.as_bytes()) {
            // What the last process noted still holds, and asks for no less care: a full disk keeps no pieces away.
            Err(StoreError::DiskFull { .. }) if before.is_some() => {}
            noted => noted?,
        }
        Ok((before.is_some(), after_power_loss))
    }

    pub(super) fn extent_numbers(&self) -> Result<impl Iterator<Item = u32>, StoreError> {
        scan(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn manifest(&self) -> Manifest {
        *self.manifest.lock()
    }

    pub(super) fn left_open(&self) -> bool {
        self.left_open
    }

    pub(super) fn opened_after_power_loss(&self) -> bool {
        self.after_power_loss
    }

    /// Binds the store to a chain, once.
    pub(super) fn bind_chain(&self, chain: GenesisHash) -> Result<(), StoreError> {
        let mut manifest = self.manifest.lock();
        match manifest.chain {
            Some(found) if found == chain => Ok(()),
            Some(found) => Err(StoreError::WrongChain { path: self.path.clone(), expected: chain, found }),
            None => {
                let bound = Manifest { chain: Some(chain), ..*manifest };
                replace(&self.path, MANIFEST, &bound.encode())?;
                *manifest = bound;
                Ok(())
            }
        }
    }

    /// Notes that everything is on the disk and the store closed.
    pub(super) fn mark_closed(&self) {
        if let Err(error) = fs::remove_file(self.path.join(IN_USE)) {
            tracing::warn!(path = %self.path.display(), %error, "cannot note that the piece store is closed");
        }
    }
}
