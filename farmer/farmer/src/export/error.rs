//! Why an export ended, by kind; every kind has its exit status (sysexits.h).

use archiving::SrsKind;
use archiving::archiver::ArchiverError;
use piece_store::StoreError;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};

/// Why an export ended.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The node failed.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] node_db::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archiver refused a block.
    #[error(transparent)]
    Archiver(#[from] ArchiverError),
    /// The command line, or what it names, does not fit.
    #[error("{0}")]
    Config(String),
    /// The reference string could not be had.
    #[error(transparent)]
    ReferenceString(crate::roles::Error),
    /// The source has thrown a block away.
    #[error(
        "{source_name} no longer has block {block}, which segment {segment} is made of: the node prunes its blocks, or has \
         synced without them. {advice}For the whole history run a node with `--sync full --blocks-pruning \
         archive-canonical` until it is synced, or use a copy of such a node's database"
    )]
    Pruned {
        /// The source.
        source_name: String,
        /// The block.
        block: BlockNumber,
        /// The segment.
        segment: SegmentIndex,
        /// From where an export could start, as a sentence.
        advice: String,
    },
    /// What was archived is another segment than the node's.
    #[error(
        "segment {}, archived under the {kind} reference string, has header {}, {source_name} says {}: the reference string \
         is not this chain's, or the node's blocks or headers are not those of the chain; nothing of this segment was stored. \
         Check --srs, then compare with another node",
        expected.segment_index(), describe(found), describe(expected)
    )]
    Mismatch {
        /// The source.
        source_name: String,
        /// The string.
        kind: SrsKind,
        /// The node's header.
        expected: Box<SegmentHeader>,
        /// What came out.
        found: Box<SegmentHeader>,
    },
    /// The source's own blocks do not fill a segment that it says there is.
    #[error(
        "the blocks of {source_name} up to {last_block} do not fill segment {segment}, whose header it has: its headers or its \
         blocks are not those of the chain; compare with another node"
    )]
    Unfilled {
        /// The source.
        source_name: String,
        /// The segment.
        segment: SegmentIndex,
        /// The last block in it, as its header says.
        last_block: BlockNumber,
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

fn describe(header: &SegmentHeader) -> String {
    let last = header.last_archived_block();
    format!(
        "{} (commitment {}, last block {} {:?}, after {})",
        header.hash(),
        header.segment_commitment(),
        last.number,
        last.archived_progress,
        header.prev_segment_header_hash()
    )
}

impl ExportError {
    /// Exit status of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Node(error) if error.is_refusal() => 78,
            Self::Node(node::Error::Address { .. }) | Self::Config(_) => 78,
            Self::Node(node::Error::Malformed { .. }) => 65,
            Self::Node(_) | Self::Pruned { .. } => 69,
            Self::Database(error) => match error {
                node_db::Error::NotANodeDatabase { .. } => 78,
                node_db::Error::Corrupt { .. } => 65,
                _ => 69,
            },
            Self::Store(error) => match error {
                StoreError::Io { .. } | StoreError::DiskFull { .. } => 74,
                StoreError::Locked { .. } => 69,
                StoreError::Damaged { .. } | StoreError::WrongLength { .. } => 65,
                _ => 78,
            },
            Self::Archiver(_) | Self::Mismatch { .. } | Self::Unfilled { .. } | Self::OtherHistory { .. } => {
                65
            }
            Self::ReferenceString(error) => error.exit_code(),
            Self::Io { .. } => 74,
            Self::Interrupted => 75,
            Self::Internal(_) => 70,
        }
    }
}
