//! A run over every host of a cluster: they are examined and prepared side by side, then started role by role, so that
//! what a role waits for is there when it starts, on whichever host.

use super::build::{self, Built};
use super::executor::Executor;
use super::planning::{check_saved, texts};
use super::scope::{Scope, restrict};
use super::{Options, Report, finished, holder, judge, milliseconds};
use crate::artifacts;
use crate::derive::{Gate, Role};
use crate::error::{Error, HostFailure, Result};
use crate::events::{Event, Outcome, Sink};
use crate::facts::{self, BuildFacts, HostFacts};
use crate::gates::Answer;
use crate::inventory::SecretReference;
use crate::journal::LastRun;
use crate::layout::Layout;
use crate::plan::{self, Action, Change, Phase, Plan, Step};
use crate::resolve::{Cluster, Host};
use crate::secret::Secret;
use crate::supervisor::ProcessState;
use crate::transport::{self, Local, Lock, Transport};
use futures::{StreamExt, stream};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// A host and what became of reaching it.
pub type Connection<'a> = (&'a Host, Result<Arc<dyn Transport>>);

/// Connects to every host, `forks` at once; in the order of the inventory.
pub async fn connect(cluster: &Cluster, forks: usize) -> Vec<Connection<'_>> {
    connect_to(&cluster.hosts, forks).await
}

/// Connects to some hosts, `forks` at once; in their order.
pub async fn connect_to<'a>(hosts: impl IntoIterator<Item = &'a Host>, forks: usize) -> Vec<Connection<'a>> {
    side_by_side(hosts, forks, |host| async move { (host, transport::connect(host).await) }).await
}

/// Does `work` for each item, `forks` at once; gives the results in the order of the items.
pub async fn side_by_side<T, F: Future>(
    items: impl IntoIterator<Item = T>,
    forks: usize,
    work: impl FnMut(T) -> F,
) -> Vec<F::Output> {
    stream::iter(items.into_iter().map(work)).buffered(forks.max(1)).collect().await
}

/// What the hosts of a run have in common.
pub(super) struct Run<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) options: &'a Options,
    pub(super) sink: &'a dyn Sink,
    pub(super) scope: Scope,
    /// Its name among the generations that hosts keep.
    pub(super) name: String,
    /// The cluster secret: a host's that has one, else what the inventory says or chance gives.
    secret: OnceCell<Secret>,
    /// What the build gave.
    built: OnceCell<Built>,
}

impl Run<'_> {
    /// The cluster secret.
    pub(super) async fn secret(&self) -> Result<&Secret> {
        let reference = &self.cluster.secret;
        let fetch = || async { Secret::fetch(reference, &Local).await?.map_or_else(Secret::generate, Ok) };
        self.secret.get_or_try_init(fetch).await
    }

    /// What the build gives, which whoever asks first does.
    pub(super) async fn built(&self, workspace: &Path, progress: &(dyn Fn(&str) + Sync)) -> Result<&Built> {
        let build = || async {
            let built = build::cargo(workspace, &facts::BINARIES, progress).await?;
            let state = facts::of_workspace(workspace, built.executables.clone());
            let text = serde_json::to_vec(&state).map_err(|error| Error::Internal(error.to_string()))?;
            let stamp = &self.cluster.stamp;
            if let Some(directory) = stamp.parent() {
                Local.make_directory(directory, 0o755).await?;
            }
            Local.write(stamp, &text, 0o644).await?;
            Ok(built)
        };
        self.built.get_or_try_init(build).await
    }

    /// An executable of the build; none before it, or when it gives no such.
    pub(super) fn executable(&self, name: &str) -> Option<&Path> {
        self.built.get()?.executables.get(name).map(PathBuf::as_path)
    }
}

/// A host that is fit and locked, with its plan.
pub(super) struct Prepared<'a> {
    host: &'a Host,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) layout: Layout,
    pub(super) facts: HostFacts,
    pub(super) plan: Plan,
    /// Excludes other runs for as long as this one lasts.
    _lock: Box<dyn Lock>,
}

