//! A host's file system in memory, and what a power cut leaves of it.
//!
//! Names and contents are durable apart from each other: syncing a file makes its contents durable, syncing a directory makes
//! every change of names up to now durable, as a journalling file system's commit does. At a power cut a part of what was not
//! synced is lost: of the changes of names the last ones, of each file's bytes the last ones, how many chance decides.

use super::chance::Chance;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Links followed at most for one name.
const LINKS_MAX: usize = 16;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    /// Number of a [`Content`].
    File(u64),
    Link(PathBuf),
}

/// A file without its name.
#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// How many of the bytes are durable.
    synced: usize,
    mode: u32,
}

/// A change of names.
#[derive(Debug, Clone)]
enum Change {
    Set(PathBuf, Entry),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

type Names = BTreeMap<PathBuf, Entry>;

/// A file system.
#[derive(Debug, Default)]
pub(super) struct Files {
    names: Names,
    /// The names that a power cut leaves in any case.
    durable: Names,
    /// Changes from `durable` to `names`.
    pending: Vec<Change>,
    contents: BTreeMap<u64, Content>,
    next: u64,
    /// Bytes that still fit; no limit when none.
    pub(super) room: Option<u64>,
}

fn apply(names: &mut Names, change: Change) {
    match change {
        Change::Set(path, entry) => {
            names.insert(path, entry);
        }
        Change::Rename(from, to) => {
            let inside: Vec<_> =
                names.keys().filter(|path| **path != from && path.starts_with(&from)).cloned().collect();
            for path in inside {
                let moved = to.join(path.strip_prefix(&from).expect("it lies inside"));
                let entry = names.remove(&path).expect("just seen");
                names.insert(moved, entry);
            }
            if let Some(entry) = names.remove(&from) {
                names.insert(to, entry);
            }
        }
        Change::Remove(path) => names.retain(|name, _| !name.starts_with(&path)),
    }
}

fn error(kind: io::ErrorKind) -> io::Error {
    // The numbers of the system, since advice is chosen by them.
    match kind {
        io::ErrorKind::NotFound => io::Error::from_raw_os_error(2),
        io::ErrorKind::AlreadyExists => io::Error::from_raw_os_error(17),
        io::ErrorKind::StorageFull => io::Error::from_raw_os_error(28),
        other => other.into(),
    }
}

impl Files {
    fn change(&mut self, change: Change) {
        apply(&mut self.names, change.clone());
        self.pending.push(change);
    }

    fn parent_is_there(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            None => Ok(()),
            Some(parent) if parent == Path::new("/") || self.is_directory(parent) => Ok(()),
            Some(_) => Err(error(io::ErrorKind::NotFound)),
        }
    }

