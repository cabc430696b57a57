//! Messages to and from proof-servers.
//!
//! A proof is worth nothing four seconds after its slot, and a request may be old when it is read: from a server that hung,
//! from a queue on the way. Clocks differ, so no time in a request tells. The server asks back instead
//! ([`ProofWantedRequest`]): whoever wants the proof knows by its own clock how much time is left.

use super::{InstanceId, InstanceRequest, Payload, QueueRequest, Request, check_text};
use parity_scale_codec::{Decode, Encode};
use primitives::{Solution, SolutionRange};
use std::time::Duration;

/// Most bytes of the input of a proof.
pub const MAX_PROOF_INPUT: usize = 1_300_000;

/// Asks for the solution of a candidate.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct ProveRequest {
    /// Who wants the proof, and says how long ([`ProofWantedRequest`]).
    pub asker: InstanceId,
    /// The asker's name for this request.
    pub id: u64,
    /// Distance between chunk and challenge: the nearest is proved first.
    pub distance: SolutionRange,
    /// Candidate and record, as the `farming` crate encodes them: about 1.06 MB.
    pub input: Vec<u8>,
}

impl std::fmt::Debug for ProveRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProveRequest")
            .field("asker", &self.asker)
            .field("id", &self.id)
            .field("distance", &self.distance)
            .field("input_bytes", &self.input.len())
            .finish()
    }
}

impl Payload for ProveRequest {
    const VERSION: u8 = 2;
    const MAX_BYTES: usize = MAX_PROOF_INPUT + 64;

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

/// A proof-server takes a request, and asks whether its proof is still wanted, and wanted from this server. Asked again
/// before the work begins, if the request had to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ProofWantedRequest {
    /// The asker's name for the request.
    pub id: u64,
    /// The server.
    pub server: InstanceId,
}

impl Payload for ProofWantedRequest {
    const MAX_BYTES: usize = 24;
}

impl Request for ProofWantedRequest {
    type Reply = ProofWanted;
    const SUBJECT: &'static str = "plot-client.proof-wanted";
    const DEADLINE: Duration = Duration::from_secs(1);
}

impl InstanceRequest for ProofWantedRequest {}

/// Whether a proof is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ProofWanted {
    /// Time left for the answer; none when nobody waits for it, or another server is to give it.
    pub left_ms: Option<u32>,
}

impl Payload for ProofWanted {
    const MAX_BYTES: usize = 5;
}

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
    /// Nobody waits for it any more, or another server is to make it.
    #[error("the proof is not wanted from this proof-server any more")]
    #[codec(index = 5)]
    NotWanted,
}

impl Payload for Result<Solution, ProveError> {
    const VERSION: u8 = 2;
    const MAX_BYTES: usize = 2048;

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Err(
                ProveError::InvalidInput(text) | ProveError::DamagedRecord(text) | ProveError::Failed(text),
            ) => check_text(text),
            Ok(_) | Err(ProveError::Busy | ProveError::TooLate | ProveError::NotWanted) => Ok(()),
        }
    }
}
