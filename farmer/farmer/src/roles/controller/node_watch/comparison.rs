//! Compares a node with those of the other controllers: pure, its time is given.

use cluster::contract::{InstanceId, NodeViewBroadcast};
use primitives::{Blake3Hash, BlockNumber, SegmentIndex, SlotNumber};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A controller that was not heard of for so long is not compared with.
const LIFETIME: Duration = Duration::from_secs(10);
/// Blocks, segments and slots of another node that are remembered: one that is behind comes to them later.
const REMEMBERED: usize = 256;
/// Other controllers that are remembered.
const MAX_OTHERS: usize = 64;
/// Slots after which a solution is worth nothing (farming §1): a node that is later than that earns nothing.
const SLOTS_BEHIND: SlotNumber = 4;
/// Blocks that a node may be behind: some are always on their way.
const BLOCKS_BEHIND: BlockNumber = 5;

/// What is to be thought of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is known to be wrong.
    Sound,
    /// It does not answer.
    Mute(String),
    /// It says itself that something is wrong.
    Unwell(String),
    /// It is behind the others.
    Behind(String),
    /// Most others are on another chain.
    Forked(String),
    /// As many are on another chain as on this one.
    Split(String),
}

impl Verdict {
    /// Whether the same is wrong, whatever the words.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// What is wrong, in words.
    pub(super) fn complaint(&self) -> Option<&str> {
        match self {
            Self::Sound => None,
            Self::Mute(reason)
            | Self::Unwell(reason)
            | Self::Behind(reason)
            | Self::Forked(reason)
            | Self::Split(reason) => Some(reason),
        }
    }
}

/// The own node.
pub(super) struct OwnView<'a> {
    /// Its address.
    pub(super) node: &'a str,
    pub(super) best_block: BlockNumber,
    /// Blocks that are deep enough to stay.
    pub(super) blocks: &'a BTreeMap<BlockNumber, Blake3Hash>,
    /// Hash of a segment header.
    pub(super) segment: &'a dyn Fn(SegmentIndex) -> Option<Blake3Hash>,
    pub(super) slots: &'a BTreeMap<SlotNumber, Blake3Hash>,
}

/// Another controller's node.
struct Other {
    node: String,
    heard: Instant,
    best_block: BlockNumber,
    blocks: BTreeMap<BlockNumber, Blake3Hash>,
    segments: BTreeMap<SegmentIndex, Blake3Hash>,
    slots: BTreeMap<SlotNumber, Blake3Hash>,
    /// Whether it was said that its chain is another one.
    named: bool,
}

/// What a comparison brought.
pub(super) struct Compared {
    pub(super) verdict: Verdict,
    pub(super) blocks_behind: BlockNumber,
    pub(super) slots_behind: SlotNumber,
    /// Nodes on another chain than this one.
    pub(super) contradicting: usize,
}

/// The other controllers' nodes.
#[derive(Default)]
pub(super) struct Others(BTreeMap<InstanceId, Other>);

fn remember<K: Ord, V>(map: &mut BTreeMap<K, V>, entry: Option<(K, V)>) {
    map.extend(entry);
    while map.len() > REMEMBERED {
        map.pop_first();
    }
}

impl Others {
    /// Notes what another controller tells of its node.
    pub(super) fn hear(&mut self, view: NodeViewBroadcast, now: Instant) {
        self.0.retain(|_, other| now.saturating_duration_since(other.heard) < LIFETIME);
        if self.0.len() >= MAX_OTHERS && !self.0.contains_key(&view.controller) {
            return;
        }
        let other = self.0.entry(view.controller).or_insert_with(|| Other {
            node: String::new(),
            heard: now,
            best_block: 0,
            blocks: BTreeMap::new(),
            segments: BTreeMap::new(),
            slots: BTreeMap::new(),
            named: false,
        });
        other.node = view.node;
        other.heard = now;
        other.best_block = view.best_block;
        // What it told of later blocks and slots before is another history.
        other.blocks.split_off(&view.settled_block.0);
        remember(&mut other.blocks, Some(view.settled_block));
        remember(&mut other.segments, view.segment);
        remember(&mut other.slots, view.slot);
    }

