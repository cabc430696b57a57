//! A development node's RPC as other nodes would show it: without `dev_stats`, with safe methods only, without old blocks, with
//! late slots, with solutions that are on their way for as long as a test needs. Everything else is forwarded; what passes is
//! noted.

use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::{ClientT, SubscriptionClientT};
use jsonrpsee::server::{PendingSubscriptionSink, RpcModule, Server, ServerConfig, ServerHandle};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use parking_lot::Mutex;
use primitives::node_rpc::{ERROR_CODE_BASE, METHOD_NOT_FOUND_CODE, UNSAFE_METHOD_MESSAGE, names};
use primitives::{BlockNumber, PieceIndex, RewardSignatureResponse, SlotNumber, SolutionResponse};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const DEV_STATS: &str = "dev_stats";
const BLOCK: &str = "chain_getBlock";
const SAFE_METHODS: [&str; 10] = [
    names::FARMER_APP_INFO,
    names::SEGMENT_HEADERS,
    names::LAST_SEGMENT_HEADERS,
    "chain_getBlockHash",
    BLOCK,
    "chain_getHeader",
    "chain_getFinalizedHead",
    "system_health",
    "system_version",
    DEV_STATS,
];
const UNSAFE_METHODS: [&str; 4] =
    [names::SUBMIT_SOLUTION, names::SUBMIT_REWARD_SIGNATURE, names::PIECE, names::ACKNOWLEDGE_SEGMENT_HEADER];
const SAFE_SUBSCRIPTIONS: [[&str; 3]; 2] = [names::SLOT_INFO, names::ARCHIVED_SEGMENT_HEADER];
const UNSAFE_SUBSCRIPTIONS: [[&str; 3]; 2] = [names::REWARD_SIGNING, names::OBJECT_MAPPINGS];

/// Largest answer of a node, bytes.
const MAX_ANSWER: u32 = 20 * 1024 * 1024;

/// Where solutions are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Nothing,
    /// Before the node gets them.
    Solutions,
    /// The node has them, and its answers do not come.
    Answers,
}

pub struct NodeProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: ServerHandle,
}

struct Shared {
    node: WsClient,
    safe_only: AtomicBool,
    first_block: AtomicU32,
    slots_late_ms: AtomicU64,
    slots: Mutex<BTreeSet<SlotNumber>>,
    refused: AtomicU64,
    submissions: Mutex<Vec<(SolutionResponse, bool)>>,
    hold: watch::Sender<Hold>,
    held: Mutex<Vec<SolutionResponse>>,
    signatures: Mutex<Vec<RewardSignatureResponse>>,
    pieces: Mutex<BTreeSet<PieceIndex>>,
}

type Answer = Result<Value, ErrorObjectOwned>;

