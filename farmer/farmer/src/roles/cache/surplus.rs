//! Which pieces a sharded cache may let go when it is full: those of which it is not the place.

use crate::roles::piece_bitmap::PieceBitmap;
use crate::roles::placement::Placement;
use cluster::Members;
use cluster::contract::InstanceId;
use cluster::sharding::Shard;
use parking_lot::Mutex;
use primitives::{Piece, PieceIndex, SegmentIndex};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Finds pieces that have their place elsewhere.
pub struct SurplusFinder {
    instance: InstanceId,
    members: OnceLock<watch::Receiver<Arc<Members>>>,
    found: Mutex<Found>,
}

/// What was found for certain members and a certain length of the history.
#[derive(Default)]
struct Found {
    shards: Vec<Shard>,
    pieces: u64,
    candidates: VecDeque<PieceIndex>,
}

impl SurplusFinder {
    /// A finder for this cache; finds nothing before [`Self::follow`].
    pub fn new(instance: InstanceId) -> Self {
        Self { instance, members: OnceLock::new(), found: Mutex::default() }
    }

    /// Follows the list of members.
    pub fn follow(&self, members: watch::Receiver<Arc<Members>>) {
        // Set once, by the role.
        let _ = self.members.set(members);
    }

    /// A piece among `held` that another member is the place of; none while this cache is not in the list itself.
    pub fn find(&self, held: &PieceBitmap) -> Option<PieceIndex> {
        let members = Arc::clone(&self.members.get()?.borrow());
        members.get(self.instance)?;
        let shards = shards_in_pieces(&members);
        let segments = held.last()?.segment_index().0 + 1;
        let pieces = segments * SegmentIndex::NUM_PIECES as u64;
        let mut found = self.found.lock();
        if found.shards != shards || found.pieces < pieces {
            let mut placement = Placement::new(shards.iter().copied());
            placement.extend_to(pieces);
            let candidates = match placement.of(self.instance) {
                Some(own) => held.without(own).iter().collect(),
                None => VecDeque::new(),
            };
            *found = Found { shards, pieces, candidates };
        }
        while let Some(candidate) = found.candidates.pop_front() {
            if held.contains(candidate) {
                return Some(candidate);
            }
        }
        None
    }
}

/// The live sharded caches with their capacities in pieces.
pub fn shards_in_pieces(members: &Members) -> Vec<Shard> {
    let in_pieces = |shard: &Shard| Shard { capacity: shard.capacity / Piece::SIZE as u64, ..*shard };
    members.shard_map().shards().iter().map(in_pieces).filter(|shard| shard.capacity > 0).collect()
}
