//! Executes plans: exactly their steps, in order, each told to the sink and written to the journal.

mod build;
mod executor;
mod fleet;
mod planning;
mod programs;
mod rollback;
mod scope;
mod site;
mod stop;

pub(crate) use build::cargo as build_binaries;
pub use build::set_by_cargo_run;
pub(crate) use fleet::Failures;
pub use fleet::{Connection, connect, connect_to, side_by_side};
pub use planning::{Planned, drift, to_save};
pub(crate) use programs::opens;
pub use rollback::{PutBack, Replaced, generations, rollback};

use crate::error::{Error, Problem, Result};
use crate::events::{Event, Sink};
use crate::facts::{self, BuildFacts, HostFacts};
use crate::inventory::Diagnostic;
use crate::layout::Layout;
use crate::plan::saved::SavedPlan;
use crate::plan::{self, Plan};
use crate::resolve::{Cluster, Host};
use crate::transport::Transport;
use scope::Scope;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Hosts that are worked on at once when nothing else is said.
pub const FORKS: usize = 16;

/// How a run is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// Every deadline is multiplied by this: slow machines, emulators.
    pub patience: f64,
    /// How the user calls this tool, for "what to type next": `provision`, `cargo run …`.
    pub invocation: String,
    /// The inventory as the user named it.
    pub inventory: String,
    /// Whether to wait for the first accepted solution.
    pub wait_for_solution: bool,
    /// Hosts that are worked on at once.
    pub forks: usize,
    /// Whether the changes of files are told in full.
    pub diff: bool,
    /// Roles or programs that are started, restarted or stopped; all when there are none.
    pub roles: Vec<String>,
    /// The plan that is executed and no other, where one was saved.
    pub saved: Option<Arc<SavedPlan>>,
}

impl Options {
    /// A deadline, stretched by the caller's patience.
    pub(crate) fn patient(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.patience.clamp(0.01, 1000.0))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: 1.0,
            invocation: "provision".to_string(),
            inventory: "inventory.yaml".to_string(),
            wait_for_solution: true,
            forks: FORKS,
            diff: false,
            roles: Vec::new(),
            saved: None,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The plans that were executed, one a host.
    pub plans: Vec<Plan>,
    /// Steps that changed something.
    pub changes: usize,
}

/// Asks a host for its facts and checks it for its plan.
///
/// # Errors
/// It cannot be asked, or is unfit.
pub async fn examine(
    cluster: &Cluster,
    host: &Host,
    transport: &dyn Transport,
    binaries: &BuildFacts,
) -> Result<(HostFacts, Vec<Diagnostic>)> {
    judge(cluster, host, facts::gather(host, transport, binaries).await?)
}

/// Checks a host for its plan.
fn judge(cluster: &Cluster, host: &Host, facts: HostFacts) -> Result<(HostFacts, Vec<Diagnostic>)> {
    let (problems, warnings) = plan::problems(cluster, host, &facts);
    if problems.is_empty() { Ok((facts, warnings)) } else { Err(Error::Check { problems }) }
}

/// Examines every host and plans for it, without doing anything; in the order of the inventory.
///
/// # Errors
/// A host cannot be asked, is unfit, or what is missing cannot be installed.
pub async fn plan_only(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
) -> Result<Vec<Planned>> {
    planning::plan_only(cluster, connections, options).await
}

