//! A file that the host gets by itself over HTTP, range by range.

use super::partial::{Identity, Partial};
use super::{Delivery, Pace, Watch};
use crate::error::{Error, Result};
use std::io::Read;
use std::time::Duration;

/// Bytes asked for at a time. Bounded, so that a deadline holds for each; one that is missed costs nothing that came.
const RANGE: u64 = 1 << 30;
/// What a range may take.
const RANGE_DEADLINE: Duration = Duration::from_secs(20 * 60);
/// What a connection and the beginning of an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// Tries in a row that bring nothing.
const TRIES: u32 = 8;
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Bytes read at a time.
const BUFFER: usize = 256 << 10;

/// Fetches what is not there yet; gives its SHA-256 in hex.
///
/// # Errors
/// The server has no such file, gives no ranges, changes it meanwhile, or is not reached several times in a row; what came
/// until then stays.
pub(crate) fn fetch(delivery: &Delivery, url: &str, watch: &mut Watch) -> Result<String> {
    let mut fetching = Fetching::new(delivery, url);
    let first = fetching.patiently(watch, |fetching, _| fetching.probe())?;
    let source = Some(format!("{url} {}", first.version.as_deref().unwrap_or_default()));
    let identity = Identity { size: first.size, source, sha256: delivery.sha256.clone() };
    let mut partial = Partial::open(&delivery.path, identity, delivery.copies)?;
    while partial.arrived() < first.size {
        fetching.patiently(watch, |fetching, watch| fetching.range(&first, &mut partial, watch))?;
    }
    watch.tell(first.size, first.size)?;
    partial.finish(None)
}

/// What a server says of a file.
struct Version {
    size: u64,
    /// `ETag`, else `Last-Modified`.
    version: Option<String>,
}

/// Whether trying again may help.
enum Failed {
    Passing(String),
    /// Nothing that came is lost, but bytes did come.
    AfterSome(String),
    Final(Error),
}

struct Fetching<'a> {
    agent: ureq::Agent,
    url: &'a str,
    pace: Pace,
    /// Bytes of a range: fewer where the rate lets no more through before the deadline.
    range: u64,
}

impl<'a> Fetching<'a> {
    fn new(delivery: &Delivery, url: &'a str) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .timeout_recv_body(Some(RANGE_DEADLINE))
            .http_status_as_error(false)
            .user_agent(concat!("provision/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let through = delivery.rate.map(|rate| rate.saturating_mul(RANGE_DEADLINE.as_secs() / 2));
        Self { agent, url, pace: Pace::new(delivery.rate), range: RANGE.min(through.unwrap_or(RANGE)).max(1) }
    }

    fn failed(&self, message: String, hint: &str) -> Error {
        Error::Artifact { what: self.url.to_string(), message, hint: hint.to_string() }
    }

    /// Tries until it works, a few times in a row without any success at most.
    fn patiently<T>(
        &mut self,
        watch: &mut Watch,
        mut work: impl FnMut(&mut Self, &mut Watch) -> std::result::Result<T, Failed>,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            let why = match work(self, watch) {
                Ok(value) => return Ok(value),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::AfterSome(why)) => {
                    tries = 0;
                    why
                }
                Err(Failed::Passing(why)) => why,
            };
            tries += 1;
            if tries == TRIES {
                let hint =
                    "what came stays; see whether the host reaches the server, then try again to go on";
                return Err(self.failed(format!("{TRIES} tries in a row failed, the last one: {why}"), hint));
            }
            let pause = Duration::from_secs(1 << tries.min(5)).min(PAUSE_MAX);
            let end = std::time::Instant::now() + pause;
            while std::time::Instant::now() < end {
                // Only to hear whether anybody still waits.
                watch.alive()?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    fn ask(
        &self,
        from: u64,
        to: u64,
        version: Option<&str>,
    ) -> std::result::Result<ureq::http::Response<ureq::Body>, Failed> {
        let mut request = self.agent.get(self.url).header("Range", format!("bytes={from}-{to}"));
        // A weak ETag is no condition for a range; the size is compared all the same.
        if let Some(version) = version.filter(|version| !version.starts_with("W/")) {
            request = request.header("If-Range", version);
        }
        let response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failed::Final(self.failed(error.to_string(), "look at the URL"))
            }
            error => Failed::Passing(error.to_string()),
        })?;
        match response.status().as_u16() {
            206 => Ok(response),
            200 if version.is_some() => Err(Failed::Final(self.failed(
                "it changed on the server while it was fetched".to_string(),
                "run the same command again: it begins anew",
            ))),
            200 | 416 => Err(Failed::Final(self.failed(
                "the server gives no ranges, so that a transfer that breaks off could not be gone on with; or the file is \
                 empty"
                    .to_string(),
                "download the file and name its path, or put it on a server that gives ranges",
            ))),
            status @ (408 | 429 | 500..=599) => Err(Failed::Passing(format!("HTTP status {status}"))),
            status => Err(Failed::Final(self.failed(format!("HTTP status {status}"), "look at the URL"))),
        }
    }

