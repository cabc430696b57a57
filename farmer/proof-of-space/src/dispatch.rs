//! Instances of the generic code for each instruction set, and the choice between them.
#![allow(unsafe_code)]

use crate::buckets::Buckets;
use crate::hashing;
use crate::passes::{self, Pass};
use crate::vector::portable::Portable;
use crate::vector::{MAX_LANES, Vector};
#[cfg(target_arch = "x86_64")]
use crate::vector::{avx2::Avx2, avx512::Avx512};
use crate::verify;
#[cfg(test)]
use crate::{
    local::{LocalBucket, Matches},
    scalar::Entry,
    tests::lanes,
};
use primitives::sectors::PosSeed;
use primitives::simd::Simd;
use primitives::solutions::PosProof;
use std::ops::Range;

/// Defines a function that runs a generic one with the instruction set of `simd`, which must be available.
macro_rules! dispatched {
    ($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $($generic:ident)::+ $(, $table:literal)?) => {
        $(#[$meta])*
        pub(crate) fn $name(simd: Simd, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
            fn avx2($($argument: $type),*) {
                $($generic)::+::<Avx2 $(, $table)?>($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx2,bmi1,bmi2,popcnt,lzcnt")]
            fn avx512($($argument: $type),*) {
                $($generic)::+::<Avx512 $(, $table)?>($($argument),*);
            }
            assert!(simd.is_available(), "{simd:?} was chosen without looking");
            match simd {
                Simd::Portable => $($generic)::+::<Portable $(, $table)?>($($argument),*),
                // SAFETY: the assertion says that this machine has the function's target features.
                #[cfg(target_arch = "x86_64")]
                Simd::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: the assertion says that this machine has the function's target features.
                #[cfg(target_arch = "x86_64")]
                Simd::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(not(target_arch = "x86_64"))]
                Simd::Avx2 | Simd::Avx512 => unreachable!("not available on this target"),
            }
        }
    };
}

dispatched!(
    /// Makes table 1 for the x values of `range`.
    fn first_table(seed: &PosSeed, range: Range<usize>, target: &mut Buckets) = passes::first_table
);
dispatched!(
    /// y of the table-7 entry that a proof makes; none when a pair does not match.
    fn last_y(seed: &PosSeed, proof: &PosProof, result: &mut Option<u32>) = verify::last_y
);
dispatched!(fn pass_2(pass: Pass<'_>) = passes::pass, 2);
dispatched!(fn pass_3(pass: Pass<'_>) = passes::pass, 3);
dispatched!(fn pass_4(pass: Pass<'_>) = passes::pass, 4);
dispatched!(fn pass_5(pass: Pass<'_>) = passes::pass, 5);
dispatched!(fn pass_6(pass: Pass<'_>) = passes::pass, 6);
dispatched!(fn pass_7(pass: Pass<'_>) = passes::pass, 7);

/// Makes table `table`, 2 to 7.
pub(crate) fn pass(simd: Simd, table: usize, pass: Pass<'_>) {
    match table {
        2 => pass_2(simd, pass),
        3 => pass_3(simd, pass),
        4 => pass_4(simd, pass),
        5 => pass_5(simd, pass),
        6 => pass_6(simd, pass),
        7 => pass_7(simd, pass),
        _ => unreachable!("tables 2 to 7 have parents"),
    }
}

dispatched!(
    /// BLAKE3 of up to 16 proofs.
    fn hash_proofs(proofs: &[[u8; 160]; MAX_LANES], hashes: &mut [[u8; 32]; MAX_LANES]) = hash_proofs_with
);

#[inline(always)]
fn hash_proofs_with<V: Vector>(proofs: &[[u8; 160]; MAX_LANES], hashes: &mut [[u8; 32]; MAX_LANES]) {
    let mut done = 0;
    while done < MAX_LANES {
        let mut words = [V::splat(0); 40];
        for (index, word) in words.iter_mut().enumerate() {
            let mut lanes = [0; MAX_LANES];
            for (lane, proof) in lanes.iter_mut().zip(&proofs[done..done + V::LANES]) {
                let bytes = proof[4 * index..].first_chunk().expect("a proof has 40 words");
                *lane = u32::from_le_bytes(*bytes);
            }
            *word = V::load(&lanes);
        }
        for (index, word) in hashing::hash_proof(&words).into_iter().enumerate() {
            let mut lanes = [0; MAX_LANES];
            word.store(&mut lanes);
            for (lane, hash) in lanes.iter().zip(&mut hashes[done..done + V::LANES]) {
                hash[4 * index..4 * index + 4].copy_from_slice(&lane.to_le_bytes());
            }
        }
        done += V::LANES;
    }
}

dispatched!(
    /// Hashes `blocks` blocks, one after the other in each lane: for measurements.
    fn hash_blocks(blocks: usize, word: &mut u32) = hash_blocks_with
);

#[inline(always)]
fn hash_blocks_with<V: Vector>(blocks: usize, word: &mut u32) {
    let mut words = [V::splat(1), V::splat(2), V::splat(3), V::splat(4), V::splat(5), V::splat(6)];
    for _ in 0..blocks / V::LANES {
        let [h0, h1, h2, h3] = hashing::hash_short(words, 24);
        words = [h0, h1, h2, h3, words[4], words[5]];
    }
    let mut lanes = [0; MAX_LANES];
    words[0].store(&mut lanes);
    *word = lanes[0];
}

#[cfg(test)]
dispatched!(
    fn exercise(a: &lanes::Words, b: &lanes::Words, local: &LocalBucket, results: &mut lanes::Results) =
        lanes::exercise
);
#[cfg(test)]
dispatched!(
    fn combine_one(table: usize, left: &Entry, right: &Entry, result: &mut Entry) = lanes::combine_one
);
#[cfg(test)]
dispatched!(
    fn find_matches(
        left: &LocalBucket,
        right: &LocalBucket,
        parity: usize,
        next: &mut usize,
        matches: &mut Matches,
    ) = find_matches_with
);

#[cfg(test)]
#[inline(always)]
fn find_matches_with<V: Vector>(
    left: &LocalBucket,
    right: &LocalBucket,
    parity: usize,
    next: &mut usize,
    matches: &mut Matches,
) {
    *next = V::find_matches(left, right, parity, *next, matches);
}
