//! The host's side: serves the calls of a control machine by means of [`Local`], until that goes away.
//!
//! Whatever a call holds (a running command, half a file, a lock) is given up with the connection.

use super::disk::Own;
use super::local::{Incoming, digest_of};
use super::wire::{self, Call, Failure, Frame, Hello, PROTOCOL, Reply, ToControl, ToHost, WINDOW};
use super::{Command, Local, Lock, Stream, Transport, file_error};
use crate::error::{Error, Result};
use crate::transfer::Delivery;
use crate::transfer::Partial;
use crate::transfer::partial::{self, Identity};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// A control machine that is silent for so long is gone, whatever TCP believes: its lock must not outlive it.
const SILENCE: Duration = Duration::from_secs(60);
/// Calls at a time.
const CALLS_MAX: usize = 1024;
/// Bytes of lines that wait to be sent; beyond this, lines are left out (the command's whole output is not).
const LINES_MAX: usize = 8 << 20;
/// Bytes of a file that are dealt with between two reports of it: the sender's window is opened again by those.
const REPORT: u64 = 1 << 20;

/// Serves standard input and output: `provision remote`.
pub fn main() -> std::process::ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return std::process::ExitCode::FAILURE,
    };
    let served = runtime.block_on(async {
        tokio::select! {
            served = serve(tokio::io::stdin(), tokio::io::stdout()) => served,
            // What a call holds is given up in order.
            () = terminated() => {
                let _ = io::Write::write_all(&mut io::stderr(), b"somebody broke this run's hold on the host\n");
                Err(io::ErrorKind::Interrupted.into())
            }
        }
    });
    // A thread may still note how much of a file came; or wait for standard input or a dead disk.
    runtime.shutdown_timeout(Duration::from_secs(4));
    if served.is_ok() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// SIGTERM, by which a lock is broken.
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// Serves a control machine until its stream ends.
///
/// # Errors
/// A stream fails, or what comes is not the protocol.
pub(super) async fn serve(reader: impl AsyncRead + Unpin, writer: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    Frame::new(&ToControl::Hello(Hello::own()), Vec::new())?.write(&mut writer).await?;
    writer.flush().await?;
    let (frames, queue) = mpsc::unbounded_channel();
    let out = Out { frames, lines: Arc::default() };
    let lines = Arc::clone(&out.lines);
    let server = Server { out, calls: Arc::default(), locks: Arc::default() };
    tokio::select! {
        ended = server.listen(BufReader::new(reader)) => ended,
        ended = send_all(queue, writer, &lines) => ended,
    }
}

