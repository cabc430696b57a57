//! Going back: by itself when what a run changed does not work, and by hand to what stood before a run.

use super::executor::{Executor, SUPERVISORD_STOP};
use super::fleet::{Connection, Failures, side_by_side};
use super::site::Site;
use super::{Options, holder, name_of_run};
use crate::derive::Program;
use crate::error::{Error, Problem, Result};
use crate::events::{Event, Sink};
use crate::facts::{self, BuildFacts, HostFacts};
use crate::generations::{FileSet, Generation, Kept};
use crate::journal::{Journal, What};
use crate::layout::Layout;
use crate::plan::{Action, Step};
use crate::resolve::{Cluster, Host};
use crate::supervisor::Reload;
use crate::transport::{Lock, Transport};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Identity of the step in events.
const STEP: &str = "rollback";

impl Executor<'_> {
    /// Puts the files back as they were before the run, and nothing else; fine when none was changed.
    pub(super) async fn put_files_back(&mut self) -> Result<()> {
        let Some(base) = self.base.take().filter(|_| self.files_changed) else { return Ok(()) };
        let generation = self.generation();
        self.journal.add(What::PuttingBack { generation: generation.clone() }).await?;
        base.restore(&self.beside(), self.layout, self.transport).await?;
        self.settle(base.programs, generation).await
    }

    /// Goes back to what ran before, when a program does not become ready on files that are new. The error says what became of it.
    pub(super) async fn take_back(&mut self, step: &Step, error: Error) -> Error {
        let about_programs = matches!(
            step.action,
            Action::Program { .. } | Action::RemoveProgram { .. } | Action::StartSupervisor
        );
        // Of a host that cannot be reached nothing can be put back.
        if !about_programs || !self.files_changed || matches!(error, Error::Connection { .. }) {
            return error;
        }
        let Some(mut base) = self.base.take().filter(|base| base.is_whole(self.layout)) else { return error };
        if base.programs.is_empty() {
            let conf = |program: &&Program| base.files.contains_key(&self.layout.program_conf(&program.name));
            base.programs = self.programs().filter(conf).cloned().collect();
        }
        let host = self.plan.host.clone();
        self.site().sink.event(&Event::RollbackStarted { host: host.clone(), generation: self.generation() });
        let gone = self.go_back(&base).await;
        let (restarted, problem) = match gone {
            Ok(restarted) => (restarted, None),
            Err(problem) => (Vec::new(), Some(problem.to_string())),
        };
        let problem_told = problem.clone();
        self.site().sink.event(&Event::RollbackFinished { host, restarted, problem: problem_told });
        Error::TakenBack { error: Box::new(error), problem }
    }

    async fn go_back(&mut self, base: &FileSet) -> Result<Vec<String>> {
        let generation = self.generation();
        self.journal.add(What::PuttingBack { generation: generation.clone() }).await?;
        let restarted = put_back(&self.site(), base, &self.beside(), &self.touched).await?;
        self.settle(base.programs.clone(), generation).await?;
        Ok(restarted)
    }

    /// Writes down that what was kept is in place again.
    async fn settle(&mut self, programs: Vec<Program>, generation: String) -> Result<()> {
        if let Some(kept) = &mut self.kept {
            kept.set_programs(programs);
            kept.write(self.layout, self.transport).await?;
        }
        self.files_changed = false;
        self.journal.add(What::PutBack { generation }).await
    }

    fn generation(&self) -> String {
        let newest = self.kept.as_ref().and_then(|kept| kept.generations().last());
        newest.map_or_else(|| "nothing".to_string(), |generation| generation.name.clone())
    }

    /// Files that may be there and not in the base: what was there, and what the plan writes.
    fn beside(&self) -> Vec<PathBuf> {
        let written = self.plan.steps.iter().filter_map(|step| match &step.action {
            Action::WriteFile { file, .. } => Some(&file.path),
            _ => None,
        });
        self.facts.files.keys().chain(written).cloned().collect()
    }
}

