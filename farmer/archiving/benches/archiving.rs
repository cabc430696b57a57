//! Commitments, transforms and segments. Beside each case stands the reference's figure on its own machine, CPU seconds of
//! a 2-vCPU Xeon with AVX-512: machines differ, so only figures of one machine and one run compare.
//!
//! `RAYON_NUM_THREADS=1` makes wall time CPU time, `AUTONOMYS_SIMD=scalar` shows the portable code, and
//! `AUTONOMYS_SRS` names the live string; without it the development string serves, which costs the same.
#![allow(missing_docs, clippy::unwrap_used)]

mod cases;

use archiving::reconstruction::{reconstruct_piece, reconstruct_pieces, reconstruct_segment};
use archiving::{Kzg, Polynomial, Scalar, Srs, erasure, verify_piece, verify_pieces};
use cases::{archive, block, parity, record, thousand_pieces};
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;

fn string() -> PathBuf {
    cases::string(env!("CARGO_TARGET_TMPDIR").as_ref())
}

fn string_and_commitments(c: &mut Criterion) {
    let path = string();
    let mut group = c.benchmark_group("archiving");
    group.sample_size(20);
    group.bench_function("load the reference string (reference 0.614 s)", |b| {
        b.iter(|| Srs::load(&path).unwrap());
    });
    let kzg = Kzg::new(Srs::load(&path).unwrap());
    let polynomial = kzg.polynomial(&record()).unwrap();
    let commitment = kzg.commit(&polynomial);
    group.bench_function("record commitment (reference 0.390 s)", |b| {
        b.iter(|| kzg.commit(black_box(&polynomial)));
    });
    group.bench_function("first record commitment, with its table (no reference)", |b| {
        let fresh = || Kzg::new(Srs::load(&path).unwrap());
        b.iter_batched(fresh, |kzg| kzg.commit(black_box(&polynomial)), BatchSize::PerIteration);
    });
    let witness = kzg.witness(&polynomial, 65_536, 4_321).unwrap();
    group.bench_function("opening (reference 0.394 s)", |b| {
        b.iter(|| kzg.witness(black_box(&polynomial), 65_536, 4_321).unwrap());
    });
    let z = Scalar::root_of_unity(65_536).unwrap().pow(4_321);
    let value = polynomial.evaluate(z);
    group.bench_function("opening verified (reference 1.1 ms)", |b| {
        b.iter(|| assert!(kzg.verify(&commitment, 65_536, 4_321, black_box(value), &witness)));
    });
    group.finish();
}

fn erasure_coding(c: &mut Criterion) {
    let source = record();
    let parity = erasure::extend(&source).unwrap();
    let mut shards: Vec<Option<Scalar>> =
        source.iter().zip(&parity).flat_map(|(source, parity)| [Some(*source), Some(*parity)]).collect();
    // As in a sector: the first half of the s-buckets that have a proof, which about 62 % have.
    let mask = vectors::xof("bench/mask", shards.len());
    let mut kept = 0;
    for (shard, mask) in shards.iter_mut().zip(mask) {
        if mask < 159 && kept < source.len() {
            kept += 1;
        } else {
            *shard = None;
        }
    }
    assert_eq!(kept, source.len());
    let mut group = c.benchmark_group("archiving");
    group.bench_function("erasure extension of a record (reference 22.7 ms)", |b| {
        b.iter(|| erasure::extend(black_box(&source)).unwrap());
    });
    group.bench_function("inverse FFT of a record (reference 11.7 ms)", |b| {
        b.iter(|| Polynomial::interpolate(black_box(&source)).unwrap());
    });
    group.bench_function("recovery of a record from half its chunks (reference 0.617 s)", |b| {
        b.iter(|| erasure::recover_polynomial(black_box(&shards)).unwrap());
    });
    group.finish();
}

fn segments(c: &mut Criterion) {
    let kzg = Kzg::new(Srs::load(&string()).unwrap());
    let block = block();
    let segment = archive(&kzg, block.clone());
    let mut group = c.benchmark_group("archiving");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("archive one segment (reference 58.1 s CPU, 32.1 s on 2 threads)", |b| {
        b.iter_batched(|| block.clone(), |block| archive(&kzg, block), BatchSize::PerIteration);
    });
    let segment_commitment = segment.header.segment_commitment();
    group.bench_function("one piece checked against its segment (reference 0.411 s)", |b| {
        b.iter(|| verify_piece(&kzg, &segment.pieces[5], &segment_commitment, 5).unwrap());
    });
    let thousand = thousand_pieces(&segment);
    group.bench_function("1,000 pieces checked in a batch (reference 411 s)", |b| {
        b.iter(|| assert!(verify_pieces(&kzg, &thousand).iter().all(Result::is_ok)));
    });
    let parity = parity(&segment);
    group.bench_function(
        "reconstruct one segment's pieces from parity (reference 91.0 s CPU, 64.1 s on 2 threads)",
        |b| {
            b.iter(|| reconstruct_pieces(&kzg, &parity).unwrap());
        },
    );
    group.bench_function("one segment's bytes from parity (no reference)", |b| {
        b.iter(|| reconstruct_segment(&parity).unwrap());
    });
    group.bench_function("one piece from parity (no reference)", |b| {
        b.iter(|| reconstruct_piece(&kzg, &parity, 4).unwrap());
    });
    group.finish();
}

criterion_group!(benches, string_and_commitments, erasure_coding, segments);
criterion_main!(benches);
