//! The proof-server: makes solutions of candidates for plot-clients, which have the plots and no time.

pub mod bench;

use crate::cli::ProofServerArguments;
use crate::roles::{Error, RoleContext};
use crate::status::Status;
use archiving::Kzg;
use bench::Bench;
use cluster::ClusterClient;
use cluster::contract::{ProveError, ProveRequest};
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
struct Metrics {
    requests: Counter,
    made: Counter,
    late: Counter,
    busy: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Metrics {
    fn new(status: &Status) -> Self {
        Self {
            requests: status.counter("proofs_requested", "Proofs asked for"),
            made: status.counter("proofs_made", "Proofs made in time"),
            late: status.counter("proofs_late", "Proofs that were not there in time"),
            busy: status.counter("proofs_refused_busy", "Proofs refused because others left no time"),
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
    let bench = Arc::new(Bench::new(Arc::new(CpuProver::new(kzg)), concurrency));
    let handler = move |request: ProveRequest| {
        let (bench, metrics) = (Arc::clone(&bench), metrics.clone());
        async move { Ok(answer(&bench, &metrics, request).await) }
    };
    let serving = client.serve_queue::<ProveRequest, _, _>(concurrency * REQUESTS_PER_PROOF, handler).await?;
    context.run_until_shutdown().await;
    serving.drain(DRAIN).await;
    Ok(())
}

async fn answer(bench: &Bench, metrics: &Metrics, request: ProveRequest) -> Result<Solution, ProveError> {
    let arrived = Instant::now();
    metrics.requests.inc();
    let result = match ProofInput::decode_all(&mut &*request.input) {
        Ok(input) => {
            drop(request.input);
            bench.prove(input, arrived + Duration::from_millis(request.deadline_ms.into())).await
        }
        Err(error) => Err(ProveError::InvalidInput(error.to_string())),
    };
    metrics.count(&result, arrived.elapsed());
    result
}