    /// For each other node, the newest of its blocks that has at most this number.
    pub(super) fn newest_blocks_up_to(&self, number: BlockNumber) -> Vec<BlockNumber> {
        let newest = |other: &Other| other.blocks.range(..=number).next_back().map(|(number, _)| *number);
        self.0.values().filter_map(newest).collect()
    }

    /// Compares the own node with all that were heard of lately.
    pub(super) fn compare(&mut self, own: &OwnView<'_>, now: Instant) -> Compared {
        self.0.retain(|_, other| now.saturating_duration_since(other.heard) < LIFETIME);
        let (mut same, mut differing) = (0, Vec::new());
        let mut ahead: Option<(InstanceId, &Other)> = None;
        let (mut best_block, mut newest_slot) = (own.best_block, own.newest_slot());
        for (controller, other) in &mut self.0 {
            let difference = own.difference(other);
            if let Some(Some(what)) = difference {
                if !other.named {
                    let node = &other.node;
                    tracing::warn!(%controller, "The node at {node} is on another chain than the one at {}: {what}", own.node);
                    other.named = true;
                }
                differing.push((*controller, &*other, what));
                continue;
            }
            other.named = false;
            same += usize::from(difference.is_some());
            let slot = other.newest_slot();
            if other.best_block > best_block || slot > newest_slot {
                best_block = best_block.max(other.best_block);
                newest_slot = newest_slot.max(slot);
                ahead = Some((*controller, other));
            }
        }
        let blocks_behind = best_block - own.best_block;
        // A node without any slot shows that by itself.
        let slots_behind = own.newest_slot().map_or(0, |slot| newest_slot.unwrap_or(slot) - slot);
        let contradicting = differing.len();
        let verdict = match (differing.into_iter().next(), ahead) {
            (Some(difference), _) if contradicting > same => {
                own.contradicted(difference, contradicting, same)
            }
            (_, Some(other)) if blocks_behind > BLOCKS_BEHIND || slots_behind > SLOTS_BEHIND => {
                own.behind(other, blocks_behind, slots_behind)
            }
            _ => Verdict::Sound,
        };
        Compared { verdict, blocks_behind, slots_behind, contradicting }
    }
}

impl Other {
    fn newest_slot(&self) -> Option<SlotNumber> {
        self.slots.last_key_value().map(|(slot, _)| *slot)
    }
}

/// The newest key for which both have a value, and both values.
fn newest_common<K: Ord + Copy>(
    theirs: &BTreeMap<K, Blake3Hash>,
    own: impl Fn(K) -> Option<Blake3Hash>,
) -> Option<(K, Blake3Hash, Blake3Hash)> {
    theirs.iter().rev().find_map(|(key, theirs)| Some((*key, own(*key)?, *theirs)))
}

