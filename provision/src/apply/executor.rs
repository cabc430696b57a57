//! One step after the other.

use super::fleet::{Prepared, Run};
use super::site::Site;
use super::{Options, milliseconds, programs};
use crate::artifacts;
use crate::derive::{Program, Role};
use crate::error::{Error, Result};
use crate::events::{Event, Outcome, Sink};
use crate::facts::HostFacts;
use crate::generations::{FileSet, Generation, Kept};
use crate::journal::{Journal, What};
use crate::layout::Layout;
use crate::packages;
use crate::plan::{Action, Phase, Plan, Step};
use crate::render::RenderedFile;
use crate::secret::Secret;
use crate::supervisor::{ProcessState, Reload, Supervisor};
use crate::transport::{Command, Transport};
use primitives::cluster_secret;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How long supervisord may take to stop every program and end.
pub(super) const SUPERVISORD_STOP: Duration = Duration::from_secs(120);

/// Executes a plan on a host.
pub(super) struct Executor<'a> {
    run: &'a Run<'a>,
    pub(super) plan: &'a Plan,
    pub(super) layout: &'a Layout,
    pub(super) transport: &'a dyn Transport,
    pub(super) facts: &'a HostFacts,
    pub(super) options: &'a Options,
    sink: &'a dyn Sink,
    pub(super) journal: Journal<'a>,
    /// Steps that changed something.
    changes: usize,
    /// What the host keeps of former file sets, once this run was about to change the present one.
    pub(super) kept: Option<Kept>,
    /// What to go back to when what is changed does not work; none when there is nothing to put back (any more).
    pub(super) base: Option<FileSet>,
    /// Whether files are others than those of the base.
    pub(super) files_changed: bool,
    /// Programs that this run started or restarted.
    pub(super) touched: BTreeSet<String>,
    /// What supervisord said of its configuration, once it was asked.
    pub(super) reload: Option<Reload>,
}

/// What a step came to.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

impl Done {
    pub(super) fn changed(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Changed, detail: detail.into() }
    }

    pub(super) fn unchanged(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unchanged, detail: detail.into() }
    }
}

impl<'a> Executor<'a> {
    pub(super) fn new(run: &'a Run<'a>, prepared: &'a Prepared<'a>) -> Self {
        let Prepared { transport, layout, facts, plan, .. } = prepared;
        Self {
            run,
            plan,
            layout,
            transport: &**transport,
            facts,
            options: run.options,
            sink: run.sink,
            journal: Journal::new(layout, &**transport),
            changes: 0,
            kept: None,
            base: None,
            files_changed: false,
            touched: BTreeSet::new(),
            reload: None,
        }
    }

    /// How many steps changed something.
    pub(super) fn changes(&self) -> usize {
        self.changes
    }

    /// Whether the phase takes a program of this host down that runs.
    pub(super) fn restarts(&self, phase: Phase) -> bool {
        self.plan.restarts(phase)
    }

    /// Whether the plan takes down everything on this host, and others need what runs there now.
    pub(super) fn stops_everything(&self) -> bool {
        let stops_orphans =
            || self.plan.steps.iter().any(|step| matches!(step.action, Action::StopOrphans { .. }));
        self.plan.stops_everything() && self.programs_serve() || stops_orphans() && self.orphans_serve()
    }

    /// Whether something that is to run on this host does not, so that others may wait for it.
    pub(super) fn is_incomplete(&self) -> bool {
        self.planned_programs().any(|program| !self.runs(program))
    }

    /// Whether programs under a supervisord do what others need. Of a NATS server's host its NATS decides: when none runs on
    /// several hosts, they have to be started together.
    fn programs_serve(&self) -> bool {
        let mut nats = self.planned_programs().filter(|program| program.role == Role::NatsServer).peekable();
        match nats.peek() {
            Some(_) => nats.any(|program| self.runs(program)),
            None => self.planned_programs().any(|program| self.runs(program)),
        }
    }

    /// The same of programs that have none.
    fn orphans_serve(&self) -> bool {
        let nats = Role::NatsServer.binary();
        let wanted = self.planned_programs().any(|program| program.role == Role::NatsServer);
        let executable = self.facts.links.get(nats).map(|link| &link.resolved);
        !wanted || self.facts.orphans().iter().any(|orphan| Some(&orphan.executable) == executable)
    }

