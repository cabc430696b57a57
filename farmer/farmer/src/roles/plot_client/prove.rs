//! From a winning chunk to a solution that is worth handing in: by a proof-server, by this host's own CPU when none
//! answers and there is time, and verified either way.

use super::handle::FarmHandle;
use super::metrics::Metrics;
use super::submit::Slot;
use super::wanted::{Wanted, WantedProofs};
use crate::roles::proof_server::bench::Bench;
use archiving::Kzg;
use cluster::contract::{InstanceId, ProveError, ProveRequest, clip};
use cluster::{ClientError, ClusterClient};
use farming::proving::{ProofInput, ProofTarget, ProvableChunk, prepare_proof_request};
use farming::sector::{RecordChunksMode, SectorReadError};
use farming::verification::verify_solution_for_challenge;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parity_scale_codec::Encode;
use parking_lot::Mutex;
use primitives::{PublicKey, Solution, SolutionRange};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time kept for handing the solution in.
const HAND_IN: Duration = Duration::from_millis(300);
/// Requests for one proof: to a second proof-server when the first is late, hung, busy or fails, and to a third.
const MOST_REQUESTS: usize = 3;
/// A proof-server takes a request at once, or it hangs.
const TAKE_TIMEOUT: Duration = Duration::from_millis(300);
/// Wait before another is asked in place of a busy one.
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// What is assumed of proof-servers until one has answered.
const FIRST_ANSWER: Duration = Duration::from_millis(2500);

/// How proof-servers have been answering.
#[derive(Debug)]
pub struct RemoteHabit {
    usual: Duration,
    silent: bool,
    answers: u64,
}

impl Default for RemoteHabit {
    fn default() -> Self {
        Self { usual: FIRST_ANSWER, silent: false, answers: 0 }
    }
}

impl RemoteHabit {
    fn answered(&mut self, took: Duration) {
        self.usual = (self.usual * 3 + took) / 4;
        self.silent = false;
        self.answers += 1;
    }

    /// How long an answer may be waited for without doubt: an own proof beside one that is about to come would only slow
    /// it down where both run on the same host. After a silence nothing is waited for.
    fn patience(&self) -> Duration {
        if self.silent { Duration::ZERO } else { self.usual.mul_f64(1.5) }
    }
}

/// Has proofs made.
pub struct Prover {
    /// The cluster.
    pub client: ClusterClient,
    /// For the verification.
    pub kzg: Kzg,
    /// This host's own CPU.
    pub bench: Arc<Bench>,
    /// Who is paid.
    pub reward_address: PublicKey,
    /// How proof-servers have been answering.
    pub habit: Arc<Mutex<RemoteHabit>>,
    /// What proof-servers are told that ask whether a proof is still wanted.
    pub wanted: Arc<WantedProofs>,
    /// This plot-client.
    pub instance: InstanceId,
    /// Counters.
    pub metrics: Metrics,
}

/// Why there is no solution.
#[derive(Debug)]
enum Failure {
    /// There was no time.
    Late,
    /// The sector was replaced meanwhile.
    Replaced,
    /// The plot is damaged there.
    Damaged(String),
    /// Anything else.
    Other(String),
}

/// What a proof-server's answer is good for.
enum Answer {
    /// A valid solution.
    Good(Box<Solution>),
    /// Another server may have a better one.
    Useless,
    /// There is no other server.
    NobodyThere,
}

/// When a proof has to be there, so that it can be handed in.
fn proof_deadline(slot: &Slot) -> Instant {
    slot.deadline.checked_sub(HAND_IN).unwrap_or(slot.deadline)
}

