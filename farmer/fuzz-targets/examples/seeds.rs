//! Writes the corpora's seeds anew with the crates' own encoders: `cargo run --release -p fuzz-targets --example seeds`.

use archiving::archiver::SegmentItem;
use cluster::contract::*;
use cluster::transfer::SECTOR_BLOCK_SIZE;
use cluster::{MemberInfo, fuzzing};
use farmer::export::journal::Journal;
use farmer::roles::plot_server::leases::SectorRequest;
use farmer::roles::plot_server::spool::SpoolHeader;
use farming::proving::ProofInput;
use farming::sector::ContentsMap;
use fuzz_targets::{HOLE, MENDED, MESSAGES};
use node_db::NodeDb;
use parity_scale_codec::{Decode, Encode};
use piece_store::{Capacity, FullPieceStore, ShardedPieceStore, StoreOptions};
use primitives::blocks::{BlockHeader, DigestItem, SignedBlock, SubspaceJustification};
use primitives::node_rpc::{HeaderJson, SignedBlockJson};
use primitives::rpc::{GenesisHash, ObjectMappingResponse};
use primitives::sectors::SectorMetadata;
use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};
use primitives::*;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The seeds of one target.
struct Corpus(PathBuf);

impl Corpus {
    /// Empties the seeds of a target; what the fuzzer found stays.
    fn of(target: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&directory).expect("the corpus can be made");
        for entry in fs::read_dir(&directory).expect("the corpus can be listed") {
            let path = entry.expect("the corpus can be listed").path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
                fs::remove_file(path).expect("a former seed can be removed");
            }
        }
        Self(directory)
    }

    fn add(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(format!("seed-{name}")), bytes).expect("a seed can be written");
    }
}

/// Bytes without their longest run of zeroes, checksum to be mended.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let (mut hole, mut start) = (0..0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != 0 {
            start = at + 1;
        } else if at + 1 - start > hole.len() {
            hole = start..at + 1;
        }
    }
    let mut packed = vec![MENDED | HOLE];
    packed.extend_from_slice(&(hole.start as u32).to_le_bytes());
    packed.extend_from_slice(&(hole.len() as u32).to_le_bytes());
    packed.extend_from_slice(&bytes[..hole.start]);
    packed.extend_from_slice(&bytes[hole.end..]);
    packed
}

fn with_byte(byte: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [&[byte], bytes.as_ref()].concat()
}

fn size(segments: u64) -> HistorySize {
    HistorySize::new(segments).expect("not zero")
}

fn header(index: u64) -> SegmentHeader {
    SegmentHeader::V0 {
        segment_index: SegmentIndex(index),
        segment_commitment: SegmentCommitment([2; 48]),
        prev_segment_header_hash: Blake3Hash([index as u8; 32]),
        last_archived_block: LastArchivedBlock {
            number: 9 + index as u32,
            archived_progress: ArchivedBlockProgress::Partial(7),
        },
    }
}

fn block() -> SignedBlock {
    let checkpoints =
        SubspaceJustification::PotCheckpoints { seed: [4; 16], checkpoints: vec![[[5; 16]; 8]] };
    SignedBlock {
        header: BlockHeader {
            parent_hash: [1; 32],
            number: 4660,
            state_root: [2; 32],
            extrinsics_root: [3; 32],
            digest: vec![DigestItem(vec![6, b'S', b'U', b'B', b'_', 8, 1, 2]), DigestItem(vec![8])],
        },
        extrinsics: vec![vec![5, 6, 7], vec![]],
        justifications: Some(vec![(*b"SUB_", checkpoints.encode()), (*b"XYZ_", vec![1])]),
    }
}

fn protocol_info() -> FarmerProtocolInfo {
    FarmerProtocolInfo {
        history_size: size(3),
        max_pieces_in_sector: 1000,
        recent_segments: size(5),
        recent_history_fraction: (size(1), size(10)),
        min_sector_lifetime: size(4),
    }
}

fn solution() -> Solution {
    Solution::decode(&mut &[1_u8; Solution::SIZE][..]).expect("a solution is plain bytes")
}

fn solution_response() -> SolutionResponse {
    SolutionResponse { slot_number: 5, solution: solution() }
}

fn slot() -> SlotInfo {
    SlotInfo {
        slot_number: 5,
        global_challenge: Blake3Hash([6; 32]),
        solution_range: 7,
        voting_solution_range: 8,
    }
}

