//! A file of the control machine as it goes over a channel: read and hashed in a thread, sent as the host opens its window.

use super::channel::{Event, Pending};
use crate::error::{Error, Result};
use crate::transfer::{Checksum, OnProgress, Pace};
use crate::transport::file_error;
use crate::transport::wire::{CHUNK, Failure, Reply, WINDOW};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Chunks that were read and wait to be sent.
const READ_MAX: usize = 8;

/// What is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Sending<'a> {
    pub(super) source: &'a Path,
    /// Bytes of all of it.
    pub(super) size: u64,
    /// The first byte that the host wants.
    pub(super) from: u64,
    /// SHA-256 of what the host has, where that is to be compared.
    pub(super) there: Option<String>,
    /// Bytes a second at most.
    pub(super) rate: Option<u64>,
    /// Whether the host waits to hear that it was all.
    pub(super) ends: bool,
}

/// What became of it.
pub(super) enum Sent {
    /// The host's answer.
    Done(std::result::Result<Reply, Failure>),
    /// The host has the beginning of another file.
    Differs,
    /// Neither, for so long.
    Stuck,
}

enum Part {
    Chunk(Vec<u8>),
    /// All was read; the SHA-256, where all of it was.
    End(Option<String>),
    Differs,
}

/// Sends until the host says what became of it: it may fail in the middle, then the rest is not sent. Every step has a
/// deadline.
pub(super) async fn send(
    sending: &Sending<'_>,
    pending: &mut Pending<'_>,
    deadline: Duration,
    on_progress: OnProgress<'_>,
) -> Result<Sent> {
    let mut parts = read(sending);
    let (mut sent, mut stored, mut read) = (sending.from, sending.from, false);
    let mut pace = Pace::new(sending.rate);
    let mut due = Instant::now();
    on_progress(stored, sending.size);
    loop {
        let open = !read && sent - stored < (WINDOW * CHUNK) as u64;
        let early = due > Instant::now();
        let part = tokio::select! {
            event = pending.next() => match event? {
                Event::Progress(bytes, _) => {
                    stored = bytes.clamp(stored, sent);
                    on_progress(stored, sending.size);
                    continue;
                }
                Event::Done(reply, _) => return Ok(Sent::Done(reply)),
                Event::Line(..) | Event::Wanted(..) => {
                    return Err(Error::Internal("a file is wanted twice".to_string()));
                }
            },
            part = parts.recv(), if open && !early => part,
            () = tokio::time::sleep_until(due), if open && early => continue,
            () = tokio::time::sleep(deadline) => return Ok(Sent::Stuck),
        };
        match part {
            Some(Ok(Part::Chunk(bytes))) => {
                sent += bytes.len() as u64;
                due += pace.after(bytes.len());
                pending.chunk(bytes).await?;
            }
            Some(Ok(Part::End(digest))) => {
                read = true;
                if sending.ends {
                    pending.end(digest).await?;
                }
            }
            Some(Ok(Part::Differs)) => return Ok(Sent::Differs),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::Internal("a file's reader broke off".to_string())),
        }
    }
}

/// Reads in a thread, which ends when nobody listens any more.
fn read(sending: &Sending<'_>) -> mpsc::Receiver<Result<Part>> {
    let (send, parts) = mpsc::channel(READ_MAX);
    let (source, size, from, there) =
        (sending.source.to_path_buf(), sending.size, sending.from, sending.there.clone());
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_all(source, size, from, there.as_deref(), &send) {
            let _ = send.blocking_send(Err(error));
        }
    });
    parts
}

fn read_all(
    source: PathBuf,
    size: u64,
    from: u64,
    there: Option<&str>,
    send: &mpsc::Sender<Result<Part>>,
) -> Result<()> {
    let reading = |error| file_error("cannot read", &source)(error);
    let mut file = File::open(&source).map_err(reading)?;
    let mut checksum = (from == 0 || there.is_some()).then(Checksum::default);
    let mut at = 0;
    match (&mut checksum, there) {
        (Some(checksum), Some(there)) => {
            // Nothing is sent twice, but what is there must be the beginning of this file.
            let mut buffer = vec![0; CHUNK];
            while at < from && !send.is_closed() {
                let part = usize::try_from(from - at).unwrap_or(CHUNK).min(CHUNK);
                file.read_exact(&mut buffer[..part]).map_err(reading)?;
                checksum.add(&buffer[..part]);
                at += part as u64;
            }
            if checksum.hex() != there {
                let _ = send.blocking_send(Ok(Part::Differs));
                return Ok(());
            }
        }
        _ => at = file.seek(SeekFrom::Start(from)).map_err(reading)?,
    }
    while at < size {
        let mut bytes = vec![0; usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK)];
        file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                reading(std::io::Error::other("it changed while it was copied; run the same command again"))
            }
            _ => reading(error),
        })?;
        if let Some(checksum) = &mut checksum {
            checksum.add(&bytes);
        }
        at += bytes.len() as u64;
        if send.blocking_send(Ok(Part::Chunk(bytes))).is_err() {
            return Ok(());
        }
    }
    let _ = send.blocking_send(Ok(Part::End(checksum.map(|checksum| checksum.hex()))));
    Ok(())
}
