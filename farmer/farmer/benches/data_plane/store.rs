//! Stores of any size on a small disk: all their pieces are holes.

use cluster::ClusterSecret;
use cluster::contract::InstanceId;
use cluster::transfer::{Connection, FetchOutcome, ItemType, PieceSource};
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
    pub fn new(item: ItemType, count: usize) -> Self {
        Self { item, buffers: vec![vec![0; item.size()]; count] }
    }

    /// Fetches all pieces and checks that they came.
    pub async fn fetch(&mut self, connection: &mut Connection, indices: &[PieceIndex]) -> Duration {
        let begin = Instant::now();
        let mut pieces = connection.fetch_pieces(self.item, indices);
        let mut found = 0;
        let count = self.buffers.len();
        while let Some((_, outcome)) = pieces.next(&mut self.buffers[found % count]).await.unwrap() {
            assert!(matches!(outcome, FetchOutcome::Found(_)), "{outcome:?}");
            found += 1;
        }
        assert_eq!(found, indices.len());
        begin.elapsed()
    }
}
