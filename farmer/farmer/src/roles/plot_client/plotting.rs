//! Has sectors plotted: finds a plot-server, fetches what it makes, stores it, says so.

use super::chain::ChainFeed;
use super::handle::FarmHandle;
use super::metrics::Metrics;
use super::queue::{Job, Reason};
use super::store::{SectorStore, StoreError};
use cluster::contract::InstanceId;
use cluster::contract::{
    CancelRequest, FarmId, IdentifyRequest, Lease, LeaseKey, OfferReply, OfferRequest, PlotProgress, Role,
    SpoolRequest,
};
use cluster::transfer::{Connection, Credentials, SectorFetch, TransferError};
use cluster::{Backoff, ClusterClient};
use parking_lot::Mutex;
use primitives::{FarmerProtocolInfo, HistorySize, PublicKey, SectorIndex};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often a farm looks at its queue, should it miss a notification.
const POLL: Duration = Duration::from_secs(1);
/// Waits while there is no plot-server.
const NO_SERVER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Waits after a sector failed.
const FAILED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// Waits of a farm whose disk does not take sectors.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// Waits between attempts to reach a plot-server that has a sector of ours.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A plot-server that cannot be reached for so long is given up.
const SERVER_LOST: Duration = Duration::from_secs(60);
/// Bounds of what a busy server may say about asking again.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long plot-servers are waited for that tell what they have in their spools.
const IDENTIFY_WINDOW: Duration = Duration::from_millis(500);
/// How often the absence of plot-servers is said again.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Why an attempt to plot a sector ended.
#[derive(Debug)]
enum Trouble {
    /// The plot-server went away or forgot the sector.
    Lost(String),
    /// The plot-server could not make it.
    Failed(String),
    /// What it made is not sound.
    Unsound(String),
    /// The farm's disk does not take it.
    Disk(String),
}

/// What an attempt leaves to the next one: whom to ask first, and for which history size.
#[derive(Debug, Clone, Copy)]
struct Known {
    info: FarmerProtocolInfo,
    server: Option<InstanceId>,
}

/// A sector in flight; dropped without [`Self::stored`] it takes its place in the queue again.
struct InFlight {
    handle: Arc<FarmHandle>,
    job: Job,
    stored: bool,
}

impl InFlight {
    fn stored(mut self) {
        self.stored = true;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut queue = self.handle.queue.lock();
        if self.stored {
            queue.stored(self.job.sector_index);
        } else {
            queue.give_back(self.job.sector_index);
        }
        self.handle.queued.notify_one();
    }
}

/// Has the sectors of all farms plotted.
pub struct Plotter {
    client: ClusterClient,
    credentials: Credentials,
    instance: InstanceId,
    chain: Arc<ChainFeed>,
    metrics: Metrics,
    /// Sectors that were found in spools at the start.
    spooled: Mutex<HashMap<(PublicKey, SectorIndex), (InstanceId, HistorySize)>>,
    said: Mutex<Option<Instant>>,
}

