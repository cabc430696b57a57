//! Tables made in the plainest way: whole tables, sorted into the canonical order of archival §3.4.
//!
//! Slow and large (about 100 MB), but without any bound on the sizes of buckets or tables. It is the oracle of the
//! fast generator's tests, and the generator's refuge for a seed that overfills one of its buckets.

use crate::params::{B, BC, BUCKETS, C, M, PROOF_XS, challenge_bits, column_shift};
use crate::scalar::{Entry, Keystream, combine};
use primitives::sectors::PosSeed;

/// Seven tables in canonical order.
pub(crate) struct ReferenceTables {
    /// Table 1: x of each position.
    xs: Vec<u32>,
    /// Tables 2 to 7: positions of both parents.
    parents: Vec<Vec<[u32; 2]>>,
    /// Tables 1 to 7: y in ascending order.
    ys: Vec<Vec<u32>>,
}

/// The first position of each bucket in a sorted table, and its end.
fn bucket_starts(entries: &[Entry]) -> Vec<usize> {
    (0..=BUCKETS as u32).map(|bucket| entries.partition_point(|entry| entry.y / BC < bucket)).collect()
}

/// All matches of a sorted table, as positions.
fn find_matches(entries: &[Entry]) -> Vec<[u32; 2]> {
    let starts = bucket_starts(entries);
    let mut found = Vec::with_capacity(entries.len());
    let mut first_with = vec![0_u32; BC as usize + 1];
    for bucket in 0..BUCKETS - 1 {
        let right = &entries[starts[bucket + 1]..starts[bucket + 2]];
        let mut position = 0;
        for (r, first) in (0..).zip(&mut first_with) {
            while right.get(position).is_some_and(|entry| entry.y % BC < r) {
                position += 1;
            }
            *first = (starts[bucket + 1] + position) as u32;
        }
        for (entry, left) in entries[starts[bucket]..starts[bucket + 1]].iter().zip(starts[bucket] as u32..) {
            let r = entry.y % BC;
            for m in 0..M {
                let target = (r / C + m) % B * C + (column_shift(bucket as u32 % 2, m) + r) % C;
                let range = first_with[target as usize]..first_with[target as usize + 1];
                found.extend(range.map(|right| [left, right]));
            }
        }
    }
    found
}

impl ReferenceTables {
    pub(crate) fn new(seed: &PosSeed) -> Self {
        let mut entries = Keystream::new(seed).all_entries();
        entries.sort_unstable_by_key(|entry| (entry.y, entry.metadata));
        let xs = entries.iter().map(|entry| entry.metadata as u32).collect();
        let mut ys = vec![entries.iter().map(|entry| entry.y).collect()];
        let mut parents = Vec::new();
        for table in 2..=7 {
            let mut children = find_matches(&entries)
                .into_iter()
                .map(|[left, right]| {
                    (combine(table, &entries[left as usize], &entries[right as usize]), [left, right])
                })
                .collect::<Vec<_>>();
            children.sort_unstable_by_key(|(entry, parents)| (entry.y, *parents));
            let (next, links) = children.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
            ys.push(next.iter().map(|entry| entry.y).collect());
            parents.push(links);
            entries = next;
        }
        Self { xs, parents, ys }
    }

    /// Ascending y of table `table`, 1 to 7.
    pub(crate) fn ys(&self, table: usize) -> &[u32] {
        &self.ys[table - 1]
    }

    fn expand(&self, table: usize, position: u32, xs: &mut Vec<u32>) {
        if table == 1 {
            xs.push(self.xs[position as usize]);
            return;
        }
        for parent in self.parents[table - 2][position as usize] {
            self.expand(table - 1, parent, xs);
        }
    }

    /// The x values of the canonical proof.
    pub(crate) fn find(&self, challenge_index: u32) -> Option<[u32; PROOF_XS]> {
        let bits = challenge_bits(challenge_index);
        let last = &self.ys[6];
        let position = last.partition_point(|&y| y >> 6 < bits);
        if last.get(position).is_none_or(|&y| y >> 6 != bits) {
            return None;
        }
        let mut xs = Vec::with_capacity(PROOF_XS);
        self.expand(7, position as u32, &mut xs);
        Some(xs.try_into().expect("an entry of table 7 has 2^6 leaves"))
    }
}
