//! One step after the other.

use super::{Options, build, milliseconds, programs};
use crate::error::{Error, Result};
use crate::events::{Event, Outcome, Sink};
use crate::facts::HostFacts;
use crate::journal::{Journal, What};
use crate::layout::Layout;
use crate::packages;
use crate::plan::{Action, Plan, Step};
use crate::render::RenderedFile;
use crate::resolve::{Cluster, Host};
use crate::secret::Secret;
use crate::supervisor::{Reload, Supervisor};
use crate::transport::{Command, Local, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long supervisord may take to answer after its start.
const SUPERVISORD_START: Duration = Duration::from_secs(20);
/// How long supervisord may take to stop every program and end.
const SUPERVISORD_STOP: Duration = Duration::from_secs(120);
/// Largest configuration file of ours that is read back, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Executes a plan on a host.
pub(super) struct Executor<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) layout: Layout,
    pub(super) transport: &'a dyn Transport,
    pub(super) facts: &'a HostFacts,
    pub(super) options: &'a Options,
    pub(super) sink: &'a dyn Sink,
    journal: &'a Journal<'a>,
    /// Executables that the build of this run gave.
    built: BTreeMap<String, PathBuf>,
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
    pub(super) fn new(
        cluster: &'a Cluster,
        host: &'a Host,
        transport: &'a dyn Transport,
        facts: &'a HostFacts,
        options: &'a Options,
        sink: &'a dyn Sink,
        journal: &'a Journal<'a>,
    ) -> Self {
        Self {
            cluster,
            layout: Layout::of(host),
            transport,
            facts,
            options,
            sink,
            journal,
            built: BTreeMap::new(),
            previous: Vec::new(),
            reload: None,
        }
    }

    /// A deadline, stretched by the caller's patience.
    pub(super) fn patient(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.options.patience.clamp(0.01, 1000.0))
    }

    pub(super) fn supervisor(&self) -> Supervisor<'a> {
        Supervisor::new(self.transport, self.layout.socket())
    }

    pub(super) fn progress(&self, step: &Step, message: impl Into<String>) {
        self.sink.event(&Event::StepProgress { step: step.id.clone(), message: message.into() });
    }

    /// Executes every step; returns how many changed something.
    pub(super) async fn execute(&mut self, plan: &Plan) -> Result<usize> {
        let mut changes = 0;
        for (index, step) in plan.steps.iter().enumerate() {
            let started = Instant::now();
            self.sink.event(&Event::StepStarted {
                host: plan.host.clone(),
                step: step.id.clone(),
                title: step.title.clone(),
                number: index + 1,
                of: plan.steps.len(),
            });
            if step.changes() {
                self.journal.add(What::Step { step: step.id.clone() }).await?;
            }
            match self.step(step).await {
                Ok(done) => {
                    if step.changes() {
                        self.journal.add(What::Done { step: step.id.clone() }).await?;
                    }
                    changes += usize::from(done.outcome == Outcome::Changed);
                    self.sink.event(&Event::StepFinished {
                        step: step.id.clone(),
                        title: step.title.clone(),
                        outcome: done.outcome,
                        milliseconds: milliseconds(started),
                        detail: done.detail,
                    });
                }
                Err(error) => {
                    let log = if let Error::Gate { log, .. } = &error { log.clone() } else { Vec::new() };
                    self.sink.event(&Event::StepFailed {
                        step: step.id.clone(),
                        title: step.title.clone(),
                        message: error.to_string(),
                        log,
                    });
                    return Err(error);
                }
            }
        }
        if changes > 0 {
            self.sweep().await;
        }
        Ok(changes)
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
                    self.transport.make_directory(path, directory_mode(path, &self.layout)).await?;
                }
                Ok(Done::changed(""))
            }
            Action::PlaceSecret { path } => {
                let fetched = Secret::fetch(&self.cluster.secret, &Local).await?;
                let secret = fetched.map_or_else(Secret::generate, Ok)?;
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
                programs::stop_orphans(pids, &self.layout, self.transport).await?;
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
        let outcome = build::cargo(workspace, &progress).await?;
        let stamp = crate::facts::of_workspace(workspace, outcome.executables.clone());
        let text = serde_json::to_vec(&stamp).map_err(|error| Error::Internal(error.to_string()))?;
        Local.write(&crate::facts::stamp_path(&self.layout), &text, 0o644).await?;
        self.built = outcome.executables;
        // Whether anything is different is told by the binaries when they are installed.
        Ok(Done::unchanged(match outcome.compiled {
            0 => "nothing to compile".to_string(),
            compiled => format!("{} compiled", crate::error::count_of(compiled, "crate", "crates")),
        }))
    }

    async fn install_binary(&mut self, name: &str, source: Option<&Path>) -> Result<Done> {
        let source = match source.or(self.built.get(name).map(PathBuf::as_path)) {
            Some(source) => source.to_path_buf(),
            None => return Err(Error::Internal(format!("the build gave no {name}"))),
        };
        let layout = &self.layout;
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
            self.sink.event(&Event::Warning { message: format!("old binaries were not removed: {error}") });
        }
    }
}

fn directory_mode(path: &Path, layout: &Layout) -> u32 {
    if *path == layout.run() { 0o700 } else { 0o755 }
}
