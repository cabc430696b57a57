//! What the leader knows of the caches: what each should hold and what it holds.

use super::sources::ENOUGH_TO_RECONSTRUCT;
use crate::roles::piece_bitmap::PieceBitmap;
use crate::roles::placement::Placement;
use cluster::contract::{ContentsRequest, InstanceId};
use cluster::sharding::Shard;
use cluster::{ClientError, ClusterClient};
use primitives::{PieceIndex, SegmentIndex};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A live cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheMember {
    /// Its instance.
    pub instance: InstanceId,
    /// Where it takes pieces.
    pub address: SocketAddr,
    /// Pieces that it may hold; none for a full-piece cache, which holds everything.
    pub capacity_pieces: Option<u64>,
}

/// Pieces that one cache lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The cache.
    pub member: CacheMember,
    /// What it lacks.
    pub pieces: Vec<PieceIndex>,
}

#[derive(Debug)]
struct View {
    member: CacheMember,
    /// Unknown until it was asked.
    held: Option<PieceBitmap>,
    asked: Option<Instant>,
    /// It failed: nothing is sent to it until then.
    paused_until: Option<Instant>,
    /// It takes no pieces: its disk is full or fails.
    refuses: bool,
}

impl View {
    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| until > Instant::now())
    }
}

/// What the leader knows of the caches.
#[derive(Debug, Default)]
pub struct Views {
    views: BTreeMap<InstanceId, View>,
    placement: Placement,
    pieces: u64,
}

impl Views {
    /// Takes over which caches live and how long the history is. What is known of a cache that stays is kept, unless it
    /// has moved.
    pub fn update(&mut self, members: &[CacheMember], pieces: u64) {
        let mut old = std::mem::take(&mut self.views);
        for &member in members {
            let kept = old.remove(&member.instance).filter(|view| view.member.address == member.address);
            let view = match kept {
                Some(view) => View { member, ..view },
                None => View { member, held: None, asked: None, paused_until: None, refuses: false },
            };
            self.views.insert(member.instance, view);
        }
        let shards: Vec<_> = self
            .views
            .values()
            .filter_map(|view| {
                let capacity = view.member.capacity_pieces.filter(|&capacity| capacity > 0)?;
                Some(Shard { member: view.member.instance, capacity })
            })
            .collect();
        if self.placement.shards() != shards || pieces < self.pieces {
            self.placement = Placement::new(shards);
        }
        self.pieces = pieces;
        self.placement.extend_to(pieces);
    }

    /// Number of live caches.
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether no cache lives.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// Whether every cache was asked what it holds.
    pub fn all_asked(&self) -> bool {
        self.views.values().all(|view| view.asked.is_some())
    }

    /// Caches that were not asked for `age`.
    pub fn due(&self, age: Duration) -> Vec<InstanceId> {
        let is_due = |view: &&View| view.asked.is_none_or(|asked| asked.elapsed() >= age);
        self.views.values().filter(is_due).map(|view| view.member.instance).collect()
    }

    /// Notes what a cache said it holds.
    pub fn answered(&mut self, instance: InstanceId, held: Result<PieceBitmap, ClientError>) {
        let Some(view) = self.views.get_mut(&instance) else { return };
        view.asked = Some(Instant::now());
        match held {
            Ok(held) => view.held = Some(held),
            Err(error) => tracing::warn!(%error, cache = %instance, "A cache does not say what it holds"),
        }
    }

    /// Notes that a cache holds a piece now.
    pub fn stored(&mut self, instance: InstanceId, piece: PieceIndex) {
        let Some(view) = self.views.get_mut(&instance) else { return };
        view.refuses = false;
        if let Some(held) = &mut view.held {
            held.insert(piece);
        }
    }

    /// Notes that a cache takes no pieces, and leaves it alone for a while.
    pub fn refused(&mut self, instance: InstanceId, pause: Duration) {
        self.pause(instance, pause);
        if let Some(view) = self.views.get_mut(&instance) {
            view.refuses = true;
        }
    }

    /// Notes that a cache does not hold a piece that it was thought to hold.
    pub fn lacks(&mut self, instance: InstanceId, piece: PieceIndex) {
        if let Some(held) = self.views.get_mut(&instance).and_then(|view| view.held.as_mut()) {
            held.remove(piece);
        }
    }

    /// Sends nothing to a cache for a while.
    pub fn pause(&mut self, instance: InstanceId, pause: Duration) {
        if let Some(view) = self.views.get_mut(&instance) {
            view.paused_until = Some(Instant::now() + pause);
        }
    }

    /// What a cache should hold.
    fn wants(&self, view: &View, piece: PieceIndex) -> bool {
        match view.member.capacity_pieces {
            None => piece.0 < self.pieces,
            Some(_) => self.placement.of(view.member.instance).is_some_and(|pieces| pieces.contains(piece)),
        }
    }

