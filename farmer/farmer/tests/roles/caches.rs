//! Controllers and caches on a real chain: filled from the node's memory and from its blocks, served, kept over kills,
//! repaired; a new segment is stored before it is acknowledged. One test, since each part needs the ones before; full disks,
//! which need no chain, have their own.

mod full_disk;

use crate::fixtures;
use crate::roles_support::{RoleProcess, free_address, srs_cache, util};
use archiving::{Kzg, PieceToVerify, Srs, verify_pieces};
use cluster::contract::{InstanceId, PieceRequest, Role, SegmentHeadersRequest};
use cluster::testing::{NatsServer, get_pieces};
use cluster::transfer::{FetchOutcome, ItemType, TransferPool};
use cluster::{ClusterClient, MemberInfo, Membership};
use dev_node::{Config, DevNode};
use primitives::rpc::GenesisHash;
use primitives::{Piece, PieceIndex, SegmentHeader, SegmentIndex};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine with other work to do archives a segment in minutes.
const LONG: Duration = Duration::from_secs(400);
const SOON: Duration = Duration::from_secs(40);
/// Segments that exist before any cache: the oldest and the newest are in the node's memory, the middle one in its blocks.
const SEGMENTS_BEFORE: u64 = fixtures::LONG_CHAIN;
const PIECES: i64 = SegmentIndex::NUM_PIECES as i64;

struct Chain {
    directory: tempfile::TempDir,
    nats: NatsServer,
    node: DevNode,
    client: ClusterClient,
    kzg: Kzg,
}

impl Chain {
    async fn start() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let data = directory.path().join("chain");
        fixtures::long_chain(&data).await;
        // A block is made every three seconds.
        let config = Config { slot_ms: 500, ..fixtures::long_chain_config(data) };
        let node = DevNode::start(config).await.unwrap();
        let kzg = Kzg::new(Srs::development(&srs_cache()).unwrap());
        let nats = NatsServer::start();
        let client = nats.client().await;
        Self { directory, nats, node, client, kzg }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn role(&self, name: &str, arguments: &[&str]) -> RoleProcess {
        RoleProcess::start(self.path(), name, &self.nats.url(), arguments)
    }

    fn controller(&self, name: &str) -> RoleProcess {
        let node = format!("ws://{}", self.node.address());
        self.role(name, &["controller", "--tmp", "--node-rpc-url", &node])
    }

    fn segments(&self) -> u64 {
        self.node.stats().segments.archived
    }

    async fn header(&self, segment: SegmentIndex) -> SegmentHeader {
        let headers = self.client.request(&SegmentHeadersRequest { indices: vec![segment] }).await.unwrap();
        headers[0].unwrap()
    }

    /// Fetches pieces and checks them against the chain's commitments.
    async fn check_pieces(&self, pool: &TransferPool, from: SocketAddr, indices: &[PieceIndex]) {
        let mut connection = pool.get(from).await.unwrap();
        let (got, result) = get_pieces(&mut connection, ItemType::Piece, indices).await;
        result.unwrap();
        let pieces = indices.iter().map(|index| {
            let (outcome, bytes) = &got[index];
            assert!(matches!(outcome, FetchOutcome::Found(_)), "{index}: {outcome:?}");
            Piece::try_from(bytes.clone()).unwrap()
        });
        let pieces: Vec<Piece> = pieces.collect();
        let mut to_verify = Vec::new();
        for (piece, index) in pieces.iter().zip(indices) {
            let segment_commitment = self.header(index.segment_index()).await.segment_commitment();
            to_verify.push(PieceToVerify { piece, segment_commitment, position: index.position() });
        }
        assert!(verify_pieces(&self.kzg, &to_verify).iter().all(Result::is_ok));
    }
}

struct Cache {
    name: &'static str,
    role: &'static str,
    listen: SocketAddr,
    path: PathBuf,
    tmp: bool,
}

impl Cache {
    fn new(chain: &Chain, name: &'static str, role: &'static str, tmp: bool) -> Self {
        Self { name, role, listen: free_address(), path: chain.path().join(name), tmp }
    }

    fn start(&self, chain: &Chain) -> RoleProcess {
        let size = if self.role == "sharded-cache" { ",size=3GiB" } else { "" };
        let path = format!("path={}{size}", self.path.display());
        let listen = self.listen.to_string();
        let mut arguments = vec![self.role, &path, "--listen", &listen];
        if self.tmp {
            arguments.push("--tmp");
        }
        chain.role(self.name, &arguments)
    }
}

