//! The lane for what no cache holds and the node does not serve: it is archived again from the node's blocks, one segment after
//! another, while the other lanes go on. Nothing is kept on a disk: where it stands is what the caches hold, so that another
//! leader goes on from there.

use super::push::Superseded;
use super::segment::SegmentPieces;
use super::{Filler, GRACE};
use crate::export::plan::first_possible;
use crate::export::rearchive::HistoryError;
use crate::roles::controller::history::History;
use crate::status::Status;
use archiving::archiver::ArchivedSegment;
use primitives::{SegmentHeader, SegmentIndex};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What to do where a node no longer has the blocks.
const REMEDY: &str = "start it with `--sync full --blocks-pruning archive-canonical`, add a controller whose node has all blocks, \
                      or give a full-piece cache a store that `autonomys-export-piece` made elsewhere";

/// Why a segment is archived again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The caches hold too few of its pieces.
    TooFewPieces,
    /// They say that they hold enough, and did not give it.
    NotToBeFetched,
}

/// Segments to be archived again.
#[derive(Debug, Default)]
pub struct Backlog {
    segments: BTreeMap<SegmentIndex, Reason>,
    /// When it was last empty and came to be filled, and how many were archived since.
    run: Option<(Instant, u64)>,
}

impl Backlog {
    /// Adds a segment.
    pub fn add(&mut self, segment: SegmentIndex, reason: Reason) {
        self.segments.entry(segment).or_insert(reason);
    }

    /// Whether a segment is in it.
    pub fn contains(&self, segment: SegmentIndex) -> bool {
        self.segments.contains_key(&segment)
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.segments.clear();
    }

    /// Notes that a segment was archived; gives the number left and how many are archived in an hour.
    fn archived(&mut self, segment: SegmentIndex, now: Instant) -> (usize, u64) {
        self.segments.remove(&segment);
        if let Some((_, archived)) = &mut self.run {
            *archived += 1;
        }
        (self.segments.len(), self.per_hour(now))
    }

    /// Segments archived in an hour, at the pace since the lane began.
    fn per_hour(&self, now: Instant) -> u64 {
        self.run.map_or(0, |(since, archived)| {
            (archived as f64 * 3600.0 / now.saturating_duration_since(since).as_secs_f64().max(0.001)) as u64
        })
    }
}

/// What the lane counts.
#[derive(Clone)]
pub struct Metrics {
    left: Gauge,
    archived: Counter,
    per_hour: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn new(status: &Status) -> Self {
        Self {
            left: status.gauge(
                "segments_to_archive_again",
                "Segments in no cache and not in the node's memory, to be archived again from its blocks: now or at the next \
                 attempt",
            ),
            archived: status.counter(
                "segments_archived_again",
                "Segments archived again from the node's blocks and sent into caches",
            ),
            per_hour: status.gauge(
                "segments_archived_again_per_hour",
                "Pace at which segments are archived again; 0 when there are none",
            ),
        }
    }

    pub(super) fn clear(&self) {
        self.left.set(0);
        self.per_hour.set(0);
    }

    /// Shows the backlog, and the segments that are left alone for a while.
    pub(super) fn show(&self, backlog: &Backlog, deferred: usize) {
        self.left.set((backlog.segments.len() + deferred) as i64);
        self.per_hour.set(backlog.per_hour(Instant::now()).cast_signed());
    }
}

impl Filler {
    /// Notes which segments have to be archived again.
    pub(super) fn find_lost_segments(&self) {
        let lost = self.views.lock().lost(|segment| {
            // What is in the node's memory is asked of it first.
            let is_served = self.sources.is_in_node_memory(segment);
            is_served || self.is_left_alone(segment) || self.backlog.lock().contains(segment)
        });
        if !lost.is_empty() {
            let mut backlog = self.backlog.lock();
            lost.into_iter().for_each(|segment| backlog.add(segment, Reason::TooFewPieces));
            drop(backlog);
            self.changes.send_replace(());
        }
    }

