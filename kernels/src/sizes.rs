//! Sizes of what the kernels keep, as `cuda/parameters.cuh` has them.

/// Entries that a bucket can hold.
pub const BUCKET_CAPACITY: usize = 512;
/// Entries of table 7 that can answer s-buckets.
pub const CANDIDATES: usize = 1 << 17;
/// s-buckets of a record.
pub const S_BUCKETS: usize = 1 << 16;
/// Source chunks of a record, and chunks that a sector stores of it.
pub const RECORD_CHUNKS: usize = 1 << 15;
/// Bytes of a chunk.
pub const CHUNK_BYTES: usize = 32;
/// Bytes of an entry of a table.
pub const ENTRY_BYTES: usize = 16;
/// Bytes of what a record's kernels count.
pub const STATUS_BYTES: usize = 32;
/// Values of y in a bucket.
const BUCKET_SIZE: usize = 119 * 127;

/// Sizes that depend on the proof of space's size parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Size parameter: bits of x. 20 on the network; tests have 16 as well.
    pub k: u32,
}

impl Sizes {
    /// The network's.
    pub const NETWORK: Self = Self { k: 20 };

    /// Entries of table 1.
    pub fn x_values(self) -> usize {
        1 << self.k
    }

    /// Buckets of a table.
    pub fn buckets(self) -> usize {
        (1_usize << (self.k + 6)).div_ceil(BUCKET_SIZE)
    }

    /// Slots of a table, free ones included.
    pub fn slots(self) -> usize {
        self.buckets() * BUCKET_CAPACITY
    }

    /// Bytes of a proof.
    pub fn proof_bytes(self) -> usize {
        8 * self.k as usize
    }

    /// Bytes of device memory for a record in flight.
    pub fn record_bytes(self) -> usize {
        let tables = 4 * self.slots() * ENTRY_BYTES + 6 * self.buckets() * 4;
        let search = CANDIDATES * (8 + 4)
            + S_BUCKETS * (8 + 4 + 4)
            + S_BUCKETS / 4
            + RECORD_CHUNKS * (4 + self.proof_bytes() + 32);
        let chunks = (S_BUCKETS + 2 * RECORD_CHUNKS) * CHUNK_BYTES;
        tables + search + chunks + STATUS_BYTES + 32
    }
}
