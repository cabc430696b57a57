//! Stores of any size on a small disk: all their pieces are holes.

use cluster::ClusterSecret;
use cluster::contract::InstanceId;
use cluster::transfer::{Connection, FetchOutcome, ItemType, PieceSource, PieceWanted};
use cluster::transfer::{ServerOptions, TransferServer};
use farmer::roles::cache::contents::CacheContents;
use farmer::roles::cache::store::Store;
use farmer::status::Status;
use piece_store::{FullPieceStore, ItemKind, StoreOptions};
use primitives::PieceIndex;
use primitives::hashes::blake3_hash;
use rustix::fs::FallocateFlags;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pieces that are asked for at once, as a plot-server does.
pub const BATCH: usize = 64;

pub fn open(path: &Path, items: ItemKind) -> FullPieceStore {
    FullPieceStore::open(path, &StoreOptions { items, ..StoreOptions::default() }).unwrap()
}

/// A store of `pieces` items of zeroes that take no room on the disk.
pub fn make(path: &Path, pieces: u64, items: ItemKind) {
    let store = open(path, items);
    let zeroes = vec![0; items.size()];
    let hash = blake3_hash(&zeroes);
    let page = 4096;
    for index in (0..pieces).map(PieceIndex) {
        store.put_hashed(index, &zeroes, hash).unwrap();
        let piece = store.get(index).unwrap();
        let (file, offset) = piece.file_region();
        let (begin, end) = (offset.next_multiple_of(page), (offset + items.size() as u64) / page * page);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, flags, begin, end - begin).unwrap();
    }
    store.flush().unwrap();
}

/// A cache's own store behind a cache's own server, in this process.
pub async fn serve(store: &FullPieceStore, secret: &ClusterSecret) -> TransferServer {
    let status = Status::new("full-piece-sharded-cache", "bench".into());
    let contents = Arc::new(CacheContents::new(Store::Full(store.clone()), &status, Box::new(|_| None)));
    let options = ServerOptions {
        pieces: Some(contents as Arc<dyn PieceSource>),
        ..ServerOptions::new(secret.clone(), InstanceId::generate())
    };
    TransferServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), options).await.unwrap()
}

/// Where pieces are read to, again and again.
pub struct Buffers {
    item: ItemType,
    buffers: Vec<Vec<u8>>,
}

impl Buffers {
    pub fn new(item: ItemType) -> Self {
        Self { item, buffers: vec![vec![0; item.size()]; BATCH] }
    }

    /// Fetches all pieces, batch after batch, and checks that they came.
    pub async fn fetch(&mut self, connection: &mut Connection, indices: &[PieceIndex]) -> Duration {
        let begin = Instant::now();
        for batch in indices.chunks(BATCH) {
            let buffers = self.buffers.iter_mut();
            let mut wanted: Vec<_> =
                batch.iter().zip(buffers).map(|(index, buffer)| PieceWanted::new(*index, buffer)).collect();
            connection.get_pieces(self.item, &mut wanted).await.unwrap();
            assert!(wanted.iter().all(|wanted| matches!(wanted.outcome, Some(FetchOutcome::Found(_)))));
        }
        begin.elapsed()
    }
}
