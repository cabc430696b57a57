//! `single_disk_farm.json`: what the farm is, and the lock on it.

use super::{FarmError, io_at, sync_directory};
use primitives::PublicKey;
use primitives::rpc::GenesisHash;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use ulid::Ulid;

/// Name of the file.
pub const DESCRIPTION_FILE: &str = "single_disk_farm.json";
/// A description has some 250 bytes.
const SIZE_MAX: u64 = 64 * 1024;
/// Tries to get hold of a description that is being replaced.
const LOCK_TRIES: usize = 10;

/// Name of a farm, for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FarmId(pub Ulid);

impl fmt::Display for FarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Contents of `single_disk_farm.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FarmDescription {
    /// Version 0, the only one.
    #[serde(rename_all = "camelCase")]
    V0 {
        /// Name of the farm.
        id: FarmId,
        /// The chain it farms.
        genesis_hash: GenesisHash,
        /// Key of its identity.
        public_key: PublicKey,
        /// Pieces in each sector.
        pieces_in_sector: u16,
        /// Bytes from which the number of sectors follows.
        allocated_space: u64,
    },
}

impl FarmDescription {
    /// Name of the farm.
    pub fn id(&self) -> FarmId {
        let Self::V0 { id, .. } = self;
        *id
    }

    /// The chain it farms.
    pub fn genesis_hash(&self) -> GenesisHash {
        let Self::V0 { genesis_hash, .. } = self;
        *genesis_hash
    }

    /// Key of its identity.
    pub fn public_key(&self) -> PublicKey {
        let Self::V0 { public_key, .. } = self;
        *public_key
    }

    /// Pieces in each sector.
    pub fn pieces_in_sector(&self) -> u16 {
        let Self::V0 { pieces_in_sector, .. } = self;
        *pieces_in_sector
    }

    /// Bytes from which the number of sectors follows.
    pub fn allocated_space(&self) -> u64 {
        let Self::V0 { allocated_space, .. } = self;
        *allocated_space
    }

    pub(super) fn with_allocated_space(&self, space: u64) -> Self {
        let mut changed = self.clone();
        let Self::V0 { allocated_space, .. } = &mut changed;
        *allocated_space = space;
        changed
    }
}

/// Holds the farm's lock for as long as it lives.
#[derive(Debug)]
pub(super) struct FarmLock {
    /// Closing the file gives the lock back, in whatever way the process ends.
    _file: File,
}

fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<(), FarmError> {
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(FarmError::Locked { path: path.to_owned() }),
        Err(error) => Err(io_at(path, "lock it")(error.into())),
    }
}

/// Reads and, if asked to, locks the description of the farm in `directory`; none if there is none.
pub(super) fn open(
    directory: &Path,
    operation: Option<FlockOperation>,
) -> Result<Option<(FarmDescription, FarmLock)>, FarmError> {
    let path = directory.join(DESCRIPTION_FILE);
    for _ in 0..LOCK_TRIES {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_at(&path, "open it")(error)),
        };
        if let Some(operation) = operation {
            lock(&file, &path, operation)?;
        }
        // Between opening and locking, the file may have been replaced by one with a lock of its own.
        let (held, there) = (file.metadata(), std::fs::metadata(&path));
        let (Ok(held), Ok(there)) = (held, there) else { continue };
        if (held.dev(), held.ino()) != (there.dev(), there.ino()) {
            continue;
        }
        let mut text = String::new();
        (&mut file).take(SIZE_MAX).read_to_string(&mut text).map_err(io_at(&path, "read it"))?;
        let description = serde_json::from_str(&text)
            .map_err(|error| FarmError::Description { path: path.clone(), reason: error.to_string() })?;
        return Ok(Some((description, FarmLock { _file: file })));
    }
    Err(FarmError::Locked { path })
}

/// Locks a directory while a farm is made in it; none if there is a farm by now.
pub(super) fn lock_creation(directory: &Path) -> Result<Option<FarmLock>, FarmError> {
    let file = File::open(directory).map_err(io_at(directory, "open it"))?;
    lock(&file, directory, FlockOperation::NonBlockingLockExclusive)?;
    let path = directory.join(DESCRIPTION_FILE);
    let exists = path.try_exists().map_err(io_at(&path, "examine it"))?;
    Ok((!exists).then_some(FarmLock { _file: file }))
}

/// Writes a description beside its place and locks it, so that it is never seen unlocked.
fn write_aside(
    directory: &Path,
    description: &FarmDescription,
) -> Result<(std::path::PathBuf, FarmLock), FarmError> {
    let aside = directory.join(format!("{DESCRIPTION_FILE}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).open(&aside).map_err(io_at(&aside, "create it"))?;
    let text = serde_json::to_string(description).expect("a description is plain JSON");
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let locked = written
        .map_err(io_at(&aside, "write it"))
        .and_then(|()| lock(&file, &aside, FlockOperation::NonBlockingLockExclusive));
    if let Err(error) = locked {
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    Ok((aside, FarmLock { _file: file }))
}

/// Puts a new farm's description in place, locked; none if somebody was quicker.
pub(super) fn create(directory: &Path, description: &FarmDescription) -> Result<Option<FarmLock>, FarmError> {
    let path = directory.join(DESCRIPTION_FILE);
    let (aside, lock) = write_aside(directory, description)?;
    let linked = std::fs::hard_link(&aside, &path);
    let _ = std::fs::remove_file(&aside);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(io_at(&path, "create it")(error)),
    }
    sync_directory(directory).map_err(io_at(directory, "sync it"))?;
    Ok(Some(lock))
}

/// Replaces the description of a farm whose lock is held; the new file is locked before it is visible.
pub(super) fn replace(
    directory: &Path,
    description: &FarmDescription,
    held: &mut FarmLock,
) -> Result<(), FarmError> {
    let path = directory.join(DESCRIPTION_FILE);
    let (aside, lock) = write_aside(directory, description)?;
    std::fs::rename(&aside, &path).map_err(io_at(&path, "replace it"))?;
    *held = lock;
    sync_directory(directory).map_err(io_at(directory, "sync it"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_is_the_references() {
        let text = r#"{"v0":{"id":"01J0ABCDEFGHJKMNPQRSTVWXYZ","genesisHash":"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b","publicKey":"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c","piecesInSector":1000,"allocatedSpace":5000000000000}}"#;
        let description: FarmDescription = serde_json::from_str(text).unwrap();
        assert_eq!(description.pieces_in_sector(), 1000);
        assert_eq!(description.genesis_hash(), GenesisHash([11; 32]));
        assert_eq!(serde_json::to_string(&description).unwrap(), text);
    }

    #[test]
    fn other_versions_and_fields_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "{}", r#"{"v1":{}}"#, r#"{"v0":{"id":"x"}}"#] {
            std::fs::write(directory.path().join(DESCRIPTION_FILE), text).unwrap();
            assert!(matches!(open(directory.path(), None), Err(FarmError::Description { .. })), "{text}");
        }
    }
}
