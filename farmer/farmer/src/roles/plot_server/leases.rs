//! Who was promised which sector: the leases of a plot-server, as a state machine without clock or I/O.
//!
//! A lease goes queued → downloading → encoding → spooled, or fails. Leases are given while there is room; a farm that
//! comes when there is none keeps one turn, and room goes to the farms in order of their turns, however many sectors each
//! of them wants.

use cluster::contract::LeaseKey;
use primitives::PublicKey;
use primitives::rpc::FarmerProtocolInfo;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use ulid::Ulid;

/// A lease that nobody asked for this long is given up if its work has not begun to pay.
pub const LEASE_TTL: Duration = cluster::contract::plot_server::LEASE_EXPIRY;
/// A finished sector that nobody asked for this long makes way when there is no room.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(600);
/// A finished sector that nobody asked for this long is of no use to anybody.
pub const USELESS_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How soon a farm that found no room is to ask again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A farm that does not ask again for this long loses its turn.
pub const TURN_KEPT: Duration = Duration::from_secs(5);
/// Farms that may wait at once.
pub const WAITING_MAX: usize = 1024;

/// A sector that a plot-client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorRequest {
    /// Which sector.
    pub key: LeaseKey,
    /// Pieces in it.
    pub pieces_in_sector: u16,
    /// Protocol parameters that its piece indices follow from.
    pub protocol_info: FarmerProtocolInfo,
}

/// Why a sector could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The spool's disk is full.
    #[error("the spool of the plot-server is full: {0}")]
    NoSpace(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// How far a lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its turn.
    Queued,
    /// Its pieces are being fetched.
    Downloading,
    /// Its records are being encoded.
    Encoding,
    /// It waits in the spool for its plot-client.
    Spooled,
    /// It could not be made; asking again begins anew.
    Failed(Failure),
}

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Identity, for the logs of both sides.
    pub id: Ulid,
    /// The sector.
    pub request: SectorRequest,
    /// How far it is.
    pub phase: Phase,
    /// When its plot-client last asked.
    renewed_at: Instant,
}

/// Answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The lease, new or found again.
    Granted(Lease),
    /// No room; the farm's turn is kept.
    Busy {
        /// Farms whose turn comes first.
        waiting_before: usize,
    },
    /// The sector is leased with other parameters.
    Conflict,
}

/// A farm that waits for room.
#[derive(Debug)]
struct Turn {
    public_key: PublicKey,
    asked_at: Instant,
}

/// All leases of one plot-server.
#[derive(Debug)]
pub struct LeaseTable {
    leases: HashMap<LeaseKey, Lease>,
    queue: VecDeque<LeaseKey>,
    turns: VecDeque<Turn>,
    spool_sectors: usize,
}

impl LeaseTable {
    /// A table for a spool of at most `spool_sectors` sectors, encoding or finished. One more may be downloading, so
    /// that the encoder never waits for pieces.
    pub fn new(spool_sectors: usize) -> Self {
        let spool_sectors = spool_sectors.max(1);
        Self { leases: HashMap::new(), queue: VecDeque::new(), turns: VecDeque::new(), spool_sectors }
    }

    /// Enters a sector that an earlier process left finished in the spool.
    pub fn restore(&mut self, request: SectorRequest, now: Instant) {
        let lease = Lease { id: Ulid::new(), request, phase: Phase::Spooled, renewed_at: now };
        self.leases.insert(request.key, lease);
    }

    /// Answers a plot-client that wants a sector, and renews the lease.
    pub fn offer(&mut self, request: SectorRequest, now: Instant) -> Answer {
        let key = request.key;
        let failed = |lease: &Lease| matches!(lease.phase, Phase::Failed(_));
        if self.leases.get(&key).is_some_and(failed) {
            self.leases.remove(&key);
        }
        if let Some(lease) = self.leases.get_mut(&key) {
            let same = lease.request.pieces_in_sector == request.pieces_in_sector
                && lease.request.protocol_info.max_pieces_in_sector
                    == request.protocol_info.max_pieces_in_sector;
            if !same {
                return Answer::Conflict;
            }
            lease.renewed_at = now;
            return Answer::Granted(lease.clone());
        }
        if let Some(waiting_before) = self.wait_for_turn(&key.public_key, now) {
            return Answer::Busy { waiting_before };
        }
        let lease = Lease { id: Ulid::new(), request, phase: Phase::Queued, renewed_at: now };
        self.leases.insert(key, lease.clone());
        self.queue.push_back(key);
        Answer::Granted(lease)
    }

