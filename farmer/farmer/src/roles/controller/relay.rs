//! Passes on what the node announces: slots, blocks to be signed, archived segments.

use crate::roles::controller::headers::{Append, Headers};
use crate::status::Status;
use cluster::ClusterClient;
use cluster::contract::{
    Broadcast, InstanceId, RewardSigningBroadcast, SegmentHeaderBroadcast, SlotBroadcast,
};
use node::{Event, NodeClient};
use parking_lot::Mutex;
use primitives::{Blake3Hash, SegmentHeader, SegmentIndex, SlotInfo, SlotNumber};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long before headers that could not be loaded are asked for again.
const RETRY: Duration = Duration::from_secs(2);

/// Slots of the node that are remembered.
const RECENT_SLOTS: usize = 256;

/// Whether a farmer can earn with the node. One that serves safe methods only looks alive: its slots and segment headers
/// come all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// It has not said yet.
    Unknown,
    /// It takes what farmers submit.
    Farming,
    /// It refuses what farmers submit, for this reason.
    Refused(String),
}

/// What the relay counts.
#[derive(Clone)]
pub struct Metrics {
    slots_seen: Counter,
    slot: Gauge,
    slots_withheld: Counter,
    reward_signings: Counter,
    segments: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn new(status: &Status) -> Self {
        Self {
            slots_seen: status.counter("slots_seen", "Slots that the node announced"),
            slot: status.gauge("slot", "Number of the newest slot"),
            slots_withheld: status.counter("slots_withheld", "Slots not passed on: the node is on a fork"),
            reward_signings: status
                .counter("reward_signings", "Blocks and votes that the node wanted signed"),
            segments: status.gauge("segments", "Archived segments of the chain"),
        }
    }
}

/// Passes on what the node announces.
pub struct Relay {
    /// The node.
    pub node: NodeClient,
    /// The cluster.
    pub client: ClusterClient,
    /// This controller.
    pub instance: InstanceId,
    /// The headers, which this keeps up to date.
    pub headers: Arc<Headers>,
    /// Segments that the node waits for.
    unacknowledged: Mutex<BTreeSet<SegmentIndex>>,
    /// Whether the node can be earned with.
    service: watch::Sender<Service>,
    /// The node's newest slots with their challenges, and when the last one came.
    recent_slots: Mutex<(BTreeMap<SlotNumber, Blake3Hash>, Instant)>,
    /// Whether slots are kept back because the node is on a fork.
    withholds_slots: AtomicBool,
}

impl Relay {
    /// A relay from `node` to the cluster.
    pub fn new(node: NodeClient, client: ClusterClient, instance: InstanceId, headers: Arc<Headers>) -> Self {
        let service = watch::channel(Service::Unknown).0;
        Self {
            node,
            client,
            instance,
            headers,
            unacknowledged: Mutex::default(),
            service,
            recent_slots: Mutex::new((BTreeMap::new(), Instant::now())),
            withholds_slots: AtomicBool::new(false),
        }
    }

    /// The node's newest slots with their challenges, and how long ago the last one came.
    pub fn recent_slots(&self) -> (BTreeMap<SlotNumber, Blake3Hash>, Duration) {
        let recent = self.recent_slots.lock();
        (recent.0.clone(), recent.1.elapsed())
    }

    /// Keeps slots back from now on, or passes them on again: those of a fork cost the farms the time that they need for
    /// the chain's.
    pub fn withhold_slots(&self, withhold: bool) {
        self.withholds_slots.store(withhold, Ordering::Relaxed);
    }

    /// Follows whether the node can be earned with.
    pub fn service(&self) -> watch::Receiver<Service> {
        self.service.subscribe()
    }

    /// Enters whether the node can be earned with; says it loudly when it cannot.
    fn set_service(&self, now: Service) {
        let before = self.service.send_replace(now.clone());
        match now {
            Service::Refused(reason) if before != Service::Refused(reason.clone()) => tracing::error!(
                "The node looks alive and earns nothing: {reason}; slots come, but what they win cannot be handed in"
            ),
            Service::Farming if matches!(before, Service::Refused(_)) => {
                tracing::info!("The node can be earned with again");
            }
            _ => {}
        }
    }

    /// Sends a message to the cluster; one that cannot be sent is dropped.
    pub async fn broadcast<B: Broadcast>(&self, message: &B) {
        if let Err(error) = self.client.broadcast(message).await {
            tracing::debug!(%error, "A broadcast was not sent");
        }
    }

