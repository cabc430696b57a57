//! A host reached over SSH: one channel to its own `provision remote` carries every call, a round trip each.

mod channel;
mod key;
mod session;
mod upload;

use super::http::{Request, Response};
use super::local::digest_of;
use super::wire::{Call, PAYLOAD_MAX, Reply};
use super::{Chunk, Command, Lock, OnLine, Output, Place, Transport, file_error};
use crate::artifacts;
use crate::derive::Gate;
use crate::error::{Error, Result};
use crate::facts::{HostFacts, Question};
use crate::gates::Answer;
use crate::resolve::Host;
use crate::status::{self, HostStatus};
use crate::transfer::{Delivery, OnProgress, Origin};
use crate::unpack::Unpacked;
use async_trait::async_trait;
use channel::{Channel, Event, Holder, Pending};
pub use key::{fingerprint, shown_key};
use serde::de::DeserializeOwned;
use session::Session;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use upload::{Sending, Sent};

/// What the answer to a call may take longer than the call's own deadline at the host: a slow line.
const GRACE: Duration = Duration::from_secs(15);
/// Deadline of a call on a small file.
const FILE: Duration = Duration::from_secs(60);
/// Deadline of a call that reads or syncs a large file: 100 GB at 60 MB/s.
const LARGE_FILE: Duration = Duration::from_secs(30 * 60);
/// Deadline of questions to programs: each has a shorter one of its own.
const GATES: Duration = Duration::from_secs(60);
/// Deadline of the facts: the script's own is 60 s, and a stuck supervisord is asked several times.
const FACTS: Duration = Duration::from_secs(180);

/// The executable that is to run on the host: this one, as a rule.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it is on the control machine.
    pub path: PathBuf,
    /// Its SHA-256 in hex.
    pub digest: String,
    /// Directory of the host that keeps it, by digest; none for `/var/lib/autonomys/provision` of root and
    /// `~/.cache/autonomys/provision` of anybody else.
    pub directory: Option<PathBuf>,
}

impl Program {
    /// The running executable.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn own() -> Result<Self> {
        static OWN: OnceLock<Program> = OnceLock::new();
        if let Some(own) = OWN.get() {
            return Ok(own.clone());
        }
        // Not its name: a new build may have taken that meanwhile. Nor `self`, which `strip` would read as itself.
        let process =
            std::fs::read_link("/proc/self").map_err(file_error("cannot read", Path::new("/proc/self")))?;
        let own = Self::at(&Path::new("/proc").join(process).join("exe"))?;
        Ok(OWN.get_or_init(|| own).clone())
    }

    /// The executable at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn at(path: &Path) -> Result<Self> {
        match digest_of(path)? {
            Some(digest) => Ok(Self { path: path.to_path_buf(), digest, directory: None }),
            None => Err(file_error("cannot read", path)(ErrorKind::NotFound.into())),
        }
    }
}

/// A host reached over SSH.
pub struct Ssh {
    host: String,
    channel: Channel,
    /// Behind the channel: what it runs over ends after it.
    _session: Session,
}

impl Ssh {
    /// Connects to a host and starts `program` there, which is brought there if it is not yet.
    ///
    /// # Errors
    /// [`Error::Connection`], with what to do.
    pub async fn connect(host: &Host, program: &Program) -> Result<Self> {
        let session = Session::open(host).await?;
        let (channel, session) = session.start(program).await?;
        Ok(Self { host: host.name.value.clone(), channel, _session: session })
    }

    /// Makes a call that is one question and one answer.
    async fn call(&self, call: Call, payload: Vec<u8>, deadline: Duration) -> Result<(Reply, Vec<u8>)> {
        let pending = self.channel.call(call, payload)?;
        self.within(deadline, self.end(pending, None)).await
    }

