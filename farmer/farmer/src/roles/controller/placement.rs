//! Which sharded cache holds which piece: rendezvous hashing weighted by capacity (design §4, sharding).
//!
//! Every piece ranks all shards by a score that depends on the piece, the shard's instance and its capacity alone; the
//! best one with room left owns it. So a join or a leave moves only the joiner's or the leaver's share, and everybody
//! who knows the members computes the same owners. Pieces are given out in the order of their index; when the shards are
//! too small for the history, the newest pieces have no owner.

use crate::roles::piece_bitmap::PieceBitmap;
use primitives::PieceIndex;
use ulid::Ulid;

/// A sharded cache as placement sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// Its instance.
    pub instance: Ulid,
    /// Pieces that it may hold.
    pub capacity_pieces: u64,
}

/// Scatters 64 bits; the finaliser of SplitMix64, a bijection.
const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Shards with what the scores need of them, in the order of their instances.
struct Ranking {
    shards: Vec<(Shard, u64, f64)>,
}

impl Ranking {
    fn new(shards: &[Shard]) -> Self {
        let mut shards: Vec<_> = shards
            .iter()
            .filter(|shard| shard.capacity_pieces > 0)
            .map(|&shard| {
                let hash = blake3::hash(&shard.instance.to_bytes());
                let seed = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"));
                (shard, seed, shard.capacity_pieces as f64)
            })
            .collect();
        shards.sort_by_key(|(shard, ..)| shard.instance);
        shards.dedup_by_key(|(shard, ..)| shard.instance);
        Self { shards }
    }

    /// An exponential variate of rate `weight`: the least of them belongs to each shard with a probability that is
    /// proportional to its weight.
    fn score(seed: u64, weight: f64, piece: PieceIndex) -> f64 {
        let bits = mix(seed ^ mix(piece.0.wrapping_add(0x9e37_79b9_7f4a_7c15))) >> 11;
        let uniform = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln() / weight
    }
}

/// The shards in the order in which `piece` prefers them; those without capacity are left out.
pub fn preference(shards: &[Shard], piece: PieceIndex) -> Vec<Ulid> {
    let mut scored: Vec<_> = Ranking::new(shards)
        .shards
        .into_iter()
        .map(|(shard, seed, weight)| (Ranking::score(seed, weight, piece), shard.instance))
        .collect();
    scored.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    scored.into_iter().map(|(_, instance)| instance).collect()
}

/// What each shard should hold of the first `pieces` pieces, in the order of `shards`.
pub fn place(shards: &[Shard], pieces: u64) -> Vec<(Ulid, PieceBitmap)> {
    let ranking = Ranking::new(shards);
    let mut room: Vec<u64> = ranking.shards.iter().map(|(shard, ..)| shard.capacity_pieces).collect();
    let mut sets = vec![PieceBitmap::default(); room.len()];
    for piece in (0..pieces).map(PieceIndex) {
        let best = ranking
            .shards
            .iter()
            .enumerate()
            .filter(|(position, _)| room[*position] > 0)
            .map(|(position, &(_, seed, weight))| (Ranking::score(seed, weight, piece), position))
            .min_by(|(one, _), (other, _)| one.total_cmp(other));
        let Some((_, position)) = best else { break };
        room[position] -= 1;
        sets[position].insert(piece);
    }
    ranking.shards.iter().map(|(shard, ..)| shard.instance).zip(sets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(capacities: &[u64]) -> Vec<Shard> {
        let instance = |position| Ulid::from_parts(1, position);
        let shard =
            |(position, &capacity_pieces)| Shard { instance: instance(position as u128), capacity_pieces };
        capacities.iter().enumerate().map(shard).collect()
    }

    fn owners(placement: &[(Ulid, PieceBitmap)], pieces: u64) -> Vec<Option<Ulid>> {
        let owner =
            |piece| placement.iter().find(|(_, set)| set.contains(PieceIndex(piece))).map(|(ulid, _)| *ulid);
        (0..pieces).map(owner).collect()
    }

    #[test]
    fn shares_follow_capacity_and_cover_everything() {
        let shards = shards(&[100_000, 200_000, 700_000]);
        let placement = place(&shards, 20_000);
        let lengths: Vec<u64> = placement.iter().map(|(_, set)| set.len()).collect();
        assert_eq!(lengths.iter().sum::<u64>(), 20_000);
        for (length, share) in lengths.iter().zip([2000.0, 4000.0, 14_000.0]) {
            assert!((*length as f64 - share).abs() < 0.06 * share, "{lengths:?}");
        }
    }

    #[test]
    fn a_leave_moves_only_the_leavers_share() {
        let all = shards(&[50_000, 60_000, 70_000, 80_000]);
        let before = owners(&place(&all, 10_000), 10_000);
        let after = owners(&place(&all[..3], 10_000), 10_000);
        let gone = all[3].instance;
        for (piece, (before, after)) in before.iter().zip(&after).enumerate() {
            assert!(before == after || *before == Some(gone), "piece {piece} moved");
        }
        assert!(before.iter().filter(|owner| **owner == Some(gone)).count() > 2000);
    }

    #[test]
    fn order_and_duplicates_of_members_do_not_matter() {
        let mut some = shards(&[500, 600, 700]);
        let placement = place(&some, 1500);
        some.reverse();
        some.push(some[0]);
        assert_eq!(place(&some, 1500), placement);
    }

    #[test]
    fn a_full_shard_passes_its_pieces_on_and_the_newest_are_left_out() {
        let shards = shards(&[10, 1000, 0]);
        let placement = place(&shards, 1005);
        assert_eq!(placement.len(), 2);
        assert_eq!(placement[0].1.len() + placement[1].1.len(), 1005);
        let placement = place(&shards, 2000);
        assert_eq!(owners(&placement, 2000).iter().rposition(Option::is_some), Some(1009));
        assert!(place(&[], 5).is_empty());
    }

    #[test]
    fn the_owner_is_the_first_preference_while_there_is_room() {
        let shards = shards(&[5000, 4000, 3000]);
        let placement = place(&shards, 1000);
        for (piece, owner) in owners(&placement, 1000).into_iter().enumerate() {
            let preference = preference(&shards, PieceIndex(piece as u64));
            assert_eq!(preference.len(), 3);
            assert_eq!(Some(preference[0]), owner);
        }
    }
}
