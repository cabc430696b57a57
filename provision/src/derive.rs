//! What follows from a cluster and the facts of a host: its programs, in the order of their start, and which CPUs
//! each plot-server gets. Pure.

pub mod farms;
pub mod placement;

use crate::facts::HostFacts;
use crate::inventory::Network;
use crate::layout::{Layout, MARKER_VARIABLE};
use crate::resolve::{Cache, Cluster, FarmSpace, Host};
pub use placement::{Placements, placements};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Has glibc map every block from 256 KiB on by itself, so that it goes back to the system when it is freed.
///
/// By default the first pieces and segments that are freed raise this threshold above their own size: from then on such
/// blocks lie in the heaps of the threads, and a program that is done with them keeps several times the memory it uses.
const MEMORY_GIVEN_BACK: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "262144");

/// What a program is; the order is that of the start (design §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names of the roles say it")]
pub enum Role {
    NatsServer,
    DevNode,
    Node,
    Controller,
    ProofServer,
    ShardedCache,
    FullPieceShardedCache,
    PlotServer,
    PlotClient,
}

impl Role {
    /// Every role in the order of the start.
    pub const ALL: [Self; 9] = [
        Self::NatsServer,
        Self::DevNode,
        Self::Node,
        Self::Controller,
        Self::ProofServer,
        Self::ShardedCache,
        Self::FullPieceShardedCache,
        Self::PlotServer,
        Self::PlotClient,
    ];

    /// Its name on command lines and in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::DevNode => "dev-node",
            Self::Node => "node",
            Self::Controller => "controller",
            Self::ProofServer => "proof-server",
            Self::ShardedCache => "sharded-cache",
            Self::FullPieceShardedCache => "full-piece-sharded-cache",
            Self::PlotServer => "plot-server",
            Self::PlotClient => "plot-client",
        }
    }

    /// The binary that it is.
    pub const fn binary(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::DevNode => "autonomys-dev-node",
            Self::Node => "autonomys-node",
            _ => "autonomys-farmer",
        }
    }

    /// `stdout_logfile_maxbytes` of the guides.
    const fn log_megabytes(self) -> u16 {
        match self {
            Self::ProofServer => 500,
            _ => 100,
        }
    }

    /// How long it may take to stop before it is killed, in seconds: plot-clients finish a sector's write, a node its database's.
    const fn stop_seconds(self) -> u16 {
        match self {
            Self::Node => 60,
            Self::PlotClient | Self::DevNode => 30,
            _ => 15,
        }
    }
}

/// How to tell that a program is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Gate {
    /// nats-server's `/healthz`, with JetStream on.
    Nats {
        /// Its monitoring.
        address: SocketAddr,
    },
    /// A development node's RPC, with a first segment archived.
    NodeRpc {
        /// Its RPC.
        address: SocketAddr,
    },
    /// The RPC of a network's node, synced with its peers.
    NodeSynced {
        /// Its RPC.
        address: SocketAddr,
    },
    /// A role's `/ready`.
    Role {
        /// Its `--prometheus-listen-on`.
        address: SocketAddr,
    },
    /// The chain has accepted a solution.
    FirstSolution {
        /// The node's RPC.
        rpc: SocketAddr,
        /// The plot-client's `--prometheus-listen-on`, which tells how far plotting is.
        plot_client: SocketAddr,
    },
}

/// A program under supervisord.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name under supervisord, and of its log.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its environment beside supervisord's own.
    pub environment: BTreeMap<String, String>,
    /// Size at which its log is rotated, in MB.
    pub log_megabytes: u16,
    /// How long it may take to stop, in seconds.
    pub stop_seconds: u16,
    /// How to tell that it is ready.
    pub gate: Gate,
    /// How long it may take to be ready, in seconds.
    pub ready_seconds: u64,
}

impl Program {
    /// Whether it is meant by names of roles or programs; all are when there are none.
    pub fn is_meant(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|name| self.role.name() == name || self.name == *name)
    }
}

