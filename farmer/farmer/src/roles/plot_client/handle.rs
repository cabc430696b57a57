//! One farm while the plot-client runs: the farm itself, its plotting queue, the expiry of its sectors.

use super::expiry::ExpiryTable;
use super::metrics::Metrics;
use super::queue::PlotQueue;
use farming::plot::{Farm, FarmEvent};
use parking_lot::Mutex;
use primitives::{HistorySize, PublicKey, SectorIndex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
    /// Sectors whose proofs failed and why; the scrub looks at them first.
    suspects: Mutex<BTreeMap<SectorIndex, String>>,
    /// Told when there is a suspect.
    pub suspected: Notify,
    metrics: Metrics,
}

impl FarmHandle {
    /// Queues all sectors that are missing, and enters the expiry of the others.
    pub fn new(farm: Arc<Farm>, min_sector_lifetime: HistorySize, metrics: Metrics) -> Self {
        let mut queue = PlotQueue::default();
        for sector_index in farm.sectors_to_plot() {
            queue.push_missing(sector_index);
        }
        let mut expiry = ExpiryTable::new(min_sector_lifetime);
        for sector in farm.sectors().iter().flatten() {
            expiry.insert(sector.sector_index, sector.sector_id, sector.history_size);
        }
        Self {
            farm,
            queue: Mutex::new(queue),
            queued: Notify::new(),
            expiry: Mutex::new(expiry),
            auditing: AtomicBool::new(false),
            suspects: Mutex::default(),
            suspected: Notify::new(),
            metrics,
        }
    }

    /// The farm's public key.
    pub fn public_key(&self) -> PublicKey {
        self.farm.public_key()
    }

    /// Sectors that are plotted.
    pub fn plotted(&self) -> usize {
        self.farm.sectors().iter().flatten().count()
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
