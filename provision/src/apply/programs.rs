//! Programs: started, restarted, waited for.

use super::executor::{Done, Executor};
use super::site::Site;
use crate::derive::{Gate, Program};
use crate::error::{Error, Result};
use crate::gates::{self, Answer};
use crate::layout::Layout;
use crate::logs;
use crate::plan::{Change, Step};
use crate::supervisor::{ProcessState, Reload, Supervisor};
use crate::transport::{Command, Transport};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How often a gate is asked.
const ASK: Duration = Duration::from_millis(250);
/// Log lines shown of what failed.
const LOG_LINES: usize = 20;
/// How long programs without a supervisord may take to end before they are killed, in seconds.
const ORPHAN_SECONDS: u64 = 20;

impl Executor<'_> {
    pub(super) async fn program(&mut self, step: &Step, program: &Program, change: &Change) -> Result<Done> {
        let restarted = match change {
            Change::Keep => false,
            Change::Start | Change::Restart { .. } => {
                self.bring_up(program).await?;
                true
            }
            Change::RestartIfBuilt => {
                let stale = self.load().await?.changed.contains(&program.name);
                let old = stale || self.site().runs_old_binary(program).await?;
                if old {
                    self.bring_up(program).await?;
                }
                old
            }
        };
        let detail = self.site().gate(&step.id, program).await?;
        Ok(if restarted { Done::changed(detail) } else { Done::unchanged(detail) })
    }

    /// Stops a program if it runs, takes its configuration up if that is new, and starts it.
    async fn bring_up(&mut self, program: &Program) -> Result<()> {
        let reload = self.load().await?.clone();
        self.touched.insert(program.name.clone());
        self.site().bring_up(program, &reload).await
    }

    /// Waits behind a gate that is no program's; a program that fails meanwhile ends the wait.
    pub(super) async fn wait(&self, step: &Step, gate: &Gate, seconds: u64) -> Result<Done> {
        let deadline = self.patient(seconds);
        let end = Instant::now() + deadline;
        let mut last = String::new();
        loop {
            let said = match gates::ask(gate, self.transport).await {
                Answer::Ready(detail) => return Ok(Done::unchanged(detail)),
                Answer::NotYet(reason) => reason,
            };
            let programs = self.supervisor().programs().await?;
            if let Some(fallen) = programs.iter().find(|info| info.state == ProcessState::Fatal) {
                return Err(self
                    .site()
                    .not_ready(&fallen.name, "it does not stay up: FATAL", deadline)
                    .await);
            }
            if said != last {
                self.progress(step, said.clone());
                last = said;
            }
            if Instant::now() > end {
                return Err(self.site().not_ready("autonomys-plot-client", &last, deadline).await);
            }
            tokio::time::sleep(4 * ASK).await;
        }
    }

    pub(super) async fn remove_program(&mut self, name: &str) -> Result<Done> {
        self.load().await?;
        let supervisor = self.supervisor();
        supervisor.stop(name, self.patient(60)).await?;
        supervisor.remove(name).await?;
        Ok(Done::changed(""))
    }
}

impl Site<'_> {
    /// Whether a program does not run, or not from the binary that is in place now.
    pub(super) async fn runs_old_binary(&self, program: &Program) -> Result<bool> {
        let Some(info) = self.supervisor().program(&program.name).await?.filter(|info| info.pid != 0) else {
            return Ok(true);
        };
        let runs = self.transport.resolve(Path::new(&format!("/proc/{}/exe", info.pid))).await?;
        let wanted = self.transport.resolve(&self.layout.bin().join(program.role.binary())).await?;
        Ok(runs != wanted)
    }

    /// Stops a program if it runs, takes its configuration up if that is new, and starts it.
    pub(super) async fn bring_up(&self, program: &Program, reload: &Reload) -> Result<()> {
        let changed = reload.changed.contains(&program.name);
        let added = reload.added.contains(&program.name);
        let supervisor = self.supervisor();
        supervisor.stop(&program.name, self.patient(u64::from(program.stop_seconds) + 15)).await?;
        if changed {
            supervisor.remove(&program.name).await?;
        }
        if changed || added {
            supervisor.add(&program.name).await?;
        }
        supervisor.start(&program.name).await
    }

    /// Waits until a program runs and its gate opens.
    pub(super) async fn gate(&self, step: &str, program: &Program) -> Result<String> {
        let deadline = self.patient(program.ready_seconds);
        let mut told = |said: &str| self.progress(step, said);
        opens(program, self.layout, self.transport, deadline, &mut told).await
    }

    pub(super) async fn not_ready(&self, program: &str, last: &str, deadline: Duration) -> Error {
        not_ready(program, last, deadline, self.layout, self.transport).await
    }
}

