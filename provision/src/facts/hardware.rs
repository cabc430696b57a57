//! The machine of a host: CPUs, NUMA nodes, memory, GPUs and their driver, network. From sysfs first; what the driver's own
//! tool says fills the gaps and is compared. Pure parsers of the script's sections: what is not understood is absent.

use super::reply::{parse_version, rows};
use crate::topology::smi::{self, GpuRow};
use crate::topology::{CPUS_MAX, cpu_list, parse_cpus, physical_cores};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Most GPUs, NUMA nodes and network interfaces of a host that are looked at.
const DEVICES_MAX: usize = 1024;

/// A NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// Its number.
    pub node: u32,
    /// Its CPUs; none of a node that has memory only.
    pub cpus: BTreeSet<u32>,
    /// Its memory.
    pub memory_bytes: Option<u64>,
}

/// A GPU that programs can use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// What `CUDA_VISIBLE_DEVICES` calls it when CUDA counts in the order of the PCI bus.
    pub index: u16,
    /// "0000:41:00.0".
    pub pci: Option<String>,
    /// "NVIDIA GeForce RTX 4090".
    pub model: Option<String>,
    /// Memory of the card.
    pub memory_bytes: Option<u64>,
    /// The NUMA node that it is plugged into, where the kernel knows one.
    pub numa_node: Option<u32>,
    /// CPUs near it.
    pub cpus: BTreeSet<u32>,
}

/// A network interface that has a speed or an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceFacts {
    /// "eth0".
    pub name: String,
    /// What its link was negotiated to; none when it is down or virtual.
    pub megabits: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What a host is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// CPUs that are on-line.
    pub cpus_online: BTreeSet<u32>,
    /// CPUs that a cgroup leaves us; empty when the kernel does not tell.
    pub cpus_allowed: BTreeSet<u32>,
    /// SMT siblings of each CPU.
    pub siblings: BTreeMap<u32, BTreeSet<u32>>,
    /// NUMA nodes.
    pub numa_nodes: Vec<NumaNode>,
    /// Memory that we may use: the machine's, or what a cgroup leaves us.
    pub memory_bytes: Option<u64>,
    /// GPUs that a driver serves, by index.
    pub gpus: Vec<GpuFacts>,
    /// NVIDIA cards (PCI addresses) that no driver serves.
    pub gpus_without_driver: Vec<String>,
    /// Version of the NVIDIA driver.
    pub driver: Option<(u32, u32, u32)>,
    /// What `nvidia-smi topo -m` says, for comparison.
    pub smi: Vec<GpuRow>,
    /// Network interfaces.
    pub interfaces: Vec<InterfaceFacts>,
}

/// The sections of the script's reply that tell of hardware.
#[derive(Debug, Default)]
pub(super) struct Sections<'a> {
    pub(super) cpus: &'a str,
    pub(super) memory: &'a str,
    pub(super) gpus: &'a str,
    pub(super) gpu_driver: &'a str,
    pub(super) smi_gpus: &'a str,
    pub(super) smi_topology: &'a str,
    pub(super) network: &'a str,
}

impl Hardware {
    /// CPUs that programs can run on.
    pub fn usable_cpus(&self) -> BTreeSet<u32> {
        match self.cpus_allowed.is_empty() {
            true => self.cpus_online.clone(),
            false => &self.cpus_online & &self.cpus_allowed,
        }
    }

    /// The physical cores among `cpus` that programs can run on, by their first CPU.
    pub fn cores(&self, cpus: &BTreeSet<u32>) -> Vec<BTreeSet<u32>> {
        physical_cores(&(cpus & &self.usable_cpus()), &self.siblings)
    }

    /// NUMA nodes with a CPU that programs can run on. A kernel that tells of none has one node with all CPUs.
    pub fn nodes(&self) -> Vec<NumaNode> {
        let usable = self.usable_cpus();
        let nodes =
            self.numa_nodes.iter().map(|node| NumaNode { cpus: &node.cpus & &usable, ..node.clone() });
        let nodes: Vec<_> = nodes.filter(|node| !node.cpus.is_empty()).collect();
        match nodes.is_empty() && !usable.is_empty() {
            true => vec![NumaNode { node: 0, cpus: usable, memory_bytes: self.memory_bytes }],
            false => nodes,
        }
    }

