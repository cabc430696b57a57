//! Assembly of a sector from its encoded records (farming §3).

use super::SectorPlan;
use crate::sector::{Bitfield, Chunk, ContentsMap};
use parity_scale_codec::Encode;
use primitives::pieces::Record;
use primitives::sectors::{PlottedSector, RecordMetadata, SectorMetadata};
use primitives::{Blake3Checksummed, Blake3Hash, Piece};
use rayon::prelude::*;
use std::io::{self, Write};

/// S-buckets laid out together: 64 of 1,000 pieces are one megabyte, small enough for a core's cache.
const BLOCK_BUCKETS: usize = 64;
/// Blocks laid out before they are written: bounds memory beside the records themselves.
const BLOCKS_IN_FLIGHT: usize = 32;

/// A record as a sector stores it.
pub(super) struct EncodedRecord {
    /// Holds the stored chunks in the place of the record.
    piece: Piece,
    contents: Box<Bitfield>,
    metadata: RecordMetadata,
}

impl EncodedRecord {
    pub(super) fn new(piece: Piece, contents: Box<Bitfield>, metadata: RecordMetadata) -> Self {
        Self { piece, contents, metadata }
    }
}

/// All records of a sector, encoded; becomes the sector's bytes when it is written.
pub struct EncodedSector {
    plan: SectorPlan,
    records: Vec<EncodedRecord>,
    contents: ContentsMap,
    metadata: SectorMetadata,
}

impl EncodedSector {
    pub(super) fn new(plan: &SectorPlan, records: Vec<EncodedRecord>) -> Self {
        let bitfields = records.iter().map(|record| *record.contents).collect();
        let contents =
            ContentsMap::new(bitfields).expect("an encoder stores at most as many chunks as a record has");
        let metadata = SectorMetadata {
            sector_index: plan.sector_index(),
            pieces_in_sector: plan.pieces_in_sector(),
            s_bucket_sizes: contents.s_bucket_sizes(),
            history_size: plan.protocol_info().history_size,
        };
        Self { plan: *plan, records, contents, metadata }
    }

    /// What the sector contains.
    pub fn plan(&self) -> &SectorPlan {
        &self.plan
    }

    /// Bytes of the sector.
    pub fn size(&self) -> usize {
        self.plan.geometry().sector_size()
    }

    /// The sector's contents map.
    pub fn contents_map(&self) -> &ContentsMap {
        &self.contents
    }

    /// Metadata of the sector.
    pub fn metadata(&self) -> &SectorMetadata {
        &self.metadata
    }

    /// The sector as announced to the network.
    pub fn plotted_sector(&self) -> PlottedSector {
        PlottedSector {
            sector_id: self.plan.sector_id(),
            sector_index: self.plan.sector_index(),
            sector_metadata: Blake3Checksummed(self.metadata.clone()),
            piece_indexes: self.plan.piece_indexes(),
        }
    }

    /// Writes the sector's bytes front to back, in parts of about a megabyte for 1,000 pieces.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn write_to(&self, sink: &mut dyn Write) -> io::Result<()> {
        let mut sink = HashingSink { sink, hasher: blake3::Hasher::new() };
        sink.write_all(&self.contents.to_bytes())?;
        // A record's chunks before each block of s-buckets, record by record.
        let mut cursors = vec![0; self.records.len()];
        let words: Vec<usize> = (0..Record::NUM_S_BUCKETS / BLOCK_BUCKETS).collect();
        for window in words.chunks(BLOCKS_IN_FLIGHT) {
            let starts: Vec<Vec<usize>> =
                window.iter().map(|word| self.advance(&mut cursors, *word)).collect();
            let blocks: Vec<Vec<Chunk>> =
                window.par_iter().zip(&starts).map(|(word, starts)| self.block(*word, starts)).collect();
            for block in blocks {
                sink.write_all(block.as_flattened())?;
            }
        }
        for record in &self.records {
            sink.write_all(&record.metadata.encode())?;
        }
        let checksum = Blake3Hash(*sink.hasher.finalize().as_bytes());
        sink.sink.write_all(checksum.as_ref())
    }

    /// The sector's bytes in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        self.write_to(&mut bytes).expect("a vector takes all bytes");
        bytes
    }

    /// Moves the cursors past a block of 64 s-buckets; returns where they were.
    fn advance(&self, cursors: &mut [usize], word: usize) -> Vec<usize> {
        let before = cursors.to_vec();
        for (cursor, record) in cursors.iter_mut().zip(self.contents.records()) {
            *cursor += record.present_word(word).count_ones() as usize;
        }
        before
    }

    /// The chunks of 64 s-buckets: bucket after bucket, in each by ascending piece offset.
    fn block(&self, word: usize, starts: &[usize]) -> Vec<Chunk> {
        let sizes = &self.metadata.s_bucket_sizes[word * BLOCK_BUCKETS..][..BLOCK_BUCKETS];
        let mut positions = [0; BLOCK_BUCKETS];
        let mut total = 0;
        for (position, size) in positions.iter_mut().zip(sizes) {
            *position = total;
            total += usize::from(*size);
        }
        let mut chunks = vec![[0; 32]; total];
        for ((record, contents), start) in self.records.iter().zip(self.contents.records()).zip(starts) {
            let mut bits = contents.present_word(word);
            let mut stored = record.piece.record_chunks()[*start..].iter();
            while bits != 0 {
                let bucket = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                chunks[positions[bucket]] = *stored.next().expect("a chunk for each bit");
                positions[bucket] += 1;
            }
        }
        chunks
    }
}

/// Hashes what it passes on.
struct HashingSink<'a> {
    sink: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl HashingSink<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.sink.write_all(bytes)
    }
}
