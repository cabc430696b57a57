//! `util sharded-cache-benchmark`: the download of plotting, against the cluster as it is, through the code that
//! plot-servers use.

mod report;
pub mod tally;

use crate::cli::{CacheBenchmarkArguments, NatsArguments, SrsArguments};
use crate::roles::Error;
use crate::roles::context::{load_reference_string, load_tls};
use crate::roles::piece_source::caches::Caches;
use crate::roles::piece_source::directory::{CacheDirectory, CacheKind};
use crate::roles::piece_source::{Collection, FetchMetrics, PieceSources, SourceOptions};
use crate::roles::plot_server::worker::WORKERS;
use crate::util::{connect, output};
use archiving::Kzg;
use cluster::contract::{FarmerAppInfoRequest, IdentifyRequest, InstanceId, MemberStatus, Role};
use cluster::transfer::{Credentials, TransferPool};
use cluster::{ClusterClient, ClusterSecret, Members, Membership};
use farming::encoding::SectorPlan;
use futures::StreamExt;
use parking_lot::Mutex;
use primitives::{FarmerProtocolInfo, PieceIndex, PublicKey};
use report::{Epoch, Report};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;
use tokio::sync::watch;

/// How long answers are collected.
const WINDOW: Duration = Duration::from_millis(700);
/// How long the list of members may take: a member is listed with its second heartbeat.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the cluster's secret may take.
const SECRET_TIMEOUT: Duration = Duration::from_secs(5);

/// Fetches, and prints what it saw.
///
/// # Errors
/// When there is no controller or no cache, or when pieces are nowhere to be had.
pub async fn run(
    nats: &NatsArguments,
    srs: SrsArguments,
    arguments: CacheBenchmarkArguments,
) -> Result<(), Error> {
    let kzg = match (&srs.srs, &srs.dev_srs_cache) {
        (None, None) => None,
        _ => Some(Kzg::new(load_reference_string(srs).await?)),
    };
    let client = connect(nats).await?;
    let info = client.request(&FarmerAppInfoRequest).await.map_err(|error| {
        Error::Unavailable(format!(
            "no controller of cluster {} tells the chain: {error}; `autonomys-farmer util ready all` shows who is there",
            client.cluster()
        ))
    })?;
    let membership = Membership::observe(&client);
    let members = wait_for_caches(&client, membership.watch()).await?;
    let has_sharded = members.caches().iter().any(|cache| matches!(cache.kind, CacheKind::Sharded { .. }));
    let tls = load_tls(&nats.tls)?;
    let credentials = Credentials { secret: secret(nats, &client).await?, tls };
    let pool = TransferPool::new(credentials, InstanceId::generate());
    let metrics = FetchMetrics::default();
    let pieces = sources(&client, kzg.as_ref(), Caches::new(Arc::new(members), pool), &arguments, &metrics)?;

    let per_sector = u64::from(info.protocol_info.max_pieces_in_sector);
    let total = per_sector * (arguments.sectors.get() * arguments.epoch.get()) as u64;
    let bar = output::progress_bar(total, "pieces");
    let tally = Arc::new(Mutex::new(Tally::default()));
    let pieces = tally::watch(pieces, &tally, &bar);
    let mut report = Report {
        arguments: &arguments,
        checked: kzg.is_some(),
        // Without priority caches the owners come first, unless there is none.
        first: usize::from(!has_sharded && !arguments.priority_cache),
        tally: Tally::default(),
        epochs: Vec::new(),
        fetching: metrics,
        lost: BTreeSet::new(),
    };
    for _ in 0..arguments.epoch.get() {
        let (epoch, lost) = run_epoch(&pieces, &arguments, info.protocol_info).await?;
        report.epochs.push(epoch);
        report.lost.extend(lost);
    }
    bar.finish_and_clear();
    report.tally = tally.lock().clone();
    output::print_either(arguments.json, &report.to_json(), &report.to_text())?;
    report.verdict()
}

