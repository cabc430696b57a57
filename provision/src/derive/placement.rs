//! Which GPU, which cores and how much of its card each plot-server of a host gets, and which cores are left to the
//! caches. Pure.
//!
//! A plot-server belongs on the NUMA node of its GPU, or memory and card are reached through the other socket. The
//! plot-servers of a node divide its physical cores, each core whole with its SMT siblings: two of them on the halves of
//! the same cores are slower than one. What the inventory gives by hand stays as it is, and the others keep off it.

use super::Affinity;
use crate::facts::{Hardware, HostFacts, NumaNode};
use crate::inventory::{Span, Spanned};
use crate::resolve::{Cache, PlotServer, Plotter};
use crate::topology::cpu_list;
use std::collections::BTreeSet;

/// Cores that a plot-server needs for each GPU (guides).
pub const CORES_PER_GPU: usize = 30;
/// Cores that the caches get for themselves where plot-servers can spare them, or where they are left over: two caches
/// that send 20 Gbit/s and check what they are sent.
pub const CACHE_CORES: usize = 4;
/// Memory of a card that is no record's: the context and the tables that all records share, in MiB.
const CARD_FIXED_MIB: u64 = 1024;
/// Memory of a card for each record that is encoded on it at the same time, in MiB: operators run 12 to 16 on cards of
/// 10 GiB.
const CARD_RECORD_MIB: u64 = 640;
/// Records at the same time beyond which no card gets faster: two streams of batches of 32.
const CARD_RECORDS_MAX: u64 = 64;

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The inventory says so there.
    Inventory(Span),
    /// It follows from what the host is, in these words.
    Host(String),
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<T> {
    /// The choice; none can be one.
    pub value: Option<T>,
    /// Why.
    pub because: Because,
}

impl<T> Chosen<T> {
    pub(super) fn by_hand(given: Spanned<T>) -> Self {
        Self { value: Some(given.value), because: Because::Inventory(given.span) }
    }

    /// Nothing was chosen, since the inventory says it there.
    pub(super) fn by_hand_none(span: Span) -> Self {
        Self { value: None, because: Because::Inventory(span) }
    }

    pub(super) fn of_host(value: Option<T>, why: impl Into<String>) -> Self {
        Self { value, because: Because::Host(why.into()) }
    }
}

/// Where a plot-server's work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Its GPU; without one it plots on CPUs.
    pub gpu: Chosen<u16>,
    /// Records on its card at the same time: `GPU_CONCURRENCY`.
    pub gpu_concurrency: Chosen<u16>,
    /// Its cores.
    pub affinity: Chosen<Affinity>,
}

/// Where the work of a plotter's programs is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placements {
    /// Of each plot-server.
    pub plot_servers: Vec<Placement>,
    /// Of the sharded cache.
    pub sharded_cache: Chosen<Affinity>,
    /// Of the full copy.
    pub full_piece_cache: Chosen<Affinity>,
    /// What is worth knowing of all of them.
    pub notes: Vec<String>,
}

/// Places the programs of a plotter.
pub fn placements(plotter: &Plotter, facts: &HostFacts) -> Placements {
    let hardware = &facts.hardware;
    let gpus = choose_gpus(&plotter.plot_servers, hardware);
    let (affinities, caches, notes) = Cores::new(plotter, facts, &gpus).divide();
    let servers = plotter.plot_servers.iter().zip(gpus).zip(affinities);
    let plot_servers = servers.map(|((server, gpu), affinity)| {
        let gpu_concurrency = concurrency(server, gpu.value, hardware);
        Placement { gpu, gpu_concurrency, affinity }
    });
    let [sharded_cache, full_piece_cache] = caches;
    Placements { plot_servers: plot_servers.collect(), sharded_cache, full_piece_cache, notes }
}

