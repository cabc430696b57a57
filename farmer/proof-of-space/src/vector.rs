//! What the passes ask of a vector of 32-bit lanes, and its implementations.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

use crate::buckets::PackedEntry;
use crate::local::{LOCAL_ENTRIES, LocalBucket, Matches};

/// Lanes of the widest vector.
pub(crate) const MAX_LANES: usize = 16;

/// A vector of `LANES` 32-bit numbers.
///
/// Arithmetic is modulo 2^32. Every method of every implementation is checked against [`portable::Portable`].
pub(crate) trait Vector: Copy {
    /// Numbers in the vector: 4, 8 or 16.
    const LANES: usize;

    /// `value` in every lane.
    fn splat(value: u32) -> Self;
    /// The first `LANES` numbers.
    fn load(words: &[u32; MAX_LANES]) -> Self;
    /// Writes the first `LANES` numbers.
    fn store(self, words: &mut [u32; MAX_LANES]);
    /// Sum.
    fn add(self, other: Self) -> Self;
    /// Difference.
    fn sub(self, other: Self) -> Self;
    /// Low half of the product.
    fn mul(self, other: Self) -> Self;
    /// Smaller number, unsigned.
    fn min(self, other: Self) -> Self;
    /// Exclusive or.
    fn xor(self, other: Self) -> Self;
    /// Or.
    fn or(self, other: Self) -> Self;
    /// And.
    fn and(self, other: Self) -> Self;
    /// Shift to the left by less than 32.
    fn shl(self, bits: u32) -> Self;
    /// Shift to the right by less than 32.
    fn shr(self, bits: u32) -> Self;
    /// Rotation to the right by `BITS`.
    fn rotate_right<const BITS: i32>(self) -> Self;
    /// Each number with its bytes reversed.
    fn swap_bytes(self) -> Self;
    /// A bit for each lane that equals that of `other`.
    fn equal_mask(self, other: Self) -> u32;

    /// Asks for the cache line at `entry`, to be read soon.
    fn prefetch_read(entry: &PackedEntry);
    /// Asks for the cache line at `entry`, to be written.
    fn prefetch_write(entry: &PackedEntry);
    /// Words 0 to 3 of the entries at `(pairs[lane] >> SHIFT) % 512`.
    fn gather<const SHIFT: u32>(
        entries: &[PackedEntry; LOCAL_ENTRIES],
        pairs: &[u32; MAX_LANES],
    ) -> [Self; 4];
    /// Writes the entries with these words 0 to 3, one for each lane.
    fn scatter(words: [Self; 4], entries: &mut [PackedEntry; MAX_LANES]);
    /// Splits word 2 of 16 entries into rows and columns.
    fn rows_and_columns(entries: &[PackedEntry; 16], rows: &mut [u8; 16], columns: &mut [u8; 16]);
    /// Finds matches of the entries of `left` from `first` on with those of `right`, until there are none or `matches`
    /// has not room for those of one more left entry. Returns the left entry to go on with.
    fn find_matches(
        left: &LocalBucket,
        right: &LocalBucket,
        parity: usize,
        first: usize,
        matches: &mut Matches,
    ) -> usize;
}
