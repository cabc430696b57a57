//! The controller: stands between a node and the cluster, and, while it leads, keeps the caches filled.

pub mod filler;
pub mod headers;
pub mod history;
pub mod leader;
pub mod node_watch;
pub mod once;
pub mod proxy;
pub mod relay;
pub mod solutions;

use crate::cli::ControllerArguments;
use crate::roles::context::is_development_node;
use crate::roles::{Error, RoleContext};
use crate::shutdown::Shutdown;
use crate::status::{State, Status};
use cluster::client::ConnectionState;
use cluster::contract::{IdentifyRequest, Role};
use cluster::transfer::TransferPool;
use cluster::{Backoff, ClusterClient};
use filler::Sources;
use headers::Headers;
use history::patient_threads;
use leader::Leader;
use node::{NodeClient, NodeState};
use node_watch::NodeWatch;
use primitives::rpc::GenesisHash;
use prometheus_client::metrics::gauge::Gauge;
use proxy::Proxy;
use relay::{Relay, Service};
use solutions::Submissions;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One attempt to learn the chain from the node.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long other controllers are waited for that tell their chain.
const IDENTIFY_WINDOW: Duration = Duration::from_millis(500);
/// How often a development node is asked for its verdicts.
const DEV_STATS_INTERVAL: Duration = Duration::from_secs(2);

/// Runs a controller until the shutdown.
///
/// # Errors
/// When its configuration does not fit the node or the cluster.
pub async fn run(context: RoleContext, arguments: ControllerArguments) -> Result<(), Error> {
    let kzg = context.reference_string().await?;
    let client = context.connect().await?;
    let node = NodeClient::new(&arguments.node_rpc_url, node::Options::default())
        .map_err(|error| Error::Config(format!("--node-rpc-url: {error}")))?;
    let NodeChain { genesis, development, farming_timeout } = wait_for_node(&context, &node).await?;
    context.fits_node(kzg.srs_kind(), &node, development)?;
    agree_with_others(&context, &client, genesis).await?;
    context.set_genesis(genesis);

    let headers = Arc::new(Headers::default());
    let relay = Arc::new(Relay::new(node.clone(), client.clone(), context.instance, Arc::clone(&headers)));
    context.status.set(State::Waiting("the segment headers of its node".into()));
    context.unless_stopped(relay.refresh()).await?;
    tracing::info!(segments = headers.count(), %genesis, "Knows the chain");

    let submissions = Submissions::new(node.clone(), &context.status);
    let proxy = Arc::new(Proxy::new(node.clone(), kzg.clone(), Arc::clone(&headers), submissions));
    proxy.serve(&client, &context).await?;

    let members = context.join(&client, 0);
    let leader = Leader::new(&client, context.instance, Arc::clone(&relay), members, &context.status);

    let mut tasks = JoinSet::new();
    let status = &context.status;
    let metrics = relay::Metrics::new(status);
    tasks.spawn(Arc::clone(&relay).slots(metrics.clone()));
    tasks.spawn(Arc::clone(&relay).reward_signing(metrics.clone()));
    tasks.spawn(Arc::clone(&relay).segments(metrics));
    tasks.spawn(acknowledgements(Arc::clone(&relay)));
    let watch = NodeWatch::new(Arc::clone(&relay), farming_timeout, status);
    let complaint = watch.complaint();
    tasks.spawn(watch.run());
    tasks.spawn(follow_state(Arc::clone(&relay), complaint, status.clone(), context.shutdown.clone()));
    if development {
        tasks.spawn(follow_development_node(node.clone(), Verdicts::new(status)));
    }
    let leading = async {
        // Without JetStream there is neither a secret nor a leader; slots and solutions flow all the same.
        let credentials = context.credentials(&client).await?;
        let threads = patient_threads().map_err(|error| Error::Internal(error.to_string()))?;
        let sources = Sources {
            pool: TransferPool::new(credentials, context.instance),
            node: node.clone(),
            kzg: kzg.clone(),
            genesis,
            headers: Arc::clone(&headers),
            threads: Arc::new(threads),
        };
        leader.lead(Arc::new(sources)).await;
        Ok::<_, Error>(())
    };
    let result = tokio::select! {
        result = leading => result,
        () = context.shutdown.triggered() => Ok(()),
    };
    context.status.set(State::Stopping);
    tasks.shutdown().await;
    leader.release().await;
    context.leave().await;
    result
}

async fn acknowledgements(relay: Arc<Relay>) {
    if let Err(error) = relay.acknowledgements().await {
        tracing::error!(%error, "Segments are no longer acknowledged");
    }
}

/// What a node says of its chain.
struct NodeChain {
    genesis: GenesisHash,
    /// Whether it is a development node.
    development: bool,
    farming_timeout: Duration,
}

