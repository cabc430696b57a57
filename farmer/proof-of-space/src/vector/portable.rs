//! Four lanes in plain Rust: what machines without AVX2 run, and the twin that the others are checked against.

use super::{MAX_LANES, Vector};
use crate::buckets::PackedEntry;
use crate::local::{COLUMN_SHIFTS, LOCAL_ENTRIES, LocalBucket, Matches};
use crate::params::{B, C};

/// Four numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable([u32; 4]);

impl Portable {
    #[inline(always)]
    fn map(self, function: impl Fn(u32) -> u32) -> Self {
        Self(self.0.map(function))
    }

    #[inline(always)]
    fn zip(self, other: Self, function: impl Fn(u32, u32) -> u32) -> Self {
        Self(std::array::from_fn(|lane| function(self.0[lane], other.0[lane])))
    }
}

impl Vector for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(value: u32) -> Self {
        Self([value; 4])
    }

    #[inline(always)]
    fn load(words: &[u32; MAX_LANES]) -> Self {
        Self(std::array::from_fn(|lane| words[lane]))
    }

    #[inline(always)]
    fn store(self, words: &mut [u32; MAX_LANES]) {
        words[..4].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_add)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_sub)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_mul)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, u32::min)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.zip(other, |left, right| left ^ right)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        self.zip(other, |left, right| left | right)
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        self.zip(other, |left, right| left & right)
    }

    #[inline(always)]
    fn shl(self, bits: u32) -> Self {
        self.map(|lane| lane << bits)
    }

    #[inline(always)]
    fn shr(self, bits: u32) -> Self {
        self.map(|lane| lane >> bits)
    }

    #[inline(always)]
    fn rotate_right<const BITS: i32>(self) -> Self {
        self.map(|lane| lane.rotate_right(BITS as u32))
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        self.map(u32::swap_bytes)
    }

    #[inline(always)]
    fn equal_mask(self, other: Self) -> u32 {
        (0..4).map(|lane| u32::from(self.0[lane] == other.0[lane]) << lane).sum()
    }

    #[inline(always)]
    fn prefetch_read(_entry: &PackedEntry) {}

    #[inline(always)]
    fn prefetch_write(_entry: &PackedEntry) {}

    #[inline(always)]
    fn gather<const SHIFT: u32>(
        entries: &[PackedEntry; LOCAL_ENTRIES],
        pairs: &[u32; MAX_LANES],
    ) -> [Self; 4] {
        let entry = |lane: usize| entries[(pairs[lane] >> SHIFT) as usize % 512].0;
        let entries = [entry(0), entry(1), entry(2), entry(3)];
        std::array::from_fn(|word| Self(entries.map(|entry| entry[word])))
    }

    #[inline(always)]
    fn scatter(words: [Self; 4], entries: &mut [PackedEntry; MAX_LANES]) {
        for (lane, entry) in entries.iter_mut().enumerate().take(4) {
            *entry = PackedEntry(words.map(|word| word.0[lane]));
        }
    }

    #[inline(always)]
    fn rows_and_columns(entries: &[PackedEntry; 16], rows: &mut [u8; 16], columns: &mut [u8; 16]) {
        for ((entry, row), column) in entries.iter().zip(rows).zip(columns) {
            let place = entry.0[2] & 0x3fff;
            *row = (place >> 7) as u8;
            *column = (place & 0x7f) as u8;
        }
    }

    fn find_matches(
        left: &LocalBucket,
        right: &LocalBucket,
        parity: usize,
        first: usize,
        matches: &mut Matches,
    ) -> usize {
        let map = RightMap::new(right);
        for index in first..left.len {
            if matches.len > Matches::FULL {
                return index;
            }
            map.find(left, index, parity, matches);
        }
        left.len
    }
}

/// Where in a right bucket which rows and columns are.
struct RightMap {
    /// Columns present in each row; the first 63 rows stand a second time behind the last.
    present: [u128; (B + 63) as usize],
    /// Index of the last entry at each place.
    last: [u16; (B * 128) as usize],
    /// For each entry the one before it at the same place, or [`Self::NONE`].
    previous: [u16; 512],
}

impl RightMap {
    const NONE: u16 = u16::MAX;

    fn new(right: &LocalBucket) -> Self {
        let mut map = Self {
            present: [0; (B + 63) as usize],
            last: [0; (B * 128) as usize],
            previous: [Self::NONE; 512],
        };
        for index in 0..right.len {
            let (row, column) = (usize::from(right.rows[index]), right.columns[index]);
            let bit = 1_u128 << column;
            let last = &mut map.last[row * 128 + usize::from(column)];
            if map.present[row] & bit != 0 {
                map.previous[index] = *last;
            }
            *last = index as u16;
            map.present[row] |= bit;
        }
        map.present.copy_within(..63, B as usize);
        map
    }

    #[inline(always)]
    fn find(&self, left: &LocalBucket, index: usize, parity: usize, matches: &mut Matches) {
        let row = usize::from(left.rows[index]);
        let rows = &self.present[row..row + 64];
        for (m, (present, shift)) in rows.iter().zip(COLUMN_SHIFTS[parity]).enumerate() {
            let sum = left.columns[index] + shift;
            let column = sum.min(sum.wrapping_sub(C as u8));
            if present >> column & 1 != 0 {
                let row = if row + m >= B as usize { row + m - B as usize } else { row + m };
                let mut right = self.last[row * 128 + usize::from(column)];
                while right != Self::NONE {
                    matches.pairs[matches.len] = (index as u32) << 16 | u32::from(right);
                    matches.len += 1;
                    right = self.previous[usize::from(right)];
                }
            }
        }
    }
}
