//! What may keep a development chain from starting or going on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the development chain does not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A parameter is out of its range.
    #[error("--{flag}: {reason}")]
    Parameter {
        /// The flag without its dashes.
        flag: &'static str,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The RPC address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; another node or another program has the port: stop it, or choose another \
         with --rpc-listen-on"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A file or directory of the chain cannot be used.
    #[error("{}: cannot {action}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The data directory holds another chain.
    #[error(
        "{} holds another development chain: {difference}; use the same seed and parameters, or another --data",
        path.display()
    )]
    OtherChain {
        /// The data directory.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The node's database.
    #[error(transparent)]
    Database(#[from] node_db::Error),
    /// The development reference string.
    #[error(transparent)]
    Srs(#[from] archiving::SrsError),
    /// The stored history does not fit itself.
    #[error("the chain's history in {} is damaged: {reason}; remove the directory to start a new chain", path.display())]
    Damaged {
        /// The data directory.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// The node to be followed is of another chain, or has another history.
    #[error("the chain in {} cannot follow the node at {url}: {reason}", path.display())]
    Follow {
        /// The data directory.
        path: PathBuf,
        /// The node to be followed.
        url: String,
        /// What differs and what to do.
        reason: String,
    },
    /// The address of the node to be followed is none.
    #[error("--follow: {0}")]
    FollowAddress(node::Error),
    /// A task or thread ended by itself: a defect.
    #[error("{what} stopped: {reason}; this is a defect, please report it with the log")]
    Stopped {
        /// What stopped.
        what: &'static str,
        /// Why, as far as is known.
        reason: String,
    },
    /// A thread or pool could not be made.
    #[error("cannot start {what}: {reason}")]
    Start {
        /// What was to be started.
        what: &'static str,
        /// The system's reason.
        reason: String,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, action, source }
    }
}