/// Waits for the node as long as it takes.
async fn wait_for_node(context: &RoleContext, node: &NodeClient) -> Result<NodeChain, Error> {
    let url = node.url().to_owned();
    let waiting = async {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        context.status.set(State::Waiting(format!("the node at {url}")));
        loop {
            let learned = async {
                let genesis = node.connected(NODE_TIMEOUT).await?;
                let info = node.farmer_app_info().await?;
                let development = is_development_node(node).await?;
                tracing::info!(
                    %url, %genesis, development, syncing = info.syncing,
                    version = node.system_version().await.unwrap_or_default(),
                    "The node's chain"
                );
                let farming_timeout = info.farming_timeout;
                Ok::<_, node::Error>(NodeChain { genesis, development, farming_timeout })
            };
            match learned.await {
                Ok(learned) => return learned,
                Err(error) => context.status.set(State::Waiting(format!("the node at {url}: {error}"))),
            }
            backoff.wait().await;
        }
    };
    context.unless_stopped(waiting).await
}

/// Refuses to join controllers of another chain or under another reference string.
async fn agree_with_others(
    context: &RoleContext,
    client: &ClusterClient,
    genesis: GenesisHash,
) -> Result<(), Error> {
    let request = IdentifyRequest { role: Some(Role::Controller) };
    match context.unless_stopped(client.scatter(&request, IDENTIFY_WINDOW)).await? {
        Ok(controllers) => controllers
            .iter()
            .filter(|controller| controller.instance != context.instance && controller.genesis.is_some())
            .try_for_each(|controller| context.agree(controller, genesis)),
        Err(error) => {
            tracing::warn!(%error, "Other controllers could not be asked for their chain");
            Ok(())
        }
    }
}

/// Keeps the state true: ready while NATS and a node that serves farmers are connected.
async fn follow_state(
    relay: Arc<Relay>,
    mut complaint: watch::Receiver<Option<String>>,
    status: Status,
    shutdown: Shutdown,
) {
    let mut service = relay.service();
    let mut nats = relay.client.watch_state();
    loop {
        let node = relay.node.state();
        let url = relay.node.url();
        let serves = service.borrow_and_update().clone();
        let complained = complaint.borrow_and_update().clone();
        let connected = *nats.borrow_and_update() == ConnectionState::Connected;
        let state = match (&node, serves) {
            (NodeState::Connecting { reason }, _) => State::Waiting(format!("the node at {url}: {reason}")),
            (NodeState::WrongGenesis { expected, found }, _) => State::Waiting(format!(
                "a node of the right chain at {url}: it has genesis {found}, this cluster {expected}"
            )),
            (NodeState::Connected { .. }, Service::Refused(reason)) => {
                State::Waiting(format!("a node that can be earned with: {reason}"))
            }
            (NodeState::Connected { .. }, _) if !connected => State::Waiting("a NATS server".into()),
            (NodeState::Connected { .. }, Service::Unknown) => {
                State::Waiting(format!("the node at {url} to say whether it serves farmers"))
            }
            (NodeState::Connected { .. }, Service::Farming) => match complained {
                Some(reason) => State::Waiting(format!("a node that can be earned with: {reason}")),
                None => State::Ready,
            },
        };
        if shutdown.is_triggered() {
            return;
        }
        status.set(state);
        let changed = async {
            tokio::select! {
                _ = relay.node.state_changed(&node) => true,
                result = service.changed() => result.is_ok(),
                result = complaint.changed() => result.is_ok(),
                result = nats.changed() => result.is_ok(),
            }
        };
        match shutdown.unless_triggered(changed).await {
            Some(true) => {}
            Some(false) | None => return,
        }
    }
}

/// A development node's own verdicts: a live node never tells what became of a solution that it took.
struct Verdicts {
    accepted: Gauge,
    rejected: Gauge,
}

impl Verdicts {
    fn new(status: &Status) -> Self {
        Self {
            accepted: status.gauge(
                "node_solutions_accepted",
                "Solutions that the development node verified and accepted",
            ),
            rejected: status.gauge(
                "node_solutions_rejected",
                "Solutions that the development node verified and rejected",
            ),
        }
    }
}

/// Shows a development node's verdicts.
async fn follow_development_node(node: NodeClient, verdicts: Verdicts) {
    loop {
        if let Ok(stats) = node.read::<serde_json::Value>("dev_stats").await {
            let solutions = &stats["solutions"];
            verdicts.accepted.set(solutions["accepted"].as_i64().unwrap_or(0));
            let by_reason = solutions["rejected"].as_object();
            verdicts.rejected.set(
                by_reason.map_or(0, |reasons| reasons.values().filter_map(serde_json::Value::as_i64).sum()),
            );
        }
        tokio::time::sleep(DEV_STATS_INTERVAL).await;
    }
}

/// Registers all that a controller may count, as it does piece by piece when it runs.
#[cfg(test)]
pub(crate) fn register_metrics(status: &Status) {
    solutions::Counters::new(status);
    filler::FillerMetrics::new(status);
    leader::leads(status);
    relay::Metrics::new(status);
    node_watch::Metrics::new(status);
    Verdicts::new(status);
}
