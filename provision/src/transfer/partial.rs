//! A file that is arriving, on the host's disk.

use super::{Checksum, check_room, size};
use crate::error::{Error, Result};
use crate::transport::file_error;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Version of a [`Note`].
const NOTE_VERSION: u32 = 1;
/// Longest note that is read, in bytes.
const NOTE_MAX: u64 = 64 << 10;
/// After so many bytes what arrived is synced and noted: what a power cut costs at most.
const CHECKPOINT: u64 = 64 << 20;

/// What tells one file from another before all of it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Bytes.
    pub(crate) size: u64,
    /// URL and the server's name of this version of it; none for a file of the control machine, whose beginning is compared.
    pub(crate) source: Option<String>,
    /// SHA-256 in hex, where it was said beforehand.
    pub(crate) sha256: Option<String>,
}

/// What is known of a file's beginning.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    identity: Identity,
    /// Bytes that are synced.
    arrived: u64,
    /// The checksum's state after them.
    checksum: String,
}

/// A file that is arriving. When it is dropped, what arrived is noted.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    identity: Identity,
    checksum: Checksum,
    arrived: u64,
    noted: u64,
}

impl Partial {
    /// Goes on with a file whose note says that it is this one, or begins it, when there is room for the rest.
    pub(crate) fn open(path: &Path, identity: Identity, copies: u64) -> Result<Self> {
        let writing = || file_error("cannot write", path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file_error("cannot make the directory", parent))?;
        }
        let (arrived, checksum) = read_note(path)
            .filter(|note| note.identity == identity && note.arrived <= identity.size)
            .and_then(|note| Some((note.arrived, Checksum::restore(&note.checksum)?)))
            .filter(|(arrived, _)| path.metadata().is_ok_and(|file| file.is_file() && file.len() >= *arrived))
            .unwrap_or_default();
        if arrived == 0 {
            remove(path)?;
        }
        let needed =
            (identity.size - arrived).saturating_add(identity.size.saturating_mul(copies.saturating_sub(1)));
        let what = match copies {
            0 | 1 => format!("a file of {}", size(identity.size)),
            _ => format!("an archive of {} and at least as much for what is in it", size(identity.size)),
        };
        check_room(path, &what, needed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        // Never through a link that somebody planted.
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        let mut file = options.open(path).map_err(writing())?;
        // What came after the last note may be anything.
        file.set_len(arrived).and_then(|()| file.seek(SeekFrom::End(0))).map_err(writing())?;
        let partial = Self { path: path.to_path_buf(), file, identity, checksum, arrived, noted: arrived };
        partial.write_note()?;
        Ok(partial)
    }

    /// Bytes that are here.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// SHA-256 of what is here, in hex.
    pub(crate) fn digest(&self) -> String {
        self.checksum.hex()
    }

    /// Takes the next bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        if self.arrived + bytes.len() as u64 > self.identity.size {
            return Err(Error::Artifact {
                what: self.path.display().to_string(),
                message: format!("more comes than the {} that were announced", size(self.identity.size)),
                hint: "did the file grow meanwhile? try again".to_string(),
            });
        }
        self.file.write_all(bytes).map_err(file_error("cannot write", &self.path))?;
        self.checksum.add(bytes);
        self.arrived += bytes.len() as u64;
        if self.arrived - self.noted >= CHECKPOINT {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.file.sync_data().map_err(file_error("cannot write", &self.path))?;
        self.write_note()?;
        self.noted = self.arrived;
        Ok(())
    }

    fn write_note(&self) -> Result<()> {
        let note = Note {
            version: NOTE_VERSION,
            identity: self.identity.clone(),
            arrived: self.arrived,
            checksum: self.checksum.save(),
        };
        let text = serde_json::to_vec(&note).map_err(|error| Error::Internal(error.to_string()))?;
        let path = note_path(&self.path);
        crate::transport::replace_file(&path, 0o600, &text)
    }

    /// Closes a whole file; one with another digest than `digest` or the one that was said beforehand is removed.
    pub(crate) fn finish(mut self, digest: Option<&str>) -> Result<String> {
        if self.arrived != self.identity.size {
            return Err(Error::Internal(format!("{} of {} bytes came", self.arrived, self.identity.size)));
        }
        let found = self.checksum.hex();
        let expected =
            [self.identity.sha256.as_deref(), digest].into_iter().flatten().find(|digest| *digest != found);
        if let Some(expected) = expected {
            let message = format!("it arrived with SHA-256 {found} instead of {expected} and was removed");
            self.noted = self.arrived;
            remove(&self.path)?;
            return Err(Error::Artifact {
                what: self.path.display().to_string(),
                message,
                hint: "compare the digest with that of whoever made the file; then bring it again"
                    .to_string(),
            });
        }
        self.checkpoint()?;
        Ok(found)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.noted < self.arrived {
            // What cannot be noted is sent again.
            let _ = self.checkpoint();
        }
    }
}

