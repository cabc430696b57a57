//! Who is alive, as one reader sees it; no I/O and no clock of its own.
//!
//! Time passes only as far as the reader sees events: between two events at most [`MAX_GAP`] counts, and after a longer
//! gap, which was an outage, every member has its full time again. So nobody dies of an outage that hit all, and a
//! member that stopped dies 6 seconds later while others are heard. Whoever is silent for two heartbeats is asked whether it
//! lives, past JetStream, since JetStream may take no writes from it and still be read.

use super::{DEAD_AFTER, HEARTBEAT_INTERVAL, MemberInfo};
use crate::contract::InstanceId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Longest silence that is no outage: one and a half heartbeats.
const MAX_GAP: Duration = Duration::from_secs(3);

/// After so long without a heartbeat a member is asked whether it lives: an answer has the time until it counts as dead.
const ASK_AFTER: Duration = HEARTBEAT_INTERVAL.saturating_mul(2);

#[derive(Debug)]
struct Seen {
    info: MemberInfo,
    revision: u64,
    /// Reader's time of the last change.
    last: Duration,
    /// A stored value proves nothing about now: only who was seen to change is alive.
    confirmed: bool,
}

#[derive(Debug, Default)]
pub(super) struct View {
    members: HashMap<String, Seen>,
    /// Reader's time: the sum of all gaps that were no outages.
    clock: Duration,
    last_event: Option<Instant>,
}

impl View {
    /// Something was heard: JetStream is there.
    pub(super) fn alive(&mut self, now: Instant) {
        if let Some(last) = self.last_event {
            let gap = now.saturating_duration_since(last);
            if gap > MAX_GAP {
                for seen in self.members.values_mut() {
                    seen.last = self.clock;
                }
            } else {
                self.clock += gap;
            }
        }
        self.last_event = Some(now);
    }

    /// A heartbeat was read, new or stored.
    pub(super) fn beat(&mut self, key: &str, info: MemberInfo, revision: u64, now: Instant) {
        self.alive(now);
        let clock = self.clock;
        match self.members.get_mut(key) {
            None => {
                let seen = Seen { info, revision, last: clock, confirmed: false };
                self.members.insert(key.to_owned(), seen);
            }
            // A watch that begins anew repeats what is stored.
            Some(seen) if seen.revision == revision => {}
            Some(seen) => *seen = Seen { info, revision, last: clock, confirmed: true },
        }
    }

    /// A member said that it leaves.
    pub(super) fn left(&mut self, key: &str, now: Instant) {
        self.alive(now);
        self.members.remove(key);
    }

    /// Reader's time.
    fn clock(&self, now: Instant) -> Duration {
        let gap = self.last_event.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.clock + if gap > MAX_GAP { Duration::ZERO } else { gap }
    }

    /// Members that were not heard for two heartbeats, by key.
    pub(super) fn silent(&self, now: Instant) -> Vec<(String, InstanceId)> {
        let clock = self.clock(now);
        let is_silent = |seen: &Seen| seen.confirmed && clock.saturating_sub(seen.last) > ASK_AFTER;
        let silent = self.members.iter().filter(|(_, seen)| is_silent(seen));
        silent.map(|(key, seen)| (key.clone(), seen.info.instance)).collect()
    }

    /// A member answered past JetStream: it lives, and what it said last stands.
    pub(super) fn answered(&mut self, key: &str, now: Instant) {
        let clock = self.clock(now);
        if let Some(seen) = self.members.get_mut(key) {
            seen.last = clock;
        }
    }