    /// What each cache lacks of a segment, those that are paused left out.
    pub fn lacking(&self, segment: SegmentIndex) -> Vec<Lack> {
        let lack = |view: &View| {
            let held = view.held.as_ref()?;
            let missing =
                segment.piece_indices().filter(|&piece| self.wants(view, piece) && !held.contains(piece));
            let pieces: Vec<_> = missing.collect();
            (!pieces.is_empty() && !view.is_paused()).then_some(Lack { member: view.member, pieces })
        };
        self.views.values().filter_map(lack).collect()
    }

    /// How many of these pieces their caches still lack.
    pub fn still_lacking(&self, lacking: &[Lack]) -> usize {
        let count = |lack: &Lack| {
            let held = self.views.get(&lack.member.instance).and_then(|view| view.held.as_ref());
            lack.pieces.iter().filter(|&&piece| !held.is_some_and(|held| held.contains(piece))).count()
        };
        lacking.iter().map(count).sum()
    }

    /// The first segment from `from` on of which some cache lacks something, and `skip` does not leave out.
    pub fn first_lacking(
        &self,
        from: SegmentIndex,
        skip: impl Fn(SegmentIndex) -> bool,
    ) -> Option<SegmentIndex> {
        let first_of = |view: &View| {
            let held = view.held.as_ref().filter(|_| !view.is_paused())?;
            let missing = match view.member.capacity_pieces {
                None => PieceBitmap::below(self.pieces).without(held),
                Some(_) => self.placement.of(view.member.instance)?.without(held),
            };
            missing.iter().map(PieceIndex::segment_index).find(|&segment| segment >= from && !skip(segment))
        };
        self.views.values().filter_map(first_of).min()
    }

    /// Whether caches that are not paused want pieces of a segment which no cache has, and all of them together have too few to
    /// make those from.
    pub fn is_lost(&self, segment: SegmentIndex) -> bool {
        let (held, nowhere): (Vec<_>, Vec<_>) =
            segment.piece_indices().partition(|&piece| self.holders(piece).next().is_some());
        let takers = || self.views.values().filter(|view| view.held.is_some() && !view.is_paused());
        held.len() < ENOUGH_TO_RECONSTRUCT
            && nowhere.into_iter().any(|piece| takers().any(|view| self.wants(view, piece)))
    }

    /// The segments that [`Self::is_lost`] holds for, ascending, those left out that `skip` names. None while it is not known
    /// what every cache holds.
    pub fn lost(&self, skip: impl Fn(SegmentIndex) -> bool) -> Vec<SegmentIndex> {
        if !self.all_asked() {
            return Vec::new();
        }
        let held = self.views.values().filter_map(|view| view.held.as_ref());
        let nowhere = held.fold(PieceBitmap::below(self.pieces), |nowhere, held| nowhere.without(held));
        let mut last = None;
        let segments = nowhere.iter().map(|piece| piece.segment_index());
        let each_once = segments.filter(|&segment| last.replace(segment) != Some(segment));
        each_once.filter(|&segment| !skip(segment) && self.is_lost(segment)).collect()
    }

    /// Pieces that caches lack, all together.
    pub fn count_lacking(&self) -> u64 {
        let count = |view: &View| {
            let Some(held) = &view.held else { return 0 };
            match view.member.capacity_pieces {
                None => PieceBitmap::below(self.pieces).without(held).len(),
                Some(_) => {
                    self.placement.of(view.member.instance).map_or(0, |pieces| pieces.without(held).len())
                }
            }
        };
        self.views.values().map(count).sum()
    }

    /// Whether every piece of a segment that has a place is in at least one cache. A place in a cache that does not
    /// answer, or takes no pieces, is none.
    pub fn is_stored(&self, segment: SegmentIndex) -> bool {
        let takes = |view: &&View| view.held.is_some() && !view.refuses;
        segment.piece_indices().all(|piece| {
            let wanted = self.views.values().filter(takes).any(|view| self.wants(view, piece));
            !wanted || self.holders(piece).next().is_some()
        })
    }

    /// Pieces that have no place: the sharded caches are too small and there is no full one.
    pub fn without_place(&self) -> u64 {
        let full = self.views.values().any(|view| view.member.capacity_pieces.is_none());
        if full { 0 } else { self.pieces - self.placement.placed().min(self.pieces) }
    }

    /// Caches that hold a piece.
    pub fn holders(&self, piece: PieceIndex) -> impl Iterator<Item = CacheMember> {
        let holds = move |view: &&View| view.held.as_ref().is_some_and(|held| held.contains(piece));
        self.views.values().filter(holds).map(|view| view.member)
    }
}

