//! The entries of one table, grouped by bucket: chunked lists in one arena.
//!
//! Entries arrive in the random order of their y. A list grows by chunks of 16 entries, so that buckets need no room
//! for the worst case and a table takes little more memory than its entries.

use crate::params::BUCKETS;

/// An entry between two passes.
///
/// Words 0 and 1 are the first 64 metadata bits, most significant first; the high half of word 2 the next 16; its low
/// half `r + r / C`, that is row and column of the entry in its bucket, 7 bits each; word 3 the back pointer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct PackedEntry(pub(crate) [u32; 4]);

/// Entries for which memory is allocated at once.
pub(crate) const TYPICAL_ENTRIES: usize = (1 << 20) / 100 * 103;
/// Entries of a chunk; a power of two.
pub(crate) const CHUNK: usize = 16;
/// Chunks that one bucket can have.
const CHAIN: usize = 32;
/// Entries that a bucket may have. The mean is 236, the standard deviation 15: the generator treats an overfull bucket
/// as a case for the reference generator, which has no limit.
pub(crate) const BUCKET_CAPACITY: usize = CHUNK * CHAIN;
/// Chunks allocated at once: a table of 2^20 entries and 3 %, with half of each bucket's last chunk empty. Larger tables
/// grow the arena.
const INITIAL_CHUNKS: usize = TYPICAL_ENTRIES / CHUNK + BUCKETS / 2;

#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Chunk([PackedEntry; CHUNK]);

/// A table's entries by bucket.
pub(crate) struct Buckets {
    chunks: Vec<Chunk>,
    /// Chunks in use.
    used: usize,
    /// Where each bucket's next entry goes, counted in entries from the start of the arena.
    cursors: Box<[u32; BUCKETS]>,
    /// Full chunks of each bucket.
    full: Box<[u8; BUCKETS]>,
    /// The chunks of each bucket.
    chains: Box<[[u32; CHAIN]; BUCKETS]>,
    overfull: bool,
}

/// An array on the heap that was never on the stack.
pub(crate) fn boxed_array<T: Clone, const N: usize>(value: T) -> Box<[T; N]> {
    vec![value; N].into_boxed_slice().try_into().ok().expect("the slice has N elements")
}

impl Buckets {
    /// Room for the `share`th part of a table.
    pub(crate) fn new(share: usize) -> Self {
        Self {
            chunks: vec![Chunk::default(); (INITIAL_CHUNKS / share).max(BUCKETS)],
            used: 0,
            cursors: boxed_array(0),
            full: boxed_array(0),
            chains: boxed_array([0; CHAIN]),
            overfull: false,
        }
    }

    /// Empties all buckets; each begins with a chunk of its own.
    pub(crate) fn clear(&mut self) {
        self.used = BUCKETS;
        self.overfull = false;
        self.full.fill(0);
        for (bucket, (cursor, chain)) in self.cursors.iter_mut().zip(self.chains.iter_mut()).enumerate() {
            *cursor = (bucket * CHUNK) as u32;
            chain[0] = bucket as u32;
        }
    }

    /// Whether a bucket has had more than its capacity; the table is then useless.
    pub(crate) fn is_overfull(&self) -> bool {
        self.overfull
    }

    /// Entries in `bucket`.
    pub(crate) fn len(&self, bucket: usize) -> usize {
        usize::from(self.full[bucket]) * CHUNK + self.cursors[bucket] as usize % CHUNK
    }

    /// Appends an entry.
    #[inline(always)]
    pub(crate) fn push(&mut self, bucket: usize, entry: PackedEntry) {
        let cursor = self.cursors[bucket];
        self.chunks[cursor as usize / CHUNK].0[cursor as usize % CHUNK] = entry;
        let next = cursor + 1;
        self.cursors[bucket] =
            if (next as usize).is_multiple_of(CHUNK) { self.next_chunk(bucket) } else { next };
    }

    /// Begins a new chunk of a bucket whose last one is full.
    #[cold]
    #[inline(never)]
    fn next_chunk(&mut self, bucket: usize) -> u32 {
        let full = usize::from(self.full[bucket]) + 1;
        if full == CHAIN {
            // The last chunk is written over and over; the result is discarded.
            self.overfull = true;
            return self.chains[bucket][CHAIN - 1] * CHUNK as u32;
        }
        if self.used == self.chunks.len() {
            self.chunks.reserve_exact(BUCKETS);
            self.chunks.resize(self.used + BUCKETS, Chunk::default());
        }
        self.full[bucket] = full as u8;
        self.chains[bucket][full] = self.used as u32;
        self.used += 1;
        ((self.used - 1) * CHUNK) as u32
    }

    /// Copies `bucket` to `target` and returns its length; up to a chunk more than that is written.
    ///
    /// # Panics
    /// When `target` has not room for that chunk.
    #[inline(always)]
    pub(crate) fn copy(&self, bucket: usize, target: &mut [PackedEntry]) -> usize {
        let chain = &self.chains[bucket][..=usize::from(self.full[bucket])];
        for (&chunk, target) in chain.iter().zip(target.chunks_exact_mut(CHUNK)) {
            target.copy_from_slice(&self.chunks[chunk as usize].0);
        }
        self.len(bucket)
    }

    /// Entry `index` of `bucket`.
    pub(crate) fn get(&self, bucket: usize, index: usize) -> PackedEntry {
        self.chunks[self.chains[bucket][index / CHUNK] as usize].0[index % CHUNK]
    }
}