    /// A GPU by its index.
    pub fn gpu(&self, index: u16) -> Option<&GpuFacts> {
        self.gpus.iter().find(|gpu| gpu.index == index)
    }

    /// The NUMA node of a GPU: the kernel's word, else that of the CPUs near it, else the driver's tool's.
    pub fn node_of_gpu(&self, gpu: &GpuFacts) -> Option<u32> {
        let of_cpus = |cpus: &BTreeSet<u32>| {
            let all = self.nodes();
            let near: Vec<_> = all.iter().filter(|node| !node.cpus.is_disjoint(cpus)).collect();
            // CPUs of every node are near nothing in particular.
            if near.len() == 1 { Some(near[0].node) } else { None }
        };
        let row = self.smi.iter().find(|row| row.gpu == gpu.index);
        gpu.numa_node
            .or_else(|| of_cpus(&gpu.cpus))
            .or_else(|| row.and_then(|row| row.numa_node))
            .or_else(|| row.and_then(|row| of_cpus(&row.cpus)))
    }

    /// "192 on-line, 96 cores with SMT".
    pub fn cpus_text(&self) -> String {
        let usable = self.usable_cpus();
        let cores = self.cores(&usable).len();
        let smt = if cores < usable.len() { " with SMT" } else { "" };
        let limited = match usable.len() < self.cpus_online.len() {
            true => format!(" (of {}; a cgroup leaves {})", self.cpus_online.len(), cpu_list(&usable)),
            false => String::new(),
        };
        format!("{}{limited}, {}{smt}", usable.len(), crate::error::count(cores, "core"))
    }

    pub(super) fn parse(sections: &Sections<'_>) -> Self {
        let (cpus_online, cpus_allowed, siblings, mut numa_nodes) = parse_cpu_section(sections.cpus);
        let memory_bytes = parse_memory(sections.memory, &mut numa_nodes);
        let smi_gpus = parse_smi_gpus(sections.smi_gpus);
        let of_kernel = sections.gpu_driver.lines().find(|line| line.contains("NVRM")).map(parse_version);
        let driver = of_kernel.or_else(|| smi_gpus.first().map(|gpu| parse_version(&gpu.driver)));
        let (gpus, gpus_without_driver) = join_gpus(sections.gpus, sections.gpu_driver, &smi_gpus);
        Self {
            cpus_online,
            cpus_allowed,
            siblings,
            numa_nodes,
            memory_bytes,
            gpus,
            gpus_without_driver,
            driver: driver.filter(|driver| *driver != (0, 0, 0)),
            smi: smi::parse(sections.smi_topology).unwrap_or_default(),
            interfaces: parse_network(sections.network),
        }
    }
}

type Cpus = (BTreeSet<u32>, BTreeSet<u32>, BTreeMap<u32, BTreeSet<u32>>, Vec<NumaNode>);

/// Lines of `grep`: PATH:VALUE.
fn parse_cpu_section(text: &str) -> Cpus {
    let (mut online, mut allowed) = (BTreeSet::new(), BTreeSet::new());
    let (mut siblings, mut nodes) = (BTreeMap::new(), BTreeMap::new());
    for (path, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let mut parts = path.rsplit('/');
        match (parts.next(), parts.next()) {
            (Some("online"), Some("cpu")) => online = parse_cpus(value),
            (Some("status"), _) => {
                if let Some(list) = value.strip_prefix("Cpus_allowed_list:") {
                    allowed = parse_cpus(list);
                }
            }
            (Some("thread_siblings_list"), _) => {
                if let Some(cpu) = parts.next().and_then(|cpu| number_behind(cpu, "cpu"))
                    && cpu < CPUS_MAX
                {
                    siblings.insert(cpu, parse_cpus(value));
                }
            }
            (Some("cpulist"), Some(node)) => {
                if let Some(node) = number_behind(node, "node")
                    && nodes.len() < DEVICES_MAX
                {
                    nodes.insert(node, parse_cpus(value));
                }
            }
            _ => {}
        }
    }
    let nodes = nodes.into_iter().map(|(node, cpus)| NumaNode { node, cpus, memory_bytes: None });
    (online, allowed, siblings, nodes.collect())
}

