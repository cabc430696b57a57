//! The JSON-RPC (farming §9): names, parameters, answers and notifications as a node has them.

use crate::follow::Following;
use crate::shared::Shared;
use crate::slots::Ignored;
use jsonrpsee::core::{RegisterMethodError, SubscriptionError};
use jsonrpsee::server::{PendingSubscriptionSink, RpcModule};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{ConnectionId, Extensions};
use primitives::node_rpc::{
    ERROR_CODE_BASE, HeaderJson, MAX_OBJECT_MAPPINGS, SOLUTION_IGNORED_MESSAGE, SignedBlockJson,
    block_hash_from_json, block_hash_to_json, names,
};
use primitives::objects::GlobalObjectMapping;
use primitives::rpc::{MAX_SEGMENT_HEADERS_PER_REQUEST, ObjectMappingResponse};
use primitives::{
    Blake3Hash, BlockNumber, FarmerAppInfo, PieceIndex, RewardSignatureResponse, SegmentHeader, SegmentIndex,
    SolutionResponse,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// How long `subspace_getFarmerAppInfo` waits for a chain that archives ahead; clients give up after 60 s.
const READY_TIMEOUT: Duration = Duration::from_secs(50);
/// How long a notification waits for a subscriber that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// `system_version`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-dev-node-INSECURE");

type Answer<T> = Result<T, ErrorObjectOwned>;
type Module = RpcModule<Shared>;

fn error(offset: i32, message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(ERROR_CODE_BASE + offset, message, None::<()>)
}

fn internal(source: impl std::fmt::Display) -> ErrorObjectOwned {
    tracing::error!(error = %source, "An RPC call failed");
    error(1, source.to_string())
}

/// All methods.
pub(crate) fn module(shared: Arc<Shared>) -> Result<Module, RegisterMethodError> {
    let mut module = RpcModule::from_arc(shared);
    register_farming(&mut module)?;
    register_history(&mut module)?;
    register_subscriptions(&mut module)?;
    register_chain(&mut module)?;
    register_system(&mut module)?;
    Ok(module)
}

fn register_farming(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_async_method(names::FARMER_APP_INFO, |_, shared, _| async move {
        farmer_app_info(&shared).await
    })?;
    module.register_async_method(names::SUBMIT_SOLUTION, |params, shared, _| async move {
        submit_solution(&shared, params.one()?).await
    })?;
    module.register_async_method(names::SUBMIT_REWARD_SIGNATURE, |params, shared, _| async move {
        let response: RewardSignatureResponse = params.one()?;
        match shared.followed() {
            Some(followed) => followed.submit_reward_signature(&response).await.map_err(not_passed_on)?,
            None => shared.rewards.answer(response),
        }
        Answer::Ok(())
    })?;
    Ok(())
}

/// Takes a solution, or passes it on to the node that is followed.
async fn submit_solution(shared: &Shared, response: SolutionResponse) -> Answer<()> {
    let Some(followed) = shared.followed() else {
        return shared.slots.submit(response).map_err(|Ignored { slot }| {
            tracing::warn!(slot, "Ignored a solution: its slot is gone or has its ten");
            shared.stats.count(|stats| stats.solutions.ignored += 1);
            error(0, format!("{SOLUTION_IGNORED_MESSAGE} for slot {slot}"))
        });
    };
    followed.submit_solution(&response).await.map_err(|failure| match failure {
        node::Error::SolutionIgnored { message } => error(0, message),
        // The chain has certainly not seen it: it may be handed in elsewhere.
        failure if failure.is_certainly_undelivered() => {
            error(0, format!("{SOLUTION_IGNORED_MESSAGE}: {failure}"))
        }
        failure => not_passed_on(failure),
    })
}

fn not_passed_on(failure: node::Error) -> ErrorObjectOwned {
    error(5, failure.to_string())
}

async fn farmer_app_info(shared: &Shared) -> Answer<FarmerAppInfo> {
    let mut ready = shared.ready.subscribe();
    let syncing =
        !matches!(tokio::time::timeout(READY_TIMEOUT, ready.wait_for(|ready| *ready)).await, Ok(Ok(_)));
    let protocol_info = shared
        .chain
        .protocol_info()
        .ok_or_else(|| error(2, "The genesis segment is still being archived, ask again"))?;
    Ok(FarmerAppInfo {
        genesis_hash: shared.chain.genesis_hash(),
        dsn_bootstrap_nodes: Vec::new(),
        syncing,
        farming_timeout: shared.config.farming_timeout(),
        protocol_info,
    })
}

fn register_history(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method(
        names::SEGMENT_HEADERS,
        |params, shared, _| -> Answer<Vec<Option<SegmentHeader>>> {
            let indices: Vec<SegmentIndex> = params.one()?;
            check_limit(indices.len(), MAX_SEGMENT_HEADERS_PER_REQUEST)?;
            Ok(indices.into_iter().map(|index| shared.chain.segment_header(index)).collect())
        },
    )?;
    module.register_method(
        names::LAST_SEGMENT_HEADERS,
        |params, shared, _| -> Answer<Vec<Option<SegmentHeader>>> {
            let limit: u32 = params.one()?;
            check_limit(limit as usize, MAX_SEGMENT_HEADERS_PER_REQUEST)?;
            Ok(shared.chain.last_segment_headers(limit as usize).into_iter().map(Some).collect())
        },
    )?;
    module.register_async_method(names::PIECE, |params, shared, _| async move {
        let index: PieceIndex = params.one()?;
        let reading = tokio::task::spawn_blocking(move || piece_hex(&shared, index));
        reading.await.map_err(internal)?
    })?;
    module.register_method(
        names::ACKNOWLEDGE_SEGMENT_HEADER,
        |params, shared, extensions: &Extensions| -> Answer<()> {
            let index: SegmentIndex = params.one()?;
            if let Some(connection) = extensions.get::<ConnectionId>() {
                shared.acknowledgements.acknowledge(index, *connection);
            }
            Ok(())
        },
    )?;
    Ok(())
}

/// A piece of the genesis or the newest segment in hex; a node has no others.
fn piece_hex(shared: &Shared, index: PieceIndex) -> Answer<Option<String>> {
    let segment = index.segment_index();
    let newest = shared.chain.newest_segment_header().map(|header| header.segment_index());
    if segment.0 != 0 && Some(segment) != newest {
        return Ok(None);
    }
    let Some(header) = shared.chain.segment_header(segment) else { return Ok(None) };
    let piece = shared.segment_files.piece(&header, index).map_err(internal)?;
    Ok(piece.map(|piece| hex::encode(piece.as_ref())))
}

fn check_limit(asked: usize, limit: usize) -> Answer<()> {
    if asked <= limit {
        return Ok(());
    }
    Err(error(3, format!("{asked} entries asked for, {limit} is the limit of one call")))
}

fn register_subscriptions(module: &mut Module) -> Result<(), RegisterMethodError> {
    let [subscribe, notification, unsubscribe] = names::SLOT_INFO;
    module.register_subscription(subscribe, notification, unsubscribe, |_, pending, shared, _| async move {
        forward(pending, shared.slots.subscribe(), |slot| vec![slot]).await
    })?;
    let [subscribe, notification, unsubscribe] = names::REWARD_SIGNING;
    module.register_subscription(
        subscribe,
        notification,
        unsubscribe,
        |_, pending, shared, _| async move {
            forward(pending, shared.rewards.subscribe(), |info| vec![info]).await
        },
    )?;
    let [subscribe, notification, unsubscribe] = names::ARCHIVED_SEGMENT_HEADER;
    module.register_subscription(
        subscribe,
        notification,
        unsubscribe,
        |_, pending, shared, _| async move {
            // First the channel, then the debt: nobody owes what was not sent.
            let headers = shared.segment_headers.subscribe();
            let _subscriber = shared.acknowledgements.subscribe(pending.connection_id());
            forward(pending, headers, |header| vec![header]).await
        },
    )?;
    let [subscribe, notification, unsubscribe] = names::OBJECT_MAPPINGS;
    module.register_subscription(
        subscribe,
        notification,
        unsubscribe,
        |_, pending, shared, _| async move {
            forward(pending, shared.object_mappings.subscribe(), |mappings| in_parts(mappings, |_| true))
                .await
        },
    )?;
    let [subscribe, notification, unsubscribe] = names::FILTERED_OBJECT_MAPPINGS;
    module.register_subscription(
        subscribe,
        notification,
        unsubscribe,
        |params: Params<'static>, pending, shared, _| async move {
            let hashes: Answer<HashSet<Blake3Hash>> = params.one::<Vec<Blake3Hash>>().and_then(|hashes| {
                check_limit(hashes.len(), MAX_OBJECT_MAPPINGS)?;
                Ok(hashes.into_iter().collect())
            });
            let hashes = match hashes {
                Ok(hashes) => hashes,
                Err(error) => {
                    pending.reject(error).await;
                    return Ok(());
                }
            };
            let wanted = move |mappings| in_parts(mappings, |hash| hashes.contains(hash));
            forward(pending, shared.object_mappings.subscribe(), wanted).await
        },
    )?;
    Ok(())
}

