//! Keyed BLAKE3 of many chunks, one a lane, of which only the first eight bytes are wanted.
//!
//! An audit is little else than this: five hundred hashes under one key for each sector and slot. Half of each message
//! and all but two words of each result are constant or unused, which a general hash function cannot know.
#![allow(unsafe_code)]

use crate::sector::Chunk;
use primitives::simd::Simd;

/// A way to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Chunk by chunk, by the hash function's own crate.
    Portable,
    /// Eight chunks at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Sixteen chunks at a time.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Method {
    /// What this processor can do, the best first.
    fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let simd = [
            is_x86_feature_detected!("avx512f").then_some(Self::Avx512),
            is_x86_feature_detected!("avx2").then_some(Self::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let simd: [Option<Self>; 0] = [];
        simd.into_iter().flatten().chain([Self::Portable])
    }

    /// The best way that this processor can do and `AUTONOMYS_SIMD` allows.
    fn best() -> Self {
        let allowed = |method: &Self| match method {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Simd::limit() >= Simd::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Simd::limit() >= Simd::Avx512,
        };
        Self::available().find(allowed).expect("there is a portable way")
    }

    /// # Panics
    /// When the processor cannot do it.
    fn extend_heads(self, key: &[u8; 32], chunks: &[Chunk], heads: &mut Vec<u64>) {
        match self {
            Self::Portable => heads.extend(chunks.iter().map(|chunk| {
                let hash = blake3::keyed_hash(key, chunk);
                u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 of 32 bytes"))
            })),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                assert!(is_x86_feature_detected!("avx2"), "chosen without looking");
                simd::extend(key, chunks, heads, |key, chunks| {
                    // SAFETY: the assertion says that the processor has the feature that the function needs.
                    unsafe { simd::avx2(key, chunks) }
                });
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                assert!(is_x86_feature_detected!("avx512f"), "chosen without looking");
                simd::extend(key, chunks, heads, |key, chunks| {
                    // SAFETY: the assertion says that the processor has the feature that the function needs.
                    unsafe { simd::avx512(key, chunks) }
                });
            }
        }
    }
}

/// Appends the first eight bytes, little-endian, of the keyed BLAKE3 of each chunk.
pub(super) fn extend_heads(key: &[u8; 32], chunks: &[Chunk], heads: &mut Vec<u64>) {
    Method::best().extend_heads(key, chunks, heads);
}

#[cfg(target_arch = "x86_64")]
mod simd {
    use super::Chunk;
    use std::arch::x86_64::*;

