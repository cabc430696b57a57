//! A cluster of which only the plotting and farming roles are real: NATS is, controllers and caches are the test's.

use archiving::archiver::ArchivedSegment;
use archiving::{Kzg, Srs, SrsKind};
use bytes::Bytes;
use cluster::client::Serving;
use cluster::contract::{
    FarmerAppInfoRequest, IdentifyRequest, InstanceId, MemberState, MemberStatus, PieceRequest,
    RewardSignatureOutcome, RewardSignatureSubmission, RewardSigningBroadcast, Role, SegmentHeaderBroadcast,
    SegmentHeadersRequest, SlotBroadcast, SolutionOutcome, SolutionSubmission,
};
use cluster::testing::NatsServer;
use cluster::transfer::{
    ItemType, PieceSource, PutOutcome, ServerOptions, SourceError, StoredPiece, TransferServer,
};
use cluster::{ClusterClient, ClusterSecret};
use farmer::roles::context::Chain;
use farmer::roles::items;
use farmer::roles::piece_source::directory::{Cache, CacheKind};
use farming::verification::{PieceCheckParams, verify_solution_for_challenge};
use parking_lot::Mutex;
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{
    Blake3Hash, FarmerAppInfo, FarmerProtocolInfo, HistorySize, PieceIndex, PublicKey,
    RewardSignatureResponse, RewardSigningInfo, SegmentHeader, SegmentIndex, SlotInfo, SlotNumber,
    SolutionResponse,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const RANGE: u64 = u64::MAX;

pub fn size(segments: u64) -> HistorySize {
    HistorySize::new(segments).unwrap()
}

pub fn development_kzg() -> (Kzg, std::path::PathBuf) {
    let directory = Srs::default_cache_dir().unwrap();
    (Kzg::new(Srs::development(&directory).unwrap()), directory)
}

/// What the fake controllers' node knows and has been given.
pub struct Node {
    pub segments: Vec<ArchivedSegment>,
    pub pieces_in_sector: u16,
    pub history: Mutex<HistorySize>,
    pub solutions: Mutex<Vec<(InstanceId, SolutionResponse)>>,
    pub signatures: Mutex<Vec<RewardSignatureResponse>>,
    /// Pieces that controllers were asked for; they give none.
    pub pieces_asked: Mutex<Vec<PieceIndex>>,
}

impl Node {
    pub fn new(segments: Vec<ArchivedSegment>, pieces_in_sector: u16) -> Arc<Self> {
        let (solutions, signatures, pieces_asked) = Default::default();
        Arc::new(Self {
            segments,
            pieces_in_sector,
            history: Mutex::new(HistorySize::ONE),
            solutions,
            signatures,
            pieces_asked,
        })
    }

    pub fn info(&self) -> FarmerAppInfo {
        FarmerAppInfo {
            genesis_hash: GenesisHash([7; 32]),
            dsn_bootstrap_nodes: Vec::new(),
            syncing: false,
            // Proofs on a loaded machine take longer than on a farm.
            farming_timeout: Duration::from_secs(40),
            protocol_info: FarmerProtocolInfo {
                history_size: *self.history.lock(),
                max_pieces_in_sector: self.pieces_in_sector,
                recent_segments: size(5),
                recent_history_fraction: (size(1), size(10)),
                min_sector_lifetime: size(1),
            },
        }
    }

    pub fn chain(&self) -> Chain {
        let info = self.info();
        Chain { genesis: info.genesis_hash, info }
    }

    pub fn header(&self, index: SegmentIndex) -> Option<SegmentHeader> {
        let known = index < SegmentIndex(self.history.lock().get());
        self.segments.get(index.0 as usize).filter(|_| known).map(|segment| segment.header)
    }

    /// Checks a solution as a chain does, against its own headers.
    pub fn verify(&self, kzg: &Kzg, challenge: &Blake3Hash, response: &SolutionResponse) {
        let solution = &response.solution;
        let info = self.info().protocol_info;
        let sector_id = solution.public_key.sector_id(solution.sector_index, solution.history_size);
        let piece = sector_id.derive_piece_index(
            solution.piece_offset,
            solution.history_size,
            info.max_pieces_in_sector,
            info.recent_segments,
            info.recent_history_fraction,
        );
        let deciding = solution.history_size.sector_expiration_check(info.min_sector_lifetime).unwrap();
        let params = PieceCheckParams {
            max_pieces_in_sector: info.max_pieces_in_sector,
            segment_commitment: self.header(piece.segment_index()).unwrap().segment_commitment(),
            recent_segments: info.recent_segments,
            recent_history_fraction: info.recent_history_fraction,
            min_sector_lifetime: info.min_sector_lifetime,
            current_history_size: info.history_size,
            sector_expiration_check_segment_commitment: self
                .header(deciding.segment_index())
                .map(|header| header.segment_commitment()),
        };
        verify_solution_for_challenge(kzg, solution, challenge, RANGE, Some(&params)).unwrap();
    }
}

/// A controller in front of the node.
pub struct Controller {
    pub instance: InstanceId,
    client: ClusterClient,
    services: Vec<Serving>,
    taking_solutions: Option<Serving>,
}

impl Controller {
    pub async fn start(nats: &NatsServer, node: &Arc<Node>) -> Self {
        let client = nats.client().await;
        let instance = InstanceId::generate();
        let services = vec![
            client
                .serve_queue::<FarmerAppInfoRequest, _, _>(4, {
                    let node = Arc::clone(node);
                    move |_| std::future::ready(Ok(node.info()))
                })
                .await
                .unwrap(),
            client
                .serve_queue::<SegmentHeadersRequest, _, _>(4, {
                    let node = Arc::clone(node);
                    move |request: SegmentHeadersRequest| {
                        let headers = request.indices.iter().map(|index| node.header(*index)).collect();
                        std::future::ready(Ok(headers))
                    }
                })
                .await
                .unwrap(),
            client
                .serve_queue::<PieceRequest, _, _>(4, {
                    let node = Arc::clone(node);
                    move |request: PieceRequest| {
                        node.pieces_asked.lock().push(request.index);
                        std::future::ready(Ok(None))
                    }
                })
                .await
                .unwrap(),
            client
                .serve_scatter::<IdentifyRequest, _, _>({
                    let status = status(instance, node);
                    move |request| {
                        let asked = request.role.is_none_or(|role| role == Role::Controller);
                        std::future::ready(asked.then(|| status.clone()))
                    }
                })
                .await
                .unwrap(),
            client
                .serve_instance::<RewardSignatureSubmission, _, _>(instance, 4, {
                    let node = Arc::clone(node);
                    move |request: RewardSignatureSubmission| {
                        node.signatures.lock().push(request.response);
                        std::future::ready(Ok(RewardSignatureOutcome::Accepted))
                    }
                })
                .await
                .unwrap(),
        ];
        let taking_solutions = client
            .serve_instance::<SolutionSubmission, _, _>(instance, 4, {
                let node = Arc::clone(node);
                move |request: SolutionSubmission| {
                    node.solutions.lock().push((instance, request.response));
                    std::future::ready(Ok(SolutionOutcome::Accepted))
                }
            })
            .await
            .unwrap();
        Self { instance, client, services, taking_solutions: Some(taking_solutions) }
    }

    /// From now on nobody listens where solutions are handed in.
    pub async fn take_no_solutions(&mut self) {
        self.taking_solutions.take().unwrap().drain(Duration::from_secs(1)).await;
    }

    pub async fn announce_slot(&self, number: SlotNumber) -> Blake3Hash {
        let challenge = challenge(number);
        let slot = SlotInfo {
            slot_number: number,
            global_challenge: challenge,
            solution_range: RANGE,
            voting_solution_range: RANGE,
        };
        self.client.broadcast(&SlotBroadcast { controller: self.instance, slot }).await.unwrap();
        challenge
    }

    pub async fn announce_segment(&self, header: SegmentHeader) {
        self.client.broadcast(&SegmentHeaderBroadcast { controller: self.instance, header }).await.unwrap();
    }

    pub async fn ask_for_signature(&self, public_key: PublicKey, hash: Blake3Hash) {
        let info = RewardSigningInfo { hash, public_key };
        self.client.broadcast(&RewardSigningBroadcast { controller: self.instance, info }).await.unwrap();
    }

    pub fn services(&self) -> usize {
        self.services.len()
    }
}

fn status(instance: InstanceId, node: &Node) -> MemberStatus {
    MemberStatus {
        role: Role::Controller,
        instance,
        build: "fake".into(),
        state: MemberState::Ready,
        uptime_s: 0,
        srs_digest: Some(SrsKind::Development.digest()),
        genesis: Some(node.info().genesis_hash),
        address: None,
        counters: Vec::new(),
    }
}

pub fn challenge(number: SlotNumber) -> Blake3Hash {
    blake3_hash(&number.to_le_bytes())
}

/// A cache with all pieces in either form; one that lies changes a byte of each, of the parity if there is one, and hashes what
/// it sends.
pub struct TestCache {
    node: Arc<Node>,
    lies: bool,
}

impl PieceSource for TestCache {
    fn get(&self, item: ItemType, index: PieceIndex) -> Result<Option<StoredPiece>, SourceError> {
        let Some(segment) = self.node.segments.get(index.segment_index().0 as usize) else { return Ok(None) };
        let piece = segment.pieces[index.position()].as_ref();
        let mut bytes = match item {
            ItemType::Piece => piece.to_vec(),
            ItemType::SplitParityPiece => items::extend(piece).unwrap(),
        };
        // In the second half of a pair of chunks.
        bytes[5053] ^= u8::from(self.lies);
        let hash = blake3_hash(&bytes);
        Ok(Some(StoredPiece { bytes: bytes.into(), hash }))
    }

    fn put(&self, _: ItemType, _: PieceIndex, _: Bytes, _: Blake3Hash) -> PutOutcome {
        PutOutcome::Full
    }
}

pub async fn start_cache(
    secret: &ClusterSecret,
    node: &Arc<Node>,
    kind: CacheKind,
    lies: bool,
) -> (TransferServer, Cache) {
    let instance = InstanceId::generate();
    let mut options = ServerOptions::new(secret.clone(), instance);
    options.pieces = Some(Arc::new(TestCache { node: Arc::clone(node), lies }));
    let server = TransferServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), options).await.unwrap();
    let cache = Cache { instance, address: server.address(), kind, holds: ItemType::Piece };
    (server, cache)
}

/// Waits until something holds; says what was waited for when it takes too long.
pub async fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
