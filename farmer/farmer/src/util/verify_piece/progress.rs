//! How far a verification has come, in a small file: what was verified before a kill is not verified again.
//!
//! One line `autonomys-verify-piece VERSION BLAKE3`, then JSON of which that is the hash.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const MAGIC: &str = "autonomys-verify-piece";
const VERSION: &str = "1";
/// Bad pieces that are named; a store with more is to be made anew.
pub const NAMED_MAX: usize = 10_000;
/// Named pieces take some 150 bytes each.
const FILE_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// A piece that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadPiece {
    /// Its slot in the store.
    pub slot: u64,
    /// Its index, where it is known.
    pub piece: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Identity of the store, in hex.
    pub store: String,
    /// Whether pieces are compared with their hashes only.
    pub hashes_only: bool,
    /// All slots before this one have been verified.
    pub next_slot: u64,
    /// Pieces that were found good.
    pub good: u64,
    /// Pieces that were found bad: at most [`NAMED_MAX`].
    pub bad: Vec<BadPiece>,
    /// Bad pieces that are not named.
    pub bad_unnamed: u64,
}

impl Progress {
    /// At the beginning.
    pub fn new(store: String, hashes_only: bool) -> Self {
        Self { store, hashes_only, next_slot: 0, good: 0, bad: Vec::new(), bad_unnamed: 0 }
    }

    /// Notes a bad piece.
    pub fn add_bad(&mut self, bad: BadPiece) {
        if self.bad.len() < NAMED_MAX {
            self.bad.push(bad);
        } else {
            self.bad_unnamed += 1;
        }
    }

    /// Bad pieces, named or not.
    pub fn bad_count(&self) -> u64 {
        self.bad.len() as u64 + self.bad_unnamed
    }
}

/// The file that keeps the progress of one store.
#[derive(Debug, Clone)]
pub struct ProgressFile {
    path: PathBuf,
}

impl ProgressFile {
    /// The file of the store with this identity in `directory`; the two kinds of verification have one each.
    pub fn new(directory: &Path, store: &str, hashes_only: bool) -> Self {
        let kind = if hashes_only { "hashes" } else { "chain" };
        Self { path: directory.join(format!("verify-piece-{store}-{kind}.progress")) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What an earlier run of the same kind has done; none if there was none, or its file is damaged, which is said.
    pub fn load(&self, store: &str, hashes_only: bool) -> Option<Progress> {
        match self.read() {
            Ok(progress) => {
                progress.filter(|progress| progress.store == store && progress.hashes_only == hashes_only)
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), "Begins anew: the progress file is not used: {error}");
                None
            }
        }
    }

    fn read(&self) -> Result<Option<Progress>, io::Error> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        let read = file.take(FILE_SIZE_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > FILE_SIZE_MAX {
            return Err(io::Error::other(format!("it has more than {FILE_SIZE_MAX} bytes")));
        }
        let (head, body) = text.split_once('\n').ok_or_else(|| io::Error::other("it was cut off"))?;
        if head != header(body) {
            return Err(io::Error::other("its checksum or its version is another"));
        }
        let progress: Progress = serde_json::from_str(body)?;
        if progress.bad.len() > NAMED_MAX {
            return Err(io::Error::other(format!("it names more than {NAMED_MAX} pieces")));
        }
        Ok(Some(progress))
    }

    /// Replaces the file as one step.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn store(&self, progress: &Progress) -> io::Result<()> {
        let body = serde_json::to_string(progress)?;
        let partial = self.path.with_extension("partial");
        fs::write(&partial, format!("{}\n{body}", header(&body)))?;
        fs::rename(&partial, &self.path)
    }

    /// Removes the file: all is verified.
    pub fn remove(&self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %self.path.display(), "The progress file stays: {error}"),
        }
    }
}

fn header(body: &str) -> String {
    format!("{MAGIC} {VERSION} {}", blake3::hash(body.as_bytes()).to_hex())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let mut progress = Progress::new("ab".into(), false);
        progress.next_slot = 64;
        progress.good = 63;
        progress.add_bad(BadPiece { slot: 7, piece: Some(7), reason: "its bytes changed".into() });
        progress
    }

    #[test]
    fn kept_for_the_same_store_and_the_same_checks_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = ProgressFile::new(directory.path(), "ab", false);
        assert_eq!(file.load("ab", false), None);
        file.store(&progress()).unwrap();
        assert_eq!(file.load("ab", false), Some(progress()));
        assert_eq!(file.load("ab", true), None);
        assert_eq!(file.load("cd", false), None);
        file.remove();
        file.remove();
        assert_eq!(file.load("ab", false), None);
    }

    #[test]
    fn damaged_and_endless_files_are_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let file = ProgressFile::new(directory.path(), "ab", false);
        file.store(&progress()).unwrap();
        let sound = fs::read(file.path()).unwrap();
        for position in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[position] ^= 1;
            fs::write(file.path(), &damaged).unwrap();
            assert_eq!(file.load("ab", false), None, "byte {position}");
            fs::write(file.path(), &sound[..position]).unwrap();
            assert_eq!(file.load("ab", false), None, "cut off at {position}");
        }
        File::create(file.path()).unwrap().set_len(1 << 42).unwrap();
        assert_eq!(file.load("ab", false), None);
        assert!(file.read().unwrap_err().to_string().contains("more than"));
    }

    #[test]
    fn names_are_bounded_and_fit_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = ProgressFile::new(directory.path(), "ab", false);
        let mut all = Progress::new("ab".into(), false);
        for slot in 0..NAMED_MAX as u64 + 5 {
            all.add_bad(BadPiece { slot, piece: Some(slot), reason: "r".repeat(400) });
        }
        assert_eq!((all.bad.len(), all.bad_unnamed, all.bad_count()), (NAMED_MAX, 5, NAMED_MAX as u64 + 5));
        file.store(&all).unwrap();
        assert_eq!(file.load("ab", false), Some(all));
    }
}
