//! The passes that make one table of another, generic over the vector; [`crate::dispatch`] instantiates them.

use crate::buckets::{Buckets, PackedEntry};
use crate::hashing::hash_short;
use crate::local::{LocalBucket, Matches};
use crate::params::{B, BC, BUCKETS, C, EXTRA_BITS, K, METADATA_BITS, Y_BITS};
use crate::vector::{MAX_LANES, Vector};
use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use primitives::sectors::PosSeed;
use std::ops::Range;

/// Values of x whose keystream is made at once; a whole number of ChaCha blocks and vectors.
pub(crate) const X_BATCH: usize = 2048;

/// Bits of a back pointer below the left parent's position: the distance to the right parent, which is less than two
/// buckets.
pub(crate) const DISTANCE_BITS: u32 = 10;

/// What one task of a pass works with.
pub(crate) struct Scratch {
    left: Box<LocalBucket>,
    right: Box<LocalBucket>,
    matches: Box<Matches>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            left: Box::new(LocalBucket::new()),
            right: Box::new(LocalBucket::new()),
            matches: Box::new(Matches::new()),
        }
    }
}

/// The parent table.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Its parts, one for each task that made it.
    pub(crate) parts: &'a [Buckets],
    /// Position of the first entry of each bucket, and behind them the size of the table.
    pub(crate) starts: &'a [u32; BUCKETS + 1],
}

/// What is kept of the parent table for the search of proofs, for the buckets of one task.
pub(crate) enum Keep<'a> {
    /// Nothing.
    Nothing,
    /// Metadata of table 3: four values of x.
    Leaves(&'a mut [Leaf]),
    /// Back pointers.
    Parents(&'a mut [u32]),
}

/// Four values of x: 80 bits, most significant first, as native 16-bit numbers.
pub(crate) type Leaf = [u16; 5];

/// Which entries of table 7 are wanted: those whose first hash word is `value` under `mask`.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) mask: u32,
    pub(crate) value: u32,
}

impl Wanted {
    /// All entries.
    pub(crate) const ALL: Self = Self { mask: 0, value: 0 };
    /// Those that answer an s-bucket: the low 4 of the challenge's 20 bits are zero.
    pub(crate) const S_BUCKETS: Self = Self { mask: 0xf000, value: 0 };

    /// Those that answer a challenge.
    pub(crate) fn bits(challenge_bits: u32) -> Self {
        Self { mask: u32::MAX << (32 - K), value: challenge_bits << (32 - K) }
    }
}

/// An entry of table 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) y: u32,
    pub(crate) parents: u32,
}

/// Where a pass puts what it makes.
pub(crate) enum Sink<'a> {
    /// Tables 2 to 6.
    Buckets(&'a mut Buckets),
    /// Table 7.
    Candidates(&'a mut Vec<Candidate>, Wanted),
}

/// One task of the pass that makes a table: matches left buckets `range` with their neighbours.
pub(crate) struct Pass<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) range: Range<usize>,
    pub(crate) keep: Keep<'a>,
    pub(crate) sink: Sink<'a>,
    pub(crate) scratch: &'a mut Scratch,
}

/// Bucket and place (row << 7 | column) of y.
#[inline(always)]
pub(crate) fn bucket_and_place<V: Vector>(y: V) -> (V, V) {
    // An estimate of y / BC from the top 16 bits, which is right or 1 too small.
    let estimate = y.shr(Y_BITS - 16).mul(V::splat((1 << Y_BITS) / BC)).shr(16);
    let rest = y.sub(estimate.mul(V::splat(BC)));
    let r = rest.min(rest.sub(V::splat(BC)));
    let bucket = estimate.add(rest.sub(r).shr(BC.ilog2()));
    // r / C by a reciprocal that is exact below BC; row << 7 | column = 128 row + r - 127 row.
    let row = r.mul(V::splat((1_u32 << 20).div_ceil(C))).shr(20);
    (bucket, r.add(row))
}

/// Appends 32-bit words of a bit string, `count` of them, at bit `offset` of `message`.
#[inline(always)]
fn append<V: Vector>(message: &mut [V; 6], offset: u32, words: [V; 3], count: usize) {
    let (first, shift) = ((offset / 32) as usize, offset % 32);
    let mut word = 0;
    while word < count {
        let at = first + word;
        if at < 6 {
            message[at] = message[at].or(words[word].shr(shift));
        }
        if shift > 0 && at + 1 < 6 {
            message[at + 1] = message[at + 1].or(words[word].shl(32 - shift));
        }
        word += 1;
    }
}

