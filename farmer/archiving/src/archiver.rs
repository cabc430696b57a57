//! The archiver: blocks in, segments of pieces out (archival §8).

mod encoding;
mod items;
mod packing;

pub use encoding::extend_commitments;
pub(crate) use encoding::{TILE, commitment_scalar, segment_polynomial, witnesses};
pub use items::{SegmentItem, SegmentItemError};
pub use packing::{Packer, RawSegment};

use crate::kzg::Kzg;
use primitives::objects::{BlockObjectMapping, GlobalObject};
use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};
use primitives::{Piece, SegmentHeader, SegmentIndex};

/// Why the archiver refused a block or a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArchiverError {
    /// The block that a segment header says is partially archived is too short for that.
    #[error(
        "block {number} has {found} bytes, but the segment header says that {archived} of them are archived and more follow; \
         the block is not the one that was archived"
    )]
    LastBlockTooShort {
        /// Number of the block.
        number: u32,
        /// Bytes of it that the header says are archived.
        archived: u32,
        /// Bytes it has.
        found: usize,
    },
    /// The block cannot be written as an item of a segment.
    #[error("a block has fewer than 2^32 bytes, not {0}")]
    BlockTooLarge(usize),
    /// Archiving was cancelled by the caller's [`Watch`], now or before: the archiver has lost a segment.
    #[error("archiving was cancelled")]
    Cancelled,
}

/// Follows the archiving of a segment from other threads and may stop it.
pub trait Watch: Sync {
    /// Called between records; true abandons the segment and with it the archiver.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Called after each of the segment's 128 record commitments, in no particular order.
    fn record_committed(&self, segment: SegmentIndex) {
        let _ = segment;
    }
}

impl Watch for () {}

/// A segment as it is published: its header and its 256 pieces in order of position, 268 MB.
#[derive(Debug, Clone)]
pub struct ArchivedSegment {
    /// Header of the segment.
    pub header: SegmentHeader,
    /// All pieces, source pieces at even positions.
    pub pieces: Vec<Piece>,
}

/// What adding a block brought forth.
#[derive(Debug, Clone, Default)]
pub struct ArchivedBlocks {
    /// Segments that are full now; mostly none, more than one only for a block longer than a segment.
    pub segments: Vec<ArchivedSegment>,
    /// Where the objects of the block are, or will be, in the archived history.
    pub objects: Vec<GlobalObject>,
}

/// Collects blocks into segments.
///
/// Between segments it holds up to 130 MB of blocks; while a segment is made, up to another 400 MB.
#[derive(Debug, Clone)]
pub struct Archiver {
    kzg: Kzg,
    packer: Packer,
    abandoned: bool,
}

impl Archiver {
    /// An archiver that has seen no block; the first to come is block 0.
    pub fn new(kzg: Kzg) -> Self {
        Self { kzg, packer: Packer::new(), abandoned: false }
    }

    /// An archiver that goes on after the segment of `header`, the newest one; `encoded_block` is the block that the
    /// header names as the last archived one.
    ///
    /// # Errors
    /// When the block is not longer than what the header says is archived of it.
    pub fn with_initial_state(
        kzg: Kzg,
        header: SegmentHeader,
        encoded_block: &[u8],
    ) -> Result<Self, ArchiverError> {
        let packer = Packer::with_initial_state(header, encoded_block)?;
        Ok(Self { kzg, packer, abandoned: false })
    }

    /// The newest block of which something is in a finished segment; none before the first segment.
    pub fn last_archived_block(&self) -> Option<LastArchivedBlock> {
        let last = self.packer.last_archived_block();
        (last.archived_progress != ArchivedBlockProgress::Partial(0) || last.number != 0).then_some(last)
    }

    /// Index of the segment that is being filled.
    pub fn segment_index(&self) -> SegmentIndex {
        self.packer.segment_index()
    }

    /// Adds the next block. Runs in the current rayon pool; seconds of CPU for each segment that becomes full.
    ///
    /// # Errors
    /// When the block has 2^32 bytes or more; nothing has changed then.
    pub fn add_block(
        &mut self,
        bytes: Vec<u8>,
        mapping: BlockObjectMapping,
    ) -> Result<ArchivedBlocks, ArchiverError> {
        self.add_block_watched(bytes, mapping, &())
    }

    /// [`Self::add_block`] that reports to, and can be stopped by, `watch`.
    ///
    /// # Errors
    /// When the block has 2^32 bytes or more; nothing has changed then. When the watch cancels: the archiver is then of
    /// no further use and every later call fails.
    pub fn add_block_watched(
        &mut self,
        bytes: Vec<u8>,
        mapping: BlockObjectMapping,
        watch: &dyn Watch,
    ) -> Result<ArchivedBlocks, ArchiverError> {
        if self.abandoned {
            return Err(ArchiverError::Cancelled);
        }
        self.packer.push_block(bytes, mapping)?;
        let mut outcome = ArchivedBlocks::default();
        while let Some(mut segment) = self.packer.next_segment() {
            outcome.objects.append(&mut segment.objects);
            let archived = segment.archive(&self.kzg, watch);
            self.abandoned = archived.is_none();
            let archived = archived.ok_or(ArchiverError::Cancelled)?;
            self.packer.continue_after(archived.header);
            outcome.segments.push(archived);
        }
        outcome.objects.append(&mut self.packer.take_queued_objects());
        Ok(outcome)
    }
}
