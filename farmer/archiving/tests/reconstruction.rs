//! Pieces that cannot be put together, and the simplest segment that can: all zeroes.

#![allow(clippy::unwrap_used, missing_docs)]

use archiving::reconstruction::{
    ReconstructionError, reconstruct_piece, reconstruct_pieces, reconstruct_segment,
};
use archiving::{Kzg, PieceToVerify, Polynomial, Scalar, Srs, verify_pieces};
use primitives::hashes::blake3_254_hash_to_scalar;
use primitives::scalars::SCALAR_FIELD_ORDER;
use primitives::{Piece, SegmentCommitment, SegmentIndex};
use std::path::Path;

const NUM: usize = SegmentIndex::NUM_PIECES;

/// A segment of zeroes, whose commitments are all infinity, and its commitment.
fn zeroes(kzg: &Kzg) -> (SegmentCommitment, Piece) {
    let mut infinity = [0; 48];
    infinity[0] = 0xc0;
    let mut piece = Piece::zeroed();
    piece.set_commitment(&infinity.into());
    // All values of the segment polynomial are equal: it is constant and its witnesses are infinity too.
    piece.set_witness(&infinity.into());
    let value = Scalar::from_bytes(&blake3_254_hash_to_scalar(&infinity).0).unwrap();
    let polynomial = Polynomial::interpolate(&[value; NUM]).unwrap();
    (kzg.commit(&polynomial).into(), piece)
}

fn pieces(piece: &Piece, present: impl Fn(usize) -> bool) -> Vec<Option<Piece>> {
    (0..NUM).map(|position| present(position).then(|| piece.clone())).collect()
}

#[test]
fn zeroes_and_what_is_wrong_with_them() {
    let kzg = Kzg::new(Srs::development(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap());
    let (segment_commitment, zero) = zeroes(&kzg);
    let entry = |position| PieceToVerify { piece: &zero, segment_commitment, position };
    let results = verify_pieces(&kzg, &[entry(0), entry(255)]);
    assert_eq!(results, [Ok(()), Ok(())]);

    let mut given = pieces(&zero, |position| position % 2 == 1);
    assert!(reconstruct_pieces(&kzg, &given).unwrap().iter().all(|piece| *piece == zero));
    assert!(reconstruct_piece(&kzg, &given, 4).unwrap() == zero);
    assert!(reconstruct_segment(&given).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(reconstruct_piece(&kzg, &given, NUM), Err(ReconstructionError::Position(NUM)));

    let all_three = |given: &[Option<Piece>]| {
        [
            reconstruct_segment(given).unwrap_err(),
            reconstruct_pieces(&kzg, given).unwrap_err(),
            reconstruct_piece(&kzg, given, 0).unwrap_err(),
        ]
    };
    // One piece too few, and a table that is none.
    given[77] = None;
    for error in all_three(&given) {
        assert_eq!(error, ReconstructionError::TooFew { needed: 128, present: 127 });
    }
    for error in all_three(&given[..255]) {
        assert_eq!(error, ReconstructionError::Places(255));
    }
    // A chunk that is no scalar.
    let mut invalid = zero.clone();
    invalid.record_chunks_mut()[1234] = SCALAR_FIELD_ORDER;
    given[77] = Some(invalid);
    for error in all_three(&given) {
        assert_eq!(error, ReconstructionError::Chunk { position: 77, chunk: 1234 });
    }
    // A record that is not that of its commitment, which only whole pieces tell; the bytes come out as no source.
    let mut other = zero.clone();
    other.record_chunks_mut()[5] = [1; 32];
    given[77] = Some(other.clone());
    let [segment, whole, one] = all_three(&given);
    assert!(matches!(segment, ReconstructionError::NotSource { .. }), "{segment}");
    for error in [whole, one] {
        assert_eq!(error, ReconstructionError::Commitment { position: 77 });
    }
    // A piece of another segment, valid in itself, among more pieces than are needed.
    let chunks: Vec<Scalar> =
        other.record_chunks().iter().map(|chunk| Scalar::from_bytes(chunk).unwrap()).collect();
    let commitment = kzg.commit(&Polynomial::interpolate(&chunks).unwrap());
    other.set_commitment(&commitment.into());
    let mut given = pieces(&zero, |position| position % 2 == 1);
    given[200] = Some(other);
    for error in
        [reconstruct_pieces(&kzg, &given).unwrap_err(), reconstruct_piece(&kzg, &given, 0).unwrap_err()]
    {
        assert!(matches!(error, ReconstructionError::Contradiction { .. }), "{error}");
    }
}
