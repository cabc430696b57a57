//! Whether a solution is one: what a node checks before it rewards (farming §6).

use crate::chain::Chain;
use archiving::Kzg;
use farming::verification::{PieceCheckParams, SolutionError, SolutionVerifyParams, verify_solution};
use parity_scale_codec::Encode;
use primitives::hashes::blake3_hash;
use primitives::sectors::SBucket;
use primitives::{Blake3Hash, FarmerProtocolInfo, SegmentIndex, SlotInfo, Solution};

/// A verified solution.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) solution: Solution,
    /// Whether it is within the range for blocks, not only within that for votes.
    pub(crate) wins_block: bool,
}

/// Why a solution was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
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
    #[error(transparent)]
    Invalid(#[from] SolutionError),
}

impl Rejected {
    /// Name of the reason, by which rejections are counted.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::AlreadyRewarded => "AlreadyRewarded",
            Self::UnknownSegment(_) => "UnknownSegment",
            Self::NoHistory => "NoHistory",
            Self::Invalid(error) => match error {
                SolutionError::InvalidProofOfSpace => "InvalidProofOfSpace",
                SolutionError::OutsideSolutionRange { .. } => "OutsideSolutionRange",
                SolutionError::InvalidChunk(_) => "InvalidChunk",
                SolutionError::InvalidChunkWitness => "InvalidChunkWitness",
                SolutionError::FutureHistorySize { .. } => "FutureHistorySize",
                SolutionError::InvalidPieceOffset { .. } => "InvalidPieceOffset",
                SolutionError::InvalidHistorySize(_) => "InvalidHistorySize",
                SolutionError::SectorExpired { .. } => "SectorExpired",
                SolutionError::InvalidPiece => "InvalidPiece",
            },
        }
    }
}

/// What must not be rewarded twice (farming §6).
fn reward_key(solution: &Solution, audit_index: SBucket) -> Blake3Hash {
    let Solution { public_key, sector_index, piece_offset, chunk, .. } = solution;
    blake3_hash(&(public_key, sector_index, piece_offset, chunk, audit_index).encode())
}

/// What the chain knows about the piece of a solution: the parameters of its check, and its segment.
fn piece_check(
    chain: &Chain,
    protocol: &FarmerProtocolInfo,
    solution: &Solution,
) -> (PieceCheckParams, SegmentIndex) {
    let sector_id = solution.public_key.sector_id(solution.sector_index, solution.history_size);
    let segment = sector_id
        .derive_piece_index(
            solution.piece_offset,
            solution.history_size,
            protocol.max_pieces_in_sector,
            protocol.recent_segments,
            protocol.recent_history_fraction,
        )
        .segment_index();
    let commitment = |index| chain.segment_header(index).map(|header| header.segment_commitment());
    let expiration_check = solution.history_size.sector_expiration_check(protocol.min_sector_lifetime);
    let params = PieceCheckParams {
        max_pieces_in_sector: protocol.max_pieces_in_sector,
        // Of no piece: an unknown segment fails the last check, after all that a node reports before it.
        segment_commitment: commitment(segment).unwrap_or_default(),
        recent_segments: protocol.recent_segments,
        recent_history_fraction: protocol.recent_history_fraction,
        min_sector_lifetime: protocol.min_sector_lifetime,
        current_history_size: protocol.history_size,
        sector_expiration_check_segment_commitment: expiration_check
            .and_then(|history_size| commitment(history_size.segment_index())),
    };
    (params, segment)
}

/// Verifies a solution against the chain and notes it as rewarded.
pub(crate) fn verify(
    chain: &Chain,
    kzg: &Kzg,
    info: &SlotInfo,
    solution: Solution,
) -> Result<Accepted, Rejected> {
    let sector_id = solution.public_key.sector_id(solution.sector_index, solution.history_size);
    let audit_index = sector_id.derive_sector_slot_challenge(&info.global_challenge).s_bucket_audit_index();
    let key = reward_key(&solution, audit_index);
    if chain.is_rewarded(&key) {
        return Err(Rejected::AlreadyRewarded);
    }
    let protocol = chain.protocol_info().ok_or(Rejected::NoHistory)?;
    let (piece_check_params, segment) = piece_check(chain, &protocol, &solution);
    let params = SolutionVerifyParams {
        proof_of_time: chain.proof_of_time(info.slot_number),
        solution_range: info.voting_solution_range,
        piece_check_params: Some(piece_check_params),
    };
    let distance = match verify_solution(kzg, &solution, info.slot_number, &params) {
        Err(SolutionError::InvalidPiece) if chain.segment_header(segment).is_none() => {
            return Err(Rejected::UnknownSegment(segment));
        }
        distance => distance?,
    };
    if !chain.reward(info.slot_number, key) {
        return Err(Rejected::AlreadyRewarded);
    }
    Ok(Accepted { solution, wins_block: distance <= info.solution_range / 2 })
}
