//! Verification of a proof (archival §3.7).

use crate::dispatch;
use crate::params::{B, C, EXTRA_BITS, K, M, PROOF_XS, Y_BITS, challenge_bits};
use crate::passes::{bucket_and_place, combine};
use crate::scalar::{self, Entry, Keystream, unpack};
use crate::vector::{MAX_LANES, Vector};
use primitives::sectors::PosSeed;
use primitives::simd::Simd;
use primitives::solutions::PosProof;

/// Whether `proof` is a proof of space for `challenge_index` under `seed`.
///
/// Every pair of every level has to match, and the bits of the last y have to be the challenge's; which of several
/// valid proofs is the canonical one is not asked (archival §3.7).
pub fn is_proof_valid(seed: &PosSeed, challenge_index: u32, proof: &PosProof) -> bool {
    is_proof_valid_with(Simd::best(), seed, challenge_index, proof)
}

/// [`is_proof_valid`] with `simd`, which must be available.
pub(crate) fn is_proof_valid_with(
    simd: Simd,
    seed: &PosSeed,
    challenge_index: u32,
    proof: &PosProof,
) -> bool {
    let mut last_y = None;
    dispatch::last_y(simd, seed, proof, &mut last_y);
    last_y.is_some_and(|y| y >> EXTRA_BITS == challenge_bits(challenge_index))
}

/// The entries of a proof's tree, table by table: 64 of table 1, 32 of table 2, …, 1 of table 7. The plain twin of
/// [`last_y`].
///
/// None when a pair does not match.
pub(crate) fn levels(seed: &PosSeed, proof: &PosProof) -> Option<[Vec<Entry>; 7]> {
    let mut keystream = Keystream::new(seed);
    let mut levels: [Vec<Entry>; 7] = Default::default();
    levels[0] = unpack(&proof.0).iter().map(|&x| keystream.entry(x)).collect();
    for table in 2..=7 {
        let parents = levels[table - 2].as_chunks::<2>().0;
        let children = parents
            .iter()
            .map(|[left, right]| {
                scalar::matches(left.y, right.y).then(|| scalar::combine(table, left, right))
            })
            .collect::<Option<Vec<_>>>()?;
        levels[table - 1] = children;
    }
    Some(levels)
}

/// Entries of one level, by words: y and three of metadata, left-aligned.
struct Level {
    y: [u32; PROOF_XS],
    metadata: [[u32; PROOF_XS]; 3],
}

/// y of the table-7 entry that a proof makes; none when a pair does not match.
#[inline(always)]
pub(crate) fn last_y<V: Vector>(seed: &PosSeed, proof: &PosProof, result: &mut Option<u32>) {
    let xs = unpack(&proof.0);
    let mut level = Level { y: [0; PROOF_XS], metadata: [[0; PROOF_XS]; 3] };
    first_level::<V>(seed, &xs, &mut level.y);
    for (word, x) in level.metadata[0].iter_mut().zip(xs) {
        *word = x << (u32::BITS - K);
    }
    let valid = ascend::<V, 2>(&mut level)
        && ascend::<V, 3>(&mut level)
        && ascend::<V, 4>(&mut level)
        && ascend::<V, 5>(&mut level)
        && ascend::<V, 6>(&mut level)
        && ascend::<V, 7>(&mut level);
    *result = valid.then_some(level.y[0]);
}

/// y in table 1 of each x.
#[inline(always)]
fn first_level<V: Vector>(seed: &PosSeed, xs: &[u32; PROOF_XS], ys: &mut [u32; PROOF_XS]) {
    const BLOCK_BITS: u32 = 512;
    const WORD_BITS: u32 = 32;
    // A value of 20 bits can begin in the last word of a block and end in the first of the next: a second request.
    let mut blocks = [0; 2 * PROOF_XS];
    let mut count = PROOF_XS;
    for (index, x) in xs.iter().enumerate() {
        blocks[index] = x * K / BLOCK_BITS;
        if x * K % BLOCK_BITS + K > BLOCK_BITS {
            blocks[count] = blocks[index] + 1;
            count += 1;
        }
    }
    let mut words = [[0; 16]; 2 * PROOF_XS];
    let mut done = 0;
    while done < count {
        let mut counters = [0; MAX_LANES];
        counters[..V::LANES].copy_from_slice(&blocks[done..done + V::LANES]);
        for (word, lanes) in chacha8(seed, V::load(&counters)).into_iter().enumerate() {
            let mut stored = [0; MAX_LANES];
            lanes.store(&mut stored);
            for (words, lane) in words[done..done + V::LANES].iter_mut().zip(stored) {
                words[word] = lane.swap_bytes();
            }
        }
        done += V::LANES;
    }
    let mut second = PROOF_XS;
    for ((x, y), words_of_x) in xs.iter().zip(ys).zip(0..) {
        let words: &[[u32; 16]; 2 * PROOF_XS] = &words;
        let bit = x * K % BLOCK_BITS;
        let word = (bit / WORD_BITS) as usize;
        let high = words[words_of_x][word];
        let low = if word < 15 {
            words[words_of_x][word + 1]
        } else if bit + K > BLOCK_BITS {
            second += 1;
            words[second - 1][0]
        } else {
            0
        };
        let window = (u64::from(high) << WORD_BITS) | u64::from(low);
        let partial = (window << (bit % WORD_BITS) >> (u64::BITS - K)) as u32;
        *y = (partial << EXTRA_BITS) | (x >> (K - EXTRA_BITS));
    }
}