fn cached(at_least: i64) -> impl Fn(&serde_json::Value) -> bool {
    move |status| status["counters"]["pieces_cached"].as_i64().is_some_and(|pieces| pieces >= at_least)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_filled_kept_and_repaired_whoever_leads() {
    let chain = Chain::start().await;
    let caches = [
        Cache::new(&chain, "full", "full-piece-sharded-cache", true),
        Cache::new(&chain, "one", "sharded-cache", false),
        Cache::new(&chain, "two", "sharded-cache", false),
    ];
    let mut controllers = vec![chain.controller("controller-a")];
    controllers[0].wait_until_ready(LONG);
    wait_for_segments(&chain, SEGMENTS_BEFORE).await;
    let mut running: Vec<RoleProcess> = caches.iter().map(|cache| cache.start(&chain)).collect();
    running.iter_mut().for_each(|cache| cache.wait_until_ready(SOON));

    late_caches_get_all_history(&chain, &caches, &mut running).await;
    controllers.push(chain.controller("controller-b"));
    new_leader_stores_new_segments(&chain, &mut controllers, &mut running).await;
    caches_keep_their_pieces_over_a_kill(&chain, &caches, &mut running);
    damaged_pieces_are_found_and_sent_again(&chain, &caches, &mut running);
    utilities_find_everything_in_order(&chain, &caches);
    another_chain_is_refused(&chain).await;

    let output = util(&chain.nats.url(), &["ready", "all"]);
    assert!(output.status.success(), "{output:?}");
    running.into_iter().chain(controllers).for_each(RoleProcess::terminate);
    chain.node.shutdown().await.unwrap();
}

async fn wait_for_segments(chain: &Chain, segments: u64) {
    let waiting = async {
        while chain.segments() < segments {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

/// Caches that come after the history get it from the node's memory, its blocks, and each other.
async fn late_caches_get_all_history(chain: &Chain, caches: &[Cache], running: &mut [RoleProcess]) {
    let all = SEGMENTS_BEFORE as i64 * PIECES;
    running[0].wait_for("the full cache is filled", LONG, cached(all));
    let deadline = std::time::Instant::now() + SOON;
    while running[1].counter("pieces_cached") + running[2].counter("pieces_cached") < all {
        assert!(std::time::Instant::now() < deadline, "the sharded caches are not filled");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for cache in &running[1..] {
        let pieces = cache.counter("pieces_cached");
        assert!(pieces > all / 4, "shares follow capacity: {pieces} of {all}");
    }

    let pool = TransferPool::new(chain.client.shared_secret().await, InstanceId::generate());
    for segment in (0..SEGMENTS_BEFORE).map(SegmentIndex) {
        let indices: Vec<PieceIndex> = segment.piece_indices().collect();
        chain.check_pieces(&pool, caches[0].listen, &indices).await;
    }
    // Every piece is at the member that the shard map says.
    let observer = Membership::observe(&chain.client);
    let mut members = observer.watch();
    let seen = members.wait_for(|members| members.of(Role::ShardedCache).count() == 2);
    let map = tokio::time::timeout(SOON, seen).await.unwrap().unwrap().shard_map();
    let instances: Vec<InstanceId> = running[1..].iter().map(RoleProcess::instance).collect();
    for (instance, cache) in instances.iter().zip(&caches[1..]) {
        let own: Vec<PieceIndex> =
            (0..all as u64).map(PieceIndex).filter(|piece| map.owner(*piece) == Some(*instance)).collect();
        chain.check_pieces(&pool, cache.listen, &own[..40]).await;
    }
    // The last resort of a plot-server: what the node still has in memory.
    let index = SegmentIndex(chain.segments() - 1).first_piece_index();
    let piece = chain
        .client
        .request(&PieceRequest { index })
        .await
        .unwrap()
        .expect("the node has its newest segment");
    let segment_commitment = chain.header(index.segment_index()).await.segment_commitment();
    archiving::verify_piece(&chain.kzg, &piece, &segment_commitment, 0).unwrap();
}

/// The leader is killed; another takes over and stores the next segment before it is acknowledged.
async fn new_leader_stores_new_segments(
    chain: &Chain,
    controllers: &mut Vec<RoleProcess>,
    running: &mut [RoleProcess],
) {
    controllers[1].wait_until_ready(SOON);
    assert_eq!((controllers[0].counter("leads"), controllers[1].counter("leads")), (1, 0));
    controllers.remove(0).kill();
    controllers[0].wait_for("the other leads", SOON, |status| status["counters"]["leads"] == 1);
    let next = chain.segments() + 1;
    wait_for_segments(chain, next).await;
    running[0].wait_for("the next segment is stored", LONG, cached(next as i64 * PIECES));
    let deadline = std::time::Instant::now() + SOON;
    while !controllers[0].log().contains("Acknowledged a segment") {
        assert!(std::time::Instant::now() < deadline, "{}", controllers[0].log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A killed cache comes back with what it had; `--tmp` changes its identity and nothing else.
fn caches_keep_their_pieces_over_a_kill(chain: &Chain, caches: &[Cache], running: &mut Vec<RoleProcess>) {
    for (position, cache) in caches.iter().enumerate().take(2) {
        let (instance, pieces) = (running[position].instance(), running[position].counter("pieces_cached"));
        running.remove(position).kill();
        running.insert(position, cache.start(chain));
        running[position].wait_until_ready(SOON);
        let status = running[position].wait_for("holds what it held", SOON, cached(pieces));
        assert_eq!(cache.tmp, running[position].instance() != instance);
        assert_eq!(
            status["counters"]["pieces_stored"].as_i64().filter(|stored| *stored >= PIECES),
            None,
            "{status}"
        );
    }
}

/// A bit that flips on the disk is found by the reinitialisation, and the piece comes back.
fn damaged_pieces_are_found_and_sent_again(chain: &Chain, caches: &[Cache], running: &mut [RoleProcess]) {
    let pieces = running[1].counter("pieces_cached");
    let extent = caches[1].path.join("extent-00000000.bin");
    let file = std::fs::File::options().read(true).write(true).open(&extent).unwrap();
    // Data of the first slots stands behind the table; damage some that are surely taken.
    let length = file.metadata().unwrap().len();
    let data = length - 4096 * Piece::SIZE as u64;
    for slot in [0_u64, 7] {
        let offset = data + slot * Piece::SIZE as u64 + 1000;
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, offset).unwrap();
        byte[0] ^= 1;
        std::os::unix::fs::FileExt::write_all_at(&file, &byte, offset).unwrap();
    }
    let output = util(&chain.nats.url(), &["reinitialization-cache", "--delay", "1"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("sharded-cache"), "{output:?}");
    running[1].wait_for("finds the damage", SOON, |status| status["counters"]["pieces_damaged"] == 2);
    running[1].wait_for("is filled again", LONG, cached(pieces));
}

/// What caches hold is the chain's, by its node and by its controllers, and is had as fast as they give it.
fn utilities_find_everything_in_order(chain: &Chain, caches: &[Cache]) {
    let (node, srs) = (format!("ws://{}", chain.node.address()), srs_cache());
    let stores: Vec<&str> = caches.iter().map(|cache| cache.path.to_str().unwrap()).collect();
    let common = ["--json", "--dev-srs-cache", srs.to_str().unwrap()];
    let run = |arguments: &[&str]| {
        let output = util(&chain.nats.url(), &[arguments, &common].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    for source in [&["--node-url", &*node][..], &[]] {
        let value = run(&[&["verify-piece"], source, &stores].concat());
        let good = |store: &serde_json::Value| store["good"].as_i64().unwrap();
        let good: Vec<i64> = value["stores"].as_array().unwrap().iter().map(good).collect();
        let all = chain.segments() as i64 * PIECES;
        assert!(good[0] >= all - PIECES && good[1] + good[2] >= all - PIECES, "{value}");
    }
    let value = run(&["sharded-cache-benchmark", "--sectors", "2", "--cache-item-type", "piece"]);
    assert_eq!((&value["failed"], &value["rejected"]), (&0.into(), &0.into()), "{value}");
    assert!(value["pieces_per_second"].as_f64().unwrap() > 0.0, "{value}");
}

/// A controller whose node is on another chain than the cluster ends, naming both.
async fn another_chain_is_refused(chain: &Chain) {
    let options = cluster::NatsOptions { cluster: "other".parse().unwrap(), ..chain.nats.options() };
    let client = ClusterClient::connect(&options).await.unwrap();
    let theirs = GenesisHash([3; 32]);
    let info = MemberInfo {
        role: Role::PlotClient,
        instance: InstanceId::generate(),
        address: None,
        capacity_bytes: 0,
        build: "test".into(),
        srs_digest: Some(chain.kzg.srs_digest()),
        genesis: Some(theirs),
        holds: Default::default(),
    };
    let member = Membership::join(&client, info);
    let mut members = member.watch();
    let joined = members.wait_for(|members| !members.all().is_empty());
    tokio::time::timeout(SOON, joined).await.unwrap().unwrap();
    let node = format!("ws://{}", chain.node.address());
    let arguments = ["--cluster", "other", "controller", "--tmp", "--node-rpc-url", &node];
    let ours = chain.node.genesis_hash();
    chain.role("controller-other", &arguments).fails_with(78, &[&ours.to_string(), &theirs.to_string()]);
}