    /// Waits for the end of a call.
    async fn end(
        &self,
        mut pending: Pending<'_>,
        mut on_line: Option<OnLine<'_>>,
    ) -> Result<(Reply, Vec<u8>)> {
        loop {
            match pending.next().await? {
                Event::Line(stream, line) => {
                    if let Some(on_line) = &mut on_line {
                        on_line(stream, &line);
                    }
                }
                Event::Progress(..) => {}
                Event::Wanted(..) => return Err(self.nonsense("a file that was not offered is wanted")),
                Event::Done(Ok(reply), payload) => return Ok((reply, payload)),
                Event::Done(Err(failure), _) => return Err(self.on_host(failure.into())),
            }
        }
    }

    /// A host that hangs must not hang us: the host's own deadline, and then ours.
    async fn within<T>(&self, deadline: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(deadline, work).await {
            Ok(done) => done,
            Err(_) => Err(self.silent(deadline)),
        }
    }

    fn silent(&self, deadline: Duration) -> Error {
        Error::Connection {
            host: self.host.clone(),
            message: format!("no answer within {} s", deadline.as_secs()),
            hint: "the host hangs: look at its disks (`dmesg`) and its load, then apply again".to_string(),
        }
    }

    fn on_host(&self, error: Error) -> Error {
        match error {
            // It names the host itself.
            error @ Error::Facts { .. } => error,
            error => Error::OnHost { host: self.host.clone(), error: Box::new(error) },
        }
    }

    fn nonsense(&self, what: &str) -> Error {
        self.on_host(Error::Internal(format!("an unexpected answer: {what}")))
    }

    fn parsed<T: DeserializeOwned>(&self, json: &[u8]) -> Result<T> {
        serde_json::from_slice(json).map_err(|error| self.nonsense(&error.to_string()))
    }

    /// The lock that a call takes. Made before the answer: a lock that was taken while we stopped waiting is given up, too.
    fn lock_of(&self, pending: &Pending<'_>) -> Box<dyn Lock> {
        Box::new(HostLock { _holder: self.channel.holder(pending.id) })
    }

