//! Plans, changes of files and drift as texts for people. Pure.

use crate::drift::{Drift, HostDrift};
use crate::error::{count, count_of};
use crate::plan::{Action, Change, FileChange, FileDiff, Plan, Step};
use std::fmt::Write;

/// Columns of a line, unless a single name is longer.
const COLUMNS: usize = 110;

/// Colours of a terminal, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Text alone.
    Plain,
    /// With the escape sequences of a terminal.
    Colours,
}

impl Paint {
    fn of(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_string(),
            Self::Colours => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Items in the order in which the first of their kind came, each kind with all names that have it.
fn grouped<K: PartialEq>(items: impl IntoIterator<Item = (String, K)>) -> Vec<(Vec<String>, K)> {
    let mut groups: Vec<(Vec<String>, K)> = Vec::new();
    for (name, key) in items {
        match groups.iter_mut().find(|(_, other)| *other == key) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], key)),
        }
    }
    groups
}

/// Words parted by commas, in lines that begin below the first word.
fn wrapped(start: &str, items: &[String], end: &str) -> String {
    let indent = " ".repeat(start.chars().count());
    let (mut out, mut line) = (String::new(), start.to_string());
    for (index, item) in items.iter().enumerate() {
        let last = index + 1 == items.len();
        let item = format!("{item}{}", if last { end } else { "," });
        if line.trim_start().len() > start.trim_start().len()
            && line.chars().count() + 1 + item.chars().count() > COLUMNS
        {
            out += &format!("{}\n", line.trim_end());
            line.clone_from(&indent);
        }
        line += &item;
        if !last {
            line.push(' ');
        }
    }
    out + &line + "\n"
}

/// The plans of a cluster's hosts: hosts with the same steps are told together, and steps of a kind in one line.
pub(super) fn plans(plans: &[Plan]) -> String {
    let Some(first) = plans.first() else { return String::new() };
    let changes: usize = plans.iter().map(Plan::changes).sum();
    let changing = plans.iter().filter(|plan| plan.changes() > 0).count();
    let on = if plans.len() > 1 { format!(" on {} hosts", plans.len()) } else { String::new() };
    if changes == 0 {
        return format!("Cluster {}: nothing to do{on}\n", first.cluster);
    }
    let mut out = format!("Plan for cluster {}{on}\n", first.cluster);
    // What is not changed is not told: hosts that have nothing to do are alike.
    let told = |plan: &Plan| if plan.changes() > 0 { steps(plan) } else { String::new() };
    let hosts = plans.iter().map(|plan| (plan.host.clone(), (plan.changes(), told(plan))));
    for (hosts, (changes, steps)) in grouped(hosts) {
        let each = if hosts.len() > 1 { " each" } else { "" };
        let end = match changes {
            0 => ": nothing to do".to_string(),
            _ => format!(": {}{each}", count_of(changes, "change", "changes")),
        };
        out += &wrapped("", &hosts, &end);
        out += &steps;
    }
    let of = match plans.len() {
        1 => String::new(),
        all if all == changing => String::new(),
        all => format!(" on {changing} of {all} hosts"),
    };
    let _ = writeln!(out, "{}{of}", count_of(changes, "change", "changes"));
    out
}

/// What a step does, so that several of a kind make one line: a mark, what comes before the name, the name, what comes
/// behind it.
fn parts(plan: &Plan, step: &Step) -> (char, String, Option<String>, String) {
    let file = |path: &std::path::Path| path.strip_prefix(&plan.prefix).unwrap_or(path).display().to_string();
    let (mark, verb, name, end) = match &step.action {
        Action::InstallBinary { name, source: Some(_) } => ('+', "install", name.clone(), String::new()),
        Action::WriteFile { file: new, replaces: None } => ('+', "write", file(&new.path), String::new()),
        Action::WriteFile { file: new, .. } => ('~', "update", file(&new.path), String::new()),
        Action::RemoveFile { path } => ('-', "remove", file(path), String::new()),
        Action::Program { program, change } => match change {
            Change::Keep => (' ', "", program.name.clone(), String::new()),
            Change::Start => ('+', "start", program.name.clone(), String::new()),
            Change::Restart { why } => ('~', "restart", program.name.clone(), format!(": {why}")),
            Change::RestartIfBuilt => {
                ('~', "restart", program.name.clone(), " when the build gives another binary".to_string())
            }
        },
        other => {
            let mark = match other {
                Action::RemoveProgram { .. } | Action::StopOrphans { .. } | Action::StopSupervisor => '-',
                Action::Wait { .. } => ' ',
                _ => '+',
            };
            return (mark, step.title.clone(), None, String::new());
        }
    };
    (mark, verb.to_string(), Some(name), end)
}

