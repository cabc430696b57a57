//! A cache that is asked first and hangs.

use super::{Test, member};
use crate::proxy::{Fault, FaultyProxy};
use crate::world::start_cache;
use cluster::contract::Role;
use cluster::{MemberInfo, Membership};
use farmer::roles::piece_source::directory::CacheKind;
use primitives::Piece;

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_the_owner_is_late_with_come_from_a_full_copy() {
    let test = Test::start().await;
    // It answers the handshake, and ends in the middle of the first piece.
    let (_owner, cache) =
        start_cache(&test.secret, &test.node, CacheKind::Sharded { capacity: 9 }, false).await;
    let proxy = FaultyProxy::start(Fault::Hang, 100_000).await;
    proxy.forward_to(cache.address.port());
    let _member = Membership::join(
        &test.client,
        MemberInfo {
            capacity_bytes: 9 * Piece::SIZE as u64,
            ..member(Role::ShardedCache, proxy.address(), test.node.info().genesis_hash)
        },
    );
    let server = test.start_server(&test.directory.path().join("base"));
    let counted = |name| server.counter(name);
    test.plot_until(&test.offer(0, 2), || counted("pieces_hedges_won") > 0).await;
    assert!(proxy.faults() > 0 && counted("pieces_hedged") >= counted("pieces_hedges_won"));
    server.terminate();
}