impl Prover {
    /// The solution of a winning chunk; none when it cannot be had, which is counted and logged.
    pub async fn prove(&self, handle: &FarmHandle, slot: &Slot, chunk: ProvableChunk) -> Option<Solution> {
        let sector_index = chunk.sector.sector_index;
        match self.try_prove(handle, slot, chunk).await {
            Ok(solution) => return Some(solution),
            Err(Failure::Late) => {
                self.metrics.proofs_late.inc();
                tracing::warn!(slot = slot.number, sector_index, "No proof in time");
            }
            Err(Failure::Replaced) => {}
            Err(Failure::Damaged(reason)) => {
                self.metrics.proofs_failed.inc("Damaged");
                tracing::error!(farm = %handle.farm.id(), sector_index, "The plot gives no valid proof: {reason}");
                handle.suspect(sector_index, reason);
            }
            Err(Failure::Other(reason)) => {
                self.metrics.proofs_failed.inc("Other");
                tracing::error!(farm = %handle.farm.id(), sector_index, "No proof: {reason}");
            }
        }
        None
    }

    async fn try_prove(
        &self,
        handle: &FarmHandle,
        slot: &Slot,
        chunk: ProvableChunk,
    ) -> Result<Solution, Failure> {
        let target = ProofTarget {
            slot_number: slot.number,
            global_challenge: slot.challenge,
            public_key: handle.public_key(),
            reward_address: self.reward_address,
        };
        let distance = chunk.distance;
        let farm = Arc::clone(&handle.farm);
        let reading = tokio::task::spawn_blocking(move || {
            prepare_proof_request(farm.plot(), &chunk, &target, RecordChunksMode::default())
        });
        let input = match reading.await {
            Ok(Ok(input)) => input,
            Ok(Err(SectorReadError::Replaced)) => return Err(Failure::Replaced),
            Ok(Err(error)) if error.is_corruption() => return Err(Failure::Damaged(error.to_string())),
            Ok(Err(error)) => return Err(Failure::Other(error.to_string())),
            Err(error) => return Err(Failure::Other(error.to_string())),
        };
        self.race(slot, input, distance).await
    }

    /// When a proof has to be begun on this host to be in time.
    pub fn last_start(&self, slot: &Slot) -> Instant {
        proof_deadline(slot).checked_sub(self.bench.estimate().mul_f64(1.2)).unwrap_or(slot.arrived)
    }

    /// Asks a proof-server, and begins to help itself when there is none, or when one is slower than usual and waiting
    /// any longer would leave no time.
    async fn race(
        &self,
        slot: &Slot,
        input: ProofInput,
        distance: SolutionRange,
    ) -> Result<Solution, Failure> {
        let deadline = proof_deadline(slot);
        let own_start = match self.habit.lock().patience() {
            Duration::ZERO => slot.arrived,
            patience => self.last_start(slot).max(Instant::now() + patience),
        };
        let remote = self.remote(slot, &input, distance, deadline);
        tokio::pin!(remote);
        let mut remote_open = true;
        tokio::select! {
            biased;
            answer = &mut remote => match answer {
                Some(solution) => return Ok(solution),
                None => remote_open = false,
            },
            () = tokio::time::sleep_until(own_start.into()) => {}
        }
        let own = self.own(slot, &input, distance, deadline);
        tokio::pin!(own);
        loop {
            tokio::select! {
                answer = &mut remote, if remote_open => match answer {
                    Some(solution) => return Ok(solution),
                    None => remote_open = false,
                },
                answer = &mut own => match answer {
                    Err(Failure::Late) if remote_open => return remote.await.ok_or(Failure::Late),
                    answer => return answer,
                },
            }
        }
    }

