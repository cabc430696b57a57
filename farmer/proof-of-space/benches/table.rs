//! Tables and proofs. Beside each case the figure of the network's reference implementation on a 2-core Intel Xeon with
//! AVX-512; machines differ, so compare on one machine.
#![allow(missing_docs)]

mod cases;

use cases::{generate, hash_proofs, seeds};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use proof_of_space::{Simd, TableGenerator, is_proof_valid};
use std::hint::black_box;

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    group.sample_size(10);
    for simd in Simd::ALL.into_iter().filter(|simd| simd.is_available()) {
        let mut generator = TableGenerator::with_simd(simd);
        group.bench_function(format!("one thread, {simd:?} (reference: 1.39 s)"), |bencher| {
            bencher.iter_batched(seeds(), |seed| generate(&mut generator, &seed), BatchSize::PerIteration);
        });
    }
    let mut generator = TableGenerator::new();
    let threads = rayon::current_num_threads();
    group.bench_function(format!("{threads} threads (reference, 2 threads: 0.83 s)"), |bencher| {
        bencher.iter_batched(
            seeds(),
            |seed| {
                black_box(generator.generate_parallel(&seed));
            },
            BatchSize::PerIteration,
        );
    });
}

fn proofs(criterion: &mut Criterion) {
    let seed = seeds()();
    let mut generator = TableGenerator::new();
    let table = generator.generate(&seed);
    let mut group = criterion.benchmark_group("proofs");
    group.bench_function("all proofs and hashes (reference: 164 ms)", |bencher| {
        bencher.iter(|| hash_proofs(&table, usize::MAX));
    });
    group.bench_function("proofs and hashes of the first 32,768", |bencher| {
        bencher.iter(|| hash_proofs(&table, 32_768));
    });
    let mut index = 0_u32;
    group.bench_function("find one (reference: 2.3 us)", |bencher| {
        bencher.iter(|| {
            index = index.wrapping_mul(0x9e37_79b1).wrapping_add(1);
            table.find_proof(index >> 16)
        });
    });
    let proof = (0..1 << 16).find_map(|index| Some((index, table.find_proof(index)?)));
    let (challenge_index, proof) = proof.expect("a table has proofs");
    group.bench_function("verify one (reference: 11 us)", |bencher| {
        bencher.iter(|| assert!(is_proof_valid(&seed, challenge_index, black_box(&proof))));
    });
}

criterion_group!(benches, tables, proofs);
criterion_main!(benches);
