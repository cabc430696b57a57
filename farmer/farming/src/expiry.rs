//! When sectors expire and which to plot anew (farming §2, §4). Pure: the caller knows the segments and the clock.

use primitives::{HistorySize, SectorId, SectorIndex, SegmentCommitment, SegmentIndex};

/// When a sector expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// With this segment.
    At(SegmentIndex),
    /// Not decided before this segment exists; the sector cannot expire until then.
    Undecided {
        /// The segment whose commitment decides.
        needs: SegmentIndex,
    },
    /// Its expiry does not fit a history size: it has none.
    Never,
}

/// Where a sector stands between plotting and expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryStatus {
    /// Farms on.
    Fresh,
    /// Expires with the next segment: time to plot it anew.
    AboutToExpire,
    /// Its solutions are refused.
    Expired,
}

/// The segment whose commitment decides when a sector plotted at `history_size` expires; none on overflow.
pub fn deciding_segment(history_size: HistorySize, min_sector_lifetime: HistorySize) -> Option<SegmentIndex> {
    Some(history_size.sector_expiration_check(min_sector_lifetime)?.segment_index())
}

/// When a sector expires, given the commitments of the segments that exist.
pub fn sector_expiry(
    sector_id: &SectorId,
    history_size: HistorySize,
    min_sector_lifetime: HistorySize,
    segment_commitment: impl FnOnce(SegmentIndex) -> Option<SegmentCommitment>,
) -> Expiry {
    let Some(needs) = deciding_segment(history_size, min_sector_lifetime) else { return Expiry::Never };
    let Some(commitment) = segment_commitment(needs) else { return Expiry::Undecided { needs } };
    match sector_id.derive_expiration_history_size(history_size, &commitment, min_sector_lifetime) {
        Some(expires_at) => Expiry::At(expires_at.segment_index()),
        None => Expiry::Never,
    }
}

impl Expiry {
    /// Where the sector stands when `newest_segment` is the newest.
    pub fn status(self, newest_segment: SegmentIndex) -> ExpiryStatus {
        match self {
            Self::At(expires_at) if expires_at <= newest_segment => ExpiryStatus::Expired,
            Self::At(expires_at) if expires_at.0 <= newest_segment.0.saturating_add(1) => {
                ExpiryStatus::AboutToExpire
            }
            Self::At(_) | Self::Undecided { .. } | Self::Never => ExpiryStatus::Fresh,
        }
    }
}

/// The sectors to be plotted anew when `newest_segment` is the newest: expired or about to, the earliest expiry first.
pub fn sectors_to_replot(
    sectors: impl IntoIterator<Item = (SectorIndex, Expiry)>,
    newest_segment: SegmentIndex,
) -> Vec<(SectorIndex, SegmentIndex)> {
    let mut due: Vec<_> = sectors
        .into_iter()
        .filter(|(_, expiry)| expiry.status(newest_segment) != ExpiryStatus::Fresh)
        .filter_map(|(sector_index, expiry)| match expiry {
            Expiry::At(expires_at) => Some((sector_index, expires_at)),
            Expiry::Undecided { .. } | Expiry::Never => None,
        })
        .collect();
    due.sort_by_key(|&(sector_index, expires_at)| (expires_at, sector_index));
    due
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn size(segments: u64) -> HistorySize {
        HistorySize::new(segments).unwrap()
    }

    #[test]
    fn undecided_until_the_segment_exists() {
        let id = SectorId([5; 32]);
        let commitment = SegmentCommitment([1; 48]);
        let asked = std::cell::Cell::new(None);
        let expiry = sector_expiry(&id, size(10), size(4), |segment| {
            asked.set(Some(segment));
            None
        });
        assert_eq!(expiry, Expiry::Undecided { needs: SegmentIndex(13) });
        assert_eq!(asked.get(), Some(SegmentIndex(13)));
        assert_eq!(expiry.status(SegmentIndex(u64::MAX)), ExpiryStatus::Fresh);
        let Expiry::At(at) = sector_expiry(&id, size(10), size(4), |_| Some(commitment)) else {
            panic!("decided");
        };
        // Between the deciding history size 14 and 4 + 4·10.
        assert!((13..43).contains(&at.0), "{at}");
        let expected = id.derive_expiration_history_size(size(10), &commitment, size(4)).unwrap();
        assert_eq!(HistorySize::from(at), expected);
    }

    #[test]
    fn overflow_never_expires() {
        let id = SectorId([5; 32]);
        let commitment = |_| Some(SegmentCommitment([1; 48]));
        assert_eq!(sector_expiry(&id, size(u64::MAX), size(1), commitment), Expiry::Never);
        assert_eq!(sector_expiry(&id, size(u64::MAX / 2), size(1), commitment), Expiry::Never);
        assert_eq!(deciding_segment(size(u64::MAX), size(1)), None);
        assert_eq!(deciding_segment(size(1), size(1)), Some(SegmentIndex(1)));
    }

    #[test]
    fn lifetime_one_expires_within_three_segments() {
        // The shortest life: decided at history size 2, expiry 2, 3 or 4.
        for byte in 0..50 {
            let id = SectorId([byte; 32]);
            let expiry = sector_expiry(&id, size(1), size(1), |_| Some(SegmentCommitment([byte; 48])));
            let Expiry::At(at) = expiry else { panic!("decided") };
            assert!((1..=3).contains(&at.0));
        }
    }

    #[test]
    fn status_turns_one_segment_before_expiry() {
        let expiry = Expiry::At(SegmentIndex(7));
        assert_eq!(expiry.status(SegmentIndex(5)), ExpiryStatus::Fresh);
        assert_eq!(expiry.status(SegmentIndex(6)), ExpiryStatus::AboutToExpire);
        assert_eq!(expiry.status(SegmentIndex(7)), ExpiryStatus::Expired);
        assert_eq!(
            Expiry::At(SegmentIndex(u64::MAX)).status(SegmentIndex(u64::MAX - 1)),
            ExpiryStatus::AboutToExpire
        );
        assert_eq!(Expiry::Never.status(SegmentIndex(u64::MAX)), ExpiryStatus::Fresh);
    }

    #[test]
    fn replotting_takes_the_earliest_expiry_first() {
        let sectors = [
            (0, Expiry::At(SegmentIndex(9))),
            (1, Expiry::At(SegmentIndex(6))),
            (2, Expiry::Undecided { needs: SegmentIndex(3) }),
            (3, Expiry::At(SegmentIndex(4))),
            (4, Expiry::At(SegmentIndex(6))),
            (5, Expiry::Never),
            (6, Expiry::At(SegmentIndex(7))),
        ];
        let due = sectors_to_replot(sectors, SegmentIndex(5));
        assert_eq!(due, [(3, SegmentIndex(4)), (1, SegmentIndex(6)), (4, SegmentIndex(6))]);
    }
}
