//! What a file system is asked for where a crash must do no harm. In which order, [`super::local`] says: for a machine's own
//! and for the simulated one alike.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A file system.
pub(super) trait Disk {
    /// A file that is open for writing.
    type File: Write;

    /// Makes a file that is not there yet.
    fn create(&self, path: &Path, mode: u32) -> io::Result<Self::File>;

    /// Opens a file to write at its end; makes it if it is not there.
    fn append(&self, path: &Path, mode: u32) -> io::Result<Self::File>;

    /// Sets the mode of a file.
    fn set_mode(&self, file: &Self::File, mode: u32) -> io::Result<()>;

    /// Has what was written survive a power cut; the file's name may not.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Has the names in a directory survive a power cut.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, at once instead of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a link.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;

    /// Removes a file or link.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and its parents.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Sets the mode of a directory.
    fn set_directory_mode(&self, path: &Path, mode: u32) -> io::Result<()>;
}

/// This machine's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Own;

impl Disk for Own {
    type File = File;

    fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
    }

    fn append(&self, path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(mode).open(path)
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(mode))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, link)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn set_directory_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }
}
