//! supervisord over its unix socket: XML-RPC, every call bounded in time, success read from the state.
//!
//! `supervisorctl` takes 0.3 s to start and its exit codes do not tell what became of a program; the socket answers in
//! half a millisecond and does.

mod xmlrpc;

use crate::error::{Error, Result};
use crate::transport::Transport;
use crate::transport::http::{Endpoint, Request};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use xmlrpc::{Reply, Value};

/// Whether supervisord's answer can be read: for the fuzz targets alone.
#[doc(hidden)]
pub fn is_reply(text: &str) -> bool {
    xmlrpc::reply(text).is_ok()
}

/// Deadline of one call. A stopped supervisord (SIGSTOP) never answers.
const CALL: Duration = Duration::from_secs(10);

/// State of a supervised program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "Supervisor's own names")]
pub enum ProcessState {
    Stopped,
    Starting,
    Running,
    Backoff,
    Stopping,
    Exited,
    Fatal,
    Unknown,
}

impl ProcessState {
    fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Stopped,
            10 => Self::Starting,
            20 => Self::Running,
            30 => Self::Backoff,
            40 => Self::Stopping,
            100 => Self::Exited,
            200 => Self::Fatal,
            _ => Self::Unknown,
        }
    }

    /// Supervisor's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A supervised program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ProcessState,
    /// Process id; 0 when it does not run.
    pub pid: u32,
    /// Seconds since it was started.
    pub uptime_seconds: u64,
    /// Why it could not be started.
    pub spawn_error: String,
}

/// What changed between the configuration on disk and the one that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reload {
    /// Programs that are new.
    pub added: Vec<String>,
    /// Programs that are configured otherwise.
    pub changed: Vec<String>,
    /// Programs that are gone.
    pub removed: Vec<String>,
}

/// Supervisor's fault codes that we tell apart.
mod fault {
    pub(super) const BAD_NAME: i64 = 10;
    pub(super) const ALREADY_STARTED: i64 = 60;
    pub(super) const NOT_RUNNING: i64 = 70;
    pub(super) const ALREADY_ADDED: i64 = 90;
}

/// A supervisord.
pub struct Supervisor<'a> {
    transport: &'a dyn Transport,
    socket: PathBuf,
}

impl<'a> Supervisor<'a> {
    /// The supervisord behind `socket`.
    pub fn new(transport: &'a dyn Transport, socket: PathBuf) -> Self {
        Self { transport, socket }
    }

    async fn call(&self, method: &str, parameters: &[Value], deadline: Duration) -> Result<Reply> {
        let body = xmlrpc::request(&format!("supervisor.{method}"), parameters);
        let request = Request::post(Endpoint::Unix(self.socket.clone()), "/RPC2", "text/xml", body);
        let response = self.transport.http(&request.deadline(deadline)).await?;
        if response.status != 200 {
            return Err(Error::Supervisor(format!("{method}: HTTP status {}", response.status)));
        }
        let text = String::from_utf8_lossy(&response.body);
        xmlrpc::reply(&text).map_err(|error| Error::Supervisor(format!("{method}: {error}")))
    }

    /// Calls, and takes the faults in `fine` as success.
    async fn ask(&self, method: &str, parameters: &[Value], fine: &[i64]) -> Result<Value> {
        match self.call(method, parameters, CALL).await? {
            Reply::Value(value) => Ok(value),
            Reply::Fault { code, .. } if fine.contains(&code) => Ok(Value::Boolean(true)),
            Reply::Fault { code, text } => Err(Error::Supervisor(format!("{method}: {text} (fault {code})"))),
        }
    }

