//! Records of missing pieces by erasure decoding, their commitments and witnesses.

use super::{ReconstructionError, check_places};
use crate::archiver::{TILE, extend_record_commitments, segment_polynomial, witnesses};
use crate::erasure::Recovery;
use crate::kzg::{Commitment, Kzg, Polynomial};
use crate::scalar::Scalar;
use primitives::pieces::Record;
use primitives::{Piece, SegmentIndex};
use rayon::prelude::*;

/// The 130,023,424 bytes of a segment from any 128 of its 256 pieces.
///
/// # Errors
/// When there are too few pieces or they are invalid.
pub fn reconstruct_segment(pieces: &[Option<Piece>]) -> Result<Vec<u8>, ReconstructionError> {
    check_places(pieces)?;
    let mut raw = vec![0; SegmentIndex::RECORDED_HISTORY_SIZE];
    let recovered;
    let sources: Vec<&Piece> = if pieces.iter().step_by(2).all(Option::is_some) {
        pieces.iter().step_by(2).flatten().collect()
    } else {
        recovered = recover_records(pieces)?;
        recovered.iter().step_by(2).collect()
    };
    raw.par_chunks_exact_mut(Record::RAW_SIZE).zip(sources).enumerate().try_for_each(
        |(record, (raw, piece))| {
            for (raw, chunk) in raw.as_chunks_mut::<31>().0.iter_mut().zip(piece.record_chunks()) {
                if chunk[0] != 0 {
                    return Err(ReconstructionError::NotSource { record });
                }
                raw.copy_from_slice(&chunk[1..]);
            }
            Ok(())
        },
    )?;
    Ok(raw)
}

/// All 256 pieces of a segment from any 128 of them, identical to what the archiver made.
///
/// # Errors
/// When there are too few pieces or they are invalid.
pub fn reconstruct_pieces(kzg: &Kzg, pieces: &[Option<Piece>]) -> Result<Vec<Piece>, ReconstructionError> {
    check_places(pieces)?;
    let mut all = recover_records(pieces)?;
    let sources = (0..SegmentIndex::NUM_PIECES).into_par_iter().step_by(2);
    let source_commitments: Vec<Commitment> = sources
        .map(|position| {
            if let Some(piece) = &pieces[position]
                && let Ok(commitment) = Commitment::from_bytes(&piece.commitment().0)
            {
                return commitment;
            }
            let chunks = all[position].record_chunks().iter();
            let values: Vec<Scalar> = chunks
                .map(|chunk| Scalar::from_bytes(chunk).expect("recovered chunks are scalars"))
                .collect();
            let polynomial = Polynomial::interpolate(&values).expect("a record has 2^15 chunks");
            kzg.commit(&polynomial)
        })
        .collect();
    let commitments = extend_record_commitments(&source_commitments);
    let polynomial = segment_polynomial(&commitments);
    let witnesses = witnesses(kzg, &polynomial);
    for ((piece, commitment), witness) in all.iter_mut().zip(&commitments).zip(witnesses) {
        piece.set_commitment(commitment);
        piece.set_witness(&witness.into());
    }
    Ok(all)
}

/// One piece of a segment from any 128 others.
///
/// # Errors
/// When there are too few pieces or they are invalid, or there is no such position.
pub fn reconstruct_piece(
    kzg: &Kzg,
    pieces: &[Option<Piece>],
    position: usize,
) -> Result<Piece, ReconstructionError> {
    if position >= SegmentIndex::NUM_PIECES {
        return Err(ReconstructionError::Position(position));
    }
    let mut pieces = reconstruct_pieces(kzg, pieces)?;
    Ok(pieces.swap_remove(position))
}

/// All 256 records, without commitments and witnesses.
fn recover_records(pieces: &[Option<Piece>]) -> Result<Vec<Piece>, ReconstructionError> {
    let present: Vec<bool> = pieces.iter().map(Option::is_some).collect();
    let recovery = Recovery::new(&present)?;
    let mut all: Vec<Piece> =
        (0..SegmentIndex::NUM_PIECES).into_par_iter().map(|_| Piece::zeroed()).collect();
    let mut tiles: Vec<Vec<&mut [[u8; 32]]>> =
        (0..Record::NUM_CHUNKS / TILE).map(|_| Vec::with_capacity(SegmentIndex::NUM_PIECES)).collect();
    for piece in &mut all {
        for (tile, chunks) in tiles.iter_mut().zip(piece.record_chunks_mut().chunks_exact_mut(TILE)) {
            tile.push(chunks);
        }
    }
    tiles.into_par_iter().enumerate().try_for_each(|(tile, out)| {
        let mut matrix = Vec::with_capacity(SegmentIndex::NUM_PIECES * TILE);
        for (position, piece) in pieces.iter().enumerate() {
            let Some(piece) = piece else {
                matrix.resize(matrix.len() + TILE, Scalar::ZERO);
                continue;
            };
            for (index, chunk) in piece.record_chunks()[tile * TILE..][..TILE].iter().enumerate() {
                let chunk_index = tile * TILE + index;
                let invalid = ReconstructionError::Chunk { position, chunk: chunk_index };
                matrix.push(Scalar::from_bytes(chunk).ok_or(invalid)?);
            }
        }
        recovery.columns_to_coefficients(&mut matrix);
        recovery.coefficients_to_columns(&mut matrix);
        for (chunks, row) in out.into_iter().zip(matrix.chunks_exact(TILE)) {
            chunks.iter_mut().zip(row).for_each(|(chunk, value)| *chunk = value.to_bytes());
        }
        Ok::<(), ReconstructionError>(())
    })?;
    Ok(all)
}