/// Asks a cache for all it holds.
///
/// # Errors
/// Those of the requests.
pub async fn ask_contents(client: &ClusterClient, instance: InstanceId) -> Result<PieceBitmap, ClientError> {
    let mut held = PieceBitmap::default();
    let mut from = PieceIndex(0);
    loop {
        let contents = client.request_instance(instance, &ContentsRequest { from }).await?;
        contents.pieces.iter().for_each(|piece| held.insert(piece));
        match contents.next {
            // The contract's check makes it go on.
            Some(next) => from = next,
            None => return Ok(held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    fn member(instance: u128, capacity_pieces: Option<u64>) -> CacheMember {
        let address = SocketAddr::from(([127, 0, 0, 1], 1000 + instance as u16));
        CacheMember { instance: InstanceId(Ulid(instance)), address, capacity_pieces }
    }

    #[test]
    fn a_full_cache_lacks_everything_and_sharded_ones_their_share() {
        let members = [member(1, None), member(2, Some(1000)), member(3, Some(1000))];
        let mut views = Views::default();
        views.update(&members, 512);
        assert!(!views.all_asked());
        assert_eq!(views.first_lacking(SegmentIndex(0), |_| false), None, "unknown contents are not filled");
        for member in members {
            views.answered(member.instance, Ok(PieceBitmap::default()));
        }
        let lacking = views.lacking(SegmentIndex(1));
        assert_eq!(lacking.len(), 3);
        assert_eq!(lacking[0].pieces.len(), 256);
        assert_eq!(lacking[1].pieces.len() + lacking[2].pieces.len(), 256);
        assert_eq!(views.count_lacking(), 1024);
        assert!(!views.is_stored(SegmentIndex(0)));
        assert_eq!(views.without_place(), 0);

        assert_eq!(views.still_lacking(&lacking), 512);
        for piece in SegmentIndex(0).piece_indices() {
            views.stored(members[0].instance, piece);
        }
        assert_eq!(views.still_lacking(&lacking), 512);
        views.stored(members[0].instance, PieceIndex(256));
        assert_eq!(views.still_lacking(&lacking), 511);
        assert!(views.is_stored(SegmentIndex(0)), "the full cache has all of it");
        assert_eq!(views.holders(PieceIndex(7)).collect::<Vec<_>>(), [members[0]]);
        assert_eq!(views.first_lacking(SegmentIndex(0), |_| false), Some(SegmentIndex(0)));
        assert_eq!(views.first_lacking(SegmentIndex(0), |index| index.0 == 0), Some(SegmentIndex(1)));
        assert!(!views.is_stored(SegmentIndex(1)));
        members.iter().for_each(|member| views.refused(member.instance, Duration::ZERO));
        assert!(views.is_stored(SegmentIndex(1)), "caches that take nothing are not waited for");
        views.stored(members[0].instance, PieceIndex(0));
        assert!(!views.is_stored(SegmentIndex(1)));
        views.pause(members[1].instance, Duration::from_secs(60));
        views.pause(members[2].instance, Duration::from_secs(60));
        assert_eq!(views.first_lacking(SegmentIndex(0), |_| false), Some(SegmentIndex(1)));
    }

    #[test]
    fn a_segment_is_lost_when_the_caches_have_too_little_of_it_together() {
        let members = [member(1, None), member(2, Some(1000))];
        let mut views = Views::default();
        views.update(&members, 1024);
        let held = |pieces: &mut dyn Iterator<Item = u64>| {
            let mut held = PieceBitmap::default();
            pieces.for_each(|piece| held.insert(PieceIndex(piece)));
            held
        };
        // 127 pieces of segment 0, 128 of segment 1, nothing of segment 2, all of segment 3.
        views.answered(members[0].instance, Ok(held(&mut (0..100).chain(256..384).chain(768..1024))));
        assert!(views.lost(|_| false).is_empty(), "the other one may have it");
        views.answered(members[1].instance, Ok(held(&mut (90..127))));
        assert_eq!(views.lost(|_| false), [SegmentIndex(0), SegmentIndex(2)]);
        assert_eq!(views.lost(|segment| segment.0 == 0), [SegmentIndex(2)]);
        views.stored(members[1].instance, PieceIndex(200));
        assert!(!views.is_lost(SegmentIndex(0)) && views.is_lost(SegmentIndex(2)));
        members.iter().for_each(|member| views.pause(member.instance, Duration::from_secs(60)));
        assert!(views.lost(|_| false).is_empty(), "nobody takes it now");
        // What has a place nowhere is wanted by nobody.
        views.update(&[], 1024);
        views.update(&[member(2, Some(0))], 1024);
        views.answered(members[1].instance, Ok(PieceBitmap::default()));
        assert!(views.lost(|_| false).is_empty());
    }

    #[test]
    fn what_is_known_of_a_cache_outlives_others_but_not_its_address() {
        let mut views = Views::default();
        let mut members = [member(2, Some(100)), member(3, Some(100))];
        views.update(&members, 256);
        views.answered(members[0].instance, Ok(PieceBitmap::below(10)));
        assert_eq!(views.without_place(), 56);
        views.update(&members[..1], 256);
        assert!(views.all_asked());
        assert_eq!(views.without_place(), 156);
        assert!(views.is_stored(SegmentIndex(1)), "a segment without a place has nothing to store");
        members[0].address.set_port(9);
        views.update(&members[..1], 256);
        assert!(!views.all_asked());
        assert!(views.due(Duration::MAX).contains(&members[0].instance));
    }
}
