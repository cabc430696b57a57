//! The plot-client: keeps farms, has their sectors plotted, audits them every slot and hands solutions in.
//!
//! One handle (`handle`) for each farm is what its tasks share: plotting (`plotting`, `store`, `queue`), expiry (`replot`,
//! `expiry`), farming (`farming`, `prove`, `wanted`, `submit`, `slots`), the scrub (`scrub`). Reward
//! signatures (`rewards`) are for all farms together.

pub mod chain;
pub mod expiry;
pub mod farming;
pub mod farms;
pub mod handle;
pub mod metrics;
pub mod pace;
pub mod plotting;
pub mod prove;
pub mod queue;
pub mod replot;
pub mod rewards;
pub mod scrub;
pub mod slots;
pub mod store;
pub mod submit;
pub mod wanted;

use self::farming::Farming;
use crate::cli::PlotClientArguments;
use crate::roles::context::Chain;
use crate::roles::proof_server::bench::Bench;
use crate::roles::{Error, RoleContext};
use crate::status::State;
use ::farming::proving::CpuProver;
use archiving::Kzg;
use chain::ChainFeed;
use cluster::ClusterClient;
use cluster::contract::{ProofWantedRequest, RewardSigningBroadcast, SlotBroadcast};
use cluster::transfer::Credentials;
use handle::FarmHandle;
use metrics::Metrics;
use parking_lot::Mutex;
use plotting::Plotter;
use primitives::SegmentIndex;
use prove::Prover;
use slots::SlotGate;
use std::sync::Arc;
use std::time::Duration;
use submit::Counter;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wanted::WantedProofs;

/// Threads of the audits for each farm: its disk shows its speed only when several reads are on their way.
const AUDIT_THREADS_PER_FARM: std::ops::RangeInclusive<usize> = 4..=16;
/// Threads of all audits, where that leaves each farm its least.
const AUDIT_THREADS: usize = 128;
/// How often the number of plotted sectors is counted.
const COUNT_INTERVAL: Duration = Duration::from_millis(500);

/// Questions of proof-servers answered at once; each takes microseconds.
const WANTED_AT_ONCE: usize = 8;

/// How long tasks may take to notice the shutdown.
const LEAVE: Duration = Duration::from_millis(500);

/// What a plot-client works with in its cluster.
pub struct Surroundings {
    /// The cluster.
    pub client: ClusterClient,
    /// What peers prove to each other.
    pub credentials: Credentials,
    /// For proofs and their verification.
    pub kzg: Kzg,
    /// The chain that is farmed.
    pub chain: Chain,
}

