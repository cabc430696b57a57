//! What the control machine and a host say to each other over a pair of byte streams.
//!
//! ```text
//! frame = length of the header (u32, big-endian, at most 1 MiB)
//!         length of the payload (u32, big-endian, at most 16 MiB)
//!         header (JSON), payload (bytes: contents of files, input and output of commands)
//! ```
//! The first frame in each direction is a [`Hello`]. Calls carry numbers and are answered in any order.

use super::http::Request;
use super::{Command, Stream};
use crate::derive::Gate;
use crate::error::Error;
use crate::facts::Question;
use crate::gates::Answer;
use crate::status;
use crate::transfer::Delivery;
use crate::unpack::Unpacked;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of all of this; raised with every change, since both ends are the same executable as a rule.
pub(super) const PROTOCOL: u32 = 4;
/// Longest header, in bytes.
pub(super) const HEADER_MAX: usize = 1 << 20;
/// Longest payload, in bytes.
pub(super) const PAYLOAD_MAX: usize = 16 << 20;
/// Payload of a [`ToHost::Chunk`], in bytes; only the last one of a file has fewer.
pub(super) const CHUNK: usize = 256 << 10;
/// Chunks of a file that may be on their way: sent, and not told of in a [`ToControl::Progress`]. 16 MiB keep a line of
/// 1 Gbit/s busy over 130 ms.
pub(super) const WINDOW: usize = 64;
/// How often the control machine says something, and the host answers.
pub(super) const PING: std::time::Duration = std::time::Duration::from_secs(5);

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`PROTOCOL`].
    pub(super) protocol: u32,
    /// Version of `provision`, for messages.
    pub(super) build: String,
}

impl Hello {
    /// This executable's.
    pub(super) fn own() -> Self {
        Self { protocol: PROTOCOL, build: env!("CARGO_PKG_VERSION").to_string() }
    }
}

/// From the control machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToHost {
    /// First of all.
    Hello(Hello),
    /// Do something.
    Call { id: u64, call: Call },
    /// Part of a file that was [`ToControl::Wanted`] (payload), never more than the window lets through.
    Chunk { id: u64 },
    /// The whole file was sent; its SHA-256 in hex, where the sender knows it.
    End { id: u64, digest: Option<String> },
    /// Nobody waits for this call any more, or needs the lock that it took.
    Drop { id: u64 },
    /// Nothing; is answered with the same.
    Ping,
}

/// From the host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToControl {
    /// First of all.
    Hello(Hello),
    /// A line of a running command (payload).
    Line { id: u64, stream: Stream },
    /// The host has not got this file: its bytes are to follow, from this one on; `digest` is the SHA-256 in hex of those
    /// that are there.
    Wanted { id: u64, from: u64, digest: Option<String> },
    /// So many bytes have been dealt with, of so many.
    Progress { id: u64, bytes: u64, of: u64 },
    /// A call ended.
    Done { id: u64, reply: Result<Reply, Failure> },
    /// Nothing; answers a ping.
    Ping,
}

/// A method of [`super::Transport`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Call {
    Facts(Question),
    Enter {
        question: Question,
        holder: String,
    },
    Ask(Vec<Gate>),
    Status(status::Question),
    /// Payload: what the command reads. With `lines` its lines are told as they come.
    Run {
        command: Command,
        lines: bool,
    },
    Http(Request),
    Read {
        path: PathBuf,
        limit: u64,
    },
    ReadFrom {
        path: PathBuf,
        offset: u64,
        limit: u64,
    },
    /// Payload: the contents.
    Write {
        path: PathBuf,
        mode: u32,
    },
    /// Payload: what is appended.
    Append {
        path: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
        mode: u32,
    },
    RemoveFile {
        path: PathBuf,
    },
    Resolve {
        path: PathBuf,
    },
    Link {
        target: PathBuf,
        link: PathBuf,
    },
    Install {
        path: PathBuf,
        digest: String,
        size: u64,
    },
    Digest {
        path: PathBuf,
    },
    /// A file of the control machine, of this size. With `anew` what is there of it is not gone on with.
    Receive {
        delivery: Delivery,
        size: u64,
        anew: bool,
    },
    /// A file that the host gets by itself.
    Fetch(Delivery),
    Unpack {
        archive: PathBuf,
        into: PathBuf,
        wanted: Vec<String>,
    },
    Lock {
        path: PathBuf,
        holder: String,
    },
}

/// What a call came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Done,
    /// There is no such file.
    Absent,
    /// Payload: [`crate::facts::HostFacts`] as JSON.
    Facts,
    /// Payload: as of `Facts`; and whether the lock was taken.
    Entered {
        locked: bool,
    },
    Answers(Vec<Answer>),
    /// Payload: [`crate::status::HostStatus`] as JSON.
    Status,
    /// Payload: `stdout` bytes of standard output, then standard error.
    Output {
        status: String,
        code: Option<i32>,
        stdout: usize,
    },
    /// Payload: the body.
    Response {
        status: u16,
    },
    /// Payload: the contents of a file.
    Bytes,
    /// Payload: part of a file.
    Chunk {
        size: u64,
        identity: u64,
    },
    Path(PathBuf),
    Digest(String),
    Unpacked(Unpacked),
}

