//! Checks every entry of `pospace.json`.
#![allow(clippy::unwrap_used, missing_docs)]

use primitives::sectors::{PosSeed, SBucket};
use primitives::solutions::PosProof;
use proof_of_space::{Table, TableGenerator, inspect, is_proof_valid};
use serde::Deserialize;
use std::ops::ControlFlow;
use vectors::Hex;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    set: String,
    k: u32,
    proof_size: usize,
    note: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    seed: Hex,
    chacha8_keystream_first_64_bytes: Hex,
    /// (x, y)
    f1: Vec<(u32, u32)>,
    table_sizes: [usize; 7],
    table_sorted_y_blake3: [Hex; 7],
    indices_with_more_than_one_candidate: usize,
    proofs: Vec<ProofEntry>,
    found_bitmap: Option<Hex>,
    found_bitmap_blake3: Hex,
    found_in_0_32767: usize,
    found_in_0_65535: usize,
    proofs_concat_blake3: Hex,
    trace: Trace,
    verify_negative: Vec<Verification>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofEntry {
    challenge_index: u32,
    proof: Option<Hex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trace {
    challenge_index: u32,
    proof: Hex,
    xs: Vec<u32>,
    /// Tables 1 to 7; y and metadata, the latter as a hex number.
    levels: Vec<Vec<(u32, String)>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verification {
    challenge_index: u32,
    proof: Hex,
    valid: bool,
}

impl Case {
    fn seed(&self) -> PosSeed {
        PosSeed(self.seed.array())
    }
}

fn load() -> File {
    let file = vectors::load::<File>("pospace.json");
    assert_eq!(file.set, "shared");
    assert_eq!(file.k, 20);
    assert_eq!(file.proof_size, PosProof::SIZE);
    assert!(file.note.contains("ascending"), "the note states the rules that the checks follow");
    assert!(!file.cases.is_empty());
    file
}

/// y of table 7 that answer each s-bucket: y / 64 is the s-bucket with its bytes swapped and 4 zero bits behind.
fn s_buckets_with_several(last_table: &[u32]) -> usize {
    let mut candidates = vec![0_u32; 1 << 16];
    for bits in last_table.iter().map(|y| y >> 6).filter(|bits| bits % 16 == 0) {
        candidates[usize::from(((bits >> 4) as u16).swap_bytes())] += 1;
    }
    candidates.iter().filter(|&&count| count > 1).count()
}

fn check_tables(case: &Case, generator: &mut TableGenerator) {
    let mut seen = Vec::new();
    let mut several = 0;
    generator.generate_inspected(&case.seed(), &mut |number, mut ys| {
        assert_eq!(ys.len(), case.table_sizes[number - 1], "entries of table {number}");
        ys.sort_unstable();
        let bytes = ys.iter().flat_map(|y| y.to_le_bytes()).collect::<Vec<_>>();
        let hash = blake3::hash(&bytes);
        assert_eq!(hash.as_bytes()[..], *case.table_sorted_y_blake3[number - 1], "y of table {number}");
        if number == 7 {
            several = s_buckets_with_several(&ys);
        }
        seen.push(number);
    });
    assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(several, case.indices_with_more_than_one_candidate);
}

fn check_proofs(case: &Case, table: &Table<'_>) {
    for entry in &case.proofs {
        let proof = table.find_proof(entry.challenge_index);
        let expected = entry.proof.as_ref().map(|proof| PosProof(proof.array()));
        assert_eq!(proof, expected, "challenge index {}", entry.challenge_index);
        if let Some(proof) = proof {
            assert!(is_proof_valid(&case.seed(), entry.challenge_index, &proof));
        }
    }
}

fn check_all_proofs(case: &Case, table: &Table<'_>) {
    let mut bitmap = vec![0_u8; 1 << 13];
    let mut concatenated = blake3::Hasher::new();
    let mut proofs = Vec::new();
    table.for_each_proof(|SBucket(s_bucket), proof| {
        bitmap[usize::from(s_bucket / 8)] |= 1 << (s_bucket % 8);
        concatenated.update(&proof.0);
        proofs.push((s_bucket, *proof));
        ControlFlow::Continue(())
    });
    assert!(proofs.is_sorted_by(|left, right| left.0 < right.0));
    assert_eq!(proofs.len(), case.found_in_0_65535);
    assert_eq!(proofs.iter().filter(|(s_bucket, _)| *s_bucket < 32_768).count(), case.found_in_0_32767);
    if let Some(expected) = &case.found_bitmap {
        assert_eq!(bitmap, **expected);
    }
    assert_eq!(blake3::hash(&bitmap).as_bytes()[..], *case.found_bitmap_blake3);
    assert_eq!(concatenated.finalize().as_bytes()[..], *case.proofs_concat_blake3);
    for (s_bucket, proof) in proofs.iter().step_by(997) {
        assert_eq!(table.find_proof(u32::from(*s_bucket)).as_ref(), Some(proof));
    }

    let mut hashes = Vec::new();
    table.for_each_proof_hash(|SBucket(s_bucket), hash| {
        hashes.push((s_bucket, *hash));
        ControlFlow::Continue(())
    });
    let expected = proofs.iter().map(|(s_bucket, proof)| (*s_bucket, proof.hash())).collect::<Vec<_>>();
    assert!(hashes == expected, "hashes are those of the proofs");

    let mut first = Vec::new();
    table.for_each_proof_hash(|SBucket(s_bucket), hash| {
        first.push((s_bucket, *hash));
        if first.len() == 32_768 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(first == expected[..32_768], "a visitor that breaks is not called again");
}

fn check_trace(case: &Case) {
    let trace = &case.trace;
    let proof = PosProof(trace.proof.array());
    assert!(is_proof_valid(&case.seed(), trace.challenge_index, &proof));
    assert_eq!(inspect::proof_xs(&proof)[..], trace.xs);
    let tree = inspect::proof_tree(&case.seed(), &proof).unwrap();
    assert_eq!(tree.len(), trace.levels.len());
    for (level, expected) in tree.iter().zip(&trace.levels) {
        let level = level.iter().map(|(y, metadata)| (*y, format!("{metadata:x}"))).collect::<Vec<_>>();
        assert_eq!(&level, expected);
    }
}

#[test]
fn vectors_pospace_functions() {
    for case in &load().cases {
        assert_eq!(inspect::keystream_head(&case.seed())[..], *case.chacha8_keystream_first_64_bytes);
        assert!(!case.f1.is_empty());
        for &(x, y) in &case.f1 {
            assert_eq!(inspect::first_table_y(&case.seed(), x), y, "y of x = {x}");
        }
        check_trace(case);
        assert!(!case.verify_negative.is_empty());
        for verification in &case.verify_negative {
            let proof = PosProof(verification.proof.array());
            let valid = is_proof_valid(&case.seed(), verification.challenge_index, &proof);
            assert_eq!(valid, verification.valid, "challenge index {}", verification.challenge_index);
        }
    }
}

#[test]
fn vectors_pospace_tables() {
    let mut generator = TableGenerator::new();
    for case in &load().cases {
        check_tables(case, &mut generator);
    }
}

#[test]
fn vectors_pospace_proofs() {
    let mut generator = TableGenerator::new();
    for case in &load().cases {
        let table = generator.generate(&case.seed());
        check_proofs(case, &table);
        check_all_proofs(case, &table);
        let table = generator.generate_parallel(&case.seed());
        check_proofs(case, &table);
        check_all_proofs(case, &table);
    }
}
