//! Whether a farm's disk keeps up with the slots: pure, without clock.

use std::fmt;
use std::time::{Duration, Instant};

/// How often a farm that does not keep up is named in the log.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What of some time's slots a farm was too slow for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Slots that came.
    pub slots: u64,
    /// Of those, slots during which the farm was still at an earlier one.
    pub skipped: u64,
    /// Sectors that the other slots asked for.
    pub sectors: u64,
    /// Of those, sectors that were audited in time.
    pub reached: u64,
}

impl Shortfall {
    /// Share of what the slots asked for that was audited, in percent, rounded down: a farm earns this share of what its
    /// size promises.
    pub fn percent(&self) -> u64 {
        let answered = self.slots - self.skipped;
        let of_slots = (100 * answered).checked_div(self.slots).unwrap_or(100);
        (of_slots * self.reached).checked_div(self.sectors).unwrap_or(of_slots)
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slots, skipped, sectors, reached } = self;
        let percent = self.percent();
        write!(
            formatter,
            "{skipped} of {slots} slots skipped, {reached} of {sectors} sectors reached in the others: it earns {percent} % \
             of what it could"
        )
    }
}

/// Counts slots and sectors from one report to the next.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    counted: Shortfall,
}

impl Pace {
    /// Counts from `now` on.
    pub fn new(now: Instant) -> Self {
        Self { since: now, counted: Shortfall::default() }
    }

    /// A slot came while the farm was still at an earlier one.
    pub fn skip(&mut self) {
        self.counted.slots += 1;
        self.counted.skipped += 1;
    }

    /// A slot was answered: `reached` of `sectors` sectors were audited in time.
    pub fn answer(&mut self, sectors: u64, reached: u64) {
        self.counted.slots += 1;
        self.counted.sectors += sectors;
        self.counted.reached += reached;
    }

    /// After each [`REPORT_INTERVAL`] what the farm was too slow for, if it was.
    pub fn report(&mut self, now: Instant) -> Option<Shortfall> {
        if now.duration_since(self.since) < REPORT_INTERVAL {
            return None;
        }
        let counted = std::mem::replace(self, Self::new(now)).counted;
        (counted.skipped > 0 || counted.reached < counted.sectors).then_some(counted)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_farm_that_keeps_up_is_not_named() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..60 {
            pace.answer(1000, 1000);
        }
        assert_eq!(pace.report(start + REPORT_INTERVAL), None);
    }

    #[test]
    fn a_slow_farm_is_named_once_an_interval_with_its_share() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..15 {
            pace.answer(1000, 600);
            (0..3).for_each(|_| pace.skip());
        }
        assert_eq!(pace.report(start + REPORT_INTERVAL / 2), None, "not yet");
        let shortfall = pace.report(start + REPORT_INTERVAL).unwrap();
        assert_eq!(shortfall, Shortfall { slots: 60, skipped: 45, sectors: 15_000, reached: 9_000 });
        assert_eq!(shortfall.percent(), 15);
        assert!(shortfall.to_string().contains("45 of 60 slots skipped"), "{shortfall}");
        assert_eq!(pace.report(start + REPORT_INTERVAL * 2), None, "a new interval is a new count");
    }

    #[test]
    fn a_farm_that_answers_nothing_earns_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        (0..60).for_each(|_| pace.skip());
        assert_eq!(pace.report(start + REPORT_INTERVAL).unwrap().percent(), 0);
        assert_eq!(Shortfall::default().percent(), 100);
    }
}
