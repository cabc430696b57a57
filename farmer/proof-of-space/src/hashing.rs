//! BLAKE3 of short inputs, one input a lane.

use crate::vector::Vector;

const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 2;
const ROOT: u32 = 8;

/// Where word i of the next round's message stands in this round's.
const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];

#[inline(always)]
fn mix<V: Vector>(state: &mut [V; 16], [a, b, c, d]: [usize; 4], first: V, second: V) {
    state[a] = state[a].add(state[b]).add(first);
    state[d] = state[d].xor(state[a]).rotate_right::<16>();
    state[c] = state[c].add(state[d]);
    state[b] = state[b].xor(state[c]).rotate_right::<12>();
    state[a] = state[a].add(state[b]).add(second);
    state[d] = state[d].xor(state[a]).rotate_right::<8>();
    state[c] = state[c].add(state[d]);
    state[b] = state[b].xor(state[c]).rotate_right::<7>();
}

#[inline(always)]
fn round<V: Vector>(state: &mut [V; 16], m: &[V; 16]) {
    mix(state, [0, 4, 8, 12], m[0], m[1]);
    mix(state, [1, 5, 9, 13], m[2], m[3]);
    mix(state, [2, 6, 10, 14], m[4], m[5]);
    mix(state, [3, 7, 11, 15], m[6], m[7]);
    mix(state, [0, 5, 10, 15], m[8], m[9]);
    mix(state, [1, 6, 11, 12], m[10], m[11]);
    mix(state, [2, 7, 8, 13], m[12], m[13]);
    mix(state, [3, 4, 9, 14], m[14], m[15]);
}

#[inline(always)]
fn permute<V: Vector>(m: [V; 16]) -> [V; 16] {
    let mut next = m;
    let mut word = 0;
    while word < 16 {
        next[word] = m[PERMUTATION[word]];
        word += 1;
    }
    next
}

/// One compression; the words of the message are little-endian. Returns the next chaining value.
#[inline(always)]
fn compress<V: Vector>(chaining: &[V; 8], message: [V; 16], bytes: u32, flags: u32) -> [V; 8] {
    let [c0, c1, c2, c3, c4, c5, c6, c7] = *chaining;
    let [i0, i1, i2, i3] = [V::splat(IV[0]), V::splat(IV[1]), V::splat(IV[2]), V::splat(IV[3])];
    let (counter, bytes, flags) = (V::splat(0), V::splat(bytes), V::splat(flags));
    let mut state = [c0, c1, c2, c3, c4, c5, c6, c7, i0, i1, i2, i3, counter, counter, bytes, flags];
    // Written out, so that message words known to be zero cost nothing.
    let m = message;
    round(&mut state, &m);
    let m = permute(m);
    round(&mut state, &m);
    let m = permute(m);
    round(&mut state, &m);
    let m = permute(m);
    round(&mut state, &m);
    let m = permute(m);
    round(&mut state, &m);
    let m = permute(m);
    round(&mut state, &m);
    let m = permute(m);
    round(&mut state, &m);
    let [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15] = state;
    [s0.xor(s8), s1.xor(s9), s2.xor(s10), s3.xor(s11), s4.xor(s12), s5.xor(s13), s6.xor(s14), s7.xor(s15)]
}

#[inline(always)]
fn initial<V: Vector>() -> [V; 8] {
    [
        V::splat(IV[0]),
        V::splat(IV[1]),
        V::splat(IV[2]),
        V::splat(IV[3]),
        V::splat(IV[4]),
        V::splat(IV[5]),
        V::splat(IV[6]),
        V::splat(IV[7]),
    ]
}

/// The first 128 bits of BLAKE3 of `bytes` ≤ 24 bytes; words are big-endian on both sides.
#[inline(always)]
pub(crate) fn hash_short<V: Vector>(words: [V; 6], bytes: u32) -> [V; 4] {
    let zero = V::splat(0);
    let [w0, w1, w2, w3, w4, w5] = words;
    let (w0, w1, w2) = (w0.swap_bytes(), w1.swap_bytes(), w2.swap_bytes());
    let (w3, w4, w5) = (w3.swap_bytes(), w4.swap_bytes(), w5.swap_bytes());
    let message = [w0, w1, w2, w3, w4, w5, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero];
    let [h0, h1, h2, h3, ..] = compress(&initial(), message, bytes, CHUNK_START | CHUNK_END | ROOT);
    [h0.swap_bytes(), h1.swap_bytes(), h2.swap_bytes(), h3.swap_bytes()]
}

/// BLAKE3 of proofs, 160 bytes each; words are little-endian on both sides.
#[inline(always)]
pub(crate) fn hash_proof<V: Vector>(words: &[V; 40]) -> [V; 8] {
    let zero = V::splat(0);
    let mut block = [zero; 16];
    block.copy_from_slice(&words[..16]);
    let chaining = compress(&initial(), block, 64, CHUNK_START);
    block.copy_from_slice(&words[16..32]);
    let chaining = compress(&chaining, block, 64, 0);
    block = [zero; 16];
    block[..8].copy_from_slice(&words[32..]);
    compress(&chaining, block, 32, CHUNK_END | ROOT)
}
