//! Executes plans: exactly their steps, in order, each told to the sink and written to the journal.

mod build;
mod executor;
mod programs;

pub use build::set_by_cargo_run;

use crate::error::{Error, Problem, Result};
use crate::events::{Event, Sink};
use crate::facts::{self, HostFacts};
use crate::inventory::{Connection, Diagnostic};
use crate::journal::{Journal, What};
use crate::layout::Layout;
use crate::plan::{self, Action, Plan};
use crate::resolve::{Cluster, Host};
use crate::supervisor::Supervisor;
use crate::transport::{Local, Lock, Transport};
use executor::Executor;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: 1.0,
            invocation: "provision".to_string(),
            inventory: "inventory.yaml".to_string(),
            wait_for_solution: true,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The plan that was executed.
    pub plan: Plan,
    /// Steps that changed something.
    pub changes: usize,
}

/// The transport to a host.
///
/// # Errors
/// The connection is not supported by this build (which [`crate::check::check`] reports with its place).
pub fn transport(host: &Host) -> Result<Box<dyn Transport>> {
    match host.connection.value {
        Connection::Local => Ok(Box::new(Local)),
        Connection::Ssh => Err(Error::Internal("connection `ssh` passed the check".to_string())),
    }
}

/// The one host of a cluster on this machine.
///
/// # Errors
/// There is none, which the check reports with its place.
pub fn local_host(cluster: &Cluster) -> Result<&Host> {
    let local = cluster.hosts.iter().find(|host| host.connection.value == Connection::Local);
    local.ok_or_else(|| Error::Internal("an inventory without a host passed the check".to_string()))
}

/// Asks a host for its facts and checks it for its plan.
///
/// # Errors
/// It cannot be asked, or is unfit.
pub async fn examine(
    cluster: &Cluster,
    host: &Host,
    transport: &dyn Transport,
) -> Result<(HostFacts, Vec<Diagnostic>)> {
    let facts = facts::gather(cluster, host, transport, &Local).await?;
    let (problems, warnings) = plan::problems(cluster, host, &facts);
    if problems.is_empty() { Ok((facts, warnings)) } else { Err(Error::Check { problems }) }
}

/// Plans without doing anything.
///
/// # Errors
/// The host cannot be asked, is unfit, or what is missing cannot be installed.
pub async fn plan_only(
    cluster: &Cluster,
    host: &Host,
    transport: &dyn Transport,
) -> Result<(Plan, Vec<Diagnostic>)> {
    let (facts, warnings) = examine(cluster, host, transport).await?;
    Ok((plan::plan(cluster, host, &facts)?, warnings))
}

/// Which steps of a plan a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All.
    Everything,
    /// Those that start what is installed.
    StartOnly,
}

/// Brings a host to where its inventory wants it.
///
/// # Errors
/// See [`Error`]; what was done stays, and the next run goes on from there.
pub async fn apply(cluster: &Cluster, options: &Options, sink: &dyn Sink) -> Result<Report> {
    run(cluster, options, sink, Scope::Everything).await
}

/// Starts what is installed, without changing files, packages or binaries.
///
/// # Errors
/// Nothing is installed, or something does not start.
pub async fn start(cluster: &Cluster, options: &Options, sink: &dyn Sink) -> Result<Report> {
    run(cluster, options, sink, Scope::StartOnly).await
}

async fn run(cluster: &Cluster, options: &Options, sink: &dyn Sink, scope: Scope) -> Result<Report> {
    let started = Instant::now();
    let host = local_host(cluster)?;
    let layout = Layout::of(host);
    let transport = transport(host)?;
    let command = if scope == Scope::Everything { "apply" } else { "start" };
    sink.event(&Event::RunStarted {
        command: command.to_string(),
        cluster: cluster.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    });
    let state = layout.state();
    // What may not be looked at counts as not there: the examination says what is wrong with it.
    if !matches!(transport.resolve(&state).await, Ok(Some(_))) {
        if scope == Scope::StartOnly {
            return Err(Error::NotRunning { prefix: layout.prefix });
        }
        // Nothing is touched on a host that is unfit; the lock needs a place.
        examine(cluster, host, &*transport).await?;
        transport.make_directory(&state, 0o755).await?;
    }
    let _lock = lock(&layout, command, &*transport).await?;
    let (facts, warnings) = examine(cluster, host, &*transport).await?;
    for warning in warnings {
        sink.event(&Event::Warning { message: warning.message });
    }
    let journal = Journal::new(&layout, &*transport);
    if let Some(step) = journal.interrupted().await? {
        sink.event(&Event::Note {
            message: format!("the last run was cut off at {step}; this one goes on from there"),
        });
    }
    let mut plan = plan::plan(cluster, host, &facts)?;
    restrict(&mut plan, scope, options, sink)?;
    for note in &plan.notes {
        sink.event(&Event::Note { message: note.clone() });
    }
    sink.event(&Event::Planned {
        host: plan.host.clone(),
        changes: plan.changes(),
        gates: plan.steps.len() - plan.changes(),
    });
    journal
        .add(What::Begun { command: command.to_string(), version: env!("CARGO_PKG_VERSION").to_string() })
        .await?;
    let mut executor = Executor::new(cluster, host, &*transport, &facts, options, sink, &journal);
    let done = executor.execute(&plan).await;
    journal.add(What::Ended { error: done.as_ref().err().map(ToString::to_string) }).await?;
    let changes = done?;
    sink.event(&finished(&plan, &layout, changes, started, options));
    Ok(Report { plan, changes })
}

