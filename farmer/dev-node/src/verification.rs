//! Whether a solution is one: what a node checks before it rewards (farming §6).

use crate::chain::Chain;
use archiving::Kzg;
use parity_scale_codec::Encode;
use primitives::hashes::blake3_hash;
use primitives::sectors::SBucket;
use primitives::{Blake3Hash, SegmentIndex, SlotInfo, Solution};

/// A verified solution.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) solution: Solution,
    /// Whether it is within the range for blocks, not only within that for votes.
    pub(crate) wins_block: bool,
}

/// Why a solution was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejected {
    /// The same solution was rewarded before.
    #[error("the same chunk of the same sector was rewarded for the same audit before")]
    AlreadyRewarded,
    /// The piece is of a segment that the chain does not have.
    #[error("its piece is of segment {0}, which the chain does not have")]
    UnknownSegment(SegmentIndex),
    /// The genesis segment is not archived.
    #[error("the chain has no history yet")]
    NoHistory,
    /// It does not verify.
    #[error("not verified yet")]
    Unverified,
}

impl Rejected {
    /// Name of the reason, by which rejections are counted.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::AlreadyRewarded => "AlreadyRewarded",
            Self::UnknownSegment(_) => "UnknownSegment",
            Self::NoHistory => "NoHistory",
            Self::Unverified => "Unverified",
        }
    }
}

/// What must not be rewarded twice (farming §6).
pub(crate) fn reward_key(solution: &Solution, audit_index: SBucket) -> Blake3Hash {
    let Solution { public_key, sector_index, piece_offset, chunk, .. } = solution;
    blake3_hash(&(public_key, sector_index, piece_offset, chunk, audit_index).encode())
}

/// Verifies a solution against the chain and notes it as rewarded.
pub(crate) fn verify(
    chain: &Chain,
    _kzg: &Kzg,
    info: &SlotInfo,
    solution: Solution,
) -> Result<Accepted, Rejected> {
    let sector_id = solution.public_key.sector_id(solution.sector_index, solution.history_size);
    let audit_index = sector_id.derive_sector_slot_challenge(&info.global_challenge).s_bucket_audit_index();
    let key = reward_key(&solution, audit_index);
    if chain.is_rewarded(&key) {
        return Err(Rejected::AlreadyRewarded);
    }
    Err(Rejected::Unverified)
}
