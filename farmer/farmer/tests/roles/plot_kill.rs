//! A plot-server as a process: from caches with parity, and under kill -9, SIGTERM and a full disk, where what it finished is
//! found again and of the rest nothing is left.

mod full_disk;
mod items;
mod slow_cache;

use crate::fetch::fetch_sector;
use crate::fixtures::archive;
use crate::roles_support::{RoleProcess, free_address};
use crate::world::{Controller, Node, development_kzg, eventually, start_cache};
use archiving::SrsKind;
use archiving::archiver::ArchivedSegment;
use cluster::contract::{
    FarmId, InstanceId, Lease, LeaseKey, OfferReply, OfferRequest, PlotProgress, ProgressRequest, Role,
    SpoolRequest,
};
use cluster::testing::NatsServer;
use cluster::transfer::{Connection, TransferServer};
use cluster::{ClusterClient, ClusterSecret, MemberInfo, Membership};
use farmer::roles::piece_source::directory::CacheKind;
use farming::encoding::{SectorEncoder, SectorPlan};
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{PieceOffset, PublicKey, SectorGeometry};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const PIECES_IN_SECTOR: u16 = 24;
const SOON: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(300);

struct Test {
    node: Arc<Node>,
    client: ClusterClient,
    secret: ClusterSecret,
    nats: NatsServer,
    directory: tempfile::TempDir,
    listen_port: String,
    _controller: Controller,
    cache: Option<(TransferServer, Membership)>,
}

impl Test {
    /// A cluster with everything that a plot-server needs.
    async fn start() -> Self {
        let mut test = Self::without_caches().await;
        let (server, cache) = start_cache(&test.secret, &test.node, CacheKind::Full, false).await;
        let genesis = test.node.info().genesis_hash;
        let info = member(Role::FullPieceShardedCache, cache.address, genesis);
        test.cache = Some((server, Membership::join(&test.client, info)));
        test
    }

    /// A cluster with everything but caches.
    async fn without_caches() -> Self {
        let (kzg, _) = development_kzg();
        let node = Node::new(archive(&kzg, 1), PIECES_IN_SECTOR);
        let nats = NatsServer::start();
        let controller = Controller::start(&nats, &node).await;
        let client = nats.client().await;
        let secret = client.shared_secret().await;
        Self {
            node,
            client,
            secret,
            nats,
            directory: tempfile::tempdir().unwrap(),
            listen_port: free_address().port().to_string(),
            _controller: controller,
            cache: None,
        }
    }

    fn start_server(&self, base_path: &Path) -> RoleProcess {
        self.start_server_with(base_path, |arguments| {
            RoleProcess::start(self.directory.path(), "plot-server", &self.nats.url(), arguments)
        })
    }

    fn start_server_with(&self, base_path: &Path, start: impl FnOnce(&[&str]) -> RoleProcess) -> RoleProcess {
        let base_path = base_path.to_str().unwrap();
        let arguments =
            ["plot-server", base_path, "--listen-port", &self.listen_port, "--advertise", "127.0.0.1"];
        let mut server = start(&arguments);
        server.wait_until_ready(SOON);
        server
    }

    fn offer(&self, sector_index: u16, pieces_in_sector: u16) -> OfferRequest {
        OfferRequest {
            public_key: PublicKey([9; 32]),
            farm_id: FarmId(1),
            sector_index,
            protocol_info: self.node.info().protocol_info,
            pieces_in_sector,
        }
    }

    async fn lease(&self, offer: &OfferRequest) -> Lease {
        match self.client.request(offer).await.unwrap() {
            OfferReply::Lease(lease) => lease,
            busy @ OfferReply::Busy { .. } => panic!("{busy:?}"),
        }
    }

    async fn progress(&self, server: InstanceId, key: LeaseKey) -> Option<PlotProgress> {
        self.client.request_instance(server, &ProgressRequest { key }).await.unwrap()
    }

    async fn fetch(&self, lease: &Lease) -> Vec<u8> {
        fetch_sector(&self.secret, lease).await
    }

    async fn acknowledge(&self, lease: &Lease) {
        let connecting = Connection::open(lease.address.0, &self.secret, InstanceId::generate());
        connecting.await.unwrap().acknowledge_sector(&lease.key).await.unwrap();
    }

