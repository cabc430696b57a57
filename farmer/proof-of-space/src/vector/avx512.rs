//! Sixteen lanes with AVX-512.
//!
//! Invariant of the module: a value of [`Avx512`] is made, and a method of it called, only below a function of
//! `dispatch` that has these target features enabled and was entered after `Simd::Avx512.is_available()`. All methods
//! are inlined into it. That is the safety of every intrinsic here; the comments state what else a block needs.
#![allow(unsafe_code)]

use super::{MAX_LANES, Vector};
use crate::buckets::{BUCKET_CAPACITY, PackedEntry};
use crate::local::{COLUMN_SHIFTS, LOCAL_ENTRIES, LocalBucket, Matches};
use crate::params::{B, C};
use std::arch::x86_64::*;

/// Sixteen numbers.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512i);

/// Wraps an intrinsic on registers.
macro_rules! registers {
    ($expression:expr) => {{
        // SAFETY: the module's invariant; registers only, no memory.
        unsafe { $expression }
    }};
}

impl Vector for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(value: u32) -> Self {
        Self(registers!(_mm512_set1_epi32(value as i32)))
    }

    #[inline(always)]
    fn load(words: &[u32; MAX_LANES]) -> Self {
        // SAFETY: the module's invariant; the array has 64 bytes and the load needs no alignment.
        Self(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, words: &mut [u32; MAX_LANES]) {
        // SAFETY: the module's invariant; the array has 64 bytes and the store needs no alignment.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(registers!(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(registers!(_mm512_sub_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(registers!(_mm512_mullo_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(registers!(_mm512_min_epu32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(registers!(_mm512_xor_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Self(registers!(_mm512_or_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Self(registers!(_mm512_and_si512(self.0, other.0)))
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        Self(registers!(_mm512_sllv_epi32(self.0, _mm512_set1_epi32(bits as i32))))
    }

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        Self(registers!(_mm512_srlv_epi32(self.0, _mm512_set1_epi32(bits as i32))))
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32>(self) -> Self {
        Self(registers!(_mm512_ror_epi32::<BITS>(self.0)))
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        Self(registers!(_mm512_shuffle_epi8(
            self.0,
            _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3))
        )))
    }

    #[inline(always)]
    fn equal_mask(self, other: Self) -> u32 {
        u32::from(registers!(_mm512_cmpeq_epi32_mask(self.0, other.0)))
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
        // SAFETY: the module's invariant; 16 entries have 4 times 64 bytes, the outputs 16 bytes each.
        unsafe {
            let source = entries.as_ptr().cast::<__m512i>();
            let (first, second) = (_mm512_loadu_si512(source), _mm512_loadu_si512(source.add(1)));
            let (third, fourth) = (_mm512_loadu_si512(source.add(2)), _mm512_loadu_si512(source.add(3)));
            // Word 2 of each entry: lanes 2, 6, 10, 14 of the one, then of the other register.
            let pick = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 30, 26, 22, 18, 14, 10, 6, 2);
            let low = _mm512_permutex2var_epi32(first, pick, second);
            let high = _mm512_permutex2var_epi32(third, pick, fourth);
            let places = _mm512_inserti64x4::<1>(low, _mm512_castsi512_si256(high));
            let mask = _mm512_set1_epi32(0x7f);
            let row = _mm512_and_si512(_mm512_srli_epi32::<7>(places), mask);
            let column = _mm512_and_si512(places, mask);
            _mm_storeu_si128(rows.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(row));
            _mm_storeu_si128(columns.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(column));
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
        unsafe {
            match right.len.div_ceil(64) {
                0 => left.len,
                1 => find_matches::<1>(left, right, parity, first, matches),
                2 => find_matches::<2>(left, right, parity, first, matches),
                3 => find_matches::<3>(left, right, parity, first, matches),
                4 => find_matches::<4>(left, right, parity, first, matches),
                5 => find_matches::<5>(left, right, parity, first, matches),
                6 => find_matches::<6>(left, right, parity, first, matches),
                7 => find_matches::<7>(left, right, parity, first, matches),
                _ => find_matches::<8>(left, right, parity, first, matches),
            }
        }
    }
}

