//! The facade: one method for each of the node's.

use crate::Error;
use crate::connection::{self, Link, NodeState};
use crate::subscription::{self, Subscription};
use crate::transport::Transport;
use jsonrpsee::core::ClientError;
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee::rpc_params;
use primitives::blocks::{BlockHeader, SignedBlock};
use primitives::node_rpc::{self, HeaderJson, SignedBlockJson, names};
use primitives::rpc::{GenesisHash, MAX_SEGMENT_HEADERS_PER_REQUEST, ObjectMappingResponse};
use primitives::{
    Blake3Hash, BlockNumber, FarmerAppInfo, Piece, PieceIndex, RewardSignatureResponse, RewardSigningInfo,
    SegmentHeader, SegmentIndex, SlotInfo, SolutionResponse,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Concurrent requests for pieces: each answer is 2 MB of hex.
const MAX_CONCURRENT_PIECES: usize = 10;
/// The task that keeps the connection notices a broken one a moment after the call on it fails.
const AFTER_BREAK: Duration = Duration::from_millis(50);

/// How a client connects and waits.
#[derive(Debug, Clone)]
pub struct Options {
    /// Genesis that the node must have; without one, that of the first connection.
    pub expected_genesis: Option<GenesisHash>,
    /// Whether an `http://` address is spoken to by HTTP requests, as a proxy may ask for, and not over a WebSocket: without
    /// subscriptions then, and another chain at the same address is noticed only when a request failed in between.
    pub plain_http: bool,
    /// Longest time a call takes, waiting for a connection included.
    pub call_timeout: Duration,
    /// Longest time an attempt to connect takes.
    pub connect_timeout: Duration,
    /// First pause between attempts; doubles each time.
    pub backoff_min: Duration,
    /// Longest pause between attempts.
    pub backoff_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            expected_genesis: None,
            plain_http: false,
            call_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// Answer of `system_health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemHealth {
    /// Connected peers.
    pub peers: usize,
    /// Whether the node is syncing.
    pub is_syncing: bool,
    /// Whether the node should have peers at all.
    pub should_have_peers: bool,
}

/// What clients and subscriptions share.
pub(crate) struct Inner {
    pub(crate) url: String,
    pub(crate) options: Options,
    pub(crate) links: watch::Sender<Link>,
    pieces: Semaphore,
    task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    pub(crate) fn not_connected(&self) -> Error {
        let url = self.url.clone();
        match self.links.borrow().state.clone() {
            NodeState::WrongGenesis { expected, found } => Error::WrongGenesis { url, expected, found },
            NodeState::Connecting { reason } => Error::NotConnected { url, reason },
            NodeState::Connected { .. } => {
                Error::NotConnected { url, reason: "the connection just broke".to_owned() }
            }
        }
    }

    pub(crate) fn timed_out(&self, method: &str) -> Error {
        let waited = self.options.call_timeout;
        Error::Timeout { url: self.url.clone(), method: method.to_owned(), waited }
    }

    /// The error of an answer; none when the connection is what failed.
    pub(crate) fn translate(&self, method: &str, error: ClientError) -> Option<Error> {
        let url = self.url.clone();
        let method = method.to_owned();
        Some(match error {
            ClientError::Call(answer) => {
                let (code, message) = (answer.code(), answer.message().to_owned());
                if message.starts_with(node_rpc::SOLUTION_IGNORED_MESSAGE) {
                    Error::SolutionIgnored { message }
                } else if code == node_rpc::METHOD_NOT_FOUND_CODE && message.contains("unsafe") {
                    Error::UnsafeMethod { url, method }
                } else if code == node_rpc::METHOD_NOT_FOUND_CODE {
                    Error::UnknownMethod { url, method }
                } else if code == node_rpc::ANSWER_TOO_LARGE_CODE {
                    Error::AnswerTooLarge { url, method }
                } else {
                    Error::Rpc { url, method, code, message }
                }
            }
            ClientError::ParseError(error) => Error::Malformed { url, method, reason: error.to_string() },
            ClientError::RequestTimeout => self.timed_out(&method),
            _ => return None,
        })
    }

    async fn connection(&self, deadline: Instant) -> Result<Arc<Transport>, Error> {
        let mut links = self.links.subscribe();
        let waiting = links.wait_for(|link| link.client.is_some());
        let connected = match tokio::time::timeout_at(deadline, waiting).await {
            Ok(Ok(link)) => link.client.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        connected.ok_or_else(|| self.not_connected())
    }

    /// A call that may be repeated.
    async fn read<R: DeserializeOwned>(&self, method: &str, params: ArrayParams) -> Result<R, Error> {
        let deadline = Instant::now() + self.options.call_timeout;
        loop {
            let client = self.connection(deadline).await?;
            let asking = client.request::<R>(method, params.clone());
            let answer =
                tokio::time::timeout_at(deadline, asking).await.map_err(|_| self.timed_out(method))?;
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    if let Some(error) = self.translate(method, error) {
                        return Err(error);
                    }
                    tokio::time::sleep(AFTER_BREAK).await;
                }
            }
        }
    }

    /// A call that is sent at most once, and only if the connection stands.
    async fn submit(&self, method: &'static str, params: ArrayParams) -> Result<(), Error> {
        let client = self.links.borrow().client.clone().ok_or_else(|| self.not_connected())?;
        if !client.is_connected() {
            return Err(self.not_connected());
        }
        let asking = client.request::<()>(method, params);
        let answer = tokio::time::timeout(self.options.call_timeout, asking)
            .await
            .map_err(|_| self.timed_out(method))?;
        answer.map_err(|error| {
            self.translate(method, error)
                .unwrap_or_else(|| Error::Interrupted { url: self.url.clone(), method })
        })
    }
}

