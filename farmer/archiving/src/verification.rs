//! Checks pieces against the commitment of their segment (archival §9).

mod together;

pub use together::verify_pieces_together;

use crate::archiver::commitment_scalar;
use crate::bls::PointError;
use crate::kzg::{Commitment, Kzg, Polynomial, Witness};
use crate::scalar::Scalar;
use primitives::{Piece, SegmentCommitment, SegmentIndex};

/// What is wrong with a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPiece {
    /// A segment has 256 positions.
    #[error("a segment has no position {0}")]
    Position(usize),
    /// The commitment of the segment is no point of the group.
    #[error("the segment commitment: {0}")]
    SegmentCommitment(PointError),
    /// A chunk is no scalar.
    #[error("chunk {0} is not below the scalar field's order")]
    Chunk(usize),
    /// The record commitment is not that of the record.
    #[error("the record commitment does not belong to the record")]
    Commitment,
    /// The record witness is no point of the group.
    #[error("the record witness: {0}")]
    Witness(PointError),
    /// The record witness does not prove that the segment has this record at this position.
    #[error("the record witness does not open the segment commitment at position {0}")]
    Opening(usize),
}

/// A piece with what it is to be checked against.
#[derive(Debug, Clone, Copy)]
pub struct PieceToVerify<'a> {
    /// The piece.
    pub piece: &'a Piece,
    /// Commitment of its segment.
    pub segment_commitment: SegmentCommitment,
    /// Its position in the segment, 0..256.
    pub position: usize,
}

/// Checks one piece: every chunk a scalar, the record commitment that of the record, the witness right.
///
/// Stricter than the reference in one point: a witness with a component of small order is refused. No archiver makes one.
///
/// # Errors
/// With the first thing that is wrong.
pub fn verify_piece(
    kzg: &Kzg,
    piece: &Piece,
    segment_commitment: &SegmentCommitment,
    position: usize,
) -> Result<(), InvalidPiece> {
    if position >= SegmentIndex::NUM_PIECES {
        return Err(InvalidPiece::Position(position));
    }
    let segment =
        Commitment::from_bytes_strict(&segment_commitment.0).map_err(InvalidPiece::SegmentCommitment)?;
    let values = record_scalars(piece)?;
    let polynomial = Polynomial::interpolate(&values).expect("a record has 2^15 chunks");
    if kzg.commit(&polynomial).to_bytes() != piece.commitment().0 {
        return Err(InvalidPiece::Commitment);
    }
    let witness = Witness::from_bytes_strict(&piece.witness().0).map_err(InvalidPiece::Witness)?;
    let value = commitment_scalar(&piece.commitment());
    if !kzg.verify(&segment, SegmentIndex::NUM_PIECES, position, value, &witness) {
        return Err(InvalidPiece::Opening(position));
    }
    Ok(())
}

/// The scalars of a piece's record.
pub(crate) fn record_scalars(piece: &Piece) -> Result<Vec<Scalar>, InvalidPiece> {
    let chunks = piece.record_chunks();
    let scalar = |(index, chunk)| Scalar::from_bytes(chunk).ok_or(InvalidPiece::Chunk(index));
    chunks.iter().enumerate().map(scalar).collect()
}

/// Checks many pieces, of any segments, as [`verify_piece`] does each.
pub fn verify_pieces(kzg: &Kzg, pieces: &[PieceToVerify<'_>]) -> Vec<Result<(), InvalidPiece>> {
    use rayon::prelude::*;
    pieces
        .par_iter()
        .map(|PieceToVerify { piece, segment_commitment, position }| {
            verify_piece(kzg, piece, segment_commitment, *position)
        })
        .collect()
}
