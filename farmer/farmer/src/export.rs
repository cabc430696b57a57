//! `autonomys-export-piece`: archives a node's blocks again and keeps all pieces in a store that a full-piece cache serves.
//!
//! `source` gives blocks and headers, `plan` says which segments the store lacks, `rearchive` makes them and compares each
//! header with the node's, `destination` stores them; `archive` is the order in which that happens. A segment counts as stored
//! when its pieces are on the disk and its header is in the `journal`: an export that was killed goes on after it. The cache
//! leader uses `rearchive` and `source`, too.

pub mod archive;
pub mod cli;
pub mod destination;
pub mod error;
pub mod journal;
pub mod plan;
pub mod progress;
pub mod rearchive;
pub mod source;

pub use error::ExportError;

use crate::roles::context::load_reference_string;
use crate::shutdown::Shutdown;
use archive::Export;
use archiving::{Kzg, SrsKind};
use cli::Cli;
use destination::Destination;
use plan::{Plan, Wanted};
use primitives::SegmentIndex;
use progress::Progress;
use serde_json::{Value, json};
use source::{Chain, Source, joined};
use std::io::Write;
use std::path::Path;
use tokio::runtime::Handle;

/// What an export did.
#[derive(Debug, Clone, PartialEq)]
struct Summary {
    source: String,
    output: String,
    genesis: String,
    reference_string: String,
    from_segment: u64,
    segments_already_there: u64,
    segments_archived: u64,
    /// Whether all that the node has archived is in the store.
    is_complete: bool,
    /// Whether every header was compared with the node's.
    is_compared: bool,
    pieces_in_store: u64,
    last_block: u32,
    seconds: f64,
}

impl Summary {
    fn to_json(&self) -> Value {
        json!({
            "version": 1,
            "source": self.source,
            "output": self.output,
            "genesis": self.genesis,
            "reference_string": self.reference_string,
            "from_segment": self.from_segment,
            "segments_already_there": self.segments_already_there,
            "segments_archived": self.segments_archived,
            "complete": self.is_complete,
            "headers_compared": self.is_compared,
            "pieces_in_store": self.pieces_in_store,
            "last_block": self.last_block,
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
        })
    }

    fn to_text(&self) -> String {
        let state = if self.is_complete { "complete" } else { "not complete: run the same command again" };
        let compared = match self.is_compared {
            true => "every header is the node's own",
            false => "the node has no headers to compare with",
        };
        format!(
            "{}: {} segments archived in {:.0} s, {} were there; {} pieces in the store, up to block {}; {compared}; {state}",
            self.output,
            self.segments_archived,
            self.seconds,
            self.segments_already_there,
            self.pieces_in_store,
            self.last_block,
        )
    }
}

/// Runs an export and prints its summary.
///
/// # Errors
/// See [`ExportError`]; what has been stored until then stays, and the next export goes on from it.
pub async fn run(cli: Cli, shutdown: Shutdown) -> Result<(), ExportError> {
    let preparing = shutdown.unless_triggered(prepare(&cli)).await;
    let (source, chain, kzg) = preparing.ok_or(ExportError::Interrupted)??;
    let (json, runtime) = (cli.json, Handle::current());
    let working =
        tokio::task::spawn_blocking(move || export(&cli, &source, &chain, &kzg, &shutdown, &runtime));
    let (summary, result) = joined(working).await??;
    let text = if json { summary.to_json().to_string() } else { summary.to_text() };
    let printed = writeln!(std::io::stdout(), "{text}");
    let action = "write to";
    printed.map_err(|source| ExportError::Io { action, path: "standard output".into(), source })?;
    result
}

/// The source, its chain, and the reference string that fits it.
async fn prepare(cli: &Cli) -> Result<(Source, Chain, Kzg), ExportError> {
    let source = Source::open(cli).await?;
    let chain = source.chain().await?;
    tracing::info!(
        source = %source.name(), genesis = %chain.genesis, best_block = chain.best, segments = chain.headers.len(),
        "Found the chain"
    );
    if chain.headers.is_empty() && matches!(source, Source::Node(_)) {
        let reason = "it has archived no segment yet; wait until it is synced";
        return Err(ExportError::Config(format!("{}: {reason}", source.name())));
    }
    let srs = load_reference_string(cli.srs.clone()).await.map_err(ExportError::ReferenceString)?;
    check_reference_string(&source, srs.kind(), &chain)?;
    Ok((source, chain, Kzg::new(srs)))
}

/// Refuses the string of another kind of chain. A database does not say which kind its chain is: its headers do, as soon as
/// the first segment is archived.
fn check_reference_string(source: &Source, kind: SrsKind, chain: &Chain) -> Result<(), ExportError> {
    match (kind, chain.is_development) {
        (SrsKind::Development, Some(false)) => Err(ExportError::Config(format!(
            "{} is on a live chain; the development reference string is INSECURE and refused there: name the live one with \
             --srs FILE or AUTONOMYS_SRS",
            source.name()
        ))),
        (SrsKind::Live, Some(true)) => Err(ExportError::Config(format!(
            "{} is a development node, whose chain uses the development reference string: give --dev-srs-cache DIR instead \
             of --srs",
            source.name()
        ))),
        (SrsKind::Development, _) => {
            tracing::warn!("INSECURE development reference string: of use for a development chain only");
            Ok(())
        }
        (SrsKind::Live, _) => Ok(()),
    }
}

/// Everything that blocks. The summary is there also when the export was stopped.
fn export(
    cli: &Cli,
    source: &Source,
    chain: &Chain,
    kzg: &Kzg,
    shutdown: &Shutdown,
    runtime: &Handle,
) -> Result<(Summary, Result<(), ExportError>), ExportError> {
    let output: &Path = &cli.output;
    let destination = Destination::open(output, chain.genesis, kzg.clone())?;
    let wanted = Wanted {
        from: SegmentIndex(cli.from_segment),
        confirmation_depth: cli.confirmation_depth,
        verify: cli.verify,
    };
    let plan = Plan::new(&source.name(), chain, &destination, &wanted, shutdown.token())?;
    tracing::info!(
        output = %output.display(), already_there = plan.already_there, to_archive = plan.count(),
        last_block = plan.last_block, "Exporting"
    );
    let progress = Progress::new(plan.count(), shutdown.token().clone());
    let (already_there, last_block) = (plan.already_there, plan.last_block);
    let work =
        Export { source, chain, destination: &destination, kzg, progress: &progress, runtime, last_block };
    let result = work.run(plan);
    let result = match result {
        Ok(()) | Err(ExportError::Interrupted) => result,
        Err(error) => return Err(error),
    };
    let summary = Summary {
        source: source.name(),
        output: output.display().to_string(),
        genesis: chain.genesis.to_string(),
        reference_string: kzg.srs_kind().to_string(),
        from_segment: cli.from_segment,
        segments_already_there: already_there,
        segments_archived: progress.segments_stored(),
        is_complete: result.is_ok(),
        is_compared: !chain.headers.is_empty(),
        pieces_in_store: destination.pieces(),
        last_block,
        seconds: progress.elapsed().as_secs_f64(),
    };
    Ok((summary, result))
}
