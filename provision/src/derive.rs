//! What follows from a cluster and the facts of a host: its programs, in the order of their start, and which CPUs
//! each plot-server gets. Pure.

use crate::facts::HostFacts;
use crate::layout::{Layout, MARKER_VARIABLE};
use crate::resolve::{Cache, Cluster, FarmSpace, Host};
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
    Controller,
    ProofServer,
    ShardedCache,
    FullPieceShardedCache,
    PlotServer,
    PlotClient,
}

impl Role {
    /// Every role in the order of the start.
    pub const ALL: [Self; 8] = [
        Self::NatsServer,
        Self::DevNode,
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

    /// How long it may take to stop before it is killed, in seconds: plot-clients finish a sector's write.
    const fn stop_seconds(self) -> u16 {
        match self {
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
    /// The node's RPC, with a first segment archived.
    NodeRpc {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// CPUs and memory of one plot-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Affinity {
    /// NUMA node.
    pub node: u32,
    /// CPU list for `numactl -C`.
    pub cpus: String,
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
        let (affinities, note) = affinities(plotter.plot_servers.len(), facts);
        notes.extend(note);
        programs.extend(derive.caches());
        programs.extend(derive.plot_servers(&affinities, facts));
    }
    programs.extend(derive.plot_client());
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
        let metrics = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), metrics_port);
        let mut command = vec![self.binary(role), "cluster".to_string()];
        for server in self.cluster.nats_servers() {
            command.extend(["--nats-server".to_string(), server]);
        }
        command.extend(
            [
                ("--cluster", self.cluster.name.clone()),
                ("--cluster-secret-file", self.layout.secret().display().to_string()),
                ("--dev-srs-cache", self.host.dev_srs_cache.display().to_string()),
                ("--prometheus-listen-on", metrics.to_string()),
            ]
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_string(), value]),
        );
        command.push(role.name().to_string());
        command.extend(arguments);
        self.program(name, role, command, Gate::Role { address: metrics }, ready_seconds)
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
            format!("ws://{rpc}"),
        ];
        let mut proof_server = self.role(
            "autonomys-proof-server",
            Role::ProofServer,
            node.proof_server.metrics_port.value,
            vec![],
            180,
        );
        if let Some(gpu) = node.proof_server.gpu {
            proof_server.environment.insert("CUDA_VISIBLE_DEVICES".to_string(), gpu.value.to_string());
        }
        vec![
            self.program("nats-server", Role::NatsServer, nats, Gate::Nats { address: monitor }, 30),
            self.program(
                "autonomys-dev-node",
                Role::DevNode,
                self.dev_node(rpc),
                Gate::NodeRpc { address: rpc },
                600,
            ),
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

    fn dev_node(&self, rpc: SocketAddr) -> Vec<String> {
        let chain = &self.cluster.dev_chain;
        let mut command = vec![self.binary(Role::DevNode)];
        let mut flag = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                command.extend([format!("--{name}"), value]);
            }
        };
        flag("data", Some(self.layout.data().join("dev-node").display().to_string()));
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

    fn caches(&self) -> Vec<Program> {
        let plotter = self.host.plotter.as_ref().expect("called for plotters only");
        let arguments = |cache: &Cache| {
            let size = cache.size.map_or(String::new(), |size| format!(",size={}", size.value));
            let path = format!("path={}{size}", cache.path.value.display());
            vec![path, "--listen".to_string(), self.address(cache.port.value).to_string()]
        };
        let (sharded, full) = (&plotter.sharded_cache, &plotter.full_piece_cache);
        vec![
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
        ]
    }

    fn plot_servers(&self, affinities: &[Affinity], facts: &HostFacts) -> Vec<Program> {
        let plotter = self.host.plotter.as_ref().expect("called for plotters only");
        let servers = plotter.plot_servers.iter().enumerate();
        servers
            .map(|(index, server)| {
                let arguments = vec![
                    "--priority-cache".to_string(),
                    "--listen-port".to_string(),
                    server.port.value.to_string(),
                    server.path.value.display().to_string(),
                ];
                let name = format!("autonomys-plot-server-{index}");
                let mut program =
                    self.role(&name, Role::PlotServer, server.metrics_port.value, arguments, 180);
                // Where the inventory names none, each takes the one of its place.
                let gpu = server.gpu.map(|gpu| gpu.value).or_else(|| facts.gpus.iter().nth(index).copied());
                if let Some(gpu) = gpu {
                    program.environment.insert("CUDA_VISIBLE_DEVICES".to_string(), gpu.to_string());
                }
                if let Some(concurrency) = server.gpu_concurrency {
                    program.environment.insert("GPU_CONCURRENCY".to_string(), concurrency.to_string());
                }
                if let (Some(affinity), Some(numactl)) = (affinities.get(index), &facts.numactl) {
                    let prefix = crate::render::numactl(numactl, affinity);
                    program.command.splice(0..0, prefix);
                }
                program
            })
            .collect()
    }

    fn plot_client(&self) -> Option<Program> {
        let storage = self.host.storage.as_ref()?;
        let mut arguments = vec!["--reward-address".to_string(), self.cluster.reward_address.value.clone()];
        if let Some(delay) = storage.new_segment_delay_max_s {
            arguments.extend(["--new-segment-delay-max".to_string(), delay.value.to_string()]);
        }
        arguments.extend(storage.farms.iter().map(|farm| {
            let path = farm.path.value.display();
            match farm.space.value {
                FarmSpace::Sectors(sectors) => format!("path={path},sectors={sectors}"),
                FarmSpace::Bytes(bytes) => format!("path={path},size={bytes}"),
            }
        }));
        Some(self.role("autonomys-plot-client", Role::PlotClient, storage.metrics_port.value, arguments, 300))
    }
}