/// An [`Error`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    /// `os` is the system's number of the error, where it has one: what to do is told by it.
    File {
        action: String,
        path: PathBuf,
        os: Option<i32>,
        message: String,
    },
    Command {
        program: String,
        message: String,
    },
    Http {
        endpoint: String,
        message: String,
    },
    Facts {
        host: String,
        message: String,
    },
    Locked {
        path: PathBuf,
        holder: String,
    },
    NoRoom {
        path: PathBuf,
        what: String,
        needed: u64,
        free: u64,
    },
    Artifact {
        what: String,
        message: String,
        hint: String,
    },
    Other {
        message: String,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::File { action, path, source } => {
                Self::File { action, path, os: source.raw_os_error(), message: source.to_string() }
            }
            Error::Command { program, message } => Self::Command { program, message },
            Error::Http { endpoint, message } => Self::Http { endpoint, message },
            Error::Facts { host, message } => Self::Facts { host, message },
            Error::Locked { path, holder } => Self::Locked { path, holder },
            Error::NoRoom { path, what, needed, free } => Self::NoRoom { path, what, needed, free },
            Error::Artifact { what, message, hint } => Self::Artifact { what, message, hint },
            other => Self::Other { message: other.to_string() },
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::File { action, path, os, message } => {
                let source = os.map_or_else(|| io::Error::other(message), io::Error::from_raw_os_error);
                Self::File { action, path, source }
            }
            Failure::Command { program, message } => Self::Command { program, message },
            Failure::Http { endpoint, message } => Self::Http { endpoint, message },
            Failure::Facts { host, message } => Self::Facts { host, message },
            Failure::Locked { path, holder } => Self::Locked { path, holder },
            Failure::NoRoom { path, what, needed, free } => Self::NoRoom { path, what, needed, free },
            Failure::Artifact { what, message, hint } => Self::Artifact { what, message, hint },
            Failure::Other { message } => Self::Internal(message),
        }
    }
}

/// A frame that is ready to be written.
#[derive(Debug)]
pub(super) struct Frame {
    /// Lengths and header.
    head: Vec<u8>,
    payload: Vec<u8>,
}

impl Frame {
    /// # Errors
    /// Header or payload is too long, or a path is not UTF-8.
    pub(super) fn new(header: &impl Serialize, payload: Vec<u8>) -> io::Result<Self> {
        let mut head = vec![0; 8];
        serde_json::to_writer(&mut head, header)?;
        check_lengths(head.len() - 8, payload.len())?;
        for (place, length) in [(0..4, head.len() - 8), (4..8, payload.len())] {
            head[place].copy_from_slice(&u32::try_from(length).expect("checked").to_be_bytes());
        }
        Ok(Self { head, payload })
    }

    /// Bytes of the payload.
    pub(super) fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// Writes it; the caller flushes.
    pub(super) async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        writer.write_all(&self.head).await?;
        writer.write_all(&self.payload).await
    }
}

/// Reads a frame; none when the stream ends before one begins.
///
/// # Errors
/// The stream fails or ends within a frame, or what comes is no frame.
pub(super) async fn read<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0; 8];
    // The first byte apart: only before it may the stream end.
    if reader.read(&mut lengths[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut lengths[1..]).await?;
    let (header_len, payload_len) = parse_lengths(lengths)?;
    let mut header = vec![0; header_len];
    reader.read_exact(&mut header).await?;
    let header = serde_json::from_slice(&header).map_err(no_frame)?;
    let mut payload = vec![0; payload_len];
    reader.read_exact(&mut payload).await?;
    Ok(Some((header, payload)))
}

fn no_frame(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not a frame of provision: {error}"))
}

fn parse_lengths(lengths: [u8; 8]) -> io::Result<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = lengths;
    let (header, payload) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let (header, payload) = (header as usize, payload as usize);
    check_lengths(header, payload)?;
    Ok((header, payload))
}

fn check_lengths(header: usize, payload: usize) -> io::Result<()> {
    for (what, length, max) in [("header", header, HEADER_MAX), ("payload", payload, PAYLOAD_MAX)] {
        if length > max {
            return Err(no_frame(format!("a {what} of {length} bytes, at most {max} are allowed")));
        }
    }
    Ok(())
}

