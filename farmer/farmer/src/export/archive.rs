//! The work itself: blocks in, segments out, each compared with the node's before it is stored.

use crate::export::ExportError;
use crate::export::destination::Destination;
use crate::export::plan::{Plan, first_possible};
use crate::export::progress::Progress;
use crate::export::source::{Blocks, Chain, Source};
use archiving::Kzg;
use archiving::archiver::{ArchivedSegment, Archiver, ArchiverError};
use primitives::objects::BlockObjectMapping;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::runtime::Handle;

/// An export under way. Runs on a thread that may block.
#[derive(Debug)]
pub struct Export<'a> {
    /// Where blocks come from.
    pub source: &'a Source,
    /// The chain.
    pub chain: &'a Chain,
    /// Where pieces go.
    pub destination: &'a Destination,
    /// Commitments.
    pub kzg: &'a Kzg,
    /// Progress, and whether to stop.
    pub progress: &'a Progress,
    /// Runs what is asynchronous.
    pub runtime: &'a Handle,
    /// The last block that may be used.
    pub last_block: BlockNumber,
}

/// An archiver and what it is fed.
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

impl Export<'_> {
    /// Archives and stores what the plan says; a segment is stored while the next one is archived.
    ///
    /// # Errors
    /// See [`ExportError`]; what has been stored until then stays.
    pub fn run(&self, plan: Plan) -> Result<(), ExportError> {
        // One segment waits, one is being stored, one is being made: a gigabyte at most.
        let (sender, receiver) = sync_channel::<ArchivedSegment>(1);
        std::thread::scope(|scope| {
            let storing = scope.spawn(move || -> Result<(), ExportError> {
                for segment in receiver {
                    self.destination.put(&segment)?;
                    self.progress.stored(segment.header.segment_index());
                }
                Ok(())
            });
            let archived = self.archive(plan, sender);
            let stored = storing.join();
            stored.map_err(|_| ExportError::Internal("the thread that stores pieces panicked".into()))??;
            archived
        })
    }

    fn archive(&self, mut plan: Plan, sender: SyncSender<ArchivedSegment>) -> Result<(), ExportError> {
        let mut position = None;
        let mut next = plan.missing.pop_front();
        while let Some(index) = next {
            let Some(segment) = self.segment(&mut position, index)? else {
                return if plan.is_open_ended { Ok(()) } else { Err(self.unfilled(index)) };
            };
            self.compare(&segment.header)?;
            if sender.send(segment).is_err() {
                // Storing has failed, and says why.
                return Ok(());
            }
            let following = plan.is_open_ended.then_some(SegmentIndex(index.0 + 1));
            next = plan.missing.pop_front().or(following);
        }
        Ok(())
    }

    /// The next segment that is wanted; none when the blocks end before it is full.
    fn segment(
        &self,
        position: &mut Option<Position>,
        index: SegmentIndex,
    ) -> Result<Option<ArchivedSegment>, ExportError> {
        let position = match position {
            Some(position) if position.next_segment() == index => position,
            _ => position.insert(self.start(index)?),
        };
        loop {
            if let Some(segment) = position.archived.pop_front() {
                return Ok(Some(segment));
            }
            let Some(block) = self.wait(position.blocks.recv())? else { return Ok(None) };
            let Some(block) = block? else { return Err(self.pruned(position.next_block, index)) };
            position.next_block = position.next_block.saturating_add(1);
            let mapping = BlockObjectMapping::default();
            let added = position.archiver.add_block_watched(block, mapping, self.progress);
            position.archived.extend(added.map_err(interrupted)?.segments);
        }
    }

    /// An archiver whose next segment is `index`.
    fn start(&self, index: SegmentIndex) -> Result<Position, ExportError> {
        let (archiver, next_block) = match index.0.checked_sub(1).map(SegmentIndex) {
            None => (Archiver::new(self.kzg.clone()), 0),
            Some(before) => {
                let header = self.expected(before).or_else(|| self.destination.header(before));
                let header = header.ok_or_else(|| {
                    ExportError::Internal(format!(
                        "segment {index} was planned without the header of {before}"
                    ))
                })?;
                let number = header.last_archived_block().number;
                tracing::info!(
                    segment = index.0,
                    from_block = number,
                    "Going on after the last stored segment"
                );
                let block = self.wait(self.source.block(number))??;
                let block = block.ok_or_else(|| self.pruned(number, index))?;
                (Archiver::with_initial_state(self.kzg.clone(), header, &block)?, number + 1)
            }
        };
        let _runtime = self.runtime.enter();
        let blocks = self.source.blocks(next_block, self.last_block);
        Ok(Position { archiver, blocks, next_block, archived: VecDeque::new() })
    }

    fn expected(&self, index: SegmentIndex) -> Option<SegmentHeader> {
        self.chain.headers.get(usize::try_from(index.0).ok()?).copied()
    }

    fn compare(&self, found: &SegmentHeader) -> Result<(), ExportError> {
        match self.expected(found.segment_index()) {
            Some(expected) if expected != *found => Err(ExportError::Mismatch {
                source_name: self.source.name(),
                kind: self.kzg.srs_kind(),
                expected: Box::new(expected),
                found: Box::new(*found),
            }),
            _ => Ok(()),
        }
    }

    /// The future's result, unless the export is to stop.
    fn wait<F: Future>(&self, future: F) -> Result<F::Output, ExportError> {
        let result = self.runtime.block_on(self.progress.stop().run_until_cancelled(future));
        result.ok_or(ExportError::Interrupted)
    }

    /// The error for a block that the source has thrown away, with what can be done instead.
    fn pruned(&self, block: BlockNumber, segment: SegmentIndex) -> ExportError {
        let first = block.saturating_add(1);
        let available = match self.wait(self.source.first_available(first, self.last_block)) {
            Ok(Ok(available)) => available,
            Ok(Err(error)) | Err(error) => return error,
        };
        let advice = available.and_then(|first_block| {
            let segment = first_possible(&self.chain.headers, first_block)?;
            Some(format!(
                "It has all blocks from {first_block} on: `--from-segment {segment}` exports the pieces from segment \
                 {segment} on. "
            ))
        });
        let advice = advice.unwrap_or_else(|| {
            "What it still has is not enough for any segment that it has archived. ".to_owned()
        });
        ExportError::Pruned { source_name: self.source.name(), block, segment, advice }
    }

    fn unfilled(&self, segment: SegmentIndex) -> ExportError {
        ExportError::Unfilled { source_name: self.source.name(), segment, last_block: self.last_block }
    }
}

/// The archiver is cancelled by a signal alone.
fn interrupted(error: ArchiverError) -> ExportError {
    match error {
        ArchiverError::Cancelled => ExportError::Interrupted,
        error => error.into(),
    }
}
