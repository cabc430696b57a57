//! Which sector of a farm is plotted next: missing and damaged ones in order of index, then replots in order of expiry.

use primitives::{SectorIndex, SegmentIndex};
use std::collections::{BTreeMap, BTreeSet};

/// Sectors of one farm that are plotted at once.
pub const IN_FLIGHT_MAX: usize = 2;

/// Why a sector is plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The farm has none there yet, or a damaged one.
    Missing,
    /// It expires with this segment.
    Expires(SegmentIndex),
}

/// A sector to be plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// The sector.
    pub sector_index: SectorIndex,
    /// Why.
    pub reason: Reason,
}

/// Plotting queue of one farm.
#[derive(Debug, Default)]
pub struct PlotQueue {
    missing: BTreeSet<SectorIndex>,
    replots: BTreeSet<(SegmentIndex, SectorIndex)>,
    in_flight: BTreeMap<SectorIndex, Reason>,
}

impl PlotQueue {
    /// Queues a sector that is missing or damaged; false when it is queued or in flight as such already.
    ///
    /// A sector that is in flight for another reason will be written anew anyway.
    pub fn push_missing(&mut self, sector_index: SectorIndex) -> bool {
        if self.in_flight.contains_key(&sector_index) {
            return false;
        }
        self.replots.retain(|(_, queued)| *queued != sector_index);
        self.missing.insert(sector_index)
    }

    /// Queues a sector that expires with segment `at`; false when it is queued or in flight already.
    pub fn push_replot(&mut self, sector_index: SectorIndex, at: SegmentIndex) -> bool {
        let known = self.in_flight.contains_key(&sector_index)
            || self.missing.contains(&sector_index)
            || self.replots.iter().any(|(_, queued)| *queued == sector_index);
        !known && self.replots.insert((at, sector_index))
    }

    /// Takes the next sector, unless enough are in flight.
    pub fn take(&mut self) -> Option<Job> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let job = match self.missing.pop_first() {
            Some(sector_index) => Job { sector_index, reason: Reason::Missing },
            None => {
                let (at, sector_index) = self.replots.pop_first()?;
                Job { sector_index, reason: Reason::Expires(at) }
            }
        };
        self.in_flight.insert(job.sector_index, job.reason);
        Some(job)
    }

    /// A sector in flight has been stored.
    pub fn stored(&mut self, sector_index: SectorIndex) {
        self.in_flight.remove(&sector_index);
    }

    /// A sector in flight has not been stored: it takes its place in the queue again.
    pub fn give_back(&mut self, sector_index: SectorIndex) {
        match self.in_flight.remove(&sector_index) {
            Some(Reason::Missing) => drop(self.missing.insert(sector_index)),
            Some(Reason::Expires(at)) => drop(self.replots.insert((at, sector_index))),
            None => {}
        }
    }

    /// Sectors queued, not counting those in flight.
    pub fn queued(&self) -> usize {
        self.missing.len() + self.replots.len()
    }

    /// Whether nothing is queued or in flight.
    pub fn is_idle(&self) -> bool {
        self.queued() == 0 && self.in_flight.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn drain(queue: &mut PlotQueue) -> Vec<SectorIndex> {
        std::iter::from_fn(|| {
            let job = queue.take()?;
            queue.stored(job.sector_index);
            Some(job.sector_index)
        })
        .collect()
    }

    #[test]
    fn missing_in_order_then_replots_by_expiry() {
        let mut queue = PlotQueue::default();
        for (sector_index, at) in [(4, 30), (2, 20), (8, 20), (6, 10)] {
            assert!(queue.push_replot(sector_index, SegmentIndex(at)));
        }
        for sector_index in [7, 1, 3] {
            assert!(queue.push_missing(sector_index));
        }
        assert_eq!(queue.queued(), 7);
        assert_eq!(drain(&mut queue), [1, 3, 7, 6, 2, 8, 4]);
        assert!(queue.is_idle());
    }

    #[test]
    fn two_are_in_flight_at_most() {
        let mut queue = PlotQueue::default();
        (0..4).for_each(|sector_index| assert!(queue.push_missing(sector_index)));
        assert_eq!(queue.take().unwrap().sector_index, 0);
        assert_eq!(queue.take().unwrap().sector_index, 1);
        assert_eq!(queue.take(), None);
        queue.give_back(0);
        assert_eq!(queue.take().unwrap().sector_index, 0);
        queue.stored(1);
        assert_eq!(queue.take().unwrap().sector_index, 2);
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn a_sector_is_queued_once_and_damage_goes_before_expiry() {
        let mut queue = PlotQueue::default();
        assert!(queue.push_replot(5, SegmentIndex(9)));
        assert!(!queue.push_replot(5, SegmentIndex(8)));
        assert!(queue.push_missing(5));
        assert!(!queue.push_missing(5));
        assert!(!queue.push_replot(5, SegmentIndex(8)));
        assert_eq!(queue.take().unwrap(), Job { sector_index: 5, reason: Reason::Missing });
        assert!(!queue.push_missing(5));
        assert!(!queue.push_replot(5, SegmentIndex(8)));
        queue.give_back(5);
        assert_eq!(queue.queued(), 1);
        assert_eq!(queue.take().unwrap().reason, Reason::Missing);
        queue.stored(5);
        assert!(queue.push_replot(5, SegmentIndex(80)));
    }
}
