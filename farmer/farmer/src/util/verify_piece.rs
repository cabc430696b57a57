//! `util verify-piece`: every piece of a store against the hash stored with it and against the chain's history.

pub mod progress;
pub mod verifier;

use crate::cli::{NatsArguments, SrsArguments, VerifyPieceArguments};
use crate::roles::Error;
use crate::roles::context::load_reference_string;
use crate::roles::items::verification::ParityCheck;
use crate::roles::piece_source::SegmentCommitments;
use crate::util::{connect, output};
use archiving::Kzg;
use cluster::contract::FarmerAppInfoRequest;
use indicatif::ProgressBar;
use node::NodeClient;
use piece_store::{ItemKind, SlotContents, StoreInspection};
use primitives::rpc::GenesisHash;
use primitives::{SegmentCommitment, SegmentIndex};
use progress::{Progress, ProgressFile};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use verifier::{Chain, Verifier};

/// How long a node may take to answer at first.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bad pieces that the text lists; JSON and the progress file have more.
const LISTED_MAX: usize = 100;

/// Verifies, and prints what is bad.
///
/// # Errors
/// [`Error::Damaged`] when something is; when there is no store, or nobody to ask for the chain.
pub async fn run(
    nats: &NatsArguments,
    srs: SrsArguments,
    arguments: VerifyPieceArguments,
) -> Result<(), Error> {
    let stores = look_at(&arguments.stores).await?;
    let chain = if arguments.hashes_only {
        None
    } else {
        // Before anything is asked of others: it may be missing.
        let kzg = Kzg::new(load_reference_string(srs).await?);
        let (genesis, commitments) = match &arguments.node_url {
            Some(url) => from_node(url).await?,
            None => from_cluster(nats, &stores).await?,
        };
        check_chain(&stores, genesis)?;
        Some(Chain { kzg, parity: ParityCheck::new(), commitments })
    };
    let stop = StopOnDrop::default();
    let stopped = Arc::clone(&stop.0);
    let json = arguments.json;
    let verifying =
        tokio::task::spawn_blocking(move || verify_all(&stores, chain.as_ref(), &arguments, &stopped));
    let reports = verifying.await.map_err(|error| Error::Internal(error.to_string()))??;
    let value = json!({ "version": 1, "stores": reports.iter().map(Report::to_json).collect::<Vec<_>>() });
    let text: String = reports.iter().map(Report::to_text).collect();
    output::print_either(json, &value, &text)?;
    verdict(&reports)
}

/// Ends the work on other threads with whoever waits for it.
#[derive(Default)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn look_at(paths: &[PathBuf]) -> Result<Vec<StoreInspection>, Error> {
    let paths = paths.to_vec();
    let looking = tokio::task::spawn_blocking(move || {
        paths.iter().map(|path| look_at_one(path)).collect::<Result<Vec<_>, _>>()
    });
    looking.await.map_err(|error| Error::Internal(error.to_string()))?
}

fn look_at_one(path: &Path) -> Result<StoreInspection, Error> {
    let store = StoreInspection::new(path)?;
    if store.in_use() {
        tracing::info!(store = %path.display(), "The store is in use: it is read while its cache works");
    }
    Ok(store)
}

/// Genesis and the commitments of all segments.
async fn from_node(url: &str) -> Result<(GenesisHash, HashMap<SegmentIndex, SegmentCommitment>), Error> {
    let failed = |error: node::Error| Error::Unavailable(format!("no segment headers from {url}: {error}"));
    let node = NodeClient::new(url, node::Options::default())
        .map_err(|error| Error::Config(format!("--node-url: {error}")))?;
    let genesis = node.connected(NODE_TIMEOUT).await.map_err(failed)?;
    let headers = node.segment_headers_from(SegmentIndex(0)).await.map_err(failed)?;
    let commitment =
        |header: &primitives::SegmentHeader| (header.segment_index(), header.segment_commitment());
    Ok((genesis, headers.iter().map(commitment).collect()))
}

/// Genesis and the commitments of the segments that the stores hold pieces of.
async fn from_cluster(
    nats: &NatsArguments,
    stores: &[StoreInspection],
) -> Result<(GenesisHash, HashMap<SegmentIndex, SegmentCommitment>), Error> {
    if nats.nats_servers.is_empty() {
        return Err(Error::Config(
            "nobody to ask for the segment headers: give --nats-server URL or --node-url URL, or --hashes-only to do \
             without"
                .into(),
        ));
    }
    let client = connect(nats).await?;
    let info = client.request(&FarmerAppInfoRequest).await.map_err(|error| {
        Error::Unavailable(format!("no controller of cluster {} tells the chain: {error}", client.cluster()))
    })?;
    let segments: BTreeSet<SegmentIndex> = stores
        .iter()
        .flat_map(StoreInspection::slots)
        .filter_map(|(_, contents)| match contents {
            SlotContents::Piece { index, .. } => Some(index.segment_index()),
            SlotContents::Free | SlotContents::Damaged { .. } => None,
        })
        .collect();
    let commitments = SegmentCommitments::new(client.clone()).get(&segments).await;
    if commitments.is_empty() && !segments.is_empty() {
        return Err(Error::Unavailable(format!(
            "the controllers of cluster {} tell none of the segment headers: is their node in sync?",
            client.cluster()
        )));
    }
    Ok((info.genesis_hash, commitments))
}

