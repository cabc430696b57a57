//! The node's JSON-RPC beside the types of [`crate::rpc`]: names of methods and notifications, error codes, and the JSON
//! of Substrate's `chain_*` methods (farming §9).

use crate::BlockNumber;
use crate::blocks::{BlockHeader, DigestItem, Justification, SignedBlock};
use crate::rpc::decode_hex_bytes;
use parity_scale_codec::{DecodeAll, Encode};
use serde::{Deserialize, Serialize};

/// Names of methods and of the notifications that subscriptions send.
pub mod names {
    /// → `FarmerAppInfo`.
    pub const FARMER_APP_INFO: &str = "subspace_getFarmerAppInfo";
    /// `[SolutionResponse]` → null; unsafe.
    pub const SUBMIT_SOLUTION: &str = "subspace_submitSolutionResponse";
    /// `[RewardSignatureResponse]` → null; unsafe.
    pub const SUBMIT_REWARD_SIGNATURE: &str = "subspace_submitRewardSignature";
    /// `[[u64]]` → `[SegmentHeader or null]`.
    pub const SEGMENT_HEADERS: &str = "subspace_segmentHeaders";
    /// `[u32]` → ascending list of segment headers.
    pub const LAST_SEGMENT_HEADERS: &str = "subspace_lastSegmentHeaders";
    /// `[u64]` → hex string or null; unsafe.
    pub const PIECE: &str = "subspace_piece";
    /// `[u64]` → null; unsafe.
    pub const ACKNOWLEDGE_SEGMENT_HEADER: &str = "subspace_acknowledgeArchivedSegmentHeader";
    /// Slots: subscribe, notification, unsubscribe.
    pub const SLOT_INFO: [&str; 3] =
        ["subspace_subscribeSlotInfo", "subspace_slot_info", "subspace_unsubscribeSlotInfo"];
    /// Reward signing: subscribe, notification, unsubscribe; unsafe.
    pub const REWARD_SIGNING: [&str; 3] =
        ["subspace_subscribeRewardSigning", "subspace_reward_signing", "subspace_unsubscribeRewardSigning"];
    /// Archived segment headers: subscribe, notification, unsubscribe.
    pub const ARCHIVED_SEGMENT_HEADER: [&str; 3] = [
        "subspace_subscribeArchivedSegmentHeader",
        "subspace_archived_segment_header",
        "subspace_unsubscribeArchivedSegmentHeader",
    ];
    /// Object mappings: subscribe, notification, unsubscribe; unsafe.
    pub const OBJECT_MAPPINGS: [&str; 3] = [
        "subspace_subscribeObjectMappings",
        "subspace_object_mappings",
        "subspace_unsubscribeObjectMappings",
    ];
    /// Object mappings of given hashes: subscribe, notification, unsubscribe; unsafe.
    pub const FILTERED_OBJECT_MAPPINGS: [&str; 3] = [
        "subspace_subscribeFilteredObjectMappings",
        "subspace_filtered_object_mappings",
        "subspace_unsubscribeFilteredObjectMappings",
    ];
}

/// First error code of the node's own errors.
pub const ERROR_CODE_BASE: i32 = 9000;
/// Beginning of the message of a solution that came too late or found its queue full.
pub const SOLUTION_IGNORED_MESSAGE: &str = "Solution was ignored";
/// Code with which a node refuses an unsafe method; unknown methods have it too.
pub const METHOD_NOT_FOUND_CODE: i32 = -32601;
/// Code for an answer over the node's `--rpc-max-response-size` (jsonrpsee).
pub const ANSWER_TOO_LARGE_CODE: i32 = -32008;
/// Message with which a node refuses an unsafe method.
pub const UNSAFE_METHOD_MESSAGE: &str = "RPC call is unsafe to be called externally";
/// Largest number of mappings in one notification and of hashes in one filter.
pub const MAX_OBJECT_MAPPINGS: usize = 1000;

/// Why the JSON of a block was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` of the block: {reason}")]
pub struct BlockJsonError {
    field: &'static str,
    reason: String,
}

fn hex_0x(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn parse_hex(field: &'static str, text: &str) -> Result<Vec<u8>, BlockJsonError> {
    decode_hex_bytes(text).map_err(|error| BlockJsonError { field, reason: error.to_string() })
}

fn parse_hash(field: &'static str, text: &str) -> Result<[u8; 32], BlockJsonError> {
    let bytes = parse_hex(field, text)?;
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| BlockJsonError { field, reason: format!("expected 32 bytes, found {length}") })
}

/// A block hash as the `chain_*` methods write it: `0x` and 64 hex digits.
pub fn block_hash_to_json(hash: &[u8; 32]) -> String {
    hex_0x(hash)
}

/// Reads a block hash, with or without `0x`.
///
/// # Errors
/// When it is not 32 bytes of hex.
pub fn block_hash_from_json(text: &str) -> Result<[u8; 32], BlockJsonError> {
    parse_hash("hash", text)
}

/// JSON of a block header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderJson {
    parent_hash: String,
    number: String,
    state_root: String,
    extrinsics_root: String,
    digest: DigestJson,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DigestJson {
    logs: Vec<String>,
}