/// Fetches the pieces of new sectors, several at once; gives those that nobody had.
async fn run_epoch(
    pieces: &PieceSources,
    arguments: &CacheBenchmarkArguments,
    info: FarmerProtocolInfo,
) -> Result<(Epoch, BTreeSet<PieceIndex>), Error> {
    // Other sectors each time: what was fetched before would come from memory.
    let key = PublicKey(rand::random());
    let sectors = (0..arguments.sectors.get()).map(|sector| wanted(key, sector, info));
    let sectors = sectors.collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let fetching = sectors.into_iter().map(|wanted| async move {
        let collection = Collection::new(wanted.clone());
        pieces.ask_around(&collection).await;
        let there = collection.into_pieces();
        let lost: Vec<PieceIndex> = wanted.into_iter().filter(|index| !there.contains_key(index)).collect();
        (Epoch::of(&there), lost)
    });
    let concurrency = arguments.concurrency.map_or(WORKERS, std::num::NonZero::get);
    let mut fetching = futures::stream::iter(fetching).buffer_unordered(concurrency);
    let mut epoch = Epoch::default();
    let mut all_lost = BTreeSet::new();
    while let Some((fetched, lost)) = fetching.next().await {
        epoch.add(&fetched);
        all_lost.extend(lost);
    }
    epoch.time = started.elapsed();
    Ok((epoch, all_lost))
}

/// The pieces of a sector that a farm with this key would have plotted now.
fn wanted(key: PublicKey, sector: usize, info: FarmerProtocolInfo) -> Result<BTreeSet<PieceIndex>, Error> {
    let sector_index = (sector % usize::from(primitives::farms::MAX_SECTORS)) as u16;
    let plan = SectorPlan::new(key, sector_index, info.max_pieces_in_sector, info)
        .map_err(|error| Error::Internal(format!("the chain's parameters allow no sector: {error}")))?;
    Ok(plan.piece_indexes().into_iter().collect())
}

/// The sources of a plot-server; without a reference string the caches alone.
fn sources(
    client: &ClusterClient,
    kzg: Option<&Kzg>,
    caches: Caches,
    arguments: &CacheBenchmarkArguments,
    metrics: &FetchMetrics,
) -> Result<PieceSources, Error> {
    let options = SourceOptions {
        form: arguments.cache_item_type.into(),
        priority_cache: arguments.priority_cache,
        metrics: metrics.clone(),
    };
    let Some(kzg) = kzg else {
        tracing::warn!(
            "Without --srs (or --dev-srs-cache) pieces are compared with their hashes and not with the chain, and none is \
             reconstructed"
        );
        return Ok(PieceSources::caches_only(caches, &options));
    };
    let pool = rayon::ThreadPoolBuilder::new().thread_name(|index| format!("checker-{index}")).build();
    let pool = pool.map_err(|error| Error::Internal(format!("threads do not start: {error}")))?;
    Ok(PieceSources::new(client, kzg, caches, &Arc::new(pool), &options))
}

/// The secret that caches want to see proved.
async fn secret(nats: &NatsArguments, client: &ClusterClient) -> Result<ClusterSecret, Error> {
    if let Some(secret) = nats.secret()? {
        return Ok(secret);
    }
    let secret = tokio::time::timeout(SECRET_TIMEOUT, client.shared_secret()).await;
    secret.map_err(|_| {
        Error::Unavailable("NATS does not tell the cluster's secret: is JetStream there?".into())
    })
}

/// The members, once all caches that answer are among them.
async fn wait_for_caches(
    client: &ClusterClient,
    mut members: watch::Receiver<Arc<Members>>,
) -> Result<watch::Receiver<Arc<Members>>, Error> {
    let is_cache =
        |member: &&MemberStatus| matches!(member.role, Role::ShardedCache | Role::FullPieceShardedCache);
    let answers = client.scatter(&IdentifyRequest::default(), WINDOW).await?;
    let there: BTreeSet<InstanceId> = answers.iter().filter(is_cache).map(|member| member.instance).collect();
    if there.is_empty() {
        return Err(Error::Unavailable(format!("no cache of cluster {} answers", client.cluster())));
    }
    let listed = |members: &Arc<Members>| there.iter().filter(|cache| members.get(**cache).is_some()).count();
    let all = members.wait_for(|members| listed(members) == there.len());
    if tokio::time::timeout(MEMBERS_TIMEOUT, all).await.is_err() {
        let listed = listed(&members.borrow());
        let total = there.len();
        if listed == 0 {
            return Err(Error::Unavailable(format!(
                "{total} caches answer and none is in the list of members: is JetStream there?"
            )));
        }
        tracing::warn!(
            listed,
            total,
            "Some caches answer and are not in the list of members: they are left out"
        );
    }
    Ok(members)
}
