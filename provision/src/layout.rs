//! Where everything lies on a host. Pure.
//!
//! ```text
//! PREFIX/bin/                 links to the versions in use
//! PREFIX/packages/NAME-VER/   installed packages
//! PREFIX/artifacts/DIGEST/    our binaries by content
//! PREFIX/tools/DIGEST/        programs that only a command runs
//! PREFIX/etc/                 rendered configuration, the cluster secret
//! PREFIX/data/                what the roles keep
//! PREFIX/log/                 one log a program
//! PREFIX/run/                 socket and pid of supervisord
//! PREFIX/state/               journal, lock, former file sets, build stamp
//! ```

use crate::resolve::Host;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Variable that marks every program of ours with the prefix it belongs to.
pub const MARKER_VARIABLE: &str = "AUTONOMYS_PREFIX";
/// Longest path of supervisord's socket: `sun_path` has 108 bytes, and Supervisor binds to the path with its process
/// id appended before it moves the socket into place.
const SOCKET_PATH_MAX: usize = 98;

/// Where everything of one cluster lies on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The directory that holds all of it.
    pub prefix: PathBuf,
    /// Directory for sockets when the prefix is too long for them.
    short: PathBuf,
}

impl Layout {
    /// Layout of a host.
    pub fn of(host: &Host) -> Self {
        Self::new(&host.prefix)
    }

    /// Layout below `prefix`.
    pub fn new(prefix: &Path) -> Self {
        // Not $XDG_RUNTIME_DIR: it differs between a login, sudo and cron, and each must find the same socket.
        let digest = hex::encode(Sha256::digest(prefix.as_os_str().as_encoded_bytes()));
        Self { prefix: prefix.to_path_buf(), short: format!("/tmp/autonomys-{}", &digest[..16]).into() }
    }

    /// Links to the versions in use.
    pub fn bin(&self) -> PathBuf {
        self.prefix.join("bin")
    }

    /// Installed packages.
    pub fn packages(&self) -> PathBuf {
        self.prefix.join("packages")
    }

    /// One of our binaries with this SHA-256.
    pub fn artifact(&self, digest: &str, name: &str) -> PathBuf {
        self.prefix.join("artifacts").join(&digest[..16.min(digest.len())]).join(name)
    }

    /// A program with this SHA-256 that only a command of ours runs.
    pub fn tool(&self, digest: &str, name: &str) -> PathBuf {
        self.prefix.join("tools").join(&digest[..16.min(digest.len())]).join(name)
    }

    /// Rendered configuration.
    pub fn etc(&self) -> PathBuf {
        self.prefix.join("etc")
    }

    /// The cluster secret, mode 0600.
    pub fn secret(&self) -> PathBuf {
        self.etc().join("cluster-secret")
    }

    /// supervisord's configuration.
    pub fn supervisord_conf(&self) -> PathBuf {
        self.etc().join("supervisord.conf")
    }

    /// Configuration of a program.
    pub fn program_conf(&self, program: &str) -> PathBuf {
        self.etc().join("supervisor.d").join(format!("{program}.conf"))
    }

    /// nats-server's configuration.
    pub fn nats_conf(&self) -> PathBuf {
        self.etc().join("nats-server.conf")
    }

    /// What the roles keep.
    pub fn data(&self) -> PathBuf {
        self.prefix.join("data")
    }

    /// Logs.
    pub fn logs(&self) -> PathBuf {
        self.prefix.join("log")
    }

    /// Log of a program.
    pub fn log(&self, program: &str) -> PathBuf {
        self.logs().join(format!("{program}.log"))
    }

    /// Journal, lock, build stamp.
    pub fn state(&self) -> PathBuf {
        self.prefix.join("state")
    }

    /// Excludes every other run on this prefix.
    pub fn lock(&self) -> PathBuf {
        self.state().join("lock")
    }

    /// Directory of supervisord's socket.
    pub fn run(&self) -> PathBuf {
        let run = self.prefix.join("run");
        if run.join("supervisor.sock").as_os_str().len() <= SOCKET_PATH_MAX {
            run
        } else {
            self.short.clone()
        }
    }

    /// supervisord's socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("supervisor.sock")
    }

    /// `AUTONOMYS_PREFIX=PREFIX`: in the environment of every program of ours.
    pub fn marker(&self) -> String {
        format!("{MARKER_VARIABLE}={}", self.prefix.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_fits_sun_path_however_long_the_prefix() {
        let long = PathBuf::from("/").join("x".repeat(200));
        for prefix in [Path::new("/home/me/.local/state/autonomys/local"), &long] {
            let socket = Layout::new(prefix).socket();
            assert!(socket.as_os_str().len() <= SOCKET_PATH_MAX, "{}", socket.display());
        }
        let own = Layout::new(Path::new("/a")).socket();
        assert_eq!(own, Path::new("/a/run/supervisor.sock"));
        assert_ne!(Layout::new(&long).socket(), Layout::new(&long.join("y")).socket());
    }
}
