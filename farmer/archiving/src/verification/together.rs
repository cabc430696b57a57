//! Many pieces checked for the price of about one: one random combination of all of them.

use super::{PieceToVerify, commitment_scalar};
use crate::bls::{G1, G1Affine};
use crate::kzg::{Commitment, Kzg, Polynomial, Witness, domain_element};
use crate::scalar::Scalar;
use primitives::hashes::blake3_hash;
use primitives::pieces::Record;
use primitives::{Blake3Hash, SegmentIndex};
use rayon::prelude::*;

/// Columns of chunks that one task combines: 32 KiB of scalars.
const TILE: usize = 1024;
/// Bytes of a weight: a set with an invalid piece passes with a probability of 2^-128.
const WEIGHT_SIZE: usize = 16;

/// Whether all pieces, of any segments, are valid: says what [`super::verify_pieces`] says, not which one is wrong, for
/// about a second of CPU for a whole segment instead of a hundred.
///
/// Checks the sum of all pieces with weights that depend on every byte of them; a combination of invalid pieces that
/// cancels out cannot be made.
pub fn verify_pieces_together(kzg: &Kzg, pieces: &[PieceToVerify<'_>]) -> bool {
    check(kzg, pieces).unwrap_or(false)
}

fn check(kzg: &Kzg, pieces: &[PieceToVerify<'_>]) -> Option<bool> {
    let weights = weights(pieces);
    let combined = combine_records(pieces, &weights)?;
    let polynomial = Polynomial::interpolate(&combined).expect("a record has 2^15 chunks");
    let commitments: Vec<Commitment> = pieces
        .par_iter()
        .map(|entry| Commitment::from_bytes_strict(&entry.piece.commitment().0).ok())
        .collect::<Option<_>>()?;
    let records: G1 = weighted_sum(commitments.iter().map(|commitment| commitment.0), &weights);
    if kzg.commit(&polynomial).to_bytes() != records.to_affine().to_compressed() {
        return Some(false);
    }
    openings_hold(kzg, pieces, &weights)
}

/// Weights that nobody can choose: hashes over everything that is checked.
fn weights(pieces: &[PieceToVerify<'_>]) -> Vec<Scalar> {
    let hashes: Vec<Blake3Hash> =
        pieces.par_iter().map(|entry| blake3_hash(entry.piece.as_bytes())).collect();
    let mut hasher = blake3::Hasher::new();
    for (entry, hash) in pieces.iter().zip(&hashes) {
        hasher
            .update(&hash.0)
            .update(&entry.segment_commitment.0)
            .update(&(entry.position as u64).to_le_bytes());
    }
    let mut bytes = vec![0; WEIGHT_SIZE * pieces.len()];
    hasher.finalize_xof().fill(&mut bytes);
    bytes.as_chunks::<WEIGHT_SIZE>().0.iter().map(|bytes| Scalar::from_bytes_reduced(bytes)).collect()
}

/// The weighted sum of the records, chunk by chunk; none when a chunk is no scalar.
fn combine_records(pieces: &[PieceToVerify<'_>], weights: &[Scalar]) -> Option<Vec<Scalar>> {
    let mut combined = vec![Scalar::ZERO; Record::NUM_CHUNKS];
    let tiles = combined.par_chunks_mut(TILE).enumerate();
    let valid = tiles.map(|(tile, sums)| {
        for (entry, &weight) in pieces.iter().zip(weights) {
            let chunks = &entry.piece.record_chunks()[tile * TILE..][..TILE];
            for (sum, chunk) in sums.iter_mut().zip(chunks) {
                *sum += Scalar::from_bytes(chunk)? * weight;
            }
        }
        Some(())
    });
    valid.collect::<Option<()>>()?;
    Some(combined)
}

/// Whether the witnesses open their segments' commitments; none when a point or a position is none.
fn openings_hold(kzg: &Kzg, pieces: &[PieceToVerify<'_>], weights: &[Scalar]) -> Option<bool> {
    let witnesses: Vec<G1Affine> = pieces
        .par_iter()
        .map(|entry| Witness::from_bytes_strict(&entry.piece.witness().0).ok().map(|witness| witness.0))
        .collect::<Option<_>>()?;
    let mut by_segment: Vec<([u8; 48], Scalar)> = Vec::new();
    let mut values = Scalar::ZERO;
    let mut shifted = Vec::with_capacity(pieces.len());
    for (entry, &weight) in pieces.iter().zip(weights) {
        shifted.push(domain_element(SegmentIndex::NUM_PIECES, entry.position)? * weight);
        values += commitment_scalar(&entry.piece.commitment()) * weight;
        match by_segment.last_mut() {
            Some((commitment, sum)) if *commitment == entry.segment_commitment.0 => *sum += weight,
            _ => by_segment.push((entry.segment_commitment.0, weight)),
        }
    }
    let segments = by_segment.iter().map(|(bytes, weight)| {
        let commitment = Commitment::from_bytes_strict(bytes).ok()?;
        Some(G1::from(commitment.0).multiply(&weight.to_le_bytes()))
    });
    let mut left = -G1::from(G1Affine::generator()).multiply(&values.to_le_bytes());
    for segment in segments {
        left = left + segment?;
    }
    left = left + weighted_sum(witnesses.iter().copied(), &shifted);
    let right = weighted_sum(witnesses.iter().copied(), weights);
    Some(kzg.opens(left, &right.to_affine()))
}

fn weighted_sum(points: impl Iterator<Item = G1Affine>, weights: &[Scalar]) -> G1 {
    let points: Vec<G1Affine> = points.collect();
    let weights: Vec<[u8; 32]> = weights.iter().map(|weight| weight.to_le_bytes()).collect();
    crate::bls::multiply_sum(&points, &weights)
}
