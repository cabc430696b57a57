//! How a cluster is: of supervisord, of each role, of the chain.

use crate::apply::{Connection, side_by_side};
use crate::derive::{self, Gate, Role};
use crate::error::Error;
use crate::facts::HostFacts;
use crate::gates::{self, Answer, number};
use crate::layout::Layout;
use crate::resolve::{Cluster, Host};
use crate::supervisor::{ProcessState, ProgramInfo, Supervisor};
use crate::transport::Transport;
use crate::transport::http::{Endpoint, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Version of the JSON form of a status.
pub const STATUS_VERSION: u32 = 2;

/// A role's program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleStatus {
    /// What it is.
    pub role: Role,
    /// Its name under supervisord.
    pub program: String,
    /// `ready`, `waiting`, `starting`, or supervisord's state in lower case when it does not run.
    pub state: String,
    /// What it waits for, or why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its version, when it tells.
    pub version: Option<String>,
    /// Seconds since it was started.
    pub uptime_seconds: u64,
    /// Process id.
    pub pid: Option<u32>,
    /// Its log.
    pub log: PathBuf,
    /// What it counts.
    pub counters: BTreeMap<String, i64>,
}

/// Solutions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Solutions {
    /// Sent to the chain.
    pub sent: u64,
    /// Accepted by it.
    pub accepted: u64,
    /// Not looked at by it: too late, or the slot had its ten.
    pub ignored: u64,
    /// Rejected by it, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// The cluster as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// Segments of the chain's history.
    pub segments: u64,
    /// Pieces in sharded caches.
    pub pieces_cached: u64,
    /// Pieces in the fullest full copy.
    pub pieces_in_full_copy: u64,
    /// Sectors plotted, over all farms.
    pub sectors_plotted: u64,
    /// Slots that the chain announced.
    pub slots_seen: u64,
    /// Solutions.
    pub solutions: Solutions,
}

/// How a host is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// Why it cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Directory that holds everything.
    pub prefix: PathBuf,
    /// supervisord's process id; none when it does not run.
    pub supervisord: Option<u32>,
    /// The roles in the order of their start; none of a host that cannot be asked.
    pub roles: Vec<RoleStatus>,
    /// What its node says of the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Value>,
}

/// What is asked of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The host's name.
    pub host: String,
    /// Directory that holds everything of the cluster there.
    pub prefix: PathBuf,
    /// Its programs in the order of their start.
    pub programs: Vec<(Role, String, Gate)>,
    /// RPC of its node, where that is a development node.
    pub rpc: Option<SocketAddr>,
}

impl Question {
    fn of(cluster: &Cluster, host: &Host) -> Self {
        let (programs, _) = derive::programs(cluster, host, &HostFacts::default());
        Self {
            host: host.name.value.clone(),
            prefix: host.prefix.clone(),
            programs: programs
                .into_iter()
                .map(|program| (program.role, program.name, program.gate))
                .collect(),
            rpc: (host.node.as_ref().filter(|_| cluster.network.is_none()))
                .map(|node| SocketAddr::new(host.address.value, node.rpc_port.value)),
        }
    }
}

impl HostStatus {
    /// Of a host that cannot be asked.
    fn unknown(host: &Host, error: &Error) -> Self {
        Self {
            host: host.name.value.clone(),
            error: Some(error.to_string()),
            prefix: host.prefix.clone(),
            supervisord: None,
            roles: Vec::new(),
            chain: None,
        }
    }

    /// Whether it can be asked and every role is ready.
    pub fn healthy(&self) -> bool {
        self.error.is_none() && self.roles.iter().all(|role| role.state == "ready")
    }
}

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// [`STATUS_VERSION`].
    pub version: u32,
    /// Name of the cluster.
    pub name: String,
    /// Its hosts in the order of the inventory.
    pub hosts: Vec<HostStatus>,
    /// The cluster as a whole, as far as its hosts can be asked.
    pub cluster: ClusterStatus,
}

