//! Every vector implementation against the plainest computation of the same thing.

use crate::buckets::{BUCKET_CAPACITY, PackedEntry};
use crate::dispatch;
use crate::local::{LocalBucket, Matches};
use crate::params::{B, BC, BUCKETS, C, M, Y_BITS, column_shift};
use crate::passes::{bucket_and_place, combine};
use crate::scalar::{self, Entry};
use crate::vector::{MAX_LANES, Vector};
use crate::verify::match_mask;
use primitives::simd::Simd;
use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) type Words = [u32; MAX_LANES];

/// Results of every operation of a vector, for 16 lanes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Results {
    words: Vec<Words>,
    masks: [u32; 2],
    entries: [PackedEntry; MAX_LANES],
    rows: [u8; 16],
    columns: [u8; 16],
}

fn available() -> impl Iterator<Item = Simd> {
    Simd::ALL.into_iter().filter(|simd| simd.is_available())
}

/// Runs every operation of `V` on the lanes of `a` and `b`.
#[inline(always)]
pub(crate) fn exercise<V: Vector>(a: &Words, b: &Words, local: &LocalBucket, results: &mut Results) {
    *results = Results { words: vec![[0; MAX_LANES]; 18], ..Results::default() };
    let mut done = 0;
    while done < MAX_LANES {
        let (mut first, mut second) = ([0; MAX_LANES], [0; MAX_LANES]);
        first[..V::LANES].copy_from_slice(&a[done..done + V::LANES]);
        second[..V::LANES].copy_from_slice(&b[done..done + V::LANES]);
        let (x, y) = (V::load(&first), V::load(&second));
        let [g0, g1, g2, g3] = V::gather::<16>(&local.entries, &first);
        let [r0, r1, r2, r3] = V::gather::<0>(&local.entries, &first);
        let results_of_lanes = [
            V::splat(a[0]),
            x.add(y),
            x.sub(y),
            x.mul(y),
            x.min(y),
            x.xor(y),
            x.or(y),
            x.and(y),
            x.shl(7).xor(y.shr(25)),
            x.rotate_right::<16>().add(x.rotate_right::<12>()),
            x.rotate_right::<8>().add(x.rotate_right::<7>()),
            x.swap_bytes(),
            g0.xor(r3),
            g1.xor(r2),
            g2.xor(r1),
            g3.xor(r0),
            bucket_and_place(x.shr(32 - Y_BITS)).0,
            bucket_and_place(x.shr(32 - Y_BITS)).1,
        ];
        for (lanes, words) in results_of_lanes.into_iter().zip(&mut results.words) {
            let mut stored = [0; MAX_LANES];
            lanes.store(&mut stored);
            words[done..done + V::LANES].copy_from_slice(&stored[..V::LANES]);
        }
        results.masks[0] |= x.equal_mask(y) << done;
        results.masks[1] |= match_mask(x.shr(32 - Y_BITS), y.shr(32 - Y_BITS)) << done;
        let mut entries = [PackedEntry::default(); MAX_LANES];
        V::scatter([x, y, x.add(y), x.sub(y)], &mut entries);
        results.entries[done..done + V::LANES].copy_from_slice(&entries[..V::LANES]);
        done += V::LANES;
    }
    let entries = local.entries.first_chunk().unwrap();
    V::rows_and_columns(entries, &mut results.rows, &mut results.columns);
}

