//! From the chunks that a sector stores of a record back to the record.

use super::{Chunk, RecordContents};
use archiving::erasure::{self, ErasureError};
use archiving::{Polynomial, Scalar};
use primitives::pieces::Record;
use primitives::sectors::RecordMetadata;
use primitives::{Blake3Hash, Piece, SBucket};
use proof_of_space::Table;
use std::ops::ControlFlow;

/// Why a record could not be recovered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// The contents map says encoded, the table has no proof.
    #[error("s-bucket {} is marked as encoded but its table has no proof there", .0.0)]
    NoProof(SBucket),
    /// Unmasked, a chunk is no scalar.
    #[error("the chunk in s-bucket {} is no scalar: the plot is damaged", .0.0)]
    NotAScalar(SBucket),
    /// Erasure coding refused.
    #[error(transparent)]
    Erasure(#[from] ErasureError),
    /// The piece is not the one that was plotted.
    #[error("the recovered piece hashes to {computed}, the sector says {stored}")]
    PieceChecksum {
        /// In the record metadata.
        stored: Blake3Hash,
        /// Of the piece.
        computed: Blake3Hash,
    },
}

/// Unmasks a record's stored chunks with the table they were masked by: 65,536 scalars, 32,768 of them present.
///
/// # Errors
/// [`RecoverError::NoProof`], [`RecoverError::NotAScalar`].
pub(crate) fn unmask(
    table: &Table<'_>,
    contents: RecordContents<'_>,
    stored: &[Chunk; Record::NUM_CHUNKS],
) -> Result<Vec<Option<Scalar>>, RecoverError> {
    let mut shards = vec![None; Record::NUM_S_BUCKETS];
    let mut chunks = contents.s_buckets().zip(stored).peekable();
    let mut failure = None;
    let mut place = |s_bucket: SBucket, chunk: &Chunk| {
        let scalar = Scalar::from_bytes(chunk);
        shards[usize::from(s_bucket.0)] = scalar;
        scalar.is_some()
    };
    table.for_each_proof_hash(|proved, hash| {
        // Up to this proof there may be unencoded chunks, and no encoded ones.
        while let Some(((s_bucket, encoded), chunk)) =
            chunks.next_if(|((s_bucket, _), _)| *s_bucket <= proved)
        {
            let fault = match (encoded, s_bucket == proved) {
                (false, _) => (!place(s_bucket, chunk)).then_some(RecoverError::NotAScalar(s_bucket)),
                (true, true) => {
                    (!place(s_bucket, &mask(chunk, hash))).then_some(RecoverError::NotAScalar(s_bucket))
                }
                (true, false) => Some(RecoverError::NoProof(s_bucket)),
            };
            if fault.is_some() {
                failure = fault;
                return ControlFlow::Break(());
            }
        }
        if chunks.peek().is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    // Behind the last proof only unencoded ones can follow.
    for ((s_bucket, encoded), chunk) in chunks {
        if encoded {
            return Err(RecoverError::NoProof(s_bucket));
        }
        if !place(s_bucket, chunk) {
            return Err(RecoverError::NotAScalar(s_bucket));
        }
    }
    Ok(shards)
}

/// A chunk masked, or unmasked, by the hash of a proof.
#[inline]
pub(crate) fn mask(chunk: &Chunk, hash: &Blake3Hash) -> Chunk {
    std::array::from_fn(|i| chunk[i] ^ hash.0[i])
}

/// The record's polynomial, from the chunks that a sector stores of it and the table of its evaluation seed.
///
/// Its value at `w(65536)^b` is the erasure-coded chunk of s-bucket b.
///
/// # Errors
/// [`RecoverError::NoProof`], [`RecoverError::NotAScalar`]: the plot is damaged, or the table is not its own.
pub fn record_polynomial(
    table: &Table<'_>,
    contents: RecordContents<'_>,
    stored: &[Chunk; Record::NUM_CHUNKS],
) -> Result<Polynomial, RecoverError> {
    Ok(erasure::recover_polynomial(&unmask(table, contents, stored)?)?)
}

/// The piece that was plotted, from what a sector stores of it and the table of its evaluation seed.
///
/// # Errors
/// All of [`RecoverError`].
pub fn source_piece(
    table: &Table<'_>,
    contents: RecordContents<'_>,
    stored: &[Chunk; Record::NUM_CHUNKS],
    metadata: &RecordMetadata,
) -> Result<Piece, RecoverError> {
    let shards = erasure::recover(&unmask(table, contents, stored)?)?;
    let mut piece = Piece::zeroed();
    // Source chunks stand at the even places (farming §4.3).
    for (chunk, shard) in piece.record_chunks_mut().iter_mut().zip(shards.iter().step_by(2)) {
        *chunk = shard.to_bytes();
    }
    piece.set_commitment(&metadata.commitment);
    piece.set_witness(&metadata.witness);
    let computed = RecordMetadata::of_piece(&piece).piece_checksum;
    let stored = metadata.piece_checksum;
    if stored == computed { Ok(piece) } else { Err(RecoverError::PieceChecksum { stored, computed }) }
}
