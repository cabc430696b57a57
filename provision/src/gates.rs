//! Whether something is ready: asked of the thing itself.

use crate::derive::Gate;
use crate::error::Result;
use crate::transport::Transport;
use crate::transport::http::{Endpoint, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Ready; with something to tell.
    Ready(String),
    /// Not ready; why.
    NotYet(String),
}

/// Asks gates once, side by side: what [`Transport::ask`] does where the host is.
pub async fn ask_all(gates: &[Gate], transport: &dyn Transport) -> Vec<Answer> {
    futures::future::join_all(gates.iter().map(|gate| ask(gate, transport))).await
}

/// Asks a gate once.
pub async fn ask(gate: &Gate, transport: &dyn Transport) -> Answer {
    let answer = match gate {
        Gate::Nats { address } => nats(*address, transport).await,
        Gate::NodeRpc { address } => node(*address, transport).await,
        Gate::NodeSynced { address } => synced(*address, transport).await,
        Gate::Role { address } => role(*address, transport).await,
        Gate::FirstSolution { rpc, plot_client } => first_solution(*rpc, *plot_client, transport).await,
    };
    answer.unwrap_or_else(|error| {
        let said = error.to_string();
        Answer::NotYet(if said.contains("Connection refused") {
            "it does not listen yet".to_string()
        } else {
            said
        })
    })
}

async fn nats(address: SocketAddr, transport: &dyn Transport) -> Result<Answer> {
    let request = Request::get(Endpoint::Tcp(address), "/healthz?js-enabled-only=true");
    let response = transport.http(&request).await?;
    if !response.success() {
        return Ok(Answer::NotYet(format!("/healthz: {}", String::from_utf8_lossy(&response.body).trim())));
    }
    let response = transport.http(&Request::get(Endpoint::Tcp(address), "/jsz")).await?;
    let report: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let Some(cluster) = report.get("meta_cluster") else {
        return Ok(Answer::Ready("JetStream is on".to_string()));
    };
    // Of several servers, most have to be there before JetStream answers anybody.
    match cluster.get("leader").and_then(Value::as_str).filter(|leader| !leader.is_empty()) {
        Some(leader) => Ok(Answer::Ready(format!("JetStream is led by {leader}"))),
        None => Ok(Answer::NotYet(format!(
            "JetStream's {} have no leader yet",
            crate::error::count(number(cluster, "/cluster_size") as usize, "server")
        ))),
    }
}

/// The answer of a node's `dev_stats`.
///
/// # Errors
/// It does not answer, or not with JSON.
pub async fn dev_stats(rpc: SocketAddr, transport: &dyn Transport) -> Result<Value> {
    ask_node(rpc, "dev_stats", transport).await
}

/// A node's answer to a method without parameters.
///
/// # Errors
/// It does not answer, not with JSON, or with an error.
pub async fn ask_node(rpc: SocketAddr, method: &str, transport: &dyn Transport) -> Result<Value> {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": []}).to_string();
    let request =
        Request::post(Endpoint::Tcp(rpc), "/", "application/json", body).deadline(Duration::from_secs(5));
    let response = transport.http(&request).await?;
    let failed = |message: String| crate::Error::Http { endpoint: format!("node RPC {rpc}"), message };
    let reply: Value = serde_json::from_slice(&response.body).map_err(|error| failed(error.to_string()))?;
    match reply.get("result") {
        Some(result) => Ok(result.clone()),
        None => Err(failed(format!("{method}: {}", reply.get("error").unwrap_or(&reply)))),
    }
}

/// Where a network's node stands: its block, and the newest that it knows of.
///
/// # Errors
/// It does not answer.
pub async fn sync_state(rpc: SocketAddr, transport: &dyn Transport) -> Result<(u64, u64)> {
    let state = ask_node(rpc, "system_syncState", transport).await?;
    let current = number(&state, "/currentBlock");
    Ok((current, number(&state, "/highestBlock").max(current)))
}

