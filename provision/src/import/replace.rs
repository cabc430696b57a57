//! A directory that a program of a host works on is replaced by another one, or comes back when the program is not ready on
//! that. Where it stands is written on the host before each step, so that a run that was cut off is taken up by the next.

use super::swap::Places;
use crate::apply::{self, Options};
use crate::derive::{self, Program, Role};
use crate::error::{Error, Result};
use crate::events::Sink;
use crate::facts::HostFacts;
use crate::layout::Layout;
use crate::resolve::{Cluster, Host};
use crate::steps::Steps;
use crate::supervisor::Supervisor;
use crate::transport::{Lock, Transport};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Largest ledger that is read, in bytes.
const LEDGER_MAX: u64 = 64 << 10;

/// Where a replacement stands on a host: `state/COMMAND.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    version: u32,
    /// Where it comes from, for people.
    pub(crate) origin: String,
    /// Tells its contents from others'.
    pub(crate) digest: String,
    pub(crate) phase: Phase,
}

impl Ledger {
    /// Whether it was cut off while directories changed places.
    pub(crate) fn is_swapping(&self) -> bool {
        self.phase != Phase::Unpacked
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// All of it lies beside the live directory.
    Unpacked,
    /// It takes the place of the live one, and the program has to be ready on it.
    Swap,
    /// The program was not ready on it: the old one comes back.
    Back,
}

/// What is to be replaced: for messages, too.
pub(crate) struct What {
    /// The command, and the name of the ledger.
    pub(crate) command: &'static str,
    /// Steps of a run that goes well.
    pub(crate) steps: usize,
    /// The program that works on it.
    pub(crate) role: Role,
    /// The directory.
    pub(crate) data: PathBuf,
    /// "the node".
    pub(crate) who: &'static str,
    /// "database".
    pub(crate) thing: &'static str,
    /// Entries of the directory that the new one brings; all others stay. `*` stands for all.
    pub(crate) brought: &'static [&'static str],
}

/// A replacement on a host, which is locked as long as it lasts.
pub(crate) struct Replacing<'a> {
    what: What,
    pub(crate) host: &'a Host,
    pub(crate) transport: &'a dyn Transport,
    pub(crate) places: Places,
    pub(crate) steps: Steps<'a>,
    pub(crate) program: Program,
    layout: Layout,
    options: &'a Options,
    ledger_path: PathBuf,
    _lock: Box<dyn Lock>,
}

impl<'a> Replacing<'a> {
    /// # Errors
    /// Nothing runs there, or another run is at work.
    pub(crate) async fn begin(
        what: What,
        cluster: &Cluster,
        host: &'a Host,
        transport: &'a dyn Transport,
        options: &'a Options,
        sink: &'a dyn Sink,
    ) -> Result<Self> {
        let layout = Layout::of(host);
        let not_running = || Error::NotRunning { prefix: layout.prefix.clone() };
        if transport.resolve(&layout.state()).await?.is_none() {
            return Err(not_running());
        }
        let lock = transport.lock(&layout.lock(), &apply::holder(what.command)).await?;
        // Whether a program is well on what it was given is asked of the program.
        Supervisor::new(transport, layout.socket()).pid().await.map_err(|_| not_running())?;
        let (programs, _) = derive::programs(cluster, host, &HostFacts::default());
        let program = programs.into_iter().find(|program| program.role == what.role);
        let missing = || Error::Internal(format!("host {} has no {}", host.name.value, what.role.name()));
        let program = program.ok_or_else(missing)?;
        // Where it really lies: what is to be renamed must be on the same disk.
        let data = transport.resolve(&what.data).await?.unwrap_or_else(|| what.data.clone());
        let ledger_path = layout.state().join(format!("{}.json", what.command));
        let steps =
            Steps::begin(what.command, what.steps, &host.name.value, &layout, transport, sink).await?;
        let places = Places::of(data);
        Ok(Self { what, host, transport, places, steps, program, layout, options, ledger_path, _lock: lock })
    }

    /// Where an earlier run was cut off.
    pub(crate) async fn ledger(&self) -> Result<Option<Ledger>> {
        let Some(bytes) = self.transport.read(&self.ledger_path, LEDGER_MAX).await? else { return Ok(None) };
        let ledger: Option<Ledger> = serde_json::from_slice(&bytes).ok();
        match ledger.filter(|ledger| ledger.version == 1) {
            Some(ledger) => Ok(Some(ledger)),
            None => Err(Error::Step {
                step: format!("look where the last {} stands", self.what.command),
                message: format!("{} is of another version or damaged", self.ledger_path.display()),
                hint: format!(
                    "look whether {} and {} are there; keep the one that you want as the first, then remove the file",
                    self.places.data.display(),
                    self.places.before.display()
                ),
            }),
        }
    }

