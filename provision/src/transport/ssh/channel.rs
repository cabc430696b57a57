//! One pair of byte streams to a host's `provision remote`, shared by any number of calls at a time.

use crate::error::{Error, Result};
use crate::transport::Stream;
use crate::transport::wire::{self, Call, Failure, Frame, Hello, PING, PROTOCOL, Reply, ToControl, ToHost};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A host that says nothing for so long, pings notwithstanding, counts as lost.
const SILENCE: Duration = Duration::from_secs(20);
/// Chunks of files that wait to be sent.
const BULK_MAX: usize = 4;
/// Most that is kept of what the other end says on standard error, in bytes.
const WORDS_MAX: usize = 8 << 10;

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Event {
    /// A line of its command.
    Line(Stream, String),
    /// The host wants the file from this byte on; the SHA-256 of what it has.
    Wanted(u64, Option<String>),
    /// So many bytes are dealt with, of so many.
    Progress(u64, u64),
    /// It ended.
    Done(std::result::Result<Reply, Failure>, Vec<u8>),
}

/// What the tasks and the calls share.
#[derive(Default)]
struct Shared {
    /// Where the events of each call go. Unbounded: whoever waits takes them at once, and the host bounds lines.
    calls: Mutex<HashMap<u64, mpsc::UnboundedSender<Event>>>,
    /// Why the connection ended, once it has.
    lost: Mutex<Option<String>>,
    /// The other end's last words on standard error.
    words: Arc<Mutex<Vec<u8>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection to a host's `provision remote`.
pub(super) struct Channel {
    host: String,
    next: AtomicU64,
    /// Calls and their ends, never behind a file.
    urgent: mpsc::UnboundedSender<Frame>,
    /// Chunks of files.
    bulk: mpsc::Sender<Frame>,
    shared: Arc<Shared>,
    work: JoinHandle<()>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// Why a connection did not come about.
#[derive(Debug)]
pub(super) enum NoGreeting {
    /// The other end is of another version.
    Version(Hello),
    /// It said something else, or nothing.
    Silent {
        /// Why it ended.
        why: String,
        /// What it said on standard error.
        words: String,
    },
}

impl Channel {
    /// Exchanges greetings. `words` is the other end's standard error.
    pub(super) async fn open(
        host: &str,
        mut reader: BufReader<impl AsyncRead + Send + Unpin + 'static>,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        words: Words,
    ) -> std::result::Result<Self, NoGreeting> {
        let mut writer = BufWriter::new(writer);
        let greet = async {
            Frame::new(&ToHost::Hello(Hello::own()), Vec::new())?.write(&mut writer).await?;
            writer.flush().await?;
            wire::read::<ToControl>(&mut reader).await
        };
        let why = match tokio::time::timeout(SILENCE, greet).await {
            Ok(Ok(Some((ToControl::Hello(hello), _)))) if hello.protocol == PROTOCOL => None,
            Ok(Ok(Some((ToControl::Hello(hello), _)))) => return Err(NoGreeting::Version(hello)),
            Ok(Ok(Some(_))) => Some("it does not greet".to_string()),
            Ok(Ok(None)) => Some("it ended".to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it was silent for {} s", SILENCE.as_secs())),
        };
        if let Some(why) = why {
            return Err(NoGreeting::Silent { why, words: words.until_end().await });
        }
        let shared = Arc::new(Shared { words: Arc::clone(&words.text), ..Shared::default() });
        let (urgent, urgent_queue) = mpsc::unbounded_channel();
        let (bulk, bulk_queue) = mpsc::channel(BULK_MAX);
        let receiver = Arc::clone(&shared);
        let work = tokio::spawn(async move {
            let why = tokio::select! {
                why = receive(&receiver, reader) => why,
                sent = send(urgent_queue, bulk_queue, writer) => match sent {
                    Ok(()) => "closed".to_string(),
                    Err(error) => ended(&error),
                },
            };
            // The end of standard error comes apart from that of standard output.
            let _ = tokio::time::timeout(Duration::from_millis(500), words.end).await;
            receiver.lose(why);
        });
        Ok(Self { host: host.to_string(), next: AtomicU64::new(0), urgent, bulk, shared, work })
    }

    /// Begins a call. When what is returned is dropped before the call ended, it ends on the host, too.
    pub(super) fn call(&self, call: Call, payload: Vec<u8>) -> Result<Pending<'_>> {
        let id = self.next.fetch_add(1, Relaxed);
        let frame = Frame::new(&ToHost::Call { id, call }, payload).map_err(|error| Error::Connection {
            host: self.host.clone(),
            message: format!("this cannot be sent: {error}"),
            hint: "what goes to a host in one piece has at most 16 MiB".to_string(),
        })?;
        let (send, events) = mpsc::unbounded_channel();
        locked(&self.shared.calls).insert(id, send);
        let pending = Pending { id, events, channel: self, ended: false };
        // Looked at after the call was entered: either it is seen as lost here, or `lose` ends it.
        if locked(&self.shared.lost).is_some() {
            return Err(self.lost());
        }
        let _ = self.urgent.send(frame);
        Ok(pending)
    }

    /// What keeps a lock: its call's number and the way to give it up.
    pub(super) fn holder(&self, id: u64) -> Holder {
        Holder { id, urgent: self.urgent.clone() }
    }

