//! Asking a second source when the first is late: when that is, and how often it may be.

use crate::status::Status;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use std::time::Duration;

/// Pieces that may be hedged for each that is asked for.
const SHARE: f64 = 0.1;
/// Most pieces that may be hedged at once: what three requests to a cache ask for.
const BURST: f64 = 48.0;
/// Nothing is late before.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
/// Everything is late after.
const PATIENCE_MAX: Duration = Duration::from_secs(8);
/// When something is late of which it is not known how long it takes.
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(3);

/// What is counted of the fetching of pieces.
#[derive(Debug, Clone, Default)]
pub struct FetchMetrics {
    /// Pieces asked of a second source because the first was late.
    pub hedged: Counter,
    /// Pieces that came from the second source first.
    pub hedges_won: Counter,
    /// Pieces that were fetched for another sector at the same time.
    pub shared: Counter,
}

impl FetchMetrics {
    /// Registers them.
    pub fn new(status: &Status) -> Self {
        Self {
            hedged: status
                .counter("pieces_hedged", "Pieces asked of a second source because the first was late"),
            hedges_won: status
                .counter("pieces_hedges_won", "Pieces that came from the second source before the first"),
            shared: status
                .counter("pieces_shared", "Pieces fetched once for several sectors at the same time"),
        }
    }
}

/// How much may be hedged now: a share of all that is asked for, so that a slow network is not made slower.
pub struct Hedging {
    left: Mutex<f64>,
    metrics: FetchMetrics,
}

impl Hedging {
    /// A full allowance.
    pub fn new(metrics: FetchMetrics) -> Self {
        Self { left: Mutex::new(BURST), metrics }
    }

    /// Notes that pieces are asked for in the ordinary way.
    pub(super) fn asked(&self, pieces: usize) {
        let mut left = self.left.lock();
        *left = (*left + SHARE * pieces as f64).min(BURST);
    }

    /// How many of `pieces` may be hedged; these are counted.
    pub(super) fn grant(&self, pieces: usize) -> usize {
        let mut left = self.left.lock();
        let granted = pieces.min(*left as usize);
        *left -= granted as f64;
        self.metrics.hedged.inc_by(granted as u64);
        granted
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &FetchMetrics {
        &self.metrics
    }
}

/// How long a cache usually takes for a piece: smoothed mean and deviation, as TCP smooths round trips.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usual {
    seconds: Option<(f64, f64)>,
}

impl Usual {
    /// Learns from a request for so many pieces.
    pub(super) fn observe(&mut self, took: Duration, pieces: usize) {
        let each = took.as_secs_f64() / pieces.max(1) as f64;
        self.seconds = Some(match self.seconds {
            None => (each, each / 2.0),
            Some((mean, deviation)) => {
                (mean + (each - mean) / 8.0, deviation + ((each - mean).abs() - deviation) / 4.0)
            }
        });
    }

    /// When a request for so many pieces is late.
    pub(super) fn patience(&self, pieces: usize) -> Duration {
        let Some((mean, deviation)) = self.seconds else { return PATIENCE_UNKNOWN };
        let seconds = (mean + 4.0 * deviation) * pieces as f64;
        Duration::from_secs_f64(seconds.clamp(PATIENCE_MIN.as_secs_f64(), PATIENCE_MAX.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_is_hedged() {
        let hedging = Hedging::new(FetchMetrics::default());
        assert_eq!([hedging.grant(40), hedging.grant(40), hedging.grant(40)], [40, 8, 0]);
        hedging.asked(100);
        assert_eq!([hedging.grant(40), hedging.grant(1)], [10, 0]);
        hedging.asked(1_000_000);
        assert_eq!(hedging.grant(100_000), BURST as usize);
        assert_eq!(hedging.metrics().hedged.get(), 106);
    }

    #[test]
    fn patience_follows_what_is_usual_between_its_bounds() {
        let mut usual = Usual::default();
        assert_eq!(usual.patience(16), PATIENCE_UNKNOWN);
        let second = Duration::from_secs(1);
        (0..50).for_each(|_| usual.observe(second, 16));
        let steady = usual.patience(16);
        assert!(steady >= second && steady < second * 11 / 10, "{steady:?}");
        assert_eq!(usual.patience(1), PATIENCE_MIN);
        usual.observe(second * 3, 16);
        assert!(usual.patience(16) > second * 3, "{:?}", usual.patience(16));
        (0..50).for_each(|_| usual.observe(second * 60, 16));
        assert_eq!(usual.patience(16), PATIENCE_MAX);
    }
}
