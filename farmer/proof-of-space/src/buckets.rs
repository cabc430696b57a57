//! The entries of one table, grouped by bucket: chunked lists in one arena.
//!
//! Entries arrive in the random order of their y. A list grows by chunks of 16 entries, so that buckets need no room
//! for the worst case and a table takes little more memory than its entries.

use crate::params::BUCKETS;
use crate::vector::Vector;

/// An entry between two passes.
///
/// Words 0 and 1 are the first 64 metadata bits, most significant first; the high half of word 2 the next 16; its low
/// half `r + r / C`, that is row and column of the entry in its bucket, 7 bits each; word 3 the back pointer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct PackedEntry(pub(crate) [u32; 4]);

/// Entries of a chunk; a power of two.
pub(crate) const CHUNK: usize = 16;
/// Chunks that one bucket can have.
const CHAIN: usize = 32;
/// Entries that a bucket may have. The mean is 236, the standard deviation 15: the generator treats an overfull bucket
/// as a case for the reference generator, which has no limit.
pub(crate) const BUCKET_CAPACITY: usize = CHUNK * CHAIN;

/// Chunks by which an arena grows that turns out too small: 1 MiB.
const GROWTH: usize = 4096;

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
    /// No room yet.
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            cursors: boxed_array(0),
            full: boxed_array(0),
            chains: boxed_array([0; CHAIN]),
            overfull: false,
        }
    }

    /// Sees to room for `entries` entries, with half of each bucket's last chunk empty. More will grow the arena.
    pub(crate) fn reserve(&mut self, entries: usize) {
        let chunks = entries / CHUNK + BUCKETS * 9 / 16;
        if self.chunks.len() < chunks {
            // Not `resize`, which would copy.
            self.chunks = Vec::new();
            self.chunks = vec![Chunk::default(); chunks.max(BUCKETS)];
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
    pub(crate) fn push<V: Vector>(&mut self, bucket: usize, entry: PackedEntry) {
        let cursor = self.cursors[bucket];
        self.chunks[cursor as usize / CHUNK].0[cursor as usize % CHUNK] = entry;
        let next = cursor + 1;
        self.cursors[bucket] = if (next as usize).is_multiple_of(CHUNK) {
            let next = self.next_chunk(bucket);
            let chunk = &self.chunks[next as usize / CHUNK].0;
            V::prefetch_write(&chunk[0]);
            V::prefetch_write(&chunk[4]);
            V::prefetch_write(&chunk[8]);
            V::prefetch_write(&chunk[12]);
            next
        } else {
            next
        };
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
            self.chunks.reserve_exact(GROWTH);
            self.chunks.resize(self.used + GROWTH, Chunk::default());
        }
        self.full[bucket] = full as u8;
        self.chains[bucket][full] = self.used as u32;
        self.used += 1;
        ((self.used - 1) * CHUNK) as u32
    }

    /// Asks the caches for `bucket`, to be copied soon.
    #[inline(always)]
    pub(crate) fn prefetch<V: Vector>(&self, bucket: usize) {
        for &chunk in &self.chains[bucket][..=usize::from(self.full[bucket])] {
            for line in self.chunks[chunk as usize].0.as_chunks::<4>().0 {
                V::prefetch_read(&line[0]);
            }
        }
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