    fn planned_programs(&self) -> impl Iterator<Item = &Program> {
        self.plan.steps.iter().filter_map(|step| match &step.action {
            Action::Program { program, .. } => Some(&**program),
            _ => None,
        })
    }

    fn runs(&self, program: &Program) -> bool {
        let supervisor = self.facts.supervisor.as_ref();
        let found = supervisor.and_then(|supervisor| supervisor.programs.get(&program.name));
        found.is_some_and(|found| found.state == ProcessState::Running)
    }

    /// Opens the journal, and keeps what stands here if that is about to change.
    pub(super) async fn begin(&mut self) -> Result<()> {
        let last = &self.facts.last_run;
        if let Some(step) = &last.cut_off {
            let message = format!("the last run was cut off at {step}; this one goes on from there");
            self.sink.event(&Event::Note { host: Some(self.plan.host.clone()), message });
        }
        let version = env!("CARGO_PKG_VERSION").to_string();
        self.journal.add(What::Begun { command: self.run.scope.command().to_string(), version }).await?;
        if last.unsettled || self.plan.steps.iter().any(replaces_files) {
            self.keep(last.unsettled).await?;
        }
        Ok(())
    }

    /// Keeps the file set that this run replaces. What a run left that did not get to its end is a mixture: then what that run
    /// kept is what to go back to.
    async fn keep(&mut self, unsettled: bool) -> Result<()> {
        let mut kept = Kept::read(self.layout, self.transport).await?;
        let base = match unsettled {
            true => kept.newest().cloned().unwrap_or_default(),
            false => {
                let programs = kept.programs().to_vec();
                FileSet::capture(self.layout, self.facts, programs, self.transport).await?
            }
        };
        let name = self.run.name.clone();
        if base.is_whole(self.layout) {
            let command = self.run.scope.command().to_string();
            kept.add(Generation { name: name.clone(), command, set: base.clone() });
        }
        // A run that only starts some roles is no news of what the files are for.
        if self.plan.steps.iter().any(replaces_files) {
            kept.set_programs(self.programs().cloned().collect());
        }
        kept.write(self.layout, self.transport).await?;
        self.journal.add(What::Kept { generation: name }).await?;
        (self.kept, self.base, self.files_changed) = (Some(kept), Some(base), unsettled);
        Ok(())
    }

    /// The programs of the plan in the order of their start.
    pub(super) fn programs(&self) -> impl Iterator<Item = &'a Program> + use<'a> {
        self.plan.steps.iter().filter_map(|step| match &step.action {
            Action::Program { program, .. } => Some(&**program),
            _ => None,
        })
    }

    /// Closes the journal after all has gone well.
    pub(super) async fn end(&self) -> Result<()> {
        if self.changes > 0 {
            self.sweep().await;
        }
        self.journal.add(What::Ended { error: None }).await
    }

    /// Closes the journal with the error that ends the run here, and gives it back.
    pub(super) async fn leave(&self, error: Error) -> Error {
        // The error itself counts, not whether it could be written down.
        let _ = self.journal.add(What::Ended { error: Some(error.to_string()) }).await;
        error
    }

