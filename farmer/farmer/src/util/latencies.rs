//! Times of many events in little memory, for percentiles.

use std::time::Duration;

/// Steps between a number and its double: percentiles are exact to 1.6 %.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Up to 2^45 µs, a year.
const BUCKETS: usize = (40 * STEPS) as usize;

/// Counts times in microseconds, in buckets that grow with them.
#[derive(Debug, Clone)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    sum: Duration,
    longest: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, sum: Duration::ZERO, longest: Duration::ZERO }
    }
}

/// Small numbers have buckets of their own; behind them each doubling has [`STEPS`].
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let shift = micros.ilog2() - STEP_BITS;
    let bucket = u64::from(shift) * STEPS + (micros >> shift);
    (bucket as usize).min(BUCKETS - 1)
}

/// The largest number in a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    (((bucket % STEPS) + STEPS + 1) << shift) - 1
}

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
        self.sum += time;
        self.longest = self.longest.max(time);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Their mean; zero where there is none.
    pub fn mean(&self) -> Duration {
        if self.count == 0 { Duration::ZERO } else { self.sum.div_f64(self.count as f64) }
    }

    /// A time that so large a share of them does not exceed; zero where there is none.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_bound(bucket)).min(self.longest);
            }
        }
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_a_bucket_that_is_close() {
        let mut last = 0;
        for micros in (0..4096).chain((12..45).map(|bits| (1 << bits) + (1 << (bits - 3)) + 5)) {
            let bucket = bucket(micros);
            assert!(bucket >= last, "{micros}");
            last = bucket;
            let bound = upper_bound(bucket);
            assert!(bound >= micros && bound - micros <= micros / STEPS, "{micros}: {bound}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(0.5), Duration::ZERO);
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        for (share, millis) in [(0.5, 500), (0.99, 990), (0.001, 1), (1.0, 1000)] {
            let found = latencies.percentile(share);
            let expected = Duration::from_millis(millis);
            assert!(found >= expected && found <= expected.mul_f64(1.02), "{share}: {found:?}");
        }
        assert_eq!(latencies.longest(), Duration::from_secs(1));
        assert_eq!(latencies.mean(), Duration::from_micros(500_500));
        assert_eq!((latencies.count(), latencies.sum()), (1000, Duration::from_micros(500_500_000)));
    }
}