impl Plotter {
    /// A plotter for the farms of this instance.
    pub fn new(
        client: ClusterClient,
        credentials: Credentials,
        instance: InstanceId,
        chain: Arc<ChainFeed>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            credentials,
            instance,
            chain,
            metrics,
            spooled: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// Asks all plot-servers what they have for these farms: it was made before this process began.
    pub async fn find_spooled(&self, handles: &[Arc<FarmHandle>]) {
        let request = IdentifyRequest { role: Some(Role::PlotServer) };
        let Ok(servers) = self.client.scatter(&request, IDENTIFY_WINDOW).await else { return };
        for server in servers {
            for handle in handles {
                let request = SpoolRequest { public_key: handle.public_key() };
                let Ok(sectors) = self.client.request_instance(server.instance, &request).await else {
                    break;
                };
                for sector in sectors {
                    let usable = !matches!(sector.progress, PlotProgress::Failed { .. })
                        && sector.key.public_key == handle.public_key()
                        && sector.pieces_in_sector == handle.farm.geometry().pieces_in_sector;
                    if usable {
                        let LeaseKey { public_key, sector_index, history_size } = sector.key;
                        tracing::info!(sector_index, server = %server.instance, "A plot-server has a sector for us");
                        self.spooled
                            .lock()
                            .insert((public_key, sector_index), (server.instance, history_size));
                    }
                }
            }
        }
    }

    /// Plots a farm's sectors; never ends.
    pub async fn run(self: Arc<Self>, handle: Arc<FarmHandle>) {
        let mut jobs = JoinSet::new();
        loop {
            while jobs.try_join_next().is_some() {}
            let job = handle.queue.lock().take();
            match job {
                Some(job) => {
                    jobs.spawn(Arc::clone(&self).plot(Arc::clone(&handle), job));
                }
                None => drop(tokio::time::timeout(POLL, handle.queued.notified()).await),
            }
        }
    }

    /// Plots one sector, however long it takes.
    async fn plot(self: Arc<Self>, handle: Arc<FarmHandle>, job: Job) {
        let in_flight = InFlight { handle: Arc::clone(&handle), job, stored: false };
        let mut failed = Backoff::new(FAILED.0, FAILED.1);
        let mut paused = Backoff::new(PAUSE.0, PAUSE.1);
        let mut known = None;
        let (farm, sector_index) = (handle.farm.id(), job.sector_index);
        while let Err(trouble) = self.attempt(&handle, job, &mut known).await {
            match trouble {
                Trouble::Lost(reason) => {
                    tracing::warn!(%farm, sector_index, "Plotting begins anew: {reason}");
                }
                Trouble::Failed(reason) => {
                    tracing::warn!(%farm, sector_index, "A plot-server could not make a sector: {reason}");
                    known = None;
                    failed.wait().await;
                }
                Trouble::Unsound(reason) => {
                    tracing::error!(%farm, sector_index, "A sector was not stored: {reason}");
                    known = None;
                    failed.wait().await;
                }
                Trouble::Disk(reason) => {
                    tracing::error!(%farm, sector_index, "The farm's plotting pauses, its other sectors farm on: {reason}");
                    paused.wait().await;
                }
            }
        }
        in_flight.stored();
    }

    /// What to ask for: what is known from an earlier attempt, what lies in a spool, or a sector of today's history.
    async fn known(&self, handle: &FarmHandle, job: Job) -> Known {
        let sectors = handle.farm.sectors();
        let old = match job.reason {
            Reason::Missing => None,
            Reason::Expires(_) => sectors[usize::from(job.sector_index)].as_ref().map(|old| old.history_size),
        };
        let mut info = self.chain.protocol_info(old).await;
        let spooled = self.spooled.lock().remove(&(handle.public_key(), job.sector_index));
        if let Some((server, history_size)) = spooled
            && history_size <= info.history_size
            && old.is_none_or(|old| history_size > old)
        {
            info.history_size = history_size;
            return Known { info, server: Some(server) };
        }
        Known { info, server: None }
    }

    async fn attempt(&self, handle: &FarmHandle, job: Job, known: &mut Option<Known>) -> Result<(), Trouble> {
        let Known { info, server } = match *known {
            Some(known) => known,
            None => self.known(handle, job).await,
        };
        let offer = OfferRequest {
            public_key: handle.public_key(),
            farm_id: FarmId(handle.farm.id().0.0),
            sector_index: job.sector_index,
            protocol_info: info,
            pieces_in_sector: handle.farm.geometry().pieces_in_sector,
        };
        let mut lease = self.find_server(&offer, server).await?;
        *known = Some(Known { info, server: Some(lease.server) });
        let result = self.fetch(handle, &offer, &mut lease).await;
        let server = lease.server;
        match &result {
            Ok(()) => self.stored(handle, job, lease).await,
            Err(Trouble::Lost(_)) => *known = Some(Known { info, server: None }),
            // It would only be offered again, and is in the way of others.
            Err(Trouble::Unsound(_)) => self.cancel(server, offer.key()).await,
            Err(Trouble::Failed(_) | Trouble::Disk(_)) => {}
        }
        result
    }

    async fn cancel(&self, server: InstanceId, key: LeaseKey) {
        if let Err(error) = self.client.request_instance(server, &CancelRequest { key }).await {
            tracing::debug!("A sector was not given up: {error}");
        }
    }

    /// Asks for a place until there is one: `first`, if given, then any server and the one where our turn is kept.
    async fn find_server(&self, offer: &OfferRequest, first: Option<InstanceId>) -> Result<Lease, Trouble> {
        let mut no_server = Backoff::new(NO_SERVER.0, NO_SERVER.1);
        let mut turn_at = first;
        let mut ask_turn = first.is_some();
        loop {
            let reply = match turn_at.filter(|_| ask_turn) {
                Some(server) => self.client.request_instance(server, offer).await,
                None => self.client.request(offer).await,
            };
            ask_turn = !ask_turn;
            match reply {
                Ok(OfferReply::Lease(lease)) => {
                    if let Some(other) = turn_at.filter(|server| *server != lease.server) {
                        self.cancel(other, offer.key()).await;
                    }
                    return match lease.progress {
                        PlotProgress::Failed { reason } => Err(Trouble::Failed(reason)),
                        _ => Ok(lease),
                    };
                }
                Ok(OfferReply::Busy { server, retry_after_ms, .. }) => {
                    turn_at = turn_at.or(Some(server));
                    no_server.reset();
                    let wait =
                        Duration::from_millis(retry_after_ms.into()).clamp(RETRY_AFTER.0, RETRY_AFTER.1);
                    tokio::time::sleep(wait).await;
                }
                Err(error) => {
                    // It may be the one with our turn that is gone; others are asked before anything is said.
                    if turn_at.take().is_none() {
                        self.say_no_server(&error);
                        no_server.wait().await;
                    }
                }
            }
        }
    }

    fn say_no_server(&self, error: &cluster::ClientError) {
        let mut said = self.said.lock();
        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            tracing::warn!("No plot-server takes sectors; they wait for one: {error}");
            *said = Some(Instant::now());
        }
    }