/// The wanted mappings of a block, at most 1,000 in each part.
fn in_parts(
    mappings: ObjectMappingResponse,
    wanted: impl Fn(&Blake3Hash) -> bool,
) -> Vec<ObjectMappingResponse> {
    let ObjectMappingResponse { block_number, objects: GlobalObjectMapping::V0 { mut objects } } = mappings;
    objects.retain(|object| wanted(&object.hash));
    let part = |objects: &[_]| ObjectMappingResponse {
        block_number,
        objects: GlobalObjectMapping::V0 { objects: objects.to_vec() },
    };
    objects.chunks(MAX_OBJECT_MAPPINGS).map(part).collect()
}

/// Sends what a channel brings until the subscriber or the chain is gone.
async fn forward<T, N: Serialize>(
    pending: PendingSubscriptionSink,
    mut receiver: broadcast::Receiver<T>,
    notifications: impl Fn(T) -> Vec<N>,
) -> Result<(), SubscriptionError>
where
    T: Clone,
{
    let sink = pending.accept().await?;
    loop {
        let item = tokio::select! {
            () = sink.closed() => return Ok(()),
            item = receiver.recv() => item,
        };
        let item = match item {
            Ok(item) => item,
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, subscription = sink.method_name(), "A subscriber does not keep up");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        };
        for notification in notifications(item) {
            let message = serde_json::value::to_raw_value(&notification)?;
            if sink.send_timeout(message, SEND_TIMEOUT).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// A block number as `chain_getBlockHash` takes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberJson {
    Number(BlockNumber),
    Hex(String),
}

impl NumberJson {
    fn number(&self) -> Option<BlockNumber> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Hex(text) => BlockNumber::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumbersJson {
    One(NumberJson),
    Many(Vec<NumberJson>),
}

#[derive(Serialize, Clone)]
#[serde(untagged)]
enum HashesJson {
    One(Option<String>),
    Many(Vec<Option<String>>),
}

fn hash_of(shared: &Shared, number: &NumberJson) -> Answer<Option<String>> {
    let number = number.number().ok_or_else(|| error(4, "not a block number"))?;
    let id = shared.chain.db().block_id(number).map_err(internal)?;
    Ok(id.map(|id| block_hash_to_json(&id.hash)))
}

/// The block asked for by hash, or the best one.
fn block_id(shared: &Shared, params: &Params<'_>) -> Answer<Option<node_db::BlockId>> {
    match params.sequence().optional_next::<String>()? {
        None => Ok(Some(shared.chain.best())),
        Some(text) => {
            let hash = block_hash_from_json(&text).map_err(|source| error(4, source.to_string()))?;
            shared.chain.db().block_id_of(&hash).map_err(internal)
        }
    }
}

fn register_chain(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("chain_getBlockHash", |params, shared, _| -> Answer<HashesJson> {
        match params.sequence().optional_next::<NumbersJson>()? {
            None => Ok(HashesJson::One(Some(block_hash_to_json(&shared.chain.best().hash)))),
            Some(NumbersJson::One(number)) => hash_of(shared, &number).map(HashesJson::One),
            Some(NumbersJson::Many(numbers)) => {
                check_limit(numbers.len(), MAX_SEGMENT_HEADERS_PER_REQUEST)?;
                let hashes = numbers.iter().map(|number| hash_of(shared, number)).collect::<Answer<_>>();
                hashes.map(HashesJson::Many)
            }
        }
    })?;
    module.register_async_method("chain_getBlock", |params, shared, _| async move {
        let id = block_id(&shared, &params)?;
        let reading = tokio::task::spawn_blocking(move || -> Answer<Option<SignedBlockJson>> {
            let Some(id) = id else { return Ok(None) };
            let block = shared.chain.db().block(id).map_err(internal)?;
            Ok(Some(SignedBlockJson::from(&block)))
        });
        reading.await.map_err(internal)?
    })?;
    module.register_method("chain_getHeader", |params, shared, _| -> Answer<Option<HeaderJson>> {
        let Some(id) = block_id(shared, &params)? else { return Ok(None) };
        let header = shared.chain.db().header(id).map_err(internal)?;
        Ok(Some(HeaderJson::from(&header)))
    })?;
    module.register_method("chain_getFinalizedHead", |_, shared, _| -> Answer<String> {
        let id = shared.chain.db().finalized().map_err(internal)?;
        Ok(block_hash_to_json(&id.hash))
    })?;
    Ok(())
}

fn register_system(module: &mut Module) -> Result<(), RegisterMethodError> {
    module.register_method("system_health", |_, shared, _| {
        let following = shared.following.as_ref().filter(|following| following.client().is_some());
        serde_json::json!({
            "peers": u8::from(following.is_some_and(Following::is_connected)),
            "isSyncing": !*shared.ready.borrow(),
            "shouldHavePeers": following.is_some(),
        })
    })?;
    module.register_method("system_syncState", |_, shared, _| -> Answer<_> {
        let best = shared.chain.best().number;
        Ok(serde_json::json!({"startingBlock": 0, "currentBlock": best, "highestBlock": best}))
    })?;
    module.register_method("system_version", |_, _, _| VERSION)?;
    module.register_method("system_name", |_, _, _| "Autonomys dev-node (INSECURE)")?;
    module.register_method("system_chain", |_, _, _| "Autonomys development chain (INSECURE)")?;
    module.register_method("dev_stats", |_, shared, _| -> Answer<_> { Ok(shared.dev_stats()) })?;
    let mut methods: Vec<&'static str> = module.method_names().collect();
    methods.push("rpc_methods");
    methods.sort_unstable();
    module.register_method("rpc_methods", move |_, _, _| serde_json::json!({"methods": methods}))?;
    Ok(())
}