fn app_info() -> FarmerAppInfo {
    let address = "/ip4/127.0.0.1/tcp/30333".parse().expect("an address");
    FarmerAppInfo {
        genesis_hash: GenesisHash([3; 32]),
        dsn_bootstrap_nodes: vec![rpc::Multiaddr(address)],
        syncing: false,
        farming_timeout: std::time::Duration::from_secs(4),
        protocol_info: protocol_info(),
    }
}

fn instance() -> InstanceId {
    "01J0ABCDEFGHJKMNPQRSTVWXYZ".parse().expect("an instance")
}

fn address() -> TcpAddress {
    TcpAddress(SocketAddr::from(([127, 0, 0, 1], 9950)))
}

fn key() -> LeaseKey {
    LeaseKey { public_key: PublicKey([9; 32]), sector_index: 7, history_size: size(3) }
}

fn text() -> String {
    "no room".to_owned()
}

fn wire() {
    let corpus = Corpus::of("transfer_frame");
    let server = Corpus::of("transfer_server");
    let mut stream = Vec::new();
    for (name, frame) in fuzzing::sample_frames() {
        corpus.add(&name, &frame);
        if ["getpieces", "fetchsector", "acksector", "ping"].contains(&&*name) {
            stream.extend_from_slice(&frame);
        }
        server.add(&name, frame);
    }
    server.add("requests", stream);
    Corpus::of("transfer_hello").add("hello", fuzzing::sample_hello());
    let corpus = Corpus::of("segment_headers");
    corpus.add("one", header(1).encode());
    corpus.add("list", vec![header(0), header(1)].encode());
    let corpus = Corpus::of("segment_items");
    let items = [
        SegmentItem::ParentSegmentHeader(header(1)),
        SegmentItem::BlockContinuation(vec![1; 70]),
        SegmentItem::Block(vec![2; 5]),
        SegmentItem::BlockStart(vec![3; 9]),
        SegmentItem::Padding,
    ];
    let bytes: Vec<u8> = items.iter().flat_map(Encode::encode).collect();
    corpus.add("items", with_byte(0, bytes));
    let corpus = Corpus::of("proof_input");
    let mut input = vec![0; ProofInput::SIZE];
    input[106] = 1; // history size
    input[114..116].copy_from_slice(&1000_u16.to_le_bytes());
    corpus.add("input", with_byte(HOLE, &packed(&input)[1..]));
}