async fn send_all(
    mut queue: mpsc::UnboundedReceiver<(Frame, bool)>,
    mut writer: impl AsyncWrite + Unpin,
    lines: &AtomicUsize,
) -> io::Result<()> {
    while let Some((frame, line)) = queue.recv().await {
        frame.write(&mut writer).await?;
        if line {
            lines.fetch_sub(frame.payload_len(), Relaxed);
        }
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    Ok(())
}

/// What is sent to the control machine.
#[derive(Clone)]
struct Out {
    /// Frames, and whether each is a line.
    frames: mpsc::UnboundedSender<(Frame, bool)>,
    /// Bytes of lines among them.
    lines: Arc<AtomicUsize>,
}

impl Out {
    /// Sends; a message that does not fit a frame is replaced by an error.
    fn send(&self, message: &ToControl, payload: Vec<u8>) {
        let frame = Frame::new(message, payload).or_else(|error| {
            let ToControl::Done { id, .. } = message else { return Err(error) };
            let failure = Failure::Other { message: format!("the answer cannot be sent: {error}") };
            Frame::new(&ToControl::Done { id: *id, reply: Err(failure) }, Vec::new())
        });
        if let Ok(frame) = frame {
            // Nobody to send to: the connection is ending.
            let _ = self.frames.send((frame, false));
        }
    }

    /// Sends a line unless too many wait; returns whether it did.
    fn line(&self, id: u64, stream: Stream, line: &str) -> bool {
        if self.lines.load(Relaxed) > LINES_MAX {
            return false;
        }
        if let Ok(frame) = Frame::new(&ToControl::Line { id, stream }, line.as_bytes().to_vec()) {
            self.lines.fetch_add(frame.payload_len(), Relaxed);
            let _ = self.frames.send((frame, true));
        }
        true
    }
}

/// A call at work; ends with this.
struct Running {
    task: AbortHandle,
    /// Where the parts of its file go.
    parts: Option<mpsc::Sender<Part>>,
}

/// What comes of a file.
enum Part {
    Chunk(Vec<u8>),
    /// All of it was sent; its SHA-256 in hex, where the sender knows it.
    End(Option<String>),
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Numbered<T> = Arc<Mutex<HashMap<u64, T>>>;

fn locked<T>(numbered: &Numbered<T>) -> MutexGuard<'_, HashMap<u64, T>> {
    numbered.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Server {
    out: Out,
    calls: Numbered<Running>,
    locks: Numbered<Box<dyn Lock>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Tasks hold these maps, too.
        locked(&self.calls).clear();
        locked(&self.locks).clear();
    }
}

impl Server {
    async fn listen(&self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut greeted = false;
        loop {
            let Ok(read) = tokio::time::timeout(SILENCE, wire::read::<ToHost>(&mut reader)).await else {
                return Err(io::ErrorKind::TimedOut.into());
            };
            let Some((message, payload)) = read? else { return Ok(()) };
            match message {
                // Another version sees from our greeting that it cannot talk to us.
                ToHost::Hello(hello) if !greeted && hello.protocol == PROTOCOL => greeted = true,
                _ if !greeted => return Err(io::ErrorKind::Unsupported.into()),
                ToHost::Hello(_) => return Err(io::ErrorKind::InvalidData.into()),
                ToHost::Call { id, call } => self.start(id, call, payload),
                ToHost::Chunk { id } => self.pass(id, Part::Chunk(payload))?,
                ToHost::End { id, digest } => self.pass(id, Part::End(digest))?,
                ToHost::Drop { id } => {
                    locked(&self.calls).remove(&id);
                    locked(&self.locks).remove(&id);
                }
                ToHost::Ping => self.out.send(&ToControl::Ping, Vec::new()),
            }
        }
    }

    /// Passes part of a file on, never waiting: a slow disk must hold up no other call. The window bounds what lies here.
    fn pass(&self, id: u64, part: Part) -> io::Result<()> {
        // A call that ended meanwhile wants no more.
        let parts = locked(&self.calls).get(&id).and_then(|running| running.parts.clone());
        match parts.map(|parts| parts.try_send(part)) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(()),
        }
    }

    fn start(&self, id: u64, call: Call, payload: Vec<u8>) {
        // Held until the call is entered: a task that is done at once looks for itself.
        let mut running = locked(&self.calls);
        if running.len() >= CALLS_MAX || running.contains_key(&id) {
            let failure = Failure::Other { message: format!("call {id}: more than {CALLS_MAX} at a time") };
            self.out.send(&ToControl::Done { id, reply: Err(failure) }, Vec::new());
            return;
        }
        let (send, parts) = mpsc::channel(WINDOW + 1);
        let comes = matches!(call, Call::Install { .. } | Call::Receive { .. });
        let (out, calls, locks) = (self.out.clone(), Arc::clone(&self.calls), Arc::clone(&self.locks));
        let task = tokio::spawn(async move {
            let done = match call {
                Call::Install { path, digest, size } => {
                    let file = Arriving { id, size, parts, out: out.clone() };
                    in_thread(move || install(&path, &digest, file)).await
                }
                Call::Receive { delivery, size, anew } => {
                    let file = Arriving { id, size, parts, out: out.clone() };
                    in_thread(move || receive(&delivery, anew, file)).await
                }
                Call::Lock { path, holder } => {
                    let lock = file_call(async move { Local.lock(&path, &holder).await }).await;
                    lock.map(|lock| {
                        locked(&locks).insert(id, lock);
                        (Reply::Done, Vec::new())
                    })
                }
                Call::Enter { question, holder } => {
                    let entered = file_call(async move { Local.enter(&question, &holder).await }).await;
                    entered.and_then(|(facts, lock)| {
                        let (reply, json) = (Reply::Entered { locked: lock.is_some() }, json(&facts)?);
                        locked(&locks).extend(lock.map(|lock| (id, lock)));
                        Ok((reply, json))
                    })
                }
                call => act(id, call, payload, &out).await,
            };
            let (reply, payload) = match done {
                Ok((reply, payload)) => (Ok(reply), payload),
                Err(error) => (Err(error.into()), Vec::new()),
            };
            out.send(&ToControl::Done { id, reply }, payload);
            locked(&calls).remove(&id);
        });
        running.insert(id, Running { task: task.abort_handle(), parts: comes.then_some(send) });
    }
}

