//! Random linear combinations: one commitment instead of many.

use crate::bls;
use crate::kzg::{Commitment, Kzg, Polynomial};
use crate::scalar::Scalar;
use primitives::Piece;
use primitives::pieces::Record;
use rayon::prelude::*;

/// Factors that nobody could know when the pieces were made.
pub(crate) struct Randomness([u8; 32]);

impl Randomness {
    pub(crate) fn new() -> Self {
        Self(rand::random())
    }

    /// 128 random bits for the opening of piece `number`.
    pub(crate) fn opening_factor(&self, number: usize) -> Scalar {
        self.factor(b"opening", number)
    }

    fn factor(&self, use_of_it: &[u8], number: usize) -> Scalar {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(use_of_it).update(&(number as u64).to_le_bytes());
        let mut half = [0; 16];
        hasher.finalize_xof().fill(&mut half);
        Scalar::from_bytes_reduced(&half)
    }
}

/// A chunk of piece `piece` of a list that is no scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAScalarAt {
    pub(crate) piece: usize,
    pub(crate) chunk: usize,
}

/// The same random combination of records and of their commitments.
pub(crate) struct Combination {
    values: Vec<Scalar>,
    commitments: Vec<bls::G1Affine>,
    factors: Vec<[u8; 32]>,
}

impl Combination {
    /// Combines; fails with a chunk that is no scalar.
    pub(crate) fn of(
        records: &[(&Piece, Commitment)],
        randomness: &Randomness,
    ) -> Result<Self, NotAScalarAt> {
        let factors: Vec<Scalar> =
            (0..records.len()).map(|number| randomness.factor(b"record", number)).collect();
        let zeroes = || vec![Scalar::ZERO; Record::NUM_CHUNKS];
        let values = records
            .par_iter()
            .zip(&factors)
            .enumerate()
            // Each accumulator is as large as a record.
            .with_min_len(8)
            .try_fold(zeroes, |mut sum, (number, ((piece, _), factor))| {
                match accumulate(&mut sum, piece.record_chunks(), *factor) {
                    Ok(()) => Ok(sum),
                    Err(chunk) => Err(NotAScalarAt { piece: number, chunk }),
                }
            })
            .try_reduce(zeroes, |mut a, b| {
                a.iter_mut().zip(&b).for_each(|(a, b)| *a += *b);
                Ok(a)
            })?;
        Ok(Self {
            values,
            commitments: records.iter().map(|(_, commitment)| commitment.0).collect(),
            factors: factors.iter().map(|factor| factor.to_le_bytes()).collect(),
        })
    }

    /// Whether the commitments, all of which must be in the group, are those of the records.
    pub(crate) fn matches(&self, kzg: &Kzg) -> bool {
        let polynomial = Polynomial::interpolate(&self.values).expect("a record has 2^15 chunks");
        let (committed, expected) = rayon::join(
            || kzg.commit_point(polynomial.coefficients()),
            || bls::multiply_sum(&self.commitments, &self.factors),
        );
        committed == expected
    }
}

/// Adds `factor` times each chunk to the sum; fails with the first chunk that is no scalar.
fn accumulate(sum: &mut [Scalar], chunks: &[[u8; 32]], factor: Scalar) -> Result<(), usize> {
    for (index, (sum, chunk)) in sum.iter_mut().zip(chunks).enumerate() {
        *sum += factor * Scalar::from_bytes(chunk).ok_or(index)?;
    }
    Ok(())
}
