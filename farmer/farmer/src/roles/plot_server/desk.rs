//! The desk of a plot-server: what plot-clients may ask of it, over NATS or TCP, and what its workers report.

use super::leases::{Answer, Failure, LeaseTable, Phase, SectorRequest};
use super::metrics::Metrics;
use super::spool::{Spool, SpooledSector};
use cluster::contract::LeaseKey;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Work on one sector: how far it is, and how to stop it.
#[derive(Debug, Default)]
pub struct Work {
    /// Stops the download.
    pub cancelled: CancellationToken,
    /// Stops the encoding, before its next record.
    pub stop_encoding: AtomicBool,
    /// Pieces fetched, counted by offset.
    pub pieces: AtomicU16,
    /// Records encoded.
    pub records: AtomicU16,
}

impl Work {
    /// Stops it.
    pub fn stop(&self) {
        self.stop_encoding.store(true, Ordering::Relaxed);
        self.cancelled.cancel();
    }
}

/// How far a lease is, for its plot-client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Identity of the lease.
    pub id: ulid::Ulid,
    /// The sector.
    pub request: SectorRequest,
    /// Its phase.
    pub phase: Phase,
    /// Pieces fetched or records encoded, by phase.
    pub done: u16,
}

/// Answer to a plot-client that wants a sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It is being made, or lies there already.
    Leased(Report),
    /// No room; the farm's turn is kept.
    Busy {
        /// Farms whose turn comes first.
        waiting_before: usize,
    },
    /// The sector is leased with other parameters.
    Conflict,
}

struct Inner {
    leases: LeaseTable,
    work: HashMap<LeaseKey, Arc<Work>>,
    finished: HashMap<LeaseKey, Arc<SpooledSector>>,
}

impl Inner {
    fn report(&self, lease: super::leases::Lease) -> Report {
        let work = self.work.get(&lease.request.key);
        let done = work.map_or(0, |work| match lease.phase {
            Phase::Downloading => work.pieces.load(Ordering::Relaxed),
            Phase::Encoding => work.records.load(Ordering::Relaxed),
            Phase::Queued | Phase::Spooled | Phase::Failed(_) => 0,
        });
        Report { id: lease.id, request: lease.request, phase: lease.phase, done }
    }
}

/// The desk.
pub struct Desk {
    inner: Mutex<Inner>,
    spool: Spool,
    metrics: Metrics,
    changed: Notify,
}

impl Desk {
    /// Opens the desk of a spool with what an earlier process left finished in it.
    pub fn new(
        spool: Spool,
        recovered: Vec<Arc<SpooledSector>>,
        spool_sectors: usize,
        metrics: Metrics,
    ) -> Self {
        let mut leases = LeaseTable::new(spool_sectors);
        let now = Instant::now();
        let finished = recovered.into_iter().map(|sector| {
            leases.restore(sector.header.request, now);
            (sector.header.request.key, sector)
        });
        let finished: HashMap<_, _> = finished.collect();
        metrics.spool_sectors.set(finished.len() as i64);
        let inner = Inner { leases, work: HashMap::new(), finished };
        Self { inner: Mutex::new(inner), spool, metrics, changed: Notify::new() }
    }

    /// The spool.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Completes when something changed that a worker may wait for.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Answers a plot-client that wants a sector.
    pub fn offer(&self, request: SectorRequest) -> Offer {
        let mut inner = self.inner.lock();
        for lease in inner.leases.supersede(&request.key) {
            tracing::info!(sector = ?lease.request.key, "Dropped: wanted at another history size now");
            self.discard(&mut inner, &lease.request.key);
        }
        match inner.leases.offer(request, Instant::now()) {
            Answer::Granted(lease) => {
                if lease.phase == Phase::Queued {
                    self.changed.notify_waiters();
                }
                Offer::Leased(inner.report(lease))
            }
            Answer::Busy { waiting_before } => Offer::Busy { waiting_before },
            Answer::Conflict => Offer::Conflict,
        }
    }

