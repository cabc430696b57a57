//! The client against a node of our own making that can break, refuse, lie and come back as another chain.
#![allow(clippy::unwrap_used, missing_docs)]

use jsonrpsee::server::{RpcModule, Server, ServerConfig, ServerHandle};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use node::{Error, Event, NodeClient, NodeState, Options};
use parity_scale_codec::Decode;
use primitives::node_rpc::names;
use primitives::rpc::GenesisHash;
use primitives::{
    Blake3Hash, FarmerAppInfo, PieceIndex, RewardSignatureResponse, RewardSigningInfo, SegmentHeader,
    SegmentIndex, SlotInfo, SolutionResponse,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

/// Samples of the reference, JSON and SCALE.
fn samples() -> Value {
    vectors::load("farming/rpc_types.json")
}

fn scale<T: Decode>(samples: &Value, name: &str) -> T {
    let bytes = hex::decode(samples[name]["scale"].as_str().unwrap()).unwrap();
    T::decode(&mut bytes.as_slice()).unwrap()
}

type Module = RpcModule<()>;

/// Answers like a node of the chain with this genesis.
fn module(genesis: GenesisHash) -> Module {
    let mut module = RpcModule::new(());
    module
        .register_method("chain_getBlockHash", move |_, _, _| format!("0x{}", hex::encode(genesis.0)))
        .unwrap();
    module
}

fn answer(module: &mut Module, method: &'static str, value: Value) {
    module.register_method(method, move |_, _, _| value.clone()).unwrap();
}

fn fail(module: &mut Module, method: &'static str, code: i32, message: &'static str) {
    module
        .register_method(method, move |_, _, _| -> Result<(), ErrorObjectOwned> {
            Err(ErrorObjectOwned::owned(code, message, None::<()>))
        })
        .unwrap();
}

fn notify(module: &mut Module, [subscribe, notification, unsubscribe]: [&'static str; 3], value: Value) {
    module
        .register_subscription(subscribe, notification, unsubscribe, move |_, pending, _, _| {
            let value = value.clone();
            async move {
                let sink = pending.accept().await?;
                sink.send(serde_json::value::to_raw_value(&value)?).await?;
                sink.closed().await;
                Ok::<_, jsonrpsee::core::SubscriptionError>(())
            }
        })
        .unwrap();
}

async fn serve(address: &str, module: Module) -> (SocketAddr, ServerHandle) {
    serve_as(ServerConfig::default(), address, module).await
}

async fn serve_as(config: ServerConfig, address: &str, module: Module) -> (SocketAddr, ServerHandle) {
    // A port that was just given up may take a moment.
    for _ in 0..100 {
        match Server::builder().set_config(config.clone()).build(address).await {
            Ok(server) => return (server.local_addr().unwrap(), server.start(module)),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("cannot listen on {address}");
}

async fn stop(server: ServerHandle) {
    server.stop().unwrap();
    server.stopped().await;
}

fn client(address: SocketAddr) -> NodeClient {
    let options = Options {
        call_timeout: WAIT,
        connect_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(200),
        ..Options::default()
    };
    NodeClient::new(&format!("ws://{address}"), options).unwrap()
}

const GENESIS: GenesisHash = GenesisHash([7; 32]);

#[tokio::test]
async fn samples_of_the_reference_are_understood() {
    let samples = samples();
    let info: FarmerAppInfo = scale(&samples, "farmerAppInfo");
    let mut module = module(info.genesis_hash);
    answer(&mut module, names::FARMER_APP_INFO, samples["farmerAppInfo"]["json"].clone());
    answer(&mut module, names::SEGMENT_HEADERS, samples["segmentHeadersResponse"]["json"].clone());
    answer(&mut module, names::LAST_SEGMENT_HEADERS, samples["segmentHeadersResponse"]["json"].clone());
    notify(&mut module, names::SLOT_INFO, samples["slotInfo"]["json"].clone());
    notify(&mut module, names::REWARD_SIGNING, samples["rewardSigningInfo"]["json"].clone());
    notify(&mut module, names::ARCHIVED_SEGMENT_HEADER, samples["segmentHeaderPartial"]["json"].clone());
    notify(&mut module, names::OBJECT_MAPPINGS, samples["objectMappingResponse"]["json"].clone());
    notify(&mut module, names::FILTERED_OBJECT_MAPPINGS, samples["objectMappingResponse"]["json"].clone());
    let (address, _server) = serve("127.0.0.1:0", module).await;
    let client = client(address);

    assert_eq!(client.connected(WAIT).await.unwrap(), info.genesis_hash);
    assert_eq!(client.farmer_app_info().await.unwrap(), info);
    let complete: SegmentHeader = scale(&samples, "segmentHeaderComplete");
    let headers = client.segment_headers(&[SegmentIndex(8), SegmentIndex(9)]).await.unwrap();
    assert_eq!(headers, [Some(complete), None]);
    assert_eq!(client.last_segment_headers(2).await.unwrap(), [complete]);
    assert!(matches!(
        client.segment_headers(&[SegmentIndex(5), SegmentIndex(6)]).await,
        Err(Error::Malformed { .. })
    ));

    let slot: SlotInfo = scale(&samples, "slotInfo");
    assert_eq!(client.subscribe_slots().next_item().await, Some(slot));
    let signing: RewardSigningInfo = scale(&samples, "rewardSigningInfo");
    assert_eq!(client.subscribe_reward_signing().next_item().await, Some(signing));
    let partial: SegmentHeader = scale(&samples, "segmentHeaderPartial");
    assert_eq!(client.subscribe_archived_segment_headers().next_item().await, Some(partial));
    let mappings = client.subscribe_object_mappings().next_item().await.unwrap();
    assert_eq!(serde_json::to_value(&mappings).unwrap(), samples["objectMappingResponse"]["json"]);
    let mut filtered = client.subscribe_filtered_object_mappings(&[Blake3Hash([1; 32])]).unwrap();
    assert_eq!(filtered.next_item().await, Some(mappings));
}

#[tokio::test]
async fn what_is_sent_is_what_the_reference_sends() {
    let samples = samples();
    let mut module = module(GENESIS);
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    for method in [
        names::SUBMIT_SOLUTION,
        names::SUBMIT_REWARD_SIGNATURE,
        names::ACKNOWLEDGE_SEGMENT_HEADER,
        names::SEGMENT_HEADERS,
        names::PIECE,
    ] {
        let sender = sender.clone();
        module
            .register_method(method, move |params: Params<'_>, _, _| {
                sender.send((method, params.parse::<Value>().unwrap())).unwrap();
                if method == names::SEGMENT_HEADERS { json!([null, null]) } else { Value::Null }
            })
            .unwrap();
    }
    let (address, _server) = serve("127.0.0.1:0", module).await;
    let client = client(address);
    client.connected(WAIT).await.unwrap();

    let solution: SolutionResponse = scale(&samples, "solutionResponse");
    client.submit_solution(&solution).await.unwrap();
    let signature: RewardSignatureResponse = scale(&samples, "rewardSignatureResponse");
    client.submit_reward_signature(&signature).await.unwrap();
    client.acknowledge_segment_header(SegmentIndex(u64::MAX)).await.unwrap();
    client.segment_headers(&[SegmentIndex(1), SegmentIndex(2)]).await.unwrap();
    assert_eq!(client.piece(PieceIndex(77)).await.unwrap(), None);
    for (method, params) in [
        (names::SUBMIT_SOLUTION, json!([samples["solutionResponse"]["json"]])),
        (names::SUBMIT_REWARD_SIGNATURE, json!([samples["rewardSignatureResponse"]["json"]])),
        (names::ACKNOWLEDGE_SEGMENT_HEADER, json!([u64::MAX])),
        (names::SEGMENT_HEADERS, json!([[1, 2]])),
        (names::PIECE, json!([77])),
    ] {
        assert_eq!(received.recv().await.unwrap(), (method, params));
    }
}

#[tokio::test]
async fn a_node_of_safe_methods_is_recognised() {
    let samples = samples();
    let mut module = module(GENESIS);
    let refusal = "RPC call is unsafe to be called externally";
    fail(&mut module, names::SUBMIT_SOLUTION, -32601, refusal);
    fail(&mut module, names::PIECE, -32601, refusal);
    let [subscribe, notification, unsubscribe] = names::REWARD_SIGNING;
    module
        .register_subscription(subscribe, notification, unsubscribe, move |_, pending, _, _| async move {
            pending.reject(ErrorObjectOwned::owned(-32601, refusal, None::<()>)).await;
        })
        .unwrap();
    let (address, _server) = serve("127.0.0.1:0", module).await;
    let client = client(address);
    client.connected(WAIT).await.unwrap();

    let solution: SolutionResponse = scale(&samples, "solutionResponse");
    let error = client.submit_solution(&solution).await.unwrap_err();
    assert!(matches!(error, Error::UnsafeMethod { .. }), "{error}");
    assert!(error.is_certainly_undelivered() && error.is_refusal());
    assert!(error.to_string().contains("--rpc-methods unsafe"), "{error}");
    assert!(matches!(client.piece(PieceIndex(0)).await, Err(Error::UnsafeMethod { .. })));
    let event = client.subscribe_reward_signing().next().await.unwrap();
    assert!(matches!(event, Event::Refused(Error::UnsafeMethod { .. })), "{event:?}");
    assert!(matches!(client.farmer_app_info().await, Err(Error::UnknownMethod { .. })));
}

#[tokio::test]
async fn errors_are_told_apart() {
    let samples = samples();
    let mut module = module(GENESIS);
    fail(&mut module, names::SUBMIT_SOLUTION, 9000, "Solution was ignored for slot 5");
    fail(&mut module, names::SUBMIT_REWARD_SIGNATURE, 9001, "something else");
    answer(&mut module, names::PIECE, json!("00ff"));
    answer(&mut module, "chain_getHeader", json!({"number": "0x1"}));
    let (address, _server) = serve("127.0.0.1:0", module).await;
    let client = client(address);
    client.connected(WAIT).await.unwrap();

    let solution: SolutionResponse = scale(&samples, "solutionResponse");
    let error = client.submit_solution(&solution).await.unwrap_err();
    assert!(matches!(error, Error::SolutionIgnored { .. }) && error.is_certainly_undelivered(), "{error}");
    let signature: RewardSignatureResponse = scale(&samples, "rewardSignatureResponse");
    let error = client.submit_reward_signature(&signature).await.unwrap_err();
    assert!(matches!(error, Error::Rpc { code: 9001, .. }) && !error.is_certainly_undelivered(), "{error}");
    let error = client.piece(PieceIndex(0)).await.unwrap_err();
    assert!(error.to_string().contains("1048672"), "{error}");
    assert!(matches!(client.best_header().await, Err(Error::Malformed { .. })));
    let too_many = vec![SegmentIndex(0); 1001];
    assert!(matches!(client.segment_headers(&too_many).await, Err(Error::TooMany { .. })));
    assert!(matches!(client.last_segment_headers(1001).await, Err(Error::TooMany { .. })));
}

#[tokio::test]
async fn an_answer_that_the_node_may_not_send_is_told_with_what_to_change() {
    let mut module = module(GENESIS);
    answer(&mut module, names::PIECE, json!("00".repeat(4096)));
    let config = ServerConfig::builder().max_response_body_size(1024).build();
    let (address, _server) = serve_as(config, "127.0.0.1:0", module).await;
    let client = client(address);
    client.connected(WAIT).await.unwrap();
    let error = client.piece(PieceIndex(0)).await.unwrap_err();
    assert!(matches!(error, Error::AnswerTooLarge { .. }) && error.is_refusal(), "{error}");
    assert!(error.to_string().contains("--rpc-max-response-size"), "{error}");
}

#[tokio::test]
async fn a_long_history_comes_in_batches_and_its_hashes_are_checked() {
    use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};
    let mut headers: Vec<SegmentHeader> = Vec::new();
    for index in 0..1500 {
        headers.push(SegmentHeader::V0 {
            segment_index: SegmentIndex(index),
            segment_commitment: Default::default(),
            prev_segment_header_hash: headers.last().map(SegmentHeader::hash).unwrap_or_default(),
            last_archived_block: LastArchivedBlock {
                number: 3,
                archived_progress: ArchivedBlockProgress::Complete,
            },
        });
    }
    let serve_headers = |headers: Vec<SegmentHeader>| async move {
        let mut module = module(GENESIS);
        module
            .register_method(names::SEGMENT_HEADERS, move |params: Params<'_>, _, _| {
                let indices: Vec<usize> = params.one().unwrap();
                assert!(indices.len() <= 1000);
                indices.into_iter().map(|index| headers.get(index).copied()).collect::<Vec<_>>()
            })
            .unwrap();
        let (address, server) = serve("127.0.0.1:0", module).await;
        (client(address), server)
    };
    let (honest, _server) = serve_headers(headers.clone()).await;
    assert_eq!(honest.segment_headers_from(SegmentIndex(0)).await.unwrap(), headers);
    assert_eq!(honest.segment_headers_from(SegmentIndex(1499)).await.unwrap(), headers[1499..]);
    assert_eq!(honest.segment_headers_from(SegmentIndex(1500)).await.unwrap(), []);

    let SegmentHeader::V0 { prev_segment_header_hash, .. } = &mut headers[1200];
    prev_segment_header_hash.0[0] ^= 1;
    let (liar, _server) = serve_headers(headers).await;
    let error = liar.segment_headers_from(SegmentIndex(0)).await.unwrap_err();
    assert!(error.to_string().contains("segment 1200 does not follow"), "{error}");
}

#[tokio::test]
async fn at_most_ten_pieces_are_asked_for_at_a_time() {
    let (running, largest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut module = module(GENESIS);
    let (counting, peak) = (Arc::clone(&running), Arc::clone(&largest));
    module
        .register_async_method(names::PIECE, move |_, _, _| {
            let (running, largest) = (Arc::clone(&counting), Arc::clone(&peak));
            async move {
                largest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Value::Null
            }
        })
        .unwrap();
    let (address, _server) = serve("127.0.0.1:0", module).await;
    let client = client(address);
    let asking = (0..50).map(|index| client.piece(PieceIndex(index)));
    for piece in futures::future::join_all(asking).await {
        assert_eq!(piece.unwrap(), None);
    }
    assert_eq!(largest.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn a_node_that_comes_back_is_used_again() {
    let samples = samples();
    let slot: SlotInfo = scale(&samples, "slotInfo");
    let build = || {
        let mut module = module(GENESIS);
        answer(&mut module, "system_version", json!("1"));
        answer(&mut module, names::SUBMIT_SOLUTION, Value::Null);
        notify(&mut module, names::SLOT_INFO, samples["slotInfo"]["json"].clone());
        module
    };
    let (address, server) = serve("127.0.0.1:0", build()).await;
    let client = client(address);
    let mut slots = client.subscribe_slots();
    assert!(matches!(slots.next().await, Some(Event::Subscribed)));
    assert!(matches!(slots.next().await, Some(Event::Item(item)) if item == slot));
    let connected = client.state();
    assert_eq!(connected, NodeState::Connected { genesis_hash: GENESIS });

    stop(server).await;
    let down = client.state_changed(&connected).await;
    assert!(matches!(down, NodeState::Connecting { .. }), "{down:?}");
    // A submission does not wait: a solution is stale before the node is back.
    let solution: SolutionResponse = scale(&samples, "solutionResponse");
    let error = client.submit_solution(&solution).await.unwrap_err();
    assert!(matches!(error, Error::NotConnected { .. }) && error.is_certainly_undelivered(), "{error}");
    // A read waits.
    let reading = tokio::spawn({
        let client = client.clone();
        async move { client.system_version().await }
    });
    let (_, _server) = serve(&address.to_string(), build()).await;
    assert_eq!(reading.await.unwrap().unwrap(), "1");
    assert!(matches!(slots.next().await, Some(Event::Subscribed)), "subscribed again");
    assert_eq!(slots.next_item().await, Some(slot));
    client.submit_solution(&solution).await.unwrap();
}

#[tokio::test]
async fn another_chain_at_the_same_address_is_noticed() {
    let (address, server) = serve("127.0.0.1:0", module(GENESIS)).await;
    let client = client(address);
    client.connected(WAIT).await.unwrap();
    let connected = client.state();
    stop(server).await;
    let other = GenesisHash([8; 32]);
    let (_, server) = serve(&address.to_string(), module(other)).await;

    let mut state = client.state_changed(&connected).await;
    while matches!(state, NodeState::Connecting { .. }) {
        state = client.state_changed(&state).await;
    }
    assert_eq!(state, NodeState::WrongGenesis { expected: GENESIS, found: other });
    let samples = samples();
    let solution: SolutionResponse = scale(&samples, "solutionResponse");
    let error = client.submit_solution(&solution).await.unwrap_err();
    assert!(matches!(error, Error::WrongGenesis { .. }), "{error}");

    // The right node again.
    stop(server).await;
    let (_, _server) = serve(&address.to_string(), module(GENESIS)).await;
    assert_eq!(client.connected(WAIT).await.unwrap(), GENESIS);
}

#[tokio::test]
async fn the_genesis_asked_for_is_insisted_on() {
    let (address, _server) = serve("127.0.0.1:0", module(GENESIS)).await;
    let options = Options { expected_genesis: Some(GenesisHash([1; 32])), ..Options::default() };
    let client = NodeClient::new(&format!("http://{address}"), options).unwrap();
    let error = client.connected(Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, Error::WrongGenesis { .. }), "{error}");
}

#[tokio::test]
async fn an_unreachable_node_is_an_error_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let options = Options { call_timeout: Duration::from_millis(300), ..Options::default() };
    let client = NodeClient::new(&format!("ws://{address}"), options).unwrap();
    let error = client.system_version().await.unwrap_err();
    assert!(matches!(error, Error::NotConnected { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_node_that_never_answers_is_an_error_in_time() {
    let mut module = module(GENESIS);
    module
        .register_async_method("system_version", |_, _, _| async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            "late"
        })
        .unwrap();
    let (address, _server) = serve("127.0.0.1:0", module).await;
    let options = Options { call_timeout: Duration::from_millis(500), ..Options::default() };
    let client = NodeClient::new(&format!("ws://{address}"), options).unwrap();
    client.connected(WAIT).await.unwrap();
    assert!(matches!(client.system_version().await, Err(Error::Timeout { .. })));
}

#[tokio::test]
async fn a_node_without_tls_is_an_error_for_wss() {
    let (address, _server) = serve("127.0.0.1:0", module(GENESIS)).await;
    let client = NodeClient::new(&format!("wss://{address}"), Options::default()).unwrap();
    let first = client.state();
    let NodeState::Connecting { reason } = client.state_changed(&first).await else { panic!("connected") };
    assert!(!reason.is_empty());
    let error = client.connected(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::NotConnected { .. }), "{error}");
}

#[tokio::test]
async fn a_node_behind_plain_http_is_read_from() {
    let http_only = || ServerConfig::builder().http_only().build();
    let (address, server) = serve_as(http_only(), "127.0.0.1:0", module(GENESIS)).await;
    let url = format!("http://{address}");
    let over_websocket = NodeClient::new(&url, Options::default()).unwrap();
    assert!(over_websocket.connected(Duration::from_secs(1)).await.is_err(), "there is no WebSocket here");

    let options = Options {
        plain_http: true,
        call_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(50),
        ..Options::default()
    };
    let client = NodeClient::new(&url, options).unwrap();
    assert_eq!(client.connected(WAIT).await.unwrap(), GENESIS);
    let version = client.block_hash(0).await.unwrap();

    // It goes away and comes back: a read waits for it.
    stop(server).await;
    let (reading, back) = tokio::join!(client.block_hash(0), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        serve_as(http_only(), &address.to_string(), module(GENESIS)).await
    });
    assert_eq!(reading.unwrap(), version);
    stop(back.1).await;

    // Another chain's node answers there after a request found nobody.
    let (reading, _other) = tokio::join!(client.block_hash(0), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        serve_as(http_only(), &address.to_string(), module(GenesisHash([8; 32]))).await
    });
    assert!(reading.is_err(), "{reading:?}");
    assert!(matches!(client.state(), NodeState::WrongGenesis { .. }), "{:?}", client.state());
}