/// The gate behind everything: the chain has accepted a solution of this host's farms.
pub fn final_gate(cluster: &Cluster, host: &Host) -> Option<Gate> {
    let own = host.node.as_ref().map(|node| SocketAddr::new(host.address.value, node.rpc_port.value));
    let rpc = own.or_else(|| cluster.node_rpcs().next())?;
    let metrics_port = host.storage.as_ref()?.metrics_port.value;
    let plot_client = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), metrics_port);
    Some(Gate::FirstSolution { rpc, plot_client })
}

/// Gives each of `servers` plot-servers whole physical cores (with their SMT siblings) of one NUMA node, disjoint from
/// its neighbours'. Empty with a single node or without numactl; the text says why.
fn affinities(servers: usize, facts: &HostFacts) -> (Vec<Affinity>, Option<String>) {
    let nodes: Vec<_> = facts.numa_nodes.iter().filter(|node| !node.cpus.is_empty()).collect();
    if nodes.len() < 2 {
        return (Vec::new(), Some("one NUMA node: plot-servers run without numactl".to_string()));
    }
    if facts.numactl.is_none() {
        let note = format!(
            "{} NUMA nodes but numactl is not installed: plot-servers run without it, which costs speed; install the \
             package `numactl` and apply again",
            nodes.len()
        );
        return (Vec::new(), Some(note));
    }
    let count = nodes.len();
    let on_node = |node: usize| (0..servers).filter(move |server| server % count == node);
    let mut affinities = vec![None; servers];
    for (index, node) in nodes.iter().enumerate() {
        let cores = physical_cores(&node.cpus, facts);
        let sharing = on_node(index).count();
        for (place, server) in on_node(index).enumerate() {
            // Fewer cores than plot-servers: they share the node rather than get none.
            let (first, last) = match cores.len() / sharing.max(1) {
                0 => (0, cores.len()),
                share => {
                    (place * share, if place + 1 == sharing { cores.len() } else { (place + 1) * share })
                }
            };
            let cpus: BTreeSet<u32> = cores[first..last].iter().flatten().copied().collect();
            affinities[server] = Some(Affinity { node: node.node, cpus: cpu_list(&cpus) });
        }
    }
    let note = format!("plot-servers are bound with numactl over {} NUMA nodes", nodes.len());
    (affinities.into_iter().flatten().collect(), Some(note))
}

/// The on-line CPUs of a node, grouped into physical cores.
fn physical_cores(cpus: &BTreeSet<u32>, facts: &HostFacts) -> Vec<BTreeSet<u32>> {
    let mut cores: Vec<BTreeSet<u32>> = Vec::new();
    for cpu in cpus.intersection(&facts.cpus_online) {
        if cores.iter().any(|core| core.contains(cpu)) {
            continue;
        }
        let siblings = facts.siblings.get(cpu).map(|siblings| siblings & &facts.cpus_online);
        cores.push(
            siblings.filter(|siblings| siblings.contains(cpu)).unwrap_or_else(|| BTreeSet::from([*cpu])),
        );
    }
    cores
}

/// The kernel's notation: `0-23,96-119`.
fn cpu_list(cpus: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{NumaNode, parse_cpus};
    use std::path::PathBuf;

    /// The guides' plotter: 96 cores with SMT on two nodes, N and N+96 being siblings.
    fn guide_plotter() -> HostFacts {
        HostFacts {
            numactl: Some(PathBuf::from("/usr/bin/numactl")),
            cpus_online: parse_cpus("0-191"),
            numa_nodes: vec![
                NumaNode { node: 0, cpus: parse_cpus("0-47,96-143") },
                NumaNode { node: 1, cpus: parse_cpus("48-95,144-191") },
            ],
            siblings: (0..192).map(|cpu| (cpu, BTreeSet::from([cpu % 96, cpu % 96 + 96]))).collect(),
            ..HostFacts::default()
        }
    }

    #[test]
    fn the_guides_machine_is_split_as_it_should_have_been() {
        let (affinities, _) = affinities(4, &guide_plotter());
        let lists: Vec<_> =
            affinities.iter().map(|affinity| (affinity.node, affinity.cpus.as_str())).collect();
        assert_eq!(
            lists,
            [(0, "0-23,96-119"), (1, "48-71,144-167"), (0, "24-47,120-143"), (1, "72-95,168-191")]
        );
    }

    #[test]
    fn one_node_or_no_numactl_is_said() {
        let (none, note) = affinities(1, &HostFacts::default());
        assert!(none.is_empty() && note.is_some_and(|note| note.contains("one NUMA node")));
        let facts = HostFacts { numactl: None, ..guide_plotter() };
        let (none, note) = affinities(1, &facts);
        assert!(none.is_empty() && note.is_some_and(|note| note.contains("install the package")));
    }

    #[test]
    fn off_line_cpus_are_left_out() {
        let facts = HostFacts { cpus_online: parse_cpus("0-10,48-60"), ..guide_plotter() };
        let (affinities, _) = affinities(2, &facts);
        assert_eq!(affinities[0].cpus, "0-10");
        assert_eq!(affinities[1].cpus, "48-60");
    }
}
