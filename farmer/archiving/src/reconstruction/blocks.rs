//! Blocks out of segments.

use super::{ReconstructionError, reconstruct_segment};
use crate::archiver::SegmentItem;
use primitives::segments::ArchivedBlockProgress;
use primitives::{BlockNumber, Piece, SegmentHeader, SegmentIndex};

/// What a segment added to a [`BlockReconstructor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconstructedBlocks {
    /// Header of the previous segment; none in segment 0.
    pub parent_segment_header: Option<SegmentHeader>,
    /// Blocks that are whole now, with their numbers, in order.
    pub blocks: Vec<(BlockNumber, Vec<u8>)>,
}

/// Reads blocks out of segments that are added in order; holds the block that the last one left unfinished.
#[derive(Debug, Clone, Default)]
pub struct BlockReconstructor {
    /// A block that has started, and its number.
    unfinished: Option<(BlockNumber, Vec<u8>)>,
    /// Number of the next block that starts.
    next_number: BlockNumber,
    /// The newest segment that was added.
    segment: Option<SegmentIndex>,
}

impl BlockReconstructor {
    /// A reconstructor that has seen no segment. It may begin with any segment; a block that started before it is left
    /// out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next segment, given as its pieces by position.
    ///
    /// After a gap the unfinished block is dropped, as at the beginning.
    ///
    /// # Errors
    /// When there are too few pieces or they are invalid; nothing has changed then.
    pub fn add_segment(
        &mut self,
        pieces: &[Option<Piece>],
    ) -> Result<ReconstructedBlocks, ReconstructionError> {
        let bytes = reconstruct_segment(pieces)?;
        Ok(self.add_items(SegmentItem::decode_segment(&bytes)?))
    }

    /// Adds the next segment, given as its items.
    pub fn add_items(&mut self, items: Vec<SegmentItem>) -> ReconstructedBlocks {
        let mut parent_segment_header = None;
        let mut blocks = Vec::new();
        self.enter(items.first());
        for item in items {
            match item {
                SegmentItem::Padding => {}
                SegmentItem::Block(bytes) => {
                    blocks.extend(self.unfinished.take());
                    blocks.push((self.take_number(), bytes));
                }
                SegmentItem::BlockStart(bytes) => {
                    blocks.extend(self.unfinished.take());
                    self.unfinished = Some((self.take_number(), bytes));
                }
                SegmentItem::BlockContinuation(more) => {
                    if let Some((_, bytes)) = &mut self.unfinished {
                        bytes.extend_from_slice(&more);
                    }
                }
                SegmentItem::ParentSegmentHeader(header) => {
                    let last = header.last_archived_block();
                    if last.archived_progress == ArchivedBlockProgress::Complete {
                        blocks.extend(self.unfinished.take());
                    }
                    self.next_number = last.number.saturating_add(1);
                    parent_segment_header = Some(header);
                }
            }
        }
        ReconstructedBlocks { parent_segment_header, blocks }
    }

    /// Notes which segment begins with `first`, and forgets what does not lead up to it.
    fn enter(&mut self, first: Option<&SegmentItem>) {
        let index = match first {
            Some(SegmentItem::ParentSegmentHeader(header)) => {
                SegmentIndex(header.segment_index().0.saturating_add(1))
            }
            _ => SegmentIndex(0),
        };
        let follows = self.segment.is_some_and(|previous| previous.0.checked_add(1) == Some(index.0));
        if !follows {
            self.unfinished = None;
            self.next_number = 0;
        }
        self.segment = Some(index);
    }

    fn take_number(&mut self) -> BlockNumber {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        number
    }
}
