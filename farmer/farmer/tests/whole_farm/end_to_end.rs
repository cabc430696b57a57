//! From a bare prefix to accepted solutions, and what the chain says of them.

use crate::farm::Farm;
use archiving::Kzg;
use archiving::srs::Srs;
use dev_node::{BlockSource, DevStats, Seal};
use farming::identity::is_reward_signature_valid;
use farming::verification::{PieceCheckParams, SolutionVerifyParams, verify_solution};
use node::{NodeClient, Options};
use parity_scale_codec::{DecodeAll, Encode};
use primitives::blocks::SignedBlock;
use primitives::hashes::blake3_hash;
use primitives::{FarmerProtocolInfo, SegmentHeader, SegmentIndex, Solution};
use std::time::Duration;

/// Blocks from solutions that have to be seen.
const BLOCKS: usize = 2;

#[test]
fn a_farm_earns_and_the_chain_agrees() {
    let farm = Farm::new(&[("  slot_ms: 1000", "  slot_ms: 1000\n  slots_per_block: 12")]);
    assert!(farm.apply() > 10, "a fresh prefix needs everything");
    assert!(farm.accepted() > 0, "apply returns when the first solution has been accepted");
    assert_eq!(farm.apply(), 0, "a second apply changes nothing");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(async { NodeClient::new(&farm.node_url(), Options::default()).unwrap() });
    let blocks = farm.wait_for("signed blocks from solutions", Duration::from_secs(240), || {
        let blocks = runtime.block_on(read_blocks(&client));
        let signed = blocks.iter().filter(|block| {
            Seal::of(block).is_some_and(|seal| seal.solution.is_some() && seal.signature.is_some())
        });
        (signed.count() >= BLOCKS).then_some(blocks)
    });
    let headers = runtime.block_on(client.segment_headers_from(SegmentIndex(0))).unwrap();
    let info = runtime.block_on(client.farmer_app_info()).unwrap();
    check_chain(&blocks, &headers, &info.protocol_info);

    let stats: DevStats = runtime.block_on(client.read("dev_stats")).unwrap();
    assert!(stats.rewards.signed as usize >= BLOCKS && stats.rewards.invalid == 0, "{stats:?}");
    let unexpected = stats.solutions.rejected.keys().filter(|reason| *reason != "AlreadyRewarded").count();
    assert_eq!(unexpected, 0, "{stats:?}");

    let status = farm.status();
    let cluster = &status["cluster"];
    assert_eq!(cluster["pieces_in_full_copy"], 256 * headers.len() as u64, "{cluster}");
    assert!(cluster["pieces_cached"].as_u64().unwrap() >= 256, "{cluster}");
    assert!(cluster["sectors_plotted"].as_u64().unwrap() >= 1, "{cluster}");
    assert!(cluster["slots_seen"].as_u64().unwrap() > 5, "{cluster}");
    for role in farm.roles() {
        assert_eq!(role["state"], "ready", "{role}");
        assert!(role["version"].is_string(), "{role}");
    }
}

async fn read_blocks(client: &NodeClient) -> Vec<SignedBlock> {
    let best = client.best_header().await.unwrap().number;
    let mut blocks = Vec::new();
    for number in 0..=best {
        let hash = client.block_hash(number).await.unwrap().expect("every block up to the best is there");
        blocks.push(client.block(&hash).await.unwrap().expect("a block has a body"));
    }
    blocks
}

/// Every solution in the chain is one, and every signature is its farm's.
fn check_chain(blocks: &[SignedBlock], headers: &[SegmentHeader], protocol: &FarmerProtocolInfo) {
    let kzg = Kzg::new(Srs::development(&crate::farm::srs_cache()).unwrap());
    let parameters =
        DecodeAll::decode_all(&mut &blocks[0].extrinsics[0][..]).expect("genesis carries the parameters");
    let source = BlockSource::new(parameters, None).unwrap();
    let mut previous = Default::default();
    for header in headers {
        assert_eq!(header.prev_segment_header_hash(), previous);
        previous = header.hash();
    }
    let mut checked = 0;
    for pair in blocks.windows(2) {
        let (parent, block) = (&pair[0].header, &pair[1]);
        assert_eq!(block.header.parent_hash, parent.hash());
        let Some(Seal { slot, solution: Some(solution), signature, .. }) = Seal::of(block) else { continue };
        let params = SolutionVerifyParams {
            proof_of_time: source.proof_of_time(slot, false),
            solution_range: u64::MAX,
            piece_check_params: Some(piece_check(&solution, headers, protocol)),
        };
        verify_solution(&kzg, &solution, slot, &params).unwrap();
        if let Some(signature) = signature {
            let hash = blake3_hash(&(b"block" as &[u8], parent.hash(), slot, &solution).encode());
            assert!(is_reward_signature_valid(&hash, &signature, &solution.public_key));
            checked += 1;
        }
    }
    assert!(checked >= BLOCKS);
}

fn piece_check(
    solution: &Solution,
    headers: &[SegmentHeader],
    protocol: &FarmerProtocolInfo,
) -> PieceCheckParams {
    let sector_id = solution.public_key.sector_id(solution.sector_index, solution.history_size);
    let piece_index = sector_id.derive_piece_index(
        solution.piece_offset,
        solution.history_size,
        protocol.max_pieces_in_sector,
        protocol.recent_segments,
        protocol.recent_history_fraction,
    );
    PieceCheckParams {
        max_pieces_in_sector: protocol.max_pieces_in_sector,
        segment_commitment: headers[piece_index.segment_index().0 as usize].segment_commitment(),
        recent_segments: protocol.recent_segments,
        recent_history_fraction: protocol.recent_history_fraction,
        min_sector_lifetime: protocol.min_sector_lifetime,
        current_history_size: protocol.history_size,
        sector_expiration_check_segment_commitment: None,
    }
}
