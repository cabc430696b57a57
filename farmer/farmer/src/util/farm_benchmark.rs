//! `util benchmark audit|prove|gpu`: whether farms are fast enough to earn, and what a GPU does. Nothing is changed; a farm in use is measured
//! beside its plot-client's own audits.

mod audit;
mod gpu;
mod prove;

use crate::cli::{AuditArguments, BenchmarkUtility, ProveArguments, SrsArguments};
use crate::roles::Error;
use crate::roles::context::load_reference_string;
use crate::util::farms::{self, OpenedFarm};
use crate::util::latencies::Latencies;
use crate::util::output;
use archiving::Kzg;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// A slot: an audit that takes longer misses the next one.
pub const SLOT: Duration = Duration::from_secs(1);
/// From a slot to the end of its usefulness: audit and proof have to be done by then.
pub const FARMING_TIMEOUT: Duration = Duration::from_secs(4);

/// Measures, and prints figures and verdict.
///
/// # Errors
/// [`Error::Unavailable`] when a farm is too slow, [`Error::Damaged`] when one cannot be read or proves nothing; when a
/// farm cannot be opened or has no sector.
pub async fn run(srs: SrsArguments, benchmark: BenchmarkUtility) -> Result<(), Error> {
    let (json, outcome) = match benchmark {
        BenchmarkUtility::Gpu(arguments) => return blocking(move || gpu::run(&arguments)).await,
        BenchmarkUtility::Audit(AuditArguments { farms, audits, json }) => {
            let work = move || audit::run(&open(&farms)?, audits.get());
            (json, blocking(work).await?)
        }
        BenchmarkUtility::Prove(ProveArguments { farms, proofs, json }) => {
            let kzg = Kzg::new(load_reference_string(srs).await?);
            let work = move || prove::run(&open(&farms)?, &kzg, proofs.get());
            (json, blocking(work).await?)
        }
    };
    output::print_either(json, &json!({ "version": 1, "farms": outcome.farms }), &outcome.text)?;
    outcome.verdict
}

/// What was measured.
struct Outcome {
    farms: Vec<Value>,
    text: String,
    verdict: Result<(), Error>,
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.to_string()))?
}

/// Opens the farms to look at; each has to have a sector.
fn open(paths: &[PathBuf]) -> Result<Vec<OpenedFarm>, Error> {
    let opened: Vec<OpenedFarm> = paths.iter().map(|path| farms::look_at(path)).collect::<Result<_, _>>()?;
    for opened in &opened {
        let directory = opened.farm.directory().display();
        if opened.plotted() == 0 {
            return Err(Error::Config(format!(
                "{directory} has no plotted sector: there is nothing to measure"
            )));
        }
        if opened.in_use {
            tracing::warn!(farm = %directory, "The farm is in use: its plot-client's audits are in the figures");
        }
    }
    Ok(opened)
}

fn seconds(times: &Latencies) -> Value {
    json!({
        "mean": output::rounded(times.mean().as_secs_f64()),
        "p99": output::rounded(times.percentile(0.99).as_secs_f64()),
        "max": output::rounded(times.longest().as_secs_f64()),
    })
}

fn in_words(times: &Latencies) -> String {
    format!("{:.3} s, at most {:.3} s", times.mean().as_secs_f64(), times.longest().as_secs_f64())
}

fn verdict_in_words(fast_enough: bool) -> &'static str {
    if fast_enough { "fast enough" } else { "TOO SLOW" }
}

/// Refuses farms that are damaged or too slow.
fn verdict(damaged: &[String], slow: &[String], limit: &str) -> Result<(), Error> {
    if !damaged.is_empty() {
        return Err(Error::Damaged(format!(
            "{} cannot be used as they are: `autonomys-farmer util scrub` finds what is damaged",
            damaged.join(", ")
        )));
    }
    if !slow.is_empty() {
        return Err(Error::Unavailable(format!("too slow, {limit}: {}", slow.join(", "))));
    }
    Ok(())
}
