//! Large files on their way to a host: what is wanted, how it is checked while it flows, paced, told of and gone on with.
//!
//! A file arrives under its own name with a note beside it, which says how much of it is safely on the disk and what its
//! checksum was until there. Whatever breaks off, the next try asks for the rest alone, and no byte is read twice to be
//! hashed. `partial` is the host's side, `fetch` the one where the host gets the file by itself.

mod checksum;
pub(crate) mod fetch;
pub(crate) mod partial;

use crate::error::{Error, Result};
pub(crate) use checksum::Checksum;
pub(crate) use partial::Partial;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Least time between two reports of how far a transfer is.
const REPORT: Duration = Duration::from_millis(100);

/// Where a file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The control machine has it.
    File(PathBuf),
    /// The host gets it by itself: `https://…`, or `http://…` with a digest.
    Url(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Url(url) => formatter.write_str(url),
        }
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once("://") {
            Some(("http" | "https", rest))
                if rest.split('/').next().is_some_and(|server| server.contains('@')) =>
            {
                Err("a URL with a password in it would stand in journals and logs; use one without"
                    .to_string())
            }
            Some(("http" | "https", rest)) if !rest.is_empty() => Ok(Self::Url(text.to_string())),
            Some((scheme, _)) => {
                Err(format!("{scheme}:// is not spoken; give a path, https://… or http://…"))
            }
            None if text.is_empty() => Err("give a path or a URL".to_string()),
            None => Ok(Self::File(text.into())),
        }
    }
}

/// A file that is to be on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Where it comes from.
    pub origin: Origin,
    /// Where it goes on the host.
    pub path: PathBuf,
    /// Its SHA-256 in hex, where that is known beforehand.
    pub sha256: Option<String>,
    /// How often its size must fit the disk: 2 for an archive whose contents are to lie beside it.
    pub copies: u64,
    /// Bytes a second at most.
    pub rate: Option<u64>,
}

impl Delivery {
    /// What comes must be told from what somebody on the way made of it.
    ///
    /// # Errors
    /// It comes over HTTP without TLS and nobody says which digest it has.
    pub fn check(&self) -> Result<()> {
        match &self.origin {
            Origin::Url(url) if url.starts_with("http://") && self.sha256.is_none() => Err(Error::Artifact {
                what: url.clone(),
                message: "without TLS nobody can tell whether it is what it should be".to_string(),
                hint: "name its digest with --sha256, or fetch it over https://".to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// Told how many bytes have arrived, and of how many.
pub type OnProgress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// Bytes a second, as people write them: `500K`, `20M`, `1G`, or a plain number.
///
/// # Errors
/// It is none, or zero.
pub fn parse_rate(text: &str) -> std::result::Result<u64, String> {
    let wrong = || "bytes a second, such as 500K, 20M or 1G".to_string();
    let (number, unit) = match text.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&text[..at], unit.to_ascii_uppercase()),
        _ => (text, ' '),
    };
    let unit = match unit {
        ' ' => 1,
        'K' => 1_000,
        'M' => 1_000_000,
        'G' => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|rate| *rate > 0).ok_or_else(wrong)
}

/// A SHA-256 as people give it: 64 hexadecimal digits.
///
/// # Errors
/// It is none.
pub fn parse_sha256(text: &str) -> std::result::Result<String, String> {
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("64 hexadecimal digits, as `sha256sum FILE` prints them".to_string()),
    }
}

/// `512 B`, `4.2 MB`, `52.1 GB`: decimal, as disks and lines are sold.
pub fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        1_000_000_000..1_000_000_000_000 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit)
}

/// Keeps a stream below a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<u64>,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Bytes a second at most.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate, since: Instant::now(), bytes: 0 }
    }

    /// How long to wait after so many more bytes. Time that was lost is not made up for: the limit holds for every second.
    pub(crate) fn after(&mut self, bytes: usize) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        let passed = self.since.elapsed();
        if passed > due + Duration::from_secs(1) {
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        due.saturating_sub(passed)
    }
}

/// Given to work in a thread: it reports here, and hears whether anybody still waits for it.
pub(crate) struct Watch {
    send: watch::Sender<(u64, u64)>,
    last: Option<Instant>,
}