/// The GPU of each plot-server: that of the inventory, or the next one that no other has.
fn choose_gpus(servers: &[PlotServer], hardware: &Hardware) -> Vec<Chosen<u16>> {
    let by_hand: BTreeSet<u16> = servers.iter().filter_map(|server| Some(server.gpu?.value)).collect();
    let mut free = hardware.gpus.iter().filter(|gpu| !by_hand.contains(&gpu.index));
    let choose = |server: &PlotServer| match server.gpu {
        Some(gpu) => Chosen::by_hand(gpu),
        None => match free.next() {
            Some(gpu) => {
                let model = gpu.model.as_deref().unwrap_or("a GPU");
                let place = gpu.pci.as_ref().map(|pci| format!(" at {pci}")).unwrap_or_default();
                Chosen::of_host(Some(gpu.index), format!("the next free one: {model}{place}"))
            }
            None if hardware.gpus.is_empty() => {
                Chosen::of_host(None, "the host has no GPU: it plots on its CPUs")
            }
            None => {
                let many = crate::error::count(hardware.gpus.len(), "GPU");
                Chosen::of_host(None, format!("{many}, all other plot-servers': it plots on its CPUs"))
            }
        },
    };
    servers.iter().map(choose).collect()
}

/// How many records fit a card of `bytes`.
fn records_on_card(bytes: u64) -> u64 {
    (((bytes >> 20).saturating_sub(CARD_FIXED_MIB)) / CARD_RECORD_MIB).clamp(1, CARD_RECORDS_MAX)
}

fn concurrency(server: &PlotServer, gpu: Option<u16>, hardware: &Hardware) -> Chosen<u16> {
    if let Some(given) = server.gpu_concurrency {
        return Chosen::by_hand(given);
    }
    let Some(card) = gpu.and_then(|gpu| hardware.gpu(gpu)) else {
        return Chosen::of_host(None, "no GPU");
    };
    let Some(bytes) = card.memory_bytes else {
        return Chosen::of_host(None, "nvidia-smi, which knows the card's memory, is not there");
    };
    let records = records_on_card(bytes);
    let most = if records == CARD_RECORDS_MAX { ", no more than 64 help" } else { "" };
    let why = format!(
        "({} MiB of the card - {CARD_FIXED_MIB}) / {CARD_RECORD_MIB} MiB a record{most}",
        bytes >> 20
    );
    Chosen::of_host(u16::try_from(records).ok(), why)
}

/// A NUMA node's cores that are still to be given.
struct Room {
    node: NumaNode,
    /// Cores of the node in all.
    of: usize,
    free: Vec<BTreeSet<u32>>,
    /// Plot-servers that divide them.
    servers: Vec<usize>,
}

/// How the cores of a host are divided.
struct Cores<'a> {
    plotter: &'a Plotter,
    hardware: &'a Hardware,
    numactl: bool,
    gpus: &'a [Chosen<u16>],
    rooms: Vec<Room>,
    /// Cores that plot-servers can do without.
    spared: Vec<BTreeSet<u32>>,
}

type Divided = (Vec<Chosen<Affinity>>, [Chosen<Affinity>; 2], Vec<String>);

impl<'a> Cores<'a> {
    fn new(plotter: &'a Plotter, facts: &'a HostFacts, gpus: &'a [Chosen<u16>]) -> Self {
        let hardware = &facts.hardware;
        let taken: BTreeSet<u32> = by_hand(plotter).flat_map(|(_, cpus)| &cpus.value).copied().collect();
        let room = |node: NumaNode| {
            let mut free = hardware.cores(&node.cpus);
            let of = free.len();
            free.retain(|core| core.is_disjoint(&taken));
            Room { node, of, free, servers: Vec::new() }
        };
        let rooms = hardware.nodes().into_iter().map(room).collect();
        Self { plotter, hardware, numactl: facts.numactl.is_some(), gpus, rooms, spared: Vec::new() }
    }