    /// Ends the farm's turn if there is room for all turns before it and its own; otherwise tells how many are before.
    fn wait_for_turn(&mut self, public_key: &PublicKey, now: Instant) -> Option<usize> {
        self.turns.retain(|turn| now.saturating_duration_since(turn.asked_at) < TURN_KEPT);
        let position = self.turns.iter().position(|turn| turn.public_key == *public_key);
        let before = position.unwrap_or(self.turns.len());
        if self.taken() + before <= self.spool_sectors {
            position.map(|position| self.turns.remove(position));
            return None;
        }
        match position {
            Some(position) => self.turns[position].asked_at = now,
            None if self.turns.len() < WAITING_MAX => {
                self.turns.push_back(Turn { public_key: *public_key, asked_at: now });
            }
            None => {}
        }
        Some(before)
    }

    /// Leases that take room.
    fn taken(&self) -> usize {
        self.leases.values().filter(|lease| !matches!(lease.phase, Phase::Failed(_))).count()
    }

    /// Gives up the turn of a farm.
    pub fn give_up_turn(&mut self, public_key: &PublicKey) {
        self.turns.retain(|turn| turn.public_key != *public_key);
    }

    /// Renews a lease and tells how far it is.
    pub fn renew(&mut self, key: &LeaseKey, now: Instant) -> Option<Lease> {
        let lease = self.leases.get_mut(key)?;
        lease.renewed_at = now;
        Some(lease.clone())
    }

    /// A lease as it stands, without renewing it.
    pub fn get(&self, key: &LeaseKey) -> Option<&Lease> {
        self.leases.get(key)
    }

    /// Forgets a lease; tells what it was.
    pub fn remove(&mut self, key: &LeaseKey) -> Option<Lease> {
        self.queue.retain(|queued| queued != key);
        self.leases.remove(key)
    }

