//! A fleet in memory, with faults: the executor of the real hosts runs on it, in virtual time.
//!
//! What happens on a host's disk goes through the same code as on a real one ([`super::local`] over another
//! [`super::disk::Disk`]); supervisord, nats-server, the node and the roles are models. `ARCHITECTURE.md` says what they
//! leave out. Needs tokio's paused clock. Every choice is made by a seed.

mod chance;
mod commands;
mod facts;
mod files;
mod fleet;
mod machine;
mod network;
mod supervisord;
mod xml;

use super::disk::Disk;
use super::http::{Request, Response};
use super::local::{self, Incoming, digest_of};
use super::{Chunk, Command, Lock, OnLine, Output, Place, Stream, Transport, file_error};
use crate::derive::Gate;
use crate::error::{Error, Result};
use crate::facts::{HostFacts, Question};
use crate::gates;
use crate::status::{self, HostStatus};
use async_trait::async_trait;
pub use fleet::{Fleet, Left};
use machine::{Held, Host, gone};
use network::Answer;
pub use network::STARTUP;
use serde::Serialize;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervisord::Now;

/// What a call takes at least.
const LATENCY: Duration = Duration::from_millis(1);
/// What chance adds to it at most, in milliseconds.
const JITTER_MS: usize = 3;
/// What a call takes at most: then the host counts as hung.
const DEADLINE: Duration = Duration::from_secs(60);

/// Something that goes wrong. Commands, questions over HTTP and every single request to a disk count as operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection ends before the operation.
    Dropped,
    /// The call of the operation is done, its answer lost with the connection.
    AnswerLost,
    /// What serves us on the host is killed in the midst of the operation: half of a write is done.
    Killed,
    /// The host loses power in the midst of the operation, and what was not synced.
    PowerCut,
    /// The disk takes no more than so many bytes.
    DiskFull {
        /// Bytes.
        after: u64,
    },
    /// Every call takes so much longer.
    Slow {
        /// Milliseconds.
        milliseconds: u64,
    },
    /// supervisord is stopped (SIGSTOP).
    SupervisordHangs,
    /// supervisord is killed; its programs run on.
    SupervisordDies,
}

impl Fault {
    /// Any of them, as a seed decides.
    pub fn by_chance(seed: u64) -> Self {
        let mut chance = chance::Chance::new(seed);
        let kind = chance.up_to(7);
        let mut number = |most| chance.up_to(most) as u64;
        match kind {
            0 => Self::Dropped,
            1 => Self::AnswerLost,
            2 => Self::Killed,
            3 => Self::PowerCut,
            4 => Self::DiskFull { after: number(2000) },
            5 => Self::Slow { milliseconds: number(90_000) },
            6 => Self::SupervisordHangs,
            _ => Self::SupervisordDies,
        }
    }

    /// Whether the run cannot go on on a host that has it.
    pub fn ends_the_session(self) -> bool {
        matches!(self, Self::Dropped | Self::AnswerLost | Self::Killed | Self::PowerCut)
    }
}

/// What became of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// It serves nobody from now on.
    Down,
    /// It was started.
    Up,
}

/// A program that was started, or is down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Happened {
    /// Time since the fleet began.
    pub at: Duration,
    /// Host.
    pub host: String,
    /// Program.
    pub program: String,
    /// What.
    pub turn: Turn,
}

/// Everything there is.
struct World {
    hosts: network::Hosts,
    began: tokio::time::Instant,
    chance: chance::Chance,
    next: u64,
    /// Commands that were run, as process lists show them.
    commands: Vec<String>,
}

type Shared = Arc<Mutex<World>>;

