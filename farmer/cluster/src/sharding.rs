//! Which member holds which piece: rendezvous hashing weighted by capacity (design §4).
//!
//! Every member draws a number for every piece, and the smallest draw in relation to its capacity wins; so a member that
//! joins or leaves moves only what it wins or had won. Integer arithmetic throughout: all hosts must agree to the bit.

use crate::contract::InstanceId;
use primitives::PieceIndex;

/// A member and how much it can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The member.
    pub member: InstanceId,
    /// Its capacity, in any unit that all members share (pieces or bytes); none of the pieces go to a member without.
    pub capacity: u64,
}

/// Placement of pieces on members; a pure function of the members' ids and capacities.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardMap {
    /// Sorted by member, without those that have no capacity.
    shards: Vec<Shard>,
}

/// 2^32 · −log2((draw + 1) / 2^64), to 32 fractional bits, at least 1.
fn negated_log2(draw: u64) -> u64 {
    let number = u128::from(draw) + 1;
    let whole = 127 - number.leading_zeros();
    // A mantissa in [1, 2) with 63 fractional bits, squared once for every bit of the logarithm.
    let mut mantissa = if whole > 63 { number >> (whole - 63) } else { number << (63 - whole) };
    let mut fraction = 0u64;
    for _ in 0..32 {
        mantissa = (mantissa * mantissa) >> 63;
        fraction <<= 1;
        if mantissa >> 64 != 0 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    let log2 = (u64::from(whole) << 32) | fraction;
    ((64 << 32) - log2).max(1)
}

/// What `member` draws for `piece`.
fn draw(member: InstanceId, piece: PieceIndex) -> u64 {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&member.0.0.to_le_bytes());
    key[16..].copy_from_slice(&piece.0.to_le_bytes());
    let hash = blake3::hash(&key);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"))
}

impl ShardMap {
    /// A map of these members; of a member given twice the last counts.
    pub fn new(shards: impl IntoIterator<Item = Shard>) -> Self {
        let by_member: std::collections::BTreeMap<_, _> =
            shards.into_iter().map(|shard| (shard.member, shard)).collect();
        Self { shards: by_member.into_values().filter(|shard| shard.capacity > 0).collect() }
    }

    /// The members that hold something.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The member that holds a piece; none when there is no member.
    pub fn owner(&self, piece: PieceIndex) -> Option<InstanceId> {
        self.shards.iter().map(|shard| Ticket::new(shard, piece)).min().map(|ticket| ticket.member)
    }

    /// All members, the owner first, then whoever would be it if those before were gone.
    pub fn ranking(&self, piece: PieceIndex) -> Vec<InstanceId> {
        let mut tickets: Vec<_> = self.shards.iter().map(|shard| Ticket::new(shard, piece)).collect();
        tickets.sort_unstable();
        tickets.into_iter().map(|ticket| ticket.member).collect()
    }
}

/// A member's draw; the smallest `cost / capacity` comes first.
#[derive(PartialEq, Eq)]
struct Ticket {
    cost: u64,
    capacity: u64,
    member: InstanceId,
}

impl Ticket {
    fn new(shard: &Shard, piece: PieceIndex) -> Self {
        Self { cost: negated_log2(draw(shard.member, piece)), capacity: shard.capacity, member: shard.member }
    }
}

impl Ord for Ticket {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let own = u128::from(self.cost) * u128::from(other.capacity);
        let others = u128::from(other.cost) * u128::from(self.capacity);
        own.cmp(&others).then_with(|| self.member.cmp(&other.member))
    }
}

impl PartialOrd for Ticket {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;
    use ulid::Ulid;

    const PIECES: u64 = 20_000;

    fn shard(member: u128, capacity: u64) -> Shard {
        Shard { member: InstanceId(Ulid(member)), capacity }
    }

    fn owners(map: &ShardMap) -> Vec<InstanceId> {
        (0..PIECES).map(|piece| map.owner(PieceIndex(piece)).unwrap()).collect()
    }

    #[test]
    fn logarithms_are_right() {
        assert_eq!(negated_log2(u64::MAX), 1);
        assert_eq!(negated_log2(0), 64 << 32);
        assert_eq!(negated_log2((1 << 63) - 1), 1 << 32);
        for draw in [1u64, 2, 12345, 1 << 40, u64::MAX / 3, u64::MAX / 7 * 6] {
            let expected = -((draw as f64 + 1.0) / 2f64.powi(64)).log2();
            let found = negated_log2(draw) as f64 / 2f64.powi(32);
            assert!((found - expected).abs() < 1e-8, "{draw}: {found} {expected}");
        }
    }

    #[test]
    fn placement_is_fixed_forever() {
        // Hosts of different builds must agree: these values never change.
        let map = ShardMap::new([shard(1, 100), shard(2, 200), shard(3, 50)]);
        let owners: Vec<u128> = (0..16).map(|piece| map.owner(PieceIndex(piece)).unwrap().0.0).collect();
        assert_eq!(owners, [2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 2, 2, 1, 3, 2]);
    }

    #[test]
    fn shares_follow_capacity() {
        let map = ShardMap::new([shard(1, 1000), shard(2, 2000), shard(3, 5000), shard(4, 0)]);
        let mut counts = HashMap::new();
        for owner in owners(&map) {
            *counts.entry(owner.0.0).or_insert(0u64) += 1;
        }
        for (member, share) in [(1, 1), (2, 2), (3, 5)] {
            let expected = PIECES * share / 8;
            assert!(counts[&member].abs_diff(expected) < PIECES / 50, "{counts:?}");
        }
        assert!(!counts.contains_key(&4));
        // Units do not matter.
        let bytes = ShardMap::new([1, 2, 3].map(|n| shard(n, [1000, 2000, 5000][n as usize - 1] << 40)));
        assert_eq!(owners(&map), owners(&bytes));
    }

    #[test]
    fn a_join_or_a_leave_moves_only_its_own_share() {
        let before = ShardMap::new([shard(1, 10), shard(2, 20), shard(3, 30)]);
        let after = ShardMap::new([shard(1, 10), shard(2, 20), shard(3, 30), shard(4, 15)]);
        let mut moved = 0;
        for (piece, (old, new)) in owners(&before).into_iter().zip(owners(&after)).enumerate() {
            if old != new {
                assert_eq!(new.0.0, 4, "piece {piece} moved between members that stayed");
                moved += 1;
            }
        }
        assert!((moved as u64).abs_diff(PIECES / 5) < PIECES / 50, "{moved}");
        // The leave is the same the other way round, and the ranking names who takes over.
        for piece in 0..1000 {
            let ranking = after.ranking(PieceIndex(piece));
            assert_eq!(ranking.len(), 4);
            assert_eq!(Some(ranking[0]), after.owner(PieceIndex(piece)));
            let rest = ranking.iter().find(|member| member.0.0 != 4);
            assert_eq!(rest.copied(), before.owner(PieceIndex(piece)));
        }
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let one = ShardMap::new([shard(1, 10), shard(2, 20)]);
        let two = ShardMap::new([shard(2, 5), shard(1, 10), shard(2, 20)]);
        assert_eq!(one, two);
        assert_eq!(ShardMap::default().owner(PieceIndex(0)), None);
        assert!(ShardMap::new([shard(1, 0)]).ranking(PieceIndex(0)).is_empty());
    }
}
