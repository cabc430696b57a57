//! Which slots are new and which solutions were sent before: pure, without clock.

use cluster::contract::InstanceId;
use primitives::{Blake3Hash, PieceOffset, PublicKey, ScalarBytes, SectorIndex, SlotNumber, Solution};
use std::collections::{BTreeMap, HashSet};

/// Slots remembered: copies from other controllers come within a few seconds.
const SLOTS_REMEMBERED: usize = 64;
/// Two challenges for one slot are a fork; many are an attack on memory.
const CHALLENGES_PER_SLOT: usize = 8;
/// Controllers remembered for each slot.
const CONTROLLERS_PER_SLOT: usize = 64;

/// Passes the first copy of each slot and remembers who else has it. Every controller broadcasts its node's slots; nodes
/// on two forks may differ in the challenge, and then both are slots of their own.
#[derive(Debug, Default)]
pub struct SlotGate {
    seen: BTreeMap<SlotNumber, Vec<(Blake3Hash, Vec<InstanceId>)>>,
}

impl SlotGate {
    /// Whether this is the first copy of a slot that is not older than all remembered.
    pub fn is_first(&mut self, slot: SlotNumber, challenge: &Blake3Hash, controller: InstanceId) -> bool {
        let oldest = self.seen.first_key_value().map(|(slot, _)| *slot);
        if self.seen.len() >= SLOTS_REMEMBERED && oldest.is_some_and(|oldest| slot < oldest) {
            return false;
        }
        let challenges = self.seen.entry(slot).or_default();
        if let Some((_, controllers)) = challenges.iter_mut().find(|(known, _)| known == challenge) {
            if !controllers.contains(&controller) && controllers.len() < CONTROLLERS_PER_SLOT {
                controllers.push(controller);
            }
            return false;
        }
        if challenges.len() >= CHALLENGES_PER_SLOT {
            return false;
        }
        challenges.push((*challenge, vec![controller]));
        if self.seen.len() > SLOTS_REMEMBERED {
            self.seen.pop_first();
        }
        true
    }

    /// Controllers whose copy of the slot has come, in that order.
    pub fn controllers(&self, slot: SlotNumber, challenge: &Blake3Hash) -> Vec<InstanceId> {
        let challenges = self.seen.get(&slot).into_iter().flatten();
        let same = challenges.filter(|(known, _)| known == challenge);
        same.flat_map(|(_, controllers)| controllers).copied().collect()
    }
}

/// What makes two solutions the same to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SolutionKey {
    public_key: PublicKey,
    sector_index: SectorIndex,
    piece_offset: PieceOffset,
    chunk: ScalarBytes,
}

/// Remembers solutions that were handed in, so that none is handed in twice.
#[derive(Debug, Default)]
pub struct SentSolutions {
    sent: BTreeMap<SlotNumber, HashSet<SolutionKey>>,
}

impl SentSolutions {
    /// Enters a solution; false when it was entered before.
    pub fn enter(&mut self, slot: SlotNumber, solution: &Solution) -> bool {
        let key = SolutionKey {
            public_key: solution.public_key,
            sector_index: solution.sector_index,
            piece_offset: solution.piece_offset,
            chunk: solution.chunk,
        };
        let new = self.sent.entry(slot).or_default().insert(key);
        while self.sent.len() > SLOTS_REMEMBERED {
            self.sent.pop_first();
        }
        new
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use primitives::solutions::PosProof;
    use primitives::{ChunkWitness, HistorySize, RecordCommitment, RecordWitness};
    use ulid::Ulid;

    fn solution(farm: u8, piece_offset: u16) -> Solution {
        Solution {
            public_key: PublicKey([farm; 32]),
            reward_address: PublicKey([0; 32]),
            sector_index: 0,
            history_size: HistorySize::ONE,
            piece_offset: PieceOffset(piece_offset),
            record_commitment: RecordCommitment::default(),
            record_witness: RecordWitness::default(),
            chunk: ScalarBytes([1; 32]),
            chunk_witness: ChunkWitness::default(),
            proof_of_space: PosProof::default(),
        }
    }

    #[test]
    fn first_copies_pass_once_and_all_controllers_are_known() {
        let mut gate = SlotGate::default();
        let (one, two) = (Blake3Hash([1; 32]), Blake3Hash([2; 32]));
        let [a, b] = [1, 2].map(|id| InstanceId(Ulid(id)));
        assert!(gate.is_first(5, &one, a));
        assert!(!gate.is_first(5, &one, b));
        assert!(!gate.is_first(5, &one, b));
        assert_eq!(gate.controllers(5, &one), [a, b]);
        assert!(gate.is_first(5, &two, b), "a fork's slot is another slot");
        assert_eq!(gate.controllers(5, &two), [b]);
        assert!(gate.is_first(4, &one, a), "late but new");
        for slot in 6..200 {
            assert!(gate.is_first(slot, &one, a));
        }
        assert!(!gate.is_first(5, &Blake3Hash([3; 32]), a), "forgotten slots are old slots");
        assert_eq!(gate.seen.len(), SLOTS_REMEMBERED);
    }

    #[test]
    fn no_solution_is_entered_twice() {
        let mut sent = SentSolutions::default();
        assert!(sent.enter(1, &solution(1, 0)));
        assert!(!sent.enter(1, &solution(1, 0)));
        assert!(sent.enter(1, &solution(1, 1)));
        assert!(sent.enter(1, &solution(2, 0)));
        assert!(sent.enter(2, &solution(1, 0)));
        // A second signature over the same vote would be equivocation, whatever else differs.
        let mut other = solution(1, 0);
        other.reward_address = PublicKey([9; 32]);
        assert!(!sent.enter(2, &other));
        for slot in 3..100 {
            sent.enter(slot, &solution(1, 0));
        }
        assert_eq!(sent.sent.len(), SLOTS_REMEMBERED);
    }
}
