//! Eight lanes with AVX2.
//!
//! Invariant of the module: a value of [`Avx2`] is made, and a method of it called, only below a function of `dispatch`
//! that has these target features enabled and was entered after `Simd::Avx2.is_available()`. All methods are inlined
//! into it. That is the safety of every intrinsic here; the comments state what else a block needs.
#![allow(unsafe_code)]

use super::{MAX_LANES, Vector};
use crate::buckets::{BUCKET_CAPACITY, PackedEntry};
use crate::local::{COLUMN_SHIFTS, LOCAL_ENTRIES, LocalBucket, Matches};
use crate::params::{B, C};
use std::arch::x86_64::*;

/// Eight numbers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256i);

/// Wraps an intrinsic on registers.
macro_rules! registers {
    ($expression:expr) => {{
        // SAFETY: the module's invariant; registers only, no memory.
        unsafe { $expression }
    }};
}

/// The same byte shuffle in both halves.
#[inline(always)]
fn shuffle(value: __m256i, pattern: [i8; 16]) -> __m256i {
    // SAFETY: the module's invariant; the pattern has 16 bytes.
    unsafe {
        let pattern = _mm_loadu_si128(pattern.as_ptr().cast());
        _mm256_shuffle_epi8(value, _mm256_broadcastsi128_si256(pattern))
    }
}

impl Vector for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(value: u32) -> Self {
        Self(registers!(_mm256_set1_epi32(value as i32)))
    }

    #[inline(always)]
    fn load(words: &[u32; MAX_LANES]) -> Self {
        // SAFETY: the module's invariant; the array has 64 bytes and the load needs no alignment.
        Self(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, words: &mut [u32; MAX_LANES]) {
        // SAFETY: the module's invariant; the array has 64 bytes and the store needs no alignment.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(registers!(_mm256_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(registers!(_mm256_sub_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(registers!(_mm256_mullo_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(registers!(_mm256_min_epu32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(registers!(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self(registers!(_mm256_or_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(registers!(_mm256_and_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        Self(registers!(_mm256_sllv_epi32(self.0, _mm256_set1_epi32(bits as i32))))
    }

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        Self(registers!(_mm256_srlv_epi32(self.0, _mm256_set1_epi32(bits as i32))))
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32>(self) -> Self {
        match BITS {
            16 => Self(shuffle(self.0, [2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13])),
            8 => Self(shuffle(self.0, [1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12])),
            _ => self.shr(BITS as u32).or(self.shl(32 - BITS as u32)),
        }
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        Self(shuffle(self.0, [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]))
    }

    #[inline(always)]
    fn equal_mask(self, other: Self) -> u32 {
        registers!({
            let equal = _mm256_cmpeq_epi32(self.0, other.0);
            _mm256_movemask_ps(_mm256_castsi256_ps(equal)) as u32
        })
    }

    #[inline(always)]
    fn prefetch_read(entry: &PackedEntry) {
        // SAFETY: a prefetch has no effect that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const *entry).cast()) }
    }

    #[inline(always)]
    fn prefetch_write(entry: &PackedEntry) {
        // SAFETY: a prefetch has no effect that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>((&raw const *entry).cast()) }
    }

    #[inline(always)]
    fn gather<const SHIFT: u32>(
        entries: &[PackedEntry; LOCAL_ENTRIES],
        pairs: &[u32; MAX_LANES],
    ) -> [Self; 4] {
        let [a, b, c, d] = transpose([
            gather_row::<SHIFT>(entries, pairs, 0),
            gather_row::<SHIFT>(entries, pairs, 1),
            gather_row::<SHIFT>(entries, pairs, 2),
            gather_row::<SHIFT>(entries, pairs, 3),
        ]);
        [Self(a), Self(b), Self(c), Self(d)]
    }

    #[inline(always)]
    fn scatter(words: [Self; 4], entries: &mut [PackedEntry; MAX_LANES]) {
        let [a, b, c, d] = words;
        let [a, b, c, d] = transpose([a.0, b.0, c.0, d.0]);
        scatter_row(a, entries, 0);
        scatter_row(b, entries, 1);
        scatter_row(c, entries, 2);
        scatter_row(d, entries, 3);
    }

    #[inline(always)]
    fn rows_and_columns(entries: &[PackedEntry; 16], rows: &mut [u8; 16], columns: &mut [u8; 16]) {
        for ((entry, row), column) in entries.iter().zip(rows).zip(columns) {
            let place = entry.0[2] & 0x3fff;
            *row = (place >> 7) as u8;
            *column = (place & 0x7f) as u8;
        }
    }

    #[inline(always)]
    fn find_matches(
        left: &LocalBucket,
        right: &LocalBucket,
        parity: usize,
        first: usize,
        matches: &mut Matches,
    ) -> usize {
        // SAFETY: the module's invariant.
        unsafe { find_matches(left, right, parity, first, matches) }
    }
}

/// Entries of lanes `row` and `row` + 4, a half each.
#[inline(always)]
fn gather_row<const SHIFT: u32>(
    entries: &[PackedEntry; LOCAL_ENTRIES],
    pairs: &[u32; MAX_LANES],
    row: usize,
) -> __m256i {
    let index = |lane: usize| (pairs[lane] >> SHIFT) as usize % BUCKET_CAPACITY;
    let entries = entries.as_ptr();
    // SAFETY: the module's invariant; the indexes are less than 512 and the array longer; an entry has 16 bytes.
    unsafe {
        let low = _mm256_castsi128_si256(_mm_load_si128(entries.add(index(row)).cast()));
        _mm256_inserti128_si256::<1>(low, _mm_load_si128(entries.add(index(row + 4)).cast()))
    }
}

