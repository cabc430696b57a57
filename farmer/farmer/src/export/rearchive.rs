//! Segments made again from a chain's blocks: by the exporter for its store, by the cache leader for the caches.

use crate::export::source::{Blocks, Source};
use archiving::archiver::{ArchivedSegment, Archiver, ArchiverError, Watch};
use archiving::{Kzg, SrsKind};
use primitives::objects::BlockObjectMapping;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};
use std::collections::VecDeque;
use std::future::Future;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Why blocks or segments could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The node failed.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] node_db::Error),
    /// The archiver refused a block.
    #[error("{source_name} gave a block that cannot be archived: {reason}; compare with another node")]
    Block {
        /// The source.
        source_name: String,
        /// What the archiver says.
        reason: ArchiverError,
    },
    /// The source has thrown a block away.
    #[error(
        "{source_name} no longer has block {block}, which segment {segment} is made of: the node prunes its blocks, or has \
         synced without them"
    )]
    Pruned {
        /// The source.
        source_name: String,
        /// The block.
        block: BlockNumber,
        /// The segment.
        segment: SegmentIndex,
        /// From which block on it has all of them, if it has any.
        available_from: Option<BlockNumber>,
    },
    /// What was archived is another segment than the chain's.
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
        /// The chain's header.
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
        /// The last block that could be used.
        last_block: BlockNumber,
    },
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
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

/// A segment that is wanted.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The segment.
    pub segment: SegmentIndex,
    /// Header of the segment before, from which archiving can go on; none for segment 0.
    pub before: Option<SegmentHeader>,
    /// The chain's header of the segment, with which the result is compared; none where the chain has none yet.
    pub expected: Option<SegmentHeader>,
    /// The last block that may be used.
    pub last_block: BlockNumber,
    /// Told of every record; its `is_cancelled` is `stop`.
    pub watch: &'a dyn Watch,
    /// Ends the work within a second.
    pub stop: &'a CancellationToken,
}

/// Archives blocks again. Segments that follow each other cost their own blocks only; anything else begins at the header of the
/// segment before.
///
/// Holds up to 130 MB of blocks between two segments, and the few blocks that the source reads ahead.
#[derive(Debug)]
pub struct Rearchiver {
    source: Source,
    kzg: Kzg,
    runtime: Handle,
    position: Option<Position>,
}

/// An archiver and what it is fed.
#[derive(Debug)]
struct Position {
    archiver: Archiver,
    blocks: Blocks,
    /// The block that `blocks` gives next.
    next_block: BlockNumber,
    /// Segments that one long block gave at once.
    archived: VecDeque<ArchivedSegment>,
}

impl Position {
    fn next_segment(&self) -> SegmentIndex {
        self.archived.front().map_or(self.archiver.segment_index(), |segment| segment.header.segment_index())
    }
}

impl Rearchiver {
    /// Archives the blocks of `source`, which are read in `runtime`.
    pub fn new(source: Source, kzg: Kzg, runtime: Handle) -> Self {
        Self { source, kzg, runtime, position: None }
    }

    /// Archives a segment: about ten seconds of CPU in the current rayon pool, and up to 530 MB. Blocks the thread, which must
    /// not be one of the runtime's. None when the blocks end before the segment is full.
    ///
    /// # Errors
    /// See [`HistoryError`]; the next segment is begun anew then.
    pub fn segment(&mut self, order: &Order<'_>) -> Result<Option<ArchivedSegment>, HistoryError> {
        let mut position = match self.position.take() {
            Some(position) if position.next_segment() == order.segment => position,
            _ => self.start(order)?,
        };
        let Some(segment) = self.advance(&mut position, order)? else { return Ok(None) };
        if let Some(expected) = order.expected.filter(|expected| *expected != segment.header) {
            return Err(HistoryError::Mismatch {
                source_name: self.source.name(),
                kind: self.kzg.srs_kind(),
                expected: Box::new(expected),
                found: Box::new(segment.header),
            });
        }
        self.position = Some(position);
        Ok(Some(segment))
    }

    fn advance(
        &self,
        position: &mut Position,
        order: &Order<'_>,
    ) -> Result<Option<ArchivedSegment>, HistoryError> {
        loop {
            if let Some(segment) = position.archived.pop_front() {
                return Ok(Some(segment));
            }
            let Some(block) = self.wait(order, position.blocks.recv())? else {
                if position.next_block > order.last_block {
                    return Ok(None);
                }
                // The chain has grown since these blocks were asked for.
                position.blocks = self.blocks(position.next_block, order.last_block);
                continue;
            };
            let Some(block) = block? else { return Err(self.pruned(position.next_block, order)) };
            position.next_block = position.next_block.saturating_add(1);
            let mapping = BlockObjectMapping::default();
            let added = position.archiver.add_block_watched(block, mapping, order.watch);
            position.archived.extend(added.map_err(|error| self.refused(error))?.segments);
        }
    }

    /// An archiver whose next segment is the one ordered.
    fn start(&self, order: &Order<'_>) -> Result<Position, HistoryError> {
        let (archiver, next_block) = match order.before {
            None if order.segment.0 == 0 => (Archiver::new(self.kzg.clone()), 0),
            None => {
                let reason = format!("segment {} was ordered without the header before it", order.segment);
                return Err(HistoryError::Internal(reason));
            }
            Some(header) => {
                let number = header.last_archived_block().number;
                tracing::info!(segment = order.segment.0, from_block = number, "Archiving from here on");
                let block = self.wait(order, self.source.block(number))??;
                let block = block.ok_or_else(|| self.pruned(number, order))?;
                let archiver = Archiver::with_initial_state(self.kzg.clone(), header, &block);
                (archiver.map_err(|error| self.refused(error))?, number + 1)
            }
        };
        let blocks = self.blocks(next_block, order.last_block);
        Ok(Position { archiver, blocks, next_block, archived: VecDeque::new() })
    }

    fn blocks(&self, first: BlockNumber, last: BlockNumber) -> Blocks {
        let _runtime = self.runtime.enter();
        self.source.blocks(first, last)
    }

    /// The future's result, unless the work is to stop.
    fn wait<F: Future>(&self, order: &Order<'_>, future: F) -> Result<F::Output, HistoryError> {
        let result = self.runtime.block_on(order.stop.run_until_cancelled(future));
        result.ok_or(HistoryError::Stopped)
    }

    fn refused(&self, error: ArchiverError) -> HistoryError {
        match error {
            ArchiverError::Cancelled => HistoryError::Stopped,
            reason => HistoryError::Block { source_name: self.source.name(), reason },
        }
    }

    /// The error for a block that the source has thrown away, with where its blocks begin.
    fn pruned(&self, block: BlockNumber, order: &Order<'_>) -> HistoryError {
        let first = block.saturating_add(1);
        match self.wait(order, self.source.first_available(first, order.last_block)) {
            Ok(Ok(available_from)) => {
                let (source_name, segment) = (self.source.name(), order.segment);
                HistoryError::Pruned { source_name, block, segment, available_from }
            }
            Ok(Err(error)) | Err(error) => error,
        }
    }
}
