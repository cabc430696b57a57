//! How a host is reached. Nothing outside this module runs a command or touches a host's files.
//!
//! `local` is this machine; `ssh` is another one, where `remote` serves the same trait by means of `local`: what happens
//! on a host is written once. `wire` is what the two say to each other.

mod disk;
pub mod http;
mod local;
pub mod remote;
#[cfg(feature = "testing")]
pub mod sim;
pub mod ssh;
mod wire;

use crate::derive::Gate;
use crate::error::{Error, Result, duration};
use crate::facts::{HostFacts, Question};
use crate::gates::Answer;
use crate::inventory::Connection;
use crate::layout::Layout;
use crate::resolve::Host;
use crate::status::{self, HostStatus};
use crate::transfer::{Delivery, OnProgress};
pub use crate::unpack::Unpacked;
use async_trait::async_trait;
use http::{Request, Response};
pub use local::Local;
pub(crate) use local::replace_file;
use serde::{Deserialize, Serialize};
pub use ssh::{Program, Ssh};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
#[doc(hidden)]
pub use wire::frames_in;

/// Most that is kept of a command's output, per stream, in bytes; what comes later is dropped.
pub const OUTPUT_MAX: usize = 8 << 20;

/// What a service gets of the environment that it is started from: neither secrets nor a build tool's variables.
pub const SERVICE_ENVIRONMENT: [&str; 9] =
    ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "RUST_LOG", "TMPDIR", "TZ", "USER"];

/// A program to be run on a host, never through a shell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// The program; looked up in PATH when it has no slash.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables set on top of the environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Variables taken out of the environment.
    pub without: Vec<OsString>,
    /// Whether only what a service needs is passed on of the environment ([`SERVICE_ENVIRONMENT`]).
    pub service: bool,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// What it reads; travels beside the JSON form, not in it.
    #[serde(skip)]
    pub stdin: Vec<u8>,
    /// It is killed when it takes longer.
    pub deadline: Duration,
}

impl Command {
    /// A command with a deadline of 30 s.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            without: Vec::new(),
            service: false,
            directory: None,
            stdin: Vec::new(),
            deadline: Duration::from_secs(30),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Passes on only what a service needs of the environment.
    #[must_use]
    pub fn service(mut self) -> Self {
        self.service = true;
        self
    }

    /// Sets what it reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The program's name for messages.
    pub fn name(&self) -> String {
        Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// "exit status: 1".
    pub status: String,
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// The last lines that it wrote, errors first choice, for a message.
    pub fn last_words(&self, lines: usize) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr);
        let stdout = String::from_utf8_lossy(&self.stdout);
        let text = if stderr.trim().is_empty() { stdout } else { stderr };
        let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Says where a file goes whose SHA-256 (in hex) is known.
pub type Place<'a> = &'a (dyn Fn(&str) -> PathBuf + Sync);

/// Called with each line of a running command.
pub type OnLine<'a> = &'a mut (dyn FnMut(Stream, &str) + Send);

/// Part of a file.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// Bytes from the offset that was asked for.
    pub bytes: Vec<u8>,
    /// Size of the file.
    pub size: u64,
    /// Identity of the file (inode), which changes when a log is rotated.
    pub identity: u64,
}

/// Held as long as it lives; a host gives it up when the holder dies.
pub trait Lock: Send + Sync {}

/// How often the holder of a lock shows that it lives, by the time of the lock's file.
pub const LOCK_BEAT: Duration = Duration::from_secs(10);
/// A holder that has not shown for so long that it lives hangs.
pub const LOCK_SILENCE: Duration = Duration::from_secs(60);

/// What the file of a lock says as long as it is held; it is empty otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    /// Who holds it, for people.
    pub holder: String,
    /// The process on the host that holds it: `provision` itself, or what serves it there.
    pub pid: u32,
    /// When that process was started, in clock ticks since the host was: numbers of processes are given again.
    pub started: u64,
    /// Since when, in seconds since 1970 by the host's clock.
    pub since: u64,
}

impl LockRecord {
    /// `HOLDER, for 3 min`, and whether it hangs. `now` is by the host's clock, in seconds since 1970.
    pub fn told(&self, now: u64, silent_seconds: u64) -> String {
        let age = duration(now.saturating_sub(self.since));
        let silence = match silent_seconds > LOCK_SILENCE.as_secs() {
            true => format!("; it hangs: no sign of life for {}", duration(silent_seconds)),
            false => String::new(),
        };
        format!("{}, for {age}{silence}", self.holder)
    }
}

/// When a process was started, as `/proc/PID/stat` has it: the twentieth word behind the program's name.
pub fn started_in(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?.parse().ok()
}

