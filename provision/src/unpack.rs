//! Unpacks an archive of a node's database on a host: plain tar, or tar in gzip or zstd, told apart by what it begins with.
//!
//! Only files and directories are taken, each below the target by its own name. A database has neither links nor devices:
//! they are refused, whatever they point at, and so is every name that leads elsewhere. The target is a new directory and
//! no link is ever made in it, so nothing can be written through one.

mod tar;

use crate::error::{Error, Result};
use crate::transfer::{Watch, free_bytes, size};
use crate::transport::file_error;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use tar::{Kind, Member, Tar};

/// Members at most: each costs an inode, however small it is.
const MEMBERS_MAX: usize = 1_000_000;
/// Bytes written between two looks at the disk.
const LOOK: u64 = 32 << 20;
/// Bytes that stay free, or a twentieth of what is free when that is less: what else runs on the host needs some.
const RESERVE: u64 = 1 << 30;
/// Bytes copied at a time.
const BUFFER: usize = 256 << 10;

/// What was in an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Unpacks `archive` into the directory `into`, which is made anew, and leaves only the entries `wanted` there. They may lie
/// in the archive's root or in its only directory; the first of them must be there.
///
/// # Errors
/// It is no such archive, a member is refused, or there is no room: then `into` is gone.
pub(crate) fn unpack(archive: &Path, into: &Path, wanted: &[String], watch: &mut Watch) -> Result<Unpacked> {
    remove_tree(into)?;
    let unpacked = extract(archive, into, watch).and_then(|unpacked| {
        arrange(archive, into, wanted)?;
        let directory = File::open(into).map_err(file_error("cannot read", into))?;
        rustix::fs::syncfs(&directory).map_err(|error| file_error("cannot sync", into)(error.into()))?;
        Ok(unpacked)
    });
    if unpacked.is_err() {
        // The first error counts.
        let _ = remove_tree(into);
    }
    unpacked
}

/// Counts what is read of a file.
struct Counted {
    file: File,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

fn extract(archive: &Path, into: &Path, watch: &mut Watch) -> Result<Unpacked> {
    let reading = || file_error("cannot read", archive);
    let refused = |message: String| refused(archive, message);
    let mut file = File::open(archive).map_err(reading())?;
    let of = file.metadata().map_err(reading())?.len();
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(reading())?;
    io::Seek::rewind(&mut file).map_err(reading())?;
    let read = Rc::new(Cell::new(0));
    let counted = BufReader::with_capacity(BUFFER, Counted { file, read: Rc::clone(&read) });
    let stream: Box<dyn Read> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(counted)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(counted).map_err(reading())?),
        _ => Box::new(counted),
    };
    let mut tar = Tar::new(stream);
    let mut target = Target::new(into)?;
    while let Some(member) = tar.next().map_err(|error| refused(error.to_string()))? {
        target.count(archive)?;
        let path = member.below(into).map_err(|why| refused(format!("{}: {why}", member.shown())))?;
        match member.kind {
            Kind::Directory => target.directory(&path)?,
            Kind::File => {
                let mut told =
                    |written| watch.tell(read.get().min(of.saturating_sub(1)), of).map(|()| written);
                target.file(archive, &path, &member, &mut tar, &mut told)?;
            }
        }
        watch.tell(read.get().min(of.saturating_sub(1)), of)?;
    }
    watch.tell(of, of)?;
    Ok(target.unpacked)
}

fn refused(archive: &Path, message: String) -> Error {
    Error::Artifact {
        what: archive.display().to_string(),
        message,
        hint: "nothing of it was kept; make the archive with `tar -cf node-db.tar -C NODE_DATA db` from a stopped node"
            .to_string(),
    }
}

/// The directory that is filled.
struct Target<'a> {
    into: &'a Path,
    unpacked: Unpacked,
    members: usize,
    /// Bytes that may be written before the disk is looked at again.
    granted: u64,
    reserve: u64,
}

