//! Connections kept for reuse.

use super::Connection;
use crate::contract::InstanceId;
use crate::transfer::error::TransferError;
use crate::transfer::tls::Credentials;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections to one server, unless told otherwise.
const DEFAULT_PER_PEER: usize = 8;
/// How long an unused connection is kept; less than servers keep one.
const KEEP: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Peer {
    places: Arc<Semaphore>,
    idle: Vec<(Connection, Instant)>,
}

#[derive(Debug)]
struct Inner {
    credentials: Credentials,
    instance: InstanceId,
    per_peer: usize,
    peers: Mutex<HashMap<SocketAddr, Peer>>,
}

/// Connections to any number of servers, a bounded number to each; cheap to clone.
#[derive(Debug, Clone)]
pub struct TransferPool {
    inner: Arc<Inner>,
}

impl TransferPool {
    /// A pool with at most 8 connections to each server.
    pub fn new(credentials: impl Into<Credentials>, instance: InstanceId) -> Self {
        Self::with_limit(credentials, instance, DEFAULT_PER_PEER)
    }

    /// A pool with at most `per_peer` connections to each server, at least 1.
    pub fn with_limit(credentials: impl Into<Credentials>, instance: InstanceId, per_peer: usize) -> Self {
        let credentials = credentials.into();
        let inner = Inner { credentials, instance, per_peer: per_peer.max(1), peers: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// A connection to `peer`: one that is kept and answers, or a new one. Waits while all are in use.
    ///
    /// # Errors
    /// See [`Connection::open`].
    pub async fn get(&self, peer: SocketAddr) -> Result<PooledConnection, TransferError> {
        let places = {
            let mut peers = self.inner.peers.lock();
            // Servers that are gone are forgotten with their last connection.
            peers.retain(|address, entry| {
                entry.idle.retain(|(_, since)| since.elapsed() < KEEP);
                *address == peer
                    || !entry.idle.is_empty()
                    || entry.places.available_permits() < self.inner.per_peer
            });
            let new = || Peer { places: Arc::new(Semaphore::new(self.inner.per_peer)), idle: Vec::new() };
            Arc::clone(&peers.entry(peer).or_insert_with(new).places)
        };
        let place = places.acquire_owned().await.expect("the semaphore is never closed");
        loop {
            let kept = self.inner.peers.lock().get_mut(&peer).and_then(|entry| entry.idle.pop());
            let Some((mut connection, since)) = kept else { break };
            // A server that was restarted meanwhile does not answer on it.
            if since.elapsed() < KEEP && connection.ping().await.is_ok() {
                return Ok(self.pooled(connection, place));
            }
        }
        let connection = Connection::open(peer, &self.inner.credentials, self.inner.instance).await?;
        Ok(self.pooled(connection, place))
    }

    fn pooled(&self, connection: Connection, place: OwnedSemaphorePermit) -> PooledConnection {
        PooledConnection { connection: Some(connection), inner: Arc::clone(&self.inner), _place: place }
    }
}

/// A connection of a pool; goes back when dropped, unless it is broken.
#[derive(Debug)]
pub struct PooledConnection {
    /// None only while it is dropped.
    connection: Option<Connection>,
    inner: Arc<Inner>,
    _place: OwnedSemaphorePermit,
}

impl Deref for PooledConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|connection| !connection.is_broken())
            && let Some(entry) = self.inner.peers.lock().get_mut(&connection.peer())
        {
            entry.idle.push((connection, Instant::now()));
        }
    }
}
