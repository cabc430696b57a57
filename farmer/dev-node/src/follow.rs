//! Being a second node of a chain: blocks and slots come from another development node, solutions and reward signatures
//! go to it.
//!
//! What is archived is archived here, from the replicated blocks: a node that follows serves its pieces from its own disk.
//! While the node that is followed is away there are neither slots nor blocks, and no peers.

use crate::Error;
use crate::chain::{Unfit, difference_to};
use crate::config::Config;
use crate::shared::Shared;
use node::{NodeClient, NodeState, Options};
use primitives::rpc::GenesisHash;
use primitives::{BlockNumber, SlotInfo};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How often the other node is asked for its best block.
const POLL: Duration = Duration::from_millis(200);
/// Longest time that a call to it takes.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause between attempts to reach it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The node that is followed, and how far.
pub(crate) struct Following {
    client: NodeClient,
    lag: u32,
    fork_at: Option<BlockNumber>,
    caught_up: AtomicBool,
    left: watch::Sender<bool>,
}

/// Why blocks were not replicated.
enum Failure {
    /// The other node does not answer as it should; it may later.
    Away(node::Error),
    /// It cannot be followed any further.
    Stop(Error),
}

impl From<node::Error> for Failure {
    fn from(error: node::Error) -> Self {
        Self::Away(error)
    }
}

impl Following {
    /// What the configuration says, if it names a node.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, Error> {
        let Some(url) = &config.follow else { return Ok(None) };
        let options = Options { call_timeout: CALL_TIMEOUT, backoff_max: BACKOFF_MAX, ..Options::default() };
        let client = NodeClient::new(url, options).map_err(Error::FollowAddress)?;
        Ok(Some(Self {
            client,
            lag: config.lag,
            fork_at: config.fork_at,
            caught_up: AtomicBool::new(false),
            left: watch::channel(false).0,
        }))
    }

    /// The node to which solutions and signatures go; none once its chain was left.
    pub(crate) fn client(&self) -> Option<&NodeClient> {
        (!*self.left.borrow()).then_some(&self.client)
    }

    /// Whether all blocks have been here that this node was to have at some time since the start.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    /// Whether the node that is followed is connected.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.client.state(), NodeState::Connected { .. })
    }

    fn refuse(&self, shared: &Shared, reason: String) -> Error {
        Error::Follow { path: shared.config.data.clone(), url: self.client.url().to_owned(), reason }
    }

    /// Waits for the other node and compares chains.
    async fn check_genesis(&self, shared: &Shared) -> Result<(), Failure> {
        let own = shared.chain.genesis_hash();
        let Some(theirs) = self.client.block_hash(0).await? else { return Ok(()) };
        if GenesisHash(theirs) == own {
            return Ok(());
        }
        let genesis = self.client.block(&theirs).await?;
        let difference = genesis.map_or_else(
            || format!("its genesis is {}", GenesisHash(theirs)),
            |genesis| difference_to(&genesis, shared.chain.parameters()),
        );
        let reason = format!("it has another chain: {difference}; use the same seed and parameters as there");
        Err(Failure::Stop(self.refuse(shared, reason)))
    }

    /// Replicates what is there to be replicated.
    async fn replicate(&self, shared: &Arc<Shared>) -> Result<(), Failure> {
        let best = self.client.best_header().await?.number;
        let mut target = best.saturating_sub(self.lag);
        if let Some(fork_at) = self.fork_at {
            target = target.min(fork_at);
        }
        let own = shared.chain.best();
        if own.number >= target {
            let common = own.number.min(best);
            let ours = shared.chain.db().block_id(common).map_err(|error| Failure::Stop(error.into()))?;
            let theirs = self.client.block_hash(common).await?;
            if theirs.is_some() && theirs != ours.map(|id| id.hash) {
                return Err(Failure::Stop(self.diverged(shared, common)));
            }
            self.caught_up.store(true, Ordering::Release);
            return Ok(());
        }
        for number in own.number + 1..=target {
            let Some(hash) = self.client.block_hash(number).await? else { return Ok(()) };
            let Some(block) = self.client.block(&hash).await? else { return Ok(()) };
            let chain = Arc::clone(&shared.chain);
            match tokio::task::spawn_blocking(move || chain.import(&block)).await {
                Ok(Ok(_)) => {}
                Ok(Err(Unfit::Store(error))) => return Err(Failure::Stop(error)),
                Ok(Err(Unfit::Parent { .. })) => return Err(Failure::Stop(self.diverged(shared, number))),
                Ok(Err(damaged)) => return Err(Failure::Stop(self.refuse(shared, damaged.to_string()))),
                Err(error) => {
                    let reason = error.to_string();
                    return Err(Failure::Stop(Error::Stopped { what: "storing a block", reason }));
                }
            }
        }
        Ok(())
    }

    fn diverged(&self, shared: &Shared, number: BlockNumber) -> Error {
        let reason = format!(
            "block {number} is another one there; if this is the fork of an earlier --fork-at, give that again, else remove \
             the directory"
        );
        self.refuse(shared, reason)
    }
}

/// Replicates blocks until the chain is left; returns at once where none is followed.
pub(crate) async fn blocks(shared: Arc<Shared>) -> Result<(), Error> {
    let Some(following) = &shared.following else { return Ok(()) };
    let mut same_chain = false;
    loop {
        if shared.chain.leave_at_fork() {
            let block = shared.chain.best().number;
            tracing::warn!(
                block,
                "Left the chain of {}: this node goes on alone, on a fork",
                following.client.url()
            );
            following.caught_up.store(true, Ordering::Release);
            following.left.send_replace(true);
            return Ok(());
        }
        let replicated = if same_chain {
            following.replicate(&shared).await
        } else {
            let checked = following.check_genesis(&shared).await;
            same_chain = checked.is_ok();
            checked
        };
        match replicated {
            Ok(()) => {}
            Err(Failure::Away(error)) => tracing::debug!(%error, "No blocks from the node that is followed"),
            Err(Failure::Stop(error)) => return Err(error),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Announces the slots of the node that is followed until its chain is left; returns at once where none is followed.
pub(crate) async fn slots(shared: &Shared) {
    let Some(following) = &shared.following else { return };
    let mut left = following.left.subscribe();
    tokio::select! {
        _ = left.wait_for(|left| *left) => {}
        () = relay_slots(shared, following) => {}
        () = relay_reward_signing(shared, following) => {}
    }
}

async fn relay_slots(shared: &Shared, following: &Following) {
    let mut slots = following.client.subscribe_slots();
    let mut held: VecDeque<SlotInfo> = VecDeque::new();
    while let Some(slot) = slots.next_item().await {
        held.push_back(slot);
        let newest = slot.slot_number;
        while let Some(slot) = held.front().copied()
            && slot.slot_number + u64::from(following.lag) <= newest
        {
            held.pop_front();
            shared.slots.relay(slot);
            shared.stats.slot_announced(slot.slot_number, Duration::ZERO);
            tracing::debug!(slot = slot.slot_number, "Slot of the node that is followed");
        }
    }
}

async fn relay_reward_signing(shared: &Shared, following: &Following) {
    let mut infos = following.client.subscribe_reward_signing();
    while let Some(info) = infos.next_item().await {
        shared.rewards.relay(info);
    }
}
