//! A cache at work: opened, announced, serving, until the shutdown.

use crate::cli::AdvertiseArguments;
use crate::roles::cache::contents::{CacheContents, Surplus};
use crate::roles::cache::store::Store;
use crate::roles::cache::upkeep;
use crate::roles::{Error, RoleContext};
use cluster::contract::{CacheStatusRequest, ContentsRequest};
use cluster::transfer::{ServerOptions, TransferError, TransferServer};
use cluster::{ClusterClient, ClusterSecret};
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

/// Takes the store over on a thread that may block.
///
/// # Errors
/// Those of opening the store.
pub async fn open(
    context: &RoleContext,
    open: impl FnOnce() -> Result<Store, Error> + Send + 'static,
    surplus: Surplus,
) -> Result<Arc<CacheContents>, Error> {
    let status = context.status.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let store = open()?;
        Ok::<_, Error>(Arc::new(CacheContents::new(store, &status, surplus)))
    });
    let contents = opening.await.map_err(|error| Error::Internal(error.to_string()))??;
    tracing::info!(
        pieces = contents.len(),
        capacity_pieces = contents.store().capacity_pieces(),
        "Opened its pieces"
    );
    Ok(contents)
}

/// Serves the pieces over TCP and answers questions about them over NATS; gives the server, which stops when dropped.
///
/// # Errors
/// When the address is taken, or NATS is closed.
pub async fn serve(
    context: &RoleContext,
    client: &ClusterClient,
    secret: ClusterSecret,
    contents: &Arc<CacheContents>,
    listen: SocketAddr,
    advertise: &AdvertiseArguments,
) -> Result<TransferServer, Error> {
    let mut options = ServerOptions::new(secret, context.instance);
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
pub async fn run_until_shutdown(
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