/// Waits until a program runs and its gate opens; tells each new reason why it does not yet.
///
/// # Errors
/// [`Error::Gate`] at the deadline, or when it does not stay up.
pub(crate) async fn opens(
    program: &Program,
    layout: &Layout,
    transport: &dyn Transport,
    deadline: Duration,
    told: &mut (dyn FnMut(&str) + Send),
) -> Result<String> {
    let supervisor = Supervisor::new(transport, layout.socket());
    let end = Instant::now() + deadline;
    let mut last = String::new();
    loop {
        let info = supervisor.program(&program.name).await?;
        let said = match &info {
            None => "supervisord does not know it".to_string(),
            Some(info) => match info.state {
                ProcessState::Running | ProcessState::Starting => {
                    match gates::ask(&program.gate, transport).await {
                        // A program that is still in its first second may be about to exit.
                        Answer::Ready(detail) if info.state == ProcessState::Running => {
                            return Ok(detail);
                        }
                        Answer::Ready(detail) => detail,
                        Answer::NotYet(reason) => reason,
                    }
                }
                ProcessState::Fatal => {
                    let said = format!("it does not stay up: FATAL {}", info.spawn_error);
                    return Err(not_ready(&program.name, said.trim(), deadline, layout, transport).await);
                }
                state => format!("it is {} {}", state.name(), info.spawn_error),
            },
        };
        if said != last {
            told(&said);
            last = said;
        }
        if Instant::now() > end {
            return Err(not_ready(&program.name, &last, deadline, layout, transport).await);
        }
        tokio::time::sleep(ASK).await;
    }
}

async fn not_ready(
    program: &str,
    last: &str,
    deadline: Duration,
    layout: &Layout,
    transport: &dyn Transport,
) -> Error {
    let log_path = layout.log(program);
    let log = logs::last_lines(&log_path, LOG_LINES, transport).await.unwrap_or_default();
    Error::Gate {
        what: program.to_string(),
        seconds: deadline.as_secs(),
        last: last.to_string(),
        log,
        log_path,
    }
}

/// Ends programs that no supervisord looks after: TERM, and KILL to what is left. A process id that has been given to
/// another program meanwhile is left alone: only programs with our mark are signalled.
pub(super) async fn stop_orphans(pids: &[u32], layout: &Layout, transport: &dyn Transport) -> Result<()> {
    const SCRIPT: &str = r#"
ours() { for p in $PIDS; do grep -qzxFs -e "$MARKER" "/proc/$p/environ" && printf '%s ' "$p"; done; }
left=$(ours)
[ -n "$left" ] && kill -TERM $left 2>/dev/null
n=0
while left=$(ours) && [ -n "$left" ] && [ "$n" -lt "$((SECONDS_MAX * 10))" ]; do sleep 0.1; n=$((n + 1)); done
left=$(ours)
[ -n "$left" ] && kill -KILL $left 2>/dev/null
n=0
while left=$(ours) && [ -n "$left" ] && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
[ -z "$left" ]
"#;
    if pids.is_empty() {
        return Ok(());
    }
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let command = Command::new("sh")
        .arg("-s")
        .env("PIDS", &pids)
        .env("MARKER", layout.marker())
        .env("SECONDS_MAX", ORPHAN_SECONDS.to_string())
        .stdin(SCRIPT)
        .deadline(Duration::from_secs(ORPHAN_SECONDS + 30));
    let output = transport.run(&command).await?;
    if output.success() {
        return Ok(());
    }
    Err(Error::Step {
        step: "stop programs left behind".to_string(),
        message: format!("some of the processes {pids} do not end"),
        hint: "look at them with `ps`, end them by hand, and apply again".to_string(),
    })
}