    /// Has a sector plotted, again and again, until what it was to show has been seen: a server knows a new cache after two
    /// heartbeats. Every one has to be the one that is encoded here from plain pieces.
    async fn plot_until(&self, offer: &OfferRequest, seen: impl Fn() -> bool) {
        let expected = encoded(offer, &self.node.segments[0]);
        for _ in 0..30 {
            let lease = self.lease(offer).await;
            assert!(self.fetch(&lease).await == expected, "the sector is another one");
            self.acknowledge(&lease).await;
            if seen() {
                return;
            }
        }
        panic!("it was not seen");
    }
}

/// The sector of an offer, of pieces of the first segment.
fn encoded(offer: &OfferRequest, segment: &ArchivedSegment) -> Vec<u8> {
    let OfferRequest { public_key, sector_index, protocol_info, pieces_in_sector, .. } = *offer;
    let plan = SectorPlan::new(public_key, sector_index, pieces_in_sector, protocol_info).unwrap();
    let piece = |offset: PieceOffset| Ok(segment.pieces[plan.piece_index(offset).position()].clone().into());
    let encoded = SectorEncoder::cpu(2).encode(&plan, &piece, &|_| (), &AtomicBool::new(false));
    encoded.unwrap().to_bytes()
}

fn spool_files(base_path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(base_path.join("spool")).unwrap();
    let extension = |entry: std::fs::DirEntry| entry.path().extension().unwrap().to_str().unwrap().to_owned();
    let mut extensions: Vec<_> = entries.map(|entry| extension(entry.unwrap())).collect();
    extensions.sort();
    extensions
}

fn member(role: Role, address: std::net::SocketAddr, genesis: GenesisHash) -> MemberInfo {
    MemberInfo {
        role,
        instance: InstanceId::generate(),
        address: Some(address.into()),
        capacity_bytes: 0,
        build: "fake".into(),
        srs_digest: Some(SrsKind::Development.digest()),
        genesis: Some(genesis),
        holds: Default::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_plot_server_finds_what_it_finished_and_leaves_nothing_else() {
    let test = Test::start().await;
    let base_path = test.directory.path().join("base");

    // Killed in the middle of a sector.
    let server = test.start_server(&base_path);
    let instance = server.instance();
    let offer = test.offer(0, PIECES_IN_SECTOR);
    let lease = test.lease(&offer).await;
    assert_eq!((lease.server, lease.key), (instance, offer.key()));
    eventually("some records", LONG, || server.counter("records_encoded") >= 2).await;
    server.kill();
    assert_eq!(spool_files(&base_path), ["partial"]);

    // It comes back as the same instance, knows nothing of that sector any more, and makes it when asked again.
    let server = test.start_server(&base_path);
    assert_eq!(server.instance(), instance);
    assert!(spool_files(&base_path).is_empty());
    assert_eq!(test.progress(instance, lease.key).await, None);
    let lease = test.lease(&offer).await;
    let bytes = test.fetch(&lease).await;
    assert_eq!(bytes.len(), SectorGeometry::new(PIECES_IN_SECTOR).sector_size());
    let (sector, checksum) = bytes.split_last_chunk::<32>().unwrap();
    assert_eq!(blake3_hash(sector).0, *checksum);
    assert_eq!(spool_files(&base_path), ["header", "sector"]);

    // Killed with a finished sector, and one under way, in the spool.
    let before = server.counter("records_encoded");
    let other = test.lease(&test.offer(1, PIECES_IN_SECTOR)).await;
    eventually("some records", LONG, || server.counter("records_encoded") > before).await;
    server.kill();
    let server = test.start_server(&base_path);
    assert_eq!(spool_files(&base_path), ["header", "sector"]);
    let request = SpoolRequest { public_key: offer.public_key };
    let spooled = test.client.request_instance(instance, &request).await.unwrap();
    assert_eq!(spooled.len(), 1);
    assert_eq!(spooled[0].key, offer.key());
    assert!(
        matches!(spooled[0].progress, PlotProgress::Ready { size_bytes } if size_bytes == bytes.len() as u64)
    );
    let lease = test.lease(&offer).await;
    assert_eq!(test.fetch(&lease).await, bytes);
    let mut connection =
        Connection::open(lease.address.0, &test.secret, InstanceId::generate()).await.unwrap();
    connection.acknowledge_sector(&lease.key).await.unwrap();
    connection.acknowledge_sector(&lease.key).await.unwrap();
    assert!(spool_files(&base_path).is_empty());
    assert_eq!(test.progress(instance, other.key).await, None);

    // SIGTERM in the middle of a sector.
    test.lease(&test.offer(2, PIECES_IN_SECTOR)).await;
    eventually("some records", LONG, || server.counter("records_encoded") >= 1).await;
    server.terminate();
}
