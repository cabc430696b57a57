//! What is to be archived: the segments that the chain has and the store lacks.

use crate::export::ExportError;
use crate::export::destination::Destination;
use crate::export::source::Chain;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};
use std::collections::VecDeque;
use tokio_util::sync::CancellationToken;

/// Confirmation depth of the live network: for databases that do not say what their node has archived.
const DEFAULT_CONFIRMATION_DEPTH: BlockNumber = 100;

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The first segment.
    pub from: SegmentIndex,
    /// Blocks that stand on the last one used, at least.
    pub confirmation_depth: Option<BlockNumber>,
    /// Whether all stored pieces are checked.
    pub verify: bool,
}

/// The work.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Segments to archive, ascending.
    pub missing: VecDeque<SegmentIndex>,
    /// Whether there may be more after those, as many as the blocks fill.
    pub is_open_ended: bool,
    /// Segments that the store holds already.
    pub already_there: u64,
    /// The last block that may be used.
    pub last_block: BlockNumber,
}

/// The segments' headers that are final at the depth asked for.
fn final_headers<'a>(chain: &'a Chain, wanted: &Wanted) -> &'a [SegmentHeader] {
    // What the node has archived is as deep as its chain asks for.
    let last_block = chain.best.saturating_sub(wanted.confirmation_depth.unwrap_or(0));
    let is_final = |header: &SegmentHeader| header.last_archived_block().number <= last_block;
    &chain.headers[..chain.headers.partition_point(is_final)]
}

impl Plan {
    /// Looks through the store.
    ///
    /// # Errors
    /// When there is nothing to export, the store holds another history, or the disk fails.
    pub fn new(
        source_name: &str,
        chain: &Chain,
        destination: &Destination,
        wanted: &Wanted,
        stop: &CancellationToken,
    ) -> Result<Self, ExportError> {
        let all = wanted.verify || destination.opened_after_power_loss();
        let newest = destination.newest();
        let holds = |header: &SegmentHeader| -> Result<bool, ExportError> {
            if stop.is_cancelled() {
                return Err(ExportError::Interrupted);
            }
            let index = header.segment_index();
            if destination.header(index).is_some_and(|noted| noted != *header) {
                let (output, source_name) = (destination.path().to_owned(), source_name.to_owned());
                return Err(ExportError::OtherHistory { output, source_name, segment: index });
            }
            destination.holds(header, all || newest == Some(index))
        };
        if chain.headers.is_empty() {
            return Self::without_headers(source_name, chain, destination, wanted, holds);
        }
        let headers = final_headers(chain, wanted);
        let Some(last) = headers.last().filter(|last| last.segment_index() >= wanted.from) else {
            return Err(ExportError::Config(format!(
                "{source_name} has {} final segments: there is no segment {} to begin with",
                headers.len(),
                wanted.from
            )));
        };
        let mut plan = Self {
            missing: VecDeque::new(),
            is_open_ended: false,
            already_there: 0,
            last_block: last.last_archived_block().number,
        };
        for header in headers.iter().skip_while(|header| header.segment_index() < wanted.from) {
            match holds(header)? {
                true => plan.already_there += 1,
                false => plan.missing.push_back(header.segment_index()),
            }
        }
        Ok(plan)
    }

    /// A database whose node has noted no segments: as many as its blocks fill, after those that the journal knows.
    fn without_headers(
        source_name: &str,
        chain: &Chain,
        destination: &Destination,
        wanted: &Wanted,
        holds: impl Fn(&SegmentHeader) -> Result<bool, ExportError>,
    ) -> Result<Self, ExportError> {
        if wanted.from.0 > 0 {
            return Err(ExportError::Config(format!(
                "{source_name} has no segment headers, and segment {} cannot be begun without that of the one before; \
                 leave --from-segment out",
                wanted.from
            )));
        }
        tracing::warn!(
            "{source_name} has no segment headers: what is archived cannot be compared with what the node archived"
        );
        let mut next = SegmentIndex(0);
        while let Some(header) = destination.header(next)
            && holds(&header)?
        {
            next.0 += 1;
        }
        let depth = wanted.confirmation_depth.unwrap_or(DEFAULT_CONFIRMATION_DEPTH);
        Ok(Self {
            missing: VecDeque::from([next]),
            is_open_ended: true,
            already_there: next.0,
            // Genesis is final from the start.
            last_block: chain.best.saturating_sub(depth),
        })
    }

    /// Number of segments to archive, where that is known.
    pub fn count(&self) -> Option<u64> {
        (!self.is_open_ended).then_some(self.missing.len() as u64)
    }
}

/// The first segment that can be archived from `first_available` on: the one after a segment that ends in a block which is
/// there.
pub fn first_possible(headers: &[SegmentHeader], first_available: BlockNumber) -> Option<SegmentIndex> {
    let ends_in_it = |header: &&SegmentHeader| header.last_archived_block().number >= first_available;
    let before = headers.iter().find(ends_in_it)?.segment_index();
    let segment = SegmentIndex(before.0 + 1);
    ((segment.0 as usize) < headers.len()).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};

    /// Segments that end in these blocks.
    fn headers(last_blocks: &[BlockNumber]) -> Vec<SegmentHeader> {
        let header = |(index, number): (u64, &BlockNumber)| SegmentHeader::V0 {
            segment_index: SegmentIndex(index),
            segment_commitment: Default::default(),
            prev_segment_header_hash: Default::default(),
            last_archived_block: LastArchivedBlock {
                number: *number,
                archived_progress: ArchivedBlockProgress::Partial(1),
            },
        };
        (0..).zip(last_blocks).map(header).collect()
    }

    #[test]
    fn an_export_can_begin_after_a_segment_whose_last_block_is_there() {
        let headers = headers(&[0, 10, 20, 30]);
        for (first_available, segment) in
            [(0, Some(1)), (1, Some(2)), (10, Some(2)), (11, Some(3)), (20, Some(3)), (21, None), (99, None)]
        {
            assert_eq!(
                first_possible(&headers, first_available),
                segment.map(SegmentIndex),
                "{first_available}"
            );
        }
    }

    #[test]
    fn depth_leaves_out_what_is_too_new() {
        let chain = Chain {
            genesis: Default::default(),
            best: 35,
            headers: headers(&[0, 10, 20, 30]),
            is_development: None,
        };
        for (depth, segments) in [(None, 4), (Some(5), 4), (Some(6), 3), (Some(16), 2), (Some(1000), 1)] {
            let wanted = Wanted { from: SegmentIndex(0), confirmation_depth: depth, verify: false };
            assert_eq!(final_headers(&chain, &wanted).len(), segments, "{depth:?}");
        }
    }
}
