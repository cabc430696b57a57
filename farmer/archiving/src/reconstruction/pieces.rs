//! Records of missing pieces by erasure decoding, their commitments and witnesses.

use super::{ReconstructionError, check_places};
use crate::archiver::{TILE, extend_commitments, segment_polynomial, witnesses};
use crate::bls;
use crate::combination::{Combination, Randomness};
use crate::erasure::Recovery;
use crate::fft;
use crate::kzg::{Commitment, Kzg};
use crate::scalar::Scalar;
use primitives::pieces::Record;
use primitives::{Piece, RecordCommitment, SegmentIndex};
use rayon::prelude::*;

const NUM_PIECES: usize = SegmentIndex::NUM_PIECES;
const NUM_SOURCE: usize = SegmentIndex::NUM_RAW_RECORDS;

/// The 130,023,424 bytes of a segment from any 128 of its 256 pieces.
///
/// # Errors
/// When there are too few pieces, they are invalid or do not belong together as far as that shows.
pub fn reconstruct_segment(pieces: &[Option<Piece>]) -> Result<Vec<u8>, ReconstructionError> {
    check_places(pieces)?;
    let mut raw = vec![0; SegmentIndex::RECORDED_HISTORY_SIZE];
    let recovered;
    let sources: Vec<&Piece> = if pieces.iter().step_by(2).all(Option::is_some) {
        pieces.iter().step_by(2).flatten().collect()
    } else {
        recovered = recover_records(pieces, Positions::Source)?;
        recovered.iter().collect()
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
/// No record is committed to: the missing commitments follow from those of the pieces given, which are checked together
/// against their records.
///
/// # Errors
/// When there are too few pieces, or they are invalid or contradict each other.
pub fn reconstruct_pieces(kzg: &Kzg, pieces: &[Option<Piece>]) -> Result<Vec<Piece>, ReconstructionError> {
    check_places(pieces)?;
    let commitments = recover_commitments(kzg, pieces)?;
    let mut all = recover_records(pieces, Positions::All)?;
    let polynomial = segment_polynomial(&commitments);
    let witnesses = witnesses(kzg, &polynomial);
    for ((piece, commitment), witness) in all.iter_mut().zip(&commitments).zip(witnesses) {
        piece.set_commitment(commitment);
        piece.set_witness(&witness.into());
    }
    all.par_iter().zip(pieces).enumerate().try_for_each(|(position, (whole, given))| match given {
        Some(given) if given.record() != whole.record() => {
            Err(ReconstructionError::Contradiction { position })
        }
        _ => Ok(()),
    })?;
    Ok(all)
}

/// One piece of a segment from any 128 of its pieces, identical to what the archiver made.
///
/// # Errors
/// When there are too few pieces, or they are invalid or contradict each other, or there is no such position.
pub fn reconstruct_piece(
    kzg: &Kzg,
    pieces: &[Option<Piece>],
    position: usize,
) -> Result<Piece, ReconstructionError> {
    check_places(pieces)?;
    if position >= NUM_PIECES {
        return Err(ReconstructionError::Position(position));
    }
    let commitments = recover_commitments(kzg, pieces)?;
    let mut recovered = recover_records(pieces, Positions::One(position))?;
    let mut piece = recovered.pop().expect("one position was asked for");
    let polynomial = segment_polynomial(&commitments);
    let witness = kzg.witness(&polynomial, NUM_PIECES, position).expect("the position is in the domain");
    piece.set_commitment(&commitments[position]);
    piece.set_witness(&witness.into());
    Ok(piece)
}

/// All commitments of a segment, in order of position, from those of the pieces given.
fn recover_commitments(
    kzg: &Kzg,
    pieces: &[Option<Piece>],
) -> Result<Vec<RecordCommitment>, ReconstructionError> {
    let present: Vec<(usize, &Piece)> =
        pieces.iter().enumerate().filter_map(|(position, piece)| Some((position, piece.as_ref()?))).collect();
    if present.len() < NUM_SOURCE {
        return Err(ReconstructionError::TooFew { needed: NUM_SOURCE, present: present.len() });
    }
    let records: Vec<(usize, &Piece, Commitment)> = present
        .par_iter()
        .map(|(position, piece)| {
            let commitment = Commitment::from_bytes_strict(&piece.commitment().0);
            let commitment =
                commitment.map_err(|_| ReconstructionError::Commitment { position: *position })?;
            Ok((*position, *piece, commitment))
        })
        .collect::<Result<_, ReconstructionError>>()?;
    check_commitments(kzg, &records)?;
    let (used, more) = records.split_at(NUM_SOURCE);
    let points: Vec<bls::G1Affine> = used.iter().map(|(_, _, commitment)| commitment.0).collect();
    let positions: Vec<usize> = used.iter().map(|(position, ..)| *position).collect();
    let interpolation = Interpolation::new(&positions);
    let source: Vec<Commitment> = (0..NUM_PIECES)
        .into_par_iter()
        .step_by(2)
        .map(|position| match positions.binary_search(&position) {
            Ok(index) => Commitment(points[index]),
            Err(_) => {
                let weights = interpolation.weights(position);
                let weights: Vec<[u8; 32]> = weights.iter().map(|weight| weight.to_le_bytes()).collect();
                Commitment(bls::multiply_sum(&points, &weights).to_affine())
            }
        })
        .collect();
    let all: Vec<RecordCommitment> = extend_commitments(&source)
        .expect("a segment has 128 source records")
        .into_iter()
        .map(RecordCommitment::from)
        .collect();
    match more.iter().find(|(position, piece, _)| piece.commitment() != all[*position]) {
        Some((position, ..)) => Err(ReconstructionError::Contradiction { position: *position }),
        None => Ok(all),
    }
}

/// Checks that each commitment is that of its record.
fn check_commitments(kzg: &Kzg, records: &[(usize, &Piece, Commitment)]) -> Result<(), ReconstructionError> {
    let matches = |records: &[(usize, &Piece, Commitment)]| {
        let pairs: Vec<(&Piece, Commitment)> =
            records.iter().map(|(_, piece, commitment)| (*piece, *commitment)).collect();
        match Combination::of(&pairs, &Randomness::new()) {
            Ok(combination) => Ok(combination.matches(kzg)),
            Err(invalid) => {
                let position = records[invalid.piece].0;
                Err(ReconstructionError::Chunk { position, chunk: invalid.chunk })
            }
        }
    };
    if matches(records)? {
        return Ok(());
    }
    let mut suspects = records;
    while let [_, _, ..] = suspects {
        let (left, right) = suspects.split_at(suspects.len() / 2);
        suspects = if matches(left)? { right } else { left };
    }
    Err(ReconstructionError::Commitment { position: suspects[0].0 })
}

/// Lagrange interpolation from 128 positions of a segment.
struct Interpolation {
    points: Vec<Scalar>,
    /// For each point the inverse of the product of its differences to the others.
    inverse_products: Vec<Scalar>,
    domain: Vec<Scalar>,
}

impl Interpolation {
    fn new(positions: &[usize]) -> Self {
        let domain = fft::powers(Scalar::ONE, fft::root(NUM_PIECES.trailing_zeros()), NUM_PIECES);
        let points: Vec<Scalar> = positions.iter().map(|position| domain[*position]).collect();
        let product = |at: &Scalar| {
            let differences = points.iter().filter(|point| *point != at).map(|point| *at - *point);
            differences.fold(Scalar::ONE, |product, difference| product * difference)
        };
        let mut inverse_products: Vec<Scalar> = points.iter().map(product).collect();
        Scalar::batch_inverse(&mut inverse_products);
        Self { points, inverse_products, domain }
    }

    /// What each point's value counts for in the value at a position that is none of the points.
    fn weights(&self, position: usize) -> Vec<Scalar> {
        let at = self.domain[position];
        let mut inverses: Vec<Scalar> = self.points.iter().map(|point| at - *point).collect();
        let product = inverses.iter().fold(Scalar::ONE, |product, difference| product * *difference);
        Scalar::batch_inverse(&mut inverses);
        let weight = |(inverse, own): (&Scalar, &Scalar)| *inverse * *own * product;
        inverses.iter().zip(&self.inverse_products).map(weight).collect()
    }
}

/// Which records of a segment to recover.
#[derive(Clone, Copy)]
enum Positions {
    All,
    Source,
    One(usize),
}

impl Positions {
    /// Positions in ascending order.
    fn list(self) -> Vec<usize> {
        match self {
            Self::All => (0..NUM_PIECES).collect(),
            Self::Source => (0..NUM_PIECES).step_by(2).collect(),
            Self::One(position) => vec![position],
        }
    }
}

/// Records of the positions asked for, as pieces without commitments and witnesses.
fn recover_records(
    pieces: &[Option<Piece>],
    positions: Positions,
) -> Result<Vec<Piece>, ReconstructionError> {
    let present: Vec<bool> = pieces.iter().map(Option::is_some).collect();
    let recovery = Recovery::new(&present)?;
    let positions = positions.list();
    let mut out: Vec<Piece> = positions.par_iter().map(|_| Piece::zeroed()).collect();
    let mut tiles: Vec<Vec<&mut [[u8; 32]]>> =
        (0..Record::NUM_CHUNKS / TILE).map(|_| Vec::with_capacity(out.len())).collect();
    for piece in &mut out {
        for (tile, chunks) in tiles.iter_mut().zip(piece.record_chunks_mut().chunks_exact_mut(TILE)) {
            tile.push(chunks);
        }
    }
    tiles.into_par_iter().enumerate().try_for_each(|(tile, out)| {
        let mut matrix = read_tile(pieces, tile)?;
        recovery.columns_to_coefficients(&mut matrix);
        recovery.coefficients_to_columns(&mut matrix);
        for (chunks, position) in out.into_iter().zip(&positions) {
            let row = &matrix[position * TILE..][..TILE];
            chunks.iter_mut().zip(row).for_each(|(chunk, value)| *chunk = value.to_bytes());
        }
        Ok::<(), ReconstructionError>(())
    })?;
    Ok(out)
}

/// The columns of one tile, rows by position; zeroes where there is no piece.
fn read_tile(pieces: &[Option<Piece>], tile: usize) -> Result<Vec<Scalar>, ReconstructionError> {
    let mut matrix = Vec::with_capacity(NUM_PIECES * TILE);
    for (position, piece) in pieces.iter().enumerate() {
        let Some(piece) = piece else {
            matrix.resize(matrix.len() + TILE, Scalar::ZERO);
            continue;
        };
        for (index, chunk) in piece.record_chunks()[tile * TILE..][..TILE].iter().enumerate() {
            let invalid = ReconstructionError::Chunk { position, chunk: tile * TILE + index };
            matrix.push(Scalar::from_bytes(chunk).ok_or(invalid)?);
        }
    }
    Ok(matrix)
}
