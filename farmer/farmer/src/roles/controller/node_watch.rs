//! Finds out whether the node is one to be earned with: compares it with the other controllers' nodes and asks it how it
//! is. A node that is behind or on a fork looks alive; what is won with it is lost.
//!
//! Nothing here stops a controller: it says what is wrong, loudly and in its state, and keeps back the slots of a node that
//! most others contradict. The other controllers go on.

mod comparison;

use crate::roles::controller::relay::Relay;
use crate::status::Status;
use cluster::contract::NodeViewBroadcast;
use comparison::{Others, OwnView, Verdict};
use node::{NodeState, SystemHealth};
use primitives::{Blake3Hash, BlockNumber};
use prometheus_client::metrics::gauge::Gauge;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often the node is looked at, and the others are told.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long the node may take to say how it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A block with so many on it is compared with the other nodes': above that, nodes differ now and then.
const SETTLED_DEPTH: BlockNumber = 6;
/// Without a slot for so many farming timeouts a node is silent.
const SILENT_TIMEOUTS: u32 = 3;
/// And at least so long.
const LEAST_SILENCE: Duration = Duration::from_secs(12);
/// The same verdict so many times in a row is believed.
const BELIEVED_AFTER: u32 = 2;
/// Longest node address that is told.
const MAX_NODE: usize = 256;

pub(super) struct Metrics {
    blocks_behind: Gauge,
    slots_behind: Gauge,
    contradicting: Gauge,
}

impl Metrics {
    pub(super) fn new(status: &Status) -> Self {
        Self {
            blocks_behind: status.gauge(
                "node_blocks_behind",
                "Blocks that the node is behind the best of the other controllers' nodes",
            ),
            slots_behind: status.gauge(
                "node_slots_behind",
                "Slots that the node is behind the newest of the other controllers' nodes",
            ),
            contradicting: status.gauge(
                "nodes_contradicting",
                "Other controllers' nodes whose chain is another than this one's",
            ),
        }
    }
}

/// What the node says of itself.
struct Reading {
    health: SystemHealth,
    best_block: BlockNumber,
    settled_block: (BlockNumber, Blake3Hash),
}

/// Watches the node of this controller.
pub struct NodeWatch {
    relay: Arc<Relay>,
    silent_after: Duration,
    others: Others,
    complaint: watch::Sender<Option<String>>,
    /// The newest verdict, and how often in a row it was the same kind.
    newest: (Verdict, u32),
    /// The verdict that is believed.
    believed: Verdict,
    metrics: Metrics,
}

impl NodeWatch {
    /// Watches the node of `relay`.
    pub fn new(relay: Arc<Relay>, farming_timeout: Duration, status: &Status) -> Self {
        Self {
            relay,
            silent_after: (farming_timeout * SILENT_TIMEOUTS).max(LEAST_SILENCE),
            others: Others::default(),
            complaint: watch::channel(None).0,
            newest: (Verdict::Sound, 0),
            believed: Verdict::Sound,
            metrics: Metrics::new(status),
        }
    }

    /// Follows what is wrong with the node, in words.
    pub fn complaint(&self) -> watch::Receiver<Option<String>> {
        self.complaint.subscribe()
    }