    /// The members alive now; forgets the dead.
    pub(super) fn live(&mut self, now: Instant) -> Vec<MemberInfo> {
        let clock = self.clock(now);
        self.members.retain(|key, seen| {
            let dead = seen.confirmed && clock.saturating_sub(seen.last) > DEAD_AFTER;
            if dead {
                tracing::info!(member = key, "a member of the cluster is gone");
            }
            !dead
        });
        let mut live: Vec<_> =
            self.members.values().filter(|seen| seen.confirmed).map(|seen| seen.info.clone()).collect();
        live.sort_by_key(|info| (info.role, info.instance));
        live
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::{InstanceId, Role};
    use ulid::Ulid;

    fn info(member: u128) -> MemberInfo {
        MemberInfo {
            role: Role::ShardedCache,
            instance: InstanceId(Ulid(member)),
            address: None,
            capacity_bytes: 1,
            build: String::new(),
            srs_digest: None,
            genesis: None,
            holds: Default::default(),
        }
    }

    /// A reader with a clock that the test moves.
    struct Reader {
        view: View,
        start: Instant,
        revision: u64,
    }

    impl Reader {
        fn new() -> Self {
            Self { view: View::default(), start: Instant::now(), revision: 0 }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn beat(&mut self, member: u128, seconds: f64) {
            self.revision += 1;
            let now = self.at(seconds);
            self.view.beat(&member.to_string(), info(member), self.revision, now);
        }

        fn live(&mut self, seconds: f64) -> Vec<u128> {
            let now = self.at(seconds);
            self.view.live(now).into_iter().map(|info| info.instance.0.0).collect()
        }
    }

    #[test]
    fn only_who_is_seen_to_change_is_alive() {
        let mut reader = Reader::new();
        reader.beat(1, 0.0);
        assert!(reader.live(0.1).is_empty());
        // The same stored value again, as after a new watch.
        let now = reader.at(1.0);
        reader.view.beat("1", info(1), reader.revision, now);
        assert!(reader.live(1.0).is_empty());
        reader.beat(1, 2.0);
        assert_eq!(reader.live(2.0), [1]);
    }

    #[test]
    fn the_silent_die_while_others_are_heard() {
        let mut reader = Reader::new();
        for member in [1, 2] {
            reader.beat(member, 0.0);
            reader.beat(member, 0.3);
        }
        let mut died = None;
        for tick in 1..40 {
            let seconds = 0.3 + f64::from(tick) * 0.5;
            if tick % 4 == 0 {
                reader.beat(1, seconds);
            }
            let live = reader.live(seconds);
            assert!(live.contains(&1));
            if !live.contains(&2) {
                died.get_or_insert(seconds - 0.3);
            }
        }
        let died = died.unwrap();
        assert!((6.0..=7.0).contains(&died), "{died}");
    }

    #[test]
    fn an_outage_kills_nobody() {
        let mut reader = Reader::new();
        for member in [1, 2, 3] {
            reader.beat(member, 0.0);
            reader.beat(member, 1.0);
        }
        // Nothing is heard for an hour.
        for tick in 1..7200 {
            assert_eq!(reader.live(1.0 + f64::from(tick) * 0.5), [1, 2, 3]);
        }
        // It ends; the others come back one after another, the last never.
        reader.beat(1, 3601.0);
        assert_eq!(reader.live(3601.0), [1, 2, 3]);
        reader.beat(1, 3603.0);
        reader.beat(1, 3605.0);
        reader.beat(2, 3606.0);
        assert_eq!(reader.live(3606.0), [1, 2, 3]);
        reader.beat(1, 3608.0);
        assert_eq!(reader.live(3608.0), [1, 2]);
    }

    #[test]
    fn who_answers_past_jetstream_stays() {
        let mut reader = Reader::new();
        for (seconds, member) in [(0.0, 1), (0.0, 2), (0.0, 3), (0.3, 1), (0.3, 2), (0.3, 3)] {
            reader.beat(member, seconds);
        }
        // JetStream is read every second and takes no writes; only the first two answer when they are asked.
        let mut asked = std::collections::BTreeSet::new();
        for second in 1..60 {
            let now = reader.at(f64::from(second));
            reader.view.alive(now);
            for (key, instance) in reader.view.silent(now) {
                assert!(second > 4, "asked too early");
                asked.insert(instance.0.0);
                if key != "3" {
                    reader.view.answered(&key, now);
                }
            }
            let expected = if second > 6 { &[1, 2][..] } else { &[1, 2, 3] };
            assert_eq!(reader.live(f64::from(second)), expected, "{second} s");
        }
        assert!(asked.into_iter().eq([1, 2, 3]));
    }

    #[test]
    fn who_leaves_is_gone_at_once() {
        let mut reader = Reader::new();
        reader.beat(1, 0.0);
        reader.beat(1, 0.3);
        assert_eq!(reader.live(0.3), [1]);
        let now = reader.at(0.4);
        reader.view.left("1", now);
        assert!(reader.live(0.4).is_empty());
    }
}
