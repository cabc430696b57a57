//! Slots: audit of every farm, proofs of what wins, solutions handed in.

use super::handle::FarmHandle;
use super::metrics::Metrics;
use super::prove::Prover;
use super::slots::SlotGate;
use super::submit::{Counter, Slot};
use cluster::client::Broadcasts;
use cluster::contract::SlotBroadcast;
use farming::proving::{ProvableChunk, provable_chunks_of_plot};
use futures::StreamExt;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Winning chunks of one farm that are proved for one slot, the nearest: more than a node can use.
const CANDIDATES_PER_SLOT: usize = 16;
/// Proofs of one farm in the making at once.
const PROOFS_IN_FLIGHT: usize = 2;

/// Farms with all farms of the plot-client.
pub struct Farming {
    /// The farms.
    pub handles: Vec<Arc<FarmHandle>>,
    /// Has proofs made.
    pub prover: Prover,
    /// Hands solutions in.
    pub counter: Counter,
    /// Lets each slot through once.
    pub gate: Arc<Mutex<SlotGate>>,
    /// Time from a slot to the end of its usefulness.
    pub farming_timeout: Duration,
    /// Counters.
    pub metrics: Metrics,
}

impl Farming {
    /// Answers slots until the connection is closed.
    pub async fn run(self: Arc<Self>, mut slots: Broadcasts<SlotBroadcast>) {
        while let Some(SlotBroadcast { controller, slot }) = slots.next().await {
            let arrived = Instant::now();
            let first = self.gate.lock().is_first(slot.slot_number, &slot.global_challenge, controller);
            if !first {
                continue;
            }
            self.metrics.slots_seen.inc();
            let slot = Slot {
                number: slot.slot_number,
                challenge: slot.global_challenge,
                voting_range: slot.voting_solution_range,
                controller,
                arrived,
                deadline: arrived + self.farming_timeout,
            };
            tracing::debug!(slot = slot.number, %controller, "Slot");
            for handle in &self.handles {
                tokio::spawn(Arc::clone(&self).answer(Arc::clone(handle), slot));
            }
        }
    }

    /// Answers one slot with one farm.
    async fn answer(self: Arc<Self>, handle: Arc<FarmHandle>, slot: Slot) {
        if handle.auditing.swap(true, Ordering::AcqRel) {
            tracing::debug!(slot = slot.number, farm = %handle.farm.id(), "Slot skipped: still at an earlier one");
            handle.skipped();
            return;
        }
        let (this, audited) = (Arc::clone(&self), Arc::clone(&handle));
        let audit = tokio::task::spawn_blocking(move || {
            let candidates = audited.audits.install(|| this.audit(&audited, &slot));
            audited.auditing.store(false, Ordering::Release);
            candidates
        });
        let candidates = match audit.await {
            Ok(candidates) => candidates,
            Err(error) => {
                handle.auditing.store(false, Ordering::Release);
                tracing::error!(%error, "An audit failed");
                return;
            }
        };
        let proofs = candidates.into_iter().map(|chunk| self.answer_with(&handle, &slot, chunk));
        futures::stream::iter(proofs).buffered(PROOFS_IN_FLIGHT).for_each(|()| std::future::ready(())).await;
    }

    /// The winning chunks, the nearest first.
    fn audit(&self, handle: &FarmHandle, slot: &Slot) -> Vec<ProvableChunk> {
        let started = Instant::now();
        let farm = &handle.farm;
        let outcome = farm.audit(&slot.challenge, slot.voting_range, Some(slot.audited_until()));
        handle.audited(outcome.audited + outcome.errors.len(), outcome.left_out);
        self.metrics.audits.inc();
        self.metrics.audit_seconds.observe(started.elapsed().as_secs_f64());
        if let Some(error) = outcome.errors.first() {
            self.metrics.audit_errors.inc_by(outcome.errors.len() as u64);
            tracing::error!(farm = %farm.id(), unreadable = outcome.errors.len(), "Audit: {error}");
        }
        let nearest = &outcome.candidates[..outcome.candidates.len().min(CANDIDATES_PER_SLOT)];
        let (mut chunks, errors) = provable_chunks_of_plot(farm.plot(), farm.plot().path(), nearest);
        for error in errors {
            tracing::error!(farm = %farm.id(), "{error}");
            if error.source.is_corruption() {
                handle.suspect(error.sector_index, error.source.to_string());
            }
        }
        chunks.truncate(CANDIDATES_PER_SLOT);
        self.metrics.candidates.inc_by(chunks.len() as u64);
        chunks
    }

    async fn answer_with(&self, handle: &FarmHandle, slot: &Slot, chunk: ProvableChunk) {
        if Instant::now() >= slot.deadline {
            self.metrics.proofs_late.inc();
            return;
        }
        if let Some(solution) = self.prover.prove(handle, slot, chunk).await {
            self.counter.hand_in(slot, solution).await;
        }
    }
}
