//! Key-value buckets on JetStream, as membership, leases and the secret use them.
//!
//! Every operation has a deadline and fails at once while NATS is not connected: what JetStream's client would buffer
//! and send later must not be mistaken for what happens now. Decisions are made by compare-and-set, never by a read,
//! since reads may be served by a replica that lags.

use crate::client::{ClusterClient, ConnectionState};
use crate::error::ClientError;
use async_nats::jetstream::kv::{Config, CreateErrorKind, Entry, Store, UpdateErrorKind, Watch};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long one operation may take.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the number of replicas is compared with the number of servers.
const REPLICAS_INTERVAL: Duration = Duration::from_secs(60);
/// Most bytes of a value.
const MAX_VALUE_BYTES: i32 = 64 * 1024;

/// What came of a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cas {
    /// The value is written and has this revision.
    Written(u64),
    /// Someone else was quicker.
    Conflict,
}

/// A bucket, made when it is first needed.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    client: ClusterClient,
    name: String,
    max_age: Duration,
    store: Arc<tokio::sync::Mutex<Option<(Store, Instant)>>>,
}

impl Bucket {
    /// Leases, the cluster's identity and its secret: kept for ever.
    pub(crate) fn state(client: &ClusterClient) -> Self {
        Self::new(client, format!("autonomys-{}", client.cluster()), Duration::ZERO)
    }

    /// Heartbeats: forgotten a minute after the last.
    pub(crate) fn members(client: &ClusterClient) -> Self {
        Self::new(client, format!("autonomys-{}-members", client.cluster()), Duration::from_secs(60))
    }

    fn new(client: &ClusterClient, name: String, max_age: Duration) -> Self {
        Self { client: client.clone(), name, max_age, store: Arc::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn failed(&self, action: &str, error: impl ToString) -> ClientError {
        ClientError::nats(format!("{action} of the JetStream bucket {}", self.name), error)
    }

    /// Runs an operation within its deadline; after a failure the bucket is looked up anew.
    async fn within<T, E: ToString>(
        &self,
        action: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ClientError> {
        let error = match timeout(OPERATION_TIMEOUT, work).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {OPERATION_TIMEOUT:?}"),
        };
        *self.store.lock().await = None;
        Err(self.failed(action, error))
    }

    async fn store(&self) -> Result<Store, ClientError> {
        if self.client.state() != ConnectionState::Connected {
            return Err(ClientError::Disconnected { subject: format!("JetStream bucket {}", self.name) });
        }
        let mut cached = self.store.lock().await;
        if let Some((store, since)) = &*cached
            && since.elapsed() < REPLICAS_INTERVAL
        {
            return Ok(store.clone());
        }
        *cached = None;
        let store = timeout(2 * OPERATION_TIMEOUT, self.open())
            .await
            .map_err(|_| self.failed("opening", "no answer"))??;
        *cached = Some((store.clone(), Instant::now()));
        Ok(store)
    }

    fn config(&self, num_replicas: usize) -> Config {
        Config {
            bucket: self.name.clone(),
            description: "an Autonomys farming cluster".to_owned(),
            history: 1,
            max_age: self.max_age,
            max_value_size: MAX_VALUE_BYTES,
            num_replicas,
            ..Config::default()
        }
    }

    /// Finds the bucket and raises its replicas, or makes it: with min(3, servers) replicas if that can be.
    async fn open(&self) -> Result<Store, ClientError> {
        let jetstream = async_nats::jetstream::new(self.client.nats().clone());
        let wanted = self.client.server_count().min(3);
        if let Ok(store) = jetstream.get_key_value(self.name.clone()).await {
            let found = store.stream.cached_info().config.num_replicas;
            if found >= wanted {
                return Ok(store);
            }
            return Ok(match jetstream.update_key_value(self.config(wanted)).await {
                Ok(store) => {
                    tracing::info!(bucket = self.name, from = found, to = wanted, "replicas raised");
                    store
                }
                Err(error) => {
                    tracing::debug!(bucket = self.name, %error, "replicas cannot be raised yet");
                    store
                }
            });
        }
        let mut last_error = String::new();
        for replicas in (1..=wanted).rev() {
            match jetstream.create_key_value(self.config(replicas)).await {
                Ok(store) => return Ok(store),
                // Someone else may just have made it.
                Err(error) => last_error = error.to_string(),
            }
            if let Ok(store) = jetstream.get_key_value(self.name.clone()).await {
                return Ok(store);
            }
        }
        Err(self.failed("making", last_error))
    }

    pub(crate) async fn put(&self, key: &str, value: Bytes) -> Result<u64, ClientError> {
        let store = self.store().await?;
        self.within("writing", store.put(key, value)).await
    }

    pub(crate) async fn entry(&self, key: &str) -> Result<Option<Entry>, ClientError> {
        use async_nats::jetstream::kv::Operation;
        let store = self.store().await?;
        let entry = self.within("reading", store.entry(key)).await?;
        Ok(entry.filter(|entry| entry.operation == Operation::Put))
    }

    pub(crate) async fn create(&self, key: &str, value: Bytes) -> Result<Cas, ClientError> {
        let store = self.store().await?;
        let create = async {
            match store.create(key, value).await {
                Ok(revision) => Ok(Cas::Written(revision)),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => Ok(Cas::Conflict),
                Err(error) => Err(error),
            }
        };
        self.within("writing", create).await
    }

    pub(crate) async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<Cas, ClientError> {
        let store = self.store().await?;
        let update = async {
            match store.update(key, value, revision).await {
                Ok(revision) => Ok(Cas::Written(revision)),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(Cas::Conflict),
                Err(error) => Err(error),
            }
        };
        self.within("writing", update).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<(), ClientError> {
        let store = self.store().await?;
        self.within("deleting", store.delete(key)).await
    }

    pub(crate) async fn watch_all(&self) -> Result<Watch, ClientError> {
        let store = self.store().await?;
        self.within("watching", store.watch_all()).await
    }
}

/// Says once that JetStream is lost, and once that it is back.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    pub(crate) fn failed(&mut self, what: &str, error: &ClientError) {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            tracing::warn!(%error, "{what} stands still until JetStream is back; farming goes on");
        } else {
            tracing::debug!(%error, "{what} still stands still");
        }
    }

    pub(crate) fn succeeded(&mut self, what: &str) {
        if let Some(since) = self.since.take() {
            tracing::info!(after = ?since.elapsed(), "{what} goes on: JetStream is back");
        }
    }
}
