//! The cases of farming beside the reference's figures, which were measured on 2 vCPU Intel Xeon (AVX-512, virtual).
//!
//! Each case runs in a pool of one thread, where wall time is CPU time, and in one of all threads. The audit holds four
//! sectors of 1,000 pieces: 4.3 GB of memory.
#![allow(clippy::unwrap_used, missing_docs)]

use archiving::{Kzg, Srs};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farming::audit::{AuditScratch, audit_plot, audit_sector};
use farming::encoding::{EncodedSector, PieceInput, SectorEncoder, SectorPlan};
use farming::io::{PlotReader, ReadAt};
use farming::plot::SectorState;
use farming::proving::{CpuProver, ProofTarget, Prover, prepare_proof_request, provable_chunks};
use farming::sector::RecordChunksMode;
use primitives::sectors::SectorMetadata;
use primitives::{
    Blake3Hash, FarmerProtocolInfo, HistorySize, Piece, PieceOffset, PublicKey, SectorGeometry, Solution,
};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const PUBLIC_KEY: PublicKey = PublicKey([0x11; 32]);

fn piece(index: u16) -> Piece {
    let mut piece = Piece::zeroed();
    let bytes = vectors::xof(&format!("bench/record/{index}"), 31 * 32768);
    for (chunk, bytes) in piece.record_chunks_mut().iter_mut().zip(bytes.as_chunks::<31>().0) {
        chunk[1..].copy_from_slice(bytes);
    }
    piece
}

fn plan(pieces: u16) -> SectorPlan {
    let size = |segments| HistorySize::new(segments).unwrap();
    let info = FarmerProtocolInfo {
        history_size: size(1),
        max_pieces_in_sector: pieces,
        recent_segments: size(5),
        recent_history_fraction: (size(1), size(10)),
        min_sector_lifetime: size(4),
    };
    SectorPlan::new(PUBLIC_KEY, 0, pieces, info).unwrap()
}

fn encode(encoder: &mut SectorEncoder, plan: &SectorPlan, pieces: &[Piece]) -> EncodedSector {
    let source = |offset: PieceOffset| Ok(PieceInput::Piece(pieces[usize::from(offset.0)].clone()));
    encoder.encode(plan, &source, &|_| {}, &AtomicBool::new(false)).unwrap()
}

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
            let (plan, pieces) = (plan(count), (0..count).map(piece).collect::<Vec<_>>());
            let mut sector = Vec::with_capacity(plan.geometry().sector_size());
            group.throughput(Throughput::Elements(u64::from(count)));
            group.bench_function(BenchmarkId::new(format!("{count} pieces"), threads), |bencher| {
                bencher.iter(|| {
                    sector.clear();
                    pool.install(|| encode(&mut encoder, &plan, &pieces).write_to(&mut sector)).unwrap();
                    black_box(&sector);
                });
            });
        }
    }
    group.finish();
}

/// A winning challenge of this sector.
fn challenge(plot: &impl ReadAt, state: &Arc<SectorState>) -> Blake3Hash {
    (0u32..)
        .map(|i| Blake3Hash(vectors::xof(&format!("bench/challenge/{i}"), 32).try_into().unwrap()))
        .find(|challenge| {
            audit_sector(plot, state, challenge, u64::MAX, &mut AuditScratch::default()).unwrap().is_some()
        })
        .unwrap()
}

fn solve(
    plot: &impl ReadAt,
    state: &Arc<SectorState>,
    challenge: &Blake3Hash,
    prover: &CpuProver,
) -> Solution {
    let found =
        audit_sector(plot, state, challenge, u64::MAX, &mut AuditScratch::default()).unwrap().unwrap();
    let provable = provable_chunks(plot, &found).unwrap();
    let target = ProofTarget {
        slot_number: 1,
        global_challenge: *challenge,
        public_key: PUBLIC_KEY,
        reward_address: PUBLIC_KEY,
    };
    let mode = RecordChunksMode::ConcurrentChunks;
    prover.prove(&prepare_proof_request(plot, &provable[0], &target, mode).unwrap()).unwrap()
}

/// Reference: 2.6–2.7 s of CPU, 1.92–1.96 s wall on two threads.
fn prove(criterion: &mut Criterion) {
    let plan = plan(4);
    let pieces: Vec<_> = (0..4).map(piece).collect();
    let encoded = encode(&mut SectorEncoder::cpu(2), &plan, &pieces);
    let state = Arc::new(SectorState::from_metadata(&PUBLIC_KEY, encoded.metadata()).unwrap());
    let ram = encoded.to_bytes();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("plot.bin");
    std::fs::write(&path, &ram).unwrap();
    let file = PlotReader::open_buffered(&path).unwrap();
    let challenge = challenge(&ram, &state);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let prover = CpuProver::new(Kzg::new(Srs::development(cache).unwrap()));
    let mut group = criterion.benchmark_group("audit and first solution, 4 pieces (reference: 2.65 CPU-s)");
    group.sample_size(10);
    for pool in pools() {
        let threads = pool.current_num_threads();
        group.bench_function(BenchmarkId::new("RAM", threads), |bencher| {
            bencher.iter(|| pool.install(|| solve(&ram, &state, &challenge, &prover)));
        });
        group.bench_function(BenchmarkId::new("file in page cache", threads), |bencher| {
            bencher.iter(|| pool.install(|| solve(&file, &state, &challenge, &prover)));
        });
    }
    group.finish();
}

/// Reference: 41 µs of CPU for each sector of 1,000 pieces.
fn audit(criterion: &mut Criterion) {
    const SECTORS: u16 = 1024;
    const DISTINCT: u64 = 4;
    let size = SectorGeometry::new(1000).sector_size() as u64;
    let mut plot = vec![0; (size * DISTINCT) as usize];
    for (index, sector) in plot.chunks_mut(size as usize).enumerate() {
        vectors::xof_into(&format!("bench/sector/{index}"), sector);
    }
    let mut metadata = SectorMetadata::dummy(0, 1000);
    metadata.s_bucket_sizes.fill(500);
    let states: Vec<_> = (0..SECTORS)
        .map(|sector_index| {
            metadata.sector_index = sector_index;
            let mut state = SectorState::from_metadata(&PUBLIC_KEY, &metadata).unwrap();
            state.plot_offset = size * (u64::from(sector_index) % DISTINCT);
            Some(Arc::new(state))
        })
        .collect();
    let challenges: Vec<_> = (0..20)
        .map(|i| Blake3Hash(vectors::xof(&format!("bench/slot/{i}"), 32).try_into().unwrap()))
        .collect();
    let mut group =
        criterion.benchmark_group("audit 1,024 sectors of 1,000 pieces (reference: 41 CPU-µs a sector)");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(u64::from(SECTORS)));
    for pool in pools() {
        let mut slots = challenges.iter().cycle();
        group.bench_function(BenchmarkId::new("RAM", pool.current_num_threads()), |bencher| {
            bencher.iter(|| {
                let slot = slots.next().unwrap();
                let outcome = pool.install(|| audit_plot(&plot, Path::new("RAM"), &states, slot, 1));
                assert!(outcome.candidates.is_empty() && outcome.errors.is_empty());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, plot, prove, audit);
criterion_main!(benches);
