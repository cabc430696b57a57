//! Encoding of one record (farming §4.3-§4.5).

use crate::sector::{Bitfield, Chunk, RecordContents, mask};
use archiving::Scalar;
use archiving::erasure;
use primitives::pieces::Record;
use primitives::sectors::PosSeed;
use primitives::{Blake3Hash, SBucket};
use proof_of_space::TableGenerator;
use std::ops::ControlFlow;

/// Why a record could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum RecordEncoderError {
    /// A source chunk is no scalar: the piece was not checked.
    #[error("source chunk {0} of the record is no scalar")]
    NotAScalar(usize),
    /// The device failed.
    #[error("{device}: {source}")]
    Device {
        /// Name of the device.
        device: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Encodes records one after the other; keeps its tables' memory between them.
///
/// All encoders give the same bytes.
pub trait RecordEncoder: Send {
    /// Encodes one record in place.
    ///
    /// `chunks` are the record's source chunks, and become the 32,768 chunks that the sector stores, in s-bucket order;
    /// `contents` becomes the record's bitfield, whatever it was.
    ///
    /// # Errors
    /// [`RecordEncoderError`]; both buffers are undefined then.
    fn encode_record(
        &mut self,
        seed: &PosSeed,
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError>;

    /// As [`Self::encode_record`], for a record that is already erasure-coded to its 65,536 chunks.
    ///
    /// # Errors
    /// As [`Self::encode_record`].
    fn encode_extended_record(
        &mut self,
        seed: &PosSeed,
        extended: &[Chunk; Record::NUM_S_BUCKETS],
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        for (chunk, source) in chunks.iter_mut().zip(extended.iter().step_by(2)) {
            *chunk = *source;
        }
        self.encode_record(seed, chunks, contents)
    }
}

/// Encodes on the calling thread.
pub struct CpuRecordEncoder {
    generator: TableGenerator,
    scalars: Vec<Scalar>,
    extended: Box<[Chunk; Record::NUM_S_BUCKETS]>,
}

impl Default for CpuRecordEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl CpuRecordEncoder {
    /// Allocates all that encoding needs.
    pub fn new() -> Self {
        Self {
            generator: TableGenerator::new(),
            scalars: Vec::with_capacity(Record::NUM_CHUNKS),
            extended: crate::sector::zeroed_box(),
        }
    }

    /// Erasure-codes a record: source chunk k goes to s-bucket 2k, parity chunk k to 2k + 1.
    fn extend(&mut self, chunks: &[Chunk; Record::NUM_CHUNKS]) -> Result<(), RecordEncoderError> {
        self.scalars.clear();
        for (index, chunk) in chunks.iter().enumerate() {
            self.scalars.push(Scalar::from_bytes(chunk).ok_or(RecordEncoderError::NotAScalar(index))?);
        }
        erasure::extend_in_place(&mut self.scalars).expect("a record has 2^15 chunks");
        let pairs = self.extended.as_chunks_mut::<2>().0;
        for (pair, (source, parity)) in pairs.iter_mut().zip(chunks.iter().zip(&self.scalars)) {
            *pair = [*source, parity.to_bytes()];
        }
        Ok(())
    }
}

impl RecordEncoder for CpuRecordEncoder {
    fn encode_record(
        &mut self,
        seed: &PosSeed,
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        self.extend(chunks)?;
        let table = self.generator.generate(seed);
        encode_chunks(&self.extended, chunks, contents, |visit| table.for_each_proof_hash(visit));
        Ok(())
    }

    fn encode_extended_record(
        &mut self,
        seed: &PosSeed,
        extended: &[Chunk; Record::NUM_S_BUCKETS],
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        let table = self.generator.generate(seed);
        encode_chunks(extended, chunks, contents, |visit| table.for_each_proof_hash(visit));
        Ok(())
    }
}

/// Masks the chunks for which there are proofs and fills up with others, given the proofs' hashes.
///
/// `proof_hashes` calls its argument with each s-bucket that has a proof, ascending, and the proof's BLAKE3, until told
/// to stop.
pub fn encode_chunks(
    extended: &[Chunk; Record::NUM_S_BUCKETS],
    chunks: &mut [Chunk; Record::NUM_CHUNKS],
    contents: &mut Bitfield,
    proof_hashes: impl FnOnce(&mut dyn FnMut(SBucket, &Blake3Hash) -> ControlFlow<()>),
) {
    contents.fill(0);
    let mut encoded = 0;
    proof_hashes(&mut |s_bucket, hash| {
        let bucket = usize::from(s_bucket.0);
        let masked = mask(&extended[bucket], hash);
        // The reference takes an all-zero chunk for a missing one.
        if masked != [0; 32] {
            chunks[encoded] = masked;
            contents[bucket / 8] |= 1 << (bucket % 8);
            encoded += 1;
        }
        if encoded == Record::NUM_CHUNKS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if encoded < Record::NUM_CHUNKS {
        fill_up(extended, chunks, contents, encoded);
    }
}

/// Spreads the encoded chunks to their places and puts unencoded ones between them.
#[cold]
fn fill_up(
    extended: &[Chunk; Record::NUM_S_BUCKETS],
    chunks: &mut [Chunk; Record::NUM_CHUNKS],
    contents: &Bitfield,
    encoded: usize,
) {
    let record = RecordContents::new(contents).expect("at most 32,768 chunks were encoded");
    let masked = chunks[..encoded].to_vec();
    let mut masked = masked.iter();
    for (chunk, (s_bucket, encoded)) in chunks.iter_mut().zip(record.s_buckets()) {
        *chunk = if encoded {
            *masked.next().expect("a chunk for each bit")
        } else {
            extended[usize::from(s_bucket.0)]
        };
    }
}