    /// Archives again what is in the backlog, the oldest first.
    pub(super) async fn segments_from_blocks(&self) -> Superseded {
        // Caches that come at the same time may have it.
        tokio::time::sleep(GRACE).await;
        let sources = &self.sources;
        let mut history = History::new(
            self.relay.node.url().to_owned(),
            sources.genesis,
            sources.kzg.clone(),
            Arc::clone(&sources.headers),
            Arc::clone(&sources.threads),
        );
        let mut changes = self.changes.subscribe();
        loop {
            let Some(segment) = self.next_from_blocks() else {
                history.rest();
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            let started = Instant::now();
            match history.segment(segment).await {
                Ok(Some(archived)) => {
                    if let Err(superseded) = self.bring_archived(archived, started).await {
                        return superseded;
                    }
                }
                // The chain has another history now.
                Ok(None) => self.backlog.lock().clear(),
                Err(error) => self.not_archived(segment, &error),
            }
            self.show();
            self.changes.send_replace(());
        }
    }

    /// The oldest segment that still has to be archived; takes out what need not be.
    fn next_from_blocks(&self) -> Option<SegmentIndex> {
        let views = self.views.lock();
        let mut backlog = self.backlog.lock();
        while let Some((&segment, &reason)) = backlog.segments.first_key_value() {
            if (reason == Reason::NotToBeFetched || views.is_lost(segment))
                && !views.lacking(segment).is_empty()
            {
                if backlog.run.is_none() {
                    tracing::warn!(
                        first_segment = segment.0,
                        segments = backlog.segments.len(),
                        node = self.relay.node.url(),
                        "Segments are in no cache and not in the node's memory: archives them again from the node's blocks"
                    );
                    backlog.run = Some((Instant::now(), 0));
                }
                return Some(segment);
            }
            // Should it be needed after all, the other lane finds it again.
            backlog.segments.remove(&segment);
        }
        if let Some((since, archived)) = backlog.run.take()
            && archived > 0
        {
            let seconds = since.elapsed().as_secs();
            tracing::info!(archived, seconds, "No more segments are to be archived again");
        }
        None
    }

    async fn bring_archived(&self, archived: ArchivedSegment, started: Instant) -> Result<(), Superseded> {
        let segment = archived.header.segment_index();
        let adding = tokio::task::spawn_blocking(move || {
            let mut pieces = SegmentPieces::new(archived.header);
            pieces.add_archived(archived.pieces);
            pieces
        });
        let pieces = adding.await.expect("hashing does not panic");
        let lacking = self.views.lock().lacking(segment);
        self.push(&pieces, &lacking).await?;
        let still_lacking = self.views.lock().still_lacking(&lacking);
        let (left, per_hour) = self.backlog.lock().archived(segment, Instant::now());
        self.metrics.from_blocks.archived.inc();
        if still_lacking == 0 {
            self.deferred.lock().remove(&segment);
        } else {
            // Caches that take nothing now are not worth another ten seconds of CPU at once.
            self.defer([segment]);
        }
        tracing::info!(
            segment = segment.0,
            left,
            per_hour,
            caches = lacking.len(),
            still_lacking,
            seconds = started.elapsed().as_secs_f32(),
            "Archived a segment again and brought its pieces to the caches"
        );
        Ok(())
    }

    /// Leaves alone for a while what cannot be archived: all of it, but for what can be made from the blocks that a pruned node
    /// still has.
    fn not_archived(&self, segment: SegmentIndex, error: &HistoryError) {
        let possible_from = match error {
            HistoryError::Pruned { available_from: Some(block), .. } => {
                let headers: Vec<SegmentHeader> = self.sources.headers.all();
                first_possible(&headers, *block).filter(|possible| *possible > segment)
            }
            _ => None,
        };
        let impossible: Vec<SegmentIndex> = {
            let mut backlog = self.backlog.lock();
            let possible = possible_from.map(|first| backlog.segments.split_off(&first)).unwrap_or_default();
            std::mem::replace(&mut backlog.segments, possible).into_keys().collect()
        };
        let retry_s = self.defer(impossible.iter().copied()).as_secs();
        let remedy = if matches!(error, HistoryError::Pruned { .. }) { REMEDY } else { "trying again later" };
        let segments = impossible.len();
        tracing::error!(
            segments,
            retry_s,
            possible_from = possible_from.map(|segment| segment.0),
            "Segments are in no cache and cannot be archived again: {error}; {remedy}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_pace_is_that_of_the_segments_archived() {
        let mut backlog = Backlog::default();
        let start = Instant::now();
        assert_eq!(backlog.per_hour(start), 0);
        for segment in 0..4 {
            backlog.add(SegmentIndex(segment), Reason::TooFewPieces);
        }
        backlog.run = Some((start, 0));
        assert_eq!(backlog.archived(SegmentIndex(0), start + Duration::from_secs(20)), (3, 180));
        assert_eq!(backlog.archived(SegmentIndex(1), start + Duration::from_secs(30)), (2, 240));
    }

    #[test]
    fn a_segment_keeps_the_first_reason() {
        let mut backlog = Backlog::default();
        backlog.add(SegmentIndex(7), Reason::NotToBeFetched);
        backlog.add(SegmentIndex(7), Reason::TooFewPieces);
        assert!(backlog.contains(SegmentIndex(7)) && !backlog.contains(SegmentIndex(6)));
        assert_eq!(backlog.segments[&SegmentIndex(7)], Reason::NotToBeFetched);
    }
}
