//! Conformance with the reference: `helpers.json` (all but segment items, which are `archiving`'s) and
//! `farming/rpc_types.json` (all but the signature itself, which is `farming`'s).
#![allow(missing_docs, clippy::unwrap_used)]

use parity_scale_codec::{Compact, Decode, Encode};
use primitives::hashes::{blake3_254_hash_to_scalar, blake3_hash, blake3_hash_list_with_key};
use primitives::objects::{BlockObjectMapping, GlobalObject, GlobalObjectMapping};
use primitives::pieces::Record;
use primitives::rpc::ObjectMappingResponse;
use primitives::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Debug;
use vectors::{Hex, xof};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Helpers {
    blake3_checksummed_segment_index_5: Hex,
    block_object_mapping: JsonAndScale,
    compact_u32: Vec<(u32, Hex)>,
    constants: std::collections::BTreeMap<String, usize>,
    global_object: JsonAndScale,
    global_object_mapping: JsonAndScale,
    hashes: Vec<HashCase>,
    history_sizes: Vec<HistorySizeCase>,
    /// Checked by `archiving`, which owns segment items.
    parent_segment_header_item: Hex,
    piece: PieceCase,
    piece_indexes: Vec<PieceIndexCase>,
    segment_3: Segment3,
    segment_headers: Vec<SegmentHeaderCase>,
    /// Checked by `archiving`, which owns segment items.
    segment_items: Vec<Value>,
    set: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonAndScale {
    json: Value,
    scale: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashCase {
    blake3: Hex,
    blake3_254: Hex,
    keyed_blake3: Hex,
    keyed_blake3_key_label: String,
    label: String,
    len: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistorySizeCase {
    history_size: u64,
    in_pieces: u64,
    json: Value,
    scale: Hex,
    segment_index: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceCase {
    commitment: Hex,
    label: String,
    record_blake3: Hex,
    scale_blake3: Hex,
    scale_len: usize,
    scale_prefix: Hex,
    size: usize,
    witness: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceIndexCase {
    bytes: Hex,
    is_source: bool,
    piece_index: u64,
    position: usize,
    segment_index: u64,
    source_position: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment3 {
    first: u64,
    last: u64,
    piece_indexes_source_first: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SegmentHeaderCase {
    hash: Hex,
    json: Value,
    scale: Hex,
}

/// Both forms give the same value, and the value gives both forms.
fn check<T>(json: &Value, scale: &[u8]) -> T
where
    T: Encode + Decode + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let value = check_json::<T>(json);
    assert_eq!(value.encode(), scale, "SCALE of {json}");
    assert_eq!(T::decode(&mut &scale[..]).unwrap(), value);
    assert!(T::decode(&mut &scale[..scale.len() - 1]).is_err(), "a truncated form was accepted");
    value
}

fn check_json<T: Serialize + DeserializeOwned>(json: &Value) -> T {
    // Through text, as on the wire: u64 values beyond 2^53 have to survive.
    let value: T = serde_json::from_str(&json.to_string()).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(&serde_json::to_value(&value).unwrap(), json);
    value
}

#[test]
fn vectors_helpers() {
    let helpers: Helpers = vectors::load("helpers.json");
    assert!(!helpers.set.is_empty());
    assert!(!helpers.parent_segment_header_item.is_empty() && !helpers.segment_items.is_empty());

    let checksummed = Blake3Checksummed(SegmentIndex(5)).encode();
    assert_eq!(checksummed, helpers.blake3_checksummed_segment_index_5.0);
    assert_eq!(Blake3Checksummed::<SegmentIndex>::decode(&mut &checksummed[..]).unwrap().0, SegmentIndex(5));
    for bit in 0..checksummed.len() * 8 {
        let mut flipped = checksummed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Blake3Checksummed::<SegmentIndex>::decode(&mut &flipped[..]).is_err());
    }

    check::<BlockObjectMapping>(&helpers.block_object_mapping.json, &helpers.block_object_mapping.scale);
    check::<GlobalObject>(&helpers.global_object.json, &helpers.global_object.scale);
    check::<GlobalObjectMapping>(&helpers.global_object_mapping.json, &helpers.global_object_mapping.scale);
    for (number, scale) in &helpers.compact_u32 {
        assert_eq!(Compact(*number).encode(), scale.0);
        assert_eq!(blocks::compact_length_size(*number as usize), scale.len());
    }
    for case in &helpers.hashes {
        let data = xof(&case.label, case.len);
        let key = xof(&case.keyed_blake3_key_label, 32).try_into().unwrap();
        assert_eq!(blake3_hash(&data).0[..], case.blake3[..]);
        assert_eq!(blake3_254_hash_to_scalar(&data).0[..], case.blake3_254[..]);
        assert_eq!(blake3_hash_list_with_key(&key, &[&data]).0[..], case.keyed_blake3[..]);
    }
    for case in &helpers.segment_headers {
        let header = check::<SegmentHeader>(&case.json, &case.scale);
        assert_eq!(header.hash().0[..], case.hash[..]);
    }
    helpers_constants(&helpers);
    helpers_indices(&helpers);
    helpers_piece(&helpers.piece);
}

fn helpers_constants(helpers: &Helpers) {
    for (name, value) in &helpers.constants {
        let ours = match name.as_str() {
            "ArchivedHistorySegment::SIZE" => SegmentIndex::NUM_PIECES * Piece::SIZE,
            "NUM_PIECES" => SegmentIndex::NUM_PIECES,
            "NUM_RAW_RECORDS" => SegmentIndex::NUM_RAW_RECORDS,
            "Piece::SIZE" => Piece::SIZE,
            "RawRecord::NUM_CHUNKS" => Record::NUM_CHUNKS,
            "RawRecord::SIZE" => Record::RAW_SIZE,
            "Record::NUM_S_BUCKETS" => Record::NUM_S_BUCKETS,
            "Record::SIZE" => Record::SIZE,
            "RecordedHistorySegment::SIZE" => SegmentIndex::RECORDED_HISTORY_SIZE,
            "ScalarBytes::FULL_BYTES" => ScalarBytes::SIZE,
            "ScalarBytes::SAFE_BYTES" => ScalarBytes::SAFE_BYTES,
            _ => panic!("the vectors name an unknown constant {name}"),
        };
        assert_eq!(ours, *value, "{name}");
    }
}

fn helpers_indices(helpers: &Helpers) {
    for case in &helpers.history_sizes {
        let size = check::<HistorySize>(&case.json, &case.scale);
        assert_eq!(size.get(), case.history_size);
        assert_eq!(size.in_pieces(), case.in_pieces);
        assert_eq!(size.segment_index(), SegmentIndex(case.segment_index));
        assert_eq!(HistorySize::from(SegmentIndex(case.segment_index)), size);
    }
    assert!(HistorySize::decode(&mut &[0; 8][..]).is_err(), "a history without segments");

    for case in &helpers.piece_indexes {
        let index = PieceIndex(case.piece_index);
        assert_eq!(index.encode(), case.bytes.0);
        assert_eq!(index.is_source(), case.is_source);
        assert_eq!(index.position(), case.position);
        assert_eq!(index.segment_index(), SegmentIndex(case.segment_index));
        assert_eq!(index.source_position(), case.source_position);
    }

    let segment = SegmentIndex(3);
    assert_eq!(segment.first_piece_index().0, helpers.segment_3.first);
    assert_eq!(segment.last_piece_index().0, helpers.segment_3.last);
    let source_first = segment.piece_indices_source_first().map(|index| index.0).collect::<Vec<_>>();
    assert_eq!(source_first, helpers.segment_3.piece_indexes_source_first);
    let mut sorted = source_first;
    sorted.sort_unstable();
    assert_eq!(sorted, segment.piece_indices().map(|index| index.0).collect::<Vec<_>>());
}

fn helpers_piece(case: &PieceCase) {
    assert_eq!(Piece::SIZE, case.size);
    let piece = Piece::try_from(xof(&case.label, Piece::SIZE)).unwrap();
    assert_eq!(piece.commitment().0[..], case.commitment[..]);
    assert_eq!(piece.witness().0[..], case.witness[..]);
    assert_eq!(blake3_hash(piece.record()).0[..], case.record_blake3[..]);

    let scale = piece.encode();
    assert_eq!(scale.len(), case.scale_len);
    assert_eq!(scale[..4], case.scale_prefix[..]);
    assert_eq!(blake3_hash(&scale).0[..], case.scale_blake3[..]);
    assert_eq!(Piece::decode(&mut &scale[..]).unwrap(), piece);
    assert!(Piece::decode(&mut &scale[..scale.len() - 1]).is_err());
    assert!(Piece::decode(&mut &vec![0_u8; Piece::SIZE - 1].encode()[..]).is_err());
    assert!(Piece::decode(&mut &vec![0_u8; Piece::SIZE + 1].encode()[..]).is_err());

    let json = serde_json::to_string(&piece).unwrap();
    assert_eq!(json.len(), 2_097_344 + 2);
    assert_eq!(serde_json::from_str::<Piece>(&json).unwrap(), piece);
    assert!(serde_json::from_str::<Piece>("\"00\"").is_err());
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RpcTypes {
    farmer_app_info: JsonAndScale,
    farmer_protocol_info: JsonAndScale,
    notes: String,
    object_mapping_response: JsonOnly,
    reward_signature_response: SignatureCase,
    reward_signature_response_none: JsonAndScale,
    reward_signing_info: JsonAndScale,
    seed: String,
    segment_header_complete: SegmentHeaderCase,
    segment_header_partial: SegmentHeaderCase,
    segment_headers_response: JsonAndScale,
    slot_info: JsonAndScale,
    solution: JsonAndScale,
    solution_response: JsonAndScale,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonOnly {
    json: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SignatureCase {
    expansion: String,
    json: Value,
    /// The signature is verified by `farming`, which holds the keys.
    mini_secret_key: Hex,
    note: String,
    scale: Hex,
    signer_public_key: PublicKey,
    signing_context: String,
}

#[test]
fn vectors_rpc_types() {
    let types: RpcTypes = vectors::load("farming/rpc_types.json");
    assert!(!types.notes.is_empty() && !types.seed.is_empty());

    let info = check::<FarmerAppInfo>(&types.farmer_app_info.json, &types.farmer_app_info.scale);
    let protocol =
        check::<FarmerProtocolInfo>(&types.farmer_protocol_info.json, &types.farmer_protocol_info.scale);
    assert_eq!(info.protocol_info, protocol);
    check_json::<ObjectMappingResponse>(&types.object_mapping_response.json);
    check::<RewardSigningInfo>(&types.reward_signing_info.json, &types.reward_signing_info.scale);
    for case in [&types.segment_header_complete, &types.segment_header_partial] {
        let header = check::<SegmentHeader>(&case.json, &case.scale);
        assert_eq!(header.hash().0[..], case.hash[..]);
    }
    check::<Vec<Option<SegmentHeader>>>(
        &types.segment_headers_response.json,
        &types.segment_headers_response.scale,
    );
    check::<SlotInfo>(&types.slot_info.json, &types.slot_info.scale);
    let solution = check::<Solution>(&types.solution.json, &types.solution.scale);
    assert_eq!(types.solution.scale.len(), Solution::SIZE);
    let response = check::<SolutionResponse>(&types.solution_response.json, &types.solution_response.scale);
    assert_eq!(response.solution, solution);

    let none = &types.reward_signature_response_none;
    assert_eq!(check::<RewardSignatureResponse>(&none.json, &none.scale).signature, None);
    let case = &types.reward_signature_response;
    assert!(check::<RewardSignatureResponse>(&case.json, &case.scale).signature.is_some());
    assert_eq!((case.expansion.as_str(), case.signing_context.as_str()), ("Ed25519", "subspace_reward"));
    assert!(!case.note.is_empty() && case.mini_secret_key.len() == 32 && case.signer_public_key.0 != [0; 32]);
}