/// Hosts on which the run has ended before its end.
pub(crate) struct Failures<'a> {
    sink: &'a dyn Sink,
    hosts: Vec<HostFailure>,
    of: usize,
}

impl<'a> Failures<'a> {
    /// None yet, `of` so many hosts.
    pub(crate) fn new(sink: &'a dyn Sink, of: usize) -> Self {
        Self { sink, hosts: Vec::new(), of }
    }

    fn add(&mut self, host: &Host, error: Error) {
        if self.of > 1 {
            self.sink.event(&Event::HostFailed {
                host: host.name.value.clone(),
                message: error.to_string(),
                hint: error.hint(),
            });
        }
        self.hosts.push(HostFailure { host: host.name.value.clone(), error });
    }

    /// Whether nothing may be begun on any host.
    pub(super) fn forbid(&self) -> bool {
        self.hosts.iter().any(|failure| failure.error.is_unfit())
    }

    /// Those that went well.
    pub(crate) fn keep<'h, T>(&mut self, results: Vec<(&'h Host, Result<T>)>) -> Vec<(&'h Host, T)> {
        let mut kept = Vec::new();
        for (host, result) in results {
            match result {
                Ok(value) => kept.push((host, value)),
                Err(error) => self.add(host, error),
            }
        }
        kept
    }

    /// The error that the run ends with, if any host failed.
    pub(crate) fn verdict(mut self) -> Result<()> {
        match self.hosts.len() {
            0 => Ok(()),
            // A cluster of one host fails as that host does.
            1 if self.of == 1 => Err(self.hosts.remove(0).error),
            _ => Err(Error::Hosts { failures: self.hosts, of: self.of }),
        }
    }
}

