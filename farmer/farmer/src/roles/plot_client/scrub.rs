//! Compares the checksums of plotted sectors, slowly, so that a flipped bit is found before it costs a solution.
//!
//! The first pass over a small farm goes at full speed; a large farm is read at a rate that its audits do not notice.
//! Sectors whose proofs failed come first.

use super::handle::FarmHandle;
use super::metrics::Metrics;
use crate::shutdown::Shutdown;
use primitives::{SectorGeometry, SectorIndex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes a second of a farm that are read after the first pass, or from the beginning of a large farm.
const BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;
/// A farm with at most so many plotted bytes is scrubbed at full speed once at the start.
const SMALL_FARM: u64 = 4 * 1024 * 1024 * 1024;
/// From the beginning of one pass to the next, at least.
const PASS_MIN: Duration = Duration::from_secs(3600);

/// Scrubs one farm until the shutdown.
pub async fn run(handle: Arc<FarmHandle>, metrics: Metrics, shutdown: Shutdown) {
    let scrub = Scrub { handle, metrics, cancel: Arc::default() };
    shutdown.unless_triggered(scrub.passes()).await;
}

struct Scrub {
    handle: Arc<FarmHandle>,
    metrics: Metrics,
    cancel: Arc<AtomicBool>,
}

impl Drop for Scrub {
    /// Ends a reading that is under way.
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

impl Scrub {
    async fn passes(&self) {
        let geometry = self.handle.farm.geometry();
        let sector_size = SectorGeometry::new(geometry.pieces_in_sector).sector_size() as u64;
        let slow = Duration::from_secs_f64(sector_size as f64 / BYTES_PER_SECOND as f64);
        let plotted = self.handle.plotted() as u64;
        let mut pause = if plotted * sector_size <= SMALL_FARM { Duration::ZERO } else { slow };
        loop {
            let started = Instant::now();
            for sector_index in 0..geometry.sectors {
                if self.handle.farm.sectors()[usize::from(sector_index)].is_none() {
                    continue;
                }
                self.scrub(sector_index, None).await;
                self.wait_until(Instant::now() + pause).await;
            }
            pause = slow;
            self.wait_until(started + PASS_MIN).await;
        }
    }

    /// Waits, and looks at suspects meanwhile.
    async fn wait_until(&self, until: Instant) {
        loop {
            while let Some((sector_index, reason)) = self.handle.take_suspect() {
                self.scrub(sector_index, Some(reason)).await;
            }
            if tokio::time::timeout_at(until.into(), self.handle.suspected.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Scrubs a sector. One that proofs failed with is lost even if its checksum is right: then it was made badly.
    async fn scrub(&self, sector_index: SectorIndex, suspicion: Option<String>) {
        let (farm, cancel) = (Arc::clone(&self.handle.farm), Arc::clone(&self.cancel));
        let scrubbing = tokio::task::spawn_blocking(move || {
            let found = farm.scrub_sector(sector_index, &cancel)?;
            let sound = found.is_none() && farm.sectors()[usize::from(sector_index)].is_some();
            match suspicion {
                Some(reason) if sound => farm.reject_sector(sector_index, reason).map(Some),
                _ => Ok(found),
            }
        });
        self.metrics.sectors_scrubbed.inc();
        match scrubbing.await {
            Ok(Ok(Some(event))) => self.handle.lost(&event),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::error!(sector_index, "Scrub: {error}"),
            Err(error) => tracing::error!(sector_index, %error, "A scrub failed"),
        }
    }
}