impl OwnView<'_> {
    fn newest_slot(&self) -> Option<SlotNumber> {
        self.slots.last_key_value().map(|(slot, _)| *slot)
    }

    /// None when there is nothing to compare; what differs, if anything does.
    fn difference(&self, other: &Other) -> Option<Option<String>> {
        let block = newest_common(&other.blocks, |number| self.blocks.get(&number).copied());
        let segment = newest_common(&other.segments, self.segment);
        let slot = newest_common(&other.slots, |slot| self.slots.get(&slot).copied());
        if block.is_none() && segment.is_none() && slot.is_none() {
            return None;
        }
        let words = |what: String, ours: Blake3Hash, theirs: Blake3Hash| {
            (ours != theirs).then(|| format!("{what} is {ours} here and {theirs} there"))
        };
        Some(
            block
                .and_then(|(number, ours, theirs)| words(format!("block {number}"), ours, theirs))
                .or_else(|| {
                    segment.and_then(|(index, ours, theirs)| {
                        words(format!("the header of segment {index}"), ours, theirs)
                    })
                })
                .or_else(|| {
                    slot.and_then(|(slot, ours, theirs)| {
                        words(format!("the challenge of slot {slot}"), ours, theirs)
                    })
                }),
        )
    }

    /// More other nodes are on another chain than on this one.
    fn contradicted(
        &self,
        (controller, other, what): (InstanceId, &Other, String),
        contradicting: usize,
        same: usize,
    ) -> Verdict {
        let (node, theirs) = (self.node, &other.node);
        if contradicting == same + 1 {
            return Verdict::Split(format!(
                "the nodes at {node} and at {theirs} (controller {controller}) are on different chains: {what}; as many \
                 nodes are on either, so that it cannot be told which is the fork: compare both with the network, and \
                 have the wrong one synced anew"
            ));
        }
        Verdict::Forked(format!(
            "the node at {node} is on a fork: {what}, at {theirs} (controller {controller}); {contradicting} other nodes \
             contradict it and {same} agree; its slots are not passed on: stop it, check its clock and its version, and \
             have it synced anew"
        ))
    }

    fn behind(
        &self,
        (controller, other): (InstanceId, &Other),
        blocks_behind: BlockNumber,
        slots_behind: SlotNumber,
    ) -> Verdict {
        let (node, best, theirs, their_best) = (self.node, self.best_block, &other.node, other.best_block);
        Verdict::Behind(format!(
            "the node at {node} is behind: {blocks_behind} blocks and {slots_behind} slots, at block {best} where the one \
             at {theirs} (controller {controller}) is at {their_best}; what is won with it comes too late: check its \
             peers, its disk and its CPU"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    const SOUND: u8 = 1;
    const FORK: u8 = 2;

    fn hash(chain: u8, number: u64) -> Blake3Hash {
        Blake3Hash([chain.wrapping_add(number as u8); 32])
    }

    /// A node of a chain that branches after block 100, at its `best_block`; a slot for each block.
    fn view(controller: u128, chain: u8, best_block: BlockNumber) -> NodeViewBroadcast {
        let settled = best_block - 6;
        let branch = if settled > 100 { chain } else { SOUND };
        NodeViewBroadcast {
            controller: InstanceId(Ulid(controller)),
            node: format!("ws://node-{controller}"),
            best_block,
            settled_block: (settled, hash(branch, settled.into())),
            segment: None,
            slot: Some((best_block.into(), hash(SOUND, best_block.into()))),
        }
    }

    /// How a node at `best_block` compares with others after it has heard of them.
    fn compare(others: &mut Others, chain: u8, best_block: BlockNumber, now: Instant) -> Compared {
        let settled = best_block - 6;
        let branch = |number: BlockNumber| if number > 100 { chain } else { SOUND };
        let blocks = others.newest_blocks_up_to(settled).into_iter().chain([settled]);
        let blocks = blocks.map(|number| (number, hash(branch(number), number.into()))).collect();
        let slot = u64::from(best_block);
        let slots = (slot - 50..=slot).map(|slot| (slot, hash(SOUND, slot))).collect();
        let own =
            OwnView { node: "ws://own", best_block, blocks: &blocks, segment: &|_| None, slots: &slots };
        others.compare(&own, now)
    }

    fn words(verdict: &Verdict) -> &str {
        verdict.complaint().expect("something is wrong")
    }

    #[test]
    fn alone_and_among_equals_nothing_is_wrong() {
        let now = Instant::now();
        let mut others = Others::default();
        assert_eq!(compare(&mut others, SOUND, 120, now).verdict, Verdict::Sound);
        others.hear(view(1, SOUND, 122), now);
        others.hear(view(2, SOUND, 118), now);
        let compared = compare(&mut others, SOUND, 120, now);
        assert_eq!(
            (compared.verdict, compared.blocks_behind, compared.contradicting),
            (Verdict::Sound, 2, 0)
        );
    }

    #[test]
    fn who_is_behind_is_named_with_whom_it_follows() {
        let now = Instant::now();
        let mut others = Others::default();
        others.hear(view(1, SOUND, 90), now);
        others.hear(view(1, SOUND, 120), now);
        let compared = compare(&mut others, SOUND, 95, now);
        assert!(matches!(compared.verdict, Verdict::Behind(_)), "{:?}", compared.verdict);
        let words = words(&compared.verdict);
        assert!(words.contains("ws://own") && words.contains("ws://node-1") && words.contains("25 blocks"));
        // The other one is not.
        let mut others = Others::default();
        others.hear(view(2, SOUND, 95), now);
        assert_eq!(compare(&mut others, SOUND, 120, now).verdict, Verdict::Sound);
        // Who is silent is not compared with.
        others.hear(view(1, SOUND, 220), now);
        let later = now + LIFETIME;
        assert_eq!(compare(&mut others, SOUND, 120, later).verdict, Verdict::Sound);
    }

    #[test]
    fn a_fork_is_what_most_others_contradict() {
        let now = Instant::now();
        let mut others = Others::default();
        others.hear(view(1, SOUND, 120), now);
        others.hear(view(2, SOUND, 121), now);
        let forked = compare(&mut others, FORK, 140, now);
        assert!(matches!(forked.verdict, Verdict::Forked(_)), "{:?}", forked.verdict);
        assert!(words(&forked.verdict).contains("block 11") && forked.contradicting == 2);

        // The same from the good nodes' side, also before they are where the fork is.
        let mut others = Others::default();
        others.hear(view(2, SOUND, 119), now);
        others.hear(view(2, SOUND, 121), now);
        others.hear(view(3, FORK, 110), now);
        others.hear(view(3, FORK, 140), now);
        let sound = compare(&mut others, SOUND, 120, now);
        assert_eq!((sound.verdict, sound.contradicting), (Verdict::Sound, 1));
        assert_eq!(sound.blocks_behind, 1, "a fork's blocks do not count");
    }

    #[test]
    fn of_two_it_cannot_be_told_which_is_the_fork() {
        let now = Instant::now();
        for (own, other) in [(SOUND, FORK), (FORK, SOUND)] {
            let mut others = Others::default();
            others.hear(view(1, other, 120), now);
            let compared = compare(&mut others, own, 121, now);
            assert!(matches!(compared.verdict, Verdict::Split(_)), "{:?}", compared.verdict);
            assert!(words(&compared.verdict).contains("ws://node-1"));
        }
        // Before the branch both are one chain.
        let mut others = Others::default();
        others.hear(view(1, FORK, 104), now);
        assert_eq!(compare(&mut others, SOUND, 104, now).verdict, Verdict::Sound);
    }

    #[test]
    fn segments_and_challenges_tell_chains_apart_too() {
        let now = Instant::now();
        let mut others = Others::default();
        let mut other = view(1, SOUND, 104);
        other.segment = Some((SegmentIndex(3), hash(FORK, 3)));
        others.hear(other, now);
        let slots = BTreeMap::from([(104, hash(SOUND, 104))]);
        let own = |segment| {
            OwnView { node: "ws://own", best_block: 104, blocks: &BTreeMap::new(), segment, slots: &slots }
                .difference(&others.0[&InstanceId(Ulid(1))])
        };
        let same_segment = own(&|_| Some(hash(FORK, 3)));
        assert_eq!(same_segment, Some(None));
        let what = own(&|_| Some(hash(SOUND, 3))).flatten().expect("it differs");
        assert!(what.contains("segment 3"), "{what}");
        let mut other = view(1, SOUND, 104);
        other.slot = Some((104, hash(FORK, 104)));
        others.hear(other, now);
        let compared = compare(&mut others, SOUND, 104, now);
        assert!(words(&compared.verdict).contains("challenge of slot 104"), "{:?}", compared.verdict);
    }
}
