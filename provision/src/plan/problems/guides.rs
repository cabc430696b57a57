//! What the guides ask of a machine for farming in earnest. Being below it is slow, not wrong: warnings.
//!
//! A development chain's toy sectors on a laptop are not measured by it: it counts where GPUs plot, or where sectors have
//! the network's size.

use crate::derive::farms::gigabytes;
use crate::derive::placement::{CORES_PER_GPU, placements};
use crate::error::count;
use crate::facts::HostFacts;
use crate::inventory::{Diagnostic, Span};
use crate::resolve::{Cluster, Host};
use std::path::Path;

/// Pieces in a sector of the network.
const PIECES_OF_THE_NETWORK: u16 = 1000;
/// Memory for each GPU: 64 GB.
const BYTES_PER_GPU: u64 = 64_000_000_000;
/// CPUs and memory of a node host.
const NODE_CPUS: usize = 64;
/// Disk of a node host: 500 GiB.
const NODE_DISK: u64 = 500 << 30;
/// Disk for what is plotted: 1 TiB (20 GiB in the first edition of the guides, which is no longer enough).
const PLOTTER_DISK: u64 = 1 << 40;
/// Mbit/s of a node host's link.
const NODE_MEGABITS: u32 = 1_000;
/// Mbit/s of a plotter's or storage host's link.
const BULK_MEGABITS: u32 = 20_000;

pub(super) fn check(cluster: &Cluster, host: &Host, facts: &HostFacts, warnings: &mut Vec<Diagnostic>) {
    let of_servers = host.plotter.iter().flat_map(|plotter| placements(plotter, facts).plot_servers);
    let gpus = of_servers.filter(|server| server.gpu.value.is_some()).count();
    let full_size = cluster.pieces_in_sector() >= PIECES_OF_THE_NETWORK;
    if gpus == 0 && !full_size {
        return;
    }
    let mut below = |span: Span, message: String| {
        warnings.push(Diagnostic::warning("below-the-guides", span, message));
    };
    let span = host.name.span;
    let cpus = facts.hardware.usable_cpus().len();
    let memory = facts.hardware.memory_bytes;
    if let (true, Some(memory)) = (gpus > 0 && cpus > 0, memory) {
        // A CPU is a hardware thread: the guides' own plotter has 4 GPUs, 96 cores and 192 threads.
        let (want_cpus, want_memory) = (gpus * CORES_PER_GPU, gpus as u64 * BYTES_PER_GPU);
        let many = count(gpus, "GPU");
        if cpus < want_cpus {
            below(
                span,
                format!("{many} x {CORES_PER_GPU} = {want_cpus} CPUs are asked for, there are {cpus}"),
            );
        }
        if memory < want_memory {
            let (want, each, has) = (gigabytes(want_memory), gigabytes(BYTES_PER_GPU), gigabytes(memory));
            below(span, format!("{many} x {each} = {want} of memory are asked for, there are {has}"));
        }
    }
    if let (Some(_), true, true) = (&host.node, full_size, cpus > 0) {
        if cpus < NODE_CPUS {
            below(span, format!("a node host has {NODE_CPUS} CPUs, this one {cpus}"));
        }
        if let Some(memory) = memory.filter(|memory| *memory < BYTES_PER_GPU) {
            below(
                span,
                format!(
                    "a node host has {} of memory, this one {}",
                    gigabytes(BYTES_PER_GPU),
                    gigabytes(memory)
                ),
            );
        }
    }
    disks(host, facts, gpus > 0, full_size, &mut below);
    if cluster.hosts.len() > 1 {
        link(host, facts, &mut below);
    }
}

fn disks(host: &Host, facts: &HostFacts, gpus: bool, full_size: bool, below: &mut impl FnMut(Span, String)) {
    // A disk is sold in powers of ten, and its file system takes some of it.
    let short = |wanted: u64| wanted / 10 * 9;
    let mut size = |path: &Path, span: Span, what: &str, wanted: u64| {
        let Some(facts) = facts.path(path) else { return };
        if let Some(size) = facts.size_bytes.filter(|size| *size < short(wanted)) {
            let (wanted, size, mount) = (gigabytes(wanted), gigabytes(size), facts.mount.display());
            below(span, format!("an SSD of {wanted} is asked for {what}, {mount} has {size}"));
        }
    };
    if host.node.is_some() && full_size {
        size(&host.prefix, host.name.span, "a node host", NODE_DISK);
    }
    if let Some(plotter) = host.plotter.as_ref().filter(|_| gpus) {
        let cache = &plotter.full_piece_cache.path;
        size(&cache.value, cache.span, "a plotter's caches", PLOTTER_DISK);
    }
    let farms = host.storage.iter().flat_map(|storage| &storage.farms).map(|farm| ("farm", &farm.path));
    let spools =
        host.plotter.iter().flat_map(|plotter| &plotter.plot_servers).map(|server| ("spool", &server.path));
    for (what, path) in farms.chain(spools) {
        if facts.path(&path.value).is_some_and(|facts| facts.rotational == Some(true)) {
            let path_shown = path.value.display();
            below(path.span, format!("the {what} {path_shown} is on a disk that turns: an SSD is asked for"));
        }
    }
}

fn link(host: &Host, facts: &HostFacts, below: &mut impl FnMut(Span, String)) {
    let address = &host.address.value;
    let with_address =
        facts.hardware.interfaces.iter().find(|interface| interface.addresses.contains(address));
    let Some((interface, megabits)) = with_address.and_then(|with| Some((&with.name, with.megabits?))) else {
        return;
    };
    let bulk = host.plotter.is_some() || host.storage.is_some();
    let wanted = if bulk { BULK_MEGABITS } else { NODE_MEGABITS };
    if megabits < wanted {
        let gigabits = |megabits: u32| f64::from(megabits) / 1000.0;
        let (wanted, has) = (gigabits(wanted), gigabits(megabits));
        below(host.address.span, format!("{wanted} Gbit/s are asked for, {interface} ({address}) has {has}"));
    }
}