/// What [`exercise`] has to find.
fn expected(a: &Words, b: &Words, local: &LocalBucket) -> Results {
    let zip = |function: &dyn Fn(u32, u32) -> u32| -> Words {
        std::array::from_fn(|lane| function(a[lane], b[lane]))
    };
    let gathered = |left: usize, right: usize| {
        zip(&|x, _| {
            local.entries[(x >> 16) as usize % 512].0[left] ^ local.entries[x as usize % 512].0[right]
        })
    };
    let y = |word: u32| word >> (32 - Y_BITS);
    let place = |y: u32| (y % BC / C) << 7 | (y % BC % C);
    let mut masks = [0; 2];
    for lane in 0..MAX_LANES {
        masks[0] |= u32::from(a[lane] == b[lane]) << lane;
        masks[1] |= u32::from(scalar::matches(y(a[lane]), y(b[lane]))) << lane;
    }
    let entry = |index: usize| local.entries[index].0[2];
    Results {
        words: vec![
            [a[0]; MAX_LANES],
            zip(&u32::wrapping_add),
            zip(&u32::wrapping_sub),
            zip(&u32::wrapping_mul),
            zip(&u32::min),
            zip(&|x, y| x ^ y),
            zip(&|x, y| x | y),
            zip(&|x, y| x & y),
            zip(&|x, y| (x << 7) ^ (y >> 25)),
            zip(&|x, _| x.rotate_right(16).wrapping_add(x.rotate_right(12))),
            zip(&|x, _| x.rotate_right(8).wrapping_add(x.rotate_right(7))),
            zip(&|x, _| x.swap_bytes()),
            gathered(0, 3),
            gathered(1, 2),
            gathered(2, 1),
            gathered(3, 0),
            zip(&|x, _| y(x) / BC),
            zip(&|x, _| place(y(x))),
        ],
        masks,
        entries: std::array::from_fn(|lane| {
            PackedEntry([a[lane], b[lane], a[lane].wrapping_add(b[lane]), a[lane].wrapping_sub(b[lane])])
        }),
        rows: std::array::from_fn(|index| (entry(index) >> 7 & 0x7f) as u8),
        columns: std::array::from_fn(|index| (entry(index) & 0x7f) as u8),
    }
}

/// A bucket with entries at these places (r), as loading would leave it.
fn local_bucket(places: &[u32]) -> LocalBucket {
    let mut bucket = LocalBucket::new();
    bucket.len = places.len();
    for (index, place) in places.iter().enumerate() {
        bucket.rows[index] = (place / C) as u8;
        bucket.columns[index] = (place % C) as u8;
        bucket.entries[index] = PackedEntry([
            index as u32,
            !index as u32,
            (index as u32) << 16 | (place / C) << 7 | (place % C),
            index as u32 * 0x0101_0101,
        ]);
    }
    bucket
}

/// All matches with `simd`, ascending, however often the search has to pause for want of room.
fn found_matches(simd: Simd, left: &LocalBucket, right: &LocalBucket, parity: usize) -> Vec<u32> {
    let mut matches = Matches::new();
    let (mut next, mut found) = (0, Vec::new());
    while next < left.len {
        let first = next;
        dispatch::find_matches(simd, left, right, parity, &mut next, &mut matches);
        assert!(next > first, "a search without room for one left entry would never end");
        found.extend_from_slice(&matches.pairs[..matches.len]);
        matches.len = 0;
    }
    found.sort_unstable();
    found
}

fn expected_matches(left: &[u32], right: &[u32], parity: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for (left_index, l) in (0..).zip(left) {
        let target = |m| (l / C + m) % B * C + (column_shift(parity, m) + l) % C;
        let targets = (0..M).map(target).collect::<Vec<_>>();
        let hits = (0..).zip(right).filter(|(_, r)| targets.contains(r));
        found.extend(hits.map(|(right_index, _): (u32, _)| left_index << 16 | right_index));
    }
    found
}

fn check_matches(left: &[u32], right: &[u32]) {
    for parity in 0..2 {
        let expected = expected_matches(left, right, parity);
        for simd in available() {
            let found = found_matches(simd, &local_bucket(left), &local_bucket(right), parity as usize);
            assert!(found == expected, "{simd:?}, parity {parity}, {} and {}", left.len(), right.len());
        }
    }
}

fn place() -> impl Strategy<Value = u32> {
    0..BC
}

/// Under Miri, which takes a second for what takes a microsecond, one will do.
const CASES: u32 = if cfg!(miri) { 1 } else { 64 };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn vectors_compute_what_numbers_do(
        a in any::<Words>(),
        mut b in any::<Words>(),
        equal in 0..MAX_LANES,
        places in vec(place(), BUCKET_CAPACITY),
    ) {
        b[equal] = a[equal];
        let local = local_bucket(&places);
        let expected = expected(&a, &b, &local);
        for simd in available() {
            let mut results = Results::default();
            dispatch::exercise(simd, &a, &b, &local, &mut results);
            prop_assert_eq!(&results, &expected, "{:?}", simd);
        }
    }

    #[test]
    fn matches_are_all_found(
        left in vec(place(), 0..=BUCKET_CAPACITY),
        right in vec(place(), 0..=BUCKET_CAPACITY),
    ) {
        check_matches(&left, &right);
    }

    #[test]
    fn matches_of_equal_entries_are_all_found(
        left in place(),
        m in 0..M,
        copies in (0..=BUCKET_CAPACITY, 0..=BUCKET_CAPACITY),
    ) {
        let right = (left / C + m) % B * C + (column_shift(0, m) + left) % C;
        check_matches(&vec![left; copies.0], &vec![right; copies.1]);
    }

    #[test]
    fn combinations_are_those_of_single_entries(
        ys in any::<[u32; 2]>(),
        metadata in any::<[u128; 2]>(),
    ) {
        for table in 2..=7 {
            let bits = crate::params::METADATA_BITS[table - 2];
            let [left, right] = [0, 1].map(|parent| Entry {
                y: ys[parent] >> (32 - Y_BITS),
                metadata: metadata[parent] & ((1 << bits) - 1),
            });
            let expected = scalar::combine(table, &left, &right);
            for simd in available() {
                let mut found = Entry { y: 0, metadata: 0 };
                dispatch::combine_one(simd, table, &left, &right, &mut found);
                prop_assert_eq!(found, expected, "table {} by {:?}", table, simd);
            }
        }
    }
}