/// One block of the keystream in each lane: 16 little-endian words.
#[inline(always)]
fn chacha8<V: Vector>(seed: &PosSeed, counter: V) -> [V; 16] {
    const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    let zero = V::splat(0);
    let mut initial = [zero; 16];
    for (word, constant) in initial.iter_mut().zip(CONSTANTS) {
        *word = V::splat(constant);
    }
    for (word, bytes) in initial[4..12].iter_mut().zip(seed.0.as_chunks::<4>().0) {
        *word = V::splat(u32::from_le_bytes(*bytes));
    }
    initial[12] = counter;
    let mut state = initial;
    for _ in 0..4 {
        quarter_round(&mut state, [0, 4, 8, 12]);
        quarter_round(&mut state, [1, 5, 9, 13]);
        quarter_round(&mut state, [2, 6, 10, 14]);
        quarter_round(&mut state, [3, 7, 11, 15]);
        quarter_round(&mut state, [0, 5, 10, 15]);
        quarter_round(&mut state, [1, 6, 11, 12]);
        quarter_round(&mut state, [2, 7, 8, 13]);
        quarter_round(&mut state, [3, 4, 9, 14]);
    }
    for (word, start) in state.iter_mut().zip(initial) {
        *word = word.add(start);
    }
    state
}

#[inline(always)]
fn quarter_round<V: Vector>(state: &mut [V; 16], [a, b, c, d]: [usize; 4]) {
    // Rotations to the left by 16, 12, 8 and 7.
    state[a] = state[a].add(state[b]);
    state[d] = state[d].xor(state[a]).rotate_right::<16>();
    state[c] = state[c].add(state[d]);
    state[b] = state[b].xor(state[c]).rotate_right::<20>();
    state[a] = state[a].add(state[b]);
    state[d] = state[d].xor(state[a]).rotate_right::<24>();
    state[c] = state[c].add(state[d]);
    state[b] = state[b].xor(state[c]).rotate_right::<25>();
}

/// Makes the entries of table `TABLE` of those of the level below it; false when a pair does not match.
#[inline(always)]
fn ascend<V: Vector, const TABLE: usize>(level: &mut Level) -> bool {
    let children = PROOF_XS >> (TABLE - 1);
    let mut done = 0;
    while done < children {
        let count = V::LANES.min(children - done);
        let (left_y, right_y) = parents::<V>(&level.y, done, count);
        let wanted = (1 << count) - 1;
        if match_mask(left_y, right_y) & wanted != wanted {
            return false;
        }
        let (l0, r0) = parents::<V>(&level.metadata[0], done, count);
        let (l1, r1) = parents::<V>(&level.metadata[1], done, count);
        let (l2, r2) = parents::<V>(&level.metadata[2], done, count);
        let ([h0, ..], [m0, m1, m2]) = combine::<V, TABLE>(left_y, [l0, l1, l2], [r0, r1, r2]);
        put(h0.shr(u32::BITS - Y_BITS), &mut level.y, done, count);
        put(m0, &mut level.metadata[0], done, count);
        put(m1, &mut level.metadata[1], done, count);
        put(m2, &mut level.metadata[2], done, count);
        done += count;
    }
    true
}

/// Left and right parents of children `first` to `first + count`.
#[inline(always)]
fn parents<V: Vector>(words: &[u32; PROOF_XS], first: usize, count: usize) -> (V, V) {
    let (mut left, mut right) = ([0; MAX_LANES], [0; MAX_LANES]);
    let pairs = &words.as_chunks::<2>().0[first..first + count];
    for ((pair, left), right) in pairs.iter().zip(&mut left).zip(&mut right) {
        [*left, *right] = *pair;
    }
    (V::load(&left), V::load(&right))
}

/// Writes the first `count` lanes; the parents that stood there have been read.
#[inline(always)]
fn put<V: Vector>(lanes: V, words: &mut [u32; PROOF_XS], first: usize, count: usize) {
    let mut stored = [0; MAX_LANES];
    lanes.store(&mut stored);
    words[first..first + count].copy_from_slice(&stored[..count]);
}

/// A bit for each lane whose y satisfy [`scalar::matches`].
#[inline(always)]
pub(crate) fn match_mask<V: Vector>(left_y: V, right_y: V) -> u32 {
    let (left_bucket, left) = bucket_and_place(left_y);
    let (_, right) = bucket_and_place(right_y);
    let columns = V::splat(0x7f);
    let distance = right.shr(7).sub(left.shr(7));
    let m = distance.min(distance.add(V::splat(B)));
    let root = m.add(m).add(left_bucket.and(V::splat(1)));
    // For m < 64 a number small enough for the reciprocal.
    let sum = root.mul(root).add(left.and(columns));
    let column = sum.sub(sum.mul(V::splat((1_u32 << 20).div_ceil(C))).shr(20).mul(V::splat(C)));
    column.equal_mask(right.and(columns)) & m.shr(M.ilog2()).equal_mask(V::splat(0))
}