impl Watch {
    /// Fails once nobody waits any more.
    pub(crate) fn alive(&self) -> Result<()> {
        if self.send.is_closed() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Reports; fails once nobody waits any more.
    pub(crate) fn tell(&mut self, bytes: u64, of: u64) -> Result<()> {
        self.alive()?;
        if bytes == of || self.last.is_none_or(|last| last.elapsed() >= REPORT) {
            self.last = Some(Instant::now());
            let _ = self.send.send((bytes, of));
        }
        Ok(())
    }
}

/// Does blocking work in a thread of its own and tells how far it is; work that nobody waits for any more ends itself.
pub(crate) async fn in_thread<T: Send + 'static>(
    work: impl FnOnce(&mut Watch) -> Result<T> + Send + 'static,
    on_progress: OnProgress<'_>,
) -> Result<T> {
    let (send, mut receive) = watch::channel((0, 0));
    let mut working = tokio::task::spawn_blocking(move || work(&mut Watch { send, last: None }));
    loop {
        tokio::select! {
            biased;
            changed = receive.changed() => match changed {
                Ok(()) => {
                    let (bytes, of) = *receive.borrow_and_update();
                    on_progress(bytes, of);
                }
                // It reports no more: only its end is left.
                Err(_) => break,
            },
            ended = &mut working => return joined(ended),
        }
    }
    joined(working.await)
}

fn joined<T>(ended: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    ended.map_err(|error| Error::Internal(format!("a transfer broke off: {error}")))?
}

/// Fails when fewer than `needed` bytes are free where `path` is to lie.
///
/// # Errors
/// [`Error::NoRoom`], or the disk cannot be asked.
pub(crate) fn check_room(path: &Path, what: &str, needed: u64) -> Result<()> {
    let free = free_bytes(path)?;
    if free >= needed {
        return Ok(());
    }
    Err(Error::NoRoom { path: path.to_path_buf(), what: what.to_string(), needed, free })
}

/// Bytes that are free for us on the disk of the nearest directory that is there.
pub(crate) fn free_bytes(path: &Path) -> Result<u64> {
    let there = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    let disk = rustix::fs::statvfs(there)
        .map_err(|error| crate::transport::file_error("cannot ask the disk of", there)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_digests_as_people_write_them() {
        for (text, rate) in [("1", 1), ("500K", 500_000), ("20m", 20_000_000), ("1G", 1_000_000_000)] {
            assert_eq!(parse_rate(text), Ok(rate));
        }
        for text in ["", "0", "M", "-1M", "1.5M", "20MB", "ü", "99999999999999999999G"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        let digest = "AB".repeat(32);
        assert_eq!(parse_sha256(&digest), Ok("ab".repeat(32)));
        assert!(parse_sha256(&digest[1..]).is_err() && parse_sha256(&"xy".repeat(32)).is_err());
    }

    #[test]
    fn origins_are_told_apart() {
        assert_eq!("a/node-db.tar".parse(), Ok(Origin::File("a/node-db.tar".into())));
        let url = "https://example.org/node-db.tar.zst";
        assert_eq!(url.parse(), Ok(Origin::Url(url.to_string())));
        assert!("ftp://x/y".parse::<Origin>().is_err() && "".parse::<Origin>().is_err());
        assert!("http://".parse::<Origin>().is_err());
        let error = "https://me:secret@example.org/x".parse::<Origin>().expect_err("refused");
        assert!(!error.contains("secret"));
    }

    #[test]
    fn without_tls_a_digest_is_asked_for() {
        let mut delivery = Delivery {
            origin: Origin::Url("http://192.168.1.9/node-db.tar".to_string()),
            path: "/x".into(),
            sha256: None,
            copies: 1,
            rate: None,
        };
        assert!(delivery.check().expect_err("refused").hint().expect("one").contains("--sha256"));
        delivery.sha256 = Some("00".repeat(32));
        delivery.check().expect("fine");
    }

    #[test]
    fn the_pace_follows_the_rate() {
        assert_eq!(Pace::new(None).after(usize::MAX), Duration::ZERO);
        let mut pace = Pace::new(Some(1_000));
        let wait = pace.after(60_000);
        assert!(wait > Duration::from_secs(59) && wait <= Duration::from_secs(60), "{wait:?}");
    }

    #[test]
    fn sizes() {
        let shown = [0, 999, 1_500, 4_200_000, 52_100_000_000].map(size);
        assert_eq!(shown, ["0 B", "999 B", "1.5 kB", "4.2 MB", "52.1 GB"]);
    }
}