/// Brings every host to where the inventory wants it.
///
/// # Errors
/// Hosts that cannot be reached or fail are left as they are, and the others go on; nothing is done at all when one is unfit.
pub(super) async fn run(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
    sink: &dyn Sink,
    scope: Scope,
) -> Result<Report> {
    let started = Instant::now();
    sink.event(&Event::RunStarted {
        command: scope.command().to_string(),
        cluster: cluster.name.clone(),
        hosts: connections.iter().map(|(host, _)| host.name.value.clone()).collect(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    });
    if let Some(saved) = &options.saved {
        saved.check_inventory(cluster)?;
    }
    let mut failures = Failures::new(sink, connections.len());
    if scope == Scope::Everything {
        artifacts::fetch(cluster, sink).await?;
    }
    let binaries = facts::binaries(cluster, &Local).await?;
    let left_out: Vec<&Host> = cluster
        .hosts
        .iter()
        .filter(|host| connections.iter().all(|(meant, _)| meant.name != host.name))
        .collect();
    let connected = failures.keep(connections);
    let name = super::name_of_run();
    let mut run =
        Run { cluster, options, sink, scope, name, secret: OnceCell::new(), built: OnceCell::new() };
    let preparing = side_by_side(connected, options.forks, |(host, transport)| {
        let prepared = prepare(&run, host, transport, &binaries);
        async move { (host, prepared.await) }
    });
    let prepared = failures.keep(preparing.await);
    if failures.forbid() {
        return Err(failures.verdict().expect_err("there is one"));
    }
    let prepared: Vec<_> = prepared.into_iter().map(|(_, prepared)| prepared).collect();
    let hosts: Vec<_> = prepared.iter().map(|prepared| (prepared.host, &prepared.facts)).collect();
    for message in plan::mixed_versions(&hosts) {
        sink.event(&Event::Warning { host: None, message });
    }
    run.secret = common_secret(cluster, &prepared, &left_out).await?;
    let changes = match settled(&run, &prepared).await {
        true => 0,
        false => execute(&run, &prepared, &mut failures).await,
    };
    failures.verdict()?;
    sink.event(&finished(cluster, changes, started, options));
    Ok(Report { plans: prepared.into_iter().map(|prepared| prepared.plan).collect(), changes })
}

/// Examines, locks and plans a host.
async fn prepare<'a>(
    run: &Run<'_>,
    host: &'a Host,
    transport: Arc<dyn Transport>,
    binaries: &BuildFacts,
) -> Result<Prepared<'a>> {
    let (cluster, options, sink, scope) = (run.cluster, run.options, run.sink, run.scope);
    let layout = Layout::of(host);
    let name = || Some(host.name.value.clone());
    let (question, holder) = (facts::Question::of(host), holder(scope.command()));
    let entered = async || {
        let asked_ms = facts::now_ms();
        let (facts, lock) = transport.enter(&question, &holder).await?;
        let judged = judge(cluster, host, facts.seen_from_here(asked_ms, binaries))?;
        Ok::<_, Error>((judged, lock))
    };
    // A saved plan has to fit before anything is touched.
    let check = |facts: &HostFacts| -> Result<Plan> {
        let plan = plan::plan(cluster, host, facts)?;
        match &options.saved {
            Some(saved) => check_saved(saved, host, facts, &plan).map(|()| plan),
            None => Ok(plan),
        }
    };
    let (mut judged, mut lock) = entered().await?;
    if lock.is_none() {
        if scope != Scope::Everything {
            return Err(Error::NotRunning { prefix: layout.prefix });
        }
        check(&judged.0)?;
        // The lock needs a place, which a host gets only once it is known to be fit.
        transport.make_directory(&layout.state(), 0o755).await?;
        (judged, lock) = entered().await?;
    }
    let Some(lock) = lock else {
        return Err(Error::Internal(format!(
            "{} was removed as soon as it was made",
            layout.state().display()
        )));
    };
    let (facts, warnings) = judged;
    for warning in warnings {
        sink.event(&Event::Warning { host: name(), message: warning.message });
    }
    let mut plan = check(&facts)?;
    restrict(&mut plan, scope, &facts, options, sink);
    for note in &plan.notes {
        sink.event(&Event::Note { host: name(), message: note.clone() });
    }
    sink.event(&Event::Planned {
        host: plan.host.clone(),
        changes: plan.changes(),
        gates: plan.steps.len() - plan.changes(),
    });
    if options.diff {
        for diff in plan::diff(&plan, &texts(&plan, &*transport).await) {
            sink.event(&Event::FileDiff { host: plan.host.clone(), diff });
        }
    }
    Ok(Prepared { host, transport, layout, facts, plan, _lock: lock })
}

/// The secret that hosts of the cluster have already. Compared on every run: one made while a host was away is not that
/// host's. Hosts that a limit leaves out are asked only when a host lacks it and none of the others has it.
async fn common_secret(
    cluster: &Cluster,
    prepared: &[Prepared<'_>],
    left_out: &[&Host],
) -> Result<OnceCell<Secret>> {
    if cluster.secret != SecretReference::Generate {
        return Ok(OnceCell::new());
    }
    let having = || prepared.iter().filter(|prepared| prepared.facts.secret.is_some());
    let Some(first) = having().next() else {
        let found = if prepared.is_empty() { None } else { secret_of_others(left_out).await? };
        return Ok(found.map_or_else(OnceCell::new, |secret| OnceCell::new_with(Some(secret))));
    };
    if let Some(other) = having().find(|other| other.facts.secret != first.facts.secret) {
        let (first_name, second_name) = (&first.host.name.value, &other.host.name.value);
        return Err(Error::Secret(format!(
            "hosts {first_name} and {second_name} have different ones; keep one of the files {}",
            first.layout.secret().display()
        )));
    }
    if having().count() == prepared.len() {
        return Ok(OnceCell::new());
    }
    let secret = Secret::of_host(&first.layout.secret(), &*first.transport).await?;
    Ok(OnceCell::new_with(Some(secret)))
}

/// The secret of the first host that has one. A host that cannot be asked may have it: then none may be made.
async fn secret_of_others(hosts: &[&Host]) -> Result<Option<Secret>> {
    for host in hosts {
        let asked = async {
            let transport = transport::connect(host).await?;
            let path = Layout::of(host).secret();
            match transport.resolve(&path).await? {
                Some(_) => Secret::of_host(&path, &*transport).await.map(Some),
                None => Ok(None),
            }
        };
        match asked.await {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                return Err(Error::Secret(format!(
                    "no host of this run has one, and {}, which is left out, cannot be asked for it: {error}",
                    host.name.value
                )));
            }
        }
    }
    Ok(None)
}

