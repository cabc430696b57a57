//! The plot-server: encodes sectors for plot-clients and keeps them until they are stored.
//!
//! `desk` answers plot-clients out of the lease table (`leases`) and the spool; `serve` puts it on NATS and TCP; workers
//! (`worker`) fetch pieces, encode, and fill the spool.

pub mod backend;
pub mod desk;
pub mod leases;
pub mod metrics;
pub mod serve;
pub mod spool;
pub mod worker;

use crate::cli::PlotServerArguments;
use crate::roles::piece_source::caches::Caches;
use crate::roles::piece_source::directory::CacheDirectory;
use crate::roles::piece_source::{PieceSources, SourceOptions};
use crate::roles::{Error, RoleContext};
use crate::status::State;
use archiving::Kzg;
use backend::Encoding;
use cluster::ClusterClient;
use cluster::transfer::{Credentials, ItemType, ServerOptions, TransferPool, TransferServer};
use desk::Desk;
use metrics::Metrics;
use serve::Window;
use spool::{Spool, SpoolError, SpooledSector};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use worker::{WORKERS, Workshop};

/// How often leases are looked at.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long transfers in hand may take at the shutdown.
const DRAIN: Duration = Duration::from_millis(800);
/// How nice the encoder's threads are: audits and proofs on the same host go first.
const NICENESS: i32 = 19;

impl From<SpoolError> for Error {
    fn from(error: SpoolError) -> Self {
        match error {
            SpoolError::Io { action, path, source } => Self::Io { action, path, source },
            SpoolError::Locked(_) => Self::Config(error.to_string()),
            SpoolError::NoSpace { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

/// What a plot-server works with in its cluster.
pub struct Surroundings {
    /// The cluster.
    pub client: ClusterClient,
    /// What peers prove to each other.
    pub credentials: Credentials,
    /// For the check of pieces and their reconstruction.
    pub kzg: Kzg,
    /// The caches; without, those that are members of the cluster, which this server then joins.
    pub caches: Option<Arc<dyn CacheDirectory>>,
}

/// Serves until the shutdown.
///
/// # Errors
/// When the spool or the port cannot be used.
pub async fn serve(
    context: &RoleContext,
    arguments: &PlotServerArguments,
    surroundings: Surroundings,
) -> Result<(), Error> {
    let Surroundings { client, credentials, kzg, caches } = surroundings;
    let metrics = Metrics::new(&context.status);
    let metrics_of_backend = metrics.device.clone();
    let spool = Spool::open(&arguments.base_path)?;
    let recovered = context.unless_stopped(recover(context, spool)).await?;
    let (spool, sound) = recovered?;
    let desk = Arc::new(Desk::new(spool, sound, arguments.spool_sectors, metrics));

    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, arguments.listen_port));
    let pool = TransferPool::new(credentials.clone(), context.instance);
    let mut options = ServerOptions::new(credentials, context.instance);
    options.sectors = Some(Arc::clone(&desk) as _);
    let server = TransferServer::start(address, options).await.map_err(|error| match error {
        cluster::transfer::TransferError::Listen { address, source } => {
            Error::Listen { what: "--listen-port", address, source }
        }
        error => Error::Unavailable(error.to_string()),
    })?;
    let address = context.advertised(&client, &arguments.advertise, server.address()).await?;
    let caches = caches.unwrap_or_else(|| Arc::new(context.join(&client, 0)));
    let encoding = open_encoding(arguments, metrics_of_backend).await?;
    let workshop = workshop(context, arguments, &desk, &client, &kzg, Caches::new(caches, pool), encoding)?;
    let window = Window { desk: Arc::clone(&desk), instance: context.instance, address };
    let services = window.open(&client).await?;

    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(Arc::clone(&workshop).work())).collect();
    let watch = tokio::spawn(expire(Arc::clone(&desk)));
    context.run_until_shutdown().await;

    watch.abort();
    drop(services);
    desk.stop();
    workers.iter().for_each(tokio::task::JoinHandle::abort);
    server.drain(DRAIN).await;
    Ok(())
}

/// What the workers share.
fn workshop(
    context: &RoleContext,
    arguments: &PlotServerArguments,
    desk: &Arc<Desk>,
    client: &ClusterClient,
    kzg: &Kzg,
    caches: Caches,
    encoding: Encoding,
) -> Result<Arc<Workshop>, Error> {
    let threads = cpu_threads(arguments);
    // An encoding keeps its threads until its sector is finished: the next sector's pieces are not to wait for that.
    let checks = nice_pool("checker", threads)?;
    let options = SourceOptions {
        form: ItemType::SplitParityPiece,
        priority_cache: arguments.priority_cache,
        metrics: desk.metrics().fetching.clone(),
    };
    Ok(Arc::new(Workshop {
        desk: Arc::clone(desk),
        pieces: PieceSources::new(client, kzg, caches, &checks, &options),
        encoder: tokio::sync::Mutex::new(Some(encoding.sector_encoder())),
        pool: nice_pool("encoder", encoding.threads())?,
        encoding,
        shutdown: context.shutdown.clone(),
    }))
}

/// Records that the CPU encodes at once.
fn cpu_threads(arguments: &PlotServerArguments) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.record_encoding_concurrency.unwrap_or(cores).clamp(1, 1024)
}

