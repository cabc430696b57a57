//! Whether a host is fit for its plan, before anything is touched. Pure.

use crate::check;
use crate::error::Problem;
use crate::facts::{HostFacts, farm_bytes};
use crate::inventory::{Binaries, Diagnostic};
use crate::layout::Layout;
use crate::resolve::{Cluster, Host};
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes that the prefix needs beside the farms: binaries, logs, the chain, the caches of a young one.
const PREFIX_BYTES_MIN: u64 = 3 << 30;

/// Everything that makes a host unfit for its plan, and warnings that do not.
pub fn problems(cluster: &Cluster, host: &Host, facts: &HostFacts) -> (Vec<Problem>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    taken_ports(host, facts, &mut problems);
    paths(host, facts, &mut problems);
    space(cluster, host, facts, &mut problems);
    binaries(cluster, facts, &mut problems);
    let mut warnings = Vec::new();
    gpus(host, facts, &mut problems);
    file_systems(host, facts, &mut warnings);
    if let Some(unreadable) = facts.supervisor.as_ref().and_then(|supervisor| supervisor.unreadable.as_ref())
    {
        // Harmless when the plan rewrites the broken file, and found again by the reload when it does not.
        let span = host.name.span;
        warnings.push(Diagnostic::warning(
            "supervisor",
            span,
            format!("its configuration is broken: {unreadable}"),
        ));
    }
    (problems, warnings)
}

fn taken_ports(host: &Host, facts: &HostFacts, problems: &mut Vec<Problem>) {
    for used in check::ports(host) {
        let foreign = facts.ports.iter().find(|taken| {
            let ours = taken.pid.is_some_and(|pid| facts.processes.iter().any(|process| process.pid == pid));
            taken.port == used.port && !ours
        });
        let Some(taken) = foreign else { continue };
        let (who, stop) = match taken.pid {
            Some(pid) => (format!("process {pid} ({})", taken.program), format!("stop it (`kill {pid}`)")),
            None => (
                "a process of another user".to_string(),
                format!("find it (`sudo ss -ltnp 'sport = :{}'`)", used.port),
            ),
        };
        problems.push(Problem {
            code: "port-taken",
            message: format!("port {} of {} is taken by {who}", used.port, used.purpose),
            hint: format!(
                "{stop}, or give {} another port in the inventory, or shift all with --port-offset",
                used.purpose
            ),
        });
    }
}

fn paths(host: &Host, facts: &HostFacts, problems: &mut Vec<Problem>) {
    let prefix = facts.paths.iter().find(|path| path.path == host.prefix);
    for path in &facts.paths {
        // What is wrong with the prefix is said once, not for each path that is yet to be made below it.
        if path.path != host.prefix
            && path.path.starts_with(&host.prefix)
            && prefix.is_some_and(|prefix| prefix.there == path.there)
        {
            continue;
        }
        let shown = path.path.display();
        let own = path.path.starts_with(&host.prefix);
        if !path.directory {
            problems.push(Problem {
                code: "not-a-directory",
                message: format!("{shown}: {} is not a directory", path.there.display()),
                hint: "choose another directory: --prefix, or `path:` in the inventory".to_string(),
            });
        } else if !path.writable {
            problems.push(Problem {
                code: "not-writable",
                message: format!("{shown}: {} is not writable for user {}", path.there.display(), facts.uid),
                hint: "choose another directory with --prefix, or mend its owner and mode".to_string(),
            });
        } else if !own && path.there != path.path {
            problems.push(Problem {
                code: "no-directory",
                message: format!("{shown} does not exist"),
                hint: format!("mount the disk, or make the directory: mkdir -p {shown}"),
            });
        }
    }
}

fn space(cluster: &Cluster, host: &Host, facts: &HostFacts, problems: &mut Vec<Problem>) {
    let of = |wanted: &Path| facts.paths.iter().find(|path| path.path == wanted);
    let installed = facts.directories.contains(&Layout::of(host).data());
    let mut wants = vec![(of(&host.prefix), if installed { 0 } else { PREFIX_BYTES_MIN })];
    let pieces = cluster.pieces_in_sector();
    for farm in host.storage.iter().flat_map(|storage| &storage.farms) {
        wants.push((of(&farm.path.value), farm_bytes(farm.space.value, pieces)));
    }
    let mut needed: BTreeMap<&Path, (u64, u64)> = BTreeMap::new();
    for (path, bytes) in wants {
        let Some((path, free)) = path.and_then(|path| Some((path, path.free_bytes?))) else { continue };
        let (_, sum) = needed.entry(&path.mount).or_insert((free, 0));
        *sum += bytes.saturating_sub(path.used_bytes);
    }
    for (mount, (free, wanted)) in needed {
        if wanted > free {
            problems.push(Problem {
                code: "disk-too-small",
                message: format!(
                    "{}: {wanted} bytes are needed ({:.2} GiB), {free} are free ({:.2} GiB)",
                    mount.display(),
                    wanted as f64 / f64::from(1 << 30),
                    free as f64 / f64::from(1 << 30),
                ),
                hint: "fewer `sectors:`, or another disk".to_string(),
            });
        }
    }
}

fn binaries(cluster: &Cluster, facts: &HostFacts, problems: &mut Vec<Problem>) {
    match &cluster.binaries {
        Binaries::Build if facts.build.workspace.is_none() => problems.push(Problem {
            code: "no-workspace",
            message: "there is no workspace to build from in this directory or above it".to_string(),
            hint:
                "run this in a checkout, or name built binaries: `binaries: {farmer: PATH, dev_node: PATH}`"
                    .to_string(),
        }),
        Binaries::Build => {}
        Binaries::Files { .. } => {
            for (name, path) in &facts.build.executables {
                if !facts.build.digests.contains_key(name) {
                    problems.push(Problem {
                        code: "no-binary",
                        message: format!("there is no {name} at {}", path.display()),
                        hint: "mend its path under `binaries:`".to_string(),
                    });
                }
            }
        }
    }
}

fn gpus(host: &Host, facts: &HostFacts, problems: &mut Vec<Problem>) {
    let servers =
        host.plotter.iter().flat_map(|plotter| plotter.plot_servers.iter().filter_map(|server| server.gpu));
    let prover = host.node.iter().filter_map(|node| node.proof_server.gpu);
    for gpu in servers.chain(prover) {
        if !facts.gpus.contains(&gpu.value) {
            problems.push(Problem {
                code: "no-gpu",
                message: format!("there is no GPU {} on host `{}`", gpu.value, host.name.value),
                hint: format!(
                    "it has {} (/dev/nvidia*); leave `gpu:` out to use the CPU",
                    match facts.gpus.len() {
                        0 => "none".to_string(),
                        _ => facts.gpus.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
                    }
                ),
            });
        }
    }
}

fn file_systems(host: &Host, facts: &HostFacts, warnings: &mut Vec<Diagnostic>) {
    for farm in host.storage.iter().flat_map(|storage| &storage.farms) {
        let Some(path) = facts.paths.iter().find(|path| path.path == farm.path.value) else { continue };
        if path.file_system == "tmpfs" {
            let message = format!(
                "the farm {} is on {}: it is lost at a reboot",
                path.path.display(),
                path.file_system
            );
            warnings.push(Diagnostic::warning("file-system", farm.path.span, message));
        }
    }
}