/// Whether nothing is to be done anywhere, which one question a host tells; the steps of all hosts are told then. Otherwise
/// nothing is, and the gates are asked again behind their steps.
async fn settled(run: &Run<'_>, prepared: &[Prepared<'_>]) -> bool {
    let mixed = |prepared: &Prepared<'_>| prepared.facts.last_run != LastRun::default();
    if prepared.iter().any(|prepared| mixed(prepared) || !runs_as_planned(prepared)) {
        return false;
    }
    let started = Instant::now();
    let asking = side_by_side(prepared, run.options.forks, |prepared| async move {
        let gates: Vec<Gate> = prepared.plan.steps.iter().filter_map(gate_of).cloned().collect();
        prepared.transport.ask(&gates).await.ok()
    });
    let details = asking.await.into_iter().map(|answers| {
        let ready = answers?.into_iter().map(|answer| match answer {
            Answer::Ready(detail) => Some(detail),
            Answer::NotYet(_) => None,
        });
        ready.collect::<Option<Vec<String>>>()
    });
    let Some(details) = details.collect::<Option<Vec<_>>>() else { return false };
    let milliseconds = milliseconds(started);
    for (Prepared { plan, .. }, details) in prepared.iter().zip(details) {
        for ((number, step), detail) in (1..).zip(&plan.steps).zip(details) {
            let (host, id, title) = (plan.host.clone(), step.id.clone(), step.title.clone());
            let of = plan.steps.len();
            run.sink.event(&Event::StepStarted {
                host: host.clone(),
                step: id.clone(),
                title: title.clone(),
                number,
                of,
            });
            let outcome = Outcome::Unchanged;
            run.sink.event(&Event::StepFinished { host, step: id, title, outcome, milliseconds, detail });
        }
    }
    true
}

/// Whether a plan has nothing but gates to be asked, of programs that run.
fn runs_as_planned(prepared: &Prepared<'_>) -> bool {
    let programs = prepared.facts.supervisor.as_ref().map(|supervisor| &supervisor.programs);
    prepared.plan.steps.iter().all(|step| match &step.action {
        Action::Program { program, change: Change::Keep } => programs
            .and_then(|programs| programs.get(&program.name))
            .is_some_and(|facts| facts.state == ProcessState::Running),
        Action::Wait { .. } => true,
        _ => false,
    })
}

/// The gate of a step that changes nothing.
fn gate_of(step: &Step) -> Option<&Gate> {
    match &step.action {
        Action::Program { program, .. } => Some(&program.gate),
        Action::Wait { gate, .. } => Some(gate),
        _ => None,
    }
}