    /// Broadcasts every slot. Ends with the client of the node.
    pub async fn slots(self: Arc<Self>, metrics: Metrics) {
        let mut slots = self.node.subscribe_slots();
        while let Some(slot) = slots.next_item().await {
            metrics.slots_seen.inc();
            metrics.slot.set(slot.slot_number.cast_signed());
            self.remember(&slot);
            if self.withholds_slots.load(Ordering::Relaxed) {
                metrics.slots_withheld.inc();
                continue;
            }
            self.broadcast(&SlotBroadcast { controller: self.instance, slot }).await;
        }
    }

    fn remember(&self, slot: &SlotInfo) {
        let mut recent = self.recent_slots.lock();
        recent.0.insert(slot.slot_number, slot.global_challenge);
        if recent.0.len() > RECENT_SLOTS {
            recent.0.pop_first();
        }
        recent.1 = Instant::now();
    }

    /// Broadcasts what farms are to sign. Ends with the client of the node.
    pub async fn reward_signing(self: Arc<Self>, metrics: Metrics) {
        let mut infos = self.node.subscribe_reward_signing();
        while let Some(event) = infos.next().await {
            match event {
                // As unsafe as handing a solution in, and done without one.
                Event::Subscribed => self.set_service(Service::Farming),
                Event::Refused(error) => self.set_service(Service::Refused(error.to_string())),
                Event::Item(info) => {
                    metrics.reward_signings.inc();
                    self.broadcast(&RewardSigningBroadcast { controller: self.instance, info }).await;
                }
            }
        }
    }

    /// Keeps the headers up to date and notes what the node wants acknowledged. Ends with the client of the node.
    pub async fn segments(self: Arc<Self>, metrics: Metrics) {
        metrics.segments.set(self.headers.count().cast_signed());
        let mut headers = self.node.subscribe_archived_segment_headers();
        while let Some(event) = headers.next().await {
            match event {
                // What was announced before is known from the list only.
                Event::Subscribed => {
                    self.unacknowledged.lock().clear();
                    self.refresh().await;
                }
                Event::Refused(_) => {}
                Event::Item(header) => self.archived(header).await,
            }
            metrics.segments.set(self.headers.count().cast_signed());
        }
    }

    async fn archived(&self, header: SegmentHeader) {
        let index = header.segment_index();
        self.unacknowledged.lock().insert(index);
        match self.headers.append(header) {
            Append::Appended => tracing::info!(segment = index.0, "A segment was archived"),
            Append::Known => {}
            Append::Gap => self.refresh().await,
            Append::Contradiction => {
                self.headers.start_over(&header);
                self.refresh().await;
            }
        }
    }

    /// Loads headers until the node has given all.
    pub async fn refresh(&self) {
        while let Err(error) = self.headers.refresh(&self.node).await {
            tracing::warn!(%error, "Segment headers could not be loaded; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Tells the cluster, this controller included, that a segment's pieces are stored.
    pub async fn stored(&self, header: SegmentHeader) {
        self.broadcast(&SegmentHeaderBroadcast { controller: self.instance, header }).await;
    }

    /// Acknowledges segments to the node once a leader says that their pieces are stored. Ends with the client of NATS.
    ///
    /// # Errors
    /// When NATS is closed.
    pub async fn acknowledgements(self: Arc<Self>) -> Result<(), cluster::ClientError> {
        let mut stored = self.client.listen::<SegmentHeaderBroadcast>().await?;
        while let Some(SegmentHeaderBroadcast { header, .. }) = stored.next().await {
            let newest = header.segment_index();
            // A node archives in order: what is stored now is preceded by what was stored before.
            let due: Vec<_> = {
                let mut unacknowledged = self.unacknowledged.lock();
                let later = unacknowledged.split_off(&SegmentIndex(newest.0 + 1));
                std::mem::replace(&mut *unacknowledged, later).into_iter().collect()
            };
            for index in due {
                match self.node.acknowledge_segment_header(index).await {
                    Ok(()) => tracing::info!(
                        segment = index.0,
                        "Acknowledged a segment to the node: its pieces are stored"
                    ),
                    Err(error) => {
                        tracing::warn!(%error, segment = index.0, "A segment could not be acknowledged")
                    }
                }
            }
        }
        Ok(())
    }
}
