//! From pieces back to segments, missing pieces and blocks (archival §9).

mod blocks;
mod pieces;

pub use blocks::{BlockReconstructor, ReconstructedBlocks};
pub use pieces::{reconstruct_piece, reconstruct_pieces, reconstruct_segment};

use crate::archiver::SegmentItemError;
use crate::erasure::ErasureError;
use primitives::SegmentIndex;

/// Why a segment could not be reconstructed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReconstructionError {
    /// The table of pieces has the wrong size.
    #[error("a segment has 256 pieces, the table has {0} places")]
    Places(usize),
    /// A segment has no such position.
    #[error("a segment has 256 pieces, there is none at {0}")]
    Position(usize),
    /// Fewer than half of the pieces are there.
    #[error("a segment needs any {needed} of its pieces, {present} are present")]
    TooFew {
        /// Pieces that are needed.
        needed: usize,
        /// Pieces that are there.
        present: usize,
    },
    /// A chunk is no scalar.
    #[error(
        "the piece at position {position} is invalid: chunk {chunk} is not below the scalar field's order"
    )]
    Chunk {
        /// Position of the piece.
        position: usize,
        /// Index of the chunk.
        chunk: usize,
    },
    /// A chunk of a source record does not begin with a zero byte.
    #[error("the pieces do not belong together: source record {record} does not consist of 31-byte chunks")]
    NotSource {
        /// Index of the record, 0..128.
        record: usize,
    },
    /// A commitment is not that of its record.
    #[error("the piece at position {position} is invalid: its commitment does not belong to its record")]
    Commitment {
        /// Position of the piece.
        position: usize,
    },
    /// More pieces are there than needed, and one is not what the others make it.
    #[error(
        "the pieces do not belong together: the one at position {position} is not what the others make it"
    )]
    Contradiction {
        /// Position of the piece.
        position: usize,
    },
    /// The segment's bytes are no sequence of items.
    #[error(transparent)]
    Items(#[from] SegmentItemError),
}

impl From<ErasureError> for ReconstructionError {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::TooFew { needed, present } => Self::TooFew { needed, present },
            ErasureError::ShardsSize(found) | ErasureError::SourceSize(found) => Self::Places(found),
        }
    }
}

/// Checks the size of a table of pieces.
fn check_places<T>(pieces: &[T]) -> Result<(), ReconstructionError> {
    match pieces.len() {
        SegmentIndex::NUM_PIECES => Ok(()),
        found => Err(ReconstructionError::Places(found)),
    }
}