    fn divide(mut self) -> Divided {
        let servers = &self.plotter.plot_servers;
        let hands = by_hand(self.plotter).count();
        let nodes = self.rooms.len();
        if nodes < 2 && servers.len() < 2 && hands == 0 {
            return self.unbound("one NUMA node: plot-servers run without numactl");
        }
        if nodes == 0 && hands == 0 {
            return self.unbound("the host tells of no CPUs: plot-servers run without numactl");
        }
        if !self.numactl {
            let many = crate::error::count(nodes, "NUMA node");
            return self.unbound(&format!(
                "{many} but numactl is not installed: plot-servers run without it, which costs speed; install the \
                 package `numactl` and apply again"
            ));
        }
        self.settle();
        self.spare_for_caches();
        let affinities = (0..servers.len()).map(|server| self.of_server(server)).collect();
        let (caches, left) = self.of_caches();
        let over = crate::error::count(nodes, "NUMA node");
        let short = self.rooms.iter().find(|room| room.free.len() < room.servers.len());
        let note = match short {
            Some(room) if nodes < 2 => format!(
                "{} for {}: they run without numactl",
                crate::error::count(room.free.len(), "core"),
                crate::error::count(room.servers.len(), "plot-server")
            ),
            _ => format!("plot-servers are bound with numactl over {over}{left}"),
        };
        (affinities, caches, vec![note])
    }

    fn unbound(&self, why: &str) -> Divided {
        // A list by hand stays one: that it needs numactl is told by the checks.
        let none = |why: &str| Chosen::of_host(None, why);
        let servers = self.plotter.plot_servers.iter().map(|_| none(why)).collect();
        (servers, [none(why), none(why)], vec![why.to_string()])
    }

    /// Decides on which node each plot-server without a list by hand is.
    fn settle(&mut self) {
        for (index, server) in self.plotter.plot_servers.iter().enumerate() {
            if server.cpus.is_some() || self.rooms.is_empty() {
                continue;
            }
            let home = self.home(index);
            // Whoever is at home nowhere goes where the fewest are.
            let place = home.and_then(|node| self.rooms.iter().position(|room| room.node.node == node));
            let emptiest = || {
                let rooms = self.rooms.iter().enumerate();
                rooms.min_by_key(|(_, room)| room.servers.len()).map_or(0, |(place, _)| place)
            };
            let place = place.unwrap_or_else(emptiest);
            self.rooms[place].servers.push(index);
        }
    }

    /// The NUMA node of a plot-server's GPU.
    fn home(&self, server: usize) -> Option<u32> {
        self.hardware.node_of_gpu(self.hardware.gpu(self.gpus[server].value?)?)
    }

    /// Takes cores for the caches out of the room with the most for each plot-server, if those keep enough.
    fn spare_for_caches(&mut self) {
        let left: usize =
            self.rooms.iter().filter(|room| room.servers.is_empty()).map(|room| room.free.len()).sum();
        let caches = [&self.plotter.sharded_cache, &self.plotter.full_piece_cache];
        if left >= CACHE_CORES || caches.into_iter().all(|cache| cache.cpus.is_some()) {
            return;
        }
        let share = |room: &Room| room.free.len().saturating_sub(CACHE_CORES) / room.servers.len().max(1);
        let rooms = self.rooms.iter_mut().filter(|room| !room.servers.is_empty());
        if let Some(room) = rooms.max_by_key(|room| share(room))
            && share(room) >= CORES_PER_GPU
        {
            self.spared = room.free.split_off(room.free.len() - CACHE_CORES);
        }
    }