/// Puts a file set in place and has its programs run on it: those that are configured otherwise now, run another binary, or
/// are in `touched`; each behind its gate. Returns the names of those.
async fn put_back(
    site: &Site<'_>,
    set: &FileSet,
    beside: &[PathBuf],
    touched: &BTreeSet<String>,
) -> Result<Vec<String>> {
    let changed = set.restore(beside, site.layout, site.transport).await?;
    let supervisor = site.supervisor();
    let mut runs = supervisor.pid().await.is_ok();
    if runs && changed.contains(&site.layout.supervisord_conf()) {
        // It reads its own file only at its start.
        supervisor.shutdown(SUPERVISORD_STOP).await?;
        runs = false;
    }
    let reload = match runs {
        true => supervisor.reload().await?,
        false => site.start_supervisor().await.map(|_| Reload::default())?,
    };
    for name in &reload.removed {
        supervisor.stop(name, site.patient(60)).await?;
        supervisor.remove(name).await?;
    }
    let (mut restarted, mut problem) = (Vec::new(), None);
    for program in &set.programs {
        let name = &program.name;
        let due =
            !runs || touched.contains(name) || reload.added.contains(name) || reload.changed.contains(name);
        if !due && !site.runs_old_binary(program).await? {
            continue;
        }
        site.progress(STEP, format!("{name} is started on what was put back"));
        let started = async {
            site.bring_up(program, &reload).await?;
            site.gate(STEP, program).await
        };
        match started.await {
            Ok(_) => restarted.push(name.clone()),
            // The others may be well.
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    problem.map_or(Ok(restarted), Err)
}

/// What a run replaced, over all hosts that still keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The run: what `--to` takes.
    pub name: String,
    /// Its command.
    pub command: String,
    /// Its hosts, and what it changed there: files below the prefix and binaries.
    pub hosts: BTreeMap<String, Vec<String>>,
}

/// A host that was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PutBack {
    /// Its name.
    pub host: String,
    /// Programs that were started on what was put back.
    pub restarted: Vec<String>,
}

/// A host and what it keeps.
struct Keeper<'a> {
    host: &'a Host,
    transport: Arc<dyn Transport>,
    layout: Layout,
    facts: HostFacts,
    kept: Kept,
}

impl<'a> Keeper<'a> {
    async fn ask(host: &'a Host, transport: Arc<dyn Transport>) -> Result<Self> {
        let layout = Layout::of(host);
        let facts = facts::gather(host, &*transport, &BuildFacts::default()).await?;
        let kept = Kept::read(&layout, &*transport).await?;
        Ok(Self { host, transport, layout, facts, kept })
    }

    async fn present(&self) -> Result<FileSet> {
        FileSet::capture(&self.layout, &self.facts, self.kept.programs().to_vec(), &*self.transport).await
    }

    /// Puts back what stood here before the run `to`; none when that is what stands here.
    async fn go_back(
        &mut self,
        to: &str,
        name: &str,
        options: &Options,
        sink: &dyn Sink,
    ) -> Result<Option<PutBack>> {
        let Some(wanted) = self.kept.before(to)?.map(|generation| generation.set.clone()) else {
            return Ok(None);
        };
        let journal = Journal::new(&self.layout, &*self.transport);
        let present = self.present().await?;
        let command = STEP.to_string();
        let version = env!("CARGO_PKG_VERSION").to_string();
        journal.add(What::Begun { command: command.clone(), version }).await?;
        self.kept.add(Generation { name: name.to_string(), command, set: present });
        self.kept.set_programs(wanted.programs.clone());
        self.kept.write(&self.layout, &*self.transport).await?;
        journal.add(What::Kept { generation: name.to_string() }).await?;
        journal.add(What::PuttingBack { generation: to.to_string() }).await?;
        let host = self.host.name.value.clone();
        let (layout, transport) = (&self.layout, &*self.transport);
        let site = Site { host: &host, layout, transport, options, sink };
        let beside: Vec<_> = self.facts.files.keys().cloned().collect();
        let done = match self.facts.supervisor {
            Some(_) => put_back(&site, &wanted, &beside, &BTreeSet::new()).await,
            // What was stopped stays so.
            None => wanted.restore(&beside, layout, transport).await.map(|_| Vec::new()),
        };
        if done.is_ok() {
            journal.add(What::PutBack { generation: to.to_string() }).await?;
        }
        let error = done.as_ref().err().map(ToString::to_string);
        journal.add(What::Ended { error }).await?;
        done.map(|restarted| Some(PutBack { host, restarted }))
    }
}

