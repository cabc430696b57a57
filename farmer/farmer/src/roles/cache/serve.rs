//! A cache at work: opened, announced, serving, until the shutdown.

use crate::cli::AdvertiseArguments;
use crate::roles::cache::contents::{CacheContents, Surplus};
use crate::roles::cache::store::Store;
use crate::roles::cache::surplus::SurplusFinder;
use crate::roles::cache::upkeep;
use crate::roles::{Error, RoleContext};
use crate::status::State;
use cluster::ClusterClient;
use cluster::contract::{CacheStatusRequest, ContentsRequest};
use cluster::membership::HeldItems;
use cluster::transfer::{Credentials, ServerOptions, TransferError, TransferServer};
use primitives::Piece;
use primitives::rpc::GenesisHash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long transfers in hand may take at the shutdown.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// Questions about the contents in hand at once.
const CONCURRENCY: usize = 8;

impl From<TransferError> for Error {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Listen { address, source } => Self::Listen { what: "--listen", address, source },
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// Runs a cache until the shutdown: opens its stores, waits for the cluster, joins it, serves and takes pieces.
///
/// # Errors
/// When its directories, its address or its cluster do not fit.
pub async fn run(
    context: RoleContext,
    open: impl FnOnce() -> Result<Store, Error> + Send + 'static,
    listen: SocketAddr,
    advertise: &AdvertiseArguments,
) -> Result<(), Error> {
    let surplus = Arc::new(SurplusFinder::new(context.instance));
    let contents = open_contents(&context, open, Arc::clone(&surplus)).await?;
    context.reference_string().await?;
    let client = context.connect().await?;
    let chain = context.chain(&client).await?;
    bind_chain(&contents, chain.genesis).await?;
    context.status.set(State::Waiting("the cluster's secret".into()));
    let credentials = context.credentials(&client).await?;
    let server = serve(&context, &client, credentials, &contents, listen, advertise).await?;
    let capacity_pieces = contents.store().capacity_pieces().unwrap_or(0);
    // Shares are counted in pieces, whatever form they have here.
    let capacity = capacity_pieces.saturating_mul(Piece::SIZE as u64);
    let members = context.join_holding(&client, capacity, HeldItems(contents.items()));
    surplus.follow(members);
    run_until_shutdown(&context, &client, contents, server).await;
    Ok(())
}

/// Takes the stores over on a thread that may block.
async fn open_contents(
    context: &RoleContext,
    open: impl FnOnce() -> Result<Store, Error> + Send + 'static,
    surplus: Arc<SurplusFinder>,
) -> Result<Arc<CacheContents>, Error> {
    let status = context.status.clone();
    context.status.set(State::Waiting("its pieces to be opened".into()));
    let opening = tokio::task::spawn_blocking(move || {
        let store = open()?;
        let surplus: Surplus = Box::new(move |held| surplus.find(held));
        Ok::<_, Error>(Arc::new(CacheContents::new(store, &status, surplus)))
    });
    let contents = opening.await.map_err(|error| Error::Internal(error.to_string()))??;
    tracing::info!(
        pieces = contents.len(),
        capacity_pieces = contents.store().capacity_pieces(),
        items = %contents.store().items(),
        "Opened its pieces"
    );
    Ok(contents)
}

/// Refuses pieces of another chain.
async fn bind_chain(contents: &Arc<CacheContents>, genesis: GenesisHash) -> Result<(), Error> {
    let contents = Arc::clone(contents);
    let binding = tokio::task::spawn_blocking(move || contents.store().bind_chain(genesis));
    Ok(binding.await.map_err(|error| Error::Internal(error.to_string()))??)
}

/// Serves the pieces over TCP and answers questions about them over NATS; gives the server, which stops when dropped.
async fn serve(
    context: &RoleContext,
    client: &ClusterClient,
    credentials: Credentials,
    contents: &Arc<CacheContents>,
    listen: SocketAddr,
    advertise: &AdvertiseArguments,
) -> Result<TransferServer, Error> {
    let mut options = ServerOptions::new(credentials, context.instance);
    options.pieces = Some(Arc::clone(contents) as _);
    let server = TransferServer::start(listen, options).await?;
    let address = context.advertised(client, advertise, server.address()).await?;
    tracing::info!(listen = %server.address(), advertised = %address, "Serves pieces");

    let asked = Arc::clone(contents);
    let answers = client.serve_instance(context.instance, CONCURRENCY, move |request: ContentsRequest| {
        std::future::ready(Ok(asked.contents(request.from)))
    });
    let asked = Arc::clone(contents);
    let statuses = client.serve_instance(context.instance, CONCURRENCY, move |CacheStatusRequest| {
        std::future::ready(Ok(asked.status()))
    });
    context.keep_serving([answers.await?, statuses.await?]);
    Ok(server)
}

/// Looks after the pieces until the shutdown, then lets transfers in hand end and forces to the disk what was written.
async fn run_until_shutdown(
    context: &RoleContext,
    client: &ClusterClient,
    contents: Arc<CacheContents>,
    server: TransferServer,
) {
    let mut tasks = JoinSet::new();
    if contents.store().opened_after_power_loss() {
        tracing::warn!("The machine went down while this cache was at work; verifies its pieces");
        tasks.spawn(upkeep::verify(Arc::clone(&contents), context.shutdown.clone()));
    }
    let shutdown = context.shutdown.clone();
    tasks.spawn(upkeep::reinitialize_when_told(client.clone(), Arc::clone(&contents), shutdown));
    tasks.spawn(upkeep::flush_now_and_then(Arc::clone(&contents)));
    context.run_until_shutdown().await;
    tasks.shutdown().await;
    server.drain(DRAIN_DEADLINE).await;
    let flushing = tokio::task::spawn_blocking(move || contents.store().flush());
    match tokio::time::timeout(DRAIN_DEADLINE, flushing).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::error!(%error, "What was stored could not be forced to the disk"),
        Ok(Err(error)) => tracing::error!(%error, "What was stored could not be forced to the disk"),
        Err(_) => tracing::warn!("The disk is slow; leaves what was stored to the system"),
    }
}