/// y and metadata words of the entries of table `TABLE` made from y and metadata words of both parents.
#[inline(always)]
pub(crate) fn combine<V: Vector, const TABLE: usize>(y: V, left: [V; 3], right: [V; 3]) -> ([V; 4], [V; 3]) {
    let bits = METADATA_BITS[TABLE - 2];
    let count = bits.div_ceil(32) as usize;
    let zero = V::splat(0);
    let mut message = [zero; 6];
    message[0] = y.shl(32 - Y_BITS);
    append(&mut message, Y_BITS, left, count);
    append(&mut message, Y_BITS + bits, right, count);
    let hash = hash_short(message, (Y_BITS + 2 * bits).div_ceil(8));
    let [h0, h1, h2, h3] = hash;
    let shifted = |high: V, low: V| high.shl(Y_BITS).or(low.shr(32 - Y_BITS));
    let metadata = match TABLE {
        2 => [left[0].or(right[0].shr(20)), right[0].shl(12), zero],
        3 => [left[0], left[1].or(right[0].shr(8)), right[0].shl(24).or(right[1].shr(8))],
        4 => [shifted(h0, h1), shifted(h1, h2), shifted(h2, h3).and(V::splat(0xffff_0000))],
        5 => [shifted(h0, h1), shifted(h1, h2).and(V::splat(0xffff_fff0)), zero],
        6 => [shifted(h0, h1), shifted(h1, h2).and(V::splat(0xff00_0000)), zero],
        _ => [zero, zero, zero],
    };
    (hash, metadata)
}

/// Table 1 for the x values of `range`, a multiple of [`X_BATCH`].
#[inline(always)]
pub(crate) fn first_table<V: Vector>(seed: &PosSeed, range: Range<usize>, target: &mut Buckets) {
    let mut keystream = ChaCha8::new(&seed.0.into(), &[0; 12].into());
    keystream.seek((range.start * K as usize / 8) as u64);
    let mut bytes = [0; X_BATCH * K as usize / 8];
    for first in range.step_by(X_BATCH) {
        bytes.fill(0);
        keystream.apply_keystream(&mut bytes);
        // 40 bytes are 16 values.
        for (bytes, x) in bytes.as_chunks::<40>().0.iter().zip((first as u32..).step_by(16)) {
            let mut words = [0; MAX_LANES];
            for (pair, bytes) in words.as_chunks_mut::<2>().0.iter_mut().zip(bytes.as_chunks::<5>().0) {
                let [a, b, c, d, e] = bytes.map(u32::from);
                *pair = [(a << 12) | (b << 4) | (c >> 4), ((c & 0xf) << 16) | (d << 8) | e];
            }
            first_entries::<V>(&words, x, target);
        }
    }
}