/// Takes a lock that every run on this prefix needs.
async fn lock(layout: &Layout, command: &str, transport: &dyn Transport) -> Result<Box<dyn Lock>> {
    let holder =
        format!("`provision {command}`, process {}, since {}", std::process::id(), utc(SystemTime::now()));
    transport.lock(&layout.state().join("lock"), &holder).await
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

fn restrict(plan: &mut Plan, scope: Scope, options: &Options, sink: &dyn Sink) -> Result<()> {
    if !options.wait_for_solution {
        plan.steps.retain(|step| !matches!(step.action, Action::Wait { .. }));
    }
    if scope == Scope::StartOnly {
        let before = plan.steps.len();
        plan.steps.retain(|step| {
            use Action::{Program, StartSupervisor, StopOrphans, Wait};
            matches!(step.action, Program { .. } | StartSupervisor | StopOrphans { .. } | Wait { .. })
        });
        for step in &mut plan.steps {
            if let Action::Program { change, program } = &mut step.action
                && !matches!(change, plan::Change::Start | plan::Change::Keep)
            {
                *change = plan::Change::Keep;
                step.title = format!("{} runs", program.name);
            }
        }
        let left = before - plan.steps.len();
        if left > 0 {
            let many = crate::error::count_of(left, "change", "changes");
            let message =
                format!("{many} of the inventory or the sources are not applied yet; `apply` does that");
            sink.event(&Event::Warning { message });
        }
    }
    Ok(())
}

fn finished(plan: &Plan, layout: &Layout, changes: usize, started: Instant, options: &Options) -> Event {
    let next = |command: &str, meaning: &str| {
        (
            format!("{} {command}", options.invocation).replace("INVENTORY", &options.inventory),
            meaning.to_string(),
        )
    };
    Event::RunFinished {
        cluster: plan.cluster.clone(),
        changes,
        milliseconds: milliseconds(started),
        prefix: layout.prefix.display().to_string(),
        logs: layout.logs().display().to_string(),
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

/// Stops every program in the reverse order of the start, then supervisord; returns how many were stopped.
///
/// # Errors
/// Something does not stop, or another run is at work.
pub async fn stop(cluster: &Cluster, sink: &dyn Sink) -> Result<usize> {
    let host = local_host(cluster)?;
    let layout = Layout::of(host);
    let transport = transport(host)?;
    if transport.resolve(&layout.state()).await?.is_none() {
        return Err(Error::NotRunning { prefix: layout.prefix });
    }
    let _lock = lock(&layout, "stop", &*transport).await?;
    let supervisor = Supervisor::new(&*transport, layout.socket());
    if supervisor.pid().await.is_err() {
        let facts = facts::gather(cluster, host, &*transport, &Local).await?;
        let orphans: Vec<u32> = facts.orphans().iter().map(|process| process.pid).collect();
        programs::stop_orphans(&orphans, &layout, &*transport).await?;
        return Ok(orphans.len());
    }
    let (known, _) = crate::derive::programs(cluster, host, &HostFacts::default());
    let rank = |name: &str| known.iter().position(|program| program.name == name).unwrap_or(usize::MAX);
    let mut running = supervisor.programs().await?;
    running.retain(|program| program.pid != 0);
    running.sort_by_key(|program| std::cmp::Reverse(rank(&program.name)));
    for program in &running {
        let seconds =
            known.iter().find(|known| known.name == program.name).map_or(30, |known| known.stop_seconds);
        supervisor.stop(&program.name, Duration::from_secs(u64::from(seconds) + 15)).await?;
        sink.event(&Event::Note { message: format!("{} stopped", program.name) });
    }
    supervisor.shutdown(Duration::from_secs(30)).await?;
    Ok(running.len())
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