    /// A proof-server's solution, verified; none when none gives one in time. The first one asked is given the time that
    /// proof-servers usually need; then, or when it does not even take the request, a second one is asked, and the first
    /// answer counts.
    async fn remote(
        &self,
        slot: &Slot,
        input: &ProofInput,
        distance: SolutionRange,
        deadline: Instant,
    ) -> Option<Solution> {
        let encoded = input.encode();
        let wanted = Wanted::until(deadline);
        let mut taken = wanted.taken();
        let mut requests_left = if self.habit.lock().silent { 1 } else { MOST_REQUESTS };
        let mut asked = FuturesUnordered::new();
        let mut due = Instant::now();
        let mut asked_before = false;
        loop {
            tokio::select! {
                Some(answer) = asked.next() => match self.judge(slot, input, answer).await {
                    Answer::Good(solution) => return Some(*solution),
                    Answer::Useless => due = Instant::now() + BUSY_WAIT,
                    Answer::NobodyThere => requests_left = 0,
                },
                Ok(()) = taken.changed() => {
                    let mut habit = self.habit.lock();
                    habit.silent = false;
                    due = Instant::now() + habit.patience();
                }
                () = tokio::time::sleep_until(due.into()), if requests_left > 0 || !wanted.is_in_hand() => {
                    if requests_left == 0 {
                        // Nobody takes it: those that there are hang.
                        self.habit.lock().silent = true;
                        return None;
                    }
                    let left = deadline.checked_duration_since(Instant::now())?;
                    self.metrics.proofs_requested.inc();
                    self.metrics.proofs_asked_again.inc_by(u64::from(asked_before));
                    asked_before = true;
                    requests_left -= 1;
                    due = Instant::now() + TAKE_TIMEOUT;
                    let request = self.wanted.request(&wanted);
                    let prove = ProveRequest { asker: self.instance, id: request.id, distance, input: encoded.clone() };
                    let asking = ask(self.client.clone(), Arc::clone(&self.habit), prove, left);
                    asked.push(async move {
                        let answer = asking.await;
                        drop(request);
                        answer
                    });
                }
            }
            if asked.is_empty() && requests_left == 0 {
                return None;
            }
        }
    }

    async fn judge(
        &self,
        slot: &Slot,
        input: &ProofInput,
        answer: Result<Result<Solution, ProveError>, ClientError>,
    ) -> Answer {
        match answer {
            Ok(Ok(solution)) => match self.verified(slot, input, solution).await {
                Ok(solution) => return Answer::Good(Box::new(solution)),
                Err(reason) => {
                    self.metrics.proofs_failed.inc("Invalid");
                    tracing::error!(slot = slot.number, "A proof-server's solution is not used: {reason}");
                }
            },
            Ok(Err(ProveError::Busy | ProveError::NotWanted)) => {}
            Ok(Err(error)) => {
                tracing::warn!(slot = slot.number, "A proof-server gives no solution: {error}");
            }
            Err(error) => {
                tracing::debug!(slot = slot.number, "No proof-server: {error}");
                if matches!(error, ClientError::NoResponders { .. } | ClientError::Disconnected { .. }) {
                    return Answer::NobodyThere;
                }
            }
        }
        Answer::Useless
    }

    /// This host's own solution, verified.
    async fn own(
        &self,
        slot: &Slot,
        input: &ProofInput,
        distance: SolutionRange,
        deadline: Instant,
    ) -> Result<Solution, Failure> {
        let solution = match self.bench.prove(input.clone(), distance, deadline).await {
            Ok(solution) => solution,
            Err(ProveError::Busy | ProveError::TooLate | ProveError::NotWanted) => return Err(Failure::Late),
            Err(ProveError::DamagedRecord(reason)) => return Err(Failure::Damaged(reason)),
            Err(ProveError::InvalidInput(reason) | ProveError::Failed(reason)) => {
                return Err(Failure::Other(reason));
            }
        };
        self.metrics.proofs_local.inc();
        self.verified(slot, input, solution).await.map_err(Failure::Damaged)
    }

