//! Whether a host is fit for its plan, before anything is touched. Pure.

mod disks;
mod guides;
mod hardware;
mod mixed;

use crate::artifacts;
use crate::check;
use crate::error::Problem;
use crate::facts::HostFacts;
use crate::import;
use crate::inventory::{Binaries, Diagnostic};
use crate::resolve::{Cluster, Host};
pub(crate) use hardware::text as driver_text;
pub use mixed::mixed_versions;

/// How far a host's clock may be off before it is warned of, in milliseconds.
const CLOCK_WARNING_MS: u64 = 1_000;
/// How far it may be off at most: a solution has four seconds from its slot on.
const CLOCK_MAX_MS: u64 = 5_000;

/// Everything that makes a host unfit for its plan, and warnings that do not.
pub fn problems(cluster: &Cluster, host: &Host, facts: &HostFacts) -> (Vec<Problem>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    taken_ports(host, facts, &mut problems);
    paths(host, facts, &mut problems);
    binaries(cluster, facts, &mut problems);
    let needs = facts.build.glibc.iter();
    problems.extend(needs.filter_map(|(name, need)| artifacts::too_new(name, need, &facts.libc)));
    problems.extend(import::cut_off(cluster, host, facts));
    let mut warnings = Vec::new();
    disks::check(cluster, host, facts, &mut problems, &mut warnings);
    hardware::check(host, facts, &mut problems, &mut warnings);
    guides::check(cluster, host, facts, &mut warnings);
    clock(host, facts, &mut problems, &mut warnings);
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

fn binaries(cluster: &Cluster, facts: &HostFacts, problems: &mut Vec<Problem>) {
    match &cluster.binaries {
        Binaries::Build if facts.build.workspace.is_none() => problems.push(Problem {
            code: "no-workspace",
            message: "there is no workspace to build from in this directory or above it".to_string(),
            hint:
                "run this in a checkout, or name built binaries: `binaries: {farmer: PATH, dev_node: PATH}`"
                    .to_string(),
        }),
        Binaries::Brought { dev_node: None, .. } if cluster.network.is_none() => problems.push(Problem {
            code: "no-binary",
            message: "`binaries:` names no `dev_node:`, and the chain is a development chain".to_string(),
            hint: "name it beside `farmer:`, or the network that the cluster farms for: `network:`"
                .to_string(),
        }),
        Binaries::Build | Binaries::Brought { .. } => {}
    }
    for (name, _) in cluster.brought() {
        let path = facts.build.executables.get(name);
        if let Some(path) = path.filter(|_| !facts.build.digests.contains_key(name)) {
            problems.push(Problem {
                code: "no-binary",
                message: format!("there is no {name} at {}", path.display()),
                hint: "mend its path in the inventory".to_string(),
            });
        }
    }
}

fn clock(host: &Host, facts: &HostFacts, problems: &mut Vec<Problem>, warnings: &mut Vec<Diagnostic>) {
    let Some(skew) = facts.clock_skew else { return };
    let certain = skew.certain_ms();
    let off = certain.unsigned_abs();
    if off <= CLOCK_WARNING_MS {
        return;
    }
    let message = format!(
        "the clock of host `{}` is at least {:.1} s {} this machine's",
        host.name.value,
        off as f64 / 1000.0,
        if certain > 0 { "ahead of" } else { "behind" }
    );
    let hint = "let both keep time (`apt-get install chrony`, then `chronyc tracking`)";
    if off > CLOCK_MAX_MS {
        problems.push(Problem { code: "clock", message, hint: hint.to_string() });
    } else {
        warnings.push(Diagnostic::warning("clock", host.name.span, format!("{message}: {hint}")));
    }
}
