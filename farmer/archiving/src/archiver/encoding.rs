//! From a segment's bytes to its pieces: erasure coding and commitments (archival §8, the archived segment).

use super::Watch;
use crate::bls::G1;
use crate::erasure::{self, ErasureError};
use crate::fft::{self, Direction};
use crate::kzg::{Commitment, Kzg, Polynomial, Witness};
use crate::scalar::Scalar;
use primitives::hashes::blake3_254_hash_to_scalar;
use primitives::pieces::Record;
use primitives::{Piece, RecordCommitment, ScalarBytes, SegmentIndex};
use rayon::prelude::*;

/// Columns of chunks that one task extends: 32 of 128 scalars fit the first-level caches.
pub(crate) const TILE: usize = 32;

/// Pieces and commitment of a segment; none when cancelled.
pub(crate) fn encode_segment(
    kzg: &Kzg,
    raw: &[u8],
    index: SegmentIndex,
    watch: &dyn Watch,
) -> Option<(Vec<Piece>, Commitment)> {
    let mut pieces: Vec<Piece> =
        (0..SegmentIndex::NUM_PIECES).into_par_iter().map(|_| Piece::zeroed()).collect();
    pieces.par_iter_mut().step_by(2).zip(raw.par_chunks_exact(Record::RAW_SIZE)).for_each(|(piece, raw)| {
        for (chunk, raw) in piece.record_chunks_mut().iter_mut().zip(raw.as_chunks::<31>().0) {
            chunk[1..].copy_from_slice(raw);
        }
    });
    if watch.is_cancelled() {
        return None;
    }
    extend_records(raw, &mut pieces);
    let commitments: Option<Vec<Commitment>> = raw
        .par_chunks_exact(Record::RAW_SIZE)
        .map(|raw| {
            if watch.is_cancelled() {
                return None;
            }
            let values: Vec<Scalar> = raw.as_chunks().0.iter().map(Scalar::from_safe_bytes).collect();
            let polynomial = Polynomial::interpolate(&values).expect("a record has 2^15 chunks");
            let commitment = kzg.commit(&polynomial);
            watch.record_committed(index);
            Some(commitment)
        })
        .collect();
    let commitments = extend_record_commitments(&commitments?);
    let polynomial = segment_polynomial(&commitments);
    for (piece, commitment) in pieces.iter_mut().zip(&commitments) {
        piece.set_commitment(commitment);
    }
    for (piece, witness) in pieces.iter_mut().zip(witnesses(kzg, &polynomial)) {
        piece.set_witness(&witness.into());
    }
    Some((pieces, kzg.commit(&polynomial)))
}

/// Writes the records of the parity pieces.
fn extend_records(raw: &[u8], pieces: &mut [Piece]) {
    let mut tiles: Vec<Vec<&mut [[u8; 32]]>> =
        (0..Record::NUM_CHUNKS / TILE).map(|_| Vec::with_capacity(SegmentIndex::NUM_RAW_RECORDS)).collect();
    for piece in pieces.iter_mut().skip(1).step_by(2) {
        for (tile, chunks) in tiles.iter_mut().zip(piece.record_chunks_mut().chunks_exact_mut(TILE)) {
            tile.push(chunks);
        }
    }
    let log = SegmentIndex::NUM_RAW_RECORDS.trailing_zeros();
    tiles.into_par_iter().enumerate().for_each(|(tile, parity)| {
        let mut matrix = Vec::with_capacity(SegmentIndex::NUM_RAW_RECORDS * TILE);
        for record in raw.chunks_exact(Record::RAW_SIZE) {
            let chunks = &record.as_chunks::<{ ScalarBytes::SAFE_BYTES }>().0[tile * TILE..][..TILE];
            matrix.extend(chunks.iter().map(Scalar::from_safe_bytes));
        }
        fft::scatter_columns(&mut matrix, SegmentIndex::NUM_RAW_RECORDS, Direction::Inverse);
        fft::scale_rows(&mut matrix, TILE, erasure::parity_scale(log));
        fft::gather_columns(&mut matrix, SegmentIndex::NUM_RAW_RECORDS, Direction::Forward);
        for (chunks, row) in parity.into_iter().zip(matrix.chunks_exact(TILE)) {
            chunks.iter_mut().zip(row).for_each(|(chunk, value)| *chunk = value.to_bytes());
        }
    });
}

/// All commitments of a segment in order of position, from those of its source records.
fn extend_record_commitments(source: &[Commitment]) -> Vec<RecordCommitment> {
    let all = extend_commitments(source).expect("a segment has 128 source records");
    all.into_iter().map(RecordCommitment::from).collect()
}

/// Commitments to source and parity polynomials, interleaved, from those to the source polynomials: erasure coding
/// of the polynomials' values column by column, done on the commitments, which are linear (archival §6).
///
/// # Errors
/// When the number of commitments is no power of two up to 32,768.
pub fn extend_commitments(source: &[Commitment]) -> Result<Vec<Commitment>, ErasureError> {
    let log = erasure::source_log(source.len())?;
    let source: Vec<G1> = source.iter().map(|commitment| commitment.0.into()).collect();
    let mut parity = source.clone();
    let mut size = parity.len();
    while size > 1 {
        let twiddles = fft::twiddles(size.trailing_zeros(), Direction::Inverse);
        for block in parity.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            low.par_iter_mut().zip(high).zip(twiddles).for_each(|((a, b), twiddle)| {
                let (sum, difference) = (*a + *b, *a - *b);
                *a = sum;
                *b = scale(difference, twiddle);
            });
        }
        size /= 2;
    }
    parity.par_iter_mut().zip(erasure::parity_scale(log)).for_each(|(point, factor)| {
        *point = scale(*point, factor);
    });
    size = 2;
    while size <= parity.len() {
        let twiddles = fft::twiddles(size.trailing_zeros(), Direction::Forward);
        for block in parity.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            low.par_iter_mut().zip(high).zip(twiddles).for_each(|((a, b), twiddle)| {
                let product = scale(*b, twiddle);
                *b = *a - product;
                *a = *a + product;
            });
        }
        size *= 2;
    }
    let interleaved: Vec<G1> =
        source.iter().zip(&parity).flat_map(|(source, parity)| [*source, *parity]).collect();
    Ok(G1::batch_to_affine(&interleaved).into_iter().map(Commitment).collect())
}

fn scale(point: G1, factor: &Scalar) -> G1 {
    if *factor == Scalar::ONE { point } else { point.multiply(&factor.to_le_bytes()) }
}

/// The polynomial whose commitment is the segment's.
pub(crate) fn segment_polynomial(commitments: &[RecordCommitment]) -> Polynomial {
    let values: Vec<Scalar> = commitments.iter().map(commitment_scalar).collect();
    Polynomial::interpolate(&values).expect("a segment has 256 pieces")
}

/// A record commitment as a value of the segment polynomial.
pub(crate) fn commitment_scalar(commitment: &RecordCommitment) -> Scalar {
    let bytes = blake3_254_hash_to_scalar(&commitment.0);
    Scalar::from_bytes(&bytes.0).expect("254 bits are below the field's order")
}

/// Record witnesses of all positions of a segment.
pub(crate) fn witnesses(kzg: &Kzg, polynomial: &Polynomial) -> Vec<Witness> {
    (0..SegmentIndex::NUM_PIECES)
        .into_par_iter()
        .map(|position| {
            kzg.witness(polynomial, SegmentIndex::NUM_PIECES, position)
                .expect("the position is in the domain")
        })
        .collect()
}
