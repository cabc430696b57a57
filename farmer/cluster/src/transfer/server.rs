//! The serving end.

mod connection;
mod outgoing;

use super::error::TransferError;
use super::handshake::{self, Status};
use super::source::{PieceSource, SectorSource};
use super::tls::Credentials;
use crate::contract::InstanceId;
use connection::Incoming;
use outgoing::Outgoing;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Pieces that are received and not yet stored, over all connections: the most memory that putting can take.
const MAX_PUTS_IN_HAND: usize = 32;

/// What a server serves, to whom, and its bounds.
pub struct ServerOptions {
    /// What the server proves and wants proved.
    pub credentials: Credentials,
    /// The server's identity.
    pub instance: InstanceId,
    /// Where pieces are.
    pub pieces: Option<Arc<dyn PieceSource>>,
    /// Where sectors are.
    pub sectors: Option<Arc<dyn SectorSource>>,
    /// Most connections in all.
    pub max_connections: usize,
    /// Most connections from one address.
    pub max_connections_per_peer: usize,
}

impl ServerOptions {
    /// Options with nothing to serve yet, 1024 connections in all and 128 per address.
    pub fn new(credentials: impl Into<Credentials>, instance: InstanceId) -> Self {
        Self {
            credentials: credentials.into(),
            instance,
            pieces: None,
            sectors: None,
            max_connections: 1024,
            max_connections_per_peer: 128,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// What a server has done since it started.
#[derive(Debug, Default)]
pub struct TransferCounters {
    /// Pieces sent.
    pub pieces_sent: AtomicU64,
    /// Pieces asked for that were not there.
    pub pieces_missing: AtomicU64,
    /// Pieces taken and stored.
    pub pieces_stored: AtomicU64,
    /// Pieces that arrived damaged.
    pub pieces_damaged: AtomicU64,
    /// Blocks of sectors sent.
    pub blocks_sent: AtomicU64,
    /// Connections that did not prove to know the secret.
    pub refused_connections: AtomicU64,
}

/// What all connections of a server share.
struct Shared {
    options: ServerOptions,
    counters: Arc<TransferCounters>,
    puts: Arc<Semaphore>,
    highest_fence: AtomicU64,
    peers: Mutex<HashMap<IpAddr, usize>>,
    stop: CancellationToken,
}

/// A running server; stops at once when dropped.
#[derive(Debug)]
pub struct TransferServer {
    address: SocketAddr,
    counters: Arc<TransferCounters>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl TransferServer {
    /// Listens on `address` and serves.
    ///
    /// # Errors
    /// [`TransferError::Listen`] when the port is taken or the address is not this host's.
    pub async fn start(address: SocketAddr, options: ServerOptions) -> Result<Self, TransferError> {
        let listen = |source| TransferError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let stop = CancellationToken::new();
        let counters = Arc::new(TransferCounters::default());
        let shared = Arc::new(Shared {
            options,
            counters: Arc::clone(&counters),
            puts: Arc::new(Semaphore::new(MAX_PUTS_IN_HAND)),
            highest_fence: AtomicU64::new(0),
            peers: Mutex::default(),
            stop: stop.clone(),
        });
        let task = Some(tokio::spawn(accept(listener, shared)));
        Ok(Self { address, counters, stop, task })
    }

    /// Where it listens; the port is the real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done.
    pub fn counters(&self) -> &Arc<TransferCounters> {
        &self.counters
    }

    /// Takes no more connections and requests, finishes what is in hand, at most within `deadline`.
    pub async fn drain(mut self, deadline: Duration) {
        self.stop.cancel();
        if let Some(mut task) = self.task.take()
            && tokio::time::timeout(deadline, &mut task).await.is_err()
        {
            tracing::warn!(address = %self.address, "transfers were cut off: they did not end in time");
            task.abort();
        }
    }
}

impl Drop for TransferServer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A place among a server's connections, given back when dropped.
struct Place {
    shared: Arc<Shared>,
    peer: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, peer: IpAddr) -> Option<Self> {
        let mut peers = shared.peers.lock();
        let in_all: usize = peers.values().sum();
        let of_peer = peers.get(&peer).copied().unwrap_or(0);
        if in_all >= shared.options.max_connections || of_peer >= shared.options.max_connections_per_peer {
            return None;
        }
        *peers.entry(peer).or_default() += 1;
        Some(Self { shared: Arc::clone(shared), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.shared.peers.lock();
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    // Turned away with a word of explanation; few at once, the others without.
    let turning_away = Arc::new(Semaphore::new(16));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Some(place) = Place::take(&shared, peer.ip()) {
            connections.spawn(serve(stream, peer, Arc::clone(&shared), place));
        } else if let Ok(permit) = Arc::clone(&turning_away).try_acquire_owned() {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                let _ = greet(stream, peer, &shared, Status::TooManyConnections).await;
                drop(permit);
            });
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn greet(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Shared,
    status: Status,
) -> Option<(Incoming, Outgoing)> {
    let ServerOptions { credentials, instance, .. } = &shared.options;
    let greeting = async {
        let secret = &credentials.secret;
        if let Some(tls) = &credentials.tls {
            let mut stream = tls.accept(stream, peer).await?;
            let client = handshake::as_server(&mut stream, peer, secret, *instance, status).await?;
            let (reader, writer) = tokio::io::split(stream);
            return Ok((client, (Incoming::new(Box::new(reader)), Outgoing::Tls(writer))));
        }
        let mut stream = stream;
        let client = handshake::as_server(&mut stream, peer, secret, *instance, status).await?;
        let (reader, writer) = stream.into_split();
        Ok((client, (Incoming::new(Box::new(reader)), Outgoing::Plain(writer))))
    };
    match greeting.await {
        Ok((client, halves)) => {
            tracing::debug!(%peer, %client, "connection");
            Some(halves)
        }
        Err::<_, TransferError>(error) => {
            shared.counters.refused_connections.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a connection was refused");
            None
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, place: Place) {
    // Small answers must not wait for more to come.
    let _ = stream.set_nodelay(true);
    let status = if shared.stop.is_cancelled() { Status::GoingAway } else { Status::Welcome };
    if let Some((incoming, outgoing)) = greet(stream, peer, &shared, status).await {
        connection::run(incoming, outgoing, peer, shared).await;
    }
    drop(place);
}
