//! One farm while the plot-client runs: the farm itself, its plotting queue, the expiry of its sectors.

use super::expiry::ExpiryTable;
use super::metrics::Metrics;
use super::pace::Pace;
use super::queue::PlotQueue;
use crate::roles::Error;
use farming::plot::{Farm, FarmEvent};
use parking_lot::Mutex;
use primitives::{HistorySize, PublicKey, SectorIndex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use tokio::sync::Notify;

/// A farm at work.
pub struct FarmHandle {
    /// The farm.
    pub farm: Arc<Farm>,
    /// What is to be plotted.
    pub queue: Mutex<PlotQueue>,
    /// Told whenever the queue has grown.
    pub queued: Notify,
    /// When sectors expire.
    pub expiry: Mutex<ExpiryTable>,
    /// Whether an audit is running.
    pub auditing: AtomicBool,
    /// Threads of the audits: its own, so that a slow disk takes no other farm's.
    pub audits: rayon::ThreadPool,
    pace: Mutex<Pace>,
    /// Sectors whose proofs failed and why; the scrub looks at them first.
    suspects: Mutex<BTreeMap<SectorIndex, String>>,
    /// Told when there is a suspect.
    pub suspected: Notify,
    metrics: Metrics,
}

impl FarmHandle {
    /// Queues all sectors that are missing, and enters the expiry of the others.
    ///
    /// # Errors
    /// When the `threads` of its audits cannot be started.
    pub fn new(
        farm: Arc<Farm>,
        threads: usize,
        min_sector_lifetime: HistorySize,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let audits = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("audit-{index}"))
            .build()
            .map_err(|error| Error::Internal(format!("the threads of the audits do not start: {error}")))?;
        let mut queue = PlotQueue::default();
        for sector_index in farm.sectors_to_plot() {
            queue.push_missing(sector_index);
        }
        let mut expiry = ExpiryTable::new(min_sector_lifetime);
        for sector in farm.sectors().iter().flatten() {
            expiry.insert(sector.sector_index, sector.sector_id, sector.history_size);
        }
        Ok(Self {
            farm,
            queue: Mutex::new(queue),
            queued: Notify::new(),
            expiry: Mutex::new(expiry),
            auditing: AtomicBool::new(false),
            audits,
            pace: Mutex::new(Pace::new(Instant::now())),
            suspects: Mutex::default(),
            suspected: Notify::new(),
            metrics,
        })
    }

    /// The farm's public key.
    pub fn public_key(&self) -> PublicKey {
        self.farm.public_key()
    }

    /// Sectors that are plotted.
    pub fn plotted(&self) -> usize {
        self.farm.sectors().iter().flatten().count()
    }

    /// A slot came while the farm was still at an earlier one.
    pub fn skipped(&self) {
        self.metrics.slots_skipped.inc(&self.farm.id().to_string());
        let mut pace = self.pace.lock();
        pace.skip();
        self.name_if_slow(&mut pace);
    }

    /// A slot was answered with `reached` sectors, the others were `left_out` for want of time.
    pub fn audited(&self, reached: usize, left_out: usize) {
        if left_out > 0 {
            self.metrics.sectors_left_out.inc_by(&self.farm.id().to_string(), left_out as u64);
        }
        let mut pace = self.pace.lock();
        pace.answer((reached + left_out) as u64, reached as u64);
        self.name_if_slow(&mut pace);
    }

    fn name_if_slow(&self, pace: &mut Pace) {
        if let Some(shortfall) = pace.report(Instant::now()) {
            let directory = self.farm.directory().display();
            tracing::warn!(farm = %self.farm.id(), %directory, "This farm is too slow: {shortfall}; see what else uses its disk, or whether the disk fails");
        }
    }

    /// A sector has been found damaged and is a dummy now: it is plotted anew.
    pub fn lost(&self, event: &FarmEvent) {
        if let FarmEvent::SectorLost { sector_index, .. } = event {
            self.metrics.sectors_lost.inc();
            self.expiry.lock().remove(*sector_index);
            self.queue.lock().push_missing(*sector_index);
            self.queued.notify_one();
        }
    }

    /// A proof with this sector failed although the plot should allow it.
    pub fn suspect(&self, sector_index: SectorIndex, reason: String) {
        self.suspects.lock().insert(sector_index, reason);
        self.suspected.notify_one();
    }

    /// Takes a suspect.
    pub fn take_suspect(&self) -> Option<(SectorIndex, String)> {
        self.suspects.lock().pop_first()
    }
}