    async fn run_with(&self, command: &Command, on_line: Option<OnLine<'_>>) -> Result<Output> {
        let call = Call::Run { command: command.clone(), lines: on_line.is_some() };
        let pending = self.channel.call(call, command.stdin.clone())?;
        let ended = self.within(command.deadline + GRACE, self.end(pending, on_line)).await?;
        match ended {
            (Reply::Output { status, code, stdout }, mut payload) if stdout <= payload.len() => {
                let stderr = payload.split_off(stdout);
                Ok(Output { status, code, stdout: payload, stderr })
            }
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// A call that has nothing to say.
    async fn order(&self, call: Call, payload: &[u8]) -> Result<()> {
        match self.call(call, payload.to_vec(), FILE).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    /// Sends what the host wants of a file until the host says what became of it; none when it has the beginning of
    /// another file.
    async fn send(
        &self,
        sending: &Sending<'_>,
        mut pending: Pending<'_>,
        on_progress: OnProgress<'_>,
    ) -> Result<Option<Reply>> {
        match upload::send(sending, &mut pending, LARGE_FILE, on_progress).await? {
            Sent::Done(Ok(reply)) => Ok(Some(reply)),
            Sent::Done(Err(failure)) => Err(self.on_host(failure.into())),
            Sent::Differs => Ok(None),
            Sent::Stuck => Err(self.silent(LARGE_FILE)),
        }
    }

    /// Brings a file of this machine to the host; none when the host has the beginning of another file under its name.
    async fn send_delivery(
        &self,
        delivery: &Delivery,
        source: &Path,
        anew: bool,
        on_progress: OnProgress<'_>,
    ) -> Result<Option<String>> {
        let size = std::fs::metadata(source).map_err(file_error("cannot read", source))?.len();
        let call = Call::Receive { delivery: delivery.clone(), size, anew };
        let mut pending = self.channel.call(call, Vec::new())?;
        let (from, there) = match self.within(LARGE_FILE, pending.next()).await? {
            Event::Wanted(from, there) => (from, there),
            Event::Done(Err(failure), _) => return Err(self.on_host(failure.into())),
            other => return Err(self.nonsense(&format!("{other:?}"))),
        };
        // With a digest that is known the host tells a wrong beginning by itself.
        let there = there.filter(|_| delivery.sha256.is_none());
        let sending = Sending { source, size, from, there, rate: delivery.rate, ends: true };
        match self.send(&sending, pending, on_progress).await? {
            Some(Reply::Digest(digest)) => Ok(Some(digest)),
            Some(other) => Err(self.nonsense(&format!("{other:?}"))),
            None => Ok(None),
        }
    }

    /// Waits for the end of a call that tells how far it is; it may take long, but not stand still.
    async fn follow(&self, call: Call, on_progress: OnProgress<'_>) -> Result<Reply> {
        let mut pending = self.channel.call(call, Vec::new())?;
        loop {
            match self.within(LARGE_FILE, pending.next()).await? {
                Event::Progress(bytes, of) => on_progress(bytes, of),
                Event::Done(Ok(reply), _) => return Ok(reply),
                Event::Done(Err(failure), _) => return Err(self.on_host(failure.into())),
                other => return Err(self.nonsense(&format!("{other:?}"))),
            }
        }
    }
}

#[async_trait]
impl Transport for Ssh {
    async fn facts(&self, question: &Question) -> Result<HostFacts> {
        match self.call(Call::Facts(question.clone()), Vec::new(), FACTS).await? {
            (Reply::Facts, json) => self.parsed(&json),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn enter(&self, question: &Question, holder: &str) -> Result<(HostFacts, Option<Box<dyn Lock>>)> {
        let call = Call::Enter { question: question.clone(), holder: holder.to_string() };
        let pending = self.channel.call(call, Vec::new())?;
        let lock = self.lock_of(&pending);
        match self.within(FACTS, self.end(pending, None)).await? {
            (Reply::Entered { locked }, json) => Ok((self.parsed(&json)?, locked.then_some(lock))),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn ask(&self, gates: &[Gate]) -> Result<Vec<Answer>> {
        match self.call(Call::Ask(gates.to_vec()), Vec::new(), GATES).await? {
            (Reply::Answers(answers), _) if answers.len() == gates.len() => Ok(answers),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn status(&self, question: &status::Question) -> Result<HostStatus> {
        match self.call(Call::Status(question.clone()), Vec::new(), GATES).await? {
            (Reply::Status, json) => self.parsed(&json),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn run(&self, command: &Command) -> Result<Output> {
        self.run_with(command, None).await
    }

    async fn run_lines(&self, command: &Command, on_line: OnLine<'_>) -> Result<Output> {
        self.run_with(command, Some(on_line)).await
    }

    async fn http(&self, request: &Request) -> Result<Response> {
        match self.call(Call::Http(request.clone()), Vec::new(), request.deadline + GRACE).await? {
            (Reply::Response { status }, body) => Ok(Response { status, body }),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        let call = Call::Read { path: path.to_path_buf(), limit: limit.min(PAYLOAD_MAX as u64) };
        match self.call(call, Vec::new(), FILE).await? {
            (Reply::Absent, _) => Ok(None),
            (Reply::Bytes, bytes) => Ok(Some(bytes)),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn read_from(&self, path: &Path, offset: u64, limit: u64) -> Result<Option<Chunk>> {
        let limit = limit.min(PAYLOAD_MAX as u64);
        let call = Call::ReadFrom { path: path.to_path_buf(), offset, limit };
        match self.call(call, Vec::new(), FILE).await? {
            (Reply::Absent, _) => Ok(None),
            (Reply::Chunk { size, identity }, bytes) => Ok(Some(Chunk { bytes, size, identity })),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        self.order(Call::Write { path: path.to_path_buf(), mode }, bytes).await
    }

    async fn append(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.order(Call::Append { path: path.to_path_buf() }, bytes).await
    }

    async fn make_directory(&self, path: &Path, mode: u32) -> Result<()> {
        self.order(Call::MakeDirectory { path: path.to_path_buf(), mode }, &[]).await
    }

    async fn remove_file(&self, path: &Path) -> Result<()> {
        self.order(Call::RemoveFile { path: path.to_path_buf() }, &[]).await
    }

    async fn resolve(&self, path: &Path) -> Result<Option<PathBuf>> {
        match self.call(Call::Resolve { path: path.to_path_buf() }, Vec::new(), FILE).await? {
            (Reply::Absent, _) => Ok(None),
            (Reply::Path(path), _) => Ok(Some(path)),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn link(&self, target: &Path, link: &Path) -> Result<()> {
        self.order(Call::Link { target: target.to_path_buf(), link: link.to_path_buf() }, &[]).await
    }

    async fn install(&self, source: &Path, place: Place<'_>) -> Result<String> {
        let path = source.to_path_buf();
        // In a thread: whoever reads a large file here must go on pinging the host.
        let read = tokio::task::spawn_blocking(move || -> Result<_> {
            let absent = || file_error("cannot install", &path)(ErrorKind::NotFound.into());
            let digest = digest_of(&path)?.ok_or_else(absent)?;
            let slim = artifacts::slim(&path, &digest);
            let sent = digest_of(slim.path())?.ok_or_else(absent)?;
            Ok((digest, slim, sent))
        });
        let (digest, slim, sent) = read.await.map_err(|error| Error::Internal(error.to_string()))??;
        let source = slim.path();
        let size = std::fs::metadata(source).map_err(file_error("cannot read", source))?.len();
        let call = Call::Install { path: place(&digest), digest: sent, size };
        let mut pending = self.channel.call(call, Vec::new())?;
        let sending = match self.within(LARGE_FILE, pending.next()).await? {
            Event::Done(Ok(_), _) => return Ok(digest),
            Event::Done(Err(failure), _) => return Err(self.on_host(failure.into())),
            Event::Wanted(from, _) => Sending { source, size, from, there: None, rate: None, ends: false },
            other => return Err(self.nonsense(&format!("{other:?}"))),
        };
        match self.send(&sending, pending, &mut |_, _| {}).await? {
            Some(Reply::Done) => Ok(digest),
            other => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn deliver(&self, delivery: &Delivery, on_progress: OnProgress<'_>) -> Result<String> {
        delivery.check()?;
        let source = match &delivery.origin {
            Origin::File(source) => source,
            Origin::Url(_) => {
                return match self.follow(Call::Fetch(delivery.clone()), on_progress).await? {
                    Reply::Digest(digest) => Ok(digest),
                    other => Err(self.nonsense(&format!("{other:?}"))),
                };
            }
        };
        match self.send_delivery(delivery, source, false, on_progress).await? {
            Some(digest) => Ok(digest),
            None => match self.send_delivery(delivery, source, true, on_progress).await? {
                Some(digest) => Ok(digest),
                None => Err(self.nonsense("another file, again")),
            },
        }
    }

    async fn unpack(
        &self,
        archive: &Path,
        into: &Path,
        wanted: &[String],
        on_progress: OnProgress<'_>,
    ) -> Result<Unpacked> {
        let call = Call::Unpack {
            archive: archive.to_path_buf(),
            into: into.to_path_buf(),
            wanted: wanted.to_vec(),
        };
        match self.follow(call, on_progress).await? {
            Reply::Unpacked(unpacked) => Ok(unpacked),
            other => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn digest(&self, path: &Path) -> Result<Option<String>> {
        match self.call(Call::Digest { path: path.to_path_buf() }, Vec::new(), LARGE_FILE).await? {
            (Reply::Absent, _) => Ok(None),
            (Reply::Digest(digest), _) => Ok(Some(digest)),
            (other, _) => Err(self.nonsense(&format!("{other:?}"))),
        }
    }

    async fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>> {
        let call = Call::Lock { path: path.to_path_buf(), holder: holder.to_string() };
        let pending = self.channel.call(call, Vec::new())?;
        let lock = self.lock_of(&pending);
        self.within(FILE, self.end(pending, None)).await?;
        Ok(lock)
    }
}

/// A lock that the host holds for us.
struct HostLock {
    _holder: Holder,
}

impl Lock for HostLock {}
