//! What farmer and node say to each other over JSON-RPC (farming §9); the same types have a SCALE form.

use crate::bytes::HexError;
use crate::hashes::Blake3Hash;
use crate::segments::HistorySize;
use crate::solutions::Solution;
use crate::{PublicKey, Signature, SlotNumber, SolutionRange};
use parity_scale_codec::{Decode, Encode, Error, Input};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Largest number of segment indices or headers in one call.
pub const MAX_SEGMENT_HEADERS_PER_REQUEST: usize = 1000;

/// A network address in libp2p's notation: text in JSON, bytes in SCALE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Multiaddr(pub multiaddr::Multiaddr);

impl Encode for Multiaddr {
    fn using_encoded<R, F: FnOnce(&[u8]) -> R>(&self, f: F) -> R {
        self.0.as_ref().using_encoded(f)
    }
}

impl Decode for Multiaddr {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        let bytes = Vec::<u8>::decode(input)?;
        multiaddr::Multiaddr::try_from(bytes).map(Self).map_err(|_| Error::from("not a multiaddress"))
    }
}

/// A span of time that is `{secs, nanos}` in JSON and `u64 ‖ u32` in SCALE.
pub type FarmingTimeout = Duration;

/// What the protocol currently asks of sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FarmerProtocolInfo {
    /// Size of the archived history.
    pub history_size: HistorySize,
    /// Pieces in a sector; farms may use fewer.
    pub max_pieces_in_sector: u16,
    /// Newest segments from which pieces are preferred.
    pub recent_segments: HistorySize,
    /// Share of a sector that is preferred from them.
    pub recent_history_fraction: (HistorySize, HistorySize),
    /// Segments that a sector lives at least.
    pub min_sector_lifetime: HistorySize,
}

/// What a farmer asks a node first.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FarmerAppInfo {
    /// Hash of the genesis block.
    pub genesis_hash: GenesisHash,
    /// Peers of the storage network.
    pub dsn_bootstrap_nodes: Vec<Multiaddr>,
    /// Whether the node is still syncing.
    pub syncing: bool,
    /// Time from a slot to the end of its usefulness.
    pub farming_timeout: FarmingTimeout,
    /// What the protocol asks of sectors.
    pub protocol_info: FarmerProtocolInfo,
}

crate::bytes::fixed_bytes! {
    /// Hash of the genesis block: names the chain.
    GenesisHash, 32
}
crate::bytes::serde_as_text!(GenesisHash);

/// A slot, once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotInfo {
    /// Number of the slot.
    pub slot_number: SlotNumber,
    /// Global challenge.
    pub global_challenge: Blake3Hash,
    /// Range for blocks.
    pub solution_range: SolutionRange,
    /// Range for votes; farmers use this wider one.
    pub voting_solution_range: SolutionRange,
}

/// A solution for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SolutionResponse {
    /// The slot it answers.
    pub slot_number: SlotNumber,
    /// The solution.
    pub solution: Solution,
}

/// A block or vote that a farm is asked to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RewardSigningInfo {
    /// What is signed.
    pub hash: Blake3Hash,
    /// The farm that is asked.
    pub public_key: PublicKey,
}

/// Answer to [`RewardSigningInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct RewardSignatureResponse {
    /// What was signed.
    pub hash: Blake3Hash,
    /// The signature, if the farm gives one.
    pub signature: Option<Signature>,
}

/// Objects of one block in the archived history.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectMappingResponse {
    /// The block.
    pub block_number: crate::BlockNumber,
    /// Its objects; JSON has the version's key beside the block number.
    #[serde(flatten)]
    pub objects: crate::objects::GlobalObjectMapping,
}

/// Decodes the hex of RPC byte strings, with or without `0x`.
pub fn decode_hex_bytes(text: &str) -> Result<Vec<u8>, HexError> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text)).map_err(|_| HexError::Digit(text.to_owned()))
}
