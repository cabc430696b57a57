//! Texts for people. Pure.

use crate::error::{Error, count, count_of, duration};
use crate::events::{Event, Outcome};
use crate::inventory::Severity;
use crate::status::{HostStatus, RoleStatus, Status};
use crate::transfer::size;
use std::fmt::Write;

pub(super) fn error(error: &Error) -> String {
    let mut out = String::new();
    match error {
        Error::Inventory { source_text, findings } => {
            for finding in findings {
                let _ = writeln!(out, "{}", finding.render(source_text));
            }
            let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
            let _ = writeln!(
                out,
                "error: {} in {}; nothing was done",
                count(errors, "mistake"),
                source_text.name
            );
        }
        Error::Check { problems } => {
            for problem in problems {
                let _ =
                    writeln!(out, "error[{}]: {}\n  = hint: {}", problem.code, problem.message, problem.hint);
            }
            let _ = writeln!(out, "error: {}; nothing was done", count(problems.len(), "problem"));
        }
        Error::Stale { what, differences } => {
            let _ = writeln!(out, "error: {what} changed since the plan was made:");
            for difference in differences {
                let _ = writeln!(out, "  {difference}");
            }
        }
        Error::Hosts { failures, .. } => {
            for failure in failures {
                let _ = writeln!(out, "host {}:\n{}", failure.host, self::error(&failure.error));
            }
            let _ = writeln!(out, "error: {error}");
        }
        other => {
            let _ = writeln!(out, "error: {other}");
            if !other.log().is_empty() {
                let _ = writeln!(out, "its last log lines:");
            }
            for line in other.log() {
                let _ = writeln!(out, "  | {line}");
            }
        }
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(out, "  = hint: {hint}");
    }
    out
}

/// Which lines need their host's name in front: all of a run on several hosts.
#[derive(Default)]
pub(super) struct HostNames {
    needed: bool,
}

impl HostNames {
    /// Takes notice of a run's beginning.
    pub(super) fn learn(&mut self, event: &Event) {
        if let Event::RunStarted { hosts, .. } = event {
            self.needed = hosts.len() > 1;
        }
    }

    /// `HOST: ` or nothing.
    pub(super) fn of(&self, host: Option<&str>) -> String {
        host.filter(|_| self.needed).map(|host| format!("{host}: ")).unwrap_or_default()
    }
}

/// A message with its host's name in front, once.
pub(super) fn once(host: &str, message: &str) -> String {
    if message.starts_with(&format!("{host}: ")) { message.to_string() } else { format!("{host}: {message}") }
}

/// `▐████████░░░░░░░░▌ 47 %, 12.3 GB of 26.0 GB, 110.0 MB/s, 2 min left`.
pub(super) fn transfer(bytes: u64, of: u64, bytes_per_second: u64, eta_seconds: Option<u64>) -> String {
    const WIDTH: u64 = 16;
    let part = |whole: u64| match of {
        0 => whole,
        of => (u128::from(bytes.min(of)) * u128::from(whole) / u128::from(of)) as u64,
    };
    let bar: String = (0..WIDTH).map(|at| if at < part(WIDTH) { '█' } else { '░' }).collect();
    let left = eta_seconds.map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
    let (done, whole, rate) = (size(bytes), size(of), size(bytes_per_second));
    format!("▐{bar}▌ {} %, {done} of {whole}, {rate}/s{left}", part(100))
}

