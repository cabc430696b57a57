#![allow(clippy::unwrap_used)]

pub(crate) mod lanes;

use crate::params::challenge_bits;
use crate::reference::ReferenceTables;
use crate::scalar::{Keystream, pack};
use crate::search::compare_trees;
use crate::verify::{is_proof_valid_with, levels};
use crate::{Simd, TableGenerator};
use primitives::sectors::{PosSeed, SBucket};
use primitives::solutions::PosProof;
use std::cmp::Ordering;
use std::ops::ControlFlow;

fn seed(label: &str) -> PosSeed {
    PosSeed(vectors::xof(label, 32).try_into().unwrap())
}

fn reference_proofs(tables: &ReferenceTables) -> Vec<(SBucket, PosProof)> {
    let proof = |index: u32| Some((SBucket(index as u16), PosProof(pack(&tables.find(index)?))));
    (0..1 << 16).filter_map(proof).collect()
}

fn all_proofs(table: &crate::Table<'_>) -> Vec<(SBucket, PosProof)> {
    let mut proofs = Vec::new();
    table.for_each_proof(|s_bucket, proof| {
        proofs.push((s_bucket, *proof));
        ControlFlow::Continue(())
    });
    proofs
}

#[test]
#[cfg_attr(miri, ignore = "whole tables take days there")]
fn every_instruction_set_and_number_of_threads_makes_the_reference_tables() {
    let seed = seed("proof-of-space/reference");
    let reference = ReferenceTables::new(&seed);
    let expected = reference_proofs(&reference);
    for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
        let mut generator = TableGenerator::with_simd(simd);
        let table = generator.generate_inspected(&seed, &mut |number, mut ys| {
            ys.sort_unstable();
            assert!(ys == reference.ys(number), "y of table {number} by {simd:?}");
        });
        assert!(all_proofs(&table) == expected, "proofs by {simd:?}");
        for threads in [1, 3, 40] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let table = pool.install(|| generator.generate_parallel(&seed));
            assert!(all_proofs(&table) == expected, "proofs by {simd:?} with {threads} threads");
            for index in [0x1000_0000, 0x0120_ffff, u32::MAX] {
                let proof = reference.find(index).map(|xs| PosProof(pack(&xs)));
                assert_eq!(table.find_proof(index), proof, "challenge index {index}");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "whole tables take days there")]
fn verification_agrees_with_the_plain_one() {
    let seed = seed("proof-of-space/verification");
    let mut generator = TableGenerator::new();
    let proofs = all_proofs(&generator.generate(&seed));
    for (index, (s_bucket, proof)) in proofs.iter().enumerate().step_by(101) {
        let mut broken = *proof;
        broken.0[index % 160] ^= 1 << (index % 8);
        let mut swapped = *proof;
        swapped.0.rotate_left(80);
        for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
            for candidate in [proof, &broken, &swapped] {
                for challenge in [u32::from(s_bucket.0), u32::from(s_bucket.0 ^ 1)] {
                    let plain = levels(&seed, candidate)
                        .is_some_and(|levels| levels[6][0].y >> 6 == challenge_bits(challenge));
                    let valid = is_proof_valid_with(simd, &seed, challenge, candidate);
                    assert_eq!(valid, plain, "{simd:?}, challenge {challenge}");
                }
            }
            assert!(is_proof_valid_with(simd, &seed, u32::from(s_bucket.0), proof));
        }
    }
}

/// Two entries with equal y, from as deep as table 1: the order of their parents decides, then that of the parents'.
#[test]
#[cfg_attr(miri, ignore = "whole tables take days there")]
fn equal_y_are_ordered_by_their_parents() {
    let seed = seed("proof-of-space/order");
    let mut keystream = Keystream::new(&seed);
    let mut entries = Keystream::new(&seed).all_entries();
    entries.sort_unstable_by_key(|entry| (entry.y, entry.metadata));
    let equal = entries.windows(2).filter(|pair| pair[0].y == pair[1].y).take(100).collect::<Vec<_>>();
    assert_eq!(equal.len(), 100, "one entry in 64 shares its y");
    for pair in equal {
        let [first, second] = [pair[0].metadata as u32, pair[1].metadata as u32];
        assert_eq!(compare_trees(&mut keystream, &[first], &[second]), Ordering::Less);
        assert_eq!(compare_trees(&mut keystream, &[second], &[first]), Ordering::Greater);
        assert_eq!(compare_trees(&mut keystream, &[first], &[first]), Ordering::Equal);
    }
}

#[test]
#[cfg_attr(miri, ignore = "whole tables take days there")]
fn a_generator_forgets_its_previous_seed() {
    let (first, second) = (seed("proof-of-space/first"), seed("proof-of-space/second"));
    let mut generator = TableGenerator::new();
    let expected = all_proofs(&generator.generate(&second));
    generator.generate(&first);
    assert!(all_proofs(&generator.generate(&second)) == expected);
}

#[test]
#[cfg_attr(miri, ignore = "whole tables take days there")]
fn an_overfull_bucket_takes_refuge_in_the_reference_generator() {
    let seed = seed("proof-of-space/overfull");
    let mut generator = TableGenerator::new();
    let table = generator.generate(&seed);
    let expected = all_proofs(&table);
    assert!(!generator.took_refuge());
    generator.limit_buckets(200);
    let table = generator.generate(&seed);
    assert!(all_proofs(&table) == expected);
    assert_eq!(table.find_proof(u32::from(expected[0].0.0)), Some(expected[0].1));
    assert!(table.has_proof(expected[0].0));
    let mut sizes = Vec::new();
    generator.generate_inspected(&seed, &mut |number, ys| sizes.push((number, ys.len())));
    assert_eq!(sizes.last().unwrap().0, 7);
    assert!(generator.took_refuge());
}
