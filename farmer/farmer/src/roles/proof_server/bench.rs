//! The bench on which proofs are made: the same for a proof-server and for a plot-client that must help itself.

use cluster::contract::{ProveError, clip};
use farming::proving::{ProofInput, Prover};
use parking_lot::Mutex;
use primitives::Solution;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What a proof takes until one has been timed: about two seconds on two cores.
const FIRST_ESTIMATE: Duration = Duration::from_secs(2);

/// Makes a bounded number of proofs at once, and none that would be late.
pub struct Bench {
    prover: Arc<dyn Prover>,
    places: Semaphore,
    concurrency: usize,
    waiting: AtomicUsize,
    estimate: Mutex<Duration>,
}

/// Counts a proof that waits for a place, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bench {
    /// A bench for `concurrency` proofs at once, at least one.
    pub fn new(prover: Arc<dyn Prover>, concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            prover,
            places: Semaphore::new(concurrency),
            concurrency,
            waiting: AtomicUsize::new(0),
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
    /// [`ProveError::Busy`] at once when those before it leave no time; [`ProveError::TooLate`] when it took too long
    /// after all; what is wrong with the input.
    pub async fn prove(&self, input: ProofInput, deadline: Instant) -> Result<Solution, ProveError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        let rounds = before.div_ceil(self.concurrency) as u32;
        let left = deadline.saturating_duration_since(Instant::now());
        if self.places.available_permits() == 0 && self.estimate() * (rounds + 1) > left {
            return Err(ProveError::Busy);
        }
        let place =
            tokio::time::timeout(left, self.places.acquire()).await.map_err(|_| ProveError::TooLate)?;
        let _place = place.expect("the semaphore is never closed");
        drop(waiting);
        if Instant::now() >= deadline {
            return Err(ProveError::TooLate);
        }
        self.prove_now(input, deadline).await
    }

    async fn prove_now(&self, input: ProofInput, deadline: Instant) -> Result<Solution, ProveError> {
        let prover = Arc::clone(&self.prover);
        let started = Instant::now();
        let made = tokio::task::spawn_blocking(move || prover.prove(&input)).await;
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
        assert_eq!(bench.prove(input(), soon()).await, Err(ProveError::TooLate));
        let running = {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.prove(input(), Instant::now() + Duration::from_secs(20)).await })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        assert_eq!(bench.prove(input(), soon()).await, Err(ProveError::Busy));
        assert!(started.elapsed() < Duration::from_millis(40));
        // With enough time it waits for its place.
        let later = bench.prove(input(), Instant::now() + Duration::from_secs(20)).await;
        assert_eq!(later.unwrap().sector_index, 4);
        assert!(running.await.unwrap().is_ok());
        assert_eq!(bench.waiting.load(Ordering::Relaxed), 0);
        assert!(bench.estimate() < FIRST_ESTIMATE);
    }
}