fn locked(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn now(&self) -> Now {
        self.began.elapsed()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// A host as this machine reaches it.
#[derive(Clone)]
struct Session {
    world: Shared,
    host: String,
    number: u64,
    /// Whether calls come from the host itself.
    near: bool,
}

impl Session {
    /// What makes the parts of a call that has arrived.
    fn at_the_host(&self) -> Self {
        Self { near: true, ..self.clone() }
    }

    /// Does something with the host at this moment.
    fn with<T>(&self, work: impl FnOnce(&mut Host, Now) -> T) -> T {
        let mut world = locked(&self.world);
        let now = world.now();
        work(world.hosts.get_mut(&self.host).expect("a session is of a host that is there"), now)
    }

    /// The way to the host.
    async fn arrive(&self) -> Result<()> {
        if self.near {
            return Ok(());
        }
        let delay = {
            let mut world = locked(&self.world);
            let jitter = world.chance.up_to(JITTER_MS);
            let slow = world.hosts.get(&self.host).map_or(Duration::ZERO, |host| host.slow);
            LATENCY + Duration::from_millis(jitter as u64) + slow
        };
        tokio::time::sleep(delay.min(DEADLINE)).await;
        if delay > DEADLINE {
            return Err(Error::Connection {
                host: self.host.clone(),
                message: format!("no answer within {} s", DEADLINE.as_secs()),
                hint: "the host hangs: look at its disks (`dmesg`) and its load, then apply again"
                    .to_string(),
            });
        }
        self.answer(Ok(()))
    }

    /// The way back: an answer gets here only over a connection.
    fn answer<T>(&self, result: Result<T>) -> Result<T> {
        let connected = self.with(|host, _| {
            if !self.near && host.unanswered.contains(&self.number) {
                host.hang_up(self.number);
            }
            host.sessions.contains(&self.number)
        });
        match result {
            _ if !connected => Err(Error::Connection {
                host: self.host.clone(),
                message: "the connection ended".to_string(),
                hint: "look whether the host is up, then apply again".to_string(),
            }),
            Err(error @ Error::Facts { .. }) => Err(error),
            Err(error) if !self.near => {
                Err(Error::OnHost { host: self.host.clone(), error: Box::new(error) })
            }
            result => result,
        }
    }

    /// A call that concerns the disk alone.
    async fn on_disk<T>(&self, work: impl FnOnce(&Self) -> Result<T> + Send) -> Result<T> {
        self.arrive().await?;
        self.answer(work(self))
    }

    /// Something to be read, which is one operation.
    fn looked<T>(&self, path: &Path, look: impl FnOnce(&Host) -> T) -> Result<T> {
        self.with(|host, now| host.pass(self.number, now).map(|()| look(host)))
            .map_err(file_error("cannot read", path))
    }
}

/// A file that is open on a host.
struct OpenFile {
    session: Session,
    number: u64,
}

impl Write for OpenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let session = self.session.number;
        self.session.with(|host, now| match host.due(session, now)? {
            None => host.machine.files.write(self.number, bytes),
            Some(fault) => {
                let _ = host.machine.files.write(self.number, &bytes[..bytes.len() / 2]);
                host.strike(fault, session, now);
                Err(gone())
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    fn request<T>(&self, work: impl FnOnce(&mut files::Files) -> io::Result<T>) -> io::Result<T> {
        self.with(|host, now| {
            host.pass(self.number, now)?;
            work(&mut host.machine.files)
        })
    }
}

impl Disk for Session {
    type File = OpenFile;

    fn create(&self, path: &Path, mode: u32) -> io::Result<OpenFile> {
        let number = self.request(|files| files.create(path, mode))?;
        Ok(OpenFile { session: self.clone(), number })
    }

    fn append(&self, path: &Path, mode: u32) -> io::Result<OpenFile> {
        let number = self.request(|files| files.append(path, mode))?;
        Ok(OpenFile { session: self.clone(), number })
    }

    fn set_mode(&self, file: &OpenFile, mode: u32) -> io::Result<()> {
        self.request(|files| {
            files.set_mode(file.number, mode);
            Ok(())
        })
    }

    fn sync(&self, file: &OpenFile) -> io::Result<()> {
        self.request(|files| {
            files.sync(file.number);
            Ok(())
        })
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.request(|files| files.sync_directory(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.request(|files| files.rename(from, to))
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.request(|files| files.symlink(target, link))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.request(|files| files.remove(path))
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.request(|files| files.make_directory(path))
    }

    fn set_directory_mode(&self, _: &Path, _: u32) -> io::Result<()> {
        self.request(|_| Ok(()))
    }
}

/// Held until it is dropped, or the session ends.
struct HeldLock {
    session: Session,
    path: PathBuf,
    token: u64,
}

impl Lock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.session.with(|host, _| {
            if host.locks.get(&self.path).is_some_and(|held| held.token == self.token) {
                host.locks.remove(&self.path);
            }
        });
    }
}

#[async_trait]
impl Transport for Session {
    async fn facts(&self, question: &Question) -> Result<HostFacts> {
        self.arrive().await?;
        let near = self.at_the_host();
        let gathered = async {
            let passed = near.with(|host, now| {
                host.advance(now);
                host.pass(near.number, now).map(|()| facts::of(host, question))
            });
            let failed = |message: String| Error::Facts { host: question.host.clone(), message };
            crate::facts::beside_script(passed.map_err(|error| failed(error.to_string()))?, question, &near)
                .await
        };
        self.answer(gathered.await)
    }

    async fn ask(&self, gates: &[Gate]) -> Result<Vec<gates::Answer>> {
        self.arrive().await?;
        let answers = gates::ask_all(gates, &self.at_the_host()).await;
        self.answer(Ok(answers))
    }

    async fn status(&self, question: &status::Question) -> Result<HostStatus> {
        self.arrive().await?;
        let status = status::of_host(question, &self.at_the_host()).await;
        self.answer(Ok(status))
    }

    async fn run_lines(&self, command: &Command, on_line: OnLine<'_>) -> Result<Output> {
        self.arrive().await?;
        let ran = {
            let mut world = locked(&self.world);
            world
                .commands
                .push(format!("{:?} {:?} {:?}", command.program, command.arguments, command.environment));
            drop(world);
            self.with(|host, now| {
                host.advance(now);
                host.pass(self.number, now).map(|()| commands::run(host, command, now))
            })
        };
        let failed = |message: String| Error::Command { program: command.name(), message };
        let ran = match ran {
            Err(error) => Err(failed(error.to_string())),
            Ok(None) => Err(failed("not found on PATH".to_string())),
            Ok(Some(output)) => Ok(output),
        };
        let output = self.answer(ran)?;
        for (stream, bytes) in [(Stream::Out, &output.stdout), (Stream::Err, &output.stderr)] {
            String::from_utf8_lossy(bytes).lines().for_each(|line| on_line(stream, line));
        }
        Ok(output)
    }

    async fn http(&self, request: &Request) -> Result<Response> {
        self.arrive().await?;
        let failed = |message: String| Error::Http { endpoint: request.endpoint.to_string(), message };
        let asked = match self.with(|host, now| host.pass(self.number, now)) {
            Err(error) => Err(failed(error.to_string())),
            Ok(()) => {
                let answer = {
                    let mut world = locked(&self.world);
                    let now = world.now();
                    network::ask(&mut world.hosts, &self.host, request, now)
                };
                match answer {
                    Answer::Response(response) => Ok(response),
                    Answer::Refused(why) => Err(failed(why.to_string())),
                    Answer::Silence => {
                        tokio::time::sleep(request.deadline).await;
                        Err(failed(format!("no answer within {} s", request.deadline.as_secs_f32())))
                    }
                }
            }
        };
        self.answer(asked)
    }

    async fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        self.on_disk(|session| {
            let bytes = session
                .looked(path, |host| host.machine.files.read(path).map(|(bytes, _)| bytes.to_vec()))?;
            if bytes.as_ref().is_some_and(|bytes| bytes.len() as u64 > limit) {
                let error = io::Error::other(format!("more than {limit} bytes"));
                return Err(file_error("cannot read", path)(error));
            }
            Ok(bytes)
        })
        .await
    }

    async fn read_from(&self, path: &Path, offset: u64, limit: u64) -> Result<Option<Chunk>> {
        self.on_disk(|session| {
            session.looked(path, |host| {
                let (bytes, identity) = host.machine.files.read(path)?;
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let part = bytes[from..].iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
                Some(Chunk { bytes: part.copied().collect(), size: bytes.len() as u64, identity })
            })
        })
        .await
    }

    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.on_disk(|session| local::replace(session, path, bytes, mode)).await
    }

    async fn append(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.on_disk(|session| local::append(session, path, bytes)).await
    }

    async fn make_directory(&self, path: &Path, mode: u32) -> Result<()> {
        self.on_disk(|session| local::make_directory(session, path, mode)).await
    }

    async fn remove_file(&self, path: &Path) -> Result<()> {
        self.on_disk(|session| local::remove(session, path)).await
    }

    async fn resolve(&self, path: &Path) -> Result<Option<PathBuf>> {
        self.on_disk(|session| {
            session.looked(path, |host| match path.strip_prefix("/proc") {
                Ok(process) => {
                    let pid = process.iter().next()?.to_str()?.parse().ok()?;
                    host.machine
                        .processes
                        .get(&pid)
                        .map(|process: &machine::Process| process.executable.clone())
                }
                Err(_) => host.machine.files.resolve(path),
            })
        })
        .await
    }

    async fn link(&self, target: &Path, link: &Path) -> Result<()> {
        self.on_disk(|session| local::put_link(session, target, link)).await
    }

    async fn install(&self, source: &Path, place: Place<'_>) -> Result<String> {
        let missing = || file_error("cannot install", source)(ErrorKind::NotFound.into());
        let digest = digest_of(source)?.ok_or_else(missing)?;
        let bytes = std::fs::read(source).map_err(file_error("cannot read", source))?;
        let target = place(&digest);
        self.on_disk(|session| {
            if session.looked(&target, |host| host.machine.files.digest(&target))?.as_ref() == Some(&digest) {
                return Ok(digest);
            }
            let mut incoming = Incoming::begin(session.clone(), &target)?;
            incoming.add(&bytes)?;
            incoming.finish(&digest)?;
            Ok(digest)
        })
        .await
    }

    async fn digest(&self, path: &Path) -> Result<Option<String>> {
        self.on_disk(|session| session.looked(path, |host| host.machine.files.digest(path))).await
    }

    async fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>> {
        self.on_disk(|session| {
            // As with a real one the file stays, and only its being held counts.
            session
                .request(|files| files.append(path, 0o600).map(drop))
                .map_err(file_error("cannot lock", path))?;
            let token = locked(&session.world).number();
            session.with(|host, _| match host.locks.get(path) {
                Some(held) => {
                    let parent = path.parent().and_then(Path::parent).unwrap_or(path).to_path_buf();
                    Err(Error::Locked { path: parent, holder: held.holder.clone() })
                }
                None => {
                    host.lock(path, Held::new(token, session.number, holder));
                    Ok(())
                }
            })?;
            let lock: Box<dyn Lock> =
                Box::new(HeldLock { session: session.clone(), path: path.to_path_buf(), token });
            Ok(lock)
        })
        .await
    }
}