/// What runs replaced, newest first.
///
/// # Errors
/// A host cannot be asked.
pub async fn generations(
    connections: Vec<Connection<'_>>,
    forks: usize,
    sink: &dyn Sink,
) -> Result<Vec<Replaced>> {
    let mut failures = Failures::new(sink, connections.len());
    let connected = failures.keep(connections);
    let asking = side_by_side(connected, forks, |(host, transport)| async move {
        let asked = async {
            let keeper = Keeper::ask(host, transport).await?;
            let present = keeper.present().await?;
            Ok((keeper, present))
        };
        (host, asked.await)
    });
    let asked = failures.keep(asking.await);
    failures.verdict()?;
    let mut runs: BTreeMap<String, Replaced> = BTreeMap::new();
    for (host, (keeper, present)) in asked {
        let generations = keeper.kept.generations();
        let after = generations.iter().skip(1).map(|generation| &generation.set).chain([&present]);
        for (generation, after) in generations.iter().zip(after) {
            let run = runs.entry(generation.name.clone()).or_insert_with(|| Replaced {
                name: generation.name.clone(),
                command: generation.command.clone(),
                hosts: BTreeMap::new(),
            });
            let changed = generation.set.differences(after, &keeper.layout);
            run.hosts.insert(host.name.value.clone(), changed);
        }
    }
    Ok(runs.into_values().rev().collect())
}

/// Puts back what stood on each host before a run: the one named, or else the last that changed something. One host after the
/// other, and no further one when one does not come back. What stood there last is kept, too: a second rollback undoes the first.
///
/// # Errors
/// No such run, a host cannot be asked or is at work, or something does not run on what was put back.
pub async fn rollback(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    to: Option<&str>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Vec<PutBack>> {
    sink.event(&Event::RunStarted {
        command: STEP.to_string(),
        cluster: cluster.name.clone(),
        hosts: connections.iter().map(|(host, _)| host.name.value.clone()).collect(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    });
    let mut failures = Failures::new(sink, connections.len());
    let connected = failures.keep(connections);
    let asking = side_by_side(connected, options.forks, |(host, transport)| async move {
        (host, held(host, transport).await)
    });
    let mut keepers = failures.keep(asking.await);
    // Part of a cluster is not put back: its hosts would be of two kinds.
    failures.verdict()?;
    let known: BTreeSet<String> = keepers
        .iter()
        .flat_map(|(_, (keeper, _))| keeper.kept.generations())
        .map(|generation| generation.name.clone())
        .collect();
    let to = chosen(to, &known)?;
    let (name, mut done) = (name_of_run(), Vec::new());
    for (host, (keeper, _)) in &mut keepers {
        match keeper.go_back(&to, &name, options, sink).await {
            Ok(put_back) => done.extend(put_back),
            Err(error) if cluster.hosts.len() == 1 => return Err(error),
            Err(error) => {
                return Err(Error::OnHost { host: host.name.value.clone(), error: Box::new(error) });
            }
        }
    }
    Ok(done)
}

/// A host that is locked, and what it keeps.
async fn held(host: &Host, transport: Arc<dyn Transport>) -> Result<(Keeper<'_>, Box<dyn Lock>)> {
    let layout = Layout::of(host);
    if transport.resolve(&layout.state()).await?.is_none() {
        return Err(Error::NotRunning { prefix: layout.prefix });
    }
    let lock = transport.lock(&layout.lock(), &holder(STEP)).await?;
    Ok((Keeper::ask(host, transport).await?, lock))
}

fn chosen(to: Option<&str>, known: &BTreeSet<String>) -> Result<String> {
    let wrong = |message: String, hint: &str| Error::Check {
        problems: vec![Problem { code: "no-generation", message, hint: hint.to_string() }],
    };
    match (to, known.last()) {
        (_, None) => Err(wrong(
            "no host keeps what stood there before".to_string(),
            "nothing has been changed there yet since the first apply",
        )),
        (None, Some(newest)) => Ok(newest.clone()),
        (Some(to), _) if known.contains(to) => Ok(to.to_string()),
        (Some(to), _) => {
            let known = known.iter().rev().map(String::as_str).collect::<Vec<_>>().join(", ");
            let hint = "`provision rollback INVENTORY --list` says what each of them changed";
            Err(wrong(format!("no run {to} is known; there are {known}"), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_nobody_knows_is_refused_with_those_that_are_known() {
        assert!(chosen(None, &BTreeSet::new()).is_err());
        let known = BTreeSet::from(["20261121-054200".to_string(), "20261122-054200".to_string()]);
        assert_eq!(chosen(None, &known).expect("the newest"), "20261122-054200");
        assert_eq!(chosen(Some("20261121-054200"), &known).expect("that one"), "20261121-054200");
        let error = chosen(Some("2"), &known).expect_err("unknown").to_string();
        assert_eq!(error, "no run 2 is known; there are 20261122-054200, 20261121-054200");
    }
}
