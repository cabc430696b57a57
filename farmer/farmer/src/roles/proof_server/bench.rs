//! The bench on which proofs are made: the same for a proof-server and for a plot-client that must help itself.

use cluster::contract::{ProveError, clip};
use farming::proving::{ProofInput, Prover};
use parking_lot::Mutex;
use primitives::{Solution, SolutionRange};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a proof takes until one has been timed: about two seconds on two cores.
const FIRST_ESTIMATE: Duration = Duration::from_secs(2);

/// Makes a bounded number of proofs at once, the nearest chunk's first, and none that would be late.
pub struct Bench {
    prover: Arc<dyn Prover>,
    queue: Arc<Mutex<Queue>>,
    concurrency: usize,
    estimate: Mutex<Duration>,
}

/// What orders those that wait: distance, then arrival.
type Turn = (SolutionRange, u64);

struct Queue {
    free: usize,
    waiting: BTreeMap<Turn, oneshot::Sender<Place>>,
    arrivals: u64,
}

/// A place on the bench; dropped, it goes to the best of those that wait.
pub struct Place {
    queue: Arc<Mutex<Queue>>,
    /// Whether it had to be waited for.
    pub waited: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.queue.lock();
            let next = queue.waiting.pop_first();
            queue.free += usize::from(next.is_none());
            next
        };
        if let Some((_, next)) = next {
            // Who has gone away meanwhile gives it back: it is dropped here, and goes to the next.
            drop(next.send(Self { queue: Arc::clone(&self.queue), waited: true }));
        }
    }
}

/// Somebody who waits for a place, until it is dropped.
struct Waiting<'a> {
    queue: &'a Mutex<Queue>,
    turn: Turn,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.queue.lock().waiting.remove(&self.turn);
    }
}

impl Bench {
    /// A bench for `concurrency` proofs at once, at least one.
    pub fn new(prover: Arc<dyn Prover>, concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            prover,
            queue: Arc::new(Mutex::new(Queue { free: concurrency, waiting: BTreeMap::new(), arrivals: 0 })),
            concurrency,
            estimate: Mutex::new(FIRST_ESTIMATE),
        }
    }

    /// What a proof takes, by the latest ones.
    pub fn estimate(&self) -> Duration {
        *self.estimate.lock()
    }

    /// Makes a proof if it can be there in time.
    ///
    /// # Errors
    /// Those of [`Self::place`] and [`Self::prove_at`].
    pub async fn prove(
        &self,
        input: ProofInput,
        distance: SolutionRange,
        deadline: Instant,
    ) -> Result<Solution, ProveError> {
        let place = self.place(distance, deadline).await?;
        self.prove_at(place, input, deadline).await
    }

    /// Waits for a place; whoever has the smaller distance gets one earlier.
    ///
    /// # Errors
    /// [`ProveError::Busy`] at once when those before it leave no time, or later when others took it;
    /// [`ProveError::TooLate`] when the deadline has passed.
    pub async fn place(&self, distance: SolutionRange, deadline: Instant) -> Result<Place, ProveError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ProveError::TooLate);
        }
        let (turn, receiver) = {
            let mut queue = self.queue.lock();
            if queue.free > 0 {
                queue.free -= 1;
                return Ok(Place { queue: Arc::clone(&self.queue), waited: false });
            }
            queue.arrivals += 1;
            let turn = (distance, queue.arrivals);
            let rounds = queue.waiting.range(..turn).count().div_ceil(self.concurrency) as u32;
            if self.estimate() * (rounds + 1) > left {
                return Err(ProveError::Busy);
            }
            let (sender, receiver) = oneshot::channel();
            queue.waiting.insert(turn, sender);
            (turn, receiver)
        };
        let _waiting = Waiting { queue: &self.queue, turn };
        let place = tokio::time::timeout(left, receiver).await.map_err(|_| ProveError::TooLate)?;
        let place = place.expect("who takes a waiting sender out of the queue sends");
        if Instant::now() + self.estimate() > deadline {
            // Nearer ones came first; another bench may have more room.
            return Err(ProveError::Busy);
        }
        Ok(place)
    }

    /// Makes a proof on a place.
    ///
    /// # Errors
    /// [`ProveError::TooLate`] when it took too long; what is wrong with the input.
    pub async fn prove_at(
        &self,
        place: Place,
        input: ProofInput,
        deadline: Instant,
    ) -> Result<Solution, ProveError> {
        let prover = Arc::clone(&self.prover);
        let started = Instant::now();
        let made = tokio::task::spawn_blocking(move || {
            // The place is taken for as long as there is work, also when nobody waits for it any more.
            let _place = place;
            prover.prove(&input)
        })
        .await;
        let took = started.elapsed();
        let result = made.map_err(|error| ProveError::Failed(clip(error.to_string())))?;
        let solution = result.map_err(|error| translate(&error))?;
        {
            let mut estimate = self.estimate.lock();
            *estimate = (*estimate * 3 + took) / 4;
        }
        if Instant::now() > deadline { Err(ProveError::TooLate) } else { Ok(solution) }
    }
}