    /// Renews a lease and tells how far it is.
    pub fn progress(&self, key: &LeaseKey) -> Option<Report> {
        let mut inner = self.inner.lock();
        let lease = inner.leases.renew(key, Instant::now())?;
        Some(inner.report(lease))
    }

    /// All leases of a farm.
    pub fn list(&self, public_key: &primitives::PublicKey) -> Vec<Report> {
        let inner = self.inner.lock();
        let leases = inner.leases.iter().filter(|lease| lease.request.key.public_key == *public_key);
        leases.map(|lease| inner.report(lease.clone())).collect()
    }

    /// A finished sector, to be sent; renews its lease.
    pub fn finished(&self, key: &LeaseKey) -> Option<Arc<SpooledSector>> {
        let mut inner = self.inner.lock();
        inner.leases.renew(key, Instant::now());
        inner.finished.get(key).cloned()
    }

    /// Gives a sector up, whatever its phase; whether it was known.
    pub fn cancel(&self, key: &LeaseKey) -> bool {
        let mut inner = self.inner.lock();
        inner.leases.give_up_turn(&key.public_key);
        let known = inner.leases.remove(key).is_some();
        self.discard(&mut inner, key);
        known
    }

    /// The plot-client has stored a sector: it may go.
    pub fn acknowledge(&self, key: &LeaseKey) -> bool {
        let mut inner = self.inner.lock();
        let known = inner.leases.remove(key).is_some();
        if known {
            self.metrics.sectors_delivered.inc();
        }
        self.discard(&mut inner, key);
        known
    }

    /// Stops work on a sector whose lease is gone, and removes it from the spool.
    fn discard(&self, inner: &mut Inner, key: &LeaseKey) {
        if let Some(work) = inner.work.remove(key) {
            work.stop();
        }
        if inner.finished.remove(key).is_some() {
            self.spool.remove(key);
        }
        self.metrics.spool_sectors.set(inner.finished.len() as i64);
        self.changed.notify_waiters();
    }

    /// Gives up what nobody asks for any more.
    pub fn expire(&self) {
        let mut inner = self.inner.lock();
        for lease in inner.leases.expire(Instant::now()) {
            tracing::info!(lease = %lease.id, phase = ?lease.phase, "Dropped: nobody asks for it any more");
            self.discard(&mut inner, &lease.request.key);
        }
    }

    /// The next sector to be made, if one waits.
    pub fn start_download(&self) -> Option<(SectorRequest, Arc<Work>)> {
        let mut inner = self.inner.lock();
        let request = inner.leases.start_download()?;
        let work = Arc::new(Work::default());
        inner.work.insert(request.key, Arc::clone(&work));
        Some((request, work))
    }

    /// Marks a sector as encoding, when the spool has room; none when its lease is gone.
    pub fn start_encoding(&self, key: &LeaseKey) -> Option<bool> {
        self.inner.lock().leases.start_encoding(key)
    }

    /// Enters a finished sector; one whose lease is gone is removed.
    pub fn finish(&self, sector: Arc<SpooledSector>) {
        let key = sector.header.request.key;
        let mut inner = self.inner.lock();
        inner.work.remove(&key);
        if inner.leases.finish(&key, Instant::now()) {
            inner.finished.insert(key, sector);
            self.metrics.sectors_encoded.inc();
            self.metrics.spool_sectors.set(inner.finished.len() as i64);
        } else {
            self.spool.remove(&key);
        }
        self.changed.notify_waiters();
    }

    /// A sector could not be made.
    pub fn fail(&self, key: &LeaseKey, failure: Failure) {
        let mut inner = self.inner.lock();
        inner.work.remove(key);
        inner.leases.fail(key, failure);
        self.metrics.sectors_failed.inc();
        self.changed.notify_waiters();
    }

    /// Stops all work, for the shutdown.
    pub fn stop(&self) {
        self.inner.lock().work.values().for_each(|work| work.stop());
    }
}
