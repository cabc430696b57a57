//! Hands solutions in: each to the controller whose copy of the slot was taken; to another only when it is proven that
//! the node has not seen it; after silence never (design §4).

use super::metrics::Metrics;
use super::slots::{SentSolutions, SlotGate};
use async_trait::async_trait;
use cluster::contract::{InstanceId, SolutionOutcome, SolutionSubmission};
use cluster::{ClientError, ClusterClient};
use parking_lot::Mutex;
use primitives::{Blake3Hash, SlotNumber, Solution, SolutionResponse};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether another controller has the slot.
const POLL: Duration = Duration::from_millis(100);

/// A slot as it came.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    /// Number.
    pub number: SlotNumber,
    /// Global challenge.
    pub challenge: Blake3Hash,
    /// Range in which a chunk wins.
    pub voting_range: primitives::SolutionRange,
    /// The controller whose copy came first.
    pub controller: InstanceId,
    /// When it came.
    pub arrived: Instant,
    /// When solutions become worthless.
    pub deadline: Instant,
}

impl Slot {
    /// When an audit has to end: half of the time is left for the proof, wherever it is made.
    pub fn audited_until(&self) -> Instant {
        self.arrived + self.deadline.saturating_duration_since(self.arrived) / 2
    }
}

/// What became of a solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The node took it.
    Accepted,
    /// It came to nothing.
    Rejected {
        /// For the counter, from a closed set.
        label: &'static str,
        /// In words.
        reason: String,
    },
    /// It was handed in before.
    Duplicate,
}

/// Takes solutions to controllers.
#[async_trait]
pub trait Post: Send + Sync {
    /// Gives a solution to a controller.
    async fn deliver(
        &self,
        controller: InstanceId,
        submission: &SolutionSubmission,
    ) -> Result<SolutionOutcome, ClientError>;
}

#[async_trait]
impl Post for ClusterClient {
    async fn deliver(
        &self,
        controller: InstanceId,
        submission: &SolutionSubmission,
    ) -> Result<SolutionOutcome, ClientError> {
        self.request_instance(controller, submission).await
    }
}

/// Hands solutions in.
pub struct Counter {
    post: Arc<dyn Post>,
    gate: Arc<Mutex<SlotGate>>,
    sent: Mutex<SentSolutions>,
    metrics: Metrics,
}

impl Counter {
    /// Hands in through `post` to the controllers that `gate` knows.
    pub fn new(post: Arc<dyn Post>, gate: Arc<Mutex<SlotGate>>, metrics: Metrics) -> Self {
        Self { post, gate, sent: Mutex::default(), metrics }
    }

    /// Hands a solution in and counts what became of it.
    pub async fn hand_in(&self, slot: &Slot, solution: Solution) -> Fate {
        if !self.sent.lock().enter(slot.number, &solution) {
            return Fate::Duplicate;
        }
        self.metrics.solutions_sent.inc();
        let submission =
            SolutionSubmission { response: SolutionResponse { slot_number: slot.number, solution } };
        let fate = self.deliver(slot, &submission).await;
        match &fate {
            Fate::Accepted => {
                self.metrics.solutions_accepted.inc();
                self.metrics.solution_seconds.observe(slot.arrived.elapsed().as_secs_f64());
                tracing::info!(slot = slot.number, "Solution accepted");
            }
            Fate::Rejected { label, reason } => {
                self.metrics.solutions_rejected.inc(label);
                tracing::warn!(slot = slot.number, label, "Solution came to nothing: {reason}");
            }
            Fate::Duplicate => {}
        }
        fate
    }

