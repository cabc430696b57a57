//! Slots: when they come, which are open, what is submitted for them.

use crate::Error;
use crate::chain::NewBlock;
use crate::config::{DEV_BLOCK_SLOTS, SOLUTIONS_PER_SLOT};
use crate::shared::Shared;
use crate::solution_range::voting_solution_range;
use crate::verification::{Accepted, verify};
use futures::future::join_all;
use parity_scale_codec::Encode;
use parking_lot::Mutex;
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, SlotInfo, SlotNumber, Solution, SolutionResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Announcements that a slow subscriber may lag behind.
const ANNOUNCEMENTS: usize = 64;
/// Slots whose solutions wait to be made into blocks.
const CLOSED_SLOTS: usize = 1024;
/// While the archiver is so many blocks behind, no block is made without a solution.
const MAX_ARCHIVING_LAG: u32 = 256;

/// A slot for which solutions are taken.
#[derive(Debug)]
struct OpenSlot {
    solutions: mpsc::Sender<Solution>,
    taken: usize,
}

/// The open slots.
#[derive(Debug)]
pub(crate) struct Slots {
    open: Mutex<BTreeMap<SlotNumber, OpenSlot>>,
    announcements: broadcast::Sender<SlotInfo>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { open: Mutex::default(), announcements: broadcast::channel(ANNOUNCEMENTS).0 }
    }
}

/// A solution that was not taken: its slot is gone or has its ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ignored {
    pub(crate) slot: SlotNumber,
}

impl Slots {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<SlotInfo> {
        self.announcements.subscribe()
    }

    /// Announces a slot of the node that is followed.
    pub(crate) fn relay(&self, info: SlotInfo) {
        // Without subscribers nobody listens, which is fine.
        let _ = self.announcements.send(info);
    }

    /// Takes a solution for its slot.
    pub(crate) fn submit(&self, response: SolutionResponse) -> Result<(), Ignored> {
        let SolutionResponse { slot_number: slot, solution } = response;
        let mut open = self.open.lock();
        let entry = open.get_mut(&slot).ok_or(Ignored { slot })?;
        if entry.taken == SOLUTIONS_PER_SLOT {
            return Err(Ignored { slot });
        }
        entry.solutions.try_send(solution).map_err(|_| Ignored { slot })?;
        entry.taken += 1;
        Ok(())
    }

    fn open(&self, slot: SlotNumber) -> mpsc::Receiver<Solution> {
        let (solutions, receiver) = mpsc::channel(SOLUTIONS_PER_SLOT);
        self.open.lock().insert(slot, OpenSlot { solutions, taken: 0 });
        receiver
    }

    fn close(&self, slot: SlotNumber) {
        self.open.lock().remove(&slot);
    }
}

/// A slot on its way to a block.
pub(crate) struct ClosingSlot {
    info: SlotInfo,
    collecting: JoinHandle<Vec<Accepted>>,
}

/// The channel between [`announce`] and [`make_blocks`].
pub(crate) fn closing_slots() -> (mpsc::Sender<ClosingSlot>, mpsc::Receiver<ClosingSlot>) {
    mpsc::channel(CLOSED_SLOTS)
}

