//! Checks pieces against the commitments of their segments (archival §9).

use crate::archiver::commitment_scalar;
use crate::bls::{self, G1, G1Affine, PointError};
use crate::combination::{Combination, Randomness};
use crate::kzg::{self, Commitment, Kzg, Polynomial, Witness};
use crate::scalar::Scalar;
use primitives::{Piece, SegmentCommitment, SegmentIndex};
use rayon::prelude::*;
use std::collections::HashMap;

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
/// Takes a record commitment's time; [`verify_pieces`] shares that among many pieces.
///
/// # Errors
/// With the first thing that is wrong.
pub fn verify_piece(
    kzg: &Kzg,
    piece: &Piece,
    segment_commitment: &SegmentCommitment,
    position: usize,
) -> Result<(), InvalidPiece> {
    let segment = decode_segment_commitment(segment_commitment)?;
    let to_verify = PieceToVerify { piece, segment_commitment: *segment_commitment, position };
    let points = decode_points(&to_verify)?;
    if record_polynomial(piece).map(|record| kzg.commit(&record))? != points.commitment {
        return Err(InvalidPiece::Commitment);
    }
    let value = commitment_scalar(&piece.commitment());
    if !kzg.verify(&segment, SegmentIndex::NUM_PIECES, position, value, &points.witness) {
        return Err(InvalidPiece::Opening(position));
    }
    Ok(())
}

