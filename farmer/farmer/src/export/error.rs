//! Why an export ended, by kind; every kind has its exit status (sysexits.h).

use crate::export::rearchive::HistoryError;
use piece_store::StoreError;
use primitives::SegmentIndex;

/// Why an export ended.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The node, the database, or what they hold of the history.
    #[error(transparent)]
    History(HistoryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The command line, or what it names, does not fit.
    #[error("{0}")]
    Config(String),
    /// The reference string could not be had.
    #[error(transparent)]
    ReferenceString(crate::roles::Error),
    /// The source has thrown a block away.
    #[error(
        "{error}. {advice} For the whole history run a node with `--sync full --blocks-pruning archive-canonical` until it is \
         synced, or use a copy of such a node's database"
    )]
    Pruned {
        /// Which one.
        error: HistoryError,
        /// From where an export could start, as a sentence.
        advice: String,
    },
    /// The store holds another history of the same chain.
    #[error(
        "{} holds segment {segment} with another header than {source_name} has: it was exported from another history; use \
         another --output, or compare with another node",
        output.display()
    )]
    OtherHistory {
        /// The store.
        output: std::path::PathBuf,
        /// The source.
        source_name: String,
        /// The first segment that differs.
        segment: SegmentIndex,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// File or directory.
        path: std::path::PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A signal came first.
    #[error("stopped; run the same command again to go on")]
    Interrupted,
    /// A defect of this program.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

impl<E: Into<HistoryError>> From<E> for ExportError {
    fn from(error: E) -> Self {
        match error.into() {
            HistoryError::Stopped => Self::Interrupted,
            error => Self::History(error),
        }
    }
}

impl ExportError {
    /// Exit status of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::History(error) | Self::Pruned { error, .. } => history_exit_code(error),
            Self::Config(_) => 78,
            Self::Store(error) => match error {
                StoreError::Io { .. } | StoreError::DiskFull { .. } => 74,
                StoreError::Locked { .. } => 69,
                StoreError::Damaged { .. } | StoreError::WrongLength { .. } => 65,
                _ => 78,
            },
            Self::OtherHistory { .. } => 65,
            Self::ReferenceString(error) => error.exit_code(),
            Self::Io { .. } => 74,
            Self::Interrupted => 75,
            Self::Internal(_) => 70,
        }
    }
}

fn history_exit_code(error: &HistoryError) -> u8 {
    match error {
        HistoryError::Node(error) if error.is_refusal() => 78,
        HistoryError::Node(node::Error::Address { .. }) => 78,
        HistoryError::Node(node::Error::Malformed { .. }) => 65,
        HistoryError::Database(node_db::Error::NotANodeDatabase { .. }) => 78,
        HistoryError::Database(
            node_db::Error::Corrupt { .. } | node_db::Error::BadLog { .. } | node_db::Error::BadFile { .. },
        ) => 65,
        HistoryError::Node(_) | HistoryError::Database(_) | HistoryError::Pruned { .. } => 69,
        HistoryError::Block { .. } | HistoryError::Mismatch { .. } | HistoryError::Unfilled { .. } => 65,
        HistoryError::Stopped => 75,
        HistoryError::Internal(_) => 70,
    }
}
