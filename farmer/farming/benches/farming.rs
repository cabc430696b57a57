//! The cases of farming beside the reference's figures, which were measured on 2 vCPU Intel Xeon (AVX-512, virtual).
//!
//! Each case runs in a pool of one thread, where wall time is CPU time, and in one of all threads. The audit holds four
//! sectors of 1,000 pieces: 4.3 GB of memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod cases;

use archiving::{Kzg, Srs};
use cases::{Auditing, Plotting, Proving};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farming::encoding::SectorEncoder;
use farming::io::PlotReader;
use farming::proving::CpuProver;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

/// One thread, and all of them.
fn pools() -> Vec<rayon::ThreadPool> {
    let mut threads = vec![1, std::thread::available_parallelism().unwrap().get()];
    threads.dedup();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    threads.into_iter().map(pool).collect()
}

/// Reference: 1.65 s of CPU for each piece, 0.86–0.94 s wall on two threads.
fn plot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plot sector, RAM to RAM (reference: 1.65 CPU-s a piece)");
    group.sample_size(10);
    for pool in pools() {
        let threads = pool.current_num_threads();
        let mut encoder = SectorEncoder::cpu(threads);
        for count in [4, 12] {
            let plotting = Plotting::new(count);
            let mut sector = Vec::with_capacity(plotting.sector_size());
            group.throughput(Throughput::Elements(u64::from(count)));
            group.bench_function(BenchmarkId::new(format!("{count} pieces"), threads), |bencher| {
                bencher.iter(|| {
                    pool.install(|| plotting.plot(&mut encoder, &mut sector));
                    black_box(&sector);
                });
            });
        }
    }
    group.finish();
}

/// Reference: 2.6–2.7 s of CPU, 1.92–1.96 s wall on two threads.
fn prove(criterion: &mut Criterion) {
    let proving = Proving::new(1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plot.bin");
    std::fs::write(&path, &proving.sector).unwrap();
    let file = PlotReader::open_buffered(&path).unwrap();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let prover = CpuProver::new(Kzg::new(Srs::development(cache).unwrap()));
    let mut group = criterion.benchmark_group("audit and first solution, 4 pieces (reference: 2.65 CPU-s)");
    group.sample_size(10);
    for pool in pools() {
        let threads = pool.current_num_threads();
        group.bench_function(BenchmarkId::new("RAM", threads), |bencher| {
            bencher.iter(|| pool.install(|| proving.solve(&proving.sector, &prover, 0)));
        });
        group.bench_function(BenchmarkId::new("file in page cache", threads), |bencher| {
            bencher.iter(|| pool.install(|| proving.solve(&file, &prover, 0)));
        });
    }
    group.finish();
}

/// Reference: 41 µs of CPU for each sector of 1,000 pieces.
fn audit(criterion: &mut Criterion) {
    let auditing = Auditing::new();
    let mut group =
        criterion.benchmark_group("audit 1,024 sectors of 1,000 pieces (reference: 41 CPU-µs a sector)");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(u64::from(Auditing::SECTORS)));
    for pool in pools() {
        let mut slot = 0;
        group.bench_function(BenchmarkId::new("RAM", pool.current_num_threads()), |bencher| {
            bencher.iter(|| {
                pool.install(|| auditing.audit(slot));
                slot += 1;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, plot, prove, audit);
criterion_main!(benches);