impl From<&BlockHeader> for HeaderJson {
    fn from(header: &BlockHeader) -> Self {
        Self {
            parent_hash: hex_0x(&header.parent_hash),
            number: format!("{:#x}", header.number),
            state_root: hex_0x(&header.state_root),
            extrinsics_root: hex_0x(&header.extrinsics_root),
            digest: DigestJson { logs: header.digest.iter().map(|item| hex_0x(&item.0)).collect() },
        }
    }
}

impl TryFrom<HeaderJson> for BlockHeader {
    type Error = BlockJsonError;

    fn try_from(json: HeaderJson) -> Result<Self, Self::Error> {
        let digits = json.number.strip_prefix("0x").unwrap_or(&json.number);
        let number = BlockNumber::from_str_radix(digits, 16)
            .map_err(|error| BlockJsonError { field: "number", reason: error.to_string() })?;
        let digest = json.digest.logs.iter().map(|log| {
            DigestItem::decode_all(&mut parse_hex("digest", log)?.as_slice())
                .map_err(|error| BlockJsonError { field: "digest", reason: error.to_string() })
        });
        Ok(Self {
            parent_hash: parse_hash("parentHash", &json.parent_hash)?,
            number,
            state_root: parse_hash("stateRoot", &json.state_root)?,
            extrinsics_root: parse_hash("extrinsicsRoot", &json.extrinsics_root)?,
            digest: digest.collect::<Result<_, _>>()?,
        })
    }
}

/// JSON of a block with its justifications: the result of `chain_getBlock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedBlockJson {
    block: BlockJson,
    justifications: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct BlockJson {
    header: HeaderJson,
    // Each is the SCALE form of the opaque bytes, with their length in front.
    extrinsics: Vec<String>,
}

impl From<&SignedBlock> for SignedBlockJson {
    fn from(block: &SignedBlock) -> Self {
        let justifications = block
            .justifications
            .as_ref()
            .map(|list| list.iter().map(|(engine, payload)| (engine.to_vec(), payload.clone())).collect());
        let extrinsics = block.extrinsics.iter().map(|extrinsic| hex_0x(&extrinsic.encode())).collect();
        Self { block: BlockJson { header: (&block.header).into(), extrinsics }, justifications }
    }
}

impl TryFrom<SignedBlockJson> for SignedBlock {
    type Error = BlockJsonError;

    fn try_from(json: SignedBlockJson) -> Result<Self, Self::Error> {
        let extrinsics = json.block.extrinsics.iter().map(|extrinsic| {
            Vec::<u8>::decode_all(&mut parse_hex("extrinsics", extrinsic)?.as_slice())
                .map_err(|error| BlockJsonError { field: "extrinsics", reason: error.to_string() })
        });
        let justification = |(engine, payload): (Vec<u8>, Vec<u8>)| -> Result<Justification, BlockJsonError> {
            let engine = engine.try_into().map_err(|engine: Vec<u8>| BlockJsonError {
                field: "justifications",
                reason: format!("an engine id has 4 bytes, found {}", engine.len()),
            })?;
            Ok((engine, payload))
        };
        Ok(Self {
            header: json.block.header.try_into()?,
            extrinsics: extrinsics.collect::<Result<_, _>>()?,
            justifications: json
                .justifications
                .map(|list| list.into_iter().map(justification).collect())
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> SignedBlock {
        SignedBlock {
            header: BlockHeader {
                parent_hash: [1; 32],
                number: 4660,
                state_root: [2; 32],
                extrinsics_root: [3; 32],
                digest: vec![DigestItem(vec![6, b'S', b'U', b'B', b'_', 8, 1, 2]), DigestItem(vec![8])],
            },
            extrinsics: vec![vec![5, 6, 7], vec![]],
            justifications: Some(vec![(*b"SUB_", vec![9, 255])]),
        }
    }

    #[test]
    fn block_json_is_that_of_substrate() {
        let json = serde_json::to_value(SignedBlockJson::from(&block())).expect("serializes");
        assert_eq!(
            json,
            serde_json::json!({
                "block": {
                    "header": {
                        "parentHash": format!("0x{}", "01".repeat(32)),
                        "number": "0x1234",
                        "stateRoot": format!("0x{}", "02".repeat(32)),
                        "extrinsicsRoot": format!("0x{}", "03".repeat(32)),
                        "digest": {"logs": ["0x065355425f080102", "0x08"]},
                    },
                    "extrinsics": ["0x0c050607", "0x00"],
                },
                "justifications": [[[83, 85, 66, 95], [9, 255]]],
            })
        );
        let parsed: SignedBlockJson = serde_json::from_value(json).expect("parses");
        assert_eq!(SignedBlock::try_from(parsed), Ok(block()));
    }

    #[test]
    fn damaged_block_json_names_its_field() {
        let good = serde_json::to_value(SignedBlockJson::from(&block())).expect("serializes");
        for (pointer, value, field) in [
            ("/block/header/parentHash", "0x01", "parentHash"),
            ("/block/header/number", "0x1_0000", "number"),
            ("/block/header/number", "0x100000000", "number"),
            ("/block/header/digest/logs/0", "0x08ff", "digest"),
            ("/block/extrinsics/0", "0x0c0506", "extrinsics"),
            ("/block/extrinsics/1", "zz", "extrinsics"),
        ] {
            let mut json = good.clone();
            *json.pointer_mut(pointer).expect("is there") = value.into();
            let parsed: SignedBlockJson = serde_json::from_value(json).expect("the shape is right");
            let error = SignedBlock::try_from(parsed).expect_err(pointer).to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