fn number_behind(text: &str, word: &str) -> Option<u32> {
    text.strip_prefix(word)?.parse().ok()
}

/// The memory of the machine, or of the cgroup where that is less; that of each node is put into it.
fn parse_memory(text: &str, nodes: &mut [NumaNode]) -> Option<u64> {
    let kib = |line: &str| {
        let (_, value) = line.split_once("MemTotal:")?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let mut memory = None;
    for (path, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let mut parts = path.rsplit('/');
        match (parts.next(), parts.next()) {
            (Some("meminfo"), Some("proc")) => memory = kib(value),
            (Some("meminfo"), Some(node)) => {
                let number = number_behind(node, "node");
                if let Some(node) = nodes.iter_mut().find(|node| Some(node.node) == number) {
                    node.memory_bytes = kib(value);
                }
            }
            (Some("memory.max"), _) => {
                // "max" where there is no limit.
                let limit = value.trim().parse::<u64>().ok();
                memory = memory.map(|memory: u64| memory.min(limit.unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }
    memory
}

/// A line of `nvidia-smi --query-gpu=index,pci.bus_id,name,memory.total,driver_version`.
struct SmiGpu {
    index: u16,
    pci: String,
    model: String,
    memory_bytes: Option<u64>,
    driver: String,
}

fn parse_smi_gpus(text: &str) -> Vec<SmiGpu> {
    let line = |line: &str| {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        let [index, pci, model @ .., memory, driver] = &fields[..] else { return None };
        let memory = memory.parse::<u64>().ok().and_then(|mib| mib.checked_mul(1 << 20));
        Some(SmiGpu {
            index: index.parse().ok()?,
            pci: pci_address(pci)?,
            model: model.join(", "),
            memory_bytes: memory,
            driver: (*driver).to_string(),
        })
    };
    text.lines().filter_map(line).take(DEVICES_MAX).collect()
}

/// The kernel's form of a PCI address, "0000:41:00.0"; nvidia-smi writes "00000000:41:00.0".
fn pci_address(text: &str) -> Option<String> {
    let (domain, rest) = text.split_once(':')?;
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (bus, slot) = rest.split_once(':')?;
    let (device, function) = slot.split_once('.')?;
    if domain.len() > 8 || ![domain, bus, device, function].into_iter().all(hex) {
        return None;
    }
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_ascii_lowercase()))
}

/// Puts together what sysfs, the driver and its tool know of the GPUs; the second list are cards that no driver serves.
fn join_gpus(sysfs: &str, driver: &str, smi: &[SmiGpu]) -> (Vec<GpuFacts>, Vec<String>) {
    let cards = rows(sysfs).filter_map(|row| {
        let [pci, _class, node, cpus] = row[..] else { return None };
        // -1: the firmware does not say.
        Some((pci_address(pci)?, (node.trim().parse::<u32>().ok(), parse_cpus(cpus.trim()))))
    });
    let cards: BTreeMap<String, (Option<u32>, BTreeSet<u32>)> = cards.take(DEVICES_MAX).collect();
    let served = served_cards(driver);
    let devices: BTreeSet<u16> = driver
        .lines()
        .filter_map(|line| line.rsplit_once("/dev/nvidia")?.1.trim().parse().ok())
        .take(DEVICES_MAX)
        .collect();
    let with_card = |mut gpu: GpuFacts| {
        if let Some((node, cpus)) = gpu.pci.as_ref().and_then(|pci| cards.get(pci)) {
            (gpu.numa_node, gpu.cpus) = (*node, cpus.clone());
        }
        gpu
    };
    let gpus: Vec<_> = if !smi.is_empty() {
        let gpu = |gpu: &SmiGpu| GpuFacts {
            index: gpu.index,
            pci: Some(gpu.pci.clone()),
            model: Some(gpu.model.clone()),
            memory_bytes: gpu.memory_bytes,
            ..GpuFacts::default()
        };
        smi.iter().map(gpu).map(with_card).collect()
    } else if !served.is_empty() {
        // A container is given some of the cards: those whose device it has.
        let ours = served.iter().filter(|(_, (_, minor))| {
            devices.is_empty() || minor.is_none_or(|minor| devices.contains(&minor))
        });
        let gpu = |(index, (pci, (model, _))): (u16, (&String, &ServedCard))| GpuFacts {
            index,
            pci: Some(pci.clone()),
            model: model.clone(),
            ..GpuFacts::default()
        };
        (0..).zip(ours).map(gpu).map(with_card).collect()
    } else {
        devices.iter().map(|index| GpuFacts { index: *index, ..GpuFacts::default() }).collect()
    };
    let known: BTreeSet<_> = gpus.iter().filter_map(|gpu| gpu.pci.as_ref()).collect();
    let nothing_known = known.is_empty() && !gpus.is_empty();
    let bare =
        cards.keys().filter(|pci| !nothing_known && !known.contains(pci) && !served.contains_key(*pci));
    let bare = bare.cloned().collect();
    (gpus, bare)
}

/// Model and number of the device of a card that the driver serves.
type ServedCard = (Option<String>, Option<u16>);

/// The cards of `/proc/driver/nvidia/gpus`: PCI address, then model and number of the device.
fn served_cards(text: &str) -> BTreeMap<String, ServedCard> {
    let mut served: BTreeMap<String, ServedCard> = BTreeMap::new();
    for line in text.lines() {
        let Some((path, said)) = line.split_once("/information:") else { continue };
        let (Some(pci), Some((key, value))) =
            (path.rsplit('/').next().and_then(pci_address), said.split_once(':'))
        else {
            continue;
        };
        if served.len() >= DEVICES_MAX {
            break;
        }
        let card = served.entry(pci).or_default();
        match key.trim() {
            "Model" => card.0 = Some(value.trim().to_string()),
            "Device Minor" => card.1 = value.trim().parse().ok(),
            _ => {}
        }
    }
    served
}

/// Speeds (PATH:MEGABITS), then lines of `ip -o addr show` (`4: eth0    inet 192.168.1.4/24 …`).
fn parse_network(text: &str) -> Vec<InterfaceFacts> {
    let mut interfaces: BTreeMap<String, InterfaceFacts> = BTreeMap::new();
    for line in text.lines() {
        if let Some((path, megabits)) = line.split_once("/speed:") {
            let name = path.rsplit('/').next().unwrap_or_default();
            // -1: it is down, or has no cable.
            let megabits = megabits.trim().parse().ok().filter(|megabits| *megabits > 0);
            if megabits.is_some() && interfaces.len() < DEVICES_MAX {
                interfaces.entry(name.to_string()).or_default().megabits = megabits;
            }
            continue;
        }
        let mut words = line.split_whitespace().skip(1);
        let (Some(name), Some("inet" | "inet6"), Some(address)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // A peer's address has no length of a prefix.
        let address = address.split_once('/').map_or(address, |(address, _)| address);
        if let Ok(address) = address.parse()
            && interfaces.len() < DEVICES_MAX
        {
            // "eth0@if7" is the kernel's way of naming one end of a pair.
            let name = name.split_once('@').map_or(name, |(name, _)| name);
            interfaces.entry(name.to_string()).or_default().addresses.push(address);
        }
    }
    let named = interfaces.into_iter().map(|(name, interface)| InterfaceFacts { name, ..interface });
    named.collect()
}

#[cfg(test)]
mod tests;
