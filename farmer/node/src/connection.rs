//! The task that keeps the connection to the node up.

use crate::Error;
use crate::client::Options;
use crate::transport::Transport;
use jsonrpsee::rpc_params;
use primitives::node_rpc::block_hash_from_json;
use primitives::rpc::GenesisHash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// While a node stays unreachable the log says so once, then again this seldom.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// A connection that stood this long resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// State of the connection to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Not connected; attempts go on.
    Connecting {
        /// Why the last attempt failed, or why the connection broke.
        reason: String,
    },
    /// Connected to the right chain.
    Connected {
        /// Genesis of the chain.
        genesis_hash: GenesisHash,
    },
    /// Another chain answers; attempts go on.
    WrongGenesis {
        /// Genesis of the chain expected.
        expected: GenesisHash,
        /// Genesis found.
        found: GenesisHash,
    },
}

/// State with the connection itself.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) state: NodeState,
    pub(crate) client: Option<Arc<Transport>>,
}

impl Link {
    pub(crate) fn connecting(reason: impl Into<String>) -> Self {
        Self { state: NodeState::Connecting { reason: reason.into() }, client: None }
    }
}

/// Why an attempt to connect failed.
enum Failure {
    Unreachable(String),
    WrongGenesis { expected: GenesisHash, found: GenesisHash },
}

/// Keeps the connection up until it is aborted.
pub(crate) async fn keep(url: String, options: Options, links: watch::Sender<Link>) {
    let mut expected = options.expected_genesis;
    let mut backoff = options.backoff_min;
    let mut reminded: Option<Instant> = None;
    loop {
        match connect(&url, &options, expected).await {
            Ok((client, genesis_hash)) => {
                if reminded.take().is_some() {
                    tracing::info!(%url, "The node is reachable again");
                } else {
                    tracing::info!(%url, %genesis_hash, "Connected to the node");
                }
                expected = Some(genesis_hash);
                let client = Arc::new(client);
                let connected_at = Instant::now();
                let state = NodeState::Connected { genesis_hash };
                links.send_replace(Link { state, client: Some(Arc::clone(&client)) });
                let reason = client.on_disconnect().await;
                if connected_at.elapsed() >= STABLE_AFTER {
                    backoff = options.backoff_min;
                }
                tracing::warn!(%url, %reason, "Lost the connection to the node, connecting again");
                reminded = Some(Instant::now());
                links.send_replace(Link::connecting(reason));
            }
            Err(failure) => {
                let due = reminded.is_none_or(|last| last.elapsed() >= REMINDER_INTERVAL);
                report(&url, failure, due, options.backoff_max, &links);
                if due {
                    reminded = Some(Instant::now());
                }
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(options.backoff_max);
    }
}

fn report(url: &str, failure: Failure, due: bool, backoff_max: Duration, links: &watch::Sender<Link>) {
    match failure {
        Failure::Unreachable(reason) => {
            if due {
                tracing::warn!(
                    %url, %reason,
                    "The node is not reachable; waiting for it, with an attempt every {} s at least",
                    backoff_max.as_secs_f32()
                );
            }
            links.send_replace(Link::connecting(reason));
        }
        Failure::WrongGenesis { expected, found } => {
            if due {
                let error = Error::WrongGenesis { url: url.to_owned(), expected, found };
                tracing::error!("{error}");
            }
            links.send_replace(Link { state: NodeState::WrongGenesis { expected, found }, client: None });
        }
    }
}

async fn connect(
    url: &str,
    options: &Options,
    expected: Option<GenesisHash>,
) -> Result<(Transport, GenesisHash), Failure> {
    let unreachable = |error: &dyn std::fmt::Display| Failure::Unreachable(error.to_string());
    let timeout = options.connect_timeout;
    let client = tokio::time::timeout(timeout, Transport::connect(url, options))
        .await
        .map_err(|_| unreachable(&format!("no connection within {} s", timeout.as_secs_f32())))?
        .map_err(|error| unreachable(&error))?;
    // A safe method, answered from the node's database: quick even while the node syncs.
    let asking = client.request::<Option<String>>("chain_getBlockHash", rpc_params![0]);
    let genesis = tokio::time::timeout(timeout, asking)
        .await
        .map_err(|_| unreachable(&"it did not name its genesis block in time"))?
        .map_err(|error| unreachable(&error))?
        .ok_or_else(|| unreachable(&"it has no genesis block"))?;
    let found = GenesisHash(block_hash_from_json(&genesis).map_err(|error| unreachable(&error))?);
    match expected {
        Some(expected) if expected != found => Err(Failure::WrongGenesis { expected, found }),
        _ => Ok((client, found)),
    }
}
