//! The solution range follows the chain's own block rate (the network's era adjustment).

use crate::config::{ERA_BLOCKS, VOTING_RANGE_FACTOR};
use parity_scale_codec::{Decode, Encode};
use primitives::SolutionRange;

/// The range of the next era: old · actual ÷ expected slots, between a quarter and four times the old one.
pub fn next_solution_range(old: SolutionRange, actual_slots: u64, expected_slots: u64) -> SolutionRange {
    let old = u128::from(old);
    let new = old * u128::from(actual_slots) / u128::from(expected_slots.max(1));
    let bounded = new.clamp(old / 4, old * 4).max(1);
    SolutionRange::try_from(bounded).unwrap_or(SolutionRange::MAX)
}

/// Range for votes: ten times that for blocks.
pub fn voting_solution_range(block_range: SolutionRange) -> SolutionRange {
    block_range.saturating_mul(VOTING_RANGE_FACTOR)
}

/// Where the chain stands in the current era. Blocks made without a solution do not count, and neither do slots while
/// the process was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Era {
    /// Range for blocks.
    pub solution_range: SolutionRange,
    /// Slots since the era began.
    pub slots: u64,
    /// Blocks from solutions since the era began.
    pub blocks: u32,
}

impl Era {
    /// The first era.
    pub fn new(solution_range: SolutionRange) -> Self {
        Self { solution_range, slots: 0, blocks: 0 }
    }

    /// A slot went by.
    pub fn count_slot(&mut self) {
        self.slots = self.slots.saturating_add(1);
    }

    /// A block was made from a solution; the era ends with its last one.
    pub fn count_block(&mut self, slots_per_block: u64) {
        self.blocks += 1;
        if self.blocks >= ERA_BLOCKS {
            let expected = u64::from(ERA_BLOCKS).saturating_mul(slots_per_block);
            *self = Self::new(next_solution_range(self.solution_range, self.slots, expected));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_follows_the_block_rate_within_bounds() {
        assert_eq!(next_solution_range(1000, 600, 600), 1000);
        assert_eq!(next_solution_range(1000, 300, 600), 500);
        assert_eq!(next_solution_range(1000, 900, 600), 1500);
        assert_eq!(next_solution_range(1000, 1, 600), 250, "a quarter at least");
        assert_eq!(next_solution_range(1000, 600_000, 600), 4000, "four times at most");
        assert_eq!(next_solution_range(u64::MAX, 600, 300), u64::MAX);
        assert_eq!(next_solution_range(u64::MAX, 300, 600), u64::MAX / 2);
        assert_eq!(next_solution_range(1, 1, 600), 1, "never zero");
        assert_eq!(next_solution_range(1000, 5, 0), 4000);
    }

    #[test]
    fn era_ends_after_its_blocks() {
        let mut era = Era::new(1 << 40);
        for block in 1..ERA_BLOCKS {
            (0..30).for_each(|_| era.count_slot());
            era.count_block(60);
            assert_eq!(era, Era { solution_range: 1 << 40, slots: u64::from(block) * 30, blocks: block });
        }
        (0..30).for_each(|_| era.count_slot());
        era.count_block(60);
        assert_eq!(era, Era::new(1 << 39), "twice as fast as expected: half the range");
    }

    #[test]
    fn voting_range_saturates() {
        assert_eq!(voting_solution_range(7), 70);
        assert_eq!(voting_solution_range(u64::MAX / 2), u64::MAX);
    }
}
