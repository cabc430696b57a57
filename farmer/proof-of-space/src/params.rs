//! Constants of the proof of space (archival §3).

/// Size parameter: x values have this many bits.
pub(crate) const K: u32 = 20;
/// Bits by which y is longer than x.
pub(crate) const EXTRA_BITS: u32 = 6;
/// Bits of y.
pub(crate) const Y_BITS: u32 = K + EXTRA_BITS;
/// Rows of a bucket: r / C.
pub(crate) const B: u32 = 119;
/// Columns of a bucket: r mod C.
pub(crate) const C: u32 = 127;
/// Values of y in one bucket.
pub(crate) const BC: u32 = B * C;
/// Targets of each left entry.
pub(crate) const M: u32 = 64;
/// Buckets of a table: 4,441.
pub(crate) const BUCKETS: usize = (1_usize << Y_BITS).div_ceil(BC as usize);
/// Entries of table 1, one for each x.
pub(crate) const X_VALUES: usize = 1 << K;
/// Values of x in a proof.
pub(crate) const PROOF_XS: usize = 64;
/// s-buckets of a record: challenge indices that sectors ask for.
pub(crate) const S_BUCKETS: usize = 1 << 16;

/// Metadata bits of the entries of tables 1 to 7, at index `table - 1`.
pub(crate) const METADATA_BITS: [u32; 7] = [20, 40, 80, 80, 60, 40, 0];

/// The K bits that y / 64 of a table-7 entry must equal for `challenge_index` (archival §3.5).
pub(crate) const fn challenge_bits(challenge_index: u32) -> u32 {
    challenge_index.swap_bytes() >> (u32::BITS - K)
}

/// Column shift of target `m` for left buckets of this parity: (2m + parity)² mod C.
pub(crate) const fn column_shift(parity: u32, m: u32) -> u32 {
    let root = 2 * m + parity;
    root * root % C
}
