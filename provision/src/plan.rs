//! From what is wanted and what there is to the steps in between. Pure: no I/O, no clock, serialisable.

mod basis;
mod diff;
mod graph;
mod phase;
mod problems;
pub mod saved;

use crate::derive::{self, Gate, Program, Role};
use crate::error::Result;
use crate::facts::HostFacts;
use crate::inventory::Binaries;
use crate::layout::Layout;
use crate::packages::{self, PackagePlan};
use crate::render::{self, RenderedFile};
use crate::resolve::{Cluster, Host};
use crate::supervisor::ProcessState;
pub use basis::Basis;
pub use diff::{FileChange, FileDiff, Texts, diff, replaced, unified};
pub use graph::graph;
pub use phase::Phase;
pub(crate) use problems::driver_text;
pub use problems::{mixed_versions, problems};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Version of a plan's JSON form.
pub const PLAN_VERSION: u32 = 1;

/// What is done to a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It runs as it should: its gate is asked.
    Keep,
    /// It does not run.
    Start,
    /// It runs, but not as it should.
    Restart {
        /// What is different.
        why: String,
    },
    /// It is restarted when the build gives another binary.
    RestartIfBuilt,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each field is named for what it is")]
pub enum Action {
    /// Installs or links nats-server and Supervisor.
    InstallPackages { packages: PackagePlan },
    /// Builds our binaries.
    Build { workspace: PathBuf },
    /// Makes directories.
    MakeDirectories { paths: Vec<PathBuf> },
    /// Puts the cluster secret in place.
    PlaceSecret { path: PathBuf },
    /// Installs one of our binaries: from `source`, or what the build gives.
    InstallBinary { name: String, source: Option<PathBuf> },
    /// Writes a file.
    WriteFile { file: RenderedFile, replaces: Option<String> },
    /// Removes a file that is no longer wanted.
    RemoveFile { path: PathBuf },
    /// Stops programs of this cluster that no supervisord looks after.
    StopOrphans { pids: Vec<u32> },
    /// Ends a running supervisord and its programs, since it reads its own file only at its start.
    StopSupervisor,
    /// Starts supervisord.
    StartSupervisor,
    /// Stops a program that is no longer wanted.
    RemoveProgram { name: String },
    /// Brings a program to where it should be and waits behind its gate.
    Program { program: Box<Program>, change: Change },
    /// Waits behind a gate that is no program's.
    Wait { gate: Gate, seconds: u64 },
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Identity within the plan.
    pub id: String,
    /// What it does, for people.
    pub title: String,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
}

impl Step {
    /// Whether it changes something, or may.
    pub fn changes(&self) -> bool {
        !matches!(self.action, Action::Wait { .. } | Action::Program { change: Change::Keep, .. })
    }
}

/// What brings a host to where it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the host.
    pub host: String,
    /// Directory that holds everything.
    pub prefix: PathBuf,
    /// The steps in order.
    pub steps: Vec<Step>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Plan {
    /// Steps that change something, or may.
    pub fn changes(&self) -> usize {
        self.steps.iter().filter(|step| step.changes()).count()
    }
}

/// How long the first solution may take after everything is ready, in seconds: sectors must be plotted before.
pub const FIRST_SOLUTION_SECONDS: u64 = 1200;

/// Plans a host.
///
/// # Errors
/// What is missing cannot be installed, or a value cannot be rendered. That the host is unfit is told by [`problems`].
pub fn plan(cluster: &Cluster, host: &Host, facts: &HostFacts) -> Result<Plan> {
    let layout = Layout::of(host);
    let (mut programs, notes) = derive::programs(cluster, host, facts);
    let files = render::files(cluster, host, &mut programs)?;
    let mut planner = Planner { cluster, host, facts, layout, steps: Vec::new(), rewritten: BTreeSet::new() };
    planner.packages()?;
    planner.build();
    planner.directories();
    planner.secret();
    planner.binaries();
    planner.files(&files);
    planner.supervisor(&files);
    planner.programs(programs);
    if let Some(gate) = derive::final_gate(cluster, host) {
        let action = Action::Wait { gate, seconds: FIRST_SOLUTION_SECONDS };
        planner.step("first-solution", "wait for the first accepted solution".to_string(), action);
    }
    Ok(Plan {
        version: PLAN_VERSION,
        cluster: cluster.name.clone(),
        host: host.name.value.clone(),
        prefix: host.prefix.clone(),
        steps: planner.steps,
        notes,
    })
}

