//! A cache whose disk is full: it says so, keeps what it acknowledged, also over a kill, and goes on when there is room.

use super::SOON;
use crate::roles_support::small_disk::SmallDisk;
use crate::roles_support::{RoleProcess, fake_controller, free_address};
use archiving::SrsKind;
use cluster::contract::{CacheState, CacheStatus, CacheStatusRequest, InstanceId};
use cluster::testing::{NatsServer, get_piece};
use cluster::transfer::{ItemType, PieceToPut, PutOutcome, TransferPool};
use cluster::{ClusterClient, ClusterSecret};
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{Piece, PieceIndex};
use std::net::SocketAddr;

/// Behind what a cache puts into one file: it needs another one.
const FAR: u64 = 10_000;

struct Test {
    nats: NatsServer,
    client: ClusterClient,
    secret: ClusterSecret,
    disk: SmallDisk,
    directory: tempfile::TempDir,
    listen: SocketAddr,
    role: &'static str,
}

impl Test {
    async fn start(role: &'static str) -> Self {
        let nats = NatsServer::start();
        let client = nats.client().await;
        let secret = client.shared_secret().await;
        let directory = tempfile::tempdir().unwrap();
        Self { nats, client, secret, disk: SmallDisk::mount(16), directory, listen: free_address(), role }
    }

    /// Says that there is far more room than there is.
    fn start_cache(&self) -> RoleProcess {
        let size = if self.role == "sharded-cache" { ",size=20GiB" } else { "" };
        let path = format!("path={}{size}", self.disk.path().display());
        let arguments = [self.role, &path, "--listen", &self.listen.to_string()];
        let mut cache = self.disk.start_role(self.directory.path(), self.role, &self.nats.url(), &arguments);
        cache.wait_until_ready(SOON);
        cache
    }

    /// A connection of its own each time: the cache is killed now and then.
    fn pool(&self) -> TransferPool {
        TransferPool::new(self.secret.clone(), InstanceId::generate())
    }

    async fn put(&self, index: u64) -> PutOutcome {
        let bytes = piece(index);
        let put = PieceToPut { index: PieceIndex(index), bytes: &bytes, hash: blake3_hash(&bytes) };
        let pool = self.pool();
        let mut connection = pool.get(self.listen).await.unwrap();
        connection.put_pieces(ItemType::Piece, 1, &[put]).await.unwrap().remove(0)
    }

    /// The bytes of a piece, if the cache has it.
    async fn get(&self, index: u64) -> Option<Vec<u8>> {
        let pool = self.pool();
        let mut connection = pool.get(self.listen).await.unwrap();
        get_piece(&mut connection, ItemType::Piece, PieceIndex(index)).await.unwrap()
    }

    async fn status(&self, cache: &RoleProcess) -> CacheStatus {
        self.client.request_instance(cache.instance(), &CacheStatusRequest).await.unwrap()
    }

    /// Every piece below `stored` is there as it was sent, and no other.
    async fn check_contents(&self, cache: &RoleProcess, stored: u64) {
        for index in 0..stored {
            assert!(self.get(index).await.is_some_and(|bytes| bytes == piece(index)), "piece {index}");
        }
        for index in [stored, FAR] {
            assert!(self.get(index).await.is_none(), "piece {index} was refused");
        }
        assert_eq!(self.status(cache).await.pieces, stored);
    }
}

fn piece(index: u64) -> Vec<u8> {
    vectors::xof(&format!("roles/caches/full-disk/{index}"), Piece::SIZE)
}

async fn cache_keeps_what_it_has_and_goes_on(role: &'static str) {
    let test = Test::start(role).await;
    let genesis = GenesisHash([5; 32]);
    let _controller = fake_controller(&test.client, genesis, SrsKind::Development.digest()).await;
    let cache = test.start_cache();

    // It runs full in the middle of a piece.
    let mut stored = 0;
    for _ in 0..3 {
        assert_eq!(test.put(stored).await, PutOutcome::Stored);
        stored += 1;
    }
    test.disk.fill_but(3 * 1024 * 1024 / 2);
    while test.put(stored).await == PutOutcome::Stored {
        stored += 1;
    }
    assert_eq!(stored, 4);
    assert_eq!(test.disk.free(), 0);
    for index in [stored, FAR] {
        assert_eq!(test.put(index).await, PutOutcome::Full);
    }
    let CacheState::ReadOnly { reason } = test.status(&cache).await.state else { panic!("it takes pieces") };
    for said in [reason.as_str(), &cache.log()] {
        assert!(said.contains("the disk is full"), "{said}");
        assert!(said.contains(test.disk.path().to_str().unwrap()), "{said}");
        assert!(said.contains("make room"), "{said}");
    }
    test.check_contents(&cache, stored).await;

    // The same after a kill; it is started on the full disk.
    cache.kill();
    let cache = test.start_cache();
    test.check_contents(&cache, stored).await;
    assert_eq!(test.put(stored).await, PutOutcome::Full);

    test.disk.make_room();
    for index in [stored, FAR] {
        assert_eq!(test.put(index).await, PutOutcome::Stored);
        assert_eq!(test.get(index).await.unwrap(), piece(index));
    }
    let status = test.status(&cache).await;
    assert_eq!((status.state, status.pieces), (CacheState::Ready, stored + 2));
    assert_eq!(status.damaged_pieces, 0);
    cache.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_a_sharded_cache() {
    cache_keeps_what_it_has_and_goes_on("sharded-cache").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_a_full_piece_cache() {
    cache_keeps_what_it_has_and_goes_on("full-piece-sharded-cache").await;
}
