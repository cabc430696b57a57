//! Storing, finding and verifying pieces. The reference's cache has no figure of its own.
#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use piece_store::{FullPieceStore, StoreOptions};
use primitives::hashes::blake3_hash;
use primitives::{Piece, PieceIndex};
use std::hint::black_box;

const PIECES: u64 = 64;

fn stores(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let store = FullPieceStore::open(directory.path(), &StoreOptions::default()).unwrap();
    let piece = vec![5; Piece::SIZE];
    let hash = blake3_hash(&piece);
    for index in 0..PIECES {
        store.put(PieceIndex(index), &piece).unwrap();
    }
    let mut group = criterion.benchmark_group("piece store");
    group.sample_size(20).throughput(Throughput::Bytes(Piece::SIZE as u64));
    group.bench_function("put a piece whose hash is known", |bencher| {
        bencher.iter_batched(
            || store.remove(PieceIndex(0)).unwrap(),
            |_| store.put_hashed(PieceIndex(0), &piece, hash).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("verify a piece in the page cache", |bencher| {
        bencher.iter(|| store.verify(PieceIndex(1)));
    });
    group.finish();
    criterion.bench_function("piece store/find a piece", |bencher| {
        let mut index = 0;
        bencher.iter(|| {
            index = (index + 1) % PIECES;
            black_box(store.get(PieceIndex(index)).unwrap())
        });
    });
}

criterion_group!(benches, stores);
criterion_main!(benches);
