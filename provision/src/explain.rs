//! Why each program of a host runs where and as it runs: what was chosen, and which line of the inventory or which fact of
//! the host decided it. Pure.

use crate::derive::farms::{fitting, gigabytes};
use crate::derive::placement::{Because, Chosen, Placements};
use crate::derive::{self, Affinity, Program, Role, placements};
use crate::facts::{GpuFacts, HostFacts, NumaNode};
use crate::inventory::{Source, Span, Spanned};
use crate::resolve::{Cache, Cluster, FarmSpace, Host};
use crate::topology::cpu_list;
use serde::Serialize;

/// Version of an explanation's JSON form.
pub const EXPLANATION_VERSION: u32 = 1;

/// Something that was chosen or found, and why or where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// "cores".
    pub what: String,
    /// "0-23,96-119"; "-" when nothing was chosen.
    pub value: String,
    /// "inventory.yaml:31:24", "default", or what of the host decided it.
    pub why: String,
}

/// A program and what was chosen for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProgramLines {
    /// Its name under supervisord.
    pub program: String,
    /// What it is.
    pub role: Role,
    /// What was chosen for it.
    pub lines: Vec<Line>,
}

/// A host, explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// [`EXPLANATION_VERSION`].
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the host.
    pub host: String,
    /// What the host is made of.
    pub machine: Vec<Line>,
    /// Its programs in the order of their start.
    pub programs: Vec<ProgramLines>,
    /// What is worth knowing of all of them.
    pub notes: Vec<String>,
}

/// Explains the programs of a host; `source` is the inventory's text, for the places in it.
pub fn explain(cluster: &Cluster, host: &Host, facts: &HostFacts, source: &Source) -> Explanation {
    let (programs, notes) = derive::programs(cluster, host, facts);
    let placements = host.plotter.as_ref().map(|plotter| placements(plotter, facts));
    let explainer = Explainer { cluster, host, facts, source, placements };
    let lines = |program: &Program| ProgramLines {
        program: program.name.clone(),
        role: program.role,
        lines: explainer.program(program),
    };
    Explanation {
        version: EXPLANATION_VERSION,
        cluster: cluster.name.clone(),
        host: host.name.value.clone(),
        machine: explainer.machine(),
        programs: programs.iter().map(lines).collect(),
        notes,
    }
}

fn line(what: impl Into<String>, value: impl ToString, why: impl Into<String>) -> Line {
    Line { what: what.into(), value: value.to_string(), why: why.into() }
}

struct Explainer<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    facts: &'a HostFacts,
    source: &'a Source,
    placements: Option<Placements>,
}

