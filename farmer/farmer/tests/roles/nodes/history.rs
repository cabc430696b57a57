//! A cluster whose controllers were away while the chain went on: what no cache holds and no node serves is archived again.

use super::node_proxy::NodeProxy;
use super::small_farm::{LONG, controller};
use crate::fixtures;
use crate::roles_support::{RoleProcess, free_address};
use cluster::testing::NatsServer;
use dev_node::{Config, DevNode};
use node::{NodeClient, Options};
use piece_store::{Capacity, FullPieceStore, ShardedPieceStore, StoreOptions};
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, PieceIndex, SegmentHeader, SegmentIndex};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The node serves the oldest and the newest; the two between are in its blocks alone.
const SEGMENTS: u64 = fixtures::LONG_CHAIN + 1;
const LOST: i64 = 2;
const PIECES: i64 = (SEGMENTS as usize * SegmentIndex::NUM_PIECES) as i64;

/// A chain that went on without any farmer, and the hashes of all pieces that its node ever served, taken while it did.
async fn history_of_its_own(data: &Path) -> (DevNode, Vec<SegmentHeader>, BTreeMap<PieceIndex, Blake3Hash>) {
    fixtures::long_chain(data).await;
    let config = fixtures::long_chain_config(data.to_owned());
    let node = DevNode::start(Config { archive_ahead: SEGMENTS, ..config }).await.unwrap();
    let client = NodeClient::new(&format!("ws://{}", node.address()), Options::default()).unwrap();
    let mut announced = client.subscribe_archived_segment_headers();
    let newest = tokio::time::timeout(LONG, announced.next_item()).await.unwrap().unwrap();
    assert_eq!(newest.segment_index(), SegmentIndex(SEGMENTS - 1));
    client.acknowledge_segment_header(newest.segment_index()).await.unwrap();
    let mut pieces = fixtures::long_chain_pieces();
    for segment in [SegmentIndex(0), newest.segment_index()] {
        for index in segment.piece_indices() {
            let piece = client.piece(index).await.unwrap().expect("the first and the newest are served");
            pieces.insert(index, blake3_hash(piece.as_bytes()));
        }
    }
    for segment in 1..SEGMENTS - 1 {
        assert_eq!(client.piece(SegmentIndex(segment).first_piece_index()).await.unwrap(), None);
    }
    assert_eq!(pieces.len() as i64, PIECES);
    let headers = client.segment_headers_from(SegmentIndex(0)).await.unwrap();
    (node, headers, pieces)
}

fn counts(name: &'static str, wanted: i64) -> impl Fn(&Value) -> bool {
    move |status| status["counters"][name] == wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_nobody_serves_is_archived_again() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path();
    let (node, headers, pieces) = history_of_its_own(&path.join("chain")).await;
    let proxy = NodeProxy::start(node.address(), true).await;
    let nats = NatsServer::start();
    let stores = ["full", "sharded"].map(|name| path.join(name));
    let cache = |role: &str, store: &Path, more: &str| {
        let (store, listen) = (format!("path={}{more}", store.display()), free_address().to_string());
        RoleProcess::start(path, role, &nats.url(), &[role, "--tmp", &store, "--listen", &listen])
    };
    let mut caches =
        [cache("full-piece-sharded-cache", &stores[0], ""), cache("sharded-cache", &stores[1], ",size=3GiB")];

    // The node has pruned what the first of the two segments begins with.
    let first_block = headers[1].last_archived_block().number;
    proxy.prune_before(first_block);
    let mut first = controller(path, "first", &nats.url(), &proxy);
    first.wait_for("what can be archived is", LONG, counts("segments_archived_again", LOST - 1));
    assert_eq!(first.counter("segments_to_archive_again"), 1, "the other one is not forgotten");
    let log = first.log();
    let refused = log.lines().find(|line| line.contains("cannot be archived again")).unwrap_or_default();
    let words =
        [&proxy.url(), "no longer has block", "which segment 1", "--blocks-pruning archive-canonical"];
    for word in words.into_iter().chain(["autonomys-export-piece", "possible_from=2"]) {
        assert!(refused.contains(word), "{word:?} is not said:\n{log}");
    }
    let had = PIECES - SegmentIndex::NUM_PIECES as i64;
    caches.iter_mut().for_each(|cache| {
        cache.wait_for("all but one segment", LONG, counts("pieces_cached", had));
    });

    // The leader is killed; another one, whose node has the blocks, makes what is left and nothing else.
    first.kill();
    proxy.prune_before(0);
    let mut second = controller(path, "second", &nats.url(), &proxy);
    caches.iter_mut().for_each(|cache| {
        cache.wait_for("everything", LONG, counts("pieces_cached", PIECES));
    });
    second.wait_for("nothing is left", LONG, counts("segments_to_archive_again", 0));
    assert_eq!(second.counter("segments_archived_again"), 1);
    assert_eq!(second.counter("pieces_missing"), 0);

    [second].into_iter().chain(caches).for_each(RoleProcess::terminate);
    let full = FullPieceStore::open(&stores[0], &StoreOptions::default()).unwrap();
    let sharded =
        ShardedPieceStore::open(&stores[1], &StoreOptions::default(), Capacity::Bytes(3 << 30)).unwrap();
    for (&index, hash) in &pieces {
        assert_eq!(blake3_hash(&full.get(index).unwrap()), *hash, "{index}");
        assert_eq!(blake3_hash(&sharded.get(index).unwrap()), *hash, "{index}");
    }
    node.shutdown().await.unwrap();
}