    /// The solution if it answers the input and is valid.
    async fn verified(
        &self,
        slot: &Slot,
        input: &ProofInput,
        solution: Solution,
    ) -> Result<Solution, String> {
        let asked = solution.public_key == input.public_key
            && solution.reward_address == input.reward_address
            && solution.sector_index == input.sector_index
            && solution.history_size == input.history_size
            && solution.piece_offset == input.piece_offset
            && solution.record_commitment == input.metadata.commitment
            && solution.record_witness == input.metadata.witness;
        if !asked {
            return Err("it answers another question".into());
        }
        let (kzg, challenge, range) = (self.kzg.clone(), slot.challenge, slot.voting_range);
        let verification = tokio::task::spawn_blocking(move || {
            verify_solution_for_challenge(&kzg, &solution, &challenge, range, None).map(|_| solution)
        });
        match verification.await {
            Ok(Ok(solution)) => Ok(solution),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Asks a proof-server and remembers how it answered, even when this future is dropped meanwhile: where this host's own CPU
/// is the faster one it would otherwise never be known that silent proof-servers answer again.
async fn ask(
    client: ClusterClient,
    habit: Arc<Mutex<RemoteHabit>>,
    request: ProveRequest,
    limit: Duration,
) -> Result<Result<Solution, ProveError>, ClientError> {
    let asking = tokio::spawn(async move {
        let asked = Instant::now();
        let answers_before = habit.lock().answers;
        let answer = client.request_within(&request, limit).await;
        match &answer {
            Ok(Ok(_)) => habit.lock().answered(asked.elapsed()),
            Err(ClientError::TimedOut { .. }) => {
                let mut habit = habit.lock();
                // One of several that hangs is not silence: the others are asked in its place.
                habit.silent |= habit.answers == answers_before;
            }
            // Whoever says no is not silent.
            Ok(Err(_)) => habit.lock().silent = false,
            Err(_) => {}
        }
        answer
    });
    asking.await.unwrap_or_else(|error| Ok(Err(ProveError::Failed(clip(error.to_string())))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::submit::tests::solution;
    use super::*;
    use cluster::testing::NatsServer;

    #[test]
    fn silent_proof_servers_are_not_waited_for_until_one_answers() {
        let mut habit = RemoteHabit::default();
        assert!(habit.patience() > FIRST_ANSWER);
        for _ in 0..20 {
            habit.answered(Duration::from_millis(200));
        }
        assert!(habit.patience() < Duration::from_millis(400));
        habit.silent = true;
        assert_eq!(habit.patience(), Duration::ZERO);
        habit.answered(Duration::from_secs(1));
        assert!(habit.patience() > Duration::from_millis(300));
    }

    /// Asks and goes away at once, as a race does that this host's own CPU wins; waits for what is learned all the same.
    async fn ask_and_go_away(client: &ClusterClient, habit: &Arc<Mutex<RemoteHabit>>, silent: bool) {
        let asker = InstanceId::generate();
        let request = ProveRequest { asker, id: 0, distance: 0, input: Vec::new() };
        let limit = if silent { Duration::from_millis(300) } else { Duration::from_secs(60) };
        assert_ne!(habit.lock().silent, silent);
        let mut asking = Box::pin(ask(client.clone(), Arc::clone(habit), request, limit));
        assert!(futures::poll!(asking.as_mut()).is_pending());
        drop(asking);
        let learning = async {
            while habit.lock().silent != silent {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), learning).await.unwrap();
    }

    #[tokio::test]
    async fn what_proof_servers_do_is_learned_though_nobody_waits_any_more() {
        let nats = NatsServer::start();
        let client = nats.client().await;
        let (hang, hangs) = tokio::sync::watch::channel(true);
        // Over one connection: the server knows of who answers before it is asked.
        let _serving = client
            .serve_queue::<ProveRequest, _, _>(4, move |_| {
                let mut hangs = hangs.clone();
                async move {
                    let _ = hangs.wait_for(|hangs| !hangs).await;
                    Ok(Ok(solution()))
                }
            })
            .await
            .unwrap();
        let habit = Arc::default();
        ask_and_go_away(&client, &habit, true).await;
        hang.send_replace(false);
        ask_and_go_away(&client, &habit, false).await;
    }
}
