//! Seconds of CPU and of the wall clock.

use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

/// What some work cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    /// CPU seconds of the whole process: user and system, all threads, also those that have ended. The sum that
    /// getrusage(RUSAGE_SELF) gives, in nanoseconds.
    pub(crate) cpu_s: f64,
    /// Seconds from beginning to end.
    pub(crate) wall_s: f64,
}

impl Cost {
    /// The cost of one of `count` equal parts.
    pub(crate) fn divided_by(self, count: usize) -> Self {
        Self { cpu_s: self.cpu_s / count as f64, wall_s: self.wall_s / count as f64 }
    }
}

/// CPU seconds of this process so far.
pub(crate) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Does the work; says what it cost.
pub(crate) fn cost<T>(work: impl FnOnce() -> T) -> (Cost, T) {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let result = work();
    (Cost { cpu_s: cpu_seconds() - cpu, wall_s: wall.elapsed().as_secs_f64() }, result)
}

/// The median of CPU seconds and that of wall seconds.
///
/// # Panics
/// Without any costs.
pub(crate) fn median(costs: &[Cost]) -> Cost {
    let of = |part: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(part).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
    };
    Cost { cpu_s: of(|cost| cost.cpu_s), wall_s: of(|cost| cost.wall_s) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_apart() {
        let cost = |cpu_s, wall_s| Cost { cpu_s, wall_s };
        assert_eq!(median(&[cost(3.0, 1.0), cost(1.0, 9.0), cost(2.0, 4.0)]), cost(2.0, 4.0));
        assert_eq!(median(&[cost(1.0, 8.0), cost(4.0, 2.0)]), cost(2.5, 5.0));
    }

    #[test]
    fn time_of_other_threads_counts() {
        let work = || (0..3_000_000u64).fold(1, |x: u64, i| std::hint::black_box(x ^ (x << 7) ^ i));
        let (cost, _) = cost(|| std::thread::scope(|scope| scope.spawn(work).join()));
        assert!(cost.cpu_s > 0.0 && cost.wall_s > 0.0);
    }
}
