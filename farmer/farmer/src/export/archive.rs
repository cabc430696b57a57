//! The work itself: blocks in, segments out, each stored while the next one is made.

use crate::export::ExportError;
use crate::export::destination::Destination;
use crate::export::plan::{Plan, first_possible};
use crate::export::progress::Progress;
use crate::export::rearchive::{HistoryError, Order, Rearchiver};
use crate::export::source::{Chain, Source};
use archiving::Kzg;
use archiving::archiver::ArchivedSegment;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};
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
        let mut rearchiver = Rearchiver::new(self.source.clone(), self.kzg.clone(), self.runtime.clone());
        let mut next = plan.missing.pop_front();
        while let Some(index) = next {
            let segment = rearchiver.segment(&self.order(index)).map_err(|error| self.explained(error))?;
            let Some(segment) = segment else {
                return if plan.is_open_ended { Ok(()) } else { Err(self.unfilled(index)) };
            };
            if sender.send(segment).is_err() {
                // Storing has failed, and says why.
                return Ok(());
            }
            let following = plan.is_open_ended.then_some(SegmentIndex(index.0 + 1));
            next = plan.missing.pop_front().or(following);
        }
        Ok(())
    }

    fn order(&self, segment: SegmentIndex) -> Order<'_> {
        let before = segment.0.checked_sub(1).map(SegmentIndex);
        Order {
            segment,
            before: before
                .and_then(|before| self.expected(before).or_else(|| self.destination.header(before))),
            expected: self.expected(segment),
            last_block: self.last_block,
            watch: self.progress,
            stop: self.progress.stop(),
        }
    }

    fn expected(&self, index: SegmentIndex) -> Option<SegmentHeader> {
        self.chain.headers.get(usize::try_from(index.0).ok()?).copied()
    }

    /// The error with what can be done instead, where a source has thrown blocks away.
    fn explained(&self, error: HistoryError) -> ExportError {
        let HistoryError::Pruned { available_from, .. } = error else { return error.into() };
        let advice = available_from.and_then(|first_block| {
            let segment = first_possible(&self.chain.headers, first_block)?;
            Some(format!(
                "It has all blocks from {first_block} on: `--from-segment {segment}` exports the pieces from segment \
                 {segment} on."
            ))
        });
        let advice = advice.unwrap_or_else(|| {
            "What it still has is not enough for any segment that it has archived.".to_owned()
        });
        ExportError::Pruned { error, advice }
    }

    fn unfilled(&self, segment: SegmentIndex) -> ExportError {
        HistoryError::Unfilled { source_name: self.source.name(), segment, last_block: self.last_block }
            .into()
    }
}
