//! Where a plot-server finds pieces: at the shard's owner, in full copies, by reconstruction, before it asks a controller.

use super::small_farm::LONG;
use crate::fetch::fetch_sector;
use crate::fixtures::archive;
use crate::roles_support::{RoleProcess, free_address};
use crate::world::{Controller, Node, development_kzg};
use cluster::ClusterSecret;
use cluster::contract::{FarmId, InstanceId, OfferReply, OfferRequest};
use cluster::testing::NatsServer;
use cluster::transfer::{ItemType, PieceToPut, PutOutcome, TransferPool};
use farming::encoding::{SectorEncoder, SectorPlan};
use primitives::hashes::blake3_hash;
use primitives::{PieceIndex, PublicKey, SectorIndex, SegmentIndex};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;

const PIECES_IN_SECTOR: u16 = 2;
const FARM: PublicKey = PublicKey([9; 32]);
/// Pieces of the segment in the full copy: some more than are needed for a reconstruction.
const IN_FULL_COPY: usize = SegmentIndex::NUM_RAW_RECORDS + 4;

fn plan(node: &Node, sector_index: SectorIndex) -> SectorPlan {
    SectorPlan::new(FARM, sector_index, PIECES_IN_SECTOR, node.info().protocol_info).unwrap()
}

/// The sector's bytes, encoded here from the archiver's own pieces.
fn expected_bytes(node: &Node, sector_index: SectorIndex) -> Vec<u8> {
    let plan = plan(node, sector_index);
    let source = |offset| Ok(node.segments[0].pieces[plan.piece_index(offset).position()].clone().into());
    let never = AtomicBool::new(false);
    SectorEncoder::cpu(1).encode(&plan, &source, &|_| {}, &never).unwrap().to_bytes()
}

/// Two sectors with four different pieces.
fn sectors(node: &Node) -> [SectorIndex; 2] {
    let pieces = |sector_index| plan(node, sector_index).piece_indexes();
    let second = (1..1000)
        .find(|second| pieces(0).into_iter().chain(pieces(*second)).collect::<BTreeSet<_>>().len() == 4);
    [0, second.unwrap()]
}

struct Cache {
    role: RoleProcess,
    address: SocketAddr,
}

impl Cache {
    fn start(directory: &Path, nats: &NatsServer, role: &str, path: &str) -> Self {
        let address = free_address();
        let arguments =
            [role, path, "--listen", &address.to_string(), "--advertise", "127.0.0.1"].map(str::to_owned);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut role = RoleProcess::start(directory, role, &nats.url(), &arguments);
        role.wait_until_ready(LONG);
        Self { role, address }
    }

    async fn put(&self, secret: &ClusterSecret, node: &Node, indices: &[PieceIndex]) {
        let pieces = &node.segments[0].pieces;
        let to_put: Vec<_> = indices
            .iter()
            .map(|index| {
                let bytes = pieces[index.position()].as_ref();
                PieceToPut { index: *index, bytes, hash: blake3_hash(bytes) }
            })
            .collect();
        let pool = TransferPool::new(secret.clone(), InstanceId::generate());
        let mut connection = pool.get(self.address).await.unwrap();
        let outcomes = connection.put_pieces(ItemType::Piece, 0, &to_put).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == PutOutcome::Stored), "{outcomes:?}");
        assert_eq!(self.role.counter("pieces_cached"), indices.len() as i64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_that_no_cache_has_is_recovered_from_others_of_its_segment() {
    let (kzg, _) = development_kzg();
    let node = Node::new(archive(&kzg, 1), PIECES_IN_SECTOR);
    let nats = NatsServer::start();
    // It gives no pieces, and notes who asks.
    let _controller = Controller::start(&nats, &node).await;
    let client = nats.client().await;
    let secret = client.shared_secret().await;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| format!("path={}", directory.path().join(name).display());

    // One piece of the second sector is at the shard's owner alone, the other one nowhere.
    let [cached_sector, sector] = sectors(&node);
    let [owned, lost] = plan(&node, sector).piece_indexes()[..] else { panic!("two pieces") };
    let shard =
        Cache::start(directory.path(), &nats, "sharded-cache", &format!("{},size=100MiB", path("shard")));
    shard.put(&secret, &node, &[owned]).await;
    let mut copied = plan(&node, cached_sector).piece_indexes();
    let others = SegmentIndex(0).piece_indices().filter(|index| *index != owned && *index != lost);
    let others: Vec<_> = others.filter(|index| !copied.contains(index)).collect();
    copied.extend(others);
    copied.truncate(IN_FULL_COPY);
    let full = Cache::start(directory.path(), &nats, "full-piece-sharded-cache", &path("full"));
    full.put(&secret, &node, &copied).await;

    let (spool, port) = (directory.path().join("plot-server"), free_address().port().to_string());
    let arguments =
        ["plot-server", spool.to_str().unwrap(), "--listen-port", &port, "--advertise", "127.0.0.1"];
    let mut server = RoleProcess::start(directory.path(), "plot-server", &nats.url(), &arguments);
    server.wait_until_ready(LONG);
    let plot = async |sector_index| {
        let offer = OfferRequest {
            public_key: FARM,
            farm_id: FarmId(1),
            sector_index,
            protocol_info: node.info().protocol_info,
            pieces_in_sector: PIECES_IN_SECTOR,
        };
        let lease = match client.request(&offer).await.unwrap() {
            OfferReply::Lease(lease) => lease,
            busy @ OfferReply::Busy { .. } => panic!("{busy:?}"),
        };
        tokio::time::timeout(LONG, fetch_sector(&secret, &lease)).await.unwrap()
    };

    // From the full copy, which the server may come to know only after it was ready.
    assert!(plot(cached_sector).await == expected_bytes(&node, cached_sector), "another sector");
    assert!(full.role.counter("pieces_served") >= i64::from(PIECES_IN_SECTOR));
    assert_eq!(shard.role.counter("pieces_served"), 0);
    assert!(!server.log().contains("Recovering"), "{}", server.log());

    node.pieces_asked.lock().clear();
    assert!(plot(sector).await == expected_bytes(&node, sector), "another sector");
    assert!(shard.role.counter("pieces_served") >= 1);
    assert!(server.log().contains("Recovering missing pieces of a segment"), "{}", server.log());
    assert_eq!(*node.pieces_asked.lock(), [], "the controller is the last to be asked");
    for role in [server, shard.role, full.role] {
        role.terminate();
    }
}
