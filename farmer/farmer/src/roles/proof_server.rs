//! The proof-server: makes solutions of candidates for plot-clients, which have the plots and no time.
//!
//! A request may have lain about: in NATS, or in this process while it hung. So the first thing is to ask its plot-client
//! whether and for how long the proof is wanted; what nobody waits for is dropped unread. The plot-client learns by the same
//! that its request is in hand.

pub mod bench;

use crate::cli::ProofServerArguments;
use crate::roles::{Error, RoleContext};
use crate::status::Status;
use archiving::Kzg;
use bench::Bench;
use cluster::ClusterClient;
use cluster::contract::{InstanceId, ProofWantedRequest, ProveError, ProveRequest, clip};
use farming::proving::{CpuProver, ProofInput};
use parity_scale_codec::DecodeAll;
use primitives::Solution;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Requests taken off NATS at once for each proof in the making: those that would wait too long must hear so at once.
const REQUESTS_PER_PROOF: usize = 64;
/// How long requests in hand may still take at the shutdown.
const DRAIN: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Counter,
    made: Counter,
    late: Counter,
    busy: Counter,
    unwanted: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Metrics {
    pub(crate) fn new(status: &Status) -> Self {
        Self {
            requests: status.counter("proofs_requested", "Proofs asked for"),
            made: status.counter("proofs_made", "Proofs made in time"),
            late: status.counter("proofs_late", "Proofs that were not there in time"),
            busy: status.counter("proofs_refused_busy", "Proofs refused because others left no time"),
            unwanted: status
                .counter("proofs_unwanted", "Requests dropped because nobody waited for the proof any more"),
            failed: status.counter("proofs_failed", "Proofs that failed"),
            seconds: status.histogram_seconds("proof_seconds", "Time from the request to the proof"),
        }
    }

    fn count(&self, result: &Result<Solution, ProveError>, took: Duration) {
        match result {
            Ok(_) => {
                self.made.inc();
                self.seconds.observe(took.as_secs_f64());
            }
            Err(ProveError::TooLate) => drop(self.late.inc()),
            Err(ProveError::Busy) => drop(self.busy.inc()),
            Err(ProveError::NotWanted) => drop(self.unwanted.inc()),
            Err(error) => {
                tracing::warn!("A proof failed: {error}");
                self.failed.inc();
            }
        }
    }
}

/// Runs a proof-server until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, arguments: ProofServerArguments) -> Result<(), Error> {
    let kzg = context.reference_string().await?;
    let client = context.connect().await?;
    context.chain(&client).await?;
    let _members = context.join(&client, 0);
    serve(&context, &arguments, &client, kzg).await
}

/// Makes proofs until the shutdown.
///
/// # Errors
/// When the connection is closed.
pub async fn serve(
    context: &RoleContext,
    arguments: &ProofServerArguments,
    client: &ClusterClient,
    kzg: Kzg,
) -> Result<(), Error> {
    let metrics = Metrics::new(&context.status);
    let concurrency = arguments.proof_concurrency.max(1);
    let desk = Arc::new(Desk {
        bench: Bench::new(Arc::new(CpuProver::new(kzg)), concurrency),
        client: client.clone(),
        instance: context.instance,
        metrics,
    });
    let handler = move |request: ProveRequest| {
        let desk = Arc::clone(&desk);
        async move { Ok(desk.answer(request).await) }
    };
    let serving = client.serve_queue::<ProveRequest, _, _>(concurrency * REQUESTS_PER_PROOF, handler).await?;
    context.run_until_shutdown().await;
    serving.drain(DRAIN).await;
    Ok(())
}

/// Where requests are taken.
struct Desk {
    bench: Bench,
    client: ClusterClient,
    instance: InstanceId,
    metrics: Metrics,
}

impl Desk {
    async fn answer(&self, request: ProveRequest) -> Result<Solution, ProveError> {
        let arrived = Instant::now();
        self.metrics.requests.inc();
        let result = self.prove(request).await;
        self.metrics.count(&result, arrived.elapsed());
        result
    }

    async fn prove(&self, request: ProveRequest) -> Result<Solution, ProveError> {
        let ProveRequest { asker, id, distance, input } = request;
        let deadline = self.wanted_until(asker, id).await?;
        let proof_input = ProofInput::decode_all(&mut &*input)
            .map_err(|error| ProveError::InvalidInput(clip(error.to_string())))?;
        drop(input);
        let place = self.bench.place(distance, deadline).await?;
        if place.waited {
            self.wanted_until(asker, id).await?;
        }
        self.bench.prove_at(place, proof_input, deadline).await
    }

    /// Until when the proof is wanted, by this host's monotonic clock.
    async fn wanted_until(&self, asker: InstanceId, id: u64) -> Result<Instant, ProveError> {
        // Before the question: what the way takes is not given twice.
        let asked = Instant::now();
        let request = ProofWantedRequest { id, server: self.instance };
        match self.client.request_instance(asker, &request).await {
            Ok(wanted) => {
                let left = wanted.left_ms.ok_or(ProveError::NotWanted)?;
                Ok(asked + Duration::from_millis(left.into()))
            }
            Err(error) => {
                tracing::debug!(%asker, %error, "Whoever wanted a proof is gone");
                Err(ProveError::NotWanted)
            }
        }
    }
}