struct Planner<'a> {
    cluster: &'a Cluster,
    host: &'a Host,
    facts: &'a HostFacts,
    layout: Layout,
    steps: Vec<Step>,
    /// Files that a step writes.
    rewritten: BTreeSet<PathBuf>,
}

impl Planner<'_> {
    fn step(&mut self, id: impl Into<String>, title: String, action: Action) {
        self.steps.push(Step { id: id.into(), title, action });
    }

    fn packages(&mut self) -> Result<()> {
        let packages = packages::plan(&self.layout.prefix, self.facts)?;
        if !packages.is_empty() {
            let names = packages.install.iter().map(|origin| match origin {
                packages::Origin::Path { commands, version } => {
                    let name = commands.keys().next().map_or("", String::as_str);
                    format!("{name} {version} (linked from PATH)")
                }
                packages::Origin::Pinned { package } => format!("{} {}", package.name, package.version),
            });
            let mut title = format!("install {}", names.collect::<Vec<_>>().join(", "));
            if !packages.apt.is_empty() {
                title += &format!(", after apt-get install {}", packages.apt.join(" "));
            }
            self.step("packages", title, Action::InstallPackages { packages });
        }
        Ok(())
    }

    fn build(&mut self) {
        let build = &self.facts.build;
        if let (Binaries::Build, Some(workspace), Some(why)) =
            (&self.cluster.binaries, &build.workspace, &build.due)
        {
            let title = format!("build autonomys-farmer and autonomys-dev-node ({why})");
            self.step("build", title, Action::Build { workspace: workspace.clone() });
        }
    }

    fn directories(&mut self) {
        let layout = &self.layout;
        // The prefix and its `state` are not among them: they are made for the lock, before anything is planned.
        let mut wanted: Vec<PathBuf> = vec![
            layout.bin(),
            layout.etc(),
            layout.etc().join("supervisor.d"),
            layout.data(),
            layout.logs(),
            layout.run(),
        ];
        // A directory elsewhere is the operator's to make: an unmounted disk must not become a directory of its
        // mount point's file system.
        wanted.extend(
            crate::facts::data_paths(self.host).into_iter().filter(|path| path.starts_with(&layout.prefix)),
        );
        // The short socket directory is on no list of the prefix; it is made when supervisord is started.
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|path| path.starts_with(&layout.prefix) && !self.facts.directories.contains(path))
            .collect();
        if !missing.is_empty() {
            let title = format!(
                "make {} below {}",
                crate::error::count_of(missing.len(), "directory", "directories"),
                layout.prefix.display()
            );
            self.step("directories", title, Action::MakeDirectories { paths: missing });
        }
    }

    fn secret(&mut self) {
        if self.facts.secret.is_none() {
            let path = self.layout.secret();
            let title = format!("put the cluster secret into {}", path.display());
            self.step("secret", title, Action::PlaceSecret { path });
        }
    }

    /// Why a binary is not the one that the sources give; none when it is.
    fn binary_state(&self, name: &str) -> BinaryState {
        let brought = self.cluster.brought().iter().any(|(brought, _)| *brought == name);
        if self.facts.build.due.is_some() && !brought {
            return BinaryState::Unknown;
        }
        let wanted = self.facts.build.digests.get(name).map(|digest| self.layout.artifact(digest, name));
        let link = self.facts.links.get(name);
        match (wanted, link) {
            (Some(wanted), Some(link)) if link.target == wanted && !link.resolved.as_os_str().is_empty() => {
                BinaryState::Current
            }
            _ => BinaryState::Other,
        }
    }

    fn binaries(&mut self) {
        for name in self.cluster.artifacts_of(self.host) {
            let (source, title) = match self.binary_state(name) {
                BinaryState::Current => continue,
                BinaryState::Unknown => (None, format!("install {name} when the build gives another one")),
                BinaryState::Other => {
                    (self.facts.build.executables.get(name).cloned(), format!("install {name}"))
                }
            };
            self.step(
                format!("binary:{name}"),
                title,
                Action::InstallBinary { name: name.to_string(), source },
            );
        }
    }

    fn files(&mut self, files: &[RenderedFile]) {
        let wanted = render::by_path(files);
        for file in files {
            let there = self.facts.files.get(&file.path);
            if there.is_some_and(|digest| *digest == file.digest()) {
                continue;
            }
            let name =
                file.path.strip_prefix(&self.layout.prefix).unwrap_or(&file.path).display().to_string();
            let verb = if there.is_some() { "update" } else { "write" };
            if file.path == self.layout.supervisord_conf() && self.facts.supervisor.is_some() {
                // Before the file is written: a run that is cut off in between leaves one that has to be started, not one
                // that runs with what is no longer there.
                let title = "stop supervisord: its own file changes".to_string();
                self.step("supervisord:stop", title, Action::StopSupervisor);
            }
            self.rewritten.insert(file.path.clone());
            let action = Action::WriteFile { file: file.clone(), replaces: there.cloned() };
            self.step(format!("file:{name}"), format!("{verb} {name}"), action);
        }
        let extra: Vec<_> = self
            .facts
            .files
            .keys()
            .filter(|path| path.parent().is_some_and(|parent| parent.ends_with("supervisor.d")))
            .filter(|path| !wanted.contains_key(path.as_path()))
            .cloned()
            .collect();
        for path in extra {
            let name = path.strip_prefix(&self.layout.prefix).unwrap_or(&path).display().to_string();
            self.step(format!("file:{name}"), format!("remove {name}"), Action::RemoveFile { path });
        }
    }

    fn supervisor(&mut self, files: &[RenderedFile]) {
        let orphans: Vec<u32> = self.facts.orphans().iter().map(|process| process.pid).collect();
        if !orphans.is_empty() {
            let many = crate::error::count_of(orphans.len(), "program", "programs");
            let title = format!("stop {many} left behind by a supervisord that is gone");
            self.step("orphans", title, Action::StopOrphans { pids: orphans });
        }
        match &self.facts.supervisor {
            None => self.step("supervisord", "start supervisord".to_string(), Action::StartSupervisor),
            Some(_) if self.supervisor_restarts() => {
                self.step("supervisord", "start supervisord".to_string(), Action::StartSupervisor);
            }
            Some(running) => {
                let wanted: BTreeSet<_> = files.iter().map(|file| file.path.clone()).collect();
                let gone: Vec<_> = running
                    .programs
                    .keys()
                    .filter(|name| !wanted.contains(&self.layout.program_conf(name)))
                    .cloned()
                    .collect();
                for name in gone {
                    let title = format!("stop {name}, which the inventory has no more");
                    self.step(format!("program:{name}"), title, Action::RemoveProgram { name });
                }
            }
        }
    }

    fn supervisor_restarts(&self) -> bool {
        self.rewritten.contains(&self.layout.supervisord_conf())
    }

    fn programs(&mut self, programs: Vec<Program>) {
        for program in programs {
            let change = self.change(&program);
            let title = match &change {
                Change::Keep => format!("{} runs", program.name),
                Change::Start => format!("start {}", program.name),
                Change::Restart { why } => format!("restart {}: {why}", program.name),
                Change::RestartIfBuilt => {
                    format!("restart {} when the build gives another binary", program.name)
                }
            };
            let action = Action::Program { change, program: Box::new(program.clone()) };
            self.step(format!("program:{}", program.name), title, action);
        }
    }

    fn change(&self, program: &Program) -> Change {
        let Some(supervisor) = &self.facts.supervisor else { return Change::Start };
        if self.supervisor_restarts() {
            return Change::Start;
        }
        let running = supervisor
            .programs
            .get(&program.name)
            .filter(|running| matches!(running.state, ProcessState::Running | ProcessState::Starting));
        let Some(running) = running else { return Change::Start };
        let restart = |why: &str| Change::Restart { why: why.to_string() };
        if self.rewritten.contains(&self.layout.program_conf(&program.name))
            || supervisor.stale.contains(&program.name)
            || program.role == Role::NatsServer && self.rewritten.contains(&self.layout.nats_conf())
        {
            return restart("its configuration changed");
        }
        let binary = program.role.binary();
        let ours = self.cluster.artifacts_of(self.host).contains(&binary);
        if ours {
            match self.binary_state(binary) {
                BinaryState::Unknown => return Change::RestartIfBuilt,
                BinaryState::Other => return restart(&format!("{binary} changed")),
                BinaryState::Current => {}
            }
        }
        let process = self.facts.processes.iter().find(|process| Some(process.pid) == running.pid);
        let link = self.facts.links.get(binary);
        match (process, link) {
            (Some(process), Some(link)) if process.executable != link.resolved => {
                restart(&format!("it still runs an older {binary}"))
            }
            _ => Change::Keep,
        }
    }
}

/// Whether an installed binary is the wanted one.
enum BinaryState {
    /// It is.
    Current,
    /// It is not, or is not there.
    Other,
    /// The build will tell.
    Unknown,
}