/// CPUs that a program is bound to; its memory is taken from their NUMA nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Affinity {
    /// The NUMA nodes of the CPUs.
    pub nodes: Vec<u32>,
    /// CPUs for `numactl -C`.
    pub cpus: BTreeSet<u32>,
}

/// The programs of a host in the order of their start, and what is to be said about how they were derived.
pub fn programs(cluster: &Cluster, host: &Host, facts: &HostFacts) -> (Vec<Program>, Vec<String>) {
    let layout = Layout::of(host);
    let derive = Derive { cluster, host, layout: &layout };
    let mut programs = Vec::new();
    let mut notes = Vec::new();
    if host.node.is_some() {
        programs.extend(derive.node());
    }
    if let Some(plotter) = &host.plotter {
        let placements = placements(plotter, facts);
        programs.extend(derive.caches(&placements, facts));
        programs.extend(derive.plot_servers(&placements, facts));
        notes.extend(placements.notes);
    }
    programs.extend(derive.plot_client(facts));
    (programs, notes)
}

struct Derive<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    layout: &'a Layout,
}

impl Derive<'_> {
    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host.address.value, port)
    }

    fn binary(&self, role: Role) -> String {
        self.layout.bin().join(role.binary()).display().to_string()
    }

    fn program(
        &self,
        name: &str,
        role: Role,
        command: Vec<String>,
        gate: Gate,
        ready_seconds: u64,
    ) -> Program {
        let mut environment =
            BTreeMap::from([(MARKER_VARIABLE.to_string(), self.layout.prefix.display().to_string())]);
        if role != Role::NatsServer {
            for (name, value) in [("RUST_BACKTRACE", "1"), MEMORY_GIVEN_BACK] {
                environment.insert(name.to_string(), value.to_string());
            }
        }
        Program {
            name: name.to_string(),
            role,
            command,
            environment,
            log_megabytes: role.log_megabytes(),
            stop_seconds: role.stop_seconds(),
            gate,
            ready_seconds,
        }
    }

    /// `autonomys-farmer cluster … ROLE ARGUMENTS`.
    fn role(
        &self,
        name: &str,
        role: Role,
        metrics_port: u16,
        arguments: Vec<String>,
        ready_seconds: u64,
    ) -> Program {
        let metrics = SocketAddr::new(self.cluster.metrics_address(self.host), metrics_port);
        let mut command = vec![self.binary(role), "cluster".to_string()];
        for server in self.cluster.nats_servers() {
            command.extend(["--nats-server".to_string(), server]);
        }
        let flags = [
            ["--cluster".to_string(), self.cluster.name.clone()],
            ["--cluster-secret-file".to_string(), self.layout.secret().display().to_string()],
            self.cluster.reference_string(self.host),
            ["--prometheus-listen-on".to_string(), metrics.to_string()],
        ];
        command.extend(flags.into_iter().flatten());
        command.push(role.name().to_string());
        command.extend(arguments);
        let mut program = self.program(name, role, command, Gate::Role { address: metrics }, ready_seconds);
        if let Some(authority) = self.cluster.nats_authority() {
            // Where the client of NATS takes authorities from; nothing else of a role asks for these.
            program.environment.insert("SSL_CERT_FILE".to_string(), authority.display().to_string());
        }
        program
    }

    fn node(&self) -> Vec<Program> {
        let node = self.host.node.as_ref().expect("called for node hosts only");
        let nats = vec![
            self.binary(Role::NatsServer),
            "-c".to_string(),
            self.layout.nats_conf().display().to_string(),
        ];
        let monitor = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), node.nats.monitor_port.value);
        let rpc = self.address(node.rpc_port.value);
        let controller = [
            "--base-path".to_string(),
            self.layout.data().join("controller").display().to_string(),
            "--node-rpc-url".to_string(),
            format!("ws://{}", node.node_rpc_url.map_or(rpc, |url| url.value)),
        ];
        let mut proof_server = self.role(
            "autonomys-proof-server",
            Role::ProofServer,
            node.proof_server.metrics_port.value,
            vec![],
            180,
        );
        see_gpu(&mut proof_server, node.proof_server.gpu.map(|gpu| gpu.value));
        vec![
            self.program("nats-server", Role::NatsServer, nats, Gate::Nats { address: monitor }, 30),
            match &self.cluster.network {
                Some(network) => self.program(
                    Role::Node.binary(),
                    Role::Node,
                    self.network_node(network, rpc),
                    Gate::NodeSynced { address: rpc },
                    600,
                ),
                None => self.program(
                    Role::DevNode.binary(),
                    Role::DevNode,
                    self.dev_node(rpc),
                    Gate::NodeRpc { address: rpc },
                    600,
                ),
            },
            self.role(
                "autonomys-controller",
                Role::Controller,
                node.controller.metrics_port.value,
                controller.to_vec(),
                180,
            ),
            proof_server,
        ]
    }

    /// The guides' command line, without RPC for every web page and at one address.
    fn network_node(&self, network: &Network, rpc: SocketAddr) -> Vec<String> {
        let mut command = vec![self.binary(Role::Node), "run".to_string()];
        let flags = [
            ("--base-path", self.cluster.node_data(self.host).display().to_string()),
            ("--chain", network.chain.value.clone()),
            ("--rpc-listen-on", rpc.to_string()),
            ("--rpc-methods", "unsafe".to_string()),
        ];
        command.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]));
        command.push("--farmer".to_string());
        let given = network.arguments.iter().map(|argument| argument.value.clone());
        if !given.clone().any(|argument| argument.split('=').next() == Some("--sync")) {
            command.extend(["--sync".to_string(), "full".to_string()]);
        }
        command.extend(given);
        command
    }

    fn dev_node(&self, rpc: SocketAddr) -> Vec<String> {
        let chain = &self.cluster.dev_chain;
        let mut command = vec![self.binary(Role::DevNode)];
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                command.extend([format!("--{name}"), value]);
            }
        };
        flag("data", Some(self.cluster.node_data(self.host).display().to_string()));
        flag("rpc-listen-on", Some(rpc.to_string()));
        // The first node makes the chain, the others replicate it.
        let first = self.cluster.node_rpcs().next().filter(|first| *first != rpc);
        flag("follow", first.map(|first| format!("ws://{first}")));
        flag("srs-cache", Some(self.host.dev_srs_cache.display().to_string()));
        flag("pieces-in-sector", Some(self.cluster.pieces_in_sector().to_string()));
        flag("seed", chain.seed.as_ref().map(|seed| seed.value.clone()));
        for (name, value) in [
            ("slot-ms", chain.slot_ms),
            ("block-bytes", chain.block_bytes),
            ("archive-ahead", chain.archive_ahead),
            ("confirmation-depth", chain.confirmation_depth),
            ("recent-segments", chain.recent_segments),
            ("min-sector-lifetime", chain.min_sector_lifetime),
            ("slots-per-block", chain.slots_per_block),
        ] {
            flag(name, value.map(|value| value.value.to_string()));
        }
        command
    }

    fn caches(&self, placements: &Placements, facts: &HostFacts) -> Vec<Program> {
        let plotter = self.host.plotter.as_ref().expect("called for plotters only");
        let arguments = |cache: &Cache| {
            let size = cache.size.map_or(String::new(), |size| format!(",size={}", size.value));
            let path = format!("path={}{size}", cache.path.value.display());
            vec![path, "--listen".to_string(), self.address(cache.port.value).to_string()]
        };
        let (sharded, full) = (&plotter.sharded_cache, &plotter.full_piece_cache);
        let mut caches = vec![
            self.role(
                "autonomys-sharded-cache",
                Role::ShardedCache,
                sharded.metrics_port.value,
                arguments(sharded),
                300,
            ),
            self.role(
                "autonomys-full-piece",
                Role::FullPieceShardedCache,
                full.metrics_port.value,
                arguments(full),
                300,
            ),
        ];
        let affinities = [&placements.sharded_cache, &placements.full_piece_cache];
        for (cache, affinity) in caches.iter_mut().zip(affinities) {
            bind(cache, affinity.value.as_ref(), facts);
        }
        caches
    }

    fn plot_servers(&self, placements: &Placements, facts: &HostFacts) -> Vec<Program> {
        let plotter = self.host.plotter.as_ref().expect("called for plotters only");
        let servers = plotter.plot_servers.iter().zip(&placements.plot_servers);
        servers
            .map(|(server, placement)| {
                let arguments = vec![
                    "--priority-cache".to_string(),
                    "--listen-port".to_string(),
                    server.port.value.to_string(),
                    server.path.value.display().to_string(),
                ];
                let name = &server.name.value;
                let mut program =
                    self.role(name, Role::PlotServer, server.metrics_port.value, arguments, 180);
                see_gpu(&mut program, placement.gpu.value);
                if let Some(concurrency) = placement.gpu_concurrency.value {
                    program.environment.insert("GPU_CONCURRENCY".to_string(), concurrency.to_string());
                }
                bind(&mut program, placement.affinity.value.as_ref(), facts);
                program
            })
            .collect()
    }

    fn plot_client(&self, facts: &HostFacts) -> Option<Program> {
        let storage = self.host.storage.as_ref()?;
        let mut arguments = vec!["--reward-address".to_string(), self.cluster.reward_address.value.clone()];
        if let Some(delay) = storage.new_segment_delay_max_s {
            arguments.extend(["--new-segment-delay-max".to_string(), delay.value.to_string()]);
        }
        let fitting = farms::fitting(self.cluster, self.host, facts);
        arguments.extend(storage.farms.iter().zip(fitting).filter_map(|(farm, fitting)| {
            let path = farm.path.value.display();
            Some(match farm.space.value {
                FarmSpace::Sectors(sectors) => format!("path={path},sectors={sectors}"),
                FarmSpace::Bytes(bytes) => format!("path={path},size={bytes}"),
                // Of a disk that is not there the check tells.
                FarmSpace::Max => format!("path={path},sectors={}", fitting.value?),
            })
        }));
        Some(self.role("autonomys-plot-client", Role::PlotClient, storage.metrics_port.value, arguments, 300))
    }
}