/// Entries of 16 values from `x` on, a multiple of 16, with these keystream values.
#[inline(always)]
fn first_entries<V: Vector>(keystream: &[u32; MAX_LANES], x: u32, target: &mut Buckets) {
    const INDEXES: [u32; MAX_LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let zero = V::splat(0);
    let mut done = 0;
    while done < MAX_LANES {
        let mut words = [0; MAX_LANES];
        words[..V::LANES].copy_from_slice(&keystream[done..done + V::LANES]);
        let high = V::splat(x >> (K - EXTRA_BITS));
        let y = V::load(&words).shl(EXTRA_BITS).or(high);
        let xs = V::load(&INDEXES).add(V::splat(x + done as u32));
        let (bucket, place) = bucket_and_place(y);
        push_all([xs.shl(32 - K), zero, place, zero], bucket, V::LANES, target);
        done += V::LANES;
    }
}

/// Puts the first `count` entries of these words into their buckets.
#[inline(always)]
fn push_all<V: Vector>(words: [V; 4], bucket: V, count: usize, target: &mut Buckets) {
    let mut entries = [PackedEntry::default(); MAX_LANES];
    let mut buckets = [0; MAX_LANES];
    V::scatter(words, &mut entries);
    bucket.store(&mut buckets);
    for lane in 0..count {
        target.push::<V>(buckets[lane] as usize, entries[lane]);
    }
}

/// Runs a pass.
#[inline(always)]
pub(crate) fn pass<V: Vector, const TABLE: usize>(pass: Pass<'_>) {
    let Pass { source, range, mut keep, mut sink, scratch } = pass;
    let Scratch { left, right, matches } = scratch;
    let origin = source.starts[range.start];
    let last = range.end == BUCKETS - 1;
    left.load::<V>(source.parts, range.start);
    for bucket in range {
        keep.bucket(left, (source.starts[bucket] - origin) as usize);
        right.load::<V>(source.parts, bucket + 1);
        if bucket + 2 < BUCKETS {
            source.parts.iter().for_each(|part| part.prefetch::<V>(bucket + 2));
        }
        let mut next = 0;
        matches.len = 0;
        while next < left.len {
            next = V::find_matches(left, right, bucket % 2, next, matches);
            hash_matches::<V, TABLE>(bucket, source.starts[bucket], left, right, matches, &mut sink);
        }
        std::mem::swap(left, right);
        if last && bucket == BUCKETS - 2 {
            keep.bucket(left, (source.starts[bucket + 1] - origin) as usize);
        }
    }
}

/// Hashes all matches and passes on the entries they make.
#[inline(always)]
fn hash_matches<V: Vector, const TABLE: usize>(
    bucket: usize,
    start: u32,
    left: &LocalBucket,
    right: &LocalBucket,
    matches: &mut Matches,
    sink: &mut Sink<'_>,
) {
    let mut done = 0;
    while done < matches.len {
        let count = V::LANES.min(matches.len - done);
        let pairs: &[u32; MAX_LANES] =
            matches.pairs[done..].first_chunk().expect("the matches have a vector of padding");
        let [l0, l1, l2, _] = V::gather::<16>(&left.entries, pairs);
        let [r0, r1, r2, _] = V::gather::<0>(&right.entries, pairs);
        let place = l2.and(V::splat(0x3fff));
        let y = V::splat(bucket as u32 * BC).add(place.sub(place.shr(7)));
        let high = V::splat(0xffff_0000);
        let ([h0, ..], metadata) = combine::<V, TABLE>(y, [l0, l1, l2.and(high)], [r0, r1, r2.and(high)]);
        let pairs = V::load(pairs);
        let (left_index, right_index) = (pairs.shr(16), pairs.and(V::splat(0xffff)));
        let position = V::splat(start).add(left_index);
        let distance = V::splat(left.len as u32).sub(left_index).add(right_index);
        let parents = position.shl(DISTANCE_BITS).or(distance);
        match sink {
            Sink::Buckets(target) => {
                let (bucket, place) = bucket_and_place(h0.shr(32 - Y_BITS));
                let [m0, m1, m2] = metadata;
                push_all([m0, m1, m2.or(place), parents], bucket, count, target);
            }
            Sink::Candidates(target, wanted) => {
                push_candidates(h0, parents, count, *wanted, target);
            }
        }
        done += count;
    }
    matches.len = 0;
}

#[inline(always)]
fn push_candidates<V: Vector>(h0: V, parents: V, count: usize, wanted: Wanted, target: &mut Vec<Candidate>) {
    let mut mask = h0.and(V::splat(wanted.mask)).equal_mask(V::splat(wanted.value));
    mask &= ((1_u64 << count) - 1) as u32;
    if mask == 0 {
        return;
    }
    let (mut heads, mut links) = ([0; MAX_LANES], [0; MAX_LANES]);
    h0.store(&mut heads);
    parents.store(&mut links);
    while mask != 0 {
        let lane = mask.trailing_zeros() as usize % MAX_LANES;
        target.push(Candidate { y: heads[lane] >> (32 - Y_BITS), parents: links[lane] });
        mask &= mask - 1;
    }
}

impl<'a> Keep<'a> {
    /// Splits off the places of the next `count` entries.
    pub(crate) fn take(&mut self, count: usize) -> Keep<'a> {
        match self {
            Keep::Nothing => Keep::Nothing,
            Keep::Leaves(leaves) => {
                Keep::Leaves(leaves.split_off_mut(..count).expect("a place for each entry"))
            }
            Keep::Parents(parents) => {
                Keep::Parents(parents.split_off_mut(..count).expect("a place for each entry"))
            }
        }
    }

    /// Keeps what is wanted of a bucket, whose entries have positions from `at` on.
    #[inline(always)]
    fn bucket(&mut self, bucket: &LocalBucket, at: usize) {
        let entries = &bucket.entries[..bucket.len];
        match self {
            Keep::Nothing => {}
            Keep::Leaves(leaves) => {
                for (leaf, PackedEntry([first, second, third, _])) in leaves[at..].iter_mut().zip(entries) {
                    *leaf = [
                        (first >> 16) as u16,
                        *first as u16,
                        (second >> 16) as u16,
                        *second as u16,
                        (third >> 16) as u16,
                    ];
                }
            }
            Keep::Parents(parents) => {
                for (parents, entry) in parents[at..].iter_mut().zip(entries) {
                    *parents = entry.0[3];
                }
            }
        }
    }
}

/// y of an entry of `bucket`.
pub(crate) fn entry_y(bucket: usize, entry: PackedEntry) -> u32 {
    let place = entry.0[2] & 0x3fff;
    bucket as u32 * BC + place - (place >> 7)
}

const _: () = assert!(B <= 128 && C <= 128 && BC < 1 << 14);