impl<'a> Target<'a> {
    fn new(into: &'a Path) -> Result<Self> {
        let reserve = RESERVE.min(free_bytes(into)? / 20);
        make_directory(into)?;
        Ok(Self { into, unpacked: Unpacked::default(), members: 0, granted: 0, reserve })
    }

    fn count(&mut self, archive: &Path) -> Result<()> {
        self.members += 1;
        match self.members > MEMBERS_MAX {
            true => Err(refused(archive, format!("it has more than {MEMBERS_MAX} members"))),
            false => Ok(()),
        }
    }

    fn directory(&self, path: &Path) -> Result<()> {
        make_directory(path)
    }

    fn file(
        &mut self,
        archive: &Path,
        path: &Path,
        member: &Member,
        tar: &mut Tar<impl Read>,
        told: &mut dyn FnMut(u64) -> Result<u64>,
    ) -> Result<()> {
        let writing = || file_error("cannot write", path);
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o644).open(path);
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => refused(archive, format!("{} is in it twice", member.shown())),
            _ => writing()(error),
        })?;
        let mut buffer = vec![0; BUFFER];
        let mut left = member.size;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            tar.read_exact(&mut buffer[..part]).map_err(|error| refused(archive, error.to_string()))?;
            self.look(part as u64)?;
            file.write_all(&buffer[..part]).map_err(writing())?;
            left -= part as u64;
            told(part as u64)?;
        }
        self.unpacked.files += 1;
        Ok(())
    }

    /// Ends before the disk is full, however much comes out of a small archive.
    fn look(&mut self, bytes: u64) -> Result<()> {
        self.unpacked.bytes += bytes;
        if let Some(left) = self.granted.checked_sub(bytes) {
            self.granted = left;
            return Ok(());
        }
        let free = free_bytes(self.into)?;
        // Never more than there is room for, and on a large disk not so much that others could fill it unseen.
        if let Some(left) = free.saturating_sub(self.reserve).min(LOOK.max(bytes)).checked_sub(bytes) {
            self.granted = left;
            return Ok(());
        }
        Err(Error::NoRoom {
            path: self.into.to_path_buf(),
            what: format!(
                "what is in the archive ({} of it were unpacked until here)",
                size(self.unpacked.bytes)
            ),
            needed: self.reserve.saturating_add(bytes),
            free,
        })
    }
}

fn make_directory(path: &Path) -> Result<()> {
    let making = file_error("cannot make the directory", path);
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(making)
}

/// Removes a directory with all that is in it; fine when it is not there.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(file_error("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Brings the wanted entries to the root and removes the others.
fn arrange(archive: &Path, into: &Path, wanted: &[String]) -> Result<()> {
    let Some(first) = wanted.first() else { return Ok(()) };
    let entries = |directory: &Path| -> Result<Vec<_>> {
        let listed = std::fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        Ok(listed
            .map_err(file_error("cannot read", directory))?
            .into_iter()
            .map(|entry| entry.file_name())
            .collect())
    };
    let moving = |error| file_error("cannot move what is in", into)(error);
    if !into.join(first).is_dir() {
        let found = entries(into)?;
        let only = match &found[..] {
            [only] if into.join(only).join(first).is_dir() => into.join(only),
            _ => {
                let mut names: Vec<_> =
                    found.iter().take(5).map(|name| name.to_string_lossy().into_owned()).collect();
                names.sort();
                let message = format!("there is no directory {first} in it, but {}", names.join(", "));
                return Err(refused(archive, message));
            }
        };
        let mut aside = into.as_os_str().to_os_string();
        aside.push(".moved");
        let aside = Path::new(&aside);
        remove_tree(aside)?;
        std::fs::rename(&only, aside).map_err(moving)?;
        remove_tree(into)?;
        std::fs::rename(aside, into).map_err(moving)?;
    }
    for name in entries(into)?.into_iter().filter(|name| !wanted.iter().any(|wanted| *name == **wanted)) {
        let path = into.join(name);
        match path.is_dir() {
            true => remove_tree(&path)?,
            false => std::fs::remove_file(&path).map_err(file_error("cannot remove", &path))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