/// Writes a register made as by [`gather_row`].
#[inline(always)]
fn scatter_row(halves: __m256i, entries: &mut [PackedEntry; MAX_LANES], row: usize) {
    assert!(row < 4);
    let target = entries[row..].as_mut_ptr();
    // SAFETY: the module's invariant; `row` + 4 is less than 16; an entry has 16 bytes and their alignment.
    unsafe {
        _mm_store_si128(target.cast(), _mm256_castsi256_si128(halves));
        _mm_store_si128(target.add(4).cast(), _mm256_extracti128_si256::<1>(halves));
    }
}

/// Transposes 4 by 4 numbers in each half: of words to entries, or of entries to words.
#[inline(always)]
fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    registers!({
        let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab_low, cd_low),
            _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    })
}

/// [`Vector::find_matches`]: as with AVX-512, but the table of 64 target columns is looked up in four parts.
///
/// A function of its own, so that it is compiled once and not for every table.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn find_matches(
    left: &LocalBucket,
    right: &LocalBucket,
    parity: usize,
    first: usize,
    matches: &mut Matches,
) -> usize {
    let blocks = right.len.div_ceil(64);
    // SAFETY: the module's invariant. Loads are of 32 bytes within arrays of 512, of 16 bytes within 64. At most 512
    // matches follow a length of at most `Matches::FULL`, and one store more than there are matches: within `CAPACITY`.
    unsafe {
        let mut shifts = [_mm256_setzero_si256(); 4];
        for (part, shifts) in shifts.iter_mut().enumerate() {
            let part = COLUMN_SHIFTS[parity].as_ptr().add(part * 16);
            *shifts = _mm256_broadcastsi128_si256(_mm_loadu_si128(part.cast()));
        }
        let (b, c) = (_mm256_set1_epi8(B as i8), _mm256_set1_epi8(C as i8));
        let pairs = matches.pairs.as_mut_ptr();
        let mut len = matches.len;
        for index in first..left.len {
            if len > Matches::FULL {
                matches.len = len;
                return index;
            }
            let row = _mm256_set1_epi8(left.rows[index] as i8);
            let column = _mm256_set1_epi8(left.columns[index] as i8);
            // Targets are plus one, for a distance of 64 and more looks up zero.
            let mut targets = shifts;
            for targets in &mut targets {
                let sums = _mm256_add_epi8(*targets, column);
                let rest = _mm256_min_epu8(sums, _mm256_sub_epi8(sums, c));
                *targets = _mm256_add_epi8(rest, _mm256_set1_epi8(1));
            }
            let hits = |place: usize| {
                let rows = _mm256_loadu_si256(right.rows.as_ptr().add(place).cast());
                let columns = _mm256_loadu_si256(right.columns.as_ptr().add(place).cast());
                let distance = _mm256_sub_epi8(rows, row);
                let m = _mm256_min_epu8(distance, _mm256_add_epi8(distance, b));
                // Saturating, so that the column of the padding stays 255.
                let columns = _mm256_adds_epu8(columns, _mm256_set1_epi8(1));
                _mm256_movemask_epi8(_mm256_cmpeq_epi8(look_up(targets, m), columns)) as u32
            };
            for block in 0..blocks {
                let mut mask = u64::from(hits(block * 64)) | u64::from(hits(block * 64 + 32)) << 32;
                let base = (index as u32) << 16 | (block as u32 * 64);
                let count = mask.count_ones() as usize;
                // One match is written in any case: most blocks have none or one.
                let mut target = pairs.add(len);
                target.write(base.wrapping_add(mask.trailing_zeros()));
                mask &= mask.wrapping_sub(1);
                while mask != 0 {
                    target = target.add(1);
                    target.write(base + mask.trailing_zeros());
                    mask &= mask - 1;
                }
                len += count;
            }
        }
        matches.len = len;
    }
    left.len
}

/// Byte `m` of the table for each m below 64, zero for each other below 128.
#[inline(always)]
fn look_up([first, second, third, fourth]: [__m256i; 4], m: __m256i) -> __m256i {
    registers!({
        // A shuffle looks at bits 0 to 3, and gives zero where bit 7 is set: for m + 64, where m is 64 or more.
        let place = _mm256_add_epi8(m, _mm256_set1_epi8(64));
        let (first, second) = (_mm256_shuffle_epi8(first, place), _mm256_shuffle_epi8(second, place));
        let (third, fourth) = (_mm256_shuffle_epi8(third, place), _mm256_shuffle_epi8(fourth, place));
        // A blend looks at bit 7: bits 4 and 5 are shifted there.
        let (bit_4, bit_5) = (_mm256_slli_epi16::<3>(m), _mm256_slli_epi16::<2>(m));
        let (low, high) =
            (_mm256_blendv_epi8(first, second, bit_4), _mm256_blendv_epi8(third, fourth, bit_4));
        _mm256_blendv_epi8(low, high, bit_5)
    })
}