/// Checks many pieces, of any segments, as [`verify_piece`] does each; under a millisecond of CPU a piece where all are
/// valid.
///
/// A random combination of the records is committed to and compared with that of the commitments, and likewise for the
/// openings: an invalid piece passes with probability below 2^-126. When the combination does not come out, its halves are
/// checked, down to the pieces that are at fault.
pub fn verify_pieces(kzg: &Kzg, pieces: &[PieceToVerify<'_>]) -> Vec<Result<(), InvalidPiece>> {
    let mut results: Vec<Result<(), InvalidPiece>> = vec![Ok(()); pieces.len()];
    let mut sound = Vec::with_capacity(pieces.len());
    for (result, decoded) in results.iter_mut().zip(decode(pieces)) {
        match decoded {
            Ok(decoded) => sound.push(decoded),
            Err(error) => *result = Err(error),
        }
    }
    find_invalid(kzg, &sound, &mut results);
    results
}

/// Whether all pieces, of any segments, are valid: [`verify_pieces`] without the search for those that are not.
pub fn verify_pieces_together(kzg: &Kzg, pieces: &[PieceToVerify<'_>]) -> bool {
    let decoded: Result<Vec<Decoded<'_>>, InvalidPiece> = decode(pieces).into_iter().collect();
    decoded.is_ok_and(|decoded| all_valid(kzg, &decoded))
}

fn decode<'a>(pieces: &'a [PieceToVerify<'a>]) -> Vec<Result<Decoded<'a>, InvalidPiece>> {
    let mut segments: HashMap<SegmentCommitment, Result<Commitment, InvalidPiece>> = HashMap::new();
    for PieceToVerify { segment_commitment, .. } in pieces {
        segments.entry(*segment_commitment).or_insert_with(|| decode_segment_commitment(segment_commitment));
    }
    let decode = |(index, to_verify): (usize, &'a PieceToVerify<'a>)| {
        let segment = segments[&to_verify.segment_commitment]?;
        Ok(Decoded { index, to_verify, segment, points: decode_points(to_verify)? })
    };
    pieces.par_iter().enumerate().map(decode).collect()
}

fn decode_segment_commitment(bytes: &SegmentCommitment) -> Result<Commitment, InvalidPiece> {
    Commitment::from_bytes_strict(&bytes.0).map_err(InvalidPiece::SegmentCommitment)
}

/// The polynomial of a piece's record.
fn record_polynomial(piece: &Piece) -> Result<Polynomial, InvalidPiece> {
    let chunks = piece.record_chunks();
    let scalar = |(index, chunk)| Scalar::from_bytes(chunk).ok_or(InvalidPiece::Chunk(index));
    let values: Vec<Scalar> = chunks.iter().enumerate().map(scalar).collect::<Result<_, _>>()?;
    Ok(Polynomial::interpolate(&values).expect("a record has 2^15 chunks"))
}

struct Points {
    commitment: Commitment,
    witness: Witness,
}

/// A piece's points, both in the group. Decoding accepts exactly one form of each point, so equal points are equal bytes.
fn decode_points(to_verify: &PieceToVerify<'_>) -> Result<Points, InvalidPiece> {
    let PieceToVerify { piece, position, .. } = to_verify;
    if *position >= SegmentIndex::NUM_PIECES {
        return Err(InvalidPiece::Position(*position));
    }
    let commitment = Commitment::from_bytes_strict(&piece.commitment().0);
    let commitment = commitment.map_err(|_| InvalidPiece::Commitment)?;
    let witness = Witness::from_bytes_strict(&piece.witness().0).map_err(InvalidPiece::Witness)?;
    Ok(Points { commitment, witness })
}

struct Decoded<'a> {
    index: usize,
    to_verify: &'a PieceToVerify<'a>,
    segment: Commitment,
    points: Points,
}

/// Writes what is wrong with each piece that is invalid.
fn find_invalid(kzg: &Kzg, pieces: &[Decoded<'_>], results: &mut [Result<(), InvalidPiece>]) {
    match pieces {
        [] => {}
        [only] => {
            let PieceToVerify { piece, segment_commitment, position } = only.to_verify;
            results[only.index] = verify_piece(kzg, piece, segment_commitment, *position);
        }
        _ if all_valid(kzg, pieces) => {}
        _ => {
            let (left, right) = pieces.split_at(pieces.len() / 2);
            find_invalid(kzg, left, results);
            find_invalid(kzg, right, results);
        }
    }
}

fn all_valid(kzg: &Kzg, pieces: &[Decoded<'_>]) -> bool {
    let randomness = Randomness::new();
    pieces.is_empty() || records_match(kzg, pieces, &randomness) && openings_match(kzg, pieces, &randomness)
}

/// Whether all commitments are those of their records.
fn records_match(kzg: &Kzg, pieces: &[Decoded<'_>], randomness: &Randomness) -> bool {
    let records: Vec<(&Piece, Commitment)> =
        pieces.iter().map(|decoded| (decoded.to_verify.piece, decoded.points.commitment)).collect();
    Combination::of(&records, randomness).is_ok_and(|combination| combination.matches(kzg))
}

/// Whether all witnesses open their segments at their positions.
fn openings_match(kzg: &Kzg, pieces: &[Decoded<'_>], randomness: &Randomness) -> bool {
    let roots: Vec<Scalar> = (0..SegmentIndex::NUM_PIECES)
        .map(|position| kzg::domain_element(SegmentIndex::NUM_PIECES, position).expect("it is in the domain"))
        .collect();
    // The sum over pieces of factor * (segment - value G + root * witness), and that of factor * witness.
    let mut segments: HashMap<[u8; 48], (G1Affine, Scalar)> = HashMap::new();
    let mut value = Scalar::ZERO;
    let mut witnesses = Vec::with_capacity(pieces.len());
    let mut factors = Vec::with_capacity(pieces.len());
    let mut factors_at_roots = Vec::with_capacity(pieces.len());
    for (number, Decoded { to_verify, segment, points, .. }) in pieces.iter().enumerate() {
        let factor = randomness.opening_factor(number);
        let segment_factor =
            segments.entry(to_verify.segment_commitment.0).or_insert((segment.0, Scalar::ZERO));
        segment_factor.1 += factor;
        value += factor * commitment_scalar(&to_verify.piece.commitment());
        witnesses.push(points.witness.0);
        factors.push(factor.to_le_bytes());
        factors_at_roots.push((factor * roots[to_verify.position]).to_le_bytes());
    }
    let (mut points, mut scalars): (Vec<G1Affine>, Vec<[u8; 32]>) =
        segments.into_values().map(|(point, factor)| (point, factor.to_le_bytes())).unzip();
    points.push(G1Affine::generator());
    scalars.push((-value).to_le_bytes());
    points.extend_from_slice(&witnesses);
    scalars.append(&mut factors_at_roots);
    let (left, right): (G1, G1) =
        rayon::join(|| bls::multiply_sum(&points, &scalars), || bls::multiply_sum(&witnesses, &factors));
    kzg.opens(left, &right.to_affine())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srs::Srs;

    const NUM: usize = SegmentIndex::NUM_PIECES;

    /// A point of the curve that is not in the group and not infinity, of an order that divides the cofactor.
    fn small_order_point() -> G1 {
        let on_curve = (0..).map(|x: u8| {
            let mut bytes = [0; 48];
            (bytes[0], bytes[47]) = (0x80, x);
            G1Affine::from_compressed(&bytes)
        });
        let points = on_curve.filter_map(Result::ok).filter(|point| !point.is_in_group());
        // r times the point, by doubling and adding: blst's multiplication is right inside the group only.
        let multiply = |point: G1Affine| {
            let bits = crate::scalar::ORDER
                .iter()
                .rev()
                .flat_map(|limb| (0..64).rev().map(move |bit| limb >> bit & 1));
            bits.fold(
                G1::INFINITY,
                |sum, bit| if bit == 1 { sum.double().add_affine(&point) } else { sum.double() },
            )
        };
        points.map(multiply).find(|point| !point.is_infinity()).expect("most points are outside the group")
    }

    fn with(point: &[u8; 48], torsion: G1) -> [u8; 48] {
        let point = G1Affine::from_compressed(point).expect("a point");
        (G1::from(point) + torsion).to_affine().to_compressed()
    }

    /// A segment's commitment and two of its pieces; the other records do not exist.
    fn segment(kzg: &Kzg) -> (SegmentCommitment, [(Piece, usize); 2]) {
        let mut values: Vec<Scalar> = (0..NUM as u64).map(Scalar::from).collect();
        let mut pieces = [6, 9].map(|position| {
            let mut piece = Piece::zeroed();
            for (index, chunk) in piece.record_chunks_mut().iter_mut().enumerate() {
                chunk[1..].copy_from_slice(&blake3::hash(&(index + position).to_le_bytes()).as_bytes()[1..]);
            }
            let record = record_polynomial(&piece).expect("31-byte chunks");
            piece.set_commitment(&kzg.commit(&record).into());
            values[position] = commitment_scalar(&piece.commitment());
            (piece, position)
        });
        let polynomial = Polynomial::interpolate(&values).expect("a power of two");
        for (piece, position) in &mut pieces {
            let witness = kzg.witness(&polynomial, NUM, *position).expect("in the domain");
            piece.set_witness(&witness.into());
        }
        (kzg.commit(&polynomial).into(), pieces)
    }

    fn both(
        kzg: &Kzg,
        piece: &Piece,
        commitment: SegmentCommitment,
        position: usize,
    ) -> Result<(), InvalidPiece> {
        let one = verify_piece(kzg, piece, &commitment, position);
        let entry = PieceToVerify { piece, segment_commitment: commitment, position };
        assert_eq!(verify_pieces(kzg, &[entry]), [one]);
        assert_eq!(verify_pieces_together(kzg, &[entry]), one.is_ok());
        // The one at fault is found among others, on either side.
        for count in [2, 3] {
            let results = verify_pieces(kzg, &vec![entry; count]);
            assert_eq!(results, vec![one; count]);
        }
        one
    }

    #[test]
    fn every_fault_has_its_reason() {
        let kzg = Kzg::new(Srs::generate().0);
        let (segment, [(piece, position), (other, other_position)]) = segment(&kzg);
        assert_eq!(both(&kzg, &piece, segment, position), Ok(()));
        assert_eq!(both(&kzg, &other, segment, other_position), Ok(()));
        assert_eq!(both(&kzg, &piece, segment, position + 1), Err(InvalidPiece::Opening(position + 1)));
        assert_eq!(both(&kzg, &piece, segment, NUM), Err(InvalidPiece::Position(NUM)));

        let changed = |change: &dyn Fn(&mut Piece)| {
            let mut piece = piece.clone();
            change(&mut piece);
            both(&kzg, &piece, segment, position)
        };
        let flip = changed(&|piece| piece.as_bytes_mut()[1000] ^= 1);
        assert_eq!(flip, Err(InvalidPiece::Commitment));
        let too_large =
            changed(&|piece| piece.record_chunks_mut()[77] = primitives::scalars::SCALAR_FIELD_ORDER);
        assert_eq!(too_large, Err(InvalidPiece::Chunk(77)));
        let foreign = changed(&|piece| piece.set_commitment(&other.commitment()));
        assert_eq!(foreign, Err(InvalidPiece::Commitment));
        let foreign = changed(&|piece| piece.set_witness(&other.witness()));
        assert_eq!(foreign, Err(InvalidPiece::Opening(position)));
        let garbage = changed(&|piece| piece.set_witness(&[0; 48].into()));
        assert_eq!(garbage, Err(InvalidPiece::Witness(PointError::Encoding)));

        // A component of small order escapes every pairing, so only a check of the group finds it.
        let torsion = small_order_point();
        let witness = with(&piece.witness().0, torsion);
        let loose = Witness::from_bytes(&witness).expect("on the curve");
        let value = commitment_scalar(&piece.commitment());
        let commitment = Commitment::from_bytes(&segment.0).expect("a point");
        assert!(
            kzg.verify(&commitment, NUM, position, value, &loose),
            "as the reference, which does not look"
        );
        let small = changed(&|piece| piece.set_witness(&witness.into()));
        assert_eq!(small, Err(InvalidPiece::Witness(PointError::NotInGroup)));
        let small = changed(&|piece| piece.set_commitment(&with(&piece.commitment().0, torsion).into()));
        assert_eq!(small, Err(InvalidPiece::Commitment));
        let small = SegmentCommitment(with(&segment.0, torsion));
        let error = InvalidPiece::SegmentCommitment(PointError::NotInGroup);
        assert_eq!(both(&kzg, &piece, small, position), Err(error));
    }

    #[test]
    fn the_invalid_are_found_among_the_valid() {
        let kzg = Kzg::new(Srs::generate().0);
        let (segment_commitment, [(piece, position), (other, other_position)]) = segment(&kzg);
        let mut damaged = piece.clone();
        damaged.as_bytes_mut()[31] ^= 1;
        let mut entries =
            vec![PieceToVerify { piece: &other, segment_commitment, position: other_position }; 9];
        entries[2] = PieceToVerify { piece: &damaged, segment_commitment, position };
        entries[7] = PieceToVerify { piece: &piece, segment_commitment, position: 3 };
        let mut expected = vec![Ok(()); 9];
        expected[2] = Err(InvalidPiece::Commitment);
        expected[7] = Err(InvalidPiece::Opening(3));
        assert_eq!(verify_pieces(&kzg, &entries), expected);
        assert!(!verify_pieces_together(&kzg, &entries));
        assert!(verify_pieces(&kzg, &[]).is_empty());
    }
}