/// Entries of lanes `row`, `row` + 4, `row` + 8 and `row` + 12, a quarter each.
#[inline(always)]
fn gather_row<const SHIFT: u32>(
    entries: &[PackedEntry; LOCAL_ENTRIES],
    pairs: &[u32; MAX_LANES],
    row: usize,
) -> __m512i {
    let index = |lane: usize| (pairs[lane] >> SHIFT) as usize % BUCKET_CAPACITY;
    let entries = entries.as_ptr();
    // SAFETY: the module's invariant; the indexes are less than 512 and the array longer; an entry has 16 bytes.
    unsafe {
        let low = _mm512_castsi128_si512(_mm_load_si128(entries.add(index(row)).cast()));
        let low = _mm512_inserti32x4::<1>(low, _mm_load_si128(entries.add(index(row + 4)).cast()));
        let low = _mm512_inserti32x4::<2>(low, _mm_load_si128(entries.add(index(row + 8)).cast()));
        _mm512_inserti32x4::<3>(low, _mm_load_si128(entries.add(index(row + 12)).cast()))
    }
}

/// Writes a register made as by [`gather_row`].
#[inline(always)]
fn scatter_row(quarters: __m512i, entries: &mut [PackedEntry; MAX_LANES], row: usize) {
    assert!(row < 4);
    let target = entries[row..].as_mut_ptr();
    // SAFETY: the module's invariant; `row` + 12 is less than 16; an entry has 16 bytes and their alignment.
    unsafe {
        _mm_store_si128(target.cast(), _mm512_castsi512_si128(quarters));
        _mm_store_si128(target.add(4).cast(), _mm512_extracti32x4_epi32::<1>(quarters));
        _mm_store_si128(target.add(8).cast(), _mm512_extracti32x4_epi32::<2>(quarters));
        _mm_store_si128(target.add(12).cast(), _mm512_extracti32x4_epi32::<3>(quarters));
    }
}

/// Transposes 4 by 4 numbers in each quarter: of words to entries, or of entries to words.
#[inline(always)]
fn transpose([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    registers!({
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    })
}

/// [`Vector::find_matches`] for a right bucket of up to 64 × `BLOCKS` entries, whose rows and columns stay in registers.
///
/// For one left entry the column that a match must have is a function of m, the distance of the rows: a table of 64
/// bytes, looked up for 64 right entries by one permutation and compared with their columns by one instruction.
///
/// A function of its own, so that it is compiled once and not for every table.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,bmi1,bmi2,popcnt,lzcnt")]
fn find_matches<const BLOCKS: usize>(
    left: &LocalBucket,
    right: &LocalBucket,
    parity: usize,
    first: usize,
    matches: &mut Matches,
) -> usize {
    assert!(BLOCKS * 64 <= BUCKET_CAPACITY);
    // SAFETY: the module's invariant. Loads are of 64 bytes within arrays of 512. At most 64 × BLOCKS ≤ 512 matches
    // follow a length of at most `Matches::FULL`, and one store more than there are matches: within `CAPACITY`.
    unsafe {
        let mut rows = [_mm512_setzero_si512(); BLOCKS];
        let mut columns = [_mm512_setzero_si512(); BLOCKS];
        for block in 0..BLOCKS {
            rows[block] = _mm512_loadu_si512(right.rows.as_ptr().add(block * 64).cast());
            columns[block] = _mm512_loadu_si512(right.columns.as_ptr().add(block * 64).cast());
        }
        let shifts = _mm512_loadu_si512(COLUMN_SHIFTS[parity].as_ptr().cast());
        let (b, c) = (_mm512_set1_epi8(B as i8), _mm512_set1_epi8(C as i8));
        // What distances of 64 and more look up: equal to no column, not even to that of the padding.
        let none = _mm512_set1_epi8(0x80_u8 as i8);
        let pairs = matches.pairs.as_mut_ptr();
        let mut len = matches.len;
        for index in first..left.len {
            if len > Matches::FULL {
                matches.len = len;
                return index;
            }
            let row = _mm512_set1_epi8(left.rows[index] as i8);
            let sums = _mm512_add_epi8(shifts, _mm512_set1_epi8(left.columns[index] as i8));
            let targets = _mm512_min_epu8(sums, _mm512_sub_epi8(sums, c));
            for block in 0..BLOCKS {
                let distance = _mm512_sub_epi8(rows[block], row);
                let m = _mm512_min_epu8(distance, _mm512_add_epi8(distance, b));
                let target = _mm512_permutex2var_epi8(targets, m, none);
                let mut mask = _mm512_cmpeq_epi8_mask(target, columns[block]);
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
