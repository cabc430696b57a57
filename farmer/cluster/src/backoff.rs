//! Waiting longer after each failure.

use std::time::Duration;

/// Doubling waits with a jitter of a quarter, up to a limit.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins with `first`, never waits longer than `limit`.
    pub const fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// What to wait now.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.limit);
        // Peers that failed together do not come back together.
        delay.mul_f64(0.75 + 0.25 * rand::random::<f64>())
    }

    /// Waits.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}
