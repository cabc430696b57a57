//! A small HTTP/1.1 client for the questions we ask on a host: one request a connection, everything bounded.
//!
//! nats-server, the roles, the node's RPC and supervisord answer short requests on loopback or a unix socket; a
//! full client would bring TLS, pools and redirects, none of which may happen here.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest answer, in bytes.
const ANSWER_MAX: usize = 16 << 20;

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Whom.
    pub endpoint: Endpoint,
    /// Path and query.
    pub path: String,
    /// Body and its content type; makes it a POST.
    pub body: Option<(String, String)>,
    /// For the whole exchange.
    pub deadline: Duration,
}

impl Request {
    /// A GET with a deadline of 5 s.
    pub fn get(endpoint: Endpoint, path: impl Into<String>) -> Self {
        Self { endpoint, path: path.into(), body: None, deadline: Duration::from_secs(5) }
    }

    /// A POST with a deadline of 5 s.
    pub fn post(endpoint: Endpoint, path: impl Into<String>, kind: &str, body: String) -> Self {
        Self { body: Some((kind.to_string(), body)), ..Self::get(endpoint, path) }
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the status is 2xx.
    pub fn success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Asks from this machine.
pub(super) async fn exchange(request: &Request) -> Result<Response> {
    let failed = |message: String| Error::Http { endpoint: request.endpoint.to_string(), message };
    let talk = async {
        match &request.endpoint {
            Endpoint::Tcp(address) => over(tokio::net::TcpStream::connect(address).await?, request).await,
            Endpoint::Unix(path) => over(tokio::net::UnixStream::connect(path).await?, request).await,
        }
    };
    match tokio::time::timeout(request.deadline, talk).await {
        Err(_) => Err(failed(format!("no answer within {} s", request.deadline.as_secs_f32()))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(answer)) => parse(&answer).map_err(|message| failed(message.to_string())),
    }
}

async fn over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &Request,
) -> std::io::Result<Vec<u8>> {
    let (method, kind, body) = match &request.body {
        None => ("GET", "", ""),
        Some((kind, body)) => ("POST", kind.as_str(), body.as_str()),
    };
    let mut head = format!("{method} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", request.path);
    if !kind.is_empty() {
        head += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    // Some servers keep the connection open in spite of the header: the answer says itself when it is complete.
    while !complete(&answer) {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..read]);
        if answer.len() > ANSWER_MAX {
            return Err(std::io::Error::other(format!("the answer has more than {ANSWER_MAX} bytes")));
        }
    }
    Ok(answer)
}

fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn complete(answer: &[u8]) -> bool {
    let Some((head, body)) = split(answer) else { return false };
    if let Some(length) = header(head, "content-length").and_then(|length| length.parse::<usize>().ok()) {
        return body.len() >= length;
    }
    chunked(head) && unchunk(body).is_some()
}

fn chunked(head: &str) -> bool {
    header(head, "transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked"))
}

/// Joins the chunks; none before the last one has come.
fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    loop {
        let line_end = body.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&body[..line_end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok().filter(|size| *size <= ANSWER_MAX)?;
        body = &body[line_end + 2..];
        if size == 0 {
            return Some(joined);
        }
        joined.extend_from_slice(body.get(..size)?);
        body = body.get(size + 2..)?;
    }
}

/// The answer, and whether no more of it is waited for: for the fuzz targets alone.
#[doc(hidden)]
pub fn parse_answer(answer: &[u8]) -> (Option<Response>, bool) {
    (parse(answer).ok(), complete(answer))
}

fn parse(answer: &[u8]) -> std::result::Result<Response, &'static str> {
    let (head, body) = split(answer).ok_or("not an HTTP answer")?;
    let status =
        head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).ok_or("no HTTP status")?;
    let body = if chunked(head) {
        unchunk(body).ok_or("the answer was cut off")?
    } else {
        match header(head, "content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => body.get(..length).ok_or("the answer was cut off")?.to_vec(),
            Some(Err(_)) => return Err("a wrong Content-Length"),
            None => body.to_vec(),
        }
    };
    Ok(Response { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_length_chunks_and_neither() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEXTRA";
        assert!(complete(plain));
        assert_eq!(parse(plain), Ok(Response { status: 200, body: b"ok".to_vec() }));
        let chunks = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(parse(chunks), Ok(Response { status: 503, body: b"abcd".to_vec() }));
        let open = b"HTTP/1.0 200 OK\r\n\r\nrest";
        assert!(!complete(open));
        assert_eq!(parse(open), Ok(Response { status: 200, body: b"rest".to_vec() }));
    }

    #[test]
    fn cut_and_absurd_answers_are_errors() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"\r\n\r\n",
            b"garbage",
        ] {
            assert!(parse(answer).is_err(), "{}", String::from_utf8_lossy(answer));
        }
    }
}