    const IV: [u32; 4] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a];
    /// A message of one block is start and end of its chunk, and root; with a key.
    const FLAGS: u32 = 1 | 2 | 8 | 16;
    /// Bytes in the block.
    const LENGTH: u32 = 32;

    /// Which message word goes where, round by round.
    const SCHEDULE: [[usize; 16]; 7] = {
        const PERMUTATION: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
        let mut schedule = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]; 7];
        let mut round = 1;
        while round < 7 {
            let mut word = 0;
            while word < 16 {
                schedule[round][word] = schedule[round - 1][PERMUTATION[word]];
                word += 1;
            }
            round += 1;
        }
        schedule
    };

    /// Hashes `N` chunks at a time; what is missing in the last batch is zeroes.
    pub(super) fn extend<const N: usize>(
        key: &[u8; 32],
        chunks: &[Chunk],
        heads: &mut Vec<u64>,
        hash: impl Fn(&[u32; 8], &[Chunk; N]) -> [[u32; N]; 2],
    ) {
        let word = |word: &[u8; 4]| u32::from_le_bytes(*word);
        let key: [u32; 8] = std::array::from_fn(|index| word(&key.as_chunks().0[index]));
        let mut extend = |batch: &[Chunk; N], count: usize| {
            let [low, high] = hash(&key, batch);
            let lanes = low.iter().zip(&high).take(count);
            heads.extend(lanes.map(|(low, high)| u64::from(*low) | u64::from(*high) << 32));
        };
        let (batches, rest) = chunks.as_chunks::<N>();
        batches.iter().for_each(|batch| extend(batch, N));
        if !rest.is_empty() {
            let mut batch = [[0; 32]; N];
            batch[..rest.len()].copy_from_slice(rest);
            extend(&batch, rest.len());
        }
    }

    /// Words of 16 chunks, one chunk a lane.
    #[target_feature(enable = "avx512f")]
    fn words_512(chunks: &[Chunk; 16]) -> [__m512i; 8] {
        let row = |low: usize| {
            // SAFETY: chunks have 32 bytes each; any alignment will do.
            let [low, high] =
                [low, low + 4].map(|chunk| unsafe { _mm256_loadu_si256(chunks[chunk].as_ptr().cast()) });
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
        };
        // In each quarter, four words of a chunk to a word of four chunks.
        let quarters = |first: usize| {
            let [a, b, c, d] = [row(first), row(first + 1), row(first + 2), row(first + 3)];
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab_low, cd_low),
                _mm512_unpackhi_epi64(ab_low, cd_low),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        };
        let (first, second) = (quarters(0), quarters(8));
        // Quarters 0 and 2 have words 0 to 3, quarters 1 and 3 words 4 to 7.
        std::array::from_fn(|word| match word {
            0..4 => _mm512_shuffle_i64x2::<0x88>(first[word], second[word]),
            _ => _mm512_shuffle_i64x2::<0xdd>(first[word - 4], second[word - 4]),
        })
    }

    /// Words of 8 chunks, one chunk a lane.
    #[target_feature(enable = "avx2")]
    fn words_256(chunks: &[Chunk; 8]) -> [__m256i; 8] {
        // In each half, four words of a chunk to a word of four chunks.
        let halves = |offset: usize| {
            let row = |low: usize| {
                // SAFETY: chunks have 32 bytes each, `offset` is 0 or 16; any alignment will do.
                let [low, high] = [low, low + 4]
                    .map(|chunk| unsafe { _mm_loadu_si128(chunks[chunk][offset..].as_ptr().cast()) });
                _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
            };
            let [a, b, c, d] = [row(0), row(1), row(2), row(3)];
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        };
        let ([a, b, c, d], [e, f, g, h]) = (halves(0), halves(16));
        [a, b, c, d, e, f, g, h]
    }

    macro_rules! hasher {
        (
            $name:ident, $feature:literal, $lanes:literal, $words:ident, $store:ident, $splat:ident,
            $add:ident, $xor:ident, $rotate_16:expr, $rotate_12:expr, $rotate_8:expr, $rotate_7:expr
        ) => {
            /// First two words of the keyed hash of each chunk.
            #[target_feature(enable = $feature)]
            pub(super) fn $name(key: &[u32; 8], chunks: &[Chunk; $lanes]) -> [[u32; $lanes]; 2] {
                let splat = |word: u32| $splat(word as i32);
                let zero = splat(0);
                let mut message = [zero; 16];
                message[..8].copy_from_slice(&$words(chunks));
                let mut state = [zero; 16];
                for (state, key) in state.iter_mut().zip(key) {
                    *state = splat(*key);
                }
                for (state, iv) in state[8..].iter_mut().zip(&IV) {
                    *state = splat(*iv);
                }
                state[14] = splat(LENGTH);
                state[15] = splat(FLAGS);
                macro_rules! mix {
                    ($round:literal, $step:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
                        let (first, second) = (SCHEDULE[$round][2 * $step], SCHEDULE[$round][2 * $step + 1]);
                        state[$a] = $add($add(state[$a], state[$b]), message[first]);
                        state[$d] = $rotate_16($xor(state[$d], state[$a]));
                        state[$c] = $add(state[$c], state[$d]);
                        state[$b] = $rotate_12($xor(state[$b], state[$c]));
                        state[$a] = $add($add(state[$a], state[$b]), message[second]);
                        state[$d] = $rotate_8($xor(state[$d], state[$a]));
                        state[$c] = $add(state[$c], state[$d]);
                        state[$b] = $rotate_7($xor(state[$b], state[$c]));
                    };
                }
                macro_rules! round {
                    ($round:literal) => {
                        mix!($round, 0, 0, 4, 8, 12);
                        mix!($round, 1, 1, 5, 9, 13);
                        mix!($round, 2, 2, 6, 10, 14);
                        mix!($round, 3, 3, 7, 11, 15);
                        mix!($round, 4, 0, 5, 10, 15);
                        mix!($round, 5, 1, 6, 11, 12);
                        mix!($round, 6, 2, 7, 8, 13);
                        mix!($round, 7, 3, 4, 9, 14);
                    };
                }
                // Written out, so that message words known to be zero cost nothing.
                round!(0);
                round!(1);
                round!(2);
                round!(3);
                round!(4);
                round!(5);
                round!(6);
                let mut heads = [[0; $lanes]; 2];
                for (index, head) in heads.iter_mut().enumerate() {
                    // SAFETY: the array has as many words as are stored; any alignment will do.
                    unsafe { $store(head.as_mut_ptr().cast(), $xor(state[index], state[index + 8])) };
                }
                heads
            }
        };
    }

    hasher!(
        avx512,
        "avx512f",
        16,
        words_512,
        _mm512_storeu_si512,
        _mm512_set1_epi32,
        _mm512_add_epi32,
        _mm512_xor_si512,
        |x| _mm512_ror_epi32::<16>(x),
        |x| _mm512_ror_epi32::<12>(x),
        |x| _mm512_ror_epi32::<8>(x),
        |x| _mm512_ror_epi32::<7>(x)
    );

    hasher!(
        avx2,
        "avx2",
        8,
        words_256,
        _mm256_storeu_si256,
        _mm256_set1_epi32,
        _mm256_add_epi32,
        _mm256_xor_si256,
        |x| _mm256_or_si256(_mm256_srli_epi32::<16>(x), _mm256_slli_epi32::<16>(x)),
        |x| _mm256_or_si256(_mm256_srli_epi32::<12>(x), _mm256_slli_epi32::<20>(x)),
        |x| _mm256_or_si256(_mm256_srli_epi32::<8>(x), _mm256_slli_epi32::<24>(x)),
        |x| _mm256_or_si256(_mm256_srli_epi32::<7>(x), _mm256_slli_epi32::<25>(x))
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instruction_sets_agree_with_the_hash_function() {
        let random = |i: u32| *blake3::hash(&i.to_le_bytes()).as_bytes();
        let chunks: Vec<Chunk> = (0..1000).map(random).collect();
        for count in [0, 1, 7, 8, 9, 15, 16, 17, 500, 1000] {
            let key = random(count as u32 + 5000);
            let mut expected = vec![7];
            Method::Portable.extend_heads(&key, &chunks[..count], &mut expected);
            for method in Method::available() {
                let mut heads = vec![7];
                method.extend_heads(&key, &chunks[..count], &mut heads);
                assert_eq!(heads, expected, "{method:?}, {count} chunks");
            }
        }
    }
}
