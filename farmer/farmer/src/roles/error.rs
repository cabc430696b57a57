//! Why a role ended, by kind; every kind has its exit status (sysexits.h).

use std::io;
use std::path::{Path, PathBuf};

/// Why a role ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line, a file it names, or the cluster it joins does not fit: nothing but a person can mend that.
    #[error("{0}")]
    Config(String),
    /// Something that the role needs and cannot wait for is not there.
    #[error("{0}")]
    Unavailable(String),
    /// Something that was looked at is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// File or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// An address could not be bound.
    #[error("cannot listen on {address} ({what}): {source}; is another process there? `ss -ltnp` shows it")]
    Listen {
        /// What would have listened.
        what: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The shutdown was asked for while the role waited for something; ends the process as if nothing were wrong.
    #[error("shut down before it was ready")]
    Stopped,
    /// A defect of this program.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

impl Error {
    /// Wraps an I/O error with what was attempted.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Exit status of the process: 78 configuration, 69 unavailable, 65 damaged data, 74 input or output, 71 system, 70
    /// defect, 0 for a shutdown.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Unavailable(_) => 69,
            Self::Damaged(_) => 65,
            Self::Io { .. } => 74,
            Self::Listen { .. } => 71,
            Self::Stopped => 0,
            Self::Internal(_) => 70,
        }
    }
}
