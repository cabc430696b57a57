//! Old segments, archived again from the node's blocks: what no cache holds and the node's RPC no longer serves
//! (design §4, where history comes from).

use crate::roles::controller::headers::Headers;
use archiving::archiver::{ArchivedSegment, Archiver, ArchiverError, Watch};
use archiving::{Kzg, SrsKind};
use futures::{StreamExt, TryStreamExt, stream};
use node::NodeClient;
use primitives::objects::BlockObjectMapping;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Blocks fetched at once, and fetched ahead of the archiver; a block has up to 5 MB.
const READ_AHEAD: u32 = 16;

/// Why a segment could not be archived again.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The node failed.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The node does not keep the block.
    #[error(
        "the node no longer has block {block}, which segment {segment} is made of: start it with `--sync full \
         --blocks-pruning archive-canonical`, or give a full-piece cache a store that was exported elsewhere"
    )]
    Pruned {
        /// The segment.
        segment: SegmentIndex,
        /// The block.
        block: BlockNumber,
    },
    /// There is no header of the segment.
    #[error("there is no segment {0}")]
    NoHeader(SegmentIndex),
    /// What was archived is another segment than the chain's.
    #[error(
        "segment {segment}, archived again under the {kind} reference string, has commitment {found}, the chain says \
         {expected}: the reference string is not this chain's, or the node's blocks are not those that were archived"
    )]
    Mismatch {
        /// The segment.
        segment: SegmentIndex,
        /// The string.
        kind: SrsKind,
        /// The chain's.
        expected: primitives::SegmentCommitment,
        /// What came out.
        found: primitives::SegmentCommitment,
    },
    /// The archiver refused.
    #[error(transparent)]
    Archiver(#[from] ArchiverError),
    /// The thread of the archiver died.
    #[error("the archiver failed: {0}")]
    Thread(String),
}

/// Archives old segments again. It goes on from where it stands as long as segments are asked for in order.
pub struct History {
    node: NodeClient,
    kzg: Kzg,
    headers: Arc<Headers>,
    position: Option<Position>,
}

/// An archiver and what it is fed.
struct Position {
    archiver: Archiver,
    /// Blocks fetched and not yet given to it.
    fetched: VecDeque<Vec<u8>>,
    /// The block after those.
    next_fetch: BlockNumber,
    /// Segments that one long block gave at once.
    archived: VecDeque<ArchivedSegment>,
}

/// Stops the archiver when the token is cancelled.
struct Cancel(CancellationToken);

impl Watch for Cancel {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl History {
    /// History as `node` has it.
    pub fn new(node: NodeClient, kzg: Kzg, headers: Arc<Headers>) -> Self {
        Self { node, kzg, headers, position: None }
    }

    /// Archives a segment again, checked against its header: minutes of CPU and hundreds of megabytes. Dropping the
    /// future stops the work within a second.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn segment(&mut self, index: SegmentIndex) -> Result<ArchivedSegment, HistoryError> {
        let expected = self.headers.get(index).ok_or(HistoryError::NoHeader(index))?;
        // Taken, not borrowed: when the future is dropped half-way the archiver is lost and the next call starts anew.
        let mut position = match self.position.take() {
            Some(position) if position.next_segment() == index => position,
            _ => self.start(index).await?,
        };
        let archived = loop {
            if let Some(archived) = position.archived.pop_front() {
                break archived;
            }
            self.fetch(&mut position, &expected).await?;
            position = position.advance().await?;
        };
        if archived.header != expected {
            return Err(HistoryError::Mismatch {
                segment: index,
                kind: self.kzg.srs_kind(),
                expected: expected.segment_commitment(),
                found: archived.header.segment_commitment(),
            });
        }
        self.position = Some(position);
        Ok(archived)
    }

    /// Forgets the archiver: up to 130 MB of blocks.
    pub fn rest(&mut self) {
        self.position = None;
    }

    /// An archiver whose next segment is `index`.
    async fn start(&self, index: SegmentIndex) -> Result<Position, HistoryError> {
        let (archiver, next_fetch) = match index.0.checked_sub(1).map(SegmentIndex) {
            None => (Archiver::new(self.kzg.clone()), 0),
            Some(previous) => {
                let header = self.headers.get(previous).ok_or(HistoryError::NoHeader(previous))?;
                let number = header.last_archived_block().number;
                let block = self.block(number, index).await?;
                (Archiver::with_initial_state(self.kzg.clone(), header, &block)?, number + 1)
            }
        };
        Ok(Position { archiver, fetched: VecDeque::new(), next_fetch, archived: VecDeque::new() })
    }

    /// Fetches the next blocks if none is there: those up to the segment's last one together, later ones one by one.
    async fn fetch(&self, position: &mut Position, segment: &SegmentHeader) -> Result<(), HistoryError> {
        if !position.fetched.is_empty() {
            return Ok(());
        }
        let first = position.next_fetch;
        let last = segment.last_archived_block().number;
        let end = last.saturating_add(1).min(first.saturating_add(READ_AHEAD)).max(first + 1);
        let index = segment.segment_index();
        let blocks: Vec<_> = stream::iter(first..end)
            .map(|number| self.block(number, index))
            .buffered(READ_AHEAD as usize)
            .try_collect()
            .await?;
        position.fetched.extend(blocks);
        position.next_fetch = end;
        Ok(())
    }

    /// The bytes of a block as they are archived.
    async fn block(&self, number: BlockNumber, segment: SegmentIndex) -> Result<Vec<u8>, HistoryError> {
        let pruned = || HistoryError::Pruned { segment, block: number };
        let hash = self.node.block_hash(number).await?.ok_or_else(pruned)?;
        let block = self.node.block(&hash).await?.ok_or_else(pruned)?;
        Ok(block.encode_for_archiving())
    }
}

impl Position {
    fn next_segment(&self) -> SegmentIndex {
        self.archived.front().map_or(self.archiver.segment_index(), |segment| segment.header.segment_index())
    }

    /// Gives the archiver one block, on a thread that may block.
    async fn advance(mut self) -> Result<Self, HistoryError> {
        let cancelled = CancellationToken::new();
        let watch = Cancel(cancelled.clone());
        let _stops_when_dropped = cancelled.drop_guard();
        let working = tokio::task::spawn_blocking(move || -> Result<Self, ArchiverError> {
            if let Some(block) = self.fetched.pop_front() {
                let blocks = self.archiver.add_block_watched(block, BlockObjectMapping::default(), &watch)?;
                self.archived.extend(blocks.segments);
            }
            Ok(self)
        });
        Ok(working.await.map_err(|error| HistoryError::Thread(error.to_string()))??)
    }
}