    /// The name behind every link; none when it leads nowhere.
    pub(super) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut at = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            match self.names.get(&at)? {
                Entry::Link(target) => at = at.parent().unwrap_or(Path::new("/")).join(target),
                _ => return Some(at),
            }
        }
        None
    }

    fn content(&self, path: &Path) -> Option<(u64, &Content)> {
        match self.names.get(&self.resolve(path)?)? {
            Entry::File(number) => Some((*number, self.contents.get(number)?)),
            _ => None,
        }
    }

    /// The bytes of a file and its identity.
    pub(super) fn read(&self, path: &Path) -> Option<(&[u8], u64)> {
        self.content(path).map(|(number, content)| (content.bytes.as_slice(), number))
    }

    /// The mode of a file.
    pub(super) fn mode(&self, path: &Path) -> Option<u32> {
        self.content(path).map(|(_, content)| content.mode)
    }

    /// The text of a file; empty when it is not there.
    pub(super) fn text(&self, path: &Path) -> String {
        self.read(path).map_or_else(String::new, |(bytes, _)| String::from_utf8_lossy(bytes).into_owned())
    }

    /// SHA-256 of a file in hex.
    pub(super) fn digest(&self, path: &Path) -> Option<String> {
        self.read(path).map(|(bytes, _)| hex::encode(Sha256::digest(bytes)))
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        path == Path::new("/") || self.names.get(path) == Some(&Entry::Directory)
    }

    /// Everything at and below `path`, by name.
    pub(super) fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Entry)> {
        self.names.range(path.to_path_buf()..).take_while(move |(name, _)| name.starts_with(path))
    }

    /// Opens a new file.
    pub(super) fn create(&mut self, path: &Path, mode: u32) -> io::Result<u64> {
        self.parent_is_there(path)?;
        if self.names.contains_key(path) {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        self.next += 1;
        self.contents.insert(self.next, Content { mode, ..Content::default() });
        self.change(Change::Set(path.to_path_buf(), Entry::File(self.next)));
        Ok(self.next)
    }

    /// Opens a file to write at its end.
    pub(super) fn append(&mut self, path: &Path, mode: u32) -> io::Result<u64> {
        match self.content(path) {
            Some((number, _)) => Ok(number),
            None => self.create(path, mode),
        }
    }

    /// Writes at the end of a file, as far as there is room.
    pub(super) fn write(&mut self, file: u64, bytes: &[u8]) -> io::Result<usize> {
        let fits = self.room.map_or(bytes.len(), |room| bytes.len().min(usize::try_from(room).unwrap_or(0)));
        if fits == 0 && !bytes.is_empty() {
            return Err(error(io::ErrorKind::StorageFull));
        }
        if let Some(room) = &mut self.room {
            *room -= fits as u64;
        }
        self.contents.entry(file).or_default().bytes.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }

    pub(super) fn set_mode(&mut self, file: u64, mode: u32) {
        self.contents.entry(file).or_default().mode = mode;
    }

    pub(super) fn sync(&mut self, file: u64) {
        let content = self.contents.entry(file).or_default();
        content.synced = content.bytes.len();
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        if !self.is_directory(path) {
            return Err(error(io::ErrorKind::NotFound));
        }
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, change);
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.parent_is_there(to)?;
        if !self.names.contains_key(from) {
            return Err(error(io::ErrorKind::NotFound));
        }
        self.change(Change::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    pub(super) fn symlink(&mut self, target: &Path, link: &Path) -> io::Result<()> {
        self.parent_is_there(link)?;
        if self.names.contains_key(link) {
            return Err(error(io::ErrorKind::AlreadyExists));
        }
        self.change(Change::Set(link.to_path_buf(), Entry::Link(target.to_path_buf())));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            None => Err(error(io::ErrorKind::NotFound)),
            Some(Entry::Directory) => Err(io::Error::from_raw_os_error(21)),
            Some(_) => {
                self.change(Change::Remove(path.to_path_buf()));
                Ok(())
            }
        }
    }

    /// Removes whatever is there, with all that is in it.
    pub(super) fn remove_tree(&mut self, path: &Path) {
        if self.names.contains_key(path) {
            self.change(Change::Remove(path.to_path_buf()));
        }
    }

    pub(super) fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        let ancestors: Vec<_> = path.ancestors().filter(|above| *above != Path::new("/")).collect();
        for above in ancestors.into_iter().rev() {
            match self.names.get(above) {
                Some(Entry::Directory) => {}
                Some(_) => return Err(error(io::ErrorKind::AlreadyExists)),
                None => self.change(Change::Set(above.to_path_buf(), Entry::Directory)),
            }
        }
        Ok(())
    }

    /// Writes a file as a foreign program does: nothing of it is synced.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.make_directory(parent)?;
        }
        if self.names.contains_key(path) {
            self.change(Change::Remove(path.to_path_buf()));
        }
        let file = self.create(path, mode)?;
        match self.write(file, bytes)? == bytes.len() {
            true => Ok(()),
            false => Err(error(io::ErrorKind::StorageFull)),
        }
    }

    /// Loses what was not synced, or some of it.
    pub(super) fn power_cut(&mut self, chance: &mut Chance) {
        let kept = chance.up_to(self.pending.len());
        for change in std::mem::take(&mut self.pending).into_iter().take(kept) {
            apply(&mut self.durable, change);
        }
        self.names = self.durable.clone();
        for content in self.contents.values_mut() {
            let lost = chance.up_to(content.bytes.len() - content.synced);
            content.bytes.truncate(content.bytes.len() - lost);
            content.synced = content.bytes.len();
        }
    }

    /// Takes everything as it is for durable: the past.
    pub(super) fn settle(&mut self) {
        self.pending.clear();
        self.durable = self.names.clone();
        for content in self.contents.values_mut() {
            content.synced = content.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(sync: bool, rename: bool, sync_name: bool, seed: u64) -> Option<Vec<u8>> {
        let (temporary, path) = (Path::new("/d/.x.new"), Path::new("/d/x"));
        let mut files = Files::default();
        files.put(path, b"old", 0o644).expect("room");
        files.settle();
        let file = files.create(temporary, 0o600).expect("free");
        assert_eq!(files.write(file, b"newer").expect("room"), 5);
        if sync {
            files.sync(file);
        }
        if rename {
            files.rename(temporary, path).expect("there");
        }
        if sync_name {
            files.sync_directory(Path::new("/d")).expect("there");
        }
        files.power_cut(&mut Chance::new(seed));
        files.read(path).map(|(bytes, _)| bytes.to_vec())
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_nothing_else() {
        let outcomes = |sync, rename, sync_name| {
            (0..200).map(move |seed| written(sync, rename, sync_name, seed).expect("a name is never lost"))
        };
        assert!(outcomes(true, true, true).all(|bytes| bytes == b"newer"));
        assert!(outcomes(true, false, false).all(|bytes| bytes == b"old"));
        let either: std::collections::BTreeSet<_> = outcomes(true, true, false).collect();
        assert_eq!(either, [b"newer".to_vec(), b"old".to_vec()].into());
        // A rename before the contents are synced is how files become empty or half.
        assert!(outcomes(false, true, true).any(|bytes| bytes.len() < 5));
    }

    #[test]
    fn a_full_disk_takes_the_bytes_that_fit() {
        let mut files = Files { room: Some(3), ..Files::default() };
        let file = files.create(Path::new("/x"), 0o644).expect("names cost nothing");
        assert_eq!(files.write(file, b"12345").expect("some fit"), 3);
        let full = files.write(file, b"45").expect_err("full");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}
