//! From an entry of table 7 to its proof, and the canonical order of entries with equal y.

use crate::dispatch;
use crate::generator::SearchTables;
use crate::params::{BUCKETS, PROOF_XS, S_BUCKETS, challenge_bits};
use crate::passes::{Candidate, DISTANCE_BITS, Keep, Leaf, Pass, Scratch, Sink, Source, Wanted, entry_y};
use crate::scalar::{Entry, Keystream, combine};
use std::cmp::Ordering;

/// Entries of table 3 below one of table 7.
pub(crate) const PROOF_LEAVES: usize = PROOF_XS / 4;

/// Positions of both parents in the parent table.
#[inline(always)]
fn both_parents(link: u32) -> [u32; 2] {
    let left = link >> DISTANCE_BITS;
    [left, left + (link & ((1 << DISTANCE_BITS) - 1))]
}

/// The s-bucket that an entry of table 7 answers, if the low four bits of its challenge are zero.
fn s_bucket(y: u32) -> usize {
    usize::from(((y >> 10) as u16).swap_bytes())
}

/// Chooses the canonical entry of each s-bucket among those of table 7 that answer it.
pub(crate) fn resolve_candidates(tables: &mut SearchTables, candidates: impl Iterator<Item = Candidate>) {
    tables.first.fill(None);
    let mut ties = Vec::new();
    for candidate in candidates.filter(|candidate| (candidate.y >> 6) % 16 == 0) {
        let first = &mut tables.first[s_bucket(candidate.y)];
        match first.map_or(Ordering::Less, |first| candidate.y.cmp(&first.y)) {
            Ordering::Less => *first = Some(candidate),
            Ordering::Equal => ties.push(candidate),
            Ordering::Greater => {}
        }
    }
    for tie in ties {
        let first = tables.first[s_bucket(tie.y)].expect("a tie is with a candidate");
        if tables.compare(tie, first).is_lt() {
            tables.first[s_bucket(tie.y)] = Some(tie);
        }
    }
}

impl SearchTables {
    /// The canonical entry of table 7 for a challenge.
    pub(crate) fn find(&self, challenge_index: u32) -> Option<Candidate> {
        if (challenge_index as usize) < S_BUCKETS {
            return self.first[challenge_index as usize];
        }
        // No sector asks for such an index, so table 7 was not kept for them: its pass is run once more.
        let mut candidates = Vec::new();
        let pass = Pass {
            source: Source { parts: &self.even[..self.tasks], starts: &self.starts },
            range: 0..BUCKETS - 1,
            keep: Keep::Nothing,
            sink: Sink::Candidates(&mut candidates, Wanted::bits(challenge_bits(challenge_index))),
            scratch: &mut Scratch::new(),
        };
        dispatch::pass(self.simd, 7, pass);
        candidates.into_iter().min_by(|&left, &right| self.compare(left, right))
    }

    /// The entries of table 3 below entries of table 7, `N` of them at a time so that their memory accesses overlap.
    #[inline(always)]
    pub(crate) fn leaves<const N: usize>(&self, candidates: &[Candidate; N]) -> [[Leaf; PROOF_LEAVES]; N] {
        let mut leaves = [[Leaf::default(); PROOF_LEAVES]; N];
        let mut sixth = [[0; 2]; N];
        for (positions, candidate) in sixth.iter_mut().zip(candidates) {
            *positions = both_parents(candidate.parents);
        }
        let mut fifth = [[0; 4]; N];
        for (positions, children) in fifth.iter_mut().zip(sixth) {
            self.descend(2, &children, positions);
        }
        let mut fourth = [[0; 8]; N];
        for (positions, children) in fourth.iter_mut().zip(fifth) {
            self.descend(1, &children, positions);
        }
        for (leaves, children) in leaves.iter_mut().zip(fourth) {
            let mut positions = [0; PROOF_LEAVES];
            self.descend(0, &children, &mut positions);
            *leaves = positions.map(|position| self.leaves[position as usize]);
        }
        leaves
    }

    /// Positions of the parents of entries of table 4 + `level`.
    #[inline(always)]
    fn descend(&self, level: usize, children: &[u32], positions: &mut [u32]) {
        for (pair, &child) in positions.as_chunks_mut::<2>().0.iter_mut().zip(children) {
            *pair = both_parents(self.parents[level][child as usize]);
        }
    }

    /// Canonical order of two entries of table 7 (archival §3.4).
    fn compare(&self, left: Candidate, right: Candidate) -> Ordering {
        let [first, second] = both_parents(left.parents);
        let [other_first, other_second] = both_parents(right.parents);
        left.y
            .cmp(&right.y)
            .then_with(|| self.compare_sixth(first, other_first))
            .then_with(|| self.compare_sixth(second, other_second))
    }

    /// Canonical order of two entries of table 6.
    fn compare_sixth(&self, left: u32, right: u32) -> Ordering {
        if left == right {
            return Ordering::Equal;
        }
        self.sixth_y(left).cmp(&self.sixth_y(right)).then_with(|| {
            let mut keystream = Keystream::new(&self.seed);
            compare_trees(&mut keystream, &self.sixth_xs(left), &self.sixth_xs(right))
        })
    }

    /// y of an entry of table 6.
    fn sixth_y(&self, position: u32) -> u32 {
        let bucket = self.starts.partition_point(|&start| start <= position) - 1;
        let mut index = (position - self.starts[bucket]) as usize;
        for part in &self.even[..self.tasks] {
            if index < part.len(bucket) {
                return entry_y(bucket, part.get(bucket, index));
            }
            index -= part.len(bucket);
        }
        unreachable!("a bucket has as many entries as its parts")
    }

    /// Values of x below an entry of table 6.
    fn sixth_xs(&self, position: u32) -> Vec<u32> {
        let mut positions = vec![position];
        for level in (0..3).rev() {
            let mut next = vec![0; positions.len() * 2];
            self.descend(level, &positions, &mut next);
            positions = next;
        }
        positions.into_iter().flat_map(|position| leaf_xs(&self.leaves[position as usize])).collect()
    }
}

/// The values of x of an entry of table 3.
fn leaf_xs(leaf: &Leaf) -> [u32; 4] {
    let bits = leaf.iter().fold(0_u128, |bits, &word| (bits << 16) | u128::from(word));
    [60, 40, 20, 0].map(|shift| (bits >> shift) as u32 & 0x000f_ffff)
}

/// The entry that values of x make, which are known to match.
fn evaluate(keystream: &mut Keystream, xs: &[u32]) -> Entry {
    if let [x] = xs {
        return keystream.entry(*x);
    }
    let (left, right) = xs.split_at(xs.len() / 2);
    let (left, right) = (evaluate(keystream, left), evaluate(keystream, right));
    combine(xs.len().ilog2() as usize + 1, &left, &right)
}

/// Canonical order of two entries of one table, given by the values of x below them: by y, then by the left parents,
/// then by the right ones.
pub(crate) fn compare_trees(keystream: &mut Keystream, left: &[u32], right: &[u32]) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    let (left_y, right_y) = (evaluate(keystream, left).y, evaluate(keystream, right).y);
    if left.len() == 1 || left_y != right_y {
        return left_y.cmp(&right_y).then(left.cmp(right));
    }
    let (halves, others) = (left.split_at(left.len() / 2), right.split_at(right.len() / 2));
    compare_trees(keystream, halves.0, others.0).then_with(|| compare_trees(keystream, halves.1, others.1))
}
