//! One step after the other.

use super::fleet::{Prepared, Run};
use super::{Options, milliseconds, programs};
use crate::derive::Role;
use crate::error::{Error, Result};
use crate::events::{Event, Outcome, Sink};
use crate::facts::HostFacts;
use crate::journal::{Journal, What};
use crate::layout::Layout;
use crate::packages;
use crate::plan::{Action, Phase, Plan, Step};
use crate::render::RenderedFile;
use crate::supervisor::{Reload, Supervisor};
use crate::transport::{Command, Transport};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How long supervisord may take to answer after its start.
const SUPERVISORD_START: Duration = Duration::from_secs(20);
/// How long supervisord may take to stop every program and end.
const SUPERVISORD_STOP: Duration = Duration::from_secs(120);
/// Largest configuration file of ours that is read back, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Executes a plan on a host.
pub(super) struct Executor<'a> {
    run: &'a Run<'a>,
    plan: &'a Plan,
    pub(super) layout: &'a Layout,
    pub(super) transport: &'a dyn Transport,
    pub(super) facts: &'a HostFacts,
    pub(super) options: &'a Options,
    sink: &'a dyn Sink,
    journal: Journal<'a>,
    /// Steps that changed something.
    changes: usize,
    /// Files that this run replaced or removed, with what stood there before.
    previous: Vec<(PathBuf, Option<Vec<u8>>)>,
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
            previous: Vec::new(),
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

    /// Whether the plan takes down everything that runs on this host.
    pub(super) fn stops_everything(&self) -> bool {
        self.plan.stops_everything()
            || self.orphans_serve()
                && self.plan.steps.iter().any(|step| matches!(step.action, Action::StopOrphans { .. }))
    }

    /// Whether programs without a supervisord do what others need. Of a NATS server's host its NATS decides: when none runs on
    /// several hosts, they have to be started together.
    fn orphans_serve(&self) -> bool {
        let nats = Role::NatsServer.binary();
        let wanted = self.plan.steps.iter().any(|step| {
            matches!(&step.action, Action::Program { program, .. } if program.role == Role::NatsServer)
        });
        let executable = self.facts.links.get(nats).map(|link| &link.resolved);
        !wanted || self.facts.orphans().iter().any(|orphan| Some(&orphan.executable) == executable)
    }

    /// Opens the journal.
    pub(super) async fn begin(&self) -> Result<()> {
        if let Some(step) = &self.facts.interrupted {
            let message = format!("the last run was cut off at {step}; this one goes on from there");
            self.sink.event(&Event::Note { host: Some(self.plan.host.clone()), message });
        }
        let version = env!("CARGO_PKG_VERSION").to_string();
        self.journal.add(What::Begun { command: self.run.scope.command().to_string(), version }).await
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

    /// A deadline, stretched by the caller's patience.
    pub(super) fn patient(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.options.patience.clamp(0.01, 1000.0))
    }

    pub(super) fn supervisor(&self) -> Supervisor<'a> {
        Supervisor::new(self.transport, self.layout.socket())
    }

    pub(super) fn progress(&self, step: &Step, message: impl Into<String>) {
        let (host, step) = (self.plan.host.clone(), step.id.clone());
        self.sink.event(&Event::StepProgress { host, step, message: message.into() });
    }

    /// Executes the steps of a phase; closes the journal when one fails.
    pub(super) async fn go_through(&mut self, phase: Phase) -> Result<()> {
        let plan = self.plan;
        for (index, step) in plan.steps.iter().enumerate().filter(|(_, step)| Phase::of(step) == phase) {
            if let Err(error) = self.told(index + 1, step).await {
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
                self.remember(path).await?;
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
            Action::StartSupervisor => self.start_supervisor().await,
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

    async fn remember(&mut self, path: &Path) -> Result<()> {
        let before = self.transport.read(path, FILE_MAX).await?;
        self.previous.push((path.to_path_buf(), before));
        Ok(())
    }

    async fn write_file(&mut self, file: &RenderedFile) -> Result<Done> {
        self.remember(&file.path).await?;
        self.transport.write(&file.path, file.text.as_bytes(), file.mode).await?;
        Ok(Done::changed(""))
    }

    async fn start_supervisor(&mut self) -> Result<Done> {
        // The short directory for long prefixes is not part of the prefix; both are ours alone.
        self.transport.make_directory(&self.layout.run(), 0o700).await?;
        let supervisord = self.layout.bin().join("supervisord");
        let command = Command::new(&supervisord)
            .arg("-c")
            .arg(self.layout.supervisord_conf())
            .directory(&self.layout.prefix)
            .service()
            .env(crate::layout::MARKER_VARIABLE, &self.layout.prefix)
            .deadline(SUPERVISORD_START);
        let output = self.transport.run(&command).await?;
        if !output.success() {
            return Err(Error::Supervisor(format!("it does not start: {}", output.last_words(5))));
        }
        let end = Instant::now() + SUPERVISORD_START;
        loop {
            match self.supervisor().pid().await {
                Ok(pid) => return Ok(Done::changed(format!("process {pid}"))),
                Err(error @ Error::Connection { .. }) => return Err(error),
                Err(error) if Instant::now() > end => {
                    let log = self.layout.logs().join("supervisord.log");
                    return Err(Error::Supervisor(format!(
                        "started, but {error}; its log: {}",
                        log.display()
                    )));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// Has supervisord read its configuration, once a run; puts the files back when it cannot.
    pub(super) async fn load(&mut self) -> Result<&Reload> {
        if self.reload.is_none() {
            match self.supervisor().reload().await {
                Ok(reload) => self.reload = Some(reload),
                // Whether it is the files' fault is known only where supervisord says so.
                Err(error) if !matches!(error, Error::Supervisor(_)) => return Err(error),
                Err(error) => {
                    self.undo().await?;
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

    async fn undo(&mut self) -> Result<()> {
        for (path, before) in std::mem::take(&mut self.previous).into_iter().rev() {
            match before {
                Some(bytes) => self.transport.write(&path, &bytes, 0o644).await?,
                None => self.transport.remove_file(&path).await?,
            }
        }
        Ok(())
    }

    /// Removes binaries that nothing refers to any more: not `bin`, not what ran before this apply.
    async fn sweep(&self) {
        let mut keep: BTreeSet<PathBuf> = BTreeSet::new();
        for (_, name) in crate::facts::BINARIES {
            keep.extend(self.facts.links.get(name).map(|link| link.target.clone()));
            keep.extend(self.transport.resolve(&self.layout.bin().join(name)).await.ok().flatten());
        }
        let keep: Vec<_> = keep
            .iter()
            .filter_map(|path| Some(path.parent()?.file_name()?.to_string_lossy().into_owned()))
            .collect();
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

fn directory_mode(path: &Path, layout: &Layout) -> u32 {
    if *path == layout.run() { 0o700 } else { 0o755 }
}