    /// Waits for the sector and stores it, over as many connections as it takes.
    async fn fetch(
        &self,
        handle: &FarmHandle,
        offer: &OfferRequest,
        lease: &mut Lease,
    ) -> Result<(), Trouble> {
        let key = offer.key();
        let mut fetch = SectorFetch::new(key);
        let mut store = SectorStore::new(Arc::clone(&handle.farm), key);
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        let mut reached = Instant::now();
        while !fetch.is_complete() {
            let had = fetch.next_block();
            let reason = match self.fetch_once(lease, &mut fetch, &mut store).await {
                Ok(()) => break,
                Err(TransferError::Sink(reason)) => {
                    return Err(match store.take_error() {
                        Some(StoreError::Unsound(reason)) => Trouble::Unsound(reason),
                        Some(StoreError::Disk(reason)) => Trouble::Disk(reason),
                        None => Trouble::Disk(reason),
                    });
                }
                Err(TransferError::SectorFailed { reason, .. }) => return Err(Trouble::Failed(reason)),
                Err(error @ TransferError::SectorChanged { .. }) => {
                    store.reset();
                    error.to_string()
                }
                Err(error)
                    if error.is_transient() || matches!(error, TransferError::UnknownSector { .. }) =>
                {
                    error.to_string()
                }
                Err(error) => return Err(Trouble::Failed(error.to_string())),
            };
            tracing::debug!(
                sector_index = key.sector_index,
                block = fetch.next_block(),
                "Interrupted: {reason}"
            );
            if fetch.next_block() > had {
                reached = Instant::now();
                backoff.reset();
            }
            backoff.wait().await;
            // The server may have been restarted: at another address, or with no memory of the lease.
            match self.client.request_instance(lease.server, offer).await {
                Ok(OfferReply::Lease(again)) => {
                    *lease = again;
                    reached = Instant::now();
                }
                Ok(OfferReply::Busy { .. }) => {
                    return Err(Trouble::Lost(format!("the server is busy: {reason}")));
                }
                Err(_) if reached.elapsed() < SERVER_LOST => {}
                Err(error) => return Err(Trouble::Lost(format!("{reason}; {error}"))),
            }
        }
        store.finish().await.map_err(|error| match error {
            StoreError::Unsound(reason) => Trouble::Unsound(reason),
            StoreError::Disk(reason) => Trouble::Disk(reason),
        })
    }

    async fn fetch_once(
        &self,
        lease: &Lease,
        fetch: &mut SectorFetch,
        store: &mut SectorStore,
    ) -> Result<(), TransferError> {
        let mut connection = Connection::open(lease.address.0, &self.credentials, self.instance).await?;
        connection.fetch_sector(fetch, store).await
    }

    /// Enters a stored sector, and frees its place in the spool.
    async fn stored(&self, handle: &FarmHandle, job: Job, lease: Lease) {
        if let Some(sector) = &handle.farm.sectors()[usize::from(job.sector_index)] {
            handle.expiry.lock().insert(job.sector_index, sector.sector_id, sector.history_size);
        }
        self.metrics.sectors_stored.inc();
        if matches!(job.reason, Reason::Expires(_)) {
            self.metrics.sectors_replotted.inc();
        }
        tracing::info!(
            farm = %handle.farm.id(),
            sector_index = job.sector_index,
            history_size = %lease.key.history_size,
            left = handle.queue.lock().queued(),
            "Sector stored"
        );
        let acknowledged = async {
            let mut connection = Connection::open(lease.address.0, &self.credentials, self.instance).await?;
            connection.acknowledge_sector(&lease.key).await
        };
        if let Err(error) = acknowledged.await {
            tracing::debug!("Acknowledging over NATS instead: {error}");
            self.cancel(lease.server, lease.key).await;
        }
    }
}