/// Seeds of every message, by its place in the table.
fn messages() {
    let corpus = Corpus::of("nats_message");
    let add = |message: &str, bytes: bytes::Bytes| {
        let place =
            MESSAGES.iter().position(|(name, _)| *name == message).expect("the message is in the table");
        let name: String = message.chars().filter(char::is_ascii_alphanumeric).collect();
        let name = (0..)
            .map(|n| format!("{}-{n}", name.to_lowercase()))
            .find(|name| !corpus.0.join(format!("seed-{name}")).exists());
        corpus.add(&name.expect("a free name"), with_byte(place as u8, bytes));
    };
    macro_rules! add {
        ($($message:ty: $value:expr),* $(,)?) => {
            $({
                let value: $message = $value;
                add(stringify!($message), value.seal().expect("a sample is within its bounds"));
            })*
        };
    }
    let mut pieces = PieceSet::starting_at(PieceIndex(1000));
    assert!([1000, 1003, 1017].into_iter().all(|piece| pieces.insert(PieceIndex(piece))));
    let status = |state| MemberStatus {
        role: Role::PlotServer,
        instance: instance(),
        build: text(),
        state,
        uptime_s: 3,
        srs_digest: Some(Blake3Hash([1; 32])),
        genesis: Some(GenesisHash([3; 32])),
        address: Some(address()),
        counters: vec![Counter { name: "sectors".to_owned(), value: 4 }],
    };
    let lease = |progress| {
        OfferReply::Lease(Lease {
            id: instance(),
            key: key(),
            server: instance(),
            address: address(),
            expires_in_ms: 60_000,
            progress,
        })
    };
    let cache = |state| CacheStatus { state, pieces: 4, capacity_pieces: Some(9), damaged_pieces: 0 };
    let controller = instance();
    add! {
        SlotBroadcast: SlotBroadcast { controller, slot: slot() },
        NodeViewBroadcast: NodeViewBroadcast {
            controller,
            node: "ws://127.0.0.1:9944".to_owned(),
            best_block: 7,
            settled_block: (6, Blake3Hash([6; 32])),
            segment: Some((SegmentIndex(3), Blake3Hash([3; 32]))),
            slot: None,
        },
        SegmentHeaderBroadcast: SegmentHeaderBroadcast { controller, header: header(2) },
        RewardSigningBroadcast: RewardSigningBroadcast {
            controller,
            info: RewardSigningInfo { hash: Blake3Hash([1; 32]), public_key: PublicKey([9; 32]) },
        },
        ReinitializeBroadcast: ReinitializeBroadcast { delay_ms: 5 },
        FarmerAppInfoRequest: FarmerAppInfoRequest,
        FarmerAppInfo: app_info(),
        SegmentHeadersRequest: SegmentHeadersRequest { indices: vec![SegmentIndex(1), SegmentIndex(2)] },
        Vec<Option<SegmentHeader>>: vec![Some(header(1)), None],
        PieceRequest: PieceRequest { index: PieceIndex(7) },
        Option<Piece>: None,
        SolutionSubmission: SolutionSubmission { response: solution_response() },
        SolutionOutcome: SolutionOutcome::Rejected { reason: text() },
        SolutionOutcome: SolutionOutcome::NotDelivered { reason: text() },
        RewardSignatureSubmission: RewardSignatureSubmission {
            response: RewardSignatureResponse { hash: Blake3Hash([1; 32]), signature: Some(Signature([4; 64])) },
        },
        RewardSignatureOutcome: RewardSignatureOutcome::Rejected { reason: text() },
        ContentsRequest: ContentsRequest { from: PieceIndex(3) },
        Contents: Contents { pieces, next: Some(PieceIndex(5000)) },
        CacheStatusRequest: CacheStatusRequest,
        CacheStatus: cache(CacheState::Verifying { done: 1, of: 4 }),
        CacheStatus: cache(CacheState::ReadOnly { reason: text() }),
        StatusRequest: StatusRequest,
        IdentifyRequest: IdentifyRequest { role: Some(Role::ProofServer) },
        MemberStatus: status(MemberState::Waiting { reason: text() }),
        MemberStatus: status(MemberState::Ready),
        OfferRequest: OfferRequest {
            public_key: PublicKey([9; 32]),
            farm_id: FarmId(5),
            sector_index: 7,
            protocol_info: protocol_info(),
            pieces_in_sector: 12,
        },
        OfferReply: lease(PlotProgress::Encoding { done: 1, of: 12 }),
        OfferReply: OfferReply::Busy { server: instance(), waiting_before: 2, retry_after_ms: 500 },
        ProgressRequest: ProgressRequest { key: key() },
        Option<PlotProgress>: Some(PlotProgress::Ready { size_bytes: 99 }),
        Option<PlotProgress>: Some(PlotProgress::Failed { reason: text() }),
        CancelRequest: CancelRequest { key: key() },
        bool: true,
        SpoolRequest: SpoolRequest { public_key: PublicKey([9; 32]) },
        Vec<SpooledSector>: vec![SpooledSector { key: key(), pieces_in_sector: 12, progress: PlotProgress::Queued }],
        ProveRequest: ProveRequest { asker: instance(), id: 4, distance: 77, input: vec![5; 40] },
        Result<Solution, ProveError>: Ok(solution()),
        Result<Solution, ProveError>: Err(ProveError::DamagedRecord(text())),
        ProofWantedRequest: ProofWantedRequest { id: 4, server: instance() },
        ProofWanted: ProofWanted { left_ms: Some(900) },
    }
    let refusal = envelope::seal_reply::<Contents>(Err(Refusal::unavailable("later")));
    add("Contents", refusal);
    let corpus = Corpus::of("kv_entry");
    let [lease, identity] = fuzzing::sample_entries();
    corpus.add("lease", with_byte(0, lease));
    corpus.add("identity", with_byte(1, identity));
    let member = MemberInfo {
        role: Role::ShardedCache,
        instance: instance(),
        address: Some(address()),
        capacity_bytes: 5,
        build: text(),
        srs_digest: None,
        genesis: Some(GenesisHash([3; 32])),
        holds: Default::default(),
    };
    corpus.add("member", with_byte(2, member.seal().expect("a sample is within its bounds")));
}

/// A store's directory as the target's input: flags, manifest, used part of the extent's header, entries.
fn store_input(directory: &Path) -> Vec<u8> {
    let read = |name: &str| fs::read(directory.join(name)).expect("the store has been made");
    let extent = read("extent-00000000.bin");
    let mut input = vec![MENDED | 2 | 4 | 8];
    input.extend_from_slice(&read("manifest.bin"));
    input.extend_from_slice(&extent[..80]);
    input.extend_from_slice(&extent[4096..4096 + 4 * 64]);
    input
}