    /// Watches until the connection to NATS is closed.
    pub async fn run(mut self) {
        let mut views = match self.relay.client.listen::<NodeViewBroadcast>().await {
            Ok(views) => views,
            Err(error) => {
                tracing::error!(%error, "Other controllers' nodes are not heard of");
                return;
            }
        };
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                view = views.next() => {
                    let Some(view) = view else { return };
                    if view.controller != self.relay.instance {
                        self.others.hear(view, Instant::now());
                    }
                }
                _ = ticks.tick() => {
                    // A node that is not connected is somebody else's complaint.
                    if matches!(self.relay.node.state(), NodeState::Connected { .. }) {
                        let verdict = self.look().await;
                        self.judge(verdict);
                    }
                }
            }
        }
    }

    async fn look(&mut self) -> Verdict {
        let node = self.relay.node.url().to_owned();
        let reading = match timeout(ANSWER_TIMEOUT, self.read()).await {
            Ok(Ok(reading)) => reading,
            Ok(Err(error)) => {
                return Verdict::Mute(format!("the node at {node} does not say how it is: {error}"));
            }
            Err(_) => {
                return Verdict::Mute(format!(
                    "the node at {node} does not answer within {} s: it hangs, or its host is overloaded; restart it",
                    ANSWER_TIMEOUT.as_secs()
                ));
            }
        };
        self.tell(&reading).await;
        let own_blocks = match timeout(ANSWER_TIMEOUT, self.own_blocks(&reading)).await {
            Ok(Ok(blocks)) => blocks,
            Ok(Err(_)) | Err(_) => BTreeMap::new(),
        };
        let (slots, quiet_for) = self.relay.recent_slots();
        let headers = Arc::clone(&self.relay.headers);
        let own = OwnView {
            node: &node,
            best_block: reading.best_block,
            blocks: &own_blocks,
            segment: &|index| headers.get(index).map(|header| header.hash()),
            slots: &slots,
        };
        let compared = self.others.compare(&own, Instant::now());
        self.metrics.blocks_behind.set(compared.blocks_behind.into());
        self.metrics.slots_behind.set(compared.slots_behind.cast_signed());
        self.metrics.contradicting.set(compared.contradicting as i64);
        match (compared.verdict, self.complaint_of_itself(&reading, quiet_for)) {
            // What the others show says more than what the node knows of itself.
            (Verdict::Sound, Some(complaint)) => Verdict::Unwell(complaint),
            (verdict, _) => verdict,
        }
    }

    async fn read(&self) -> Result<Reading, node::Error> {
        let node = &self.relay.node;
        let health = node.system_health().await?;
        let best_block = node.best_header().await?.number;
        let settled = best_block.saturating_sub(SETTLED_DEPTH);
        let hash = node.block_hash(settled).await?.unwrap_or_default();
        Ok(Reading { health, best_block, settled_block: (settled, Blake3Hash(hash)) })
    }

    async fn tell(&self, reading: &Reading) {
        let headers = &self.relay.headers;
        let newest = headers.count().checked_sub(1).map(primitives::SegmentIndex);
        let slot = self.relay.recent_slots().0.last_key_value().map(|(slot, challenge)| (*slot, *challenge));
        let view = NodeViewBroadcast {
            controller: self.relay.instance,
            node: self.relay.node.url().chars().take(MAX_NODE / 4).collect(),
            best_block: reading.best_block,
            settled_block: reading.settled_block,
            segment: newest.and_then(|index| Some((index, headers.get(index)?.hash()))),
            slot,
        };
        self.relay.broadcast(&view).await;
    }

    /// This node's blocks of the numbers of which others have told theirs, as far as they are settled here.
    async fn own_blocks(&self, reading: &Reading) -> Result<BTreeMap<BlockNumber, Blake3Hash>, node::Error> {
        let mut blocks = BTreeMap::from([reading.settled_block]);
        for number in self.others.newest_blocks_up_to(reading.settled_block.0) {
            if let Some(hash) = self.relay.node.block_hash(number).await? {
                blocks.insert(number, Blake3Hash(hash));
            }
        }
        Ok(blocks)
    }

    /// What the node itself shows to be wrong, without another to compare it with.
    fn complaint_of_itself(&self, reading: &Reading, quiet_for: Duration) -> Option<String> {
        let (node, best_block) = (self.relay.node.url(), reading.best_block);
        if reading.health.is_syncing {
            return Some(format!("the node at {node} is syncing, at block {best_block}: it needs time"));
        }
        if reading.health.should_have_peers && reading.health.peers == 0 {
            return Some(format!(
                "the node at {node} has no peers, at block {best_block}: check its network, firewall and bootstrap nodes"
            ));
        }
        (quiet_for > self.silent_after).then(|| {
            format!(
                "the node at {node} has announced no slot for {} s, at block {best_block}: check its clock, its log and \
                 whether it was started with `--farmer`",
                quiet_for.as_secs()
            )
        })
    }

    /// Believes a verdict that was the same several times, and says so once.
    fn judge(&mut self, verdict: Verdict) {
        let times = if verdict.is_like(&self.newest.0) { self.newest.1 + 1 } else { 1 };
        self.newest = (verdict, times);
        if times < BELIEVED_AFTER || self.newest.0.is_like(&self.believed) {
            return;
        }
        self.believed = self.newest.0.clone();
        match self.believed.complaint() {
            Some(complaint) => tracing::error!("The node looks alive and earns nothing: {complaint}"),
            None => tracing::info!("Nothing is wrong with the node any more"),
        }
        self.relay.withhold_slots(matches!(self.believed, Verdict::Forked(_)));
        self.complaint.send_replace(self.believed.complaint().map(str::to_owned));
    }
}