/// Farms until the shutdown.
///
/// # Errors
/// When the arguments cannot be used, or no farm can be opened.
pub async fn serve(
    context: &RoleContext,
    arguments: &PlotClientArguments,
    surroundings: Surroundings,
) -> Result<(), Error> {
    let Surroundings { client, credentials, kzg, chain } = surroundings;
    let reward_address = farms::reward_address(&arguments.reward_address)?;
    let metrics = Metrics::new(&context.status);
    let protocol_info = chain.info.protocol_info;
    let opened = context.unless_stopped(farms::open_farms(arguments, &chain.info)).await??;
    let threads = audit_threads(opened.len());
    let lifetime = protocol_info.min_sector_lifetime;
    let handle = |farm| FarmHandle::new(farm, threads, lifetime, metrics.clone()).map(Arc::new);
    let handles: Vec<_> = opened.into_iter().map(handle).collect::<Result<_, _>>()?;
    metrics.sectors_total.set(handles.iter().map(|handle| i64::from(handle.farm.geometry().sectors)).sum());

    let feed = Arc::new(ChainFeed::new(client.clone(), protocol_info.history_size));
    let gate = Arc::new(Mutex::new(SlotGate::default()));
    let wanted = Arc::new(WantedProofs::default());
    let prover = Prover {
        client: client.clone(),
        kzg: kzg.clone(),
        bench: Arc::new(Bench::new(Arc::new(CpuProver::new(kzg)), 1)),
        reward_address,
        habit: Arc::default(),
        wanted: Arc::clone(&wanted),
        instance: context.instance,
        metrics: metrics.clone(),
    };
    let farming = Arc::new(Farming {
        handles: handles.clone(),
        prover,
        counter: Counter::new(Arc::new(client.clone()), Arc::clone(&gate), metrics.clone()),
        gate,
        farming_timeout: chain.info.farming_timeout,
        metrics: metrics.clone(),
    });
    let plotter = Arc::new(Plotter::new(
        client.clone(),
        credentials,
        context.instance,
        Arc::clone(&feed),
        metrics.clone(),
    ));

    let answer = move |request| std::future::ready(Ok(wanted.answer(&request)));
    let wanted_proofs =
        client.serve_instance::<ProofWantedRequest, _, _>(context.instance, WANTED_AT_ONCE, answer);
    context.keep_serving([wanted_proofs.await?]);
    let slots = client.listen::<SlotBroadcast>().await?;
    let rewards = client.listen::<RewardSigningBroadcast>().await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(farming.run(slots));
    tasks.spawn(rewards::run(client, handles.clone(), metrics.clone(), rewards));
    tasks.spawn(replot::run(Arc::clone(&feed), handles.clone(), arguments.new_segment_delay_max));
    tasks.spawn(count(handles.clone(), feed.newest(), metrics.clone()));
    tasks.spawn(async move { feed.follow().await });
    for handle in &handles {
        tasks.spawn(scrub::run(Arc::clone(handle), metrics.clone(), context.shutdown.clone()));
    }
    tasks.spawn(async move {
        plotter.find_spooled(&handles).await;
        let plotting = handles.iter().map(|handle| Arc::clone(&plotter).run(Arc::clone(handle)));
        futures::future::join_all(plotting).await;
    });
    context.run_until_shutdown().await;
    // What is in the middle of something is made to be cut off there: a sector that is not whole does not count.
    if tokio::time::timeout(LEAVE, tasks.shutdown()).await.is_err() {
        tracing::debug!("Some tasks did not end in time");
    }
    Ok(())
}

/// Threads of each farm's audits where there are so many farms.
pub fn audit_threads(farms: usize) -> usize {
    (AUDIT_THREADS / farms.max(1)).clamp(*AUDIT_THREADS_PER_FARM.start(), *AUDIT_THREADS_PER_FARM.end())
}

async fn count(handles: Vec<Arc<FarmHandle>>, newest: watch::Receiver<SegmentIndex>, metrics: Metrics) {
    let mut interval = tokio::time::interval(COUNT_INTERVAL);
    loop {
        interval.tick().await;
        metrics.sectors_plotted.set(handles.iter().map(|handle| handle.plotted() as i64).sum());
        let newest = *newest.borrow();
        let expiring = handles.iter().map(|handle| handle.expiry.lock().due(newest).len() as i64);
        metrics.sectors_expiring.set(expiring.sum());
    }
}

/// Runs a plot-client until the shutdown.
///
/// # Errors
/// When its arguments or its cluster do not fit, or no farm can be opened.
pub async fn run(context: RoleContext, arguments: PlotClientArguments) -> Result<(), Error> {
    // What only a person can mend is said before anything is waited for.
    farms::reward_address(&arguments.reward_address)?;
    let kzg = context.reference_string().await?;
    let client = context.connect().await?;
    let chain = context.chain(&client).await?;
    context.status.set(State::Waiting("the cluster's secret".into()));
    let credentials = context.credentials(&client).await?;
    let _members = context.join(&client, 0);
    context.status.set(State::Waiting("its farms to be opened".into()));
    serve(&context, &arguments, Surroundings { client, credentials, kzg, chain }).await
}