/// A client of one node; clones share its connection. See the crate's description.
#[derive(Clone)]
pub struct NodeClient {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeClient").field("url", &self.inner.url).finish_non_exhaustive()
    }
}

/// `ws://` or `wss://` of the address, since a node serves HTTP and WebSocket on one port; `http://` if that is to stay.
fn connection_url(url: &str, plain_http: bool) -> Result<String, Error> {
    let bad = |reason: &str| Error::Address { url: url.to_owned(), reason: reason.to_owned() };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("no scheme"))?;
    let scheme = match scheme {
        "http" if plain_http => "http",
        "ws" | "http" => "ws",
        "wss" | "https" => "wss",
        _ => return Err(bad("the scheme is not ws")),
    };
    if rest.trim_matches('/').is_empty() {
        return Err(bad("no host"));
    }
    Ok(format!("{scheme}://{rest}"))
}

impl NodeClient {
    /// Starts connecting to the node at `url` and returns at once; calls wait for the connection.
    ///
    /// # Errors
    /// [`Error::Address`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(url: &str, options: Options) -> Result<Self, Error> {
        let url = connection_url(url, options.plain_http)?;
        let (links, _) = watch::channel(Link::connecting("the first attempt is under way"));
        let task = tokio::spawn(connection::keep(url.clone(), options.clone(), links.clone()));
        let pieces = Semaphore::new(MAX_CONCURRENT_PIECES);
        Ok(Self { inner: Arc::new(Inner { url, options, links, pieces, task: task.abort_handle() }) })
    }

    /// Address of the node.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// State of the connection.
    pub fn state(&self) -> NodeState {
        self.inner.links.borrow().state.clone()
    }

    /// Waits for the connection for at most `timeout`; gives the chain's genesis hash.
    ///
    /// # Errors
    /// [`Error::NotConnected`] with the reason, [`Error::WrongGenesis`].
    pub async fn connected(&self, timeout: Duration) -> Result<GenesisHash, Error> {
        self.inner.connection(Instant::now() + timeout).await?;
        match self.state() {
            NodeState::Connected { genesis_hash } => Ok(genesis_hash),
            _ => Err(self.inner.not_connected()),
        }
    }

    /// Waits until the state is another than `seen`, and gives it. Cancel safe.
    pub async fn state_changed(&self, seen: &NodeState) -> NodeState {
        let mut links = self.inner.links.subscribe();
        match links.wait_for(|link| link.state != *seen).await {
            Ok(link) => link.state.clone(),
            Err(_) => self.state(),
        }
    }

    fn malformed(&self, method: &str, reason: String) -> Error {
        Error::Malformed { url: self.inner.url.clone(), method: method.to_owned(), reason }
    }

    /// `subspace_getFarmerAppInfo`; its genesis is checked against the connection's.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn farmer_app_info(&self) -> Result<FarmerAppInfo, Error> {
        let info: FarmerAppInfo = self.inner.read(names::FARMER_APP_INFO, rpc_params![]).await?;
        match self.state() {
            NodeState::Connected { genesis_hash: expected } if expected != info.genesis_hash => {
                let found = info.genesis_hash;
                Err(Error::WrongGenesis { url: self.inner.url.clone(), expected, found })
            }
            _ => Ok(info),
        }
    }

    /// `subspace_submitSolutionResponse`; sent at most once.
    ///
    /// # Errors
    /// [`Error::SolutionIgnored`], [`Error::NotConnected`] or [`Error::Interrupted`]: see
    /// [`Error::is_certainly_undelivered`].
    pub async fn submit_solution(&self, solution: &SolutionResponse) -> Result<(), Error> {
        self.inner.submit(names::SUBMIT_SOLUTION, rpc_params![solution]).await
    }

    /// `subspace_submitRewardSignature`; sent at most once.
    ///
    /// # Errors
    /// As [`Self::submit_solution`].
    pub async fn submit_reward_signature(&self, signature: &RewardSignatureResponse) -> Result<(), Error> {
        self.inner.submit(names::SUBMIT_REWARD_SIGNATURE, rpc_params![signature]).await
    }

    /// `subspace_acknowledgeArchivedSegmentHeader`: the node may archive on.
    ///
    /// # Errors
    /// As [`Self::submit_solution`]; a lost acknowledgement delays the node by its timeout and nothing more.
    pub async fn acknowledge_segment_header(&self, index: SegmentIndex) -> Result<(), Error> {
        self.inner.submit(names::ACKNOWLEDGE_SEGMENT_HEADER, rpc_params![index]).await
    }

    /// `subspace_piece`: only pieces of the newest and the genesis segment are there; none otherwise. At most 10 such
    /// requests run at a time. The piece is not verified.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn piece(&self, index: PieceIndex) -> Result<Option<Piece>, Error> {
        let _permit = self.inner.pieces.acquire().await.expect("the semaphore is never closed");
        let Some(text) = self.inner.read::<Option<String>>(names::PIECE, rpc_params![index]).await? else {
            return Ok(None);
        };
        // Two million hex digits are decoded beside the socket's task, not on it.
        let decoding = tokio::task::spawn_blocking(move || {
            let bytes = primitives::rpc::decode_hex_bytes(&text).map_err(|error| {
                // The error quotes the text, which is 2 MB here.
                error.to_string().chars().take(80).collect::<String>()
            })?;
            Piece::try_from(bytes).map_err(|error| error.to_string())
        });
        match decoding.await {
            Ok(Ok(piece)) => Ok(Some(piece)),
            Ok(Err(reason)) => Err(self.malformed(names::PIECE, reason)),
            Err(error) => Err(self.malformed(names::PIECE, error.to_string())),
        }
    }

    /// `subspace_segmentHeaders` for at most 1,000 indices: the headers in their order, none where the node has none.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Malformed`] when a header is not the one asked for, any [`Error`] of a read.
    pub async fn segment_headers(
        &self,
        indices: &[SegmentIndex],
    ) -> Result<Vec<Option<SegmentHeader>>, Error> {
        let method = names::SEGMENT_HEADERS;
        check_limit(method, indices.len(), MAX_SEGMENT_HEADERS_PER_REQUEST)?;
        let headers: Vec<Option<SegmentHeader>> = self.inner.read(method, rpc_params![indices]).await?;
        if headers.len() != indices.len() {
            let reason = format!("{} headers for {} indices", headers.len(), indices.len());
            return Err(self.malformed(method, reason));
        }
        for (header, index) in headers.iter().zip(indices) {
            if let Some(header) = header
                && header.segment_index() != *index
            {
                let reason = format!("segment {} where {index} was asked for", header.segment_index());
                return Err(self.malformed(method, reason));
            }
        }
        Ok(headers)
    }

    /// All segment headers from `first` on, ascending, in batches of 1,000; their chain of hashes is checked.
    ///
    /// # Errors
    /// As [`Self::segment_headers`].
    pub async fn segment_headers_from(&self, first: SegmentIndex) -> Result<Vec<SegmentHeader>, Error> {
        let mut headers: Vec<SegmentHeader> = Vec::new();
        loop {
            let next = first.0 + headers.len() as u64;
            let batch = MAX_SEGMENT_HEADERS_PER_REQUEST as u64;
            let indices = (next..next.saturating_add(batch)).map(SegmentIndex).collect::<Vec<_>>();
            for header in self.segment_headers(&indices).await? {
                let Some(header) = header else { return Ok(headers) };
                if headers.last().is_some_and(|last| last.hash() != header.prev_segment_header_hash()) {
                    let reason = format!("segment {} does not follow the one before", header.segment_index());
                    return Err(self.malformed(names::SEGMENT_HEADERS, reason));
                }
                headers.push(header);
            }
        }
    }

    /// `subspace_lastSegmentHeaders`: the newest `limit` (at most 1,000) headers, ascending.
    ///
    /// # Errors
    /// [`Error::TooMany`], any [`Error`] of a read.
    pub async fn last_segment_headers(&self, limit: u32) -> Result<Vec<SegmentHeader>, Error> {
        let method = names::LAST_SEGMENT_HEADERS;
        check_limit(method, limit as usize, MAX_SEGMENT_HEADERS_PER_REQUEST)?;
        // The reference's list holds options; none of them is empty.
        let headers: Vec<Option<SegmentHeader>> = self.inner.read(method, rpc_params![limit]).await?;
        Ok(headers.into_iter().flatten().collect())
    }

    /// Slots.
    pub fn subscribe_slots(&self) -> Subscription<SlotInfo> {
        subscription::start(Arc::downgrade(&self.inner), names::SLOT_INFO, rpc_params![])
    }

    /// Blocks and votes to be signed; unsafe.
    pub fn subscribe_reward_signing(&self) -> Subscription<RewardSigningInfo> {
        subscription::start(Arc::downgrade(&self.inner), names::REWARD_SIGNING, rpc_params![])
    }

    /// Headers of segments as they are archived; each is to be acknowledged
    /// ([`Self::acknowledge_segment_header`]) once its pieces are stored.
    pub fn subscribe_archived_segment_headers(&self) -> Subscription<SegmentHeader> {
        subscription::start(Arc::downgrade(&self.inner), names::ARCHIVED_SEGMENT_HEADER, rpc_params![])
    }

    /// Object mappings of archived blocks; unsafe.
    pub fn subscribe_object_mappings(&self) -> Subscription<ObjectMappingResponse> {
        subscription::start(Arc::downgrade(&self.inner), names::OBJECT_MAPPINGS, rpc_params![])
    }

    /// Object mappings of at most 1,000 given hashes; unsafe.
    ///
    /// # Errors
    /// [`Error::TooMany`].
    pub fn subscribe_filtered_object_mappings(
        &self,
        hashes: &[Blake3Hash],
    ) -> Result<Subscription<ObjectMappingResponse>, Error> {
        let names = names::FILTERED_OBJECT_MAPPINGS;
        check_limit(names[0], hashes.len(), node_rpc::MAX_OBJECT_MAPPINGS)?;
        Ok(subscription::start(Arc::downgrade(&self.inner), names, rpc_params![hashes]))
    }

    /// `chain_getBlockHash` of the canonical block with this number.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn block_hash(&self, number: BlockNumber) -> Result<Option<[u8; 32]>, Error> {
        let method = "chain_getBlockHash";
        let text: Option<String> = self.inner.read(method, rpc_params![number]).await?;
        text.map(|text| {
            node_rpc::block_hash_from_json(&text).map_err(|error| self.malformed(method, error.to_string()))
        })
        .transpose()
    }

    /// `chain_getBlock`: the block with its justifications, its hash checked; none when the node does not have it or its
    /// body.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is another block, any [`Error`] of a read.
    pub async fn block(&self, hash: &[u8; 32]) -> Result<Option<SignedBlock>, Error> {
        let method = "chain_getBlock";
        let params = rpc_params![node_rpc::block_hash_to_json(hash)];
        let Some(json) = self.inner.read::<Option<SignedBlockJson>>(method, params).await? else {
            return Ok(None);
        };
        let block = SignedBlock::try_from(json).map_err(|error| self.malformed(method, error.to_string()))?;
        self.check_hash(method, &block.header, hash)?;
        Ok(Some(block))
    }

    /// `chain_getHeader`: the header, its hash checked; none when the node does not have it.
    ///
    /// # Errors
    /// As [`Self::block`].
    pub async fn header(&self, hash: &[u8; 32]) -> Result<Option<BlockHeader>, Error> {
        let method = "chain_getHeader";
        let params = rpc_params![node_rpc::block_hash_to_json(hash)];
        let Some(json) = self.inner.read::<Option<HeaderJson>>(method, params).await? else {
            return Ok(None);
        };
        let header =
            BlockHeader::try_from(json).map_err(|error| self.malformed(method, error.to_string()))?;
        self.check_hash(method, &header, hash)?;
        Ok(Some(header))
    }

    fn check_hash(&self, method: &str, header: &BlockHeader, expected: &[u8; 32]) -> Result<(), Error> {
        let found = header.hash();
        if found == *expected {
            return Ok(());
        }
        let reason = format!("block {} where {} was asked for", hex::encode(found), hex::encode(expected));
        Err(self.malformed(method, reason))
    }

    /// `chain_getHeader` without a hash: the best block's header.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn best_header(&self) -> Result<BlockHeader, Error> {
        let method = "chain_getHeader";
        let json: HeaderJson = self.inner.read(method, rpc_params![]).await?;
        BlockHeader::try_from(json).map_err(|error| self.malformed(method, error.to_string()))
    }

    /// `chain_getFinalizedHead`: hash of the newest finalized block.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn finalized_head(&self) -> Result<[u8; 32], Error> {
        let method = "chain_getFinalizedHead";
        let text: String = self.inner.read(method, rpc_params![]).await?;
        node_rpc::block_hash_from_json(&text).map_err(|error| self.malformed(method, error.to_string()))
    }

    /// `system_health`.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn system_health(&self) -> Result<SystemHealth, Error> {
        self.inner.read("system_health", rpc_params![]).await
    }

    /// `system_version`.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn system_version(&self) -> Result<String, Error> {
        self.inner.read("system_version", rpc_params![]).await
    }

    /// A method without parameters that only some nodes have, `dev_stats` for one.
    ///
    /// # Errors
    /// Any [`Error`] of a read.
    pub async fn read<R: DeserializeOwned>(&self, method: &str) -> Result<R, Error> {
        self.inner.read(method, rpc_params![]).await
    }
}

fn check_limit(method: &'static str, asked: usize, limit: usize) -> Result<(), Error> {
    if asked > limit { Err(Error::TooMany { method, asked, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (given, expected) in [
            ("ws://127.0.0.1:9944", "ws://127.0.0.1:9944"),
            ("http://127.0.0.1:9944", "ws://127.0.0.1:9944"),
            ("https://node.example/rpc", "wss://node.example/rpc"),
        ] {
            assert_eq!(connection_url(given, false).expect(given), expected);
        }
        assert_eq!(connection_url("http://host:1", true).expect("one"), "http://host:1");
        assert_eq!(
            connection_url("https://host", true).expect("one"),
            "wss://host",
            "TLS is the WebSocket's alone"
        );
        for wrong in ["127.0.0.1:9944", "ftp://host", "ws://", "ws:///", ""] {
            assert!(matches!(connection_url(wrong, true), Err(Error::Address { .. })), "{wrong}");
        }
    }
}
