//! The combined check of many pieces says what the check of each says.

#![allow(clippy::unwrap_used, missing_docs)]

use archiving::{
    Kzg, PieceToVerify, Polynomial, Scalar, Srs, verify_piece, verify_pieces, verify_pieces_together,
};
use primitives::hashes::blake3_254_hash_to_scalar;
use primitives::{Piece, SegmentCommitment, SegmentIndex};
use std::path::Path;
use std::time::Duration;

/// A segment of which only the pieces at `positions` exist; the others' commitments are made up.
fn segment(kzg: &Kzg, positions: &[usize], seed: u64) -> (SegmentCommitment, Vec<Piece>) {
    let mut values: Vec<Scalar> = (0..SegmentIndex::NUM_PIECES as u64)
        .map(|i| Scalar::from_bytes_reduced(&[seed.to_be_bytes(), i.to_be_bytes()].concat()))
        .collect();
    let mut pieces = Vec::new();
    for &position in positions {
        let mut piece = Piece::zeroed();
        let mut xof = blake3::Hasher::new().update(&(seed + position as u64).to_le_bytes()).finalize_xof();
        for chunk in piece.record_chunks_mut() {
            xof.fill(&mut chunk[1..]);
        }
        let scalars: Vec<Scalar> =
            piece.record_chunks().iter().map(|chunk| Scalar::from_bytes(chunk).unwrap()).collect();
        let commitment = kzg.commit(&Polynomial::interpolate(&scalars).unwrap());
        piece.set_commitment(&commitment.into());
        values[position] = Scalar::from_bytes(&blake3_254_hash_to_scalar(&commitment.to_bytes()).0).unwrap();
        pieces.push(piece);
    }
    let polynomial = Polynomial::interpolate(&values).unwrap();
    for (piece, &position) in pieces.iter_mut().zip(positions) {
        let witness = kzg.witness(&polynomial, SegmentIndex::NUM_PIECES, position).unwrap();
        piece.set_witness(&witness.into());
    }
    (kzg.commit(&polynomial).into(), pieces)
}

#[test]
fn together_is_as_strict_as_each() {
    let kzg = Kzg::new(Srs::development(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap());
    let positions = [0, 7, 255];
    let (first, pieces) = segment(&kzg, &positions, 1);
    let (second, others) = segment(&kzg, &[3], 1000);
    let entries = |pieces: &[Piece], others: &[Piece]| -> bool {
        let mut entries: Vec<PieceToVerify<'_>> = Vec::new();
        for (piece, position) in pieces.iter().zip(positions) {
            entries.push(PieceToVerify { piece, segment_commitment: first, position });
        }
        entries.push(PieceToVerify { piece: &others[0], segment_commitment: second, position: 3 });
        let together = verify_pieces_together(&kzg, &entries);
        assert_eq!(together, verify_pieces(&kzg, &entries).iter().all(Result::is_ok));
        together
    };
    assert!(entries(&pieces, &others));
    assert!(verify_pieces_together(&kzg, &[]));

    // Every part of a piece counts, and two errors do not cancel out.
    for offset in [31, Piece::SIZE / 2, Piece::SIZE - 96, Piece::SIZE - 1] {
        let mut damaged = pieces.clone();
        damaged[1].as_bytes_mut()[offset] ^= 1;
        assert!(!entries(&damaged, &others), "{offset}");
    }
    let mut swapped = pieces.clone();
    swapped.swap(0, 1);
    assert!(!entries(&swapped, &others));
    let mut cancelling = pieces.clone();
    cancelling[0].as_bytes_mut()[31] = cancelling[0].as_bytes()[31].wrapping_add(1);
    cancelling[1].as_bytes_mut()[31] = cancelling[1].as_bytes()[31].wrapping_sub(1);
    assert!(!entries(&cancelling, &others));
    let mut not_scalar = pieces.clone();
    not_scalar[2].as_bytes_mut()[..32].fill(0xff);
    assert!(!entries(&not_scalar, &others));
    assert!(verify_piece(&kzg, &pieces[0], &first, 1).is_err());
    let wrong_position = [PieceToVerify { piece: &pieces[0], segment_commitment: first, position: 1 }];
    assert!(!verify_pieces_together(&kzg, &wrong_position));
    let no_position = [PieceToVerify { piece: &pieces[0], segment_commitment: first, position: 256 }];
    assert!(!verify_pieces_together(&kzg, &no_position));
}

/// What is computed once and kept must not be waited for by a thread that, below on its stack, is computing it: rayon's
/// threads take up other tasks while they wait.
#[test]
fn first_commitments_of_many_tasks_wait_for_no_one_for_ever() {
    let srs = Srs::development(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let polynomial = Polynomial::interpolate(&vec![Scalar::from_bytes_reduced(&[7]); 32_768]).unwrap();
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        // New: the first use is what matters.
        let kzg = Kzg::new(srs);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                // Each comes while others wait for parts of what the first one began.
                scope.spawn(|| pool.install(|| kzg.commit(&polynomial)));
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(240)).expect("tasks of one pool wait for each other");
}
