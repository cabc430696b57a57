//! Whether pieces in whichever form are the history's.

use archiving::verification::{InvalidPiece, PieceToVerify, verify_pieces};
use archiving::{Kzg, Scalar};
use farming::encoding::{PieceInput, SplitParityPiece};
use primitives::pieces::Record;
use primitives::{Piece, PieceIndex, SegmentCommitment};
use rayon::prelude::*;
use std::borrow::Cow;

/// A piece, and what it has to be a piece of.
pub struct ItemToVerify<'a> {
    /// Its index.
    pub index: PieceIndex,
    /// The piece.
    pub item: &'a PieceInput,
    /// Commitment of its segment.
    pub segment_commitment: SegmentCommitment,
}

/// What is wrong with a piece in whichever form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadItem {
    /// The piece itself.
    #[error(transparent)]
    Piece(#[from] InvalidPiece),
    /// What was erasure-coded of it.
    #[error("its parity chunks are not those of its record")]
    Parity,
}

/// Verifies pieces together on the current rayon pool: about a second of CPU for 256 of them. For as long there is the plain
/// form of those that come with their parity, too, a megabyte each.
pub fn verify_items(kzg: &Kzg, parity: &ParityCheck, items: &[ItemToVerify<'_>]) -> Vec<Result<(), BadItem>> {
    let plain: Vec<Cow<'_, Piece>> = items.par_iter().map(|item| plain_form(item.item)).collect();
    let to_verify = |(item, piece): (&ItemToVerify<'_>, _)| PieceToVerify {
        piece,
        segment_commitment: item.segment_commitment,
        position: item.index.position(),
    };
    let pieces: Vec<_> = items.iter().zip(plain.iter().map(|piece| &**piece)).map(to_verify).collect();
    let with_parity = |(verdict, item): (Result<(), InvalidPiece>, &ItemToVerify<'_>)| {
        verdict?;
        match item.item {
            PieceInput::SplitParity(SplitParityPiece { extended, .. }) if !parity.is_extension(extended) => {
                Err(BadItem::Parity)
            }
            _ => Ok(()),
        }
    };
    verify_pieces(kzg, &pieces).into_par_iter().zip(items).map(with_parity).collect()
}

fn plain_form(input: &PieceInput) -> Cow<'_, Piece> {
    match input {
        PieceInput::Piece(piece) => Cow::Borrowed(piece),
        PieceInput::SplitParity(split) => Cow::Owned(split.piece()),
    }
}

/// Tells whether the parity of a record is what erasure coding makes of its source, for three quarters of what coding it
/// again would cost.
///
/// Source and parity chunks are each the values of one polynomial of degree below 2^15, and the parity is right exactly when
/// these are one. Two different ones have equal values at fewer than 2^15 of the field's 2^255 points; so they are compared at
/// one point that is drawn at random for this process and never leaves it, and wrong parity passes with probability below
/// 2^-239. The difference of their values there is a fixed linear combination of the 65,536 chunks (barycentric
/// interpolation), whose weights are computed once.
pub struct ParityCheck {
    weights: Vec<Scalar>,
}

impl Default for ParityCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl ParityCheck {
    /// Draws a point; 10 ms of CPU.
    pub fn new() -> Self {
        loop {
            let point = Scalar::from_bytes_reduced(&rand::random::<[u8; 64]>());
            let power = point.pow(Record::NUM_CHUNKS as u64);
            // One of the 2^16 places of the chunks, which nobody will ever see drawn, has no weights.
            if power != Scalar::ONE && power != -Scalar::ONE {
                return Self { weights: weights(point, power) };
            }
        }
    }

    /// Whether source and parity, interleaved, belong together and every parity chunk is a scalar in its one form. The source
    /// chunks have to be the record's: that is checked elsewhere.
    pub fn is_extension(&self, extended: &[[u8; 32]; Record::NUM_S_BUCKETS]) -> bool {
        let mut difference = Scalar::ZERO;
        for (weight, chunk) in self.weights.iter().zip(extended) {
            let Some(scalar) = Scalar::from_bytes(chunk) else { return false };
            difference += *weight * scalar;
        }
        difference.is_zero()
    }
}

/// With x = w^i, w the root of order 2^16, and z the point: (z^k - 1) x / (z - x) for source chunks, (z^k + 1) x / (z - x) for
/// parity chunks. It is k times the difference that they give.
fn weights(point: Scalar, power: Scalar) -> Vec<Scalar> {
    let root = Scalar::root_of_unity(Record::NUM_S_BUCKETS).expect("2^16 divides the group's order");
    let places: Vec<Scalar> =
        std::iter::successors(Some(Scalar::ONE), |x| Some(*x * root)).take(Record::NUM_S_BUCKETS).collect();
    let mut weights: Vec<Scalar> = places.iter().map(|x| point - *x).collect();
    Scalar::batch_inverse(&mut weights);
    let factors = [power - Scalar::ONE, power + Scalar::ONE];
    for ((weight, x), factor) in weights.iter_mut().zip(places).zip(factors.into_iter().cycle()) {
        *weight *= x * factor;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::items::extend;
    use crate::roles::items::tests::{piece, received};

    #[test]
    fn wrong_parity_is_found_wherever_it_is() {
        let check = ParityCheck::new();
        let mut extended = received(&extend(piece().as_bytes()).unwrap()).extended;
        assert!(check.is_extension(&extended));
        for place in [0, 1, 2, 777, 32_767, 65_534, 65_535] {
            extended[place][31] ^= 1;
            assert!(!check.is_extension(&extended), "{place}");
            extended[place][31] ^= 1;
        }
        // The same number in another form: its order added.
        let order = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";
        let zero = std::mem::replace(&mut extended[9], hex::decode(order).unwrap().try_into().unwrap());
        assert!(!check.is_extension(&extended));
        extended[9] = zero;
        // Two errors that cancel out in a sum.
        extended.swap(1, 3);
        assert!(!check.is_extension(&extended));
        extended.swap(1, 3);
        assert!(check.is_extension(&extended) && ParityCheck::new().is_extension(&extended));
    }
}