    /// Asks for the first byte, and so for the size.
    fn probe(&mut self) -> std::result::Result<Version, Failed> {
        let response = self.ask(0, 0, None)?;
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_string());
        let range = header("content-range").unwrap_or_default();
        let size = content_range(&range).filter(|(from, _)| *from == 0).map(|(_, size)| size);
        let version = header("etag").or_else(|| header("last-modified"));
        match size {
            Some(size) => Ok(Version { size, version }),
            None => {
                let hint = "download the file and name its path";
                Err(Failed::Final(self.failed(format!("the server does not say its size: {range:?}"), hint)))
            }
        }
    }

    /// Fetches the next range.
    fn range(
        &mut self,
        of: &Version,
        partial: &mut Partial,
        watch: &mut Watch,
    ) -> std::result::Result<(), Failed> {
        let from = partial.arrived();
        let end = from.saturating_add(self.range).min(of.size);
        let response = self.ask(from, end - 1, Some(of.version.as_deref().unwrap_or("W/")))?;
        let said =
            response.headers().get("content-range").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_range(said) != Some((from, of.size)) {
            let message = format!("the server was asked for byte {from} of {} and gives {said:?}", of.size);
            return Err(Failed::Final(
                self.failed(message, "run the same command again: it begins anew if it changed"),
            ));
        }
        let mut body = response.into_body().into_reader().take(end - from);
        let mut buffer = vec![0; BUFFER];
        while partial.arrived() < end {
            let read = match body.read(&mut buffer) {
                Ok(read @ 1..) => read,
                ended => {
                    let why =
                        ended.map_or_else(|error| error.to_string(), |_| "the connection ended".to_string());
                    return Err(match partial.arrived() > from {
                        true => Failed::AfterSome(why),
                        false => Failed::Passing(why),
                    });
                }
            };
            partial.add(&buffer[..read]).map_err(Failed::Final)?;
            watch.tell(partial.arrived(), of.size).map_err(Failed::Final)?;
            std::thread::sleep(self.pace.after(read));
        }
        Ok(())
    }
}

/// `bytes FROM-TO/SIZE`: where it begins, and the size of the whole.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to, size): (u64, u64, u64) = (from.parse().ok()?, to.parse().ok()?, size.parse().ok()?);
    (from <= to && to < size).then_some((from, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{Origin, in_thread};
    use sha2::{Digest, Sha256};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// Serves ranges of `bytes`; each connection ends after `most` bytes of a body. Tells what was asked for.
    fn serve(bytes: Vec<u8>, most: usize, ranges: bool) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/file", listener.local_addr().expect("bound"));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines().map_while(std::result::Result::ok);
                let head: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                let range = head
                    .iter()
                    .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_string));
                let range = range.unwrap_or_default();
                log.lock().expect("whole").push(range.clone());
                let mut out = &stream;
                let (Some((from, to)), true) = (range.split_once('-'), ranges) else {
                    let _ = write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
                    continue;
                };
                let (from, to): (usize, usize) = (from.parse().expect("number"), to.parse().expect("number"));
                let _ = write!(
                    out,
                    "HTTP/1.1 206 x\r\nETag: \"v1\"\r\nContent-Range: bytes {from}-{to}/{}\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n",
                    bytes.len(),
                    to - from + 1
                );
                let _ = out.write_all(&bytes[from..=to][..most.min(to - from + 1)]);
            }
        });
        (url, asked)
    }

    async fn fetched(url: &str, path: &std::path::Path, sha256: Option<String>) -> Result<String> {
        let origin = Origin::Url(url.to_string());
        let delivery = Delivery { origin, path: path.to_path_buf(), sha256, copies: 1, rate: None };
        let url = url.to_string();
        in_thread(move |watch| fetch(&delivery, &url, watch), &mut |_, _| {}).await
    }

    #[tokio::test]
    async fn a_file_comes_whole_however_often_the_connection_ends() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
        let digest = hex::encode(Sha256::digest(&bytes));
        let (url, asked) = serve(bytes.clone(), 120_000, true);
        assert_eq!(fetched(&url, &path, Some(digest.clone())).await.expect("whole"), digest);
        assert_eq!(std::fs::read(&path).expect("there"), bytes);
        let asked = asked.lock().expect("whole").clone();
        assert_eq!(asked, ["0-0", "0-299999", "120000-299999", "240000-299999"], "nothing comes twice");
        // Once more: only the size is asked for.
        assert_eq!(fetched(&url, &path, Some(digest.clone())).await.expect("there"), digest);
    }

    #[tokio::test]
    async fn servers_without_ranges_and_wrong_digests_are_told() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("file");
        let (url, _) = serve(vec![1; 100], 100, false);
        let error = fetched(&url, &path, None).await.expect_err("refused");
        assert!(error.to_string().contains("no ranges"), "{error}");
        let (url, _) = serve(vec![1; 100], 100, true);
        let error = fetched(&url, &path, Some("00".repeat(32))).await.expect_err("refused");
        assert!(error.to_string().contains("instead of 0000"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        for wrong in
            ["", "bytes */10", "bytes 5-4/10", "bytes 5-10/10", "bytes 0-0/*", "items 0-0/1", "bytes -1-2/3"]
        {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
