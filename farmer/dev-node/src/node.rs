//! Puts the parts together, starts and stops them.

use crate::chain::Chain;
use crate::config::Config;
use crate::follow::Following;
use crate::segments::SegmentFiles;
use crate::shared::Shared;
use crate::stats::DevStats;
use crate::{Error, archiver, follow, rpc, slots};
use archiving::{Kzg, Srs};
use jsonrpsee::server::{Server, ServerConfig, ServerHandle};
use primitives::rpc::GenesisHash;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Largest request and response, bytes (farming §9).
const MAX_MESSAGE_SIZE: u32 = 20 * 1024 * 1024;
/// Connections served at a time.
const MAX_CONNECTIONS: u32 = 512;
/// How long shutdown waits for what is under way.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running development chain.
pub struct DevNode {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: ServerHandle,
    tasks: TaskTracker,
    archiver: std::thread::JoinHandle<()>,
}

impl DevNode {
    /// Opens or begins the chain, listens, and starts slots once enough is archived ahead.
    ///
    /// # Errors
    /// [`Error`]: each kind says what to do.
    pub async fn start(config: Config) -> Result<Self, Error> {
        config.validate()?;
        // The port first: it is the likeliest to fail, and everything behind it takes time.
        let listener = listen(config.rpc_listen_on)?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Listen { address: config.rpc_listen_on, source })?;
        let following = Following::new(&config)?;
        let opening = tokio::task::spawn_blocking(move || open(config, following));
        let shared = opening
            .await
            .map_err(|error| Error::Start { what: "the chain", reason: error.to_string() })??;
        let shared = Arc::new(shared);
        let server = serve(listener, &shared)?;
        let archiver = archiver::start(Arc::clone(&shared))?;
        let tasks = TaskTracker::new();
        let (sender, receiver) = slots::closing_slots();
        let announcing = Arc::clone(&shared);
        spawn(&tasks, &shared, "the slots", async move {
            let mut ready = announcing.ready.subscribe();
            if ready.wait_for(|ready| *ready).await.is_ok() {
                tracing::info!("Slots begin");
                follow::slots(&announcing).await;
                slots::announce(announcing, sender).await;
            }
            Ok(())
        });
        spawn(&tasks, &shared, "following", follow::blocks(Arc::clone(&shared)));
        let making = Arc::clone(&shared);
        spawn(&tasks, &shared, "making blocks", slots::make_blocks(making, receiver));
        tasks.close();
        Ok(Self { shared, address, server, tasks, archiver })
    }

    /// Where the RPC listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Genesis of the chain.
    pub fn genesis_hash(&self) -> GenesisHash {
        self.shared.chain.genesis_hash()
    }

    /// What `dev_stats` answers.
    pub fn stats(&self) -> DevStats {
        self.shared.dev_stats()
    }

    /// Waits until the chain stops by itself, because of an error. Cancel safe.
    pub async fn stopped(&self) {
        self.shared.shutdown.cancelled().await;
    }

    /// Stops everything and closes the database; waits a few seconds at most.
    ///
    /// # Errors
    /// What made the chain stop, if it did so by itself.
    pub async fn shutdown(self) -> Result<(), Error> {
        let Self { shared, server, tasks, archiver, .. } = self;
        shared.shutdown.cancel();
        shared.acknowledgements.cancel();
        // Already stopped is as good.
        let _ = server.stop();
        let stopping = async {
            server.stopped().await;
            tasks.wait().await;
            // The archiver looks at the shutdown between two records.
            tokio::task::spawn_blocking(move || archiver.join()).await
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, stopping).await.is_err() {
            tracing::warn!("Not everything stopped in time; the chain is safe all the same");
        }
        let failure = shared.take_failure();
        // Closing the database writes what is left of its log.
        let closing = tokio::task::spawn_blocking(move || drop(shared));
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, closing).await.is_err() {
            tracing::warn!("The database is still being closed");
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Runs a task until shutdown; its error or panic stops the chain, since half a chain helps nobody.
fn spawn<F>(tasks: &TaskTracker, shared: &Arc<Shared>, what: &'static str, task: F)
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let shutdown = shared.shutdown.clone();
    let running = tokio::spawn(async move { shutdown.run_until_cancelled(task).await });
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        match running.await {
            Ok(None | Some(Ok(()))) => {}
            Ok(Some(Err(error))) => shared.fail(error),
            Err(error) => shared.fail(Error::Stopped { what, reason: error.to_string() }),
        }
    });
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| Error::Listen { address, source })
}

/// Everything that blocks: the database, the files, the reference string.
fn open(config: Config, following: Option<Following>) -> Result<Shared, Error> {
    let chain = Chain::open(&config)?;
    let segment_files = SegmentFiles::open(config.data.join("segments"))?;
    let cache = match &config.srs_cache {
        Some(cache) => cache.clone(),
        None => Srs::default_cache_dir()?,
    };
    tracing::warn!(
        "The reference string of this chain is the development one: INSECURE, its secret is public and anyone can forge \
         proofs. Never use it for a live network"
    );
    let kzg = Kzg::new(Srs::development(&cache)?);
    tracing::info!(
        genesis_hash = %chain.genesis_hash(), best_block = chain.best().number,
        segments = chain.history_size().map_or(0, |size| size.get()), data = %config.data.display(),
        "Opened the development chain"
    );
    Ok(Shared::new(config, chain, following, kzg, segment_files))
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) -> Result<ServerHandle, Error> {
    let failed = |reason: String| Error::Start { what: "the RPC server", reason };
    let server_config = ServerConfig::builder()
        .max_request_body_size(MAX_MESSAGE_SIZE)
        .max_response_body_size(MAX_MESSAGE_SIZE)
        .max_connections(MAX_CONNECTIONS)
        .build();
    let server = Server::builder()
        .set_config(server_config)
        .build_from_tcp(listener)
        .map_err(|error| failed(error.to_string()))?;
    let module = rpc::module(Arc::clone(shared)).map_err(|error| failed(error.to_string()))?;
    Ok(server.start(module))
}