    /// Notes that all of it lies beside the live directory.
    pub(crate) async fn unpacked(&self, origin: String, digest: String) -> Result<Ledger> {
        self.write(&Ledger { version: 1, origin, digest, phase: Phase::Unpacked }, Phase::Unpacked).await
    }

    /// Notes that nothing is under way.
    pub(crate) async fn forget(&self) -> Result<()> {
        self.transport.remove_file(&self.ledger_path).await
    }

    async fn write(&self, ledger: &Ledger, phase: Phase) -> Result<Ledger> {
        let ledger = Ledger { phase, ..ledger.clone() };
        let text = serde_json::to_vec(&ledger).map_err(|error| Error::Internal(error.to_string()))?;
        self.transport.write(&self.ledger_path, &text, 0o644).await?;
        Ok(ledger)
    }

    /// Has the program go on with what was brought, or with what it had before when it is not ready on that; gives what its
    /// gate said.
    pub(crate) async fn take_over(&mut self, ledger: &Ledger) -> Result<String> {
        if ledger.phase == Phase::Back {
            return Err(self.back(ledger, "the last run found so".to_string()).await);
        }
        let ledger = self.write(ledger, Phase::Swap).await?;
        let (places, transport, What { who, thing, brought, .. }) =
            (self.places.clone(), self.transport, &self.what);
        let (who, thing, brought) = (*who, *thing, *brought);
        if !places.is_swapped(transport).await? {
            self.stop().await?;
            let swapping = async { places.swap(transport, brought).await.map(|()| ((), String::new())) };
            self.steps.step("swap", &format!("swap the {thing}s"), swapping).await?;
        }
        let ready = match self.start("start", &format!("start {who} on the new {thing}")).await {
            Ok(ready) => ready,
            // Whether it is well there cannot be told: the next run goes on with asking.
            Err(error) if !says_unhealthy(&error) => return Err(error),
            Err(error) => return Err(self.back(&ledger, error.to_string()).await),
        };
        let cleaning = async { places.clean(transport).await.map(|()| ((), String::new())) };
        self.steps.step("clean", &format!("remove the old {thing}"), cleaning).await?;
        self.forget().await?;
        Ok(ready)
    }

    /// Puts the old directory back; gives the error that the run ends with.
    async fn back(&mut self, ledger: &Ledger, why: String) -> Error {
        let (places, transport, who, thing) =
            (self.places.clone(), self.transport, self.what.who, self.what.thing);
        let reverted = async {
            self.write(ledger, Phase::Back).await?;
            self.stop().await?;
            let swapping = async { places.swap_back(transport).await.map(|()| ((), String::new())) };
            self.steps.step("swap-back", &format!("put the old {thing} back"), swapping).await?;
            self.forget().await?;
            self.start("restart", &format!("start {who} on its old {thing}")).await
        };
        match reverted.await {
            Ok(_) => Error::Artifact {
                what: ledger.origin.clone(),
                message: format!(
                    "{who} is not ready on it ({why}); its old {thing} is back and it runs on that"
                ),
                hint: format!(
                    "if it was only too slow: run the same command again with --patience 10; what was brought is kept in {}, \
                     remove it otherwise",
                    places.import.display()
                ),
            },
            Err(error) => error,
        }
    }

    fn supervisor(&self) -> Supervisor<'a> {
        Supervisor::new(self.transport, self.layout.socket())
    }

    async fn stop(&mut self) -> Result<()> {
        let (supervisor, program) = (self.supervisor(), self.program.clone());
        let deadline = self.options.patient(u64::from(program.stop_seconds) + 15);
        let stopping = async { supervisor.stop(&program.name, deadline).await.map(|()| ((), String::new())) };
        self.steps.step("stop", &format!("stop {}", self.what.who), stopping).await
    }

    async fn start(&mut self, id: &str, title: &str) -> Result<String> {
        let (supervisor, program, layout, transport) =
            (self.supervisor(), self.program.clone(), self.layout.clone(), self.transport);
        let (deadline, mut told) = (self.options.patient(program.ready_seconds), self.steps.progress(id));
        let starting = async {
            supervisor.start(&program.name).await?;
            let ready = apply::opens(&program, &layout, transport, deadline, &mut told).await?;
            Ok((ready.clone(), ready))
        };
        self.steps.step(id, title, starting).await
    }
}

/// Whether the program itself is unwell, rather than out of our reach.
fn says_unhealthy(error: &Error) -> bool {
    match error {
        Error::Gate { .. } | Error::Supervisor(_) => true,
        Error::OnHost { error, .. } => says_unhealthy(error),
        _ => false,
    }
}
