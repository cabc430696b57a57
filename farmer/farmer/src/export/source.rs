//! Where blocks and segment headers come from: a node's RPC, or a node's database.

use crate::export::ExportError;
use crate::export::cli::Cli;
use crate::export::rearchive::HistoryError;
use crate::roles::context::is_development_node;
use cluster::Backoff;
use futures::{StreamExt, stream};
use node::{NodeClient, Options};
use node_db::NodeDb;
use primitives::rpc::GenesisHash;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Requests for blocks under way at once; a block has up to 5 MB.
const PIPELINE: usize = 16;
/// Blocks that wait for the archiver.
const READ_AHEAD: usize = 8;
/// How long the first connection may take: someone may wait at the terminal.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a node that has answered before is waited for: a restart takes minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Waits between attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A source of blocks; clones share it.
#[derive(Debug, Clone)]
pub enum Source {
    /// A running node.
    Node(NodeClient),
    /// A stopped node's database.
    Database(Arc<NodeDb>),
}

/// The chain as the source has it when the export begins.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Genesis: its name.
    pub genesis: GenesisHash,
    /// The newest block.
    pub best: BlockNumber,
    /// Headers of all segments that the node has archived, from segment 0 on.
    pub headers: Vec<SegmentHeader>,
    /// Whether it is a development chain; none where the source does not say.
    pub is_development: Option<bool>,
}

/// Blocks as they are archived, in order; none where the source has thrown one away.
pub type Blocks = mpsc::Receiver<Result<Option<Vec<u8>>, HistoryError>>;

impl Source {
    /// Connects to the node, or opens the database.
    ///
    /// # Errors
    /// When the node does not answer, or the database is locked, not closed in order, or none.
    pub async fn open(cli: &Cli) -> Result<Self, ExportError> {
        if let Some(path) = cli.node_db.clone() {
            let replay_log = cli.replay_log;
            let opening = tokio::task::spawn_blocking(move || match replay_log {
                true => NodeDb::open_read_only(&path),
                false => NodeDb::open_unchanged(&path),
            });
            return Ok(Self::Database(Arc::new(joined(opening).await??)));
        }
        if cli.replay_log {
            // Clap asks for no argument that conflicts with a given one.
            return Err(ExportError::Config(
                "--replay-log is for a database: give it with --node-db DIR".into(),
            ));
        }
        let url = cli.node_url.as_deref().expect("the command line asks for one of the two");
        let node = NodeClient::new(url, Options { plain_http: true, ..Options::default() })?;
        node.connected(CONNECT_TIMEOUT).await?;
        Ok(Self::Node(node))
    }

    /// What to call it in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Node(node) => format!("the node at {}", node.url()),
            Self::Database(database) => format!("the database {}", database.path().display()),
        }
    }

    /// Chain, best block and segment headers.
    ///
    /// # Errors
    /// Those of the source; damaged headers.
    pub async fn chain(&self) -> Result<Chain, HistoryError> {
        match self {
            Self::Node(node) => {
                let genesis = node.connected(CONNECT_TIMEOUT).await?;
                if patiently(|| node.system_health()).await?.is_syncing {
                    tracing::warn!("The node is still syncing: the export ends where it is now");
                }
                Ok(Chain {
                    genesis,
                    is_development: Some(patiently(|| is_development_node(node)).await?),
                    headers: patiently(|| node.segment_headers_from(SegmentIndex(0))).await?,
                    best: patiently(|| node.best_header()).await?.number,
                })
            }
            Self::Database(database) => {
                let database = Arc::clone(database);
                let reading = tokio::task::spawn_blocking(move || -> Result<Chain, node_db::Error> {
                    Ok(Chain {
                        genesis: GenesisHash(database.genesis_hash()?),
                        best: database.best()?.number,
                        headers: database.segment_headers()?,
                        is_development: None,
                    })
                });
                Ok(joined(reading).await??)
            }
        }
    }

    /// The bytes of a canonical block as they are archived; none when the source has thrown them away.
    ///
    /// # Errors
    /// Those of the source; a node that went away is waited for.
    pub async fn block(&self, number: BlockNumber) -> Result<Option<Vec<u8>>, HistoryError> {
        match self {
            Self::Node(node) => {
                let block = patiently(async || match node.block_hash(number).await? {
                    Some(hash) => node.block(&hash).await,
                    None => Ok(None),
                });
                Ok(block.await?.map(|block| block.encode_for_archiving()))
            }
            Self::Database(database) => {
                let database = Arc::clone(database);
                joined(tokio::task::spawn_blocking(move || read(&database, number))).await?
            }
        }
    }

    /// Reads blocks `first..=last` ahead, as many as fit into a bounded queue, until the receiver is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn blocks(&self, first: BlockNumber, last: BlockNumber) -> Blocks {
        let (sender, blocks) = mpsc::channel(READ_AHEAD);
        match self.clone() {
            Self::Database(database) => {
                tokio::task::spawn_blocking(move || {
                    for number in first..=last {
                        if sender.blocking_send(read(&database, number)).is_err() {
                            return;
                        }
                    }
                });
            }
            source @ Self::Node(_) => {
                tokio::spawn(async move {
                    let asking = |number| {
                        let source = source.clone();
                        async move { source.block(number).await }
                    };
                    let mut answers = stream::iter(first..=last).map(asking).buffered(PIPELINE);
                    loop {
                        let answer = tokio::select! {
                            answer = answers.next() => answer,
                            () = sender.closed() => return,
                        };
                        let Some(answer) = answer else { return };
                        if sender.send(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
        blocks
    }

    /// The first of `first..=last` from which on the source has all blocks; none when it lacks `last`, too. What is pruned
    /// is older than what is not: a few dozen blocks are looked at.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn first_available(
        &self,
        first: BlockNumber,
        last: BlockNumber,
    ) -> Result<Option<BlockNumber>, HistoryError> {
        if self.block(last).await?.is_none() {
            return Ok(None);
        }
        let (mut low, mut high) = (first, last);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.block(middle).await? {
                Some(_) => high = middle,
                None => low = middle + 1,
            }
        }
        Ok(Some(high))
    }
}

fn read(database: &NodeDb, number: BlockNumber) -> Result<Option<Vec<u8>>, HistoryError> {
    match database.encoded_for_archiving(number) {
        Ok(block) => Ok(Some(block)),
        Err(node_db::Error::PrunedBody { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The result of a task that does not panic.
pub async fn joined<T>(task: tokio::task::JoinHandle<T>) -> Result<T, HistoryError> {
    task.await.map_err(|error| HistoryError::Internal(error.to_string()))
}

/// Asks again, ever more seldom, while the node is away or too slow.
async fn patiently<T, F: Future<Output = Result<T, node::Error>>>(
    ask: impl Fn() -> F,
) -> Result<T, node::Error> {
    let started = Instant::now();
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        match ask().await {
            Err(error) if is_passing(&error) && started.elapsed() < PATIENCE => {
                tracing::warn!(%error, "The node does not answer; asking again");
                backoff.wait().await;
            }
            answer => return answer,
        }
    }
}

/// Whether the same question may be answered later.
fn is_passing(error: &node::Error) -> bool {
    matches!(error, node::Error::NotConnected { .. } | node::Error::Timeout { .. } | node::Error::Rpc { .. })
}