fn stores() {
    let corpus = Corpus::of("piece_store");
    let options =
        StoreOptions { slots_per_extent: 4, chain: Some(GenesisHash([3; 32])), ..StoreOptions::default() };
    let item = vec![7; Piece::SIZE];
    let directory = tempfile::tempdir().expect("a directory");
    let store = FullPieceStore::open(directory.path(), &options).expect("a store");
    for piece in [0, 2] {
        store.put(PieceIndex(piece), &item).expect("room");
    }
    drop(store);
    corpus.add("full", store_input(directory.path()));
    let directory = tempfile::tempdir().expect("a directory");
    let capacity = Capacity::Pieces(4);
    let store = ShardedPieceStore::open(directory.path(), &options, capacity).expect("a store");
    for piece in [700, 800, 900] {
        store.put(PieceIndex(piece), &item).expect("room");
    }
    drop(store);
    corpus.add("sharded", store_input(directory.path()));

    let corpus = Corpus::of("export_journal");
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::open(directory.path()).expect("an empty journal");
    for index in 0..3 {
        journal.add(header(index)).expect("room");
    }
    let bytes = fs::read(directory.path().join("segment-headers.bin")).expect("the journal");
    corpus.add("three", with_byte(MENDED, bytes));
}

fn farms() {
    let metadata = |pieces_in_sector: u16| {
        let mut metadata = SectorMetadata::dummy(0, pieces_in_sector);
        // As many chunks as the records have.
        metadata.s_bucket_sizes[..32768].fill(pieces_in_sector);
        metadata.history_size = size(3);
        metadata
    };
    let corpus = Corpus::of("sector_metadata");
    corpus.add("dummy", packed(&Blake3Checksummed(SectorMetadata::dummy(7, 12)).encode()));
    let record = packed(&Blake3Checksummed(metadata(2)).encode());
    corpus.add("plotted", &record);

    let corpus = Corpus::of("farm");
    let space = farms::FarmGeometry { pieces_in_sector: 2, sectors: 1 }.allocated_space();
    let mut input = vec![record[0]];
    input.extend_from_slice(&[0, 1, 0]); // version, sectors
    input.extend_from_slice(&3_u16.to_le_bytes()); // MiB of the plot
    input.extend_from_slice(&2_u16.to_le_bytes());
    input.extend_from_slice(&space.to_le_bytes());
    input.extend_from_slice(&record[1..]);
    corpus.add("one-sector", input);

    Corpus::of("farm_identity").add("entropy", with_byte(0x80, [7; 32]));

    let corpus = Corpus::of("contents_map");
    let mut bits = [0; 8192];
    bits[5000..5100].fill(0xff);
    let map = ContentsMap::new(vec![bits]).expect("few enough");
    corpus.add("one-record", packed(&map.to_bytes()));
    let map = ContentsMap::new(vec![[0; 8192]; 2]).expect("few enough");
    corpus.add("two-records", packed(&map.to_bytes()));

    let corpus = Corpus::of("spool_header");
    let mut metadata = SectorMetadata::dummy(7, 2);
    metadata.history_size = size(3);
    let request = SectorRequest { key: key(), pieces_in_sector: 2, protocol_info: protocol_info() };
    let blocks = SectorGeometry::new(2).sector_size().div_ceil(SECTOR_BLOCK_SIZE);
    let header = SpoolHeader { request, metadata, block_hashes: vec![Blake3Hash([1; 32]); blocks] };
    corpus.add("header", packed(&header.to_bytes()));

    let corpus = Corpus::of("reference_string");
    corpus.add("length", [1, 2, 3]);
}