    fn lost(&self) -> Error {
        let why = locked(&self.shared.lost).clone().unwrap_or_else(|| "closed".to_string());
        Error::Connection {
            host: self.host.clone(),
            message: format!("the connection was lost: {why}"),
            hint:
                "what was done stays; see whether the host and the network are up, then apply again to go on"
                    .to_string(),
        }
    }
}

impl Shared {
    /// Fails every call at once.
    fn lose(&self, mut why: String) {
        let words = last_words(&locked(&self.words));
        if !words.is_empty() {
            why = format!("{why}; it said: {words}");
        }
        *locked(&self.lost) = Some(why);
        locked(&self.calls).clear();
    }
}

const CLOSED: &str = "the other end closed it";

/// Which side of the connection tells of its end first is chance.
fn ended(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => CLOSED.to_string(),
        _ => error.to_string(),
    }
}

async fn receive(shared: &Shared, mut reader: impl AsyncRead + Unpin) -> String {
    loop {
        let (message, payload) = match tokio::time::timeout(SILENCE, wire::read(&mut reader)).await {
            Err(_) => return format!("silent for {} s", SILENCE.as_secs()),
            Ok(Err(error)) => return ended(&error),
            Ok(Ok(None)) => return CLOSED.to_string(),
            Ok(Ok(Some(read))) => read,
        };
        let (id, event) = match message {
            ToControl::Line { id, stream } => {
                (id, Event::Line(stream, String::from_utf8_lossy(&payload).into_owned()))
            }
            ToControl::Wanted { id, from, digest } => (id, Event::Wanted(from, digest)),
            ToControl::Progress { id, bytes, of } => (id, Event::Progress(bytes, of)),
            ToControl::Done { id, reply } => (id, Event::Done(reply, payload)),
            ToControl::Ping => continue,
            ToControl::Hello(_) => return "it greeted twice".to_string(),
        };
        let mut calls = locked(&shared.calls);
        let done = matches!(event, Event::Done(..));
        // A call that nobody waits for any more has no entry.
        if let Some(call) = calls.get(&id) {
            let _ = call.send(event);
        }
        if done {
            calls.remove(&id);
        }
    }
}

async fn send(
    mut urgent: mpsc::UnboundedReceiver<Frame>,
    mut bulk: mpsc::Receiver<Frame>,
    mut writer: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let frame = tokio::select! {
            biased;
            frame = urgent.recv() => match frame {
                Some(frame) => frame,
                None => return Ok(()),
            },
            Some(frame) = bulk.recv() => frame,
            _ = ping.tick() => Frame::new(&ToHost::Ping, Vec::new())?,
        };
        frame.write(&mut writer).await?;
        if urgent.is_empty() && bulk.is_empty() {
            writer.flush().await?;
        }
    }
}

/// A call that has begun.
pub(super) struct Pending<'a> {
    pub(super) id: u64,
    events: mpsc::UnboundedReceiver<Event>,
    channel: &'a Channel,
    ended: bool,
}

impl Pending<'_> {
    /// What becomes of it next.
    pub(super) async fn next(&mut self) -> Result<Event> {
        let Some(event) = self.events.recv().await else { return Err(self.channel.lost()) };
        self.ended = matches!(event, Event::Done(..));
        Ok(event)
    }

    /// Sends part of the file that the host wants.
    pub(super) async fn chunk(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.bulk(&ToHost::Chunk { id: self.id }, bytes).await
    }

    /// Says that the file was sent whole.
    pub(super) async fn end(&mut self, digest: Option<String>) -> Result<()> {
        self.bulk(&ToHost::End { id: self.id, digest }, Vec::new()).await
    }

    async fn bulk(&mut self, message: &ToHost, bytes: Vec<u8>) -> Result<()> {
        let frame = Frame::new(message, bytes);
        let frame = frame.map_err(|error| Error::Internal(error.to_string()))?;
        if self.channel.bulk.send(frame).await.is_err() {
            // The connection is ending; why is known a moment later.
            while self.events.recv().await.is_some() {}
            return Err(self.channel.lost());
        }
        Ok(())
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.ended {
            locked(&self.channel.shared.calls).remove(&self.id);
            drop(self.channel.holder(self.id));
        }
    }
}

/// Keeps what a call took; tells the host when it goes.
pub(super) struct Holder {
    id: u64,
    urgent: mpsc::UnboundedSender<Frame>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Ok(frame) = Frame::new(&ToHost::Drop { id: self.id }, Vec::new()) {
            let _ = self.urgent.send(frame);
        }
    }
}

/// What the other end says on standard error, kept as it comes.
pub(super) struct Words {
    text: Arc<Mutex<Vec<u8>>>,
    /// Ends when there is no more.
    end: JoinHandle<()>,
}

impl Words {
    pub(super) fn of(mut stderr: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let kept = Arc::clone(&text);
        let end = tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
                let mut kept = locked(&kept);
                kept.extend_from_slice(&buffer[..read]);
                let surplus = kept.len().saturating_sub(WORDS_MAX);
                kept.drain(..surplus);
            }
        });
        Self { text, end }
    }

    /// What it said until its end, which is waited for a moment.
    pub(super) async fn until_end(self) -> String {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.end).await;
        last_words(&locked(&self.text))
    }
}

/// The last three lines.
pub(super) fn last_words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}
