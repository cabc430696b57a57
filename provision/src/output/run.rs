//! Texts of what protects a run and helps when it goes wrong. Pure.

use crate::apply::{PutBack, Replaced};
use crate::doctor::Finding;
use crate::error::count;
use crate::events::Event;
use crate::inventory::Severity;
use crate::lock::HostLock;
use crate::trust::{HostTrust, Trust};
use std::fmt::Write;

/// What a rollback is shown as.
pub(super) fn rollback(event: &Event) -> Option<(&str, String)> {
    match event {
        Event::RollbackStarted { host, generation } => {
            Some((host, format!("goes back to what stood here before {generation}")))
        }
        Event::RollbackFinished { host, problem: Some(problem), .. } => {
            Some((host, format!("what was put back does not run: {problem}")))
        }
        Event::RollbackFinished { host, restarted, problem: None } if restarted.is_empty() => {
            Some((host, "the files are back; nothing had to be restarted".to_string()))
        }
        Event::RollbackFinished { host, restarted, problem: None } => {
            Some((host, format!("back: {} on the files from before", restarted.join(", "))))
        }
        _ => None,
    }
}

/// Who is at work, a line a host.
pub(super) fn locks(locks: &[HostLock]) -> String {
    let width = locks.iter().map(|lock| lock.host.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for HostLock { host, error, held } in locks {
        let said = match (error, held) {
            (Some(error), _) => format!("cannot be asked: {error}"),
            (None, Some(held)) => format!("held by {}", held.told),
            (None, None) => "free".to_string(),
        };
        let _ = writeln!(out, "{host:<width$}  {said}");
    }
    out
}

/// Differences shown of a run on a host; the rest is counted.
const DIFFERENCES_MAX: usize = 6;

/// What runs replaced, the newest first.
pub(super) fn replaced(runs: &[Replaced]) -> String {
    if runs.is_empty() {
        return "no host keeps what stood there before: nothing has been changed since the first apply\n"
            .to_string();
    }
    let mut out =
        String::from("RUN              COMMAND   what it changed; `--to RUN` goes back to before it\n");
    for run in runs {
        let _ = writeln!(out, "{:<16} {}", run.name, run.command);
        let width = run.hosts.keys().map(|host| host.chars().count()).max().unwrap_or(0);
        for (host, changed) in &run.hosts {
            let mut shown = changed.iter().take(DIFFERENCES_MAX).cloned().collect::<Vec<_>>().join(", ");
            match changed.len().saturating_sub(DIFFERENCES_MAX) {
                0 if changed.is_empty() => shown = "nothing".to_string(),
                0 => {}
                more => shown += &format!(" and {more} more"),
            }
            let _ = writeln!(out, "  {host:<width$}  {shown}");
        }
    }
    out
}

/// What a rollback did.
pub(super) fn put_back(hosts: &[PutBack]) -> String {
    let mut out = String::new();
    for PutBack { host, restarted } in hosts {
        let _ = match &restarted[..] {
            [] => writeln!(out, "{host}: the files are back; nothing had to be restarted"),
            names => writeln!(out, "{host}: back; {} on the files from before", names.join(", ")),
        };
    }
    if hosts.is_empty() {
        out += "every host stands as it did before that run\n";
    } else {
        out += "The inventory is ahead of the hosts now: the next apply brings its change again. `rollback` undoes this.\n";
    }
    out
}

/// What is wrong, a line a finding.
pub(super) fn doctor(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing is wrong that could be found\n".to_string();
    }
    let name = |finding: &Finding| finding.host.clone().unwrap_or_else(|| "cluster".to_string());
    let width = findings.iter().map(|finding| name(finding).chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for finding in findings {
        let word = if finding.severity == Severity::Error { "ERROR" } else { "warn " };
        // What came from elsewhere may have lines of its own.
        let said = finding.finding.split_whitespace().collect::<Vec<_>>().join(" ");
        let (host, why, fix) = (name(finding), &finding.why, &finding.fix);
        let _ = writeln!(out, "{word}  {host:<width$}  {said} [{why}]; fix: {fix}");
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let _ = writeln!(out, "{}, {}", count(errors, "error"), count(findings.len() - errors, "warning"));
    out
}

/// By which keys hosts are known, a line each.
pub(super) fn trust(hosts: &[HostTrust]) -> String {
    let width = hosts.iter().map(|host| host.host.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for HostTrust { host, trust } in hosts {
        let said = match trust {
            Trust::Local => "this machine: no key".to_string(),
            Trust::Pinned { fingerprint } => format!("{fingerprint}  pinned"),
            Trust::New { fingerprint, .. } => format!("{fingerprint}  new"),
            Trust::Differs { fingerprint, pinned, place, .. } => {
                format!("{fingerprint}  DIFFERS from {} at {place}", pinned.join(", "))
            }
            Trust::Unknown { error, .. } => format!("cannot be asked: {error}"),
        };
        let _ = writeln!(out, "{host:<width$}  {said}");
    }
    out
}
