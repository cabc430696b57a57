//! What the chain counts, and `dev_stats` shows.

use parking_lot::Mutex;
use primitives::SolutionRange;
use primitives::rpc::GenesisHash;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Slots whose lateness is remembered.
const LATENESS_WINDOW: usize = 1024;

/// Answer of `dev_stats`. Counters begin with the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevStats {
    /// Always true: the reference string's secret is public.
    pub insecure: bool,
    /// Genesis of the chain.
    pub genesis_hash: GenesisHash,
    /// Whether the chain still archives ahead of its first slot.
    pub syncing: bool,
    /// Number of the best block.
    pub best_block: u32,
    /// Range for blocks.
    pub solution_range: SolutionRange,
    /// Range for votes.
    pub voting_solution_range: SolutionRange,
    /// Blocks made.
    pub blocks: BlockStats,
    /// Slots.
    pub slots: SlotStats,
    /// Solutions submitted.
    pub solutions: SolutionStats,
    /// Reward signatures.
    pub rewards: RewardStats,
    /// Archiving.
    pub segments: SegmentStats,
}

/// Blocks made by this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockStats {
    /// From a solution.
    pub from_solutions: u64,
    /// Those of them with a valid reward signature.
    pub signed: u64,
    /// Without a solution, so that the chain goes on.
    pub without_solution: u64,
}

/// Slots of this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStats {
    /// Slots announced.
    pub announced: u64,
    /// Slots left out because the machine did not get to them in time.
    pub skipped: u64,
    /// Number of the newest.
    pub newest: u64,
    /// Lateness of the newest 1,024, median, milliseconds.
    pub late_ms_p50: u64,
    /// Lateness, 95th percentile, milliseconds.
    pub late_ms_p95: u64,
    /// Lateness, largest, milliseconds.
    pub late_ms_max: u64,
}

/// Solutions submitted to this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SolutionStats {
    /// Taken for verification.
    pub received: u64,
    /// Verified and not seen before.
    pub accepted: u64,
    /// Refused unseen: the slot was gone or had its ten.
    pub ignored: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// Reward signatures asked for by this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RewardStats {
    /// Blocks and votes to be signed.
    pub asked: u64,
    /// Signed validly and in time.
    pub signed: u64,
    /// Signatures that did not verify.
    pub invalid: u64,
}

/// The archived history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentStats {
    /// Segments of the chain.
    pub archived: u64,
    /// Segments that this process archived.
    pub archived_now: u64,
    /// Acknowledgements that did not come in time.
    pub acknowledgements_missed: u64,
    /// Number of the newest block that the archiver has taken.
    pub newest_block: u32,
}

#[derive(Debug, Default)]
struct Counters {
    stats: DevStats,
    lateness: VecDeque<u64>,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<Counters>);

impl Stats {
    /// Changes counters.
    pub(crate) fn count(&self, change: impl FnOnce(&mut DevStats)) {
        change(&mut self.0.lock().stats);
    }

    pub(crate) fn slot_announced(&self, slot: u64, late: Duration) {
        let mut counters = self.0.lock();
        counters.stats.slots.announced += 1;
        counters.stats.slots.newest = slot;
        if counters.lateness.len() == LATENESS_WINDOW {
            counters.lateness.pop_front();
        }
        counters.lateness.push_back(late.as_millis() as u64);
    }

    pub(crate) fn rejected(&self, reason: &str) {
        self.count(|stats| *stats.solutions.rejected.entry(reason.to_owned()).or_default() += 1);
    }

    /// A copy with the percentiles.
    pub(crate) fn snapshot(&self) -> DevStats {
        let (mut stats, mut lateness) = {
            let counters = self.0.lock();
            (counters.stats.clone(), counters.lateness.iter().copied().collect::<Vec<_>>())
        };
        lateness.sort_unstable();
        let percentile = |percent: usize| {
            lateness.get((lateness.len() * percent / 100).min(lateness.len().saturating_sub(1))).copied()
        };
        stats.slots.late_ms_p50 = percentile(50).unwrap_or(0);
        stats.slots.late_ms_p95 = percentile(95).unwrap_or(0);
        stats.slots.late_ms_max = lateness.last().copied().unwrap_or(0);
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_lateness() {
        let stats = Stats::default();
        assert_eq!(stats.snapshot().slots.late_ms_p95, 0);
        for late in 0..2000 {
            stats.slot_announced(late, Duration::from_millis(late % 100));
        }
        let slots = stats.snapshot().slots;
        assert_eq!((slots.announced, slots.newest), (2000, 1999));
        assert!((49..=51).contains(&slots.late_ms_p50), "{slots:?}");
        assert!((94..=96).contains(&slots.late_ms_p95), "{slots:?}");
        assert_eq!(slots.late_ms_max, 99);
    }
}