    /// The host, for what is done to programs.
    pub(super) fn site(&self) -> Site<'a> {
        let Self { plan, layout, transport, options, sink, .. } = *self;
        Site { host: &plan.host, layout, transport, options, sink }
    }

    /// A deadline, stretched by the caller's patience.
    pub(super) fn patient(&self, seconds: u64) -> Duration {
        self.site().patient(seconds)
    }

    pub(super) fn supervisor(&self) -> Supervisor<'a> {
        self.site().supervisor()
    }

    pub(super) fn progress(&self, step: &Step, message: impl Into<String>) {
        self.site().progress(&step.id, message);
    }

    /// Executes the steps of a phase; when one fails, puts back what did not work and closes the journal.
    pub(super) async fn go_through(&mut self, phase: Phase) -> Result<()> {
        let plan = self.plan;
        for (index, step) in plan.steps.iter().enumerate().filter(|(_, step)| Phase::of(step) == phase) {
            if let Err(error) = self.told(index + 1, step).await {
                let error = self.take_back(step, error).await;
                return Err(self.leave(error).await);
            }
        }
        Ok(())
    }

    /// Executes a step and tells of it.
    async fn told(&mut self, number: usize, step: &Step) -> Result<()> {
        let started = Instant::now();
        let (host, id, title) = (self.plan.host.clone(), step.id.clone(), step.title.clone());
        self.sink.event(&Event::StepStarted {
            host: host.clone(),
            step: id.clone(),
            title: title.clone(),
            number,
            of: self.plan.steps.len(),
        });
        if step.changes() {
            self.journal.add(What::Step { step: id.clone() }).await?;
        }
        // Also when it fails: a file may have been written whose directory could not be synced.
        self.files_changed |= replaces_files(step);
        let done = self.step(step).await.inspect_err(|error| {
            self.sink.event(&Event::StepFailed {
                host: host.clone(),
                step: id.clone(),
                title: title.clone(),
                message: error.to_string(),
                log: error.log().to_vec(),
            });
        })?;
        if step.changes() {
            self.journal.add(What::Done { step: id.clone() }).await?;
        }
        self.changes += usize::from(done.outcome == Outcome::Changed);
        let milliseconds = milliseconds(started);
        let Done { outcome, detail } = done;
        self.sink.event(&Event::StepFinished { host, step: id, title, outcome, milliseconds, detail });
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<Done> {
        match &step.action {
            Action::InstallPackages { packages } => {
                let progress = |message: &str| self.progress(step, message);
                let python = self.facts.python.as_ref();
                packages::install(packages, &self.layout.prefix, python, self.transport, &progress).await?;
                Ok(Done::changed(""))
            }
            Action::Build { workspace } => self.build(step, workspace).await,
            Action::MakeDirectories { paths } => {
                for path in paths {
                    self.transport.make_directory(path, directory_mode(path, self.layout)).await?;
                }
                Ok(Done::changed(""))
            }
            Action::PlaceSecret { path } => {
                let secret = self.run.secret().await?;
                self.transport.write(path, secret.expose(), 0o600).await?;
                Ok(Done::changed(""))
            }
            Action::InstallBinary { name, source } => self.install_binary(name, source.as_deref()).await,
            Action::WriteFile { file, .. } => self.write_file(file).await,
            Action::RemoveFile { path } => {
                self.transport.remove_file(path).await?;
                Ok(Done::changed(""))
            }
            Action::StopOrphans { pids } => {
                programs::stop_orphans(pids, self.layout, self.transport).await?;
                Ok(Done::changed(""))
            }
            Action::StopSupervisor => {
                self.supervisor().shutdown(SUPERVISORD_STOP).await?;
                Ok(Done::changed(""))
            }
            Action::StartSupervisor => self.site().start_supervisor().await,
            Action::RemoveProgram { name } => self.remove_program(name).await,
            Action::Program { program, change } => self.program(step, program, change).await,
            Action::Wait { gate, seconds } => self.wait(step, gate, *seconds).await,
        }
    }

    async fn build(&mut self, step: &Step, workspace: &Path) -> Result<Done> {
        let progress = |message: &str| self.progress(step, message);
        let built = self.run.built(workspace, &progress).await?;
        // Whether anything is different is told by the binaries when they are installed.
        Ok(Done::unchanged(match built.compiled {
            0 => "nothing to compile".to_string(),
            compiled => format!("{} compiled", crate::error::count_of(compiled, "crate", "crates")),
        }))
    }

    async fn install_binary(&mut self, name: &str, source: Option<&Path>) -> Result<Done> {
        let source = match source.or(self.run.executable(name)) {
            Some(source) => source.to_path_buf(),
            None => return Err(Error::Internal(format!("the build gave no {name}"))),
        };
        // What was only just built: its facts were not known when the host was examined.
        let too_new = artifacts::glibc_need(&source)?
            .and_then(|need| artifacts::too_new(name, &need, &self.facts.libc));
        if let Some(problem) = too_new {
            return Err(Error::Artifact {
                what: source.display().to_string(),
                message: problem.message,
                hint: problem.hint,
            });
        }
        let layout = self.layout;
        let place = |digest: &str| layout.artifact(digest, name);
        let digest = self.transport.install(&source, &place).await?;
        let (target, link) = (layout.artifact(&digest, name), layout.bin().join(name));
        let short = &digest[..16];
        if self.facts.links.get(name).is_some_and(|there| there.target == target) {
            return Ok(Done::unchanged(format!("sha256 {short}")));
        }
        self.transport.link(&target, &link).await?;
        Ok(Done::changed(format!("sha256 {short}")))
    }

    async fn write_file(&self, file: &RenderedFile) -> Result<Done> {
        let filled = match cluster_secret::is_marked(&file.text) {
            true => Some(Secret::of_host(&self.layout.secret(), self.transport).await?.fill(&file.text)),
            false => None,
        };
        let text = filled.as_ref().unwrap_or(&file.text);
        self.transport.write(&file.path, text.as_bytes(), file.mode).await?;
        Ok(Done::changed(""))
    }

    /// Has supervisord read its configuration, once a run; puts the files back when it cannot.
    pub(super) async fn load(&mut self) -> Result<&Reload> {
        if self.reload.is_none() {
            match self.supervisor().reload().await {
                Ok(reload) => self.reload = Some(reload),
                // Whether it is the files' fault is known only where supervisord says so.
                Err(error) if !matches!(error, Error::Supervisor(_)) => return Err(error),
                Err(error) => {
                    self.put_files_back().await?;
                    return Err(Error::Step {
                        step: "supervisord reads its configuration".to_string(),
                        message: format!("{error}; the files were put back as they were"),
                        hint: "what ran before still runs; this is a mistake in a template or a value of the inventory"
                            .to_string(),
                    });
                }
            }
        }
        Ok(self.reload.get_or_insert_default())
    }

    /// Removes binaries that nothing refers to any more: not `bin`, not what ran before this apply, no generation that is kept.
    async fn sweep(&self) {
        let mut keep: BTreeSet<PathBuf> = BTreeSet::new();
        let kept = match &self.kept {
            Some(kept) => kept.artifacts(self.layout),
            None => match Kept::read(self.layout, self.transport).await {
                Ok(kept) => kept.artifacts(self.layout),
                // Who cannot tell what is needed removes nothing.
                Err(_) => return,
            },
        };
        keep.extend(self.facts.links.values().map(|link| link.target.clone()));
        for name in self.plan.steps.iter().filter_map(installed) {
            keep.extend(self.transport.resolve(&self.layout.bin().join(name)).await.ok().flatten());
        }
        let named = keep.iter().filter_map(|path| path.parent()?.file_name());
        let keep: BTreeSet<_> = named.map(|name| name.to_string_lossy().into_owned()).chain(kept).collect();
        let script = "cd \"$1\" 2>/dev/null || exit 0; shift; for d in *; do k=; for x; do [ \"$d\" = \"$x\" ] && k=1; \
                      done; [ -n \"$k\" ] || rm -rf -- \"$d\"; done";
        let command = Command::new("sh")
            .args(["-c", script, "sweep"])
            .arg(self.layout.prefix.join("artifacts"))
            .args(keep);
        // Old files do no harm; the next run tries again.
        if let Err(error) = self.transport.run(&command).await {
            let message = format!("old binaries were not removed: {error}");
            self.sink.event(&Event::Warning { host: Some(self.plan.host.clone()), message });
        }
    }
}

/// The name of what a step installs below `bin`, packages left out.
fn installed(step: &Step) -> Option<&str> {
    match &step.action {
        Action::InstallBinary { name, .. } => Some(name),
        _ => None,
    }
}

/// Whether a step changes what a generation keeps.
fn replaces_files(step: &Step) -> bool {
    use Action::{InstallBinary, InstallPackages, RemoveFile, WriteFile};
    matches!(
        step.action,
        InstallBinary { .. } | InstallPackages { .. } | WriteFile { .. } | RemoveFile { .. }
    )
}

fn directory_mode(path: &Path, layout: &Layout) -> u32 {
    if *path == layout.run() { 0o700 } else { 0o755 }
}