impl Explainer<'_> {
    /// FILE:LINE:COLUMN, or that nobody said so.
    fn place(&self, span: Span) -> String {
        // A default stands where the host's name does.
        if span == self.host.name.span {
            return "default".to_string();
        }
        let (line, column) = self.source.position(span.start);
        format!("{}:{line}:{column}", self.source.name)
    }

    fn because(&self, because: &Because) -> String {
        match because {
            Because::Inventory(span) => self.place(*span),
            Because::Host(why) => why.clone(),
        }
    }

    fn given<T: ToString>(&self, what: &str, given: &Spanned<T>) -> Line {
        line(what, given.value.to_string(), self.place(given.span))
    }

    fn chosen<T: ToString>(&self, what: &str, chosen: &Chosen<T>) -> Line {
        let value = chosen.value.as_ref().map_or_else(|| "-".to_string(), T::to_string);
        line(what, value, self.because(&chosen.because))
    }

    fn machine(&self) -> Vec<Line> {
        let (facts, hardware) = (self.facts, &self.facts.hardware);
        let mut lines = Vec::new();
        if !facts.os_name.is_empty() {
            lines.push(line("system", &facts.os_name, &facts.machine));
        }
        let usable = hardware.usable_cpus();
        if !usable.is_empty() {
            lines.push(line("CPUs", hardware.cpus_text(), cpu_list(&usable)));
        }
        if let Some(bytes) = hardware.memory_bytes {
            lines.push(line("memory", gigabytes(bytes), ""));
        }
        let memory = |node: &NumaNode| node.memory_bytes.map(gigabytes).unwrap_or_default();
        let nodes = hardware.nodes();
        if nodes.len() > 1 {
            lines.extend(
                nodes
                    .iter()
                    .map(|node| line(format!("node {}", node.node), cpu_list(&node.cpus), memory(node))),
            );
        }
        lines.extend(hardware.gpus.iter().map(|gpu| self.gpu(gpu)));
        for card in &hardware.gpus_without_driver {
            lines.push(line("GPU -", card, "no driver serves it"));
        }
        if let Some(driver) = hardware.driver {
            lines.push(line("driver", crate::plan::driver_text(driver), ""));
        }
        let address = &self.host.address.value;
        if let Some(link) = hardware.interfaces.iter().find(|link| link.addresses.contains(address)) {
            let speed = link.megabits.map(|megabits| format!(", {} Gbit/s", f64::from(megabits) / 1000.0));
            let value = format!("{}{}", link.name, speed.unwrap_or_default());
            lines.push(line("link", value, format!("has {address}")));
        }
        lines
    }

    fn gpu(&self, gpu: &GpuFacts) -> Line {
        let model = gpu.model.as_deref().unwrap_or("of unknown model");
        let memory = gpu.memory_bytes.map(|bytes| format!(", {} MiB", bytes >> 20)).unwrap_or_default();
        let node = self.facts.hardware.node_of_gpu(gpu).map(|node| format!("NUMA node {node}"));
        let place = [node, gpu.pci.clone()].into_iter().flatten().collect::<Vec<_>>().join(", ");
        line(format!("GPU {}", gpu.index), format!("{model}{memory}"), place)
    }

    fn program(&self, program: &Program) -> Vec<Line> {
        let mut lines = Vec::new();
        match program.role {
            Role::NatsServer => self.nats(&mut lines),
            Role::DevNode | Role::Node => {
                lines.extend(self.host.node.iter().map(|node| self.given("RPC port", &node.rpc_port)));
            }
            Role::Controller => lines.extend(
                self.host.node.iter().map(|node| self.given("metrics port", &node.controller.metrics_port)),
            ),
            Role::ProofServer => self.proof_server(&mut lines),
            Role::ShardedCache | Role::FullPieceShardedCache => self.cache(program.role, &mut lines),
            Role::PlotServer => self.plot_server(program, &mut lines),
            Role::PlotClient => self.plot_client(&mut lines),
        }
        lines
    }

    fn nats(&self, lines: &mut Vec<Line>) {
        let Some(node) = &self.host.node else { return };
        lines.push(self.given("port", &node.nats.port));
        lines.push(self.given("monitor port", &node.nats.monitor_port));
        lines.extend(node.nats.cluster_port.iter().map(|port| self.given("cluster port", port)));
        let payload = node.nats.max_payload;
        lines.push(line("max payload", format!("{} bytes", payload.value), self.place(payload.span)));
    }

    fn proof_server(&self, lines: &mut Vec<Line>) {
        let Some(node) = &self.host.node else { return };
        lines.push(match &node.proof_server.gpu {
            Some(gpu) => self.given("GPU", gpu),
            None => line("GPU", "-", "the inventory names none"),
        });
        lines.push(self.given("metrics port", &node.proof_server.metrics_port));
    }

    fn cache(&self, role: Role, lines: &mut Vec<Line>) {
        let (Some(plotter), Some(placements)) = (&self.host.plotter, &self.placements) else { return };
        let (cache, affinity): (&Cache, _) = match role {
            Role::ShardedCache => (&plotter.sharded_cache, &placements.sharded_cache),
            _ => (&plotter.full_piece_cache, &placements.full_piece_cache),
        };
        self.cores(affinity, lines);
        lines.push(self.given("port", &cache.port));
        lines.push(self.given("metrics port", &cache.metrics_port));
        lines.push(line("store", cache.path.value.display(), self.place(cache.path.span)));
        if let Some(size) = cache.size {
            lines.push(line("size", gigabytes(size.value), self.place(size.span)));
        }
    }

    fn plot_server(&self, program: &Program, lines: &mut Vec<Line>) {
        let (Some(plotter), Some(placements)) = (&self.host.plotter, &self.placements) else { return };
        let mut servers = plotter.plot_servers.iter().zip(&placements.plot_servers);
        let Some((server, placement)) = servers.find(|(server, _)| server.name.value == program.name) else {
            return;
        };
        lines.push(self.chosen("GPU", &placement.gpu));
        if placement.gpu.value.is_some() {
            lines.push(self.chosen("records at once", &placement.gpu_concurrency));
        }
        self.cores(&placement.affinity, lines);
        lines.push(self.given("port", &server.port));
        lines.push(self.given("metrics port", &server.metrics_port));
        lines.push(line("spool", server.path.value.display(), self.place(server.path.span)));
    }

    fn cores(&self, affinity: &Chosen<Affinity>, lines: &mut Vec<Line>) {
        let Some(chosen) = &affinity.value else {
            let every = line("cores", "all", self.because(&affinity.because));
            return lines.push(every);
        };
        lines.push(line("cores", chosen.list(), self.because(&affinity.because)));
        let nodes: Vec<_> = chosen.nodes.iter().map(u32::to_string).collect();
        let memory = match nodes.len() {
            0 => "-".to_string(),
            1 => format!("node {}", nodes[0]),
            _ => format!("nodes {}", nodes.join(", ")),
        };
        lines.push(line("memory", memory, "where its cores are (numactl -l)"));
    }

    fn plot_client(&self, lines: &mut Vec<Line>) {
        let Some(storage) = &self.host.storage else { return };
        lines.push(self.given("metrics port", &storage.metrics_port));
        let fitting = fitting(self.cluster, self.host, self.facts);
        for (farm, fitting) in storage.farms.iter().zip(fitting) {
            let place = self.place(farm.space.span);
            let sectors = |sectors: u16| crate::error::count(usize::from(sectors), "sector");
            let (space, why) = match farm.space.value {
                FarmSpace::Sectors(number) => (sectors(number), place),
                FarmSpace::Bytes(bytes) => (gigabytes(bytes), place),
                FarmSpace::Max => {
                    let most = fitting.value.map_or_else(|| "-".to_string(), sectors);
                    (most, format!("{place}: {}", self.because(&fitting.because)))
                }
            };
            lines.push(line(farm.path.value.display().to_string(), space, why));
        }
    }
}