type Answer = (Reply, Vec<u8>);

/// Files block: each such call has a thread, so that a dead disk holds up nobody else.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Error::Internal(format!("a call broke off: {error}")))?
}

async fn file_call<T: Send + 'static>(call: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    in_thread(move || tokio::runtime::Handle::current().block_on(call)).await
}

async fn act(id: u64, call: Call, payload: Vec<u8>, out: &Out) -> Result<Answer> {
    match call {
        Call::Facts(question) => Ok((Reply::Facts, json(&Local.facts(&question).await?)?)),
        Call::Ask(gates) => Ok((Reply::Answers(Local.ask(&gates).await?), Vec::new())),
        Call::Status(question) => Ok((Reply::Status, json(&Local.status(&question).await?)?)),
        Call::Run { command, lines } => run(id, command.stdin(payload), lines, out).await,
        Call::Http(request) => {
            let response = Local.http(&request).await?;
            Ok((Reply::Response { status: response.status }, response.body))
        }
        Call::Fetch(delivery) => {
            let digest = Local.deliver(&delivery, &mut progress(id, out)).await?;
            Ok((Reply::Digest(digest), Vec::new()))
        }
        Call::Unpack { archive, into, wanted } => {
            let unpacked = Local.unpack(&archive, &into, &wanted, &mut progress(id, out)).await?;
            Ok((Reply::Unpacked(unpacked), Vec::new()))
        }
        call => file_call(on_file(call, payload)).await,
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Internal(error.to_string()))
}

fn progress(id: u64, out: &Out) -> impl FnMut(u64, u64) + Send {
    move |bytes, of| out.send(&ToControl::Progress { id, bytes, of }, Vec::new())
}

async fn run(id: u64, command: Command, lines: bool, out: &Out) -> Result<Answer> {
    let mut left_out = 0_u64;
    let mut on_line = |stream: Stream, line: &str| {
        if lines && !out.line(id, stream, line) {
            left_out += 1;
        }
    };
    let output = Local.run_lines(&command, &mut on_line).await?;
    if left_out > 0 {
        let lines = crate::error::count_of(usize::try_from(left_out).unwrap_or(usize::MAX), "line", "lines");
        out.line(id, Stream::Err, &format!("{lines} not shown: the connection is too slow for them"));
    }
    let reply = Reply::Output { status: output.status, code: output.code, stdout: output.stdout.len() };
    let mut payload = output.stdout;
    payload.extend_from_slice(&output.stderr);
    Ok((reply, payload))
}

async fn on_file(call: Call, payload: Vec<u8>) -> Result<Answer> {
    let mut bytes = Vec::new();
    let reply = match call {
        Call::Read { path, limit } => match Local.read(&path, limit).await? {
            Some(contents) => {
                bytes = contents;
                Reply::Bytes
            }
            None => Reply::Absent,
        },
        Call::ReadFrom { path, offset, limit } => match Local.read_from(&path, offset, limit).await? {
            Some(chunk) => {
                bytes = chunk.bytes;
                Reply::Chunk { size: chunk.size, identity: chunk.identity }
            }
            None => Reply::Absent,
        },
        Call::Write { path, mode } => done(Local.write(&path, &payload, mode).await?),
        Call::Append { path } => done(Local.append(&path, &payload).await?),
        Call::MakeDirectory { path, mode } => done(Local.make_directory(&path, mode).await?),
        Call::RemoveFile { path } => done(Local.remove_file(&path).await?),
        Call::Link { target, link } => done(Local.link(&target, &link).await?),
        Call::Resolve { path } => Local.resolve(&path).await?.map_or(Reply::Absent, Reply::Path),
        Call::Digest { path } => Local.digest(&path).await?.map_or(Reply::Absent, Reply::Digest),
        other => return Err(Error::Internal(format!("{other:?} does not go to a file"))),
    };
    Ok((reply, bytes))
}

