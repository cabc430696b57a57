//! What runs on plotters: GPUs, CPUs, names of programs, sizes of caches.

use crate::derive::{self, Role};
use crate::facts::HostFacts;
use crate::inventory::{DevChain, Diagnostic, Span};
use crate::resolve::{Cache, Cluster, Host, Plotter};
use std::collections::HashMap;

/// Disk that the corrected guide asks for on a plotter of the live network: 1 TiB, where its first edition said 20 GiB.
const CACHE_BYTES_MIN: u64 = 1 << 40;

pub(super) fn check(cluster: &Cluster, host: &Host, findings: &mut Vec<Diagnostic>) {
    let Some(plotter) = &host.plotter else { return };
    check_programs(cluster, host, plotter, findings);
    check_gpus(plotter, findings);
    // A development chain is as small as its cache may be.
    if cluster.dev_chain == DevChain::default() {
        check_cache("sharded cache", &plotter.sharded_cache, findings);
        check_cache("full copy", &plotter.full_piece_cache, findings);
    }
}

fn check_gpus(plotter: &Plotter, findings: &mut Vec<Diagnostic>) {
    let mut taken: HashMap<u16, Span> = HashMap::new();
    for gpu in plotter.plot_servers.iter().filter_map(|server| server.gpu) {
        match taken.get(&gpu.value) {
            None => {
                taken.insert(gpu.value, gpu.span);
            }
            Some(first) => {
                let message = format!("GPU {} has two plot-servers", gpu.value);
                let finding = Diagnostic::error("duplicate-gpu", gpu.span, message);
                findings.push(finding.also(*first, "first here").hint("one plot-server per GPU"));
            }
        }
    }
    // One without `gpu:` takes that of its place.
    for (place, server) in (0u16..).zip(&plotter.plot_servers) {
        if let (None, Some(first)) = (server.gpu, taken.get(&place)) {
            let message =
                format!("plot-server {place} names no GPU, and that of its place, {place}, has one already");
            let finding = Diagnostic::error("duplicate-gpu", *first, message).label("given to another here");
            findings.push(finding.hint("name the GPU of every plot-server, or of none"));
        }
    }
}

fn check_programs(cluster: &Cluster, host: &Host, plotter: &Plotter, findings: &mut Vec<Diagnostic>) {
    let (programs, _) = derive::programs(cluster, host, &HostFacts::default());
    let mut servers = plotter.plot_servers.iter();
    let mut taken: HashMap<&str, Span> = HashMap::new();
    for program in &programs {
        let server = if program.role == Role::PlotServer { servers.next() } else { None };
        let span = server.map_or(host.name.span, |server| server.name.span);
        let Some(first) = taken.insert(&program.name, span) else { continue };
        // Only the names of plot-servers can be chosen.
        let (here, other) = if span == host.name.span { (first, span) } else { (span, first) };
        let message = format!("two programs of `{}` are called {}", host.name.value, program.name);
        let finding = Diagnostic::error("duplicate-program", here, message);
        let hint = "supervisord would run one of them: leave `name:` out, or give another";
        findings.push(finding.also(other, "the other").hint(hint));
    }
}

fn check_cache(what: &str, cache: &Cache, findings: &mut Vec<Diagnostic>) {
    let Some(size) = cache.size.filter(|size| size.value < CACHE_BYTES_MIN) else { return };
    let piece = primitives::Piece::SIZE as u64;
    let segment = u64::from(primitives::SegmentIndex::NUM_PIECES as u32) * piece;
    let message = format!(
        "{} bytes for the {what} hold {} pieces of {piece} bytes, those of {} segments; 1 TiB holds {} of {}",
        size.value,
        size.value / piece,
        size.value / segment,
        CACHE_BYTES_MIN / piece,
        CACHE_BYTES_MIN / segment,
    );
    let hint = "write `size: 1TiB`: the guides' 20 GiB were a mistake, and plotting waits for every piece that is not there";
    findings.push(Diagnostic::warning("cache-size", size.span, message).hint(hint));
}