    /// Its process id.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn pid(&self) -> Result<u32> {
        let value = self.ask("getPID", &[], &[]).await?;
        value.as_u32().ok_or_else(|| Error::Supervisor("getPID: no number".to_string()))
    }

    /// All programs.
    ///
    /// # Errors
    /// It does not answer, or gives no sense.
    pub async fn programs(&self) -> Result<Vec<ProgramInfo>> {
        let value = self.ask("getAllProcessInfo", &[], &[]).await?;
        let list =
            value.as_array().ok_or_else(|| Error::Supervisor("getAllProcessInfo: no list".to_string()))?;
        list.iter().map(info).collect()
    }

    /// One program; none when it is not known.
    ///
    /// # Errors
    /// It does not answer, or gives no sense.
    pub async fn program(&self, name: &str) -> Result<Option<ProgramInfo>> {
        match self.call("getProcessInfo", &[Value::String(name.to_string())], CALL).await? {
            Reply::Value(value) => info(&value).map(Some),
            Reply::Fault { code: fault::BAD_NAME, .. } => Ok(None),
            Reply::Fault { code, text } => Err(Error::Supervisor(format!("{name}: {text} (fault {code})"))),
        }
    }

    /// Reads the configuration on disk again, without acting on it, and says what differs from what runs.
    ///
    /// # Errors
    /// It does not answer, or cannot read the configuration: then nothing of it is taken, and what runs runs on.
    pub async fn reload(&self) -> Result<Reload> {
        let value = self.ask("reloadConfig", &[], &[]).await?;
        let lists = value.as_array().and_then(|outer| outer.first()).and_then(Value::as_array);
        let [added, changed, removed] = lists.unwrap_or_default() else {
            return Err(Error::Supervisor("reloadConfig: not three lists".to_string()));
        };
        let names = |value: &Value| {
            let list = value.as_array().unwrap_or_default();
            list.iter().filter_map(|name| name.as_str().map(str::to_string)).collect()
        };
        Ok(Reload { added: names(added), changed: names(changed), removed: names(removed) })
    }

    /// Takes a program up as it is configured on disk; fine when it is known already.
    ///
    /// # Errors
    /// It does not answer or refuses.
    pub async fn add(&self, name: &str) -> Result<()> {
        self.ask("addProcessGroup", &[Value::String(name.to_string())], &[fault::ALREADY_ADDED])
            .await
            .map(drop)
    }

    /// Forgets a stopped program; fine when it is not known.
    ///
    /// # Errors
    /// It does not answer or refuses.
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.ask("removeProcessGroup", &[Value::String(name.to_string())], &[fault::BAD_NAME]).await.map(drop)
    }

    /// Starts a program without waiting; fine when it runs.
    ///
    /// # Errors
    /// It does not answer, or the program cannot be run at all.
    pub async fn start(&self, name: &str) -> Result<()> {
        let parameters = [Value::String(name.to_string()), Value::Boolean(false)];
        self.ask("startProcess", &parameters, &[fault::ALREADY_STARTED]).await.map(drop)
    }

    /// Stops a program and waits until it is down; fine when it does not run or is not known.
    ///
    /// # Errors
    /// It does not answer, or the program is still up after `deadline`.
    pub async fn stop(&self, name: &str, deadline: Duration) -> Result<()> {
        let parameters = [Value::String(name.to_string()), Value::Boolean(false)];
        self.ask("stopProcess", &parameters, &[fault::NOT_RUNNING, fault::BAD_NAME]).await?;
        let end = Instant::now() + deadline;
        loop {
            let Some(info) = self.program(name).await? else { return Ok(()) };
            let down =
                matches!(info.state, ProcessState::Stopped | ProcessState::Exited | ProcessState::Fatal);
            if down {
                return Ok(());
            }
            if Instant::now() > end {
                let message = format!("{name} is still {} after {} s", info.state.name(), deadline.as_secs());
                return Err(Error::Supervisor(message));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Has supervisord stop everything and end, and waits until it is gone.
    ///
    /// # Errors
    /// It does not answer, or is still there after `deadline`.
    pub async fn shutdown(&self, deadline: Duration) -> Result<()> {
        let process = PathBuf::from(format!("/proc/{}/exe", self.pid().await?));
        self.ask("shutdown", &[], &[]).await?;
        let end = Instant::now() + deadline;
        // Its socket is silent a moment before it has ended.
        while self.pid().await.is_ok() || self.transport.resolve(&process).await?.is_some() {
            if Instant::now() > end {
                return Err(Error::Supervisor(format!(
                    "still there {} s after its shutdown",
                    deadline.as_secs()
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn info(value: &Value) -> Result<ProgramInfo> {
    let text = |key: &str| value.field(key).and_then(Value::as_str).unwrap_or_default().to_string();
    let number = |key: &str| value.field(key).and_then(Value::as_i64);
    let (Some(state), Some(pid)) = (number("state"), number("pid")) else {
        return Err(Error::Supervisor("process information lacks `state` or `pid`".to_string()));
    };
    let (start, now) = (number("start").unwrap_or(0), number("now").unwrap_or(0));
    Ok(ProgramInfo {
        name: text("name"),
        state: ProcessState::from_code(state),
        pid: u32::try_from(pid).unwrap_or(0),
        uptime_seconds: if pid == 0 { 0 } else { u64::try_from(now - start).unwrap_or(0) },
        spawn_error: text("spawnerr"),
    })
}
