//! What is wrong with a cluster: each finding with why it matters and what mends it. Composed of what other commands ask.

use crate::apply::{Connection, side_by_side};
use crate::error::Error;
use crate::facts::{self, BuildFacts, HostFacts};
use crate::inventory::Severity;
use crate::journal::Journal;
use crate::layout::Layout;
use crate::resolve::{Cluster, Host};
use crate::status::{self, HostStatus, RoleStatus, Status};
use crate::transport::{Local, Transport};
use crate::{lock, logs, plan};
use serde::Serialize;

/// Below so many free bytes at the prefix, logs and the chain soon fill it.
const FREE_MIN: u64 = 5 << 30;
/// Log lines that are looked through of what is not ready.
const LOG_LINES: usize = 50;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// Host that it is about; none when it is the cluster.
    pub host: Option<String>,
    /// Stable name of the rule.
    pub code: &'static str,
    /// What is wrong.
    pub finding: String,
    /// Why it matters.
    pub why: String,
    /// What mends it.
    pub fix: String,
}

impl Finding {
    fn new(
        severity: Severity,
        code: &'static str,
        finding: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (finding, why, fix) = (finding.into(), why.into(), fix.into());
        Self { severity, host: None, code, finding, why, fix }
    }
}

/// Examines a cluster; the worst comes first. What cannot be asked is a finding, too.
pub async fn examine(cluster: &Cluster, connections: &[Connection<'_>], forks: usize) -> Vec<Finding> {
    let binaries = facts::binaries(cluster, &Local).await;
    let known = binaries.as_ref().ok().cloned().unwrap_or_default();
    let asking = side_by_side(connections, forks, |(host, transport)| {
        let known = &known;
        async move {
            let mut findings = match transport {
                Ok(transport) => of_host(cluster, host, known, &**transport).await,
                Err(error) => {
                    vec![of_error("unreachable", error, "nothing of this host can be seen or changed")]
                }
            };
            for finding in &mut findings {
                finding.host = Some(host.name.value.clone());
            }
            findings
        }
    });
    let mut findings: Vec<_> = asking.await.into_iter().flatten().collect();
    findings.extend(
        binaries
            .err()
            .map(|error| of_error("binaries", &error, "`apply` cannot install what it cannot read")),
    );
    let status = status::status(cluster, connections, forks).await;
    for (host, (_, transport)) in status.hosts.iter().zip(connections) {
        let mut of_roles = of_status(host);
        if let Ok(transport) = transport {
            of_roles.extend(of_logs(host, &**transport).await);
        }
        findings
            .extend(of_roles.into_iter().map(|finding| Finding { host: Some(host.host.clone()), ..finding }));
    }
    findings.extend(of_cluster(&status));
    findings.sort_by_key(|finding| finding.severity == Severity::Warning);
    findings
}

fn of_error(code: &'static str, error: &Error, why: &str) -> Finding {
    let fix =
        error.hint().unwrap_or_else(|| "what it says; then `provision doctor INVENTORY` again".to_string());
    Finding::new(Severity::Error, code, error.to_string(), why, fix)
}

async fn of_host(
    cluster: &Cluster,
    host: &Host,
    binaries: &BuildFacts,
    transport: &dyn Transport,
) -> Vec<Finding> {
    let layout = Layout::of(host);
    let mut findings = of_runs(&layout, transport).await;
    let facts = match facts::gather(host, transport, binaries).await {
        Ok(facts) => facts,
        Err(error) => {
            findings.push(of_error("facts", &error, "`apply` and `status` need the same answers"));
            return findings;
        }
    };
    findings.extend(of_facts(cluster, host, &facts));
    findings
}

/// Runs that are at work, or were cut off.
async fn of_runs(layout: &Layout, transport: &dyn Transport) -> Vec<Finding> {
    let mut findings = Vec::new();
    let held = match lock::held(&layout.lock(), transport).await {
        Ok(held) => held,
        Err(error) => {
            return vec![of_error("lock", &error, "whether another run is at work is not known")];
        }
    };
    if let Some(held) = held {
        let (severity, why, fix) = match held.hangs {
            true => (Severity::Error, "no other run can begin", "`provision lock break INVENTORY`"),
            false => (Severity::Warning, "what is found here changes under its hands", "wait for it to end"),
        };
        findings.push(Finding::new(severity, "locked", format!("{} is at work", held.told), why, fix));
        return findings;
    }
    match Journal::new(layout, transport).last_run().await {
        Ok(last) => {
            let why = "files and programs may be between old and new";
            let fix = "`provision apply INVENTORY` goes on, `provision rollback INVENTORY` goes back";
            if let Some(step) = last.cut_off {
                let finding = format!("the last run was cut off at {step}");
                findings.push(Finding::new(Severity::Warning, "cut-off", finding, why, fix));
            } else if last.unsettled {
                let finding = "the last run failed after it had changed files";
                findings.push(Finding::new(Severity::Warning, "unsettled", finding, why, fix));
            }
        }
        Err(error) => findings.push(of_error("journal", &error, "what the last run did is not known")),
    }
    findings
}

fn of_facts(cluster: &Cluster, host: &Host, facts: &HostFacts) -> Vec<Finding> {
    let (problems, warnings) = plan::problems(cluster, host, facts);
    let mut findings: Vec<_> = problems
        .into_iter()
        .map(|problem| {
            let why = "`apply` refuses the whole cluster as long as it is so";
            Finding::new(Severity::Error, problem.code, problem.message, why, problem.hint)
        })
        .collect();
    findings.extend(warnings.into_iter().map(|warning| {
        let fix = warning.hint.unwrap_or_else(|| "`provision check INVENTORY` says more".to_string());
        Finding::new(
            Severity::Warning,
            warning.code,
            warning.message,
            "it works, but worse than it could",
            fix,
        )
    }));
    let orphans = facts.orphans();
    if !orphans.is_empty() {
        let pids = orphans.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(", ");
        findings.push(Finding::new(
            Severity::Error,
            "orphans",
            format!("no supervisord looks after the processes {pids}"),
            "nothing starts them again when they end, and they hold their ports",
            "`provision apply INVENTORY` stops and starts them in order",
        ));
    }
    if let Some(supervisor) = &facts.supervisor
        && !(supervisor.stale.is_empty() && supervisor.removed.is_empty())
    {
        let names =
            supervisor.stale.iter().chain(&supervisor.removed).cloned().collect::<Vec<_>>().join(", ");
        findings.push(Finding::new(
            Severity::Warning,
            "stale",
            format!("what runs is not what is configured: {names}"),
            "the next restart of supervisord brings the other configuration",
            "`provision apply INVENTORY`",
        ));
    }
    let free = facts.paths.iter().find(|path| path.path == host.prefix).and_then(|path| path.free_bytes);
    if let Some(free) = free.filter(|free| *free < FREE_MIN) {
        findings.push(Finding::new(
            if free < FREE_MIN / 5 { Severity::Error } else { Severity::Warning },
            "disk",
            format!("{} MB are free below {}", free >> 20, host.prefix.display()),
            "logs, the chain and the caches grow; what is full stops",
            "make room there, or move the prefix to a larger disk",
        ));
    }
    findings
}

/// What does not run, or is not ready.
fn of_status(host: &HostStatus) -> Vec<Finding> {
    if host.error.is_some() {
        // Told already.
        return Vec::new();
    }
    if host.supervisord.is_none() {
        return vec![Finding::new(
            Severity::Error,
            "supervisord",
            "supervisord does not run",
            "nothing of this host farms",
            "`provision start INVENTORY`",
        )];
    }
    host.roles.iter().filter(|role| role.state != "ready").map(of_role).collect()
}

fn of_role(role: &RoleStatus) -> Finding {
    let reason = role.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let finding = format!("{} is {}{reason}", role.program, role.state);
    let said = role.reason.as_deref().unwrap_or_default();
    let log = format!("`provision logs INVENTORY {}`", role.role.name());
    let (code, why, fix) = if role.pid.is_none() {
        ("down", "its part of the farm stands still", format!("{log} says why; `provision start INVENTORY`"))
    } else if said.contains("no leader") {
        let fix =
            "see that most NATS servers run and reach each other: `provision status INVENTORY`".to_string();
        ("nats-leader", "JetStream answers nobody: caches and leases cannot change", fix)
    } else if ["fork", "behind", "sync", "peers"].iter().any(|word| said.contains(word)) {
        let fix = format!("{log}; where it does not catch up, look at its peers and its disk");
        ("node", "its slots are late or not the chain's: what is won with them is lost", fix)
    } else {
        ("not-ready", "it runs and does not do its work yet", format!("wait; if it stays so, {log}"))
    };
    let severity = if role.pid.is_none() { Severity::Error } else { Severity::Warning };
    Finding::new(severity, code, finding, why, fix)
}

/// Log lines that mean something known: what stands there, what it means, what mends it.
const KNOWN: [(&str, &str, &str); 7] = [
    ("No space left on device", "its disk is full", "make room on that disk; it goes on by itself"),
    ("Address already in use", "another program has its port", "`provision check INVENTORY` says which"),
    ("Too many open files", "it may open too few files", "raise `minfds`, or `ulimit -n` of supervisord"),
    (
        "Permission denied",
        "it may not use a file or device",
        "give the directory to the user that provision connects as",
    ),
    (
        "Read-only file system",
        "the disk was remounted after an error",
        "look at `dmesg`, repair the file system",
    ),
    ("max_payload", "NATS takes too small messages", "`max_payload: 3MB` in the inventory, then apply"),
    (
        "CUDA_ERROR_OUT_OF_MEMORY",
        "the GPU's memory is full",
        "fewer sectors at a time, or nothing else on that GPU",
    ),
];

async fn of_logs(host: &HostStatus, transport: &dyn Transport) -> Vec<Finding> {
    let mut findings = Vec::new();
    for role in host.roles.iter().filter(|role| role.state != "ready") {
        let lines = logs::last_lines(&role.log, LOG_LINES, transport).await.unwrap_or_default();
        findings.extend(known(&role.program, &lines));
    }
    findings
}

/// The newest line of each known meaning.
fn known(program: &str, lines: &[String]) -> Vec<Finding> {
    let found = KNOWN.iter().filter_map(|(needle, why, fix)| {
        let line = lines.iter().rev().find(|line| line.contains(needle))?;
        let finding = format!("{program} logs: {}", line.trim());
        Some(Finding::new(Severity::Error, "log", finding, *why, *fix))
    });
    found.collect()
}

fn of_cluster(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cluster = &status.cluster;
    let pieces = cluster.segments * u64::from(primitives::SegmentIndex::NUM_PIECES as u32);
    if cluster.pieces_cached < pieces {
        findings.push(Finding::new(
            Severity::Warning,
            "cache-short",
            format!("the sharded caches hold {} of {pieces} pieces", cluster.pieces_cached),
            "plotting waits for pieces that no cache holds",
            "wait while they fill; if it stays so, give them more room, or `autonomys-farmer util reinitialization-cache`",
        ));
    }
    let rejected = &cluster.solutions.rejected;
    if !rejected.is_empty() {
        let reasons = rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>();
        findings.push(Finding::new(
            Severity::Warning,
            "rejected",
            format!("the chain rejected solutions: {}", reasons.join(", ")),
            "each was a reward",
            "`provision logs INVENTORY controller`; too late ones: look at clocks, disks and proof-servers",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_explained_once() {
        let lines = ["a: No space left on device", "fine", "b: No space left on device"].map(str::to_string);
        let found = known("autonomys-plot-client", &lines);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].finding, "autonomys-plot-client logs: b: No space left on device");
        assert_eq!(known("x", &["all is well".to_string()]), []);
    }
}
