//! Messages to proof-servers.

use super::{Payload, QueueRequest, Request, check_text};
use parity_scale_codec::{Decode, Encode};
use primitives::Solution;
use std::time::Duration;

/// Most bytes of the input of a proof.
pub const MAX_PROOF_INPUT: usize = 1_300_000;

/// Asks for the solution of a candidate.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ProveRequest {
    /// Time left for the answer when it was sent; relative, since clocks differ.
    pub deadline_ms: u32,
    /// Candidate and record, as the `farming` crate encodes them: about 1.06 MB.
    pub input: Vec<u8>,
}

impl std::fmt::Debug for ProveRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProveRequest")
            .field("deadline_ms", &self.deadline_ms)
            .field("input_bytes", &self.input.len())
            .finish()
    }
}

impl Payload for ProveRequest {
    const MAX_BYTES: usize = MAX_PROOF_INPUT + 8;

    fn check(&self) -> Result<(), &'static str> {
        if self.input.len() > MAX_PROOF_INPUT { Err("more than 1.3 MB of proof input") } else { Ok(()) }
    }
}

impl Request for ProveRequest {
    type Reply = Result<Solution, ProveError>;
    const SUBJECT: &'static str = "proof-server.prove";
    /// After this a solution is worth nothing: the farming timeout of the live network (farming §1).
    const DEADLINE: Duration = Duration::from_secs(4);
}

impl QueueRequest for ProveRequest {}

/// Why there is no solution.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum ProveError {
    /// All workers are busy beyond the deadline; another server may have room.
    #[error("the proof-server is busy")]
    #[codec(index = 0)]
    Busy,
    /// The deadline passed while it worked.
    #[error("the deadline passed")]
    #[codec(index = 1)]
    TooLate,
    /// The input makes no sense.
    #[error("the proof input is invalid: {0}")]
    #[codec(index = 2)]
    InvalidInput(String),
    /// The record's chunks do not fit its commitment: the plot is damaged there.
    #[error("the record is damaged: {0}")]
    #[codec(index = 3)]
    DamagedRecord(String),
    /// Anything else.
    #[error("the proof-server failed: {0}")]
    #[codec(index = 4)]
    Failed(String),
}

impl Payload for Result<Solution, ProveError> {
    const MAX_BYTES: usize = 2048;

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Err(
                ProveError::InvalidInput(text) | ProveError::DamagedRecord(text) | ProveError::Failed(text),
            ) => check_text(text),
            Ok(_) | Err(ProveError::Busy | ProveError::TooLate) => Ok(()),
        }
    }
}