/// [`combine`] of two entries.
#[inline(always)]
pub(crate) fn combine_one<V: Vector>(table: usize, left: &Entry, right: &Entry, result: &mut Entry) {
    let words = |entry: &Entry| {
        let bits = crate::params::METADATA_BITS[table - 2];
        let aligned = entry.metadata << (u128::BITS - bits);
        [96, 64, 32].map(|shift| V::splat((aligned >> shift) as u32))
    };
    let (y, left, right) = (V::splat(left.y), words(left), words(right));
    let ([h0, ..], metadata) = match table {
        2 => combine::<V, 2>(y, left, right),
        3 => combine::<V, 3>(y, left, right),
        4 => combine::<V, 4>(y, left, right),
        5 => combine::<V, 5>(y, left, right),
        6 => combine::<V, 6>(y, left, right),
        _ => combine::<V, 7>(y, left, right),
    };
    let last = |lanes: V| {
        let mut stored = [0; MAX_LANES];
        lanes.store(&mut stored);
        stored[V::LANES - 1]
    };
    let aligned = metadata.into_iter().fold(0_u128, |bits, word| bits << 32 | u128::from(last(word))) << 32;
    let bits = crate::params::METADATA_BITS[table - 1];
    *result = Entry {
        y: last(h0) >> (32 - Y_BITS),
        metadata: if bits == 0 { 0 } else { aligned >> (u128::BITS - bits) },
    };
    if bits > 0 {
        assert_eq!(aligned << bits, 0, "bits behind the metadata are zero");
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many y for it")]
fn every_y_has_its_bucket_row_and_column() {
    for simd in available() {
        let local = local_bucket(&[]);
        let mut results = Results::default();
        for bucket in [0, 1, 2, BUCKETS as u32 / 2, BUCKETS as u32 - 2] {
            for first in (bucket * BC..(bucket + 1) * BC).step_by(MAX_LANES) {
                let a = std::array::from_fn(|lane| (first + lane as u32) << (32 - Y_BITS));
                dispatch::exercise(simd, &a, &a, &local, &mut results);
                for (lane, word) in a.into_iter().enumerate() {
                    let y = word >> (32 - Y_BITS);
                    assert_eq!(results.words[16][lane], y / BC);
                    assert_eq!(results.words[17][lane], (y % BC / C) << 7 | (y % BC % C));
                }
            }
        }
    }
}

#[test]
fn last_bucket_ends_with_the_last_y() {
    let last = u32::MAX >> (32 - Y_BITS);
    assert_eq!((last / BC) as usize, BUCKETS - 1);
    let a = std::array::from_fn(|lane| (last - lane as u32) << (32 - Y_BITS));
    for simd in available() {
        let mut results = Results::default();
        dispatch::exercise(simd, &a, &a, &local_bucket(&[]), &mut results);
        assert_eq!(results.words[16][0], last / BC, "{simd:?}");
    }
}

#[test]
fn proofs_are_hashed_as_blake3_does() {
    let bytes = vectors::xof("proof-of-space/hashes", 160 * MAX_LANES);
    let proofs = std::array::from_fn(|index| bytes[160 * index..][..160].try_into().unwrap());
    let expected = proofs.map(|proof: [u8; 160]| *blake3::hash(&proof).as_bytes());
    for simd in available() {
        let mut hashes = [[0; 32]; MAX_LANES];
        dispatch::hash_proofs(simd, &proofs, &mut hashes);
        assert_eq!(hashes, expected, "{simd:?}");
    }
}