/// Metadata and log of a database into which a block was just put.
fn database(block: &SignedBlock) -> [Vec<u8>; 2] {
    let directory = tempfile::tempdir().expect("a directory");
    let database = NodeDb::open_or_create(directory.path()).expect("an empty database");
    database.insert_best_block(block).expect("room");
    // It is written in the background.
    for _ in 0..1000 {
        for entry in fs::read_dir(directory.path()).expect("the database").flatten() {
            let is_log = entry
                .file_name()
                .to_string_lossy()
                .strip_prefix("log")
                .is_some_and(|n| n.parse::<u32>().is_ok());
            let bytes = fs::read(entry.path()).unwrap_or_default();
            if is_log && bytes.len() > 400 {
                let metadata = fs::read(directory.path().join("metadata")).expect("its metadata");
                return [metadata, bytes];
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the database wrote no log");
}

fn nodes() {
    let block = block();
    let corpus = Corpus::of("node_db_value");
    corpus.add("header", with_byte(4, block.header.encode()));
    corpus.add("body", with_byte(5, block.extrinsics.encode()));
    corpus.add("justifications", with_byte(6, block.justifications.clone().unwrap_or_default().encode()));
    corpus.add("segment-headers", with_byte(8, vec![header(0), header(1)].encode()));
    corpus.add("block", with_byte(0, block.encode()));

    let [metadata, log] = database(&block);
    Corpus::of("node_db_metadata").add("metadata", metadata);
    Corpus::of("node_db_log").add("block", log);

    let corpus = Corpus::of("node_rpc");
    let json = |kind: u8, name: &str, json: serde_json::Result<String>| {
        corpus.add(name, with_byte(kind, json.expect("plain JSON")));
    };
    json(b'0', "farmer-app-info", serde_json::to_string(&app_info()));
    json(b'1', "slot", serde_json::to_string(&slot()));
    json(b'2', "solution", serde_json::to_string(&solution_response()));
    let info = RewardSigningInfo { hash: Blake3Hash([1; 32]), public_key: PublicKey([9; 32]) };
    json(b'3', "reward-signing", serde_json::to_string(&info));
    let signature =
        RewardSignatureResponse { hash: Blake3Hash([1; 32]), signature: Some(Signature([4; 64])) };
    json(b'4', "reward-signature", serde_json::to_string(&signature));
    json(b'5', "segment-headers", serde_json::to_string(&vec![Some(header(1)), None]));
    let object = (Blake3Hash([1; 32]), PieceIndex(2), 3).into();
    let objects = objects::GlobalObjectMapping::V0 { objects: vec![object] };
    json(b'6', "object-mappings", serde_json::to_string(&ObjectMappingResponse { block_number: 5, objects }));
    json(b'7', "block", serde_json::to_string(&SignedBlockJson::from(&block)));
    json(b'8', "header", serde_json::to_string(&HeaderJson::from(&block.header)));
    json(b'9', "hash", serde_json::to_string(&node_rpc::block_hash_to_json(&[7; 32])));
}

fn texts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| fs::read(root.join(path)).expect("the example is there");
    Corpus::of("inventory").add("local", read("inventories/local.yaml"));
    let topology = Corpus::of("topology");
    for (name, file) in [
        ("escapes", "02-b300-8gpu-9nic-ansi-tab"),
        ("one-column", "08-8xA-mlx4-2017-short"),
        ("no-leading-tab", "19-2gpu-header-no-leading-tab"),
        ("spaces", "23-4gpu-4nic-spaces-prompt"),
        ("glued-cells", "24-8xh100-36nic-glued-cells"),
        ("no-numa", "25-2gpu-na-numa"),
    ] {
        topology.add(name, read(&format!("provision/tests/fixtures/topo/{file}.txt")));
    }
    let corpus = Corpus::of("supervisor_answer");
    let xml = "<?xml version='1.0'?><methodResponse><params><param><value><array><data><value><struct><member>\
        <name>statename</name><value><string>RUN&amp;NING</string></value></member><member><name>pid</name>\
        <value><int>7</int></value></member></struct></value></data></array></value></param></params></methodResponse>";
    let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>10</int></value>\
        </member></struct></value></fault></methodResponse>";
    corpus.add("length", format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{xml}", xml.len()));
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    corpus.add("chunks", format!("{head}{:x}\r\n{fault}\r\n0\r\n\r\n", fault.len()));
    corpus.add("xml", xml);
    let frame = |header: &str, payload: &[u8]| {
        let lengths = [header.len(), payload.len()].map(|length| (length as u32).to_be_bytes());
        [lengths.as_flattened(), header.as_bytes(), payload].concat()
    };
    let corpus = Corpus::of("provision_frame");
    corpus.add("hello", frame(r#"{"hello":{"protocol":1,"build":"0.1.0"}}"#, b""));
    corpus.add("line", frame(r#"{"line":{"id":7,"stream":"out"}}"#, b"a line"));
    let chunk = [frame(r#"{"chunk":{"id":7}}"#, &[0; 64]), frame(r#"{"drop":{"id":7}}"#, b"")];
    corpus.add("chunk", chunk.concat());
    let lock = r#"{"call":{"id":1,"call":{"lock":{"path":"/p/state/lock","holder":"somebody"}}}}"#;
    corpus.add("call", frame(lock, b""));
    let corpus = Corpus::of("written_values");
    corpus.add("size", "1.5TiB");
    corpus.add("address", "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY");
    corpus.add("role", "full-piece-sharded-cache");
    corpus.add("instance", "01J0ABCDEFGHJKMNPQRSTVWXYZ");
}

fn main() {
    wire();
    messages();
    stores();
    farms();
    nodes();
    texts();
}
