//! What every cache should hold of the history: the cluster's rendezvous hashing, within everyone's capacity.
//!
//! A piece belongs to its owner by [`ShardMap`]; while that one is full, to the next in the piece's ranking that has room.
//! Pieces are given out in the order of their index, so everybody who knows the members and the length of the history
//! computes the same; when the shards are too small for the history, its newest pieces have no place.

use crate::roles::piece_bitmap::PieceBitmap;
use cluster::contract::InstanceId;
use cluster::sharding::{Shard, ShardMap};
use primitives::PieceIndex;
use std::collections::BTreeMap;

/// What each sharded cache should hold; grows with the history.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    map: ShardMap,
    places: BTreeMap<InstanceId, Place>,
    /// Pieces that were given out, or found no room.
    pieces: u64,
    room: u64,
}

#[derive(Debug, Clone, Default)]
struct Place {
    room: u64,
    pieces: PieceBitmap,
}

impl Placement {
    /// A placement on these shards, capacities in pieces, of no piece yet.
    pub fn new(shards: impl IntoIterator<Item = Shard>) -> Self {
        let map = ShardMap::new(shards);
        let place =
            |shard: &Shard| (shard.member, Place { room: shard.capacity, pieces: PieceBitmap::default() });
        let places = map.shards().iter().map(place).collect();
        let room = map.shards().iter().fold(0_u64, |sum, shard| sum.saturating_add(shard.capacity));
        Self { map, places, pieces: 0, room }
    }

    /// Places pieces up to, not including, `pieces`. Half a microsecond for each piece and shard.
    pub fn extend_to(&mut self, pieces: u64) {
        for piece in (self.pieces..pieces).map(PieceIndex) {
            if self.room == 0 {
                break;
            }
            // The whole ranking is computed only where the owner is full.
            let owner = self.map.owner(piece).is_some_and(|owner| self.take(owner, piece));
            if !owner {
                let ranking = self.map.ranking(piece);
                ranking.into_iter().any(|member| self.take(member, piece));
            }
        }
        self.pieces = self.pieces.max(pieces);
    }

    fn take(&mut self, member: InstanceId, piece: PieceIndex) -> bool {
        match self.places.get_mut(&member) {
            Some(place) if place.room > 0 => {
                place.room -= 1;
                self.room -= 1;
                place.pieces.insert(piece);
                true
            }
            _ => false,
        }
    }

    /// Pieces that were placed, or found no room.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// The shards that hold something, ordered by member.
    pub fn shards(&self) -> &[Shard] {
        self.map.shards()
    }

    /// What a member should hold.
    pub fn of(&self, member: InstanceId) -> Option<&PieceBitmap> {
        self.places.get(&member).map(|place| &place.pieces)
    }

    /// Pieces that have a place.
    pub fn placed(&self) -> u64 {
        self.places.values().map(|place| place.pieces.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    fn shard(member: u128, capacity: u64) -> Shard {
        Shard { member: InstanceId(Ulid(member)), capacity }
    }

    fn place(shards: &[Shard], pieces: u64) -> Placement {
        let mut placement = Placement::new(shards.iter().copied());
        // In steps, as history grows.
        (0..=pieces).step_by(100).for_each(|pieces| placement.extend_to(pieces));
        placement.extend_to(pieces);
        placement
    }

    fn owner(placement: &Placement, piece: u64) -> Option<InstanceId> {
        let holds = |place: &Place| place.pieces.contains(PieceIndex(piece));
        let mut owners = placement.places.iter().filter(|(_, place)| holds(place)).map(|(member, _)| *member);
        let owner = owners.next();
        assert_eq!(owners.next(), None, "piece {piece} has two places");
        owner
    }

    #[test]
    fn pieces_are_where_the_shard_map_says_while_there_is_room() {
        let shards = [shard(1, 5000), shard(2, 4000), shard(3, 3000)];
        let placement = place(&shards, 1000);
        let map = ShardMap::new(shards);
        for piece in 0..1000 {
            assert_eq!(owner(&placement, piece), map.owner(PieceIndex(piece)));
        }
    }

    #[test]
    fn a_full_shard_passes_its_pieces_on_and_the_newest_are_left_out() {
        let shards = [shard(1, 10), shard(2, 1000), shard(3, 0)];
        let placement = place(&shards, 1005);
        assert_eq!(placement.placed(), 1005);
        assert!(placement.of(shards[1].member).unwrap().len() <= 1000);
        let placement = place(&shards, 2000);
        assert!((0..1010).all(|piece| owner(&placement, piece).is_some()));
        assert!((1010..2000).all(|piece| owner(&placement, piece).is_none()));
        assert_eq!((placement.pieces(), placement.placed()), (2000, 1010));
        assert_eq!(placement.of(shards[0].member).unwrap().len(), 10);
        assert!(placement.of(shards[2].member).is_none());
        assert_eq!(place(&[], 500).placed(), 0);
    }
}