/// Brings every host to where the inventory wants it. With [`Options::saved`] exactly that plan is executed.
///
/// # Errors
/// See [`Error`]; [`Error::Stale`] when a saved plan does not fit any more, with nothing done; what was done stays, and the next run goes on from there. Hosts that cannot be reached or fail do not keep
/// the others from being finished; nothing at all is done when one is unfit.
pub async fn apply(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Report> {
    fleet::run(cluster, connections, options, sink, Scope::Everything).await
}

/// Starts what is installed, without changing files, packages or binaries.
///
/// # Errors
/// Nothing is installed, or something does not start.
pub async fn start(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Report> {
    fleet::run(cluster, connections, options, sink, Scope::StartOnly).await
}

/// Restarts what runs, one host after the other and each program behind its gate, and starts what does not, without
/// changing files, packages or binaries.
///
/// # Errors
/// Nothing is installed, or something does not come back; then nothing more is restarted.
pub async fn restart(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Report> {
    fleet::run(cluster, connections, options, sink, Scope::Restart).await
}

/// What a run says of itself to those that its locks keep out.
pub(crate) fn holder(command: &str) -> String {
    let control = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = named.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()));
    let process = std::process::id();
    format!("`provision {command}` of {user}@{}, process {process}", control.trim())
}

/// The name of a run that begins now, the same on all its hosts: `20261121-054200`.
fn name_of_run() -> String {
    let now = utc(SystemTime::now());
    now.trim_end_matches(" UTC").replace(['-', ':'], "").replace(' ', "-")
}

/// `2026-11-21 05:42:00 UTC`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar; years begin in March, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

fn finished(cluster: &Cluster, changes: usize, started: Instant, options: &Options) -> Event {
    let next = |command: &str, meaning: &str| {
        (
            format!("{} {command}", options.invocation).replace("INVENTORY", &options.inventory),
            meaning.to_string(),
        )
    };
    let of_only = |path: fn(&Layout) -> PathBuf| match &cluster.hosts[..] {
        [host] => path(&Layout::of(host)).display().to_string(),
        hosts => format!("on {} hosts, each below its prefix", hosts.len()),
    };
    Event::RunFinished {
        cluster: cluster.name.clone(),
        changes,
        milliseconds: milliseconds(started),
        prefix: of_only(|layout| layout.prefix.clone()),
        logs: of_only(Layout::logs),
        next: vec![
            next("status INVENTORY", "how it is"),
            next("logs INVENTORY plot-client -f", "watch it farm"),
            next("stop INVENTORY", "stop everything, keep the data"),
        ],
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Stops every program of every host in the reverse order of the start, then supervisord; returns how many were stopped.
/// With [`Options::roles`] only theirs, and supervisord runs on.
///
/// # Errors
/// Something does not stop, or another run is at work.
pub async fn stop(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<usize> {
    stop::stop(cluster, connections, options, sink).await
}

/// Reads an inventory and checks it: what every command begins with.
///
/// # Errors
/// It cannot be read or is wrong; warnings are returned.
pub fn load(
    path: &Path,
    overrides: &crate::resolve::Overrides,
) -> Result<(Cluster, crate::inventory::Source, Vec<Diagnostic>)> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::ReadInventory { path: path.to_path_buf(), source })?;
    let source = crate::inventory::Source { name: path.display().to_string(), text };
    let around = crate::resolve::Surroundings::of_process(path);
    let wrong = |findings| Error::Inventory { source_text: Box::new(source.clone()), findings };
    let inventory = crate::inventory::parse(&source).map_err(wrong)?;
    let cluster = crate::resolve::resolve(&inventory, overrides, &around);
    let findings = crate::check::check(&cluster);
    if crate::check::has_errors(&findings) {
        return Err(wrong(findings));
    }
    let unfit = cluster.hosts.iter().find(|host| !host.prefix.is_absolute() || !carried(&host.prefix));
    if let Some(host) = unfit {
        let problem = Problem {
            code: "prefix",
            message: format!("the prefix {:?} is not absolute, or has a blank or quote in it", host.prefix),
            hint: "choose another with --prefix".to_string(),
        };
        return Err(Error::Check { problems: vec![problem] });
    }
    Ok((cluster, source, findings))
}

/// Whether every configuration format can carry this path.
fn carried(path: &Path) -> bool {
    path.to_str().is_some_and(|text| {
        !text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'`,\\;#$".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_239_720, "2026-11-21 05:42:00 UTC"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