/// The gate behind everything: the chain has accepted a solution of this host's farms. On the live network that may take days.
pub fn final_gate(cluster: &Cluster, host: &Host) -> Option<Gate> {
    if cluster.network.is_some() {
        return None;
    }
    let own = host.node.as_ref().map(|node| SocketAddr::new(host.address.value, node.rpc_port.value));
    let rpc = own.or_else(|| cluster.node_rpcs().next())?;
    let metrics_port = host.storage.as_ref()?.metrics_port.value;
    let plot_client = SocketAddr::new(cluster.metrics_address(host), metrics_port);
    Some(Gate::FirstSolution { rpc, plot_client })
}

/// Shows a program one GPU. CUDA counts the fastest first if it is not told to count as nvidia-smi and the kernel do.
fn see_gpu(program: &mut Program, gpu: Option<u16>) {
    if let Some(gpu) = gpu {
        program.environment.insert("CUDA_DEVICE_ORDER".to_string(), "PCI_BUS_ID".to_string());
        program.environment.insert("CUDA_VISIBLE_DEVICES".to_string(), gpu.to_string());
    }
}

/// Binds a program to CPUs and the memory of their nodes.
fn bind(program: &mut Program, affinity: Option<&Affinity>, facts: &HostFacts) {
    if let (Some(affinity), Some(numactl)) = (affinity, &facts.numactl) {
        program.command.splice(0..0, crate::render::numactl(numactl, affinity));
    }
}
