//! Looks after each new segment which sectors are about to expire, and queues them.

use super::chain::ChainFeed;
use super::handle::FarmHandle;
use primitives::SegmentIndex;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked for sectors that were stored since.
const RECHECK: Duration = Duration::from_secs(60);
/// Wait before a controller is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// Checks all farms at the start and after each new segment, after a random delay of up to `delay_max`; never ends.
///
/// Many farms of a network replot at the same segments: the delay keeps them from asking for the same pieces at once.
pub async fn run(chain: Arc<ChainFeed>, handles: Vec<Arc<FarmHandle>>, delay_max: Duration) {
    let mut newest = chain.newest();
    let mut checked = *newest.borrow_and_update();
    check_until_done(&chain, &handles, checked).await;
    loop {
        // A sector stored late may depend on a segment that has been there for long.
        if let Ok(changed) = tokio::time::timeout(RECHECK, newest.changed()).await {
            if changed.is_err() {
                return;
            }
            tokio::time::sleep(random_delay(delay_max)).await;
            checked = checked.max(*newest.borrow_and_update());
        }
        check_until_done(&chain, &handles, checked).await;
    }
}

/// Between a tenth of `max` and all of it.
fn random_delay(max: Duration) -> Duration {
    max.mul_f64(0.1 + 0.9 * rand::random::<f64>())
}

async fn check_until_done(chain: &ChainFeed, handles: &[Arc<FarmHandle>], newest: SegmentIndex) {
    for handle in handles {
        while let Err(error) = check(chain, handle, newest).await {
            tracing::debug!("No controller tells segment headers: {error}");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Decides what can be decided and queues what is due.
async fn check(
    chain: &ChainFeed,
    handle: &FarmHandle,
    newest: SegmentIndex,
) -> Result<(), cluster::ClientError> {
    let deciding = handle.expiry.lock().deciding_segments(newest);
    let commitments = chain.commitments(&deciding).await?;
    let due = {
        let mut expiry = handle.expiry.lock();
        for (segment, commitment) in commitments {
            expiry.decide(segment, commitment);
        }
        expiry.due(newest)
    };
    let mut queue = handle.queue.lock();
    for (sector_index, at) in due {
        if queue.push_replot(sector_index, at) {
            tracing::info!(farm = %handle.farm.id(), sector_index, expires_with_segment = %at, "Sector is to be replotted");
            handle.queued.notify_one();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_lie_between_a_tenth_and_all() {
        let max = Duration::from_secs(600);
        for _ in 0..1000 {
            let delay = random_delay(max);
            assert!(delay >= max / 10 && delay <= max, "{delay:?}");
        }
        assert_eq!(random_delay(Duration::ZERO), Duration::ZERO);
    }
}
