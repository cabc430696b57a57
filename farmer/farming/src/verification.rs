//! Verification of solutions as a node does it, in its order (farming §6).

use archiving::{Commitment, Kzg, Scalar, Witness};
use parity_scale_codec::{Decode, Encode};
use primitives::hashes::blake3_254_hash_to_scalar;
use primitives::pieces::Record;
use primitives::pot::PotOutput;
use primitives::solutions::solution_distance;
use primitives::{
    Blake3Hash, HistorySize, PieceOffset, SegmentCommitment, SegmentIndex, SlotNumber, Solution,
    SolutionRange,
};

/// What a solution is checked against besides itself.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SolutionVerifyParams {
    /// Proof of time of the slot; with the slot's number it gives the global challenge.
    pub proof_of_time: PotOutput,
    /// Whole range around the challenge in which a chunk wins; half of it on either side.
    pub solution_range: SolutionRange,
    /// With these the piece is checked, too.
    pub piece_check_params: Option<PieceCheckParams>,
}

/// What the piece of a solution is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PieceCheckParams {
    /// The protocol's number of pieces in a sector.
    pub max_pieces_in_sector: u16,
    /// Commitment of the segment that the piece belongs to.
    pub segment_commitment: SegmentCommitment,
    /// Newest segments from which pieces are preferred.
    pub recent_segments: HistorySize,
    /// Share of a sector that is preferred from them.
    pub recent_history_fraction: (HistorySize, HistorySize),
    /// Segments that a sector lives at least.
    pub min_sector_lifetime: HistorySize,
    /// History size of the chain.
    pub current_history_size: HistorySize,
    /// Commitment of the segment that decides when the sector expires, if there is one already.
    pub sector_expiration_check_segment_commitment: Option<SegmentCommitment>,
}

/// Why a solution is refused; the checks come in this order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SolutionError {
    /// The proof of space is none for the audited s-bucket of the record's table.
    #[error("invalid proof of space")]
    InvalidProofOfSpace,
    /// The chunk is too far from the challenge.
    #[error(
        "solution distance {solution_distance} is outside of half the solution range {half_solution_range}"
    )]
    OutsideSolutionRange {
        /// Half of the solution range.
        half_solution_range: SolutionRange,
        /// Distance of the chunk.
        solution_distance: SolutionRange,
    },
    /// The chunk is no scalar.
    #[error("invalid chunk: {0}")]
    InvalidChunk(String),
    /// The witness does not open the record commitment at the chunk.
    #[error("invalid chunk witness")]
    InvalidChunkWitness,
    /// The sector was plotted at a history size that does not exist yet.
    #[error("history size {solution} of the solution is ahead of the chain's {current}")]
    FutureHistorySize {
        /// History size of the chain.
        current: HistorySize,
        /// History size of the solution.
        solution: HistorySize,
    },
    /// No such piece in a sector.
    #[error("piece offset {piece_offset} is not below the {max_pieces_in_sector} pieces of a sector")]
    InvalidPieceOffset {
        /// Piece offset of the solution.
        piece_offset: PieceOffset,
        /// The protocol's number of pieces in a sector.
        max_pieces_in_sector: u16,
    },
    /// A history size for which no expiry can be computed.
    #[error("invalid history size {0}")]
    InvalidHistorySize(HistorySize),
    /// The sector has expired.
    #[error("the sector expired at history size {expiration_history_size}, now it is {current_history_size}")]
    SectorExpired {
        /// History size at which it expired.
        expiration_history_size: HistorySize,
        /// History size of the chain.
        current_history_size: HistorySize,
    },
    /// The record is not the one of the history at the sector's piece index.
    #[error("invalid piece")]
    InvalidPiece,
}

/// Verifies a solution for a slot; gives its distance.
///
/// The reward address is nobody's business here: it is covered by the signature over the whole solution.
///
/// # Errors
/// The first [`SolutionError`] in the order of their declaration.
pub fn verify_solution(
    kzg: &Kzg,
    solution: &Solution,
    slot: SlotNumber,
    params: &SolutionVerifyParams,
) -> Result<SolutionRange, SolutionError> {
    let challenge = params.proof_of_time.derive_global_challenge(slot);
    let piece_check = params.piece_check_params.as_ref();
    verify_solution_for_challenge(kzg, solution, &challenge, params.solution_range, piece_check)
}

