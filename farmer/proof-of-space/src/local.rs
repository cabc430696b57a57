//! One bucket in the first-level cache, and the matches of two.

use crate::buckets::{BUCKET_CAPACITY, Buckets, CHUNK, PackedEntry};
use crate::params::{M, column_shift};
use crate::vector::Vector;

/// Entries of a local bucket, with the slack that copying by chunks needs.
pub(crate) const LOCAL_ENTRIES: usize = BUCKET_CAPACITY + CHUNK;

/// Column of the places behind the last entry: equal to no target.
const NO_COLUMN: u8 = 0xff;

/// [`column_shift`] of both parities as bytes.
pub(crate) const COLUMN_SHIFTS: [[u8; M as usize]; 2] = {
    let mut shifts = [[0; M as usize]; 2];
    let mut m = 0;
    while m < M {
        shifts[0][m as usize] = column_shift(0, m) as u8;
        shifts[1][m as usize] = column_shift(1, m) as u8;
        m += 1;
    }
    shifts
};

/// A bucket as matching wants it.
#[repr(C, align(64))]
pub(crate) struct LocalBucket {
    /// Row of each entry: r / C.
    pub(crate) rows: [u8; BUCKET_CAPACITY],
    /// Column of each entry: r mod C; 255 from the last entry to the next multiple of 64.
    pub(crate) columns: [u8; BUCKET_CAPACITY],
    /// The entries in the order of their arrival.
    pub(crate) entries: [PackedEntry; LOCAL_ENTRIES],
    /// How many there are.
    pub(crate) len: usize,
}

impl LocalBucket {
    pub(crate) fn new() -> Self {
        Self {
            rows: [0; BUCKET_CAPACITY],
            columns: [NO_COLUMN; BUCKET_CAPACITY],
            entries: [PackedEntry::default(); LOCAL_ENTRIES],
            len: 0,
        }
    }

    /// Copies `bucket` from every part of a table, one part behind the other.
    ///
    /// # Panics
    /// When there are more than [`BUCKET_CAPACITY`] entries.
    #[inline(always)]
    pub(crate) fn load<V: Vector>(&mut self, parts: &[Buckets], bucket: usize) {
        let mut len = 0;
        for part in parts {
            len += part.copy(bucket, &mut self.entries[len..]);
        }
        assert!(len <= BUCKET_CAPACITY, "the generator refuses overfull tables");
        self.len = len;
        let entries = self.entries.as_chunks::<16>().0.iter().take(len.div_ceil(16));
        let rows = self.rows.as_chunks_mut::<16>().0;
        let columns = self.columns.as_chunks_mut::<16>().0;
        for ((entries, rows), columns) in entries.zip(rows).zip(columns) {
            V::rows_and_columns(entries, rows, columns);
        }
        self.columns[len..len.next_multiple_of(64)].fill(NO_COLUMN);
    }
}

/// Matches found and not yet hashed: left index << 16 | right index.
pub(crate) struct Matches {
    pub(crate) pairs: [u32; Self::CAPACITY],
    pub(crate) len: usize,
}

impl Matches {
    /// Room for the matches of a usual pair of buckets and then for one left entry that matches all of a bucket, and
    /// for a vector of padding.
    const CAPACITY: usize = Self::FULL + BUCKET_CAPACITY + 64;
    /// With so many there may not be room for those of another left entry.
    pub(crate) const FULL: usize = 512;

    pub(crate) fn new() -> Self {
        Self { pairs: [0; Self::CAPACITY], len: 0 }
    }
}