fn steps(plan: &Plan) -> String {
    let mut lines: Vec<(char, String, Vec<String>, String)> = Vec::new();
    let mut kept = 0;
    for step in &plan.steps {
        let (mark, head, name, end) = parts(plan, step);
        if matches!(step.action, Action::Program { change: Change::Keep, .. }) {
            kept += 1;
            continue;
        }
        match (lines.last_mut(), name) {
            (Some(last), Some(name))
                if (last.0, &last.1, &last.3) == (mark, &head, &end) && !last.2.is_empty() =>
            {
                last.2.push(name);
            }
            (_, name) => lines.push((mark, head, name.into_iter().collect(), end)),
        }
    }
    let mut out = String::new();
    for (mark, head, names, end) in lines {
        match names.is_empty() {
            true => _ = writeln!(out, "  {mark} {head}{end}"),
            false => out += &wrapped(&format!("  {mark} {head} "), &names, &end),
        }
    }
    if kept > 0 {
        let _ = writeln!(out, "    {} as before", count_of(kept, "program runs on", "programs run on"));
    }
    for note in &plan.notes {
        let _ = writeln!(out, "  note: {note}");
    }
    out
}

/// What changes in the files of several hosts; what changes in the same way is told together.
pub(super) fn diffs<'a>(hosts: impl IntoIterator<Item = (&'a str, &'a [FileDiff])>, paint: Paint) -> String {
    let all =
        hosts.into_iter().flat_map(|(host, diffs)| diffs.iter().map(move |diff| (host.to_string(), diff)));
    let texts = grouped(all).into_iter().map(|(hosts, diff)| file_diff(&hosts.join(", "), diff, paint));
    texts.collect()
}

/// What changes in a file, in the form of `diff -u`.
pub(super) fn file_diff(hosts: &str, diff: &FileDiff, paint: Paint) -> String {
    let path = diff.path.display();
    let (old, new) = match diff.change {
        FileChange::Write => ("/dev/null".to_string(), path.to_string()),
        FileChange::Update => (path.to_string(), path.to_string()),
        FileChange::Remove => (path.to_string(), "/dev/null".to_string()),
    };
    let mut out = format!("{}\n", paint.of("1", &format!("{hosts}: {path}")));
    if let Some(why) = &diff.hidden {
        let verb = match diff.change {
            FileChange::Write => "written",
            FileChange::Update => "updated",
            FileChange::Remove => "removed",
        };
        return out + &format!("  is {verb}; {why}\n");
    }
    out += &format!("{}\n", paint.of("1", &format!("--- {old}\n+++ {new}")));
    for line in diff.unified.lines() {
        let code = match line.as_bytes().first() {
            Some(b'+') => "32",
            Some(b'-') => "31",
            Some(b'@') => "36",
            _ => "",
        };
        out += &if code.is_empty() { line.to_string() } else { paint.of(code, line) };
        out.push('\n');
    }
    out
}

/// What is not as the inventory wants it; hosts with the same differences are told together.
pub(super) fn drift(drift: &Drift, paint: Paint) -> String {
    let mut out = String::new();
    let told = |host: &HostDrift| {
        let mut text = String::new();
        if let Some(error) = &host.error {
            let _ = writeln!(text, "  cannot be compared: {error}");
        }
        for difference in &host.differences {
            let _ = writeln!(text, "  {} {}", difference.subject, difference.message);
        }
        text
    };
    let (same, others): (Vec<_>, Vec<_>) =
        drift.hosts.iter().partition(|host| host.error.is_none() && host.differences.is_empty());
    for (hosts, text) in grouped(others.iter().map(|host| (host.host.clone(), told(host)))) {
        out += &wrapped("", &hosts, ":");
        out += &text;
    }
    let diffs = drift.hosts.iter().filter_map(|host| Some((&*host.host, host.diff.as_deref()?)));
    out += &self::diffs(diffs, paint);
    let number: usize = drift.hosts.iter().map(|host| host.differences.len()).sum();
    let as_wanted = format!("{} of {} as the inventory wants", same.len(), count(drift.hosts.len(), "host"));
    let _ = match number {
        0 => writeln!(out, "Cluster {}: no difference; {as_wanted}", drift.cluster),
        _ => writeln!(
            out,
            "Cluster {}: {}; {as_wanted}; `apply` mends it, `plan` shows how",
            drift.cluster,
            count(number, "difference")
        ),
    };
    out
}