/// The error as it crosses the wire.
fn translate(error: &farming::proving::ProveError) -> ProveError {
    use farming::proving::ProveError as Cause;
    let text = clip(error.to_string());
    match error {
        Cause::NotAudited { .. } | Cause::Contents | Cause::NoChunk { .. } => ProveError::InvalidInput(text),
        Cause::Recover(_) => ProveError::DamagedRecord(text),
        Cause::Device { .. } => ProveError::Failed(text),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(in super::super) mod tests {
    use super::*;
    use primitives::sectors::RecordMetadata;
    use primitives::solutions::PosProof;
    use primitives::{
        Blake3Hash, ChunkWitness, HistorySize, PieceOffset, PublicKey, RecordCommitment, RecordWitness,
        SBucket, ScalarBytes,
    };

    /// An input that no real prover takes.
    pub(in super::super) fn input() -> ProofInput {
        ProofInput {
            slot_number: 7,
            global_challenge: Blake3Hash([1; 32]),
            public_key: PublicKey([2; 32]),
            reward_address: PublicKey([3; 32]),
            sector_index: 4,
            history_size: HistorySize::ONE,
            pieces_in_sector: 2,
            piece_offset: PieceOffset(1),
            s_bucket: SBucket(5),
            chunk_index: 6,
            contents: vec![0; 8192].try_into().unwrap(),
            chunks: vec![[0; 32]; 32768].try_into().unwrap(),
            metadata: RecordMetadata {
                commitment: RecordCommitment::default(),
                witness: RecordWitness::default(),
                piece_checksum: Blake3Hash::default(),
            },
        }
    }

    struct Slow(Duration);

    impl Prover for Slow {
        fn prove(&self, input: &ProofInput) -> Result<Solution, farming::proving::ProveError> {
            std::thread::sleep(self.0);
            Ok(Solution {
                public_key: input.public_key,
                reward_address: input.reward_address,
                sector_index: input.sector_index,
                history_size: input.history_size,
                piece_offset: input.piece_offset,
                record_commitment: input.metadata.commitment,
                record_witness: input.metadata.witness,
                chunk: ScalarBytes([0; 32]),
                chunk_witness: ChunkWitness::default(),
                proof_of_space: PosProof::default(),
            })
        }
    }

    #[tokio::test]
    async fn late_proofs_are_dropped_and_full_benches_say_so() {
        let bench = Arc::new(Bench::new(Arc::new(Slow(Duration::from_millis(200))), 1));
        let soon = || Instant::now() + Duration::from_millis(50);
        assert_eq!(bench.prove(input(), 0, soon()).await, Err(ProveError::TooLate));
        let running = {
            let bench = Arc::clone(&bench);
            tokio::spawn(
                async move { bench.prove(input(), 0, Instant::now() + Duration::from_secs(20)).await },
            )
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        assert_eq!(bench.prove(input(), 0, soon()).await, Err(ProveError::Busy));
        assert!(started.elapsed() < Duration::from_millis(40));
        // With enough time it waits for its place.
        let later = bench.prove(input(), 0, Instant::now() + Duration::from_secs(20)).await;
        assert_eq!(later.unwrap().sector_index, 4);
        assert!(running.await.unwrap().is_ok());
        assert!(bench.queue.lock().waiting.is_empty());
        assert!(bench.estimate() < FIRST_ESTIMATE);
    }

    #[tokio::test]
    async fn the_nearest_is_proved_first_and_who_goes_away_holds_up_nobody() {
        let bench = Arc::new(Bench::new(Arc::new(Slow(Duration::ZERO)), 1));
        let deadline = Instant::now() + Duration::from_secs(60);
        let place = bench.place(u64::MAX, deadline).await.unwrap();
        assert!(!place.waited);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for distance in [30, 10, 5, 20] {
            let (for_it, order) = (Arc::clone(&bench), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let place = for_it.place(distance, deadline).await.unwrap();
                assert!(place.waited);
                order.lock().push(distance);
            }));
            while bench.queue.lock().waiting.len() < waiting.len() {
                tokio::task::yield_now().await;
            }
        }
        let gone = waiting.remove(2);
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(place);
        for waiting in waiting {
            waiting.await.unwrap();
        }
        assert_eq!(*order.lock(), [10, 20, 30]);
        assert_eq!(bench.queue.lock().free, 1);
    }
}
