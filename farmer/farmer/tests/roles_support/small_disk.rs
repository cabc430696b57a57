//! A disk of a few MiB, to be full: a tmpfs in user and mount namespaces of its own. It needs no root, changes nothing of
//! the machine, outlives the roles that use it, and is gone with the test, however that ends.

use super::{RoleProcess, farmer, free_address, srs_cache};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Name of the file that somebody else puts on the disk.
const FOREIGN: &str = "foreign";

/// A mounted disk.
pub struct SmallDisk {
    /// Keeps the namespaces; ends when its input is closed.
    holder: Child,
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts a disk of this size. Fails where the system refuses: `cargo xtask test` looks first, and says so.
    pub fn mount(mebibytes: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$1\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux, runs");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(
            said, "mounted\n",
            "this system mounts no tmpfs in a user namespace of its own (the reason is above); allow that, or leave out \
             the tests named full_disk_, as `cargo xtask test` does"
        );
        Self { holder, directory }
    }

    /// Where the roles find it.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The same place, or one below it, for the test itself.
    pub fn reach(&self, below: &str) -> PathBuf {
        let path = self.directory.path().strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(path).join(below)
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let disk = statvfs(self.reach("")).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Takes all room but `spare` bytes, whole pages, with a file of somebody else's.
    pub fn fill_but(&self, spare: u64) {
        let foreign = File::create(self.reach(FOREIGN)).unwrap();
        let taken = self.free().checked_sub(spare).expect("so much is free");
        fallocate(&foreign, FallocateFlags::empty(), 0, taken).unwrap();
        assert_eq!(self.free(), spare);
    }

    /// Takes that file away again.
    pub fn make_room(&self) {
        std::fs::remove_file(self.reach(FOREIGN)).unwrap();
    }

    /// [`RoleProcess::start`], of a role that sees the disk.
    pub fn start_role(&self, directory: &Path, name: &str, nats: &str, arguments: &[&str]) -> RoleProcess {
        let status = free_address();
        let role = farmer();
        let mut command = Command::new("nsenter");
        // It becomes the role: signals reach that.
        command.args(["--target", &self.holder.id().to_string()]);
        command.args(["--user", "--mount", "--preserve-credentials", "--"]);
        command.arg(role.get_program()).args(["cluster", "--nats-server", nats, "--dev-srs-cache"]);
        command.arg(srs_cache()).args(["--prometheus-listen-on", &status.to_string()]).args(arguments);
        role.get_envs().filter(|(_, value)| value.is_none()).for_each(|(name, _)| {
            command.env_remove(name);
        });
        RoleProcess::spawn(directory, name, status, command.stdin(Stdio::null()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // Nothing is to be done about a child that cannot be waited for.
        let _ = self.holder.wait();
    }
}