impl Status {
    /// Whether every role of every host is ready.
    pub fn healthy(&self) -> bool {
        self.hosts.iter().all(HostStatus::healthy)
    }
}

/// Asks everything that runs on any host, the hosts side by side. That something is down, or cannot be asked, is told in the
/// status.
pub async fn status(cluster: &Cluster, connections: &[Connection<'_>], forks: usize) -> Status {
    let hosts = side_by_side(connections, forks, |(host, transport)| async move {
        let asked = match transport {
            Ok(transport) => transport.status(&Question::of(cluster, host)).await,
            Err(error) => return HostStatus::unknown(host, error),
        };
        asked.unwrap_or_else(|error| HostStatus::unknown(host, &error))
    });
    let mut hosts = hosts.await;
    let cluster_status = cluster_status(&hosts);
    // Told once, for the cluster as a whole.
    hosts.iter_mut().for_each(|host| host.chain = None);
    Status { version: STATUS_VERSION, name: cluster.name.clone(), hosts, cluster: cluster_status }
}

/// How the programs of a host are, asked next to it: what [`Transport::status`] does where the host is.
pub async fn of_host(question: &Question, transport: &dyn Transport) -> HostStatus {
    let layout = Layout::new(&question.prefix);
    let supervisor = Supervisor::new(transport, layout.socket());
    let supervisord = supervisor.pid().await.ok();
    let running = match supervisord {
        Some(_) => supervisor.programs().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let roles = question.programs.iter().map(|(role, program, gate)| {
        let info = running.iter().find(|info| info.name == *program);
        role_status((*role, program, gate), info, &layout, transport)
    });
    let chain = async { gates::dev_stats(question.rpc?, transport).await.ok() };
    let (roles, chain) = futures::join!(futures::future::join_all(roles), chain);
    HostStatus {
        host: question.host.clone(),
        error: None,
        prefix: question.prefix.clone(),
        supervisord,
        roles,
        chain,
    }
}

async fn role_status(
    (role, program, gate): (Role, &str, &Gate),
    info: Option<&ProgramInfo>,
    layout: &Layout,
    transport: &dyn Transport,
) -> RoleStatus {
    let mut status = RoleStatus {
        role,
        program: program.to_string(),
        state: info.map_or("down", |info| info.state.name()).to_lowercase(),
        reason: info.map(|info| info.spawn_error.clone()).filter(|reason| !reason.is_empty()),
        version: None,
        uptime_seconds: info.map_or(0, |info| info.uptime_seconds),
        pid: info.map(|info| info.pid).filter(|pid| *pid != 0),
        log: layout.log(program),
        counters: BTreeMap::new(),
    };
    if !info.is_some_and(|info| matches!(info.state, ProcessState::Running | ProcessState::Starting)) {
        return status;
    }
    match gates::ask(gate, transport).await {
        Answer::Ready(_) => {
            status.state = "ready".to_string();
            status.reason = None;
        }
        Answer::NotYet(reason) => {
            status.state = "waiting".to_string();
            status.reason = Some(reason);
        }
    }
    describe(gate, &mut status, transport).await;
    status
}

/// Adds version and counters, from wherever the program tells them.
async fn describe(gate: &Gate, status: &mut RoleStatus, transport: &dyn Transport) {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_string);
    match gate {
        Gate::Role { address } => {
            let Ok(report) = gates::role_status(*address, transport).await else { return };
            status.version = text(&report, "version");
            let counters = report.get("counters").and_then(Value::as_object).into_iter().flatten();
            status.counters =
                counters.filter_map(|(name, value)| Some((name.clone(), value.as_i64()?))).collect();
        }
        Gate::Nats { address } => {
            let request = Request::get(Endpoint::Tcp(*address), "/varz");
            let Ok(response) = transport.http(&request).await else { return };
            let report: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            status.version = text(&report, "version");
            for name in ["connections", "slow_consumers", "in_msgs", "out_msgs", "in_bytes", "out_bytes"] {
                if let Some(value) = report.get(name).and_then(Value::as_i64) {
                    status.counters.insert(name.to_string(), value);
                }
            }
        }
        Gate::NodeRpc { address } => {
            let Ok(stats) = gates::dev_stats(*address, transport).await else { return };
            status.version = node_version(*address, transport).await;
            for (name, pointer) in [
                ("best_block", "/bestBlock"),
                ("segments", "/segments/archived"),
                ("slots_announced", "/slots/announced"),
                ("slots_skipped", "/slots/skipped"),
                ("blocks_signed", "/blocks/signed"),
                ("rewards_signed", "/rewards/signed"),
            ] {
                status.counters.insert(name.to_string(), number(&stats, pointer).cast_signed());
            }
        }
        Gate::NodeSynced { address } => {
            let Ok((block, newest)) = gates::sync_state(*address, transport).await else { return };
            status.version = node_version(*address, transport).await;
            for (name, value) in [("best_block", block), ("newest_block", newest)] {
                status.counters.insert(name.to_string(), value.cast_signed());
            }
        }
        Gate::FirstSolution { .. } => {}
    }
}

async fn node_version(rpc: SocketAddr, transport: &dyn Transport) -> Option<String> {
    gates::ask_node(rpc, "system_version", transport).await.ok()?.as_str().map(str::to_string)
}

fn cluster_status(hosts: &[HostStatus]) -> ClusterStatus {
    // Of a chain's nodes one may be behind, and those that follow another know only what went through them.
    let chains = hosts.iter().filter_map(|host| host.chain.as_ref());
    let known = |stats: &&Value| (number(stats, "/solutions/accepted"), number(stats, "/bestBlock"));
    let stats = chains.max_by_key(known).unwrap_or(&Value::Null);
    let counter = |role: Role, name: &str| {
        let roles = hosts.iter().flat_map(|host| &host.roles);
        let of_role = roles.filter(move |status| status.role == role);
        let values: Vec<u64> = of_role
            .filter_map(|status| status.counters.get(name).and_then(|value| u64::try_from(*value).ok()))
            .collect();
        values
    };
    let rejected = stats.pointer("/solutions/rejected").and_then(Value::as_object).into_iter().flatten();
    let told = match stats.is_null() {
        false => ClusterStatus {
            segments: number(stats, "/segments/archived"),
            slots_seen: number(stats, "/slots/announced"),
            solutions: Solutions {
                sent: number(stats, "/solutions/received"),
                accepted: number(stats, "/solutions/accepted"),
                ignored: number(stats, "/solutions/ignored"),
                rejected: rejected
                    .map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0)))
                    .collect(),
            },
            ..ClusterStatus::default()
        },
        // A network's node does not count; the controllers do.
        true => {
            let most = |name: &str| counter(Role::Controller, name).into_iter().max().unwrap_or(0);
            let sum = |name: &str| counter(Role::Controller, name).iter().sum();
            let rejected = Some(sum("node_solutions_rejected")).filter(|count| *count > 0);
            ClusterStatus {
                segments: most("segments"),
                slots_seen: most("slots_seen"),
                solutions: Solutions {
                    sent: sum("solutions_sent"),
                    accepted: sum("solutions_accepted"),
                    ignored: 0,
                    rejected: rejected.map(|count| ("by the node".to_string(), count)).into_iter().collect(),
                },
                ..ClusterStatus::default()
            }
        }
    };
    ClusterStatus {
        pieces_cached: counter(Role::ShardedCache, "pieces_cached").iter().sum(),
        pieces_in_full_copy: counter(Role::FullPieceShardedCache, "pieces_cached")
            .into_iter()
            .max()
            .unwrap_or(0),
        sectors_plotted: counter(Role::PlotClient, "sectors_plotted").iter().sum(),
        ..told
    }
}