/// Announces a slot each `slot_ms`. Slots are numbered by the clock on the wall, so that they go on after a restart and
/// two chains of the same parameters agree; between two starts they follow the monotonic clock.
pub(crate) async fn announce(shared: Arc<Shared>, closing: mpsc::Sender<ClosingSlot>) {
    let period = Duration::from_millis(shared.config.slot_ms);
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
    let next = wall_ms / shared.config.slot_ms + 1;
    let start = Instant::now() + Duration::from_millis(next * shared.config.slot_ms - wall_ms);
    let first = next.max(shared.chain.last_slot() + 1);
    let mut index = 0u32;
    loop {
        tokio::time::sleep_until(start + period * index).await;
        let mut late = start.elapsed().saturating_sub(period * index);
        if late >= period {
            let skipped = (late.as_millis() / period.as_millis()) as u32;
            tracing::warn!(skipped, "Slots were skipped: the machine did not get to them in time");
            shared.stats.count(|stats| stats.slots.skipped += u64::from(skipped));
            index += skipped;
            late -= period * skipped;
        }
        let info = slot_info(&shared, first + u64::from(index));
        let solutions = shared.slots.open(info.slot_number);
        // Without subscribers nobody listens, which is fine.
        let _ = shared.slots.announcements.send(info);
        shared.stats.slot_announced(info.slot_number, late);
        tracing::debug!(slot = info.slot_number, range = info.solution_range, "Slot");
        let collecting = tokio::spawn(collect(Arc::clone(&shared), info, solutions));
        match closing.try_send(ClosingSlot { info, collecting }) {
            Ok(()) => {}
            // Slots keep their time whatever happens; what was won in this one is lost.
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(slot = info.slot_number, "Blocks are made too slowly: this slot makes none");
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
        index += 1;
    }
}

fn slot_info(shared: &Shared, slot_number: SlotNumber) -> SlotInfo {
    let solution_range = shared.chain.era().solution_range;
    SlotInfo {
        slot_number,
        global_challenge: shared.chain.proof_of_time(slot_number).derive_global_challenge(slot_number),
        solution_range,
        voting_solution_range: voting_solution_range(solution_range),
    }
}

/// Verifies the solutions of one slot until its farming timeout, or until the node stops.
async fn collect(
    shared: Arc<Shared>,
    info: SlotInfo,
    mut solutions: mpsc::Receiver<Solution>,
) -> Vec<Accepted> {
    let deadline = Instant::now() + shared.config.farming_timeout();
    let mut accepted = Vec::new();
    loop {
        let next = tokio::time::timeout_at(deadline, solutions.recv());
        let Some(Ok(Some(solution))) = shared.shutdown.run_until_cancelled(next).await else { break };
        accepted.extend(check(&shared, info, solution).await);
    }
    shared.slots.close(info.slot_number);
    // What was taken in time is verified even if the slot is over.
    solutions.close();
    while let Some(solution) = solutions.recv().await {
        accepted.extend(check(&shared, info, solution).await);
    }
    accepted
}

async fn check(shared: &Arc<Shared>, info: SlotInfo, solution: Solution) -> Option<Accepted> {
    shared.stats.count(|stats| stats.solutions.received += 1);
    let verifying = {
        let (chain, kzg, solution) = (Arc::clone(&shared.chain), shared.kzg.clone(), solution.clone());
        tokio::task::spawn_blocking(move || verify(&chain, &kzg, &info, solution))
    };
    let Solution { public_key, sector_index, .. } = solution;
    match verifying.await {
        Ok(Ok(accepted)) => {
            shared.stats.count(|stats| stats.solutions.accepted += 1);
            tracing::info!(
                slot = info.slot_number, %public_key, sector_index, wins_block = accepted.wins_block,
                "Accepted a solution"
            );
            Some(accepted)
        }
        Ok(Err(rejected)) => {
            shared.stats.rejected(rejected.name());
            tracing::warn!(
                slot = info.slot_number, %public_key, sector_index, reason = rejected.name(), "Rejected a solution: {rejected}"
            );
            None
        }
        Err(error) => {
            // The task panicked, or the process is stopping.
            shared.stats.rejected("Internal");
            tracing::error!(%error, "Verifying a solution failed");
            None
        }
    }
}

/// Makes blocks of closed slots, in their order.
pub(crate) async fn make_blocks(
    shared: Arc<Shared>,
    mut closing: mpsc::Receiver<ClosingSlot>,
) -> Result<(), Error> {
    let mut last_block_slot = shared.chain.last_slot();
    while let Some(ClosingSlot { info, collecting }) = closing.recv().await {
        let accepted = collecting.await.unwrap_or_default();
        shared.chain.count_slot();
        let slot = info.slot_number;
        let winner = accepted.iter().position(|accepted| accepted.wins_block);
        let signatures = sign(&shared, slot, &accepted, winner).await;
        let behind = shared.chain.best().number.saturating_sub(shared.stats.snapshot().segments.newest_block);
        let new = match winner {
            Some(winner) => NewBlock {
                slot,
                solution: Some(accepted[winner].solution.clone()),
                signature: signatures[winner],
            },
            None if slot - last_block_slot >= DEV_BLOCK_SLOTS && behind < MAX_ARCHIVING_LAG => {
                NewBlock { slot, ..NewBlock::default() }
            }
            None => continue,
        };
        last_block_slot = slot;
        make_block(&shared, new).await?;
    }
    Ok(())
}

/// Asks for the signatures of all accepted solutions of a slot at once: the winner signs its block, the others votes.
async fn sign(
    shared: &Shared,
    slot: SlotNumber,
    accepted: &[Accepted],
    winner: Option<usize>,
) -> Vec<Option<primitives::Signature>> {
    let parent = shared.chain.best().hash;
    let asking = accepted.iter().enumerate().map(|(index, accepted)| {
        let kind = if winner == Some(index) { b"block" as &[u8] } else { b"vote" };
        let hash: Blake3Hash = blake3_hash(&(kind, parent, slot, &accepted.solution).encode());
        let key = accepted.solution.public_key;
        shared.rewards.ask(hash, key, shared.config.signature_timeout, &shared.stats)
    });
    join_all(asking).await
}

async fn make_block(shared: &Arc<Shared>, new: NewBlock) -> Result<(), Error> {
    let (from_solution, signed) = (new.solution.is_some(), new.signature.is_some());
    let slot = new.slot;
    let chain = Arc::clone(&shared.chain);
    let made = tokio::task::spawn_blocking(move || chain.make_block(new)).await;
    let block =
        made.map_err(|error| Error::Stopped { what: "making a block", reason: error.to_string() })??;
    shared.stats.count(|stats| {
        if from_solution {
            stats.blocks.from_solutions += 1;
            stats.blocks.signed += u64::from(signed);
        } else {
            stats.blocks.without_solution += 1;
        }
    });
    if from_solution {
        tracing::info!(number = block.number, slot, signed, "Made a block from a solution");
    } else {
        tracing::debug!(number = block.number, slot, "Made a block without a solution");
    }
    Ok(())
}
