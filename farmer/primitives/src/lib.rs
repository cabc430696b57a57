//! What the network fixes: scalars, records, pieces, segments, sector geometry, solutions, their hashes, SCALE and
//! JSON forms, and the types of the node's RPC.
//!
//! Architecture invariant: this crate is pure. No I/O, no threads, no clock, no field arithmetic. Everything that has
//! a SCALE form derives it here and nowhere else, so a byte layout has one place to be wrong in.

mod bytes;
pub mod cluster_secret;

pub mod blocks;
pub mod checksum;
pub mod farms;
pub mod hashes;
pub mod node_rpc;
pub mod objects;
pub mod pieces;
pub mod pot;
pub mod rpc;
pub mod scalars;
pub mod sectors;
pub mod segments;
pub mod simd;
pub mod sizes;
pub mod solutions;
pub mod ss58;

pub use bytes::{HexError, PublicKey, Signature};
pub use checksum::Blake3Checksummed;
pub use hashes::Blake3Hash;
pub use pieces::{Piece, PieceIndex, PieceOffset, RecordCommitment, RecordWitness};
pub use rpc::{
    FarmerAppInfo, FarmerProtocolInfo, RewardSignatureResponse, RewardSigningInfo, SlotInfo, SolutionResponse,
};
pub use scalars::{ChunkWitness, ScalarBytes};
pub use sectors::{SBucket, SectorGeometry, SectorId, SectorIndex};
pub use segments::{HistorySize, SegmentCommitment, SegmentHeader, SegmentIndex};
pub use sizes::parse_size;
pub use solutions::Solution;

/// Number of a consensus block.
pub type BlockNumber = u32;
/// Number of a slot; one slot a second on the live network.
pub type SlotNumber = u64;
/// Width of the interval around the global challenge in which a chunk wins; half of it on either side.
pub type SolutionRange = u64;