impl NodeProxy {
    /// In front of the development node at `node`, which shows that it is one if `shows_development`.
    pub async fn start(node: SocketAddr, shows_development: bool) -> Self {
        let builder = WsClientBuilder::default().max_response_size(MAX_ANSWER).max_request_size(MAX_ANSWER);
        let shared = Arc::new(Shared {
            node: builder.build(format!("ws://{node}")).await.unwrap(),
            safe_only: AtomicBool::new(false),
            first_block: AtomicU32::new(0),
            slots_late_ms: AtomicU64::new(0),
            slots: Mutex::default(),
            refused: AtomicU64::new(0),
            submissions: Mutex::default(),
            hold: watch::channel(Hold::Nothing).0,
            held: Mutex::default(),
            signatures: Mutex::default(),
            pieces: Mutex::default(),
        });
        let mut module = RpcModule::from_arc(Arc::clone(&shared));
        let hidden = |name: &&str| *name == DEV_STATS && !shows_development;
        for name in SAFE_METHODS.into_iter().filter(|name| !hidden(name)) {
            module
                .register_async_method(name, move |params, shared, _| async move {
                    shared.ask(name, &params).await
                })
                .unwrap();
        }
        for name in UNSAFE_METHODS {
            module
                .register_async_method(name, move |params, shared, _| async move {
                    shared.refuse_unsafe()?;
                    let params = params.into_owned();
                    // What is on its way to a node arrives, though whoever sent it goes away.
                    tokio::spawn(async move { shared.ask_and_note(name, &params).await }).await.unwrap()
                })
                .unwrap();
        }
        let safe = SAFE_SUBSCRIPTIONS.map(|names| (names, true));
        let not_safe = UNSAFE_SUBSCRIPTIONS.map(|names| (names, false));
        for (names, is_safe) in safe.into_iter().chain(not_safe) {
            let [subscribe, notification, unsubscribe] = names;
            module
                .register_subscription(
                    subscribe,
                    notification,
                    unsubscribe,
                    move |_, pending, shared, _| async move {
                        match if is_safe { Ok(()) } else { shared.refuse_unsafe() } {
                            Ok(()) => shared.forward(names, pending).await,
                            Err(refusal) => pending.reject(refusal).await,
                        }
                    },
                )
                .unwrap();
        }
        let config = ServerConfig::builder().max_response_body_size(MAX_ANSWER).build();
        let server = Server::builder().set_config(config).build("127.0.0.1:0").await.unwrap();
        Self { address: server.local_addr().unwrap(), shared, server: server.start(module) }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Whether unsafe methods are refused from now on, as by a node under `--rpc-methods safe`.
    pub fn set_safe_only(&self, safe_only: bool) {
        self.shared.safe_only.store(safe_only, Ordering::SeqCst);
    }

    /// Gives no older blocks than this one from now on, as a node that prunes them.
    pub fn prune_before(&self, first: BlockNumber) {
        self.shared.first_block.store(first, Ordering::SeqCst);
    }

    /// Holds each slot back from now on.
    pub fn hold_slots_back(&self, by: Duration) {
        self.shared.slots_late_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// Slots announced.
    pub fn slots(&self) -> BTreeSet<SlotNumber> {
        self.shared.slots.lock().clone()
    }

    /// Calls refused as unsafe.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::SeqCst)
    }

    /// Solutions handed to the node, and whether it took each.
    pub fn submissions(&self) -> Vec<(SolutionResponse, bool)> {
        self.shared.submissions.lock().clone()
    }

    /// Holds solutions from now on, or lets go those that are held.
    pub fn hold(&self, hold: Hold) {
        self.shared.hold.send_replace(hold);
    }

    /// Solutions that were held.
    pub fn held(&self) -> Vec<SolutionResponse> {
        self.shared.held.lock().clone()
    }

    /// Reward signatures handed to the node.
    pub fn signatures(&self) -> Vec<RewardSignatureResponse> {
        self.shared.signatures.lock().clone()
    }

    /// Pieces that the node gave.
    pub fn pieces_given(&self) -> BTreeSet<PieceIndex> {
        self.shared.pieces.lock().clone()
    }
}

impl Drop for NodeProxy {
    fn drop(&mut self) {
        // It may have stopped already.
        let _ = self.server.stop();
    }
}

impl Shared {
    /// The answer of Substrate's nodes to calls that are not for everybody.
    fn refuse_unsafe(&self) -> Result<(), ErrorObjectOwned> {
        if !self.safe_only.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(ErrorObjectOwned::owned(METHOD_NOT_FOUND_CODE, UNSAFE_METHOD_MESSAGE, None::<()>))
    }

    async fn ask(&self, name: &str, params: &Params<'_>) -> Answer {
        let params: Vec<Value> = params.parse::<Option<_>>()?.unwrap_or_default();
        let answer: Value = self.node.request(name, params).await.map_err(|error| match error {
            ClientError::Call(error) => error,
            error => ErrorObjectOwned::owned(ERROR_CODE_BASE, error.to_string(), None::<()>),
        })?;
        let number = answer["block"]["header"]["number"].as_str().map(|number| &number[2..]);
        let is_pruned = number.is_some_and(|number| {
            u32::from_str_radix(number, 16).unwrap() < self.first_block.load(Ordering::SeqCst)
        });
        Ok(if name == BLOCK && is_pruned { Value::Null } else { answer })
    }

    async fn ask_and_note(&self, name: &str, params: &Params<'_>) -> Answer {
        if name == names::SUBMIT_SOLUTION {
            self.wait_while(Hold::Solutions, params).await;
        }
        if name == names::SUBMIT_REWARD_SIGNATURE {
            self.signatures.lock().push(params.one()?);
        }
        let answer = self.ask(name, params).await;
        if name == names::SUBMIT_SOLUTION {
            self.wait_while(Hold::Answers, params).await;
            self.submissions.lock().push((params.one()?, answer.is_ok()));
        }
        if name == names::PIECE && matches!(answer, Ok(Value::String(_))) {
            self.pieces.lock().insert(params.one()?);
        }
        answer
    }

    async fn wait_while(&self, hold: Hold, params: &Params<'_>) {
        let mut holds = self.hold.subscribe();
        if *holds.borrow_and_update() == hold {
            self.held.lock().push(params.one().unwrap());
            let _ = holds.wait_for(|now| *now != hold).await;
        }
    }

    async fn forward(&self, subscription: [&'static str; 3], pending: PendingSubscriptionSink) {
        let [subscribe, _, unsubscribe] = subscription;
        let mut items =
            self.node.subscribe::<Value, _>(subscribe, Vec::<Value>::new(), unsubscribe).await.unwrap();
        let Ok(sink) = pending.accept().await else { return };
        loop {
            let item = tokio::select! {
                () = sink.closed() => return,
                item = items.next() => item,
            };
            let Some(Ok(item)) = item else { return };
            if subscription == names::SLOT_INFO {
                self.slots.lock().insert(item["slotNumber"].as_u64().unwrap());
                tokio::time::sleep(Duration::from_millis(self.slots_late_ms.load(Ordering::SeqCst))).await;
            }
            if sink.send(serde_json::value::to_raw_value(&item).unwrap()).await.is_err() {
                return;
            }
        }
    }
}
