//! Solutions and the distance that decides about them (farming §2, §6).

use crate::bytes::{fixed_bytes, serde_as_text};
use crate::hashes::{Blake3Hash, blake3_hash, blake3_hash_list_with_key};
use crate::pieces::{PieceOffset, Record, RecordCommitment, RecordWitness};
use crate::scalars::{ChunkWitness, ScalarBytes};
use crate::sectors::{SectorIndex, SectorSlotChallenge};
use crate::segments::HistorySize;
use crate::{PublicKey, SolutionRange};
use parity_scale_codec::{Decode, Encode};
use serde::{Deserialize, Serialize};

fixed_bytes! {
    /// A proof of space: 64 values of 20 bits.
    PosProof, 160
}
serde_as_text!(PosProof);

impl PosProof {
    /// BLAKE3 of the proof: the mask of the chunk it encodes.
    pub fn hash(&self) -> Blake3Hash {
        blake3_hash(&self.0)
    }
}

/// Answer of a farm to a slot: 412 bytes in SCALE.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Solution {
    /// Public key of the farm.
    pub public_key: PublicKey,
    /// Who is paid.
    pub reward_address: PublicKey,
    /// Sector in the farm.
    pub sector_index: SectorIndex,
    /// History size at which the sector was plotted.
    pub history_size: HistorySize,
    /// Record in the sector.
    pub piece_offset: PieceOffset,
    /// Commitment of the record.
    pub record_commitment: RecordCommitment,
    /// Opens the segment commitment at the record.
    pub record_witness: RecordWitness,
    /// The winning chunk, unmasked.
    pub chunk: ScalarBytes,
    /// Opens the record commitment at the chunk.
    pub chunk_witness: ChunkWitness,
    /// Proof of space of the audited s-bucket.
    pub proof_of_space: PosProof,
}

impl Solution {
    /// Encoded size in bytes.
    pub const SIZE: usize = 412;
}

/// First 8 bytes, little-endian.
fn head_u64(hash: &Blake3Hash) -> u64 {
    u64::from_le_bytes(hash.0[..8].try_into().expect("8 of 32 bytes"))
}

/// Distance of a plotted (masked) chunk from the global challenge; it wins when at most half the solution range.
pub fn solution_distance(
    global_challenge: &Blake3Hash,
    chunk: &[u8; 32],
    sector_slot_challenge: &SectorSlotChallenge,
) -> SolutionRange {
    let audited = head_u64(&blake3_hash_list_with_key(&sector_slot_challenge.0, &[chunk]));
    let challenge = head_u64(global_challenge);
    challenge.wrapping_sub(audited).min(audited.wrapping_sub(challenge))
}

/// The solution range at which `pieces` pieces win once in `slot_probability.1 / slot_probability.0` slots.
pub const fn pieces_to_solution_range(pieces: u64, slot_probability: (u64, u64)) -> SolutionRange {
    SolutionRange::MAX / slot_probability.1 * slot_probability.0 / Record::NUM_CHUNKS as u64
        * Record::NUM_S_BUCKETS as u64
        / pieces
}