fn note_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".arrived");
    path.with_file_name(name)
}

fn read_note(path: &Path) -> Option<Note> {
    let path = note_path(path);
    if path.metadata().ok()?.len() > NOTE_MAX {
        return None;
    }
    let note: Note = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (note.version == NOTE_VERSION).then_some(note)
}

/// Removes a file that arrived, or part of it, with its note.
pub(crate) fn remove(path: &Path) -> Result<()> {
    for path in [note_path(path), path.to_path_buf()] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file_error("cannot remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn identity(bytes: &[u8]) -> Identity {
        Identity { size: bytes.len() as u64, source: None, sha256: None }
    }

    #[test]
    fn a_file_goes_on_where_it_broke_off() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("below/file");
        let bytes = b"the first half, the second half";
        let mut partial = Partial::open(&path, identity(bytes), 1).expect("begun");
        assert_eq!(partial.arrived(), 0);
        partial.add(&bytes[..15]).expect("taken");
        drop(partial);
        // Bytes after the note, as a power cut leaves them.
        let mut file = OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(b"garbage").expect("written");
        let mut partial = Partial::open(&path, identity(bytes), 1).expect("gone on with");
        assert_eq!((partial.arrived(), partial.digest()), (15, hex::encode(Sha256::digest(&bytes[..15]))));
        partial.add(&bytes[15..]).expect("taken");
        let digest = hex::encode(Sha256::digest(bytes));
        assert_eq!(partial.finish(Some(&digest)).expect("whole"), digest);
        assert_eq!(std::fs::read(&path).expect("there"), bytes);
        // Asked for once more, nothing is wanted.
        assert_eq!(Partial::open(&path, identity(bytes), 1).expect("there").arrived(), bytes.len() as u64);
    }

    #[test]
    fn another_file_or_a_damaged_note_begins_anew() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let begin = |identity: Identity| Partial::open(&path, identity, 1).expect("opened");
        begin(identity(b"12345678")).add(b"1234").expect("taken");
        assert_eq!(begin(identity(b"1234567")).arrived(), 0);
        begin(identity(b"12345678")).add(b"1234").expect("taken");
        let said = Identity { sha256: Some("ab".repeat(32)), ..identity(b"12345678") };
        assert_eq!(begin(said).arrived(), 0);
        begin(identity(b"12345678")).add(b"1234").expect("taken");
        // Less on the disk than the note says.
        OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(3)).expect("cut");
        assert_eq!(begin(identity(b"12345678")).arrived(), 0);
        begin(identity(b"12345678")).add(b"1234").expect("taken");
        std::fs::write(note_path(&path), "{").expect("written");
        assert_eq!(begin(identity(b"12345678")).arrived(), 0);
    }

    #[test]
    fn a_wrong_digest_leaves_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let mut partial = Partial::open(&path, identity(b"1234"), 1).expect("begun");
        partial.add(b"1235").expect("taken");
        let error = partial.finish(Some(&hex::encode(Sha256::digest(b"1234")))).expect_err("refused");
        assert!(error.to_string().contains("instead of"), "{error}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 0);
    }

    #[test]
    fn too_much_is_refused_and_room_is_looked_at_first() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let mut partial = Partial::open(&path, identity(b"1234"), 1).expect("begun");
        partial.add(b"12345").expect_err("too much");
        drop(partial);
        let huge = Identity { size: 1 << 60, source: None, sha256: None };
        let error = Partial::open(&directory.path().join("other"), huge, 2).expect_err("no room");
        assert!(matches!(error, Error::NoRoom { needed, .. } if needed == 2 << 60), "{error}");
        assert!(!directory.path().join("other").exists());
    }
}
