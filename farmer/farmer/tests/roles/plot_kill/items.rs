//! Sectors from caches that hold pieces with their parity.

use super::{SOON, Test, member};
use crate::roles_support::{RoleProcess, free_address};
use crate::world::start_cache;
use archiving::archiver::ArchivedSegment;
use cluster::contract::{InstanceId, Role};
use cluster::membership::HeldItems;
use cluster::transfer::{Connection, ItemType, PieceToPut, PutOutcome};
use cluster::{MemberInfo, Membership};
use farmer::roles::piece_source::directory::CacheKind;
use farming::encoding::SectorPlan;
use primitives::hashes::blake3_hash;
use primitives::{Piece, PieceIndex};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

const PIECES: u16 = 6;

/// Puts pieces as the leading controller does.
async fn fill(test: &Test, cache: SocketAddr, segment: &ArchivedSegment, indices: &BTreeSet<PieceIndex>) {
    let mut connection = Connection::open(cache, &test.secret, InstanceId::generate()).await.unwrap();
    let put = |index: &PieceIndex| {
        let bytes = segment.pieces[index.position()].as_ref();
        PieceToPut { index: *index, bytes, hash: blake3_hash(bytes) }
    };
    let pieces: Vec<_> = indices.iter().map(put).collect();
    let outcomes = connection.put_pieces(ItemType::Piece, 1, &pieces).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == PutOutcome::Stored), "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sector_from_a_split_parity_cache_is_the_one_from_plain_pieces() {
    let test = Test::without_caches().await;
    let offer = test.offer(0, PIECES);
    let plan = SectorPlan::new(offer.public_key, 0, PIECES, offer.protocol_info).unwrap();
    let indices: BTreeSet<PieceIndex> = plan.piece_indexes().into_iter().collect();
    let segment = &test.node.segments[0];

    let (directory, listen) = (test.directory.path(), free_address());
    let (path, listen_text) = (format!("path={}", directory.join("cache").display()), listen.to_string());
    let plain = ["full-piece-sharded-cache", "--tmp", &path, "--listen", &listen_text];
    let split = [&plain[..], &["--cache-item-type", "split-parity-piece"]].concat();
    let mut cache = RoleProcess::start(directory, "cache", &test.nats.url(), &split);
    cache.wait_until_ready(SOON);
    fill(&test, listen, segment, &indices).await;

    // The owner of all pieces, asked first, gives good pieces with wrong parity.
    let (liar, lying) = start_cache(&test.secret, &test.node, CacheKind::Sharded { capacity: 9 }, true).await;
    let _member = Membership::join(
        &test.client,
        MemberInfo {
            capacity_bytes: 9 * Piece::SIZE as u64,
            holds: HeldItems(ItemType::SplitParityPiece),
            ..member(Role::ShardedCache, lying.address, test.node.info().genesis_hash)
        },
    );

    let server = test.start_server(&directory.join("base"));
    let rejected = || server.log().matches("its parity chunks are not those of its record").count();
    test.plot_until(&offer, || rejected() >= indices.len()).await;
    assert!(liar.counters().pieces_sent.load(Ordering::Relaxed) >= indices.len() as u64);
    let served = cache.counter("bytes_served");
    assert_eq!((served > 0, served % ItemType::SplitParityPiece.size() as i64), (true, 0));
    server.terminate();
    cache.terminate();

    // Who forgets what the store holds is told.
    let cache = RoleProcess::start(directory, "forgetful", &test.nats.url(), &plain);
    cache.fails_with(78, &["holds items of kind split-parity-piece", "--cache-item-type split-parity-piece"]);
}