fn check_chain(stores: &[StoreInspection], genesis: GenesisHash) -> Result<(), Error> {
    match stores.iter().find(|store| store.chain().is_some_and(|chain| chain != genesis)) {
        None => Ok(()),
        Some(store) => Err(Error::Config(format!(
            "{} holds pieces of the chain with genesis {}, not of {genesis}",
            store.path().display(),
            store.chain().unwrap_or_default()
        ))),
    }
}

/// What was found in one store.
struct Report {
    path: PathBuf,
    full: bool,
    items: ItemKind,
    in_use: bool,
    hashes_only: bool,
    /// First slot that was verified by this run.
    resumed_at: u64,
    /// Slots that were read by this run.
    read: u64,
    progress: Progress,
    time: Duration,
}

fn verify_all(
    stores: &[StoreInspection],
    chain: Option<&Chain>,
    arguments: &VerifyPieceArguments,
    stopped: &AtomicBool,
) -> Result<Vec<Report>, Error> {
    let threads = arguments.threads.map_or(0, std::num::NonZero::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| Error::Internal(format!("threads do not start: {error}")))?;
    stores.iter().map(|store| pool.install(|| verify(store, chain, arguments, stopped))).collect()
}

fn verify(
    store: &StoreInspection,
    chain: Option<&Chain>,
    arguments: &VerifyPieceArguments,
    stopped: &AtomicBool,
) -> Result<Report, Error> {
    let id = hex::encode(store.id());
    let hashes_only = chain.is_none();
    let directory = arguments.progress_dir.as_deref().unwrap_or(store.path());
    let file = ProgressFile::new(directory, &id, hashes_only);
    let earlier = if arguments.restart { None } else { file.load(&id, hashes_only) };
    if let Some(earlier) = &earlier {
        tracing::info!(
            store = %store.path().display(),
            verified = earlier.good + earlier.bad_count(),
            "Goes on where an earlier run ended; --restart begins anew"
        );
    }
    let progress = earlier.unwrap_or_else(|| Progress::new(id, hashes_only));
    // Kept from the beginning: a directory that cannot be written is to be found now, not after hours.
    let keep = |progress: &Progress| {
        file.store(progress).map_err(|error| {
            Error::io("keep the progress (--progress-dir DIR keeps it elsewhere) in", file.path(), error)
        })
    };
    keep(&progress)?;
    let verifier = Verifier::new(store, chain);
    let total = verifier.remaining(&progress).len() as u64;
    let bar: ProgressBar = output::progress_bar(total, "pieces");
    let (started, resumed_at, mut read) = (Instant::now(), progress.next_slot, 0);
    let mut failure = None;
    let progress = verifier.run(progress, |progress, slots| {
        read += slots as u64;
        bar.inc(slots as u64);
        if progress.bad_count() > 0 {
            bar.set_message(format!("{} bad", progress.bad_count()));
        }
        failure = keep(progress).err();
        if failure.is_some() || stopped.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    bar.finish_and_clear();
    if let Some(failure) = failure {
        return Err(failure);
    }
    if read < total {
        return Err(Error::Unavailable(
            "stopped before all was verified: the same command goes on there".into(),
        ));
    }
    file.remove();
    Ok(Report {
        path: store.path().to_owned(),
        full: store.is_full(),
        items: store.items(),
        in_use: store.in_use(),
        hashes_only,
        resumed_at,
        read,
        progress,
        time: started.elapsed(),
    })
}

impl Report {
    fn rate(&self) -> f64 {
        output::per_second(self.read as f64, self.time)
    }

    fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "kind": if self.full { "full" } else { "sharded" },
            "items": self.items.name(),
            "in_use": self.in_use,
            "checked_against": if self.hashes_only { "hashes" } else { "chain" },
            "resumed_at_slot": self.resumed_at,
            "read": self.read,
            "good": self.progress.good,
            "bad": self.progress.bad,
            "bad_unnamed": self.progress.bad_unnamed,
            "seconds": output::rounded(self.time.as_secs_f64()),
            "pieces_per_second": output::rounded(self.rate()),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let kind = if self.full { "full" } else { "sharded" };
        let check = if self.hashes_only { "hashes only" } else { "hashes and the chain" };
        let _ = writeln!(
            text,
            "{} ({kind}): {} good, {} bad by {check}; read {} pieces, {}/s",
            self.path.display(),
            self.progress.good,
            self.progress.bad_count(),
            self.read,
            output::bytes((self.rate() * self.items.size() as f64) as u64)
        );
        for bad in self.progress.bad.iter().take(LISTED_MAX) {
            let piece = bad.piece.map_or_else(|| "a piece".to_owned(), |piece| format!("piece {piece}"));
            let _ = writeln!(text, "  {piece} (slot {}): {}", bad.slot, bad.reason);
        }
        let more = self.progress.bad_count().saturating_sub(LISTED_MAX as u64);
        if more > 0 {
            let _ = writeln!(text, "  and {more} more: --json names up to {}", progress::NAMED_MAX);
        }
        text
    }
}

fn verdict(reports: &[Report]) -> Result<(), Error> {
    let bad: u64 = reports.iter().map(|report| report.progress.bad_count()).sum();
    if bad == 0 {
        return Ok(());
    }
    Err(Error::Damaged(format!(
        "{bad} pieces are bad. A cache on this store removes those whose bytes changed and has them sent again: start it and \
         run `autonomys-farmer util reinitialization-cache`. Where that does not help, move the named extent files away \
         while the cache is stopped: it is filled again. If it happens again, look at the disk (`smartctl -a`)"
    )))
}