/// The roles of a host, a line each.
fn roles(host: &HostStatus) -> String {
    let mut out = String::new();
    let mut rows = vec![["ROLE", "STATE", "UPTIME", "VERSION"].map(str::to_string)];
    for role in &host.roles {
        let uptime = if role.pid.is_some() { duration(role.uptime_seconds) } else { "-".to_string() };
        let version = role.version.clone().unwrap_or_else(|| "-".to_string());
        rows.push([role_name(host, role), role.state.clone(), uptime, version]);
    }
    let widths: [usize; 4] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let reason = index.checked_sub(1).and_then(|role| host.roles[role].reason.clone());
        let line = format!("{}  {}", cells.collect::<Vec<_>>().join("  "), reason.unwrap_or_default());
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// A role's name, or its program's where a host has several of the role.
fn role_name(host: &HostStatus, role: &RoleStatus) -> String {
    match host.roles.iter().filter(|other| other.role == role.role).count() {
        1 => role.role.name().to_string(),
        _ => role.program.trim_start_matches("autonomys-").to_string(),
    }
}

/// A line a host, the worst first, and beneath it what is wrong there.
fn hosts(hosts: &[HostStatus]) -> String {
    let ready = |host: &HostStatus| host.roles.iter().filter(|role| role.state == "ready").count();
    let mut sorted: Vec<&HostStatus> = hosts.iter().collect();
    sorted.sort_by_key(|host| match (&host.error, host.supervisord) {
        (Some(_), _) => (0, 0),
        (None, None) => (1, 0),
        (None, Some(_)) => (2, -((host.roles.len() - ready(host)) as isize)),
    });
    let width = hosts.iter().map(|host| host.host.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for host in sorted {
        let name = format!("{:<width$}", host.host);
        let _ = match (&host.error, host.supervisord) {
            (Some(error), _) => writeln!(out, "{name}  cannot be asked: {error}"),
            (None, None) => writeln!(out, "{name}  supervisord does not run"),
            (None, Some(_)) => {
                writeln!(out, "{name}  {} of {} ready", ready(host), count(host.roles.len(), "role"))
            }
        };
        if host.supervisord.is_none() {
            continue;
        }
        for role in host.roles.iter().filter(|role| role.state != "ready") {
            let reason = role.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let _ = writeln!(out, "{:<width$}  {} is {}{reason}", "", role_name(host, role), role.state);
        }
    }
    out
}

pub(super) fn status(status: &Status) -> String {
    let mut out = match &status.hosts[..] {
        [host] => {
            let supervisord = match (host.supervisord, &host.error) {
                (Some(pid), _) => format!("supervisord runs, process {pid}"),
                (None, None) => "supervisord does not run".to_string(),
                (None, Some(error)) => format!("{} cannot be asked: {error}", host.host),
            };
            let prefix = host.prefix.display();
            format!("Cluster {} below {prefix}\n{supervisord}\n\n{}", status.name, roles(host))
        }
        several => format!("Cluster {} on {} hosts\n\n{}", status.name, several.len(), hosts(several)),
    };
    let cluster = &status.cluster;
    let solutions = &cluster.solutions;
    let _ = writeln!(
        out,
        "\nhistory     {} of {} pieces\ncaches      {} pieces in shards, {} in the full copy\nfarms       {} plotted",
        count(usize::try_from(cluster.segments).unwrap_or(usize::MAX), "segment"),
        cluster.segments * u64::from(primitives::SegmentIndex::NUM_PIECES as u32),
        cluster.pieces_cached,
        cluster.pieces_in_full_copy,
        count(usize::try_from(cluster.sectors_plotted).unwrap_or(usize::MAX), "sector"),
    );
    let mut rejected =
        solutions.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>();
    if rejected.is_empty() {
        rejected.push("none".to_string());
    }
    let _ = writeln!(
        out,
        "slots       {}\nsolutions   {} sent, {} accepted, {} ignored; rejected: {}",
        cluster.slots_seen,
        solutions.sent,
        solutions.accepted,
        solutions.ignored,
        rejected.join(", ")
    );
    out
}

/// `350 ms`, `12.3 s`, `4 min 5 s`.
pub(super) fn took(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1000 % 60),
    }
}

/// What a finished step is shown as; nothing for a gate that was simply open.
pub(super) fn finished(title: &str, outcome: Outcome, milliseconds: u64, detail: &str) -> String {
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let unchanged = if outcome == Outcome::Unchanged { "ok     " } else { "changed" };
    match milliseconds {
        0..100 => format!("{unchanged} {title}{detail}"),
        _ => format!("{unchanged} {title}{detail} ({})", took(milliseconds)),
    }
}

/// The last words of a run that went well.
pub(super) fn summary(event: &Event) -> Option<String> {
    let Event::RunFinished { cluster, changes, milliseconds, prefix, logs, next } = event else {
        return None;
    };
    let mut out = match changes {
        0 => format!("Cluster {cluster} is as it should be: 0 changes ({})\n", took(*milliseconds)),
        _ => {
            let changes = count_of(*changes, "change", "changes");
            format!("Cluster {cluster} runs: {changes} ({})\n", took(*milliseconds))
        }
    };
    let _ = writeln!(out, "  everything  {prefix}\n  logs        {logs}\nWhat to type next:");
    let width = next.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    for (command, meaning) in next {
        let _ = writeln!(out, "  {command:<width$}  # {meaning}");
    }
    Some(out)
}