/// A host. A call that is dropped ends on the host, too: a command's process group is killed.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Gathers the facts of the host, all but [`HostFacts::build`], in one round trip.
    async fn facts(&self, question: &Question) -> Result<HostFacts>;

    /// Takes the lock of a run and gathers the facts under it, in one round trip. No lock where there is no place for it
    /// yet: a bare host.
    ///
    /// # Errors
    /// [`Error::Locked`] with what the holder wrote.
    async fn enter(&self, question: &Question, holder: &str) -> Result<(HostFacts, Option<Box<dyn Lock>>)> {
        let path = Layout::new(&question.prefix).lock();
        let place = path.parent().unwrap_or(&path);
        // What may not be looked at counts as not there: the examination says what is wrong with it.
        let lock = match self.resolve(place).await {
            Ok(Some(_)) => Some(self.lock(&path, holder).await?),
            _ => None,
        };
        Ok((self.facts(question).await?, lock))
    }

    /// Asks gates, each once, in one round trip.
    async fn ask(&self, gates: &[Gate]) -> Result<Vec<Answer>>;

    /// How the host's programs are, in one round trip.
    async fn status(&self, question: &status::Question) -> Result<HostStatus>;

    /// Runs a command to its end.
    async fn run(&self, command: &Command) -> Result<Output> {
        self.run_lines(command, &mut |_, _| {}).await
    }

    /// Runs a command and hands over its lines as they come.
    async fn run_lines(&self, command: &Command, on_line: OnLine<'_>) -> Result<Output>;

    /// Asks an HTTP server that only the host may reach.
    async fn http(&self, request: &Request) -> Result<Response>;

    /// Reads a file; none when it is not there, an error when it has more than `limit` bytes.
    async fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>>;

    /// Reads up to `limit` bytes from `offset`; none when the file is not there.
    async fn read_from(&self, path: &Path, offset: u64, limit: u64) -> Result<Option<Chunk>>;

    /// Writes a file so that after a crash it is old or new: temporary file, fsync, rename, fsync of the directory.
    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()>;

    /// Appends to a file and syncs it.
    async fn append(&self, path: &Path, bytes: &[u8]) -> Result<()>;

    /// Makes a directory and its parents; the mode is set on the directory itself.
    async fn make_directory(&self, path: &Path, mode: u32) -> Result<()>;

    /// Removes a file; fine when it is not there.
    async fn remove_file(&self, path: &Path) -> Result<()>;

    /// Where a link points, fully resolved; none when it is not there.
    async fn resolve(&self, path: &Path) -> Result<Option<PathBuf>>;

    /// Puts a link in place atomically.
    async fn link(&self, target: &Path, link: &Path) -> Result<()>;

    /// Brings an executable of the control machine to the host and returns its SHA-256 in hex; `place` says where it goes
    /// once the digest is known. Over a network it is sent without its debug information, under the digest that it has with
    /// it. What is there already is left alone.
    async fn install(&self, source: &Path, place: Place<'_>) -> Result<String>;

    /// Brings a large file to the host, or has the host fetch it, and returns its SHA-256 in hex, which is computed while it
    /// flows. What is there of it already is gone on with, whichever run began it; nothing of it is read again for that
    /// where [`Delivery::sha256`] is known, and otherwise only by whoever sends it.
    ///
    /// # Errors
    /// [`Error::NoRoom`] before anything is sent; [`Error::Artifact`] when its digest is another one. What came stays.
    async fn deliver(&self, delivery: &Delivery, on_progress: OnProgress<'_>) -> Result<String> {
        let _ = on_progress;
        Err(Error::Internal(format!("{} cannot be brought there over this transport", delivery.origin)))
    }

    /// Unpacks an archive of the host into a directory that is made anew, and keeps the entries `wanted` of it alone, of
    /// which the first must be there.
    ///
    /// # Errors
    /// [`Error::Artifact`] for archives and members that are refused, [`Error::NoRoom`]; then the directory is gone.
    async fn unpack(
        &self,
        archive: &Path,
        into: &Path,
        wanted: &[String],
        on_progress: OnProgress<'_>,
    ) -> Result<Unpacked> {
        let _ = (into, wanted, on_progress);
        Err(Error::Internal(format!("{} cannot be unpacked over this transport", archive.display())))
    }

    /// SHA-256 of a file in hex; none when it is not there.
    async fn digest(&self, path: &Path) -> Result<Option<String>>;

    /// Takes a lock that excludes everybody else.
    ///
    /// # Errors
    /// [`Error::Locked`] with who holds it, for how long, and whether it hangs.
    async fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>>;
}

/// Reaches a host.
///
/// # Errors
/// [`Error::Connection`]: it cannot be reached, or our executable does not start there.
pub async fn connect(host: &Host) -> Result<Arc<dyn Transport>> {
    Ok(match host.connection.value {
        Connection::Local => Arc::new(Local),
        Connection::Ssh => Arc::new(Ssh::connect(host, &Program::own()?).await?),
    })
}

/// An error about a file.
pub(crate) fn file_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::File { action: action.to_string(), path: path.to_path_buf(), source }
}
