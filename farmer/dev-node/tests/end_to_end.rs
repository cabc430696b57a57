//! One chain from its first block to its second segment: killed while it archives, restarted, farmed, stopped. It is
//! one test because a segment costs tens of CPU seconds.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

#[path = "support/farm.rs"]
mod farm;
mod support;

use archiving::{Kzg, Srs, verify_piece};
use cluster::testing::free_address;
use dev_node::{DevStats, Seal};
use farm::Farm;
use farming::identity::is_reward_signature_valid;
use node::{Error, Event, NodeClient, Options};
use primitives::blocks::SignedBlock;
use primitives::rpc::GenesisHash;
use primitives::{
    Blake3Hash, FarmerAppInfo, PieceIndex, RecordWitness, RewardSignatureResponse, SegmentHeader,
    SegmentIndex, SlotInfo, SolutionResponse,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::{Process, http_call};

/// A machine with other work to do archives a segment in minutes.
const LONG: Duration = Duration::from_secs(400);
const SHORT: Duration = Duration::from_secs(30);
/// Sixteen blocks fill a segment.
const BLOCK_BYTES: &str = "8388608";

struct Chain {
    address: SocketAddr,
    data: PathBuf,
    client: NodeClient,
    kzg: Kzg,
    _directory: tempfile::TempDir,
}

impl Chain {
    fn start(&self, slot_ms: &str) -> Process {
        self.start_ahead(slot_ms, "1")
    }

    fn start_ahead(&self, slot_ms: &str, archive_ahead: &str) -> Process {
        Process::start(
            &self.data,
            self.address,
            &[
                "--archive-ahead",
                archive_ahead,
                "--block-bytes",
                BLOCK_BYTES,
                "--slot-ms",
                slot_ms,
                "--pieces-in-sector",
                "2",
                "--confirmation-depth",
                "2",
                "--min-sector-lifetime",
                "1",
                "--initial-solution-range",
                "18446744073709551615",
            ],
        )
    }

    async fn stats(&self) -> DevStats {
        self.client.read("dev_stats").await.unwrap()
    }

    /// Waits until the statistics are as wanted.
    async fn wait_for(&self, what: &str, timeout: Duration, wanted: impl Fn(&DevStats) -> bool) -> DevStats {
        let deadline = Instant::now() + timeout;
        loop {
            let stats = self.stats().await;
            if wanted(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "{what}: {stats:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn http(&self, method: &str, params: Value) -> Result<Value, Value> {
        http_call(self.address, method, params).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_from_its_first_block_to_its_second_segment() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let address = free_address();
    let kzg = Kzg::new(Srs::development(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap());
    let options = Options { backoff_max: Duration::from_millis(500), ..Options::default() };
    let client = NodeClient::new(&format!("ws://{address}"), options).unwrap();
    let data = directory.path().join("chain");
    let chain = Chain { address, data, client, kzg, _directory: directory };

    let genesis = killed_while_archiving_genesis(&chain).await;
    let process = chain.start("3000");
    let header = first_segment(&chain, genesis).await;
    answers_of_every_method(&chain, genesis, header);
    let blocks = solutions_are_judged(&chain).await;
    eprintln!("resident after a segment: {} MiB", process.resident_mib());
    let (status, took) = process.terminate();
    assert!(status.success() && took < Duration::from_secs(15), "{status} after {took:?}");

    killed_while_archiving_the_second(&chain, header, &blocks).await;
    let process = chain.start("200");
    second_segment(&chain, header).await;
    process.kill();
    after_the_second_segment(&chain, header).await;
}

/// Kill -9 in the middle of the first segment: the chain is there, its segment is not.
async fn killed_while_archiving_genesis(chain: &Chain) -> GenesisHash {
    let process = chain.start("3000");
    let genesis = chain.client.connected(SHORT).await.unwrap();
    assert_eq!(chain.client.block_hash(0).await.unwrap(), Some(genesis.0));
    assert!(chain.client.system_health().await.unwrap().is_syncing);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stats = chain.stats().await;
    assert!(stats.syncing && stats.insecure && stats.segments.archived == 0, "{stats:?}");
    assert_eq!(stats.slots.announced, 0, "no slots before the first segment");
    assert!(process.log().contains("INSECURE"));
    process.kill();
    genesis
}

/// The call waits for a chain that archives ahead as long as a call may.
async fn farmer_app_info(chain: &Chain) -> FarmerAppInfo {
    let deadline = Instant::now() + LONG;
    loop {
        match chain.client.farmer_app_info().await {
            Ok(info) if !info.syncing => return info,
            Ok(_) | Err(Error::Rpc { .. } | Error::Timeout { .. }) => assert!(Instant::now() < deadline),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The first segment: its header, and pieces that are those of the genesis block.
async fn first_segment(chain: &Chain, genesis: GenesisHash) -> SegmentHeader {
    // The same client, connected again.
    let info = farmer_app_info(chain).await;
    assert_eq!(info.genesis_hash, genesis);
    assert!(!info.syncing);
    assert_eq!(info.farming_timeout, Duration::from_secs(12), "four slots");
    assert_eq!(info.protocol_info.history_size.get(), 1);
    assert_eq!(info.protocol_info.max_pieces_in_sector, 2);

    let headers = chain.client.segment_headers_from(SegmentIndex(0)).await.unwrap();
    assert_eq!(headers.len(), 1);
    assert_eq!(chain.client.last_segment_headers(5).await.unwrap(), headers);
    let header = headers[0];
    assert_eq!(header.last_archived_block().archived_progress.partial(), Some(130_023_418));
    // The archiver's own result: source bytes are the extended genesis block's, and every commitment and witness holds.
    let block = chain.client.block(&genesis.0).await.unwrap().unwrap();
    let encoded = block.encode_for_archiving();
    let mut raw = vec![0, 2];
    parity_scale_codec::Encode::encode_to(&parity_scale_codec::Compact(encoded.len() as u32 - 6), &mut raw);
    raw.extend_from_slice(&encoded[..encoded.len() - 6]);
    for position in [0, 2, 101, 254, 255] {
        let piece = chain.client.piece(PieceIndex(position)).await.unwrap().unwrap();
        if position % 2 == 0 {
            let record = &raw[position as usize / 2 * 31 * 32_768..][..31 * 32_768];
            assert!(piece.record_chunks().iter().flat_map(|chunk| &chunk[1..]).eq(record));
        }
        verify_piece(&chain.kzg, &piece, &header.segment_commitment(), position as usize).unwrap();
    }
    assert_eq!(chain.client.piece(PieceIndex(256)).await.unwrap(), None);
    header
}

/// Every method over plain HTTP, its JSON shape against the reference's sample.
fn answers_of_every_method(chain: &Chain, genesis: GenesisHash, header: SegmentHeader) {
    let samples: Value = vectors::load("farming/rpc_types.json");
    let genesis = format!("0x{}", hex::encode(genesis.0));
    let header = serde_json::to_value(header).unwrap();

    let info = chain.http("subspace_getFarmerAppInfo", json!([])).unwrap();
    same_shape(&info, &samples["farmerAppInfo"]["json"], "farmerAppInfo");
    let headers = chain.http("subspace_segmentHeaders", json!([[0, 1]])).unwrap();
    assert_eq!(headers, json!([header, null]));
    same_shape(&headers[0], &samples["segmentHeaderPartial"]["json"], "segment header");
    assert_eq!(chain.http("subspace_lastSegmentHeaders", json!([1])).unwrap(), json!([header]));
    assert_eq!(chain.http("subspace_lastSegmentHeaders", json!([0])).unwrap(), json!([]));
    assert!(chain.http("subspace_segmentHeaders", json!([vec![0; 1001]])).is_err());
    assert!(chain.http("subspace_lastSegmentHeaders", json!([1001])).is_err());
    let piece = chain.http("subspace_piece", json!([255])).unwrap();
    assert_eq!(piece.as_str().unwrap().len(), 2_097_344);
    assert_eq!(chain.http("subspace_piece", json!([u64::MAX])).unwrap(), Value::Null);
    assert_eq!(chain.http("subspace_acknowledgeArchivedSegmentHeader", json!([0])).unwrap(), Value::Null);
    let none = samples["rewardSignatureResponseNone"]["json"].clone();
    assert_eq!(chain.http("subspace_submitRewardSignature", json!([none])).unwrap(), Value::Null);
    let solution = samples["solutionResponse"]["json"].clone();
    let error = chain.http("subspace_submitSolutionResponse", json!([solution])).unwrap_err();
    assert!(error["message"].as_str().unwrap().starts_with("Solution was ignored"), "{error}");
    assert!(chain.http("subspace_submitSolutionResponse", json!([{"slotNumber": 1}])).is_err());

    assert_eq!(chain.http("chain_getBlockHash", json!([0])).unwrap(), genesis);
    assert_eq!(chain.http("chain_getBlockHash", json!(["0x0"])).unwrap(), genesis);
    assert_eq!(chain.http("chain_getBlockHash", json!([[0, 4_000_000]])).unwrap(), json!([genesis, null]));
    let best = chain.http("chain_getBlockHash", json!([])).unwrap();
    assert_eq!(chain.http("chain_getBlockHash", json!([null])).unwrap(), best);
    let block = chain.http("chain_getBlock", json!([genesis])).unwrap();
    assert_eq!(block["block"]["header"]["number"], "0x0");
    assert_eq!(block["justifications"], Value::Null);
    assert_eq!(chain.http("chain_getBlock", json!([format!("0x{}", "11".repeat(32))])).unwrap(), Value::Null);
    let header = chain.http("chain_getHeader", json!([genesis])).unwrap();
    assert_eq!(header, block["block"]["header"]);
    assert!(chain.http("chain_getHeader", json!(["0x12"])).is_err());
    assert!(chain.http("chain_getFinalizedHead", json!([])).unwrap().as_str().unwrap().len() == 66);
    let health = chain.http("system_health", json!([])).unwrap();
    assert_eq!(health, json!({"peers": 0, "isSyncing": false, "shouldHavePeers": false}));
    assert!(chain.http("system_version", json!([])).unwrap().as_str().unwrap().contains("INSECURE"));
    assert_eq!(chain.http("no_such_method", json!([])).unwrap_err()["code"], -32601);
}

/// Same keys, same kinds of values.
fn same_shape(found: &Value, sample: &Value, path: &str) {
    match (found, sample) {
        (Value::Object(found), Value::Object(sample)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(found), keys(sample), "{path}");
            sample.iter().for_each(|(key, sample)| same_shape(&found[key], sample, &format!("{path}.{key}")));
        }
        (Value::Array(_), Value::Array(_))
        | (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{path}: {found} is not like {sample}"),
    }
}

/// The next slot for which the farm has a solution.
async fn solved(chain: &Chain, farm: &Farm) -> (SlotInfo, SolutionResponse) {
    let mut slots = chain.client.subscribe_slots();
    let deadline = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < deadline, "no solution");
        let slot = slots.next_item().await.unwrap();
        if let Some(solution) = farm.solve(slot).await {
            return (slot, solution);
        }
        // Slots that went by meanwhile are old.
        slots = chain.client.subscribe_slots();
    }
}

/// Good and bad solutions, rewards and blocks; gives all blocks of the chain.
async fn solutions_are_judged(chain: &Chain) -> Vec<SignedBlock> {
    let protocol = chain.client.farmer_app_info().await.unwrap().protocol_info;
    let farm = Farm::plot(&chain.client, &chain.kzg, 0, protocol).await;
    let identity = std::sync::Arc::clone(&farm.identity);
    let (signing_client, public_key) = (chain.client.clone(), farm.identity.public_key());
    let (announced, mut hashes) = tokio::sync::mpsc::unbounded_channel();
    let signer = tokio::spawn(async move {
        let mut asked = signing_client.subscribe_reward_signing();
        while let Some(info) = asked.next_item().await {
            assert_eq!(info.public_key, public_key);
            let signature = Some(identity.sign_reward_hash(&info.hash));
            let response = RewardSignatureResponse { hash: info.hash, signature };
            signing_client.submit_reward_signature(&response).await.unwrap();
            announced.send(info.hash).unwrap();
        }
    });

    let (slot, good) = solved(chain, &farm).await;
    let submit = async |response: &SolutionResponse| chain.client.submit_solution(response).await;
    let mut bad = good.clone();
    bad.solution.chunk_witness.0 = bad.solution.record_commitment.0;
    submit(&bad).await.unwrap();
    let mut bad = good.clone();
    bad.solution.record_witness = RecordWitness(bad.solution.record_commitment.0);
    submit(&bad).await.unwrap();
    let mut bad = good.clone();
    bad.solution.proof_of_space.0[3] ^= 1;
    submit(&bad).await.unwrap();
    submit(&good).await.unwrap();
    submit(&good).await.unwrap();
    // Ten in all are taken for a slot.
    for _ in 0..5 {
        submit(&good).await.unwrap();
    }
    let error = submit(&good).await.unwrap_err();
    assert!(matches!(error, Error::SolutionIgnored { .. }), "{error}");

    let stats = chain.wait_for("ten are judged", SHORT, |stats| stats.solutions.received == 10).await;
    assert_eq!(stats.solution_range, u64::MAX, "an integer beyond 2^53");
    assert_eq!(slot.solution_range, u64::MAX);
    let stats = chain
        .wait_for("a signed block", SHORT, |stats| stats.blocks.signed == 1 && stats.solutions.accepted == 1)
        .await;
    let rejected = |reason: &str| stats.solutions.rejected.get(reason).copied().unwrap_or(0);
    assert_eq!(rejected("InvalidChunkWitness"), 1, "{stats:?}");
    assert_eq!(rejected("InvalidPiece"), 1, "{stats:?}");
    assert_eq!(rejected("InvalidProofOfSpace"), 1, "{stats:?}");
    assert_eq!(rejected("AlreadyRewarded"), 6, "{stats:?}");
    assert_eq!((stats.blocks.from_solutions, stats.rewards.asked, stats.rewards.signed), (1, 1, 1));
    assert!(stats.solutions.ignored >= 2, "{stats:?}");
    // The slot is closed now: the same solution comes too late.
    assert!(matches!(submit(&good).await, Err(Error::SolutionIgnored { .. })));
    signer.abort();

    let hash: Blake3Hash = hashes.recv().await.unwrap();
    let blocks = all_blocks(chain).await;
    let won =
        blocks.iter().skip(1).map(|block| Seal::of(block).unwrap()).find(|seal| seal.solution.is_some());
    let won = won.unwrap();
    assert_eq!((won.slot, won.solution.as_ref()), (good.slot_number, Some(&good.solution)));
    assert!(is_reward_signature_valid(&hash, &won.signature.unwrap(), &public_key));
    blocks
}

async fn all_blocks(chain: &Chain) -> Vec<SignedBlock> {
    let best = chain.client.best_header().await.unwrap().number;
    let mut blocks: Vec<SignedBlock> = Vec::new();
    for number in 0..=best {
        let hash = chain.client.block_hash(number).await.unwrap().unwrap();
        let block = chain.client.block(&hash).await.unwrap().unwrap();
        assert_eq!(block.header.number, number);
        assert_eq!(block.header.parent_hash, blocks.last().map_or([0; 32], |parent| parent.header.hash()));
        blocks.push(block);
    }
    blocks
}

/// Kill -9 in the middle of the second segment.
async fn killed_while_archiving_the_second(chain: &Chain, header: SegmentHeader, blocks: &[SignedBlock]) {
    let process = chain.start("200");
    let again = all_blocks(chain).await;
    assert_eq!(again[..blocks.len()], *blocks, "the chain survived its restart");
    assert_eq!(chain.client.segment_headers_from(SegmentIndex(0)).await.unwrap(), [header]);
    // Block 15 is taken, block 16 fills the segment and is deep enough: it is being archived.
    chain
        .wait_for("the second segment", LONG, |stats| {
            stats.segments.newest_block == 15 && stats.best_block >= 18
        })
        .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(chain.stats().await.segments.archived, 1, "it takes longer than that");
    process.kill();
}

/// The second segment, made by the third process from the same blocks, while slots keep their time.
async fn second_segment(chain: &Chain, first: SegmentHeader) {
    let mut headers = chain.client.subscribe_archived_segment_headers();
    let mut mappings = chain.client.subscribe_object_mappings();
    assert!(matches!(headers.next().await, Some(Event::Subscribed)));
    assert!(matches!(mappings.next().await, Some(Event::Subscribed)));
    // Of all mappings to come, only those of one block's payload.
    let hash_17 = chain.client.block_hash(17).await.unwrap().unwrap();
    let payload_17 = chain.client.block(&hash_17).await.unwrap().unwrap().extrinsics[0].clone();
    let payload_17 = primitives::hashes::blake3_hash(&payload_17);
    let mut filtered = chain.client.subscribe_filtered_object_mappings(&[payload_17]).unwrap();
    assert!(matches!(filtered.next().await, Some(Event::Subscribed)));
    let header = tokio::time::timeout(LONG, headers.next_item()).await.unwrap().unwrap();
    let stats = chain.stats().await;
    eprintln!("slots while a segment was archived: {:?}", stats.slots);
    assert!(stats.slots.announced > 10 && stats.slots.late_ms_p95 < 250, "{:?}", stats.slots);
    assert_eq!(header.segment_index(), SegmentIndex(1));
    assert_eq!(header.prev_segment_header_hash(), first.hash());
    assert_eq!(header.last_archived_block().number, 16);

    // Archiving waits for the acknowledgement.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(chain.stats().await.segments.newest_block, 15);
    assert_eq!(chain.client.last_segment_headers(1).await.unwrap(), [header]);
    let piece = chain.client.piece(PieceIndex(256 + 7)).await.unwrap().unwrap();
    verify_piece(&chain.kzg, &piece, &header.segment_commitment(), 7).unwrap();
    chain.client.acknowledge_segment_header(SegmentIndex(1)).await.unwrap();
    chain.wait_for("archiving goes on", SHORT, |stats| stats.segments.newest_block >= 16).await;
    assert_eq!(chain.stats().await.segments.acknowledgements_missed, 0);

    // Each block's payload is an object; the sixteenth lies where the mapping says.
    let mapping = loop {
        let mapping = tokio::time::timeout(SHORT, mappings.next_item()).await.unwrap().unwrap();
        if mapping.block_number == 16 {
            break mapping;
        }
    };
    let primitives::objects::GlobalObjectMapping::V0 { objects } = mapping.objects;
    let hash = chain.client.block_hash(16).await.unwrap().unwrap();
    let block = chain.client.block(&hash).await.unwrap().unwrap();
    assert_eq!(objects[0].hash, primitives::hashes::blake3_hash(&block.extrinsics[0]));
    let piece = chain.client.piece(objects[0].piece_index).await.unwrap().unwrap();
    let raw = piece.record_chunks().iter().flat_map(|chunk| &chunk[1..]).copied().collect::<Vec<_>>();
    let at = objects[0].offset as usize;
    let wanted = tokio::time::timeout(SHORT, filtered.next_item()).await.unwrap().unwrap();
    let primitives::objects::GlobalObjectMapping::V0 { objects: wanted_objects } = wanted.objects;
    assert_eq!((wanted.block_number, wanted_objects.len(), wanted_objects[0].hash), (17, 1, payload_17));
    // A compact length of four bytes, then the payload.
    assert_eq!(raw[at + 4..][..1000], block.extrinsics[0][..1000]);
}

/// Another restart: the same history, a third segment before the first slot, the genesis pieces lost and made again, and
/// a sector of the first segment that has expired.
async fn after_the_second_segment(chain: &Chain, first: SegmentHeader) {
    std::fs::remove_file(chain.data.join("segments/segment-0.pieces")).unwrap();
    let process = chain.start_ahead("3000", "3");
    let info = farmer_app_info(chain).await;
    assert!(!info.syncing);
    assert_eq!(info.protocol_info.history_size.get(), 3);
    let headers = chain.client.segment_headers_from(SegmentIndex(0)).await.unwrap();
    assert_eq!((headers.len(), headers[0]), (3, first));
    assert!(process.log().contains("are made again"));
    // The genesis segment and the newest one are served, no other.
    let piece = chain.client.piece(PieceIndex(3)).await.unwrap().unwrap();
    verify_piece(&chain.kzg, &piece, &first.segment_commitment(), 3).unwrap();
    assert!(chain.client.piece(PieceIndex(256 * 2)).await.unwrap().is_some());
    assert!(chain.client.piece(PieceIndex(256)).await.unwrap().is_none());

    let mut protocol = info.protocol_info;
    protocol.history_size = primitives::HistorySize::ONE;
    let public_key = farming::identity::Identity::from_entropy(&[5; 32]).unwrap().public_key();
    let expires_at = |sector_index| {
        let id = public_key.sector_id(sector_index, protocol.history_size);
        let commitment = headers[1].segment_commitment();
        id.derive_expiration_history_size(protocol.history_size, &commitment, protocol.min_sector_lifetime)
    };
    let expired = (0..100).find(|index| expires_at(*index).unwrap().get() == 2).unwrap();
    let farm = Farm::plot(&chain.client, &chain.kzg, expired, protocol).await;
    let (_, solution) = solved(chain, &farm).await;
    chain.client.submit_solution(&solution).await.unwrap();
    let stats = chain.wait_for("a verdict", SHORT, |stats| stats.solutions.received == 1).await;
    chain
        .wait_for("the verdict", SHORT, |stats| stats.solutions.rejected.get("SectorExpired") == Some(&1))
        .await;
    assert_eq!(stats.solutions.accepted, 0);
    assert!(process.terminate().0.success());
}