    fn of_server(&self, server: usize) -> Chosen<Affinity> {
        if let Some(cpus) = &self.plotter.plot_servers[server].cpus {
            return self.given(cpus);
        }
        let sharing = |room: &&Room| room.servers.contains(&server);
        let Some(room) = self.rooms.iter().find(sharing) else {
            return Chosen::of_host(None, "the kernel tells of no CPUs");
        };
        let servers = room.servers.len();
        let share = room.free.len() / servers;
        if share == 0 && self.rooms.len() == 1 {
            return Chosen::of_host(None, format!("{} cores for {servers} plot-servers", room.free.len()));
        }
        let place = room.servers.iter().position(|other| *other == server).unwrap_or(0);
        // Fewer cores than plot-servers: they share the node rather than get none.
        let cores = if share == 0 { &room.free[..] } else { &room.free[place * share..][..share] };
        let node = room.node.node;
        let of_gpu = match (self.gpus[server].value, self.home(server)) {
            (Some(gpu), Some(home)) if home == node => format!(", where GPU {gpu} is"),
            (Some(gpu), Some(home)) => format!("; GPU {gpu} is on node {home}, of which no CPU may be used"),
            (Some(gpu), None) => format!("; nobody says on which node GPU {gpu} is"),
            (None, _) => String::new(),
        };
        let shared = match servers {
            1 => String::new(),
            _ => format!("; {servers} plot-servers divide them"),
        };
        let why = format!("{} of the {} cores of NUMA node {node}{of_gpu}{shared}", cores.len(), room.of);
        let cpus: BTreeSet<u32> = cores.iter().flatten().copied().collect();
        if cpus.is_empty() {
            return Chosen::of_host(None, format!("every core of NUMA node {node} is given by hand"));
        }
        Chosen::of_host(Some(Affinity { nodes: vec![node], cpus }), why)
    }

    /// The caches' cores, and how a note goes on about them.
    fn of_caches(&self) -> ([Chosen<Affinity>; 2], String) {
        let left: BTreeSet<u32> =
            self.rooms.iter().flat_map(left_over).chain(&self.spared).flatten().copied().collect();
        let cores = self.hardware.cores(&left).len();
        let derived = match cores {
            0 => Chosen::of_host(None, "not bound: every core is a plot-server's"),
            1..CACHE_CORES => Chosen::of_host(
                None,
                format!("not bound: plot-servers leave {cores} of at least {CACHE_CORES} cores"),
            ),
            _ => {
                let affinity = Affinity { nodes: self.nodes_of(&left), cpus: left };
                Chosen::of_host(Some(affinity), format!("the {cores} cores that no plot-server has"))
            }
        };
        let note = match &derived.value {
            Some(_) => format!("; the caches have {cores} cores of their own"),
            None => String::new(),
        };
        let of = |cache: &Cache| cache.cpus.as_ref().map_or_else(|| derived.clone(), |cpus| self.given(cpus));
        ([of(&self.plotter.sharded_cache), of(&self.plotter.full_piece_cache)], note)
    }

    fn given(&self, cpus: &Spanned<BTreeSet<u32>>) -> Chosen<Affinity> {
        let affinity = Affinity { nodes: self.nodes_of(&cpus.value), cpus: cpus.value.clone() };
        Chosen::by_hand(Spanned::new(affinity, cpus.span))
    }

    fn nodes_of(&self, cpus: &BTreeSet<u32>) -> Vec<u32> {
        let nodes = self.hardware.nodes().into_iter();
        nodes.filter(|node| !node.cpus.is_disjoint(cpus)).map(|node| node.node).collect()
    }
}

/// The cores of a room that are nobody's.
fn left_over(room: &Room) -> &[BTreeSet<u32>] {
    match room.servers.len() {
        0 => &room.free,
        servers => {
            let share = room.free.len() / servers;
            if share == 0 { &[] } else { &room.free[share * servers..] }
        }
    }
}

/// The CPU lists that a plotter's inventory gives, each with what it is for.
pub fn by_hand(plotter: &Plotter) -> impl Iterator<Item = (String, &Spanned<BTreeSet<u32>>)> {
    let servers = plotter.plot_servers.iter().enumerate();
    let servers =
        servers.filter_map(|(index, server)| Some((format!("plot-server {index}"), server.cpus.as_ref()?)));
    let caches =
        [("sharded-cache", &plotter.sharded_cache), ("full-piece-sharded-cache", &plotter.full_piece_cache)];
    let caches =
        caches.into_iter().filter_map(|(name, cache)| Some((name.to_string(), cache.cpus.as_ref()?)));
    servers.chain(caches)
}

impl Affinity {
    /// The kernel's notation of its CPUs.
    pub fn list(&self) -> String {
        cpu_list(&self.cpus)
    }
}

#[cfg(test)]
mod tests;