    /// Gives up what was made of the same sector for another history size, since its plot-client does not want that any
    /// more, and tells which.
    pub fn supersede(&mut self, key: &LeaseKey) -> Vec<Lease> {
        let same_sector = |other: &LeaseKey| {
            (other.public_key, other.sector_index) == (key.public_key, key.sector_index)
                && other.history_size != key.history_size
        };
        let old: Vec<_> = self.leases.keys().filter(|other| same_sector(other)).copied().collect();
        old.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// The request that waits longest; its download begins.
    pub fn start_download(&mut self) -> Option<SectorRequest> {
        let key = self.queue.pop_front()?;
        let lease = self.leases.get_mut(&key).expect("a queued key has its lease");
        lease.phase = Phase::Downloading;
        Some(lease.request)
    }

    /// Whether another sector may enter the spool.
    pub fn has_spool_room(&self) -> bool {
        let in_spool = |lease: &&Lease| matches!(lease.phase, Phase::Encoding | Phase::Spooled);
        self.leases.values().filter(in_spool).count() < self.spool_sectors
    }

    /// Marks a downloaded sector as encoding if the spool has room.
    ///
    /// # Errors
    /// Without room nothing changes: false. A lease given up meanwhile is none.
    pub fn start_encoding(&mut self, key: &LeaseKey) -> Option<bool> {
        let room = self.has_spool_room();
        let lease = self.leases.get_mut(key)?;
        if room {
            lease.phase = Phase::Encoding;
        }
        Some(room)
    }

    /// Marks a sector as finished; false when its lease was given up meanwhile.
    pub fn finish(&mut self, key: &LeaseKey, now: Instant) -> bool {
        let Some(lease) = self.leases.get_mut(key) else { return false };
        lease.phase = Phase::Spooled;
        // The time to abandon a sector counts from when there was something to fetch.
        lease.renewed_at = lease.renewed_at.max(now);
        true
    }

    /// Marks a sector as failed.
    pub fn fail(&mut self, key: &LeaseKey, failure: Failure) {
        if let Some(lease) = self.leases.get_mut(key) {
            lease.phase = Phase::Failed(failure);
        }
    }

    /// Gives up what nobody asks for any more, and tells which: what is queued, downloading or failed after
    /// [`LEASE_TTL`]; of the finished ones the longest forgotten, after [`ABANDONED_AFTER`] and only for want of room, or
    /// all after [`USELESS_AFTER`].
    /// An encoding goes on: its result will be wanted again after a restart of the plot-client.
    pub fn expire(&mut self, now: Instant) -> Vec<Lease> {
        let unasked = |lease: &Lease| now.saturating_duration_since(lease.renewed_at);
        let over = |lease: &&Lease| match lease.phase {
            Phase::Queued | Phase::Downloading | Phase::Failed(_) => unasked(lease) >= LEASE_TTL,
            Phase::Encoding => false,
            Phase::Spooled => unasked(lease) >= USELESS_AFTER,
        };
        let mut keys: Vec<LeaseKey> =
            self.leases.values().filter(over).map(|lease| lease.request.key).collect();
        if self.taken() > self.spool_sectors || !self.has_spool_room() {
            let forgotten = self
                .leases
                .values()
                .filter(|lease| lease.phase == Phase::Spooled && unasked(lease) >= ABANDONED_AFTER)
                .min_by_key(|lease| lease.renewed_at);
            keys.extend(forgotten.map(|lease| lease.request.key));
        }
        keys.iter().filter_map(|key| self.remove(key)).collect()
    }

    /// All leases.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    /// Finished sectors in the spool.
    pub fn spooled(&self) -> usize {
        self.leases.values().filter(|lease| lease.phase == Phase::Spooled).count()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use primitives::{HistorySize, SectorIndex};

    fn request(farm: u8, sector_index: SectorIndex) -> SectorRequest {
        let size = |n| HistorySize::new(n).unwrap();
        SectorRequest {
            key: LeaseKey { public_key: PublicKey([farm; 32]), sector_index, history_size: size(3) },
            pieces_in_sector: 2,
            protocol_info: FarmerProtocolInfo {
                history_size: size(3),
                max_pieces_in_sector: 2,
                recent_segments: size(5),
                recent_history_fraction: (size(1), size(10)),
                min_sector_lifetime: size(4),
            },
        }
    }

    fn granted(answer: Answer) -> Lease {
        match answer {
            Answer::Granted(lease) => lease,
            other => panic!("expected a lease, found {other:?}"),
        }
    }

    #[test]
    fn room_goes_to_farms_in_turn_and_each_keeps_one_turn() {
        let mut table = LeaseTable::new(1);
        let now = Instant::now();
        granted(table.offer(request(1, 0), now));
        granted(table.offer(request(1, 1), now));
        assert_eq!(table.offer(request(1, 2), now), Answer::Busy { waiting_before: 0 });
        assert_eq!(table.offer(request(1, 3), now), Answer::Busy { waiting_before: 0 });
        assert_eq!(table.offer(request(2, 0), now), Answer::Busy { waiting_before: 1 });
        assert_eq!(table.offer(request(3, 0), now), Answer::Busy { waiting_before: 2 });
        table.remove(&request(1, 0).key).unwrap();
        // One place, and farm 1 comes first; then farm 2 before farm 1 again.
        assert_eq!(table.offer(request(2, 0), now), Answer::Busy { waiting_before: 1 });
        granted(table.offer(request(1, 2), now));
        assert_eq!(table.offer(request(1, 3), now), Answer::Busy { waiting_before: 2 });
        table.remove(&request(1, 1).key).unwrap();
        assert_eq!(table.offer(request(1, 3), now), Answer::Busy { waiting_before: 2 });
        granted(table.offer(request(2, 0), now));
        assert_eq!(table.start_download().unwrap(), request(1, 2));
        assert_eq!(table.start_download().unwrap(), request(2, 0));
        assert!(table.start_download().is_none());
    }

    #[test]
    fn turns_are_lost_by_silence_and_given_up() {
        let mut table = LeaseTable::new(1);
        let now = Instant::now();
        granted(table.offer(request(1, 0), now));
        granted(table.offer(request(1, 1), now));
        for farm in 2..=4 {
            table.offer(request(farm, 0), now);
        }
        table.give_up_turn(&PublicKey([2; 32]));
        assert_eq!(table.offer(request(4, 0), now + RETRY_AFTER), Answer::Busy { waiting_before: 1 });
        assert_eq!(table.offer(request(4, 0), now + TURN_KEPT), Answer::Busy { waiting_before: 0 });
        table.remove(&request(1, 0).key).unwrap();
        granted(table.offer(request(4, 0), now + TURN_KEPT));
    }

    #[test]
    fn asking_again_finds_the_same_lease_in_every_phase() {
        let mut table = LeaseTable::new(1);
        let now = Instant::now();
        let wanted = request(1, 0);
        let first = granted(table.offer(wanted, now));
        let phase = |table: &mut LeaseTable| {
            let again = granted(table.offer(wanted, now));
            assert_eq!(again.id, first.id);
            again.phase
        };
        assert_eq!(phase(&mut table), Phase::Queued);
        table.start_download().unwrap();
        assert_eq!(phase(&mut table), Phase::Downloading);
        assert_eq!(table.start_encoding(&wanted.key), Some(true));
        assert_eq!(phase(&mut table), Phase::Encoding);
        assert!(table.finish(&wanted.key, now));
        assert_eq!(phase(&mut table), Phase::Spooled);
        let mut other = wanted;
        other.pieces_in_sector = 1;
        assert_eq!(table.offer(other, now), Answer::Conflict);
        assert_eq!(table.remove(&wanted.key).unwrap().phase, Phase::Spooled);
        assert_ne!(granted(table.offer(wanted, now)).id, first.id);
    }

    #[test]
    fn a_full_spool_holds_the_next_sector_back() {
        let mut table = LeaseTable::new(1);
        let now = Instant::now();
        let (first, second) = (request(1, 0), request(2, 0));
        for wanted in [first, second] {
            granted(table.offer(wanted, now));
            table.start_download().unwrap();
        }
        assert_eq!(table.start_encoding(&first.key), Some(true));
        assert_eq!(table.start_encoding(&second.key), Some(false));
        assert!(table.finish(&first.key, now));
        assert_eq!(table.start_encoding(&second.key), Some(false));
        table.remove(&first.key).unwrap();
        assert_eq!(table.start_encoding(&second.key), Some(true));
        assert_eq!(table.start_encoding(&first.key), None);
    }

    #[test]
    fn unasked_leases_end_after_a_minute_but_an_encoding_goes_on() {
        let mut table = LeaseTable::new(3);
        let start = Instant::now();
        let all: Vec<_> = (1..=4).map(|farm| request(farm, 0)).collect();
        for wanted in &all {
            granted(table.offer(*wanted, start));
        }
        table.start_download().unwrap();
        table.start_encoding(&all[0].key).unwrap();
        table.start_download().unwrap();
        table.renew(&all[3].key, start + Duration::from_secs(30)).unwrap();
        assert!(table.expire(start + LEASE_TTL - Duration::from_millis(1)).is_empty());
        let mut gone: Vec<_> =
            table.expire(start + LEASE_TTL).iter().map(|lease| lease.request.key.public_key.0[0]).collect();
        gone.sort_unstable();
        assert_eq!(gone, [2, 3]);
        assert!(!table.finish(&all[1].key, start));
        assert!(table.finish(&all[0].key, start + LEASE_TTL));
        assert_eq!(table.start_download().unwrap(), all[3]);
    }

    #[test]
    fn forgotten_sectors_make_way_only_for_want_of_room_and_the_oldest_first() {
        let mut table = LeaseTable::new(2);
        let start = Instant::now();
        table.restore(request(1, 0), start + Duration::from_secs(1));
        let late = start + Duration::from_secs(2) + ABANDONED_AFTER;
        assert!(table.expire(late).is_empty());
        table.restore(request(2, 0), start);
        assert_eq!(table.spooled(), 2);
        let gone = table.expire(late);
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].request.key.public_key.0[0], 2);
        assert!(table.has_spool_room());
        assert_eq!(table.expire(start + Duration::from_secs(1) + USELESS_AFTER).len(), 1);
        assert_eq!(table.spooled(), 0);
    }