/// As [`verify_solution`], for who has the global challenge and not the proof of time: a farmer.
///
/// # Errors
/// As [`verify_solution`].
pub fn verify_solution_for_challenge(
    kzg: &Kzg,
    solution: &Solution,
    global_challenge: &Blake3Hash,
    solution_range: SolutionRange,
    piece_check: Option<&PieceCheckParams>,
) -> Result<SolutionRange, SolutionError> {
    let sector_id = solution.public_key.sector_id(solution.sector_index, solution.history_size);
    let sector_slot_challenge = sector_id.derive_sector_slot_challenge(global_challenge);
    let s_bucket = sector_slot_challenge.s_bucket_audit_index();
    let seed = sector_id.derive_evaluation_seed(solution.piece_offset);
    if !proof_of_space::is_proof_valid(&seed, u32::from(s_bucket.0), &solution.proof_of_space) {
        return Err(SolutionError::InvalidProofOfSpace);
    }

    let mask = solution.proof_of_space.hash();
    let masked: [u8; 32] = std::array::from_fn(|i| solution.chunk.0[i] ^ mask.0[i]);
    let solution_distance = solution_distance(global_challenge, &masked, &sector_slot_challenge);
    let half_solution_range = solution_range / 2;
    if solution_distance > half_solution_range {
        return Err(SolutionError::OutsideSolutionRange { half_solution_range, solution_distance });
    }

    let chunk = Scalar::from_bytes(&solution.chunk.0)
        .ok_or_else(|| SolutionError::InvalidChunk("Invalid scalar".to_owned()))?;
    let opening = (|| {
        let commitment = Commitment::try_from(solution.record_commitment).ok()?;
        let witness = Witness::try_from(solution.chunk_witness).ok()?;
        Some(kzg.verify(&commitment, Record::NUM_S_BUCKETS, usize::from(s_bucket.0), chunk, &witness))
    })();
    if opening != Some(true) {
        return Err(SolutionError::InvalidChunkWitness);
    }
    if let Some(params) = piece_check {
        check_piece(kzg, solution, params)?;
    }
    Ok(solution_distance)
}

/// Checks that the piece is the one that belongs there, and that the sector lives.
fn check_piece(kzg: &Kzg, solution: &Solution, params: &PieceCheckParams) -> Result<(), SolutionError> {
    let PieceCheckParams { max_pieces_in_sector, current_history_size, .. } = *params;
    let Solution { piece_offset, history_size, .. } = *solution;
    // One ahead: the farmer may know of a segment before the block that has it.
    if history_size.get() > current_history_size.get().saturating_add(1) {
        return Err(SolutionError::FutureHistorySize {
            current: current_history_size,
            solution: history_size,
        });
    }
    if piece_offset.0 >= max_pieces_in_sector {
        return Err(SolutionError::InvalidPieceOffset { piece_offset, max_pieces_in_sector });
    }
    let sector_id = solution.public_key.sector_id(solution.sector_index, history_size);
    if let Some(commitment) = &params.sector_expiration_check_segment_commitment {
        let expiration_history_size = sector_id
            .derive_expiration_history_size(history_size, commitment, params.min_sector_lifetime)
            .ok_or(SolutionError::InvalidHistorySize(history_size))?;
        if expiration_history_size <= current_history_size {
            return Err(SolutionError::SectorExpired { expiration_history_size, current_history_size });
        }
    }
    let position = sector_id
        .derive_piece_index(
            piece_offset,
            history_size,
            max_pieces_in_sector,
            params.recent_segments,
            params.recent_history_fraction,
        )
        .position();
    let opening = (|| {
        let value = Scalar::try_from(blake3_254_hash_to_scalar(&solution.record_commitment.0)).ok()?;
        let commitment = Commitment::try_from(params.segment_commitment).ok()?;
        let witness = Witness::try_from(solution.record_witness).ok()?;
        Some(kzg.verify(&commitment, SegmentIndex::NUM_PIECES, position, value, &witness))
    })();
    if opening == Some(true) { Ok(()) } else { Err(SolutionError::InvalidPiece) }
}