/// Looks for the GPU; its kernels may have to be compiled.
async fn open_encoding(
    arguments: &PlotServerArguments,
    metrics: metrics::DeviceMetrics,
) -> Result<Encoding, Error> {
    let (backend, threads) = (arguments.backend.clone(), cpu_threads(arguments));
    let opening = tokio::task::spawn_blocking(move || Encoding::open(&backend, threads, metrics));
    opening.await.map_err(|error| Error::Internal(error.to_string()))?
}

/// Threads that step back for whatever else runs on the host.
fn nice_pool(name: &'static str, threads: usize) -> Result<Arc<rayon::ThreadPool>, Error> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |index| format!("{name}-{index}"))
        .start_handler(|_| {
            // Of this thread only: on Linux a thread is its own process to the scheduler.
            let thread = rustix::thread::gettid();
            if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
                tracing::debug!(%error, "The priority of a thread stays as it is");
            }
        })
        .build();
    pool.map(Arc::new).map_err(|error| Error::Internal(format!("threads do not start: {error}")))
}

/// The sectors that an earlier process finished, as far as their bytes are what they were.
async fn recover(context: &RoleContext, spool: Spool) -> Result<(Spool, Vec<Arc<SpooledSector>>), Error> {
    let shutdown = context.shutdown.clone();
    let recovery = tokio::task::spawn_blocking(move || {
        let mut sound = Vec::new();
        for sector in spool.recover()? {
            let key = sector.header.request.key;
            if sector.is_sound(|| shutdown.is_triggered()) {
                tracing::info!(farm = %key.public_key, sector_index = key.sector_index, "Found in the spool");
                sound.push(sector);
            } else if !shutdown.is_triggered() {
                tracing::warn!(
                    sector_index = key.sector_index,
                    "Dropped from the spool: its bytes are damaged"
                );
                spool.remove(&key);
            }
        }
        Ok((spool, sound))
    });
    recovery.await.map_err(|error| Error::Internal(error.to_string()))?
}

async fn expire(desk: Arc<Desk>) {
    let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        interval.tick().await;
        desk.expire();
    }
}

/// Runs a plot-server until the shutdown.
///
/// # Errors
/// When its base path, its port or its cluster do not fit.
pub async fn run(context: RoleContext, arguments: PlotServerArguments) -> Result<(), Error> {
    let kzg = context.reference_string().await?;
    let client = context.connect().await?;
    context.chain(&client).await?;
    context.status.set(State::Waiting("the cluster's secret".into()));
    let credentials = context.credentials(&client).await?;
    let surroundings = Surroundings { client, credentials, kzg, caches: None };
    serve(&context, &arguments, surroundings).await
}