    #[test]
    fn a_sector_wanted_at_another_history_size_is_superseded() {
        let mut table = LeaseTable::new(3);
        let now = Instant::now();
        let old = request(1, 0);
        granted(table.offer(old, now));
        granted(table.offer(request(1, 1), now));
        granted(table.offer(request(2, 0), now));
        let mut new = old;
        new.key.history_size = HistorySize::new(4).unwrap();
        assert!(table.supersede(&old.key).is_empty());
        let gone = table.supersede(&new.key);
        assert_eq!(gone.iter().map(|lease| lease.request).collect::<Vec<_>>(), [old]);
        granted(table.offer(new, now));
        assert_eq!(table.iter().count(), 3);
    }

    #[test]
    fn failure_is_told_and_asking_again_begins_anew() {
        let mut table = LeaseTable::new(1);
        let now = Instant::now();
        let wanted = request(1, 0);
        granted(table.offer(wanted, now));
        table.start_download().unwrap();
        table.start_encoding(&wanted.key).unwrap();
        table.fail(&wanted.key, Failure::NoSpace("no space left on device".into()));
        assert!(matches!(table.renew(&wanted.key, now).unwrap().phase, Phase::Failed(Failure::NoSpace(_))));
        assert!(table.has_spool_room());
        assert_eq!(granted(table.offer(wanted, now)).phase, Phase::Queued);
        assert_eq!(table.start_download().unwrap(), wanted);
    }
}
