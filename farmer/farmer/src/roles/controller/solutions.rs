//! Solutions and reward signatures on their way to the node.

use crate::metrics::LabelledCounter;
use crate::roles::controller::once::{Once, Turn};
use crate::status::Status;
use cluster::contract::{
    Refusal, RewardSignatureOutcome, RewardSignatureSubmission, SolutionOutcome, SolutionSubmission, clip,
};
use node::NodeClient;
use primitives::{PieceOffset, PublicKey, ScalarBytes, SectorIndex, SlotNumber, SolutionResponse};
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;

/// The reasons that nodes give, as the chain names them (farming §6); anything else is counted as `Other`.
const REASONS: [&str; 12] = [
    "InvalidProofOfSpace",
    "OutsideSolutionRange",
    // Before `InvalidChunk`, which is its beginning.
    "InvalidChunkWitness",
    "InvalidChunk",
    "FutureHistorySize",
    "InvalidPieceOffset",
    "SectorExpired",
    "InvalidPiece",
    "InvalidSolutionSignature",
    "DuplicateSolution",
    "InvalidHistorySize",
    "BadRewardAddress",
];

/// What makes two solutions the same: the chain rewards one of them (design §4). Orders by slot first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SolutionKey {
    slot: SlotNumber,
    public_key: PublicKey,
    sector_index: SectorIndex,
    piece_offset: PieceOffset,
    chunk: ScalarBytes,
}

impl SolutionKey {
    fn of(response: &SolutionResponse) -> Self {
        let solution = &response.solution;
        Self {
            slot: response.slot_number,
            public_key: solution.public_key,
            sector_index: solution.sector_index,
            piece_offset: solution.piece_offset,
            chunk: solution.chunk,
        }
    }
}

/// Hands solutions and signatures to the node, each solution at most once.
pub struct Submissions {
    node: NodeClient,
    once: Once<SolutionKey, Result<SolutionOutcome, Refusal>>,
    counters: Arc<Counters>,
}

pub(super) struct Counters {
    sent: Counter,
    accepted: Counter,
    rejected: LabelledCounter,
    signatures: Counter,
}

impl Counters {
    pub(super) fn new(status: &Status) -> Self {
        Self {
            sent: status.counter("solutions_sent", "Solutions handed to the node"),
            accepted: status.counter("solutions_accepted", "Solutions that the node took"),
            rejected: status.labelled_counter(
                "solutions_rejected",
                "reason",
                "Solutions that the node refused or ignored, or that could not be handed to it",
            ),
            signatures: status.counter("reward_signatures", "Reward signatures that the node took"),
        }
    }
}

impl Submissions {
    /// Submissions to `node`, counted in `status`.
    pub fn new(node: NodeClient, status: &Status) -> Self {
        Self { node, once: Once::default(), counters: Arc::new(Counters::new(status)) }
    }

    /// Submits a solution, unless the same one was submitted before: then its outcome is told again.
    ///
    /// # Errors
    /// [`Refusal::Failed`] when it is not known whether the node got it: it must not go anywhere else.
    pub async fn solution(&self, submission: SolutionSubmission) -> Result<SolutionOutcome, Refusal> {
        let response = submission.response;
        let key = SolutionKey::of(&response);
        let (node, counters) = (self.node.clone(), Arc::clone(&self.counters));
        let (turn, outcome) = self.once.get(key, || submit(node, response, counters)).await;
        if turn == Turn::Repeated {
            tracing::debug!(slot = key.slot, "A solution came again; it was not submitted twice");
        }
        outcome.unwrap_or_else(|| Err(Refusal::failed("the submission was interrupted")))
    }

    /// Submits a reward signature.
    pub async fn signature(&self, submission: RewardSignatureSubmission) -> RewardSignatureOutcome {
        match self.node.submit_reward_signature(&submission.response).await {
            Ok(()) => {
                self.counters.signatures.inc();
                RewardSignatureOutcome::Accepted
            }
            Err(error) => {
                tracing::warn!(%error, hash = %submission.response.hash, "The node did not take a reward signature");
                RewardSignatureOutcome::Rejected { reason: clip(error.to_string()) }
            }
        }
    }
}

async fn submit(
    node: NodeClient,
    response: SolutionResponse,
    counters: Arc<Counters>,
) -> Result<SolutionOutcome, Refusal> {
    counters.sent.inc();
    let slot = response.slot_number;
    let public_key = response.solution.public_key;
    let result = node.submit_solution(&response).await;
    let outcome = outcome(result);
    match &outcome {
        Ok(SolutionOutcome::Accepted) => {
            counters.accepted.inc();
            tracing::info!(slot, %public_key, sector = response.solution.sector_index, "The node took a solution");
        }
        Ok(SolutionOutcome::Rejected { reason }) => {
            counters.rejected.inc(reason_name(reason));
            tracing::warn!(slot, %public_key, reason, "The node rejected a solution");
        }
        Ok(SolutionOutcome::Ignored) => {
            counters.rejected.inc("Ignored");
            tracing::info!(slot, %public_key, "The node ignored a solution: it came too late, or others came first");
        }
        Ok(SolutionOutcome::NotDelivered { reason }) => {
            counters.rejected.inc("NotDelivered");
            tracing::warn!(slot, %public_key, reason, "A solution could not be handed to the node");
        }
        Err(refusal) => {
            counters.rejected.inc("Unknown");
            tracing::warn!(slot, %public_key, %refusal, "Whether the node got a solution is not known");
        }
    }
    outcome
}

fn outcome(result: Result<(), node::Error>) -> Result<SolutionOutcome, Refusal> {
    match result {
        Ok(()) => Ok(SolutionOutcome::Accepted),
        Err(node::Error::SolutionIgnored { .. }) => Ok(SolutionOutcome::Ignored),
        Err(node::Error::Rpc { message, .. }) => Ok(SolutionOutcome::Rejected { reason: clip(message) }),
        Err(error) if error.is_certainly_undelivered() => {
            Ok(SolutionOutcome::NotDelivered { reason: clip(error.to_string()) })
        }
        Err(error) => Err(Refusal::failed(error)),
    }
}

/// The reason's name in the counter, from a closed set.
fn reason_name(message: &str) -> &'static str {
    REASONS.into_iter().find(|reason| message.contains(reason)).unwrap_or("Other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_say_whether_a_solution_may_go_elsewhere() {
        let url = String::new;
        let method = || String::from("submit");
        assert_eq!(outcome(Ok(())), Ok(SolutionOutcome::Accepted));
        let ignored = outcome(Err(node::Error::SolutionIgnored { message: String::new() })).unwrap();
        assert!(ignored.may_go_elsewhere());
        let undelivered = outcome(Err(node::Error::NotConnected { url: url(), reason: url() })).unwrap();
        assert!(undelivered.may_go_elsewhere());
        let message = "Solution is invalid: InvalidPiece".to_owned();
        let rejected =
            outcome(Err(node::Error::Rpc { url: url(), method: method(), code: 9000, message })).unwrap();
        assert!(!rejected.may_go_elsewhere());
        let interrupted = outcome(Err(node::Error::Interrupted { url: url(), method: "submit" }));
        assert!(matches!(interrupted, Err(Refusal::Failed(_))), "{interrupted:?}");
    }

    #[test]
    fn reasons_are_a_closed_set() {
        assert_eq!(reason_name("Invalid: InvalidChunkWitness!"), "InvalidChunkWitness");
        assert_eq!(reason_name("Invalid: InvalidChunk"), "InvalidChunk");
        assert_eq!(reason_name("anything else"), "Other");
    }
}