/// Executes the plans phase by phase; returns how many steps changed something.
async fn execute(run: &Run<'_>, prepared: &[Prepared<'_>], failures: &mut Failures<'_>) -> usize {
    let forks = run.options.forks;
    let executors = prepared.iter().map(|prepared| (prepared.host, Executor::new(run, prepared)));
    let beginning = side_by_side(executors, forks, |(host, mut executor)| async move {
        let begun = executor.begin().await;
        (host, begun.map(|()| executor))
    });
    let steps = prepared.iter().flat_map(|prepared| &prepared.plan.steps);
    let phases: BTreeSet<Phase> = steps.map(Phase::of).collect();
    // A host whose supervisord is stopped has nothing running until its last phase: such hosts go after all others, one
    // after the other, and each is whole before the next begins. But for what is down there already others may wait: one
    // such host goes with them.
    let mut mended: Option<&Host> = None;
    let (whole, mut running): (Vec<_>, Vec<_>) =
        failures.keep(beginning.await).into_iter().partition(|(host, executor)| {
            let stops = executor.stops_everything();
            let first_to_mend = stops && mended.is_none() && executor.is_incomplete();
            if first_to_mend {
                mended = Some(host);
            }
            stops && !first_to_mend
        });
    for phase in &phases {
        running = one_phase(*phase, running, forks, mended, failures).await;
    }
    let mut broken = lost(mended, &running);
    for (host, executor) in whole {
        if let Some(broken) = &broken {
            let error = executor.leave(untouched(Phase::Prepare, broken)).await;
            failures.add(host, error);
            continue;
        }
        let mut one = vec![(host, executor)];
        for phase in &phases {
            one = one_phase(*phase, one, forks, None, failures).await;
        }
        if one.is_empty() {
            broken = Some(host.name.value.clone());
        }
        running.extend(one);
    }
    let ending = side_by_side(running, forks, |(host, executor)| async move {
        let ended = executor.end().await;
        (host, ended.map(|()| executor.changes()))
    });
    failures.keep(ending.await).into_iter().map(|(_, changes)| changes).sum()
}

/// Hosts whose run goes on.
type Running<'a, 'e> = Vec<(&'a Host, Executor<'e>)>;

/// The name of a host that was taken down and has failed since.
fn lost(taken_down: Option<&Host>, running: &Running<'_, '_>) -> Option<String> {
    let name = &taken_down?.name.value;
    running.iter().all(|(host, _)| host.name.value != *name).then(|| name.clone())
}

/// One phase on all hosts: side by side, but what is restarted one host after the other, and no further one once one does not
/// come back, or the one that was taken down among them has not.
async fn one_phase<'a, 'e>(
    phase: Phase,
    running: Running<'a, 'e>,
    forks: usize,
    taken_down: Option<&Host>,
    failures: &mut Failures<'_>,
) -> Running<'a, 'e> {
    let (restarted, others): (Vec<_>, Vec<_>) =
        running.into_iter().partition(|(_, executor)| executor.restarts(phase));
    // Servers of one cluster wait for each other: none is ready before most have been started.
    let forks = if phase == Phase::Start(Role::NatsServer) { others.len() } else { forks };
    let working = side_by_side(others, forks, |(host, mut executor)| async move {
        let result = executor.go_through(phase).await;
        (host, result.map(|()| executor))
    });
    let mut left = failures.keep(working.await);
    // In a phase in which it restarts something itself, it is among those that follow.
    let is_among = |host: &&Host| restarted.iter().any(|(other, _)| other.name.value == host.name.value);
    let mut broken = lost(taken_down.filter(|host| !is_among(host)), &left);
    for (host, mut executor) in restarted {
        let result = match &broken {
            None => executor.go_through(phase).await,
            Some(broken) => Err(executor.leave(untouched(phase, broken)).await),
        };
        if result.is_err() && broken.is_none() {
            broken = Some(host.name.value.clone());
        }
        left.extend(failures.keep(vec![(host, result.map(|()| executor))]));
    }
    left
}

fn untouched(phase: Phase, broken: &str) -> Error {
    let what = match phase {
        Phase::Start(role) => role.name(),
        Phase::Prepare | Phase::Wait => "what runs",
    };
    Error::Step {
        step: format!("restart {what}"),
        message: format!("not begun, since {what} on host {broken} did not come back"),
        hint: format!("mend {broken} first, then apply again: this host still runs as before"),
    }
}