fn done((): ()) -> Reply {
    Reply::Done
}

/// A file of the control machine that comes over the connection.
struct Arriving {
    id: u64,
    size: u64,
    parts: mpsc::Receiver<Part>,
    out: Out,
}

impl Arriving {
    fn want(&self, from: u64, digest: Option<String>) {
        self.out.send(&ToControl::Wanted { id: self.id, from, digest }, Vec::new());
    }

    /// Takes all chunks from byte `from` on and opens the window as they are dealt with.
    fn chunks(&mut self, from: u64, path: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut bytes, mut told) = (from, from);
        while bytes < self.size {
            let Some(Part::Chunk(chunk)) = self.parts.blocking_recv() else {
                return Err(self.broke_off(path));
            };
            bytes += chunk.len() as u64;
            take(&chunk)?;
            if bytes - told >= REPORT || bytes >= self.size {
                told = bytes;
                self.out.send(&ToControl::Progress { id: self.id, bytes, of: self.size }, Vec::new());
            }
        }
        Ok(())
    }

    fn broke_off(&self, path: &Path) -> Error {
        let error = io::Error::other("the connection ended before the whole file had come");
        file_error("cannot take in", path)(error)
    }
}

/// Takes an executable in, unless it is there already.
fn install(path: &Path, digest: &str, mut file: Arriving) -> Result<Answer> {
    if digest_of(path)?.as_deref() == Some(digest) {
        return Ok((Reply::Done, Vec::new()));
    }
    let mut incoming = Incoming::begin(Own, path)?;
    file.want(0, None);
    file.chunks(0, path, |chunk| incoming.add(chunk))?;
    incoming.finish(digest)?;
    Ok((Reply::Done, Vec::new()))
}

/// Takes a large file in, from where it broke off. Whatever ends this, what came is noted.
fn receive(delivery: &Delivery, anew: bool, mut file: Arriving) -> Result<Answer> {
    let path = &delivery.path;
    if anew {
        partial::remove(path)?;
    }
    let identity = Identity { size: file.size, source: None, sha256: delivery.sha256.clone() };
    let mut partial = Partial::open(path, identity, delivery.copies)?;
    let from = partial.arrived();
    file.want(from, Some(partial.digest()));
    file.chunks(from, path, |chunk| partial.add(chunk))?;
    let Some(Part::End(digest)) = file.parts.blocking_recv() else { return Err(file.broke_off(path)) };
    let digest = partial.finish(digest.as_deref())?;
    Ok((Reply::Digest(digest), Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn end_of(said: &[u8]) -> (io::Result<()>, Vec<u8>) {
        let mut told = Vec::new();
        let ended = serve(said, &mut told).await;
        (ended, told)
    }

    async fn bytes_of(message: &ToHost) -> Vec<u8> {
        let mut bytes = Vec::new();
        let frame = Frame::new(message, Vec::new()).expect("fits");
        frame.write(&mut bytes).await.expect("a vector takes everything");
        bytes
    }

    #[tokio::test]
    async fn whoever_does_not_greet_in_our_protocol_gets_nothing_done() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("made");
        let call = Call::MakeDirectory { path: path.clone(), mode: 0o755 };
        let make = bytes_of(&ToHost::Call { id: 0, call }).await;
        let other = ToHost::Hello(Hello { protocol: PROTOCOL + 1, build: "9".to_string() });
        let greeting = bytes_of(&ToHost::Hello(Hello::own())).await;
        for said in [
            [bytes_of(&other).await, make.clone()].concat(),
            make.clone(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            [greeting.clone(), greeting.clone(), make.clone()].concat(),
            [greeting.clone(), b"\0\0\0\x02\xff\xff\xff\xff{}".to_vec()].concat(),
        ] {
            let (ended, told) = end_of(&said).await;
            ended.expect_err("not the protocol");
            // It greets all the same: the other side sees what is wrong.
            let (hello, _) = wire::read(&mut &told[..]).await.expect("a frame").expect("there");
            assert!(matches!(hello, ToControl::Hello(hello) if hello == Hello::own()));
            assert!(!path.exists());
        }
        end_of(&greeting).await.0.expect("a clean end");
    }
}
