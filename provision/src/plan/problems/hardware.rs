//! GPUs, their driver and CPU lists against what a host has.

use crate::derive::placement::{Placement, by_hand, placements};
use crate::error::Problem;
use crate::facts::{Hardware, HostFacts};
use crate::inventory::{Diagnostic, Spanned};
use crate::resolve::{Host, Plotter};
use crate::topology::{cpu_list, physical_cores};
use std::collections::BTreeSet;

/// Oldest NVIDIA driver that runs CUDA 12 (guides).
const DRIVER_MIN: (u32, u32, u32) = (525, 60, 13);

pub(super) fn check(
    host: &Host,
    facts: &HostFacts,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Diagnostic>,
) {
    gpus(host, &facts.hardware, problems);
    let Some(plotter) = &host.plotter else { return };
    let placements = placements(plotter, facts).plot_servers;
    lists(host, plotter, facts, problems, warnings);
    nodes(plotter, &placements, &facts.hardware, problems);
    for gpu in placements.iter().filter_map(|placement| placement.gpu.value) {
        contradictions(host, gpu, &facts.hardware, warnings);
    }
}

fn gpus(host: &Host, hardware: &Hardware, problems: &mut Vec<Problem>) {
    let servers =
        host.plotter.iter().flat_map(|plotter| plotter.plot_servers.iter().filter_map(|server| server.gpu));
    let prover = host.node.iter().filter_map(|node| node.proof_server.gpu);
    let name = &host.name.value;
    for gpu in servers.chain(prover) {
        if hardware.gpu(gpu.value).is_some() {
            continue;
        }
        let has = match hardware.gpus.len() {
            0 => "none".to_string(),
            _ => hardware.gpus.iter().map(|gpu| gpu.index.to_string()).collect::<Vec<_>>().join(", "),
        };
        let hint = match hardware.gpus_without_driver.first() {
            Some(card) => format!(
                "no driver serves the card at {card}: install NVIDIA's, {} or newer",
                text(DRIVER_MIN)
            ),
            None => format!("it has {has}; leave `gpu:` out to use the CPU"),
        };
        let message = format!("there is no GPU {} on host `{name}`", gpu.value);
        problems.push(Problem { code: "no-gpu", message, hint });
    }
    let uses_gpus =
        host.plotter.is_some() || host.node.as_ref().is_some_and(|node| node.proof_server.gpu.is_some());
    if let Some(driver) = hardware.driver.filter(|driver| *driver < DRIVER_MIN && uses_gpus)
        && !hardware.gpus.is_empty()
    {
        problems.push(Problem {
            code: "driver",
            message: format!(
                "host `{name}` has NVIDIA driver {}: CUDA 12 needs {}",
                text(driver),
                text(DRIVER_MIN)
            ),
            hint: "install a newer one (`ubuntu-drivers install`, or from NVIDIA), then reboot".to_string(),
        });
    }
}

/// "525.60.13".
pub(crate) fn text((major, minor, patch): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{patch:02}")
}

/// CPU lists by hand: on-line, allowed, and not on the halves of the same cores.
fn lists(
    host: &Host,
    plotter: &Plotter,
    facts: &HostFacts,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Diagnostic>,
) {
    let hardware = &facts.hardware;
    let usable = hardware.usable_cpus();
    let lists: Vec<(String, &Spanned<BTreeSet<u32>>)> = by_hand(plotter).collect();
    if !lists.is_empty() && facts.numactl.is_none() {
        problems.push(Problem {
            code: "no-numactl",
            message: format!("`cpus:` of host `{}` needs numactl, which is not there", host.name.value),
            hint: "`apt-get install numactl` there, or leave `cpus:` out".to_string(),
        });
    }
    for (index, (what, cpus)) in lists.iter().enumerate() {
        let gone = &cpus.value - &usable;
        if !gone.is_empty() && !usable.is_empty() {
            let online = cpu_list(&hardware.cpus_online);
            let may =
                if gone.is_subset(&hardware.cpus_online) { "may not be used" } else { "are not on-line" };
            problems.push(Problem {
                code: "cpus-off-line",
                message: format!("CPUs {} of {what} {may} on host `{}`", cpu_list(&gone), host.name.value),
                hint: match usable == hardware.cpus_online {
                    true => format!("it has {online}; or leave `cpus:` out"),
                    false => format!("it has {online}, and a cgroup leaves {}", cpu_list(&usable)),
                },
            });
        }
        let cores = |cpus: &BTreeSet<u32>| -> BTreeSet<u32> {
            let siblings = |cpu: &u32| hardware.siblings.get(cpu).cloned().unwrap_or_default();
            cpus.iter().flat_map(siblings).chain(cpus.iter().copied()).collect()
        };
        for (other, theirs) in &lists[..index] {
            let shared = &cores(&theirs.value) & &cpus.value;
            // That the lists themselves overlap is told by the check of the inventory.
            let shared = &shared - &theirs.value;
            if !shared.is_empty() {
                let halves = physical_cores(&cores(&shared), &hardware.siblings).len();
                let message = format!(
                    "{what} runs on the other halves of {} that {other} has: CPUs {} are SMT siblings of its own",
                    crate::error::count(halves, "core"),
                    cpu_list(&shared)
                );
                warnings.push(Diagnostic::warning("shared-cores", cpus.span, message));
            }
        }
    }
}

/// Lists by hand that are not on the node of the plot-server's GPU.
fn nodes(plotter: &Plotter, placements: &[Placement], hardware: &Hardware, problems: &mut Vec<Problem>) {
    for (index, (server, placement)) in plotter.plot_servers.iter().zip(placements).enumerate() {
        let (Some(cpus), Some(gpu)) = (&server.cpus, placement.gpu.value) else { continue };
        let home = hardware.gpu(gpu).and_then(|gpu| hardware.node_of_gpu(gpu));
        let all = hardware.nodes();
        let Some(node) = all.iter().find(|node| Some(node.node) == home) else { continue };
        let elsewhere = &(&cpus.value - &node.cpus) & &hardware.usable_cpus();
        if elsewhere.is_empty() {
            continue;
        }
        let theirs: Vec<_> = all
            .iter()
            .filter(|other| !other.cpus.is_disjoint(&elsewhere))
            .map(|other| other.node.to_string())
            .collect();
        problems.push(Problem {
            code: "wrong-numa-node",
            message: format!(
                "CPUs {} of plot-server {index} are on NUMA node {}, its GPU {gpu} is on node {}",
                cpu_list(&elsewhere),
                theirs.join(" and "),
                node.node
            ),
            hint: format!("take them from {}, or leave `cpus:` out", cpu_list(&node.cpus)),
        });
    }
}

/// What the kernel and nvidia-smi say differently of a GPU.
fn contradictions(host: &Host, gpu: u16, hardware: &Hardware, warnings: &mut Vec<Diagnostic>) {
    let row = hardware.smi.iter().find(|row| row.gpu == gpu);
    let (Some(card), Some(row)) = (hardware.gpu(gpu), row) else { return };
    if let (Some(kernel), Some(smi)) = (card.numa_node, row.numa_node)
        && kernel != smi
    {
        let message = format!(
            "GPU {gpu} is on NUMA node {kernel} for the kernel and on {smi} for nvidia-smi; the kernel's word is taken"
        );
        warnings.push(Diagnostic::warning("numa-node", host.name.span, message));
    }
}