    async fn deliver(&self, slot: &Slot, submission: &SolutionSubmission) -> Fate {
        let mut controller = slot.controller;
        let mut tried = Vec::new();
        loop {
            tried.push(controller);
            let undelivered = match self.post.deliver(controller, submission).await {
                Ok(SolutionOutcome::Accepted) => return Fate::Accepted,
                Ok(SolutionOutcome::Rejected { reason }) => {
                    return Fate::Rejected { label: rejection_label(&reason), reason };
                }
                Ok(SolutionOutcome::Ignored) => ("Ignored", "the node ignored it".to_owned()),
                Ok(SolutionOutcome::NotDelivered { reason }) => ("NotDelivered", reason),
                Err(error) if error.is_not_delivered() => ("NotDelivered", error.to_string()),
                Err(error) => return Fate::Rejected { label: "NoAnswer", reason: error.to_string() },
            };
            let (label, reason) = undelivered;
            match self.next_controller(slot, &tried).await {
                Some(next) => {
                    tracing::info!(slot = slot.number, %controller, %next, "Solution goes to another controller: {reason}");
                    controller = next;
                }
                None => return Fate::Rejected { label, reason },
            }
        }
    }

    /// Another controller that has the slot; their copies may still be on their way.
    async fn next_controller(&self, slot: &Slot, tried: &[InstanceId]) -> Option<InstanceId> {
        loop {
            let known = self.gate.lock().controllers(slot.number, &slot.challenge);
            if let Some(next) = known.into_iter().find(|controller| !tried.contains(controller)) {
                return Some(next);
            }
            if Instant::now() + POLL >= slot.deadline {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Reasons that nodes give, as they name them or say them, and the label of each.
const REASONS: [(&str, &str); 13] = [
    ("proofofspace", "InvalidProofOfSpace"),
    ("outside", "OutsideSolutionRange"),
    ("chunkwitness", "InvalidChunkWitness"),
    ("invalidchunk", "InvalidChunk"),
    ("expired", "SectorExpired"),
    ("future", "FutureHistorySize"),
    ("ahead", "FutureHistorySize"),
    ("historysize", "InvalidHistorySize"),
    ("pieceoffset", "InvalidPieceOffset"),
    ("invalidpiece", "InvalidPiece"),
    ("duplicate", "Duplicate"),
    ("already", "Duplicate"),
    ("ignored", "Ignored"),
];

/// The label of a node's reason; the set of labels is closed, since each is kept for ever.
fn rejection_label(reason: &str) -> &'static str {
    let letters: String = reason.chars().filter(char::is_ascii_alphabetic).collect();
    let letters = letters.to_ascii_lowercase();
    REASONS.iter().find(|(needle, _)| letters.contains(needle)).map_or("Other", |(_, label)| label)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::status::Status;
    use primitives::PublicKey;
    use primitives::solutions::PosProof;
    use ulid::Ulid;

    const CHALLENGE: Blake3Hash = Blake3Hash([8; 32]);

    type Answer = fn() -> Result<SolutionOutcome, ClientError>;

    struct Script {
        answers: Mutex<Vec<Answer>>,
        asked: Mutex<Vec<InstanceId>>,
    }

    #[async_trait]
    impl Post for Script {
        async fn deliver(
            &self,
            controller: InstanceId,
            _submission: &SolutionSubmission,
        ) -> Result<SolutionOutcome, ClientError> {
            self.asked.lock().push(controller);
            self.answers.lock().remove(0)()
        }
    }

    fn controller(id: u128) -> InstanceId {
        InstanceId(Ulid(id))
    }

    pub(in super::super) fn solution() -> Solution {
        Solution {
            public_key: PublicKey([1; 32]),
            reward_address: PublicKey([0; 32]),
            sector_index: 0,
            history_size: primitives::HistorySize::ONE,
            piece_offset: primitives::PieceOffset(0),
            record_commitment: Default::default(),
            record_witness: Default::default(),
            chunk: primitives::ScalarBytes([1; 32]),
            chunk_witness: Default::default(),
            proof_of_space: PosProof::default(),
        }
    }

    async fn hand_in(controllers: &[u128], answers: &[Answer]) -> (Fate, Vec<InstanceId>, i64) {
        let gate = Arc::new(Mutex::new(SlotGate::default()));
        for id in controllers {
            gate.lock().is_first(3, &CHALLENGE, controller(*id));
        }
        let script = Arc::new(Script { answers: Mutex::new(answers.to_vec()), asked: Mutex::default() });
        let status = Status::new("plot-client", "one".into());
        let counter = Counter::new(script.clone(), gate, Metrics::new(&status));
        let arrived = Instant::now();
        let slot = Slot {
            number: 3,
            challenge: CHALLENGE,
            voting_range: u64::MAX,
            controller: controller(controllers[0]),
            arrived,
            deadline: arrived + Duration::from_millis(350),
        };
        let fate = counter.hand_in(&slot, solution()).await;
        assert_eq!(counter.hand_in(&slot, solution()).await, Fate::Duplicate);
        let asked = script.asked.lock().clone();
        (fate, asked, status.report().counters["solutions_sent"])
    }

    fn timed_out() -> Result<SolutionOutcome, ClientError> {
        Err(ClientError::TimedOut { subject: "controller.solution".into(), after: Duration::from_secs(1) })
    }

    fn no_responders() -> Result<SolutionOutcome, ClientError> {
        Err(ClientError::NoResponders { subject: "controller.solution".into() })
    }

    #[tokio::test]
    async fn accepted_at_once() {
        let (fate, asked, sent) = hand_in(&[1, 2], &[|| Ok(SolutionOutcome::Accepted)]).await;
        assert_eq!((fate, asked, sent), (Fate::Accepted, vec![controller(1)], 1));
    }

    #[tokio::test]
    async fn goes_elsewhere_only_on_proof_of_non_delivery() {
        let answers: [Answer; 3] =
            [no_responders, || Ok(SolutionOutcome::Ignored), || Ok(SolutionOutcome::Accepted)];
        let (fate, asked, sent) = hand_in(&[1, 2, 3], &answers).await;
        assert_eq!(fate, Fate::Accepted);
        assert_eq!(asked, [controller(1), controller(2), controller(3)]);
        assert_eq!(sent, 1);
    }

    #[tokio::test]
    async fn never_after_silence() {
        let (fate, asked, _) = hand_in(&[1, 2], &[timed_out]).await;
        assert!(matches!(fate, Fate::Rejected { label: "NoAnswer", .. }));
        assert_eq!(asked, [controller(1)]);
    }

    #[tokio::test]
    async fn a_rejection_is_final_and_without_another_controller_it_ends_in_time() {
        let rejected: Answer = || Ok(SolutionOutcome::Rejected { reason: "invalid chunk witness".into() });
        let (fate, asked, _) = hand_in(&[1, 2], &[rejected]).await;
        assert!(matches!(fate, Fate::Rejected { label: "InvalidChunkWitness", .. }));
        assert_eq!(asked, [controller(1)]);
        let started = Instant::now();
        let (fate, asked, _) = hand_in(&[1], &[no_responders]).await;
        assert!(matches!(fate, Fate::Rejected { label: "NotDelivered", .. }));
        assert_eq!(asked, [controller(1)]);
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn labels_of_every_verification_error() {
        use farming::verification::SolutionError as Error;
        let size = primitives::HistorySize::ONE;
        for (error, label) in [
            (Error::InvalidProofOfSpace, "InvalidProofOfSpace"),
            (
                Error::OutsideSolutionRange { half_solution_range: 1, solution_distance: 2 },
                "OutsideSolutionRange",
            ),
            (Error::InvalidChunk("Invalid scalar".into()), "InvalidChunk"),
            (Error::InvalidChunkWitness, "InvalidChunkWitness"),
            (Error::FutureHistorySize { current: size, solution: size }, "FutureHistorySize"),
            (Error::InvalidHistorySize(size), "InvalidHistorySize"),
            (
                Error::SectorExpired { expiration_history_size: size, current_history_size: size },
                "SectorExpired",
            ),
            (Error::InvalidPiece, "InvalidPiece"),
        ] {
            assert_eq!(rejection_label(&error.to_string()), label, "{error}");
        }
        assert_eq!(rejection_label("FutureHistorySize"), "FutureHistorySize");
        assert_eq!(rejection_label("InvalidPieceOffset"), "InvalidPieceOffset");
        assert_eq!(rejection_label("no idea"), "Other");
    }
}