/// How many frames, from either side, `bytes` begin with: for the fuzz targets alone.
#[doc(hidden)]
pub fn frames_in(mut bytes: &[u8]) -> usize {
    let mut frames = 0;
    while let Some((lengths, rest)) = bytes.split_first_chunk() {
        let Ok((header, payload)) = parse_lengths(*lengths) else { break };
        let Some((header, rest)) = rest.split_at_checked(header) else { break };
        let known = serde_json::from_slice::<ToHost>(header).is_ok()
            || serde_json::from_slice::<ToControl>(header).is_ok();
        let (true, Some((_, rest))) = (known, rest.split_at_checked(payload)) else { break };
        bytes = rest;
        frames += 1;
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bytes_of(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes).await.expect("a vector takes everything");
        bytes
    }

    fn call() -> ToHost {
        let command =
            Command::new("cat").arg("ä\0\n").env("A", "b").directory("/tmp").stdin("not in the header");
        ToHost::Call { id: 7, call: Call::Run { command, lines: true } }
    }

    #[tokio::test]
    async fn frames_come_back_as_they_were_sent() {
        let mut bytes = bytes_of(&Frame::new(&call(), b"payload".to_vec()).expect("fits")).await;
        bytes.extend(bytes_of(&Frame::new(&ToHost::Ping, Vec::new()).expect("fits")).await);
        assert_eq!(frames_in(&bytes), 2);
        let mut reader = &bytes[..];
        let (first, payload) = read::<ToHost>(&mut reader).await.expect("whole").expect("there");
        let ToHost::Call { id: 7, call: Call::Run { command, lines: true } } = first else {
            panic!("another message: {first:?}")
        };
        assert_eq!((command.name().as_str(), command.arguments[0].to_str()), ("cat", Some("ä\0\n")));
        assert_eq!((payload.as_slice(), command.stdin.len()), (&b"payload"[..], 0));
        assert!(matches!(read(&mut reader).await, Ok(Some((ToHost::Ping, _)))));
        assert!(read::<ToHost>(&mut reader).await.expect("a clean end").is_none());
    }

    #[tokio::test]
    async fn lengths_are_refused_before_anything_is_allocated() {
        assert!(Frame::new(&ToHost::Ping, vec![0; PAYLOAD_MAX]).is_ok());
        assert!(Frame::new(&ToHost::Ping, vec![0; PAYLOAD_MAX + 1]).is_err());
        assert!(Frame::new(&"x".repeat(HEADER_MAX), Vec::new()).is_err());
        for (header, payload) in
            [(HEADER_MAX + 1, 0), (0, PAYLOAD_MAX + 1), (u32::MAX as usize, 0), (2, u32::MAX as usize)]
        {
            let lengths = [header, payload].map(|length| u32::try_from(length).expect("small").to_be_bytes());
            let bytes = [lengths.as_flattened(), b"{}"].concat();
            let error = read::<ToHost>(&mut &bytes[..]).await.expect_err("too long");
            assert!(error.to_string().contains("at most"), "{error}");
            assert_eq!(frames_in(&bytes), 0);
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_cut_anywhere_is_an_error() {
        let bytes = bytes_of(&Frame::new(&call(), b"payload".to_vec()).expect("fits")).await;
        for end in 1..bytes.len() {
            let error = read::<ToHost>(&mut &bytes[..end]).await.expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "cut at {end}");
        }
    }

    /// A linear congruential generator: the same bytes on every run.
    #[tokio::test]
    async fn garbage_and_damaged_frames_never_do_more_than_fail() {
        let whole = bytes_of(&Frame::new(&call(), b"payload".to_vec()).expect("fits")).await;
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        for _ in 0..2_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 4 {
                let place = random() % bytes.len();
                bytes[place] = random() as u8;
            }
            let _ = read::<ToHost>(&mut &bytes[..]).await;
            let _ = frames_in(&bytes);
            let noise: Vec<u8> = (0..random() % 64).map(|_| random() as u8).collect();
            let _ = read::<ToControl>(&mut &noise[..]).await;
        }
    }

    #[test]
    fn errors_arrive_with_their_advice() {
        let full = Error::File {
            action: "cannot write".to_string(),
            path: "/x".into(),
            source: io::Error::from_raw_os_error(28),
        };
        let (text, hint, code) = (full.to_string(), full.hint(), full.exit_code());
        let arrived = Error::from(Failure::from(full));
        assert_eq!((arrived.to_string(), arrived.hint(), arrived.exit_code()), (text, hint, code));
        assert!(arrived.hint().expect("known").contains("the disk is full"));
        let (what, hint) = ("node-db.tar".to_string(), "do".to_string());
        for error in [
            Error::Locked { path: "/p".into(), holder: "process 7".to_string() },
            Error::NoRoom { path: "/p".into(), what: what.clone(), needed: 5, free: 3 },
            Error::Artifact { what, message: "damaged".to_string(), hint },
        ] {
            let (text, hint, code) = (error.to_string(), error.hint(), error.exit_code());
            let arrived = Error::from(Failure::from(error));
            assert_eq!((arrived.to_string(), arrived.hint(), arrived.exit_code()), (text, hint, code));
        }
    }
}
