//! Sectors as they stand on the disk (farming §3): which chunks are there, where, and whether they are sound.

mod buckets;
mod contents_map;
mod reader;
mod recover;

pub use buckets::{BucketIndex, BucketRange, BucketSizesError};
pub use contents_map::{ContentsMap, ContentsMapError, RecordContents};
pub use reader::{RecordChunksMode, SectorReadError, SectorReader};
pub(crate) use recover::mask;
pub use recover::{RecoverError, record_polynomial, source_piece};

use primitives::pieces::Record;

/// A chunk: 32 bytes, source, erasure-coded or masked.
pub type Chunk = [u8; 32];
/// Bitfield of one record in the contents map: bit i of the record is bit i % 8, lowest first, of byte i / 8.
pub type Bitfield = [u8; primitives::SectorGeometry::BITFIELD_SIZE];

/// A heap array of `N` zeroed elements, never on the stack.
pub(crate) fn zeroed_box<T: Clone + Default, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N].try_into().ok().expect("the vector has N elements")
}

/// The 32,768 chunks that a sector stores of one record, in s-bucket order; 1 MiB on the heap.
pub type StoredChunks = Box<[Chunk; Record::NUM_CHUNKS]>;