async fn synced(address: SocketAddr, transport: &dyn Transport) -> Result<Answer> {
    let health = ask_node(address, "system_health", transport).await?;
    let (block, newest) = sync_state(address, transport).await?;
    let flag = |name: &str| health.get(name).and_then(Value::as_bool).unwrap_or(true);
    let peers = number(&health, "/peers");
    if flag("shouldHavePeers") && peers == 0 {
        return Ok(Answer::NotYet(
            "it has no peers yet: are its ports reached from the internet?".to_string(),
        ));
    }
    if flag("isSyncing") {
        let message = format!(
            "it is syncing, block {block} of {newest}; it goes on by itself, and `provision import-node-db` saves days"
        );
        return Ok(Answer::NotYet(message));
    }
    let peers = crate::error::count(usize::try_from(peers).unwrap_or(usize::MAX), "peer");
    Ok(Answer::Ready(format!("synced, block {block}, {peers}")))
}

/// A number at a JSON pointer; 0 when it is not there.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

async fn node(address: SocketAddr, transport: &dyn Transport) -> Result<Answer> {
    let stats = dev_stats(address, transport).await?;
    let segments = number(&stats, "/segments/archived");
    let syncing = stats.get("syncing").and_then(Value::as_bool).unwrap_or(true);
    if syncing || segments == 0 {
        return Ok(Answer::NotYet(format!("it archives its first history ({segments} so far)")));
    }
    let segments = crate::error::count(usize::try_from(segments).unwrap_or(usize::MAX), "segment");
    Ok(Answer::Ready(format!("{segments} archived, block {}", number(&stats, "/bestBlock"))))
}

/// The body of a role's `/status`.
///
/// # Errors
/// It does not answer, or not with JSON.
pub async fn role_status(address: SocketAddr, transport: &dyn Transport) -> Result<Value> {
    let endpoint = Endpoint::Tcp(address);
    let response =
        transport.http(&Request::get(endpoint.clone(), "/status").deadline(Duration::from_secs(3))).await?;
    serde_json::from_slice(&response.body)
        .map_err(|error| crate::Error::Http { endpoint: endpoint.to_string(), message: error.to_string() })
}

async fn role(address: SocketAddr, transport: &dyn Transport) -> Result<Answer> {
    let response = transport.http(&Request::get(Endpoint::Tcp(address), "/ready")).await?;
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
    if response.success() {
        return Ok(Answer::Ready(format!("version {}", text("version"))));
    }
    let waiting = text("waiting_for");
    let state = text("state");
    Ok(Answer::NotYet(match (waiting.is_empty(), state.is_empty()) {
        (false, _) => format!("it waits for {waiting}"),
        (true, false) => format!("it is {state}"),
        (true, true) => format!("/ready: HTTP status {}", response.status),
    }))
}

async fn first_solution(
    rpc: SocketAddr,
    plot_client: SocketAddr,
    transport: &dyn Transport,
) -> Result<Answer> {
    let stats = dev_stats(rpc, transport).await?;
    let accepted = number(&stats, "/solutions/accepted");
    if accepted > 0 {
        let solutions = crate::error::count(usize::try_from(accepted).unwrap_or(usize::MAX), "solution");
        return Ok(Answer::Ready(format!("the chain has accepted {solutions}")));
    }
    let mut told = vec![format!("slot {}", number(&stats, "/slots/newest"))];
    if let Ok(status) = role_status(plot_client, transport).await {
        let sectors = number(&status, "/counters/sectors_plotted");
        told.push(format!("{} plotted", crate::error::count(sectors as usize, "sector")));
    }
    let sent = number(&stats, "/solutions/received");
    told.push(format!("{} sent", crate::error::count(sent as usize, "solution")));
    let rejected =
        stats.pointer("/solutions/rejected").and_then(Value::as_object).filter(|map| !map.is_empty());
    if let Some(rejected) = rejected {
        let reasons = rejected.iter().map(|(reason, count)| format!("{reason}: {count}"));
        told.push(format!("rejected: {}", reasons.collect::<Vec<_>>().join(", ")));
    }
    Ok(Answer::NotYet(told.join(", ")))
}
