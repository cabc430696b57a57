//! When the sectors of a farm expire, and which segments must be asked about it.

use farming::expiry::{Expiry, deciding_segment, sector_expiry, sectors_to_replot};
use primitives::{HistorySize, SectorId, SectorIndex, SegmentCommitment, SegmentIndex};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Copy)]
struct Entry {
    sector_id: SectorId,
    history_size: HistorySize,
    expiry: Expiry,
}

/// Expiry of all plotted sectors of a farm.
#[derive(Debug)]
pub struct ExpiryTable {
    min_sector_lifetime: HistorySize,
    sectors: BTreeMap<SectorIndex, Entry>,
}

impl ExpiryTable {
    /// An empty table under a protocol where sectors live at least `min_sector_lifetime` segments.
    pub fn new(min_sector_lifetime: HistorySize) -> Self {
        Self { min_sector_lifetime, sectors: BTreeMap::new() }
    }

    /// Enters a sector that has been plotted; what was known of its predecessor is forgotten.
    pub fn insert(&mut self, sector_index: SectorIndex, sector_id: SectorId, history_size: HistorySize) {
        let expiry = match deciding_segment(history_size, self.min_sector_lifetime) {
            Some(needs) => Expiry::Undecided { needs },
            None => Expiry::Never,
        };
        self.sectors.insert(sector_index, Entry { sector_id, history_size, expiry });
    }

    /// Forgets a sector.
    pub fn remove(&mut self, sector_index: SectorIndex) {
        self.sectors.remove(&sector_index);
    }

    /// Segments up to `newest` whose commitments decide about sectors that are still undecided.
    pub fn deciding_segments(&self, newest: SegmentIndex) -> BTreeSet<SegmentIndex> {
        let undecided = self.sectors.values().filter_map(|entry| match entry.expiry {
            Expiry::Undecided { needs } => Some(needs),
            Expiry::At(_) | Expiry::Never => None,
        });
        undecided.filter(|segment| *segment <= newest).collect()
    }

    /// Decides about all sectors that depend on `segment`.
    pub fn decide(&mut self, segment: SegmentIndex, commitment: SegmentCommitment) {
        for entry in self.sectors.values_mut() {
            if entry.expiry == (Expiry::Undecided { needs: segment }) {
                let Entry { sector_id, history_size, .. } = entry;
                entry.expiry =
                    sector_expiry(sector_id, *history_size, self.min_sector_lifetime, |_| Some(commitment));
            }
        }
    }

    /// Sectors that are expired or will be with the segment after `newest`, and the segment with which they are; the
    /// earliest first.
    pub fn due(&self, newest: SegmentIndex) -> Vec<(SectorIndex, SegmentIndex)> {
        sectors_to_replot(self.sectors.iter().map(|(index, entry)| (*index, entry.expiry)), newest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use primitives::PublicKey;

    fn size(n: u64) -> HistorySize {
        HistorySize::new(n).unwrap()
    }

    fn commitment(segment: u64) -> SegmentCommitment {
        SegmentCommitment([segment as u8; 48])
    }

    #[test]
    fn nothing_expires_before_its_segment_has_decided() {
        let mut table = ExpiryTable::new(size(4));
        let id = PublicKey([1; 32]).sector_id(0, size(3));
        table.insert(0, id, size(3));
        // History size 3 and lifetime 4: decided by the segment with index 6.
        assert!(table.deciding_segments(SegmentIndex(5)).is_empty());
        assert_eq!(table.deciding_segments(SegmentIndex(6)), BTreeSet::from([SegmentIndex(6)]));
        assert!(table.due(SegmentIndex(1000)).is_empty());
        table.decide(SegmentIndex(5), commitment(5));
        assert!(table.due(SegmentIndex(1000)).is_empty());
        table.decide(SegmentIndex(6), commitment(6));
        let at = id.derive_expiration_history_size(size(3), &commitment(6), size(4)).unwrap();
        assert_eq!(table.due(SegmentIndex(1000)), [(0, at.segment_index())]);
        assert!(table.deciding_segments(SegmentIndex(6)).is_empty());
    }

    #[test]
    fn a_sector_is_due_one_segment_before_it_expires() {
        let mut table = ExpiryTable::new(size(1));
        let id = |sector_index| PublicKey([7; 32]).sector_id(sector_index, size(4));
        for sector_index in 0..50 {
            table.insert(sector_index, id(sector_index), size(4));
        }
        table.decide(SegmentIndex(4), commitment(4));
        for newest in 4..30 {
            let current = HistorySize::from(SegmentIndex(newest)).get();
            let due = table.due(SegmentIndex(newest));
            assert!(due.is_sorted_by_key(|(_, at)| *at));
            for sector_index in 0..50 {
                let at = id(sector_index)
                    .derive_expiration_history_size(size(4), &commitment(4), size(1))
                    .unwrap();
                let expected = at.get() <= current + 1;
                assert_eq!(
                    due.iter().any(|(index, _)| *index == sector_index),
                    expected,
                    "{sector_index} at {current}"
                );
            }
        }
    }

    #[test]
    fn a_replotted_sector_begins_a_new_life() {
        let mut table = ExpiryTable::new(size(1));
        table.insert(9, PublicKey([7; 32]).sector_id(9, size(1)), size(1));
        table.decide(SegmentIndex(1), commitment(1));
        assert!(!table.due(SegmentIndex(100)).is_empty());
        table.insert(9, PublicKey([7; 32]).sector_id(9, size(101)), size(101));
        assert!(table.due(SegmentIndex(100)).is_empty());
        assert_eq!(table.deciding_segments(SegmentIndex(101)), BTreeSet::from([SegmentIndex(101)]));
        table.remove(9);
        assert!(table.deciding_segments(SegmentIndex(101)).is_empty());
    }
}
