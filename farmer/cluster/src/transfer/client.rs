//! The fetching end.

mod pieces;
mod pool;
mod sector;

pub use pieces::{FetchOutcome, PieceFetch, PieceToPut};
pub use pool::{PooledConnection, TransferPool};
pub use sector::{SectorFetch, SectorSink};

use super::error::TransferError;
use super::frame::{HEADER_SIZE, Header, Kind, RemoteError, decode};
use super::socket::{QuietSocket, Socket};
use super::tls::Credentials;
use super::{CONNECT_TIMEOUT, FRAME_TIMEOUT, handshake};
use crate::contract::InstanceId;
use bytes::Buf;
use primitives::Blake3Hash;
use primitives::hashes::blake3_hash;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An authenticated connection to a server.
///
/// One operation at a time; each pipelines its own requests. When an operation fails in the middle, or its future is
/// dropped, the connection is broken and every further operation says so: open another.
#[derive(Debug)]
pub struct Connection {
    peer: SocketAddr,
    server: InstanceId,
    stream: BufReader<Socket>,
    next_id: u64,
    broken: bool,
}

impl Connection {
    /// Connects to a server and authenticates both ends.
    ///
    /// # Errors
    /// When the server cannot be reached in 5 seconds, is no peer, has another version, another secret or no certificate
    /// of the cluster, uses TLS where this end does not or the other way round, or takes no connection now.
    pub async fn open(
        peer: SocketAddr,
        credentials: impl Into<Credentials>,
        instance: InstanceId,
    ) -> Result<Self, TransferError> {
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(peer));
        let mut stream = connecting
            .await
            .map_err(|_| TransferError::TimedOut { peer, what: "a connection" })?
            .map_err(|source| TransferError::Connect { address: peer, source })?;
        let _ = stream.set_nodelay(true);
        let Credentials { secret, tls } = credentials.into();
        let (server, socket) = match tls {
            None => {
                let server = handshake::as_client(&mut stream, peer, &secret, instance).await?;
                let socket = QuietSocket::new(stream).map_err(|source| TransferError::Io { peer, source })?;
                (server, Socket::Plain(socket))
            }
            Some(tls) => {
                let mut stream = Box::new(tls.connect(stream, peer).await?);
                (handshake::as_client(&mut stream, peer, &secret, instance).await?, Socket::Tls(stream))
            }
        };
        Ok(Self { peer, server, stream: BufReader::new(socket), next_id: 1, broken: false })
    }

    /// The server's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The server's identity.
    pub fn server(&self) -> InstanceId {
        self.server
    }

    /// Whether an operation was cut off in the middle.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Asks whether the server is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn ping(&mut self) -> Result<(), TransferError> {
        self.begin()?;
        let id = self.send(Kind::Ping, &[], &[]).await?;
        let header = self.read_header("a pong").await?;
        self.expect(header, id, Kind::Pong).await?;
        self.finish();
        Ok(())
    }

    /// Marks the connection as being in the middle of an operation.
    fn begin(&mut self) -> Result<(), TransferError> {
        if self.broken {
            return Err(TransferError::Broken { peer: self.peer });
        }
        self.broken = true;
        Ok(())
    }

    /// The operation came to its end.
    fn finish(&mut self) {
        self.broken = false;
    }

    fn protocol(&self, what: impl Into<String>) -> TransferError {
        TransferError::Protocol { peer: self.peer, what: what.into() }
    }

    fn io(&self, source: std::io::Error) -> TransferError {
        TransferError::broken(self.peer, source)
    }

    /// Sends a request; gives its id.
    async fn send(&mut self, kind: Kind, fields: &[u8], body: &[u8]) -> Result<u64, TransferError> {
        let id = self.next_id;
        self.next_id += 1;
        let header = Header { kind, id, length: fields.len() + body.len() }.encode();
        // Head and body in one vectored write: the body goes from where it lies to the socket.
        let mut bytes = Buf::chain(&header[..], fields).chain(body);
        let sending = async {
            self.stream.write_all_buf(&mut bytes).await?;
            // TLS holds back what its buffer has room for.
            self.stream.flush().await
        };
        match timeout(FRAME_TIMEOUT, sending).await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(source)) => Err(self.io(source)),
            Err(_) => Err(TransferError::TimedOut { peer: self.peer, what: "taking a request" }),
        }
    }

    async fn read_exact(&mut self, buffer: &mut [u8], what: &'static str) -> Result<(), TransferError> {
        match timeout(FRAME_TIMEOUT, self.stream.read_exact(buffer)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(source)) => Err(self.io(source)),
            Err(_) => Err(TransferError::TimedOut { peer: self.peer, what }),
        }
    }

    /// Reads data into `buffer` and hashes it: in one go, which takes less time than in parts as they come (docs/benchmarks.md).
    async fn read_hashed(
        &mut self,
        buffer: &mut [u8],
        what: &'static str,
    ) -> Result<Blake3Hash, TransferError> {
        self.read_exact(buffer, what).await?;
        Ok(blake3_hash(buffer))
    }

    async fn read_header(&mut self, what: &'static str) -> Result<Header, TransferError> {
        let mut bytes = [0; HEADER_SIZE];
        self.read_exact(&mut bytes, what).await?;
        Header::decode(&bytes).map_err(|what| self.protocol(what))
    }

    /// Reads a payload that is not data: its size is bounded by its kind.
    async fn read_small(&mut self, header: Header) -> Result<Vec<u8>, TransferError> {
        let mut payload = vec![0; header.length];
        self.read_exact(&mut payload, "the rest of a frame").await?;
        Ok(payload)
    }

    /// The error that an unexpected frame stands for.
    async fn unexpected(&mut self, header: Header) -> TransferError {
        if header.kind != Kind::Error {
            return self.protocol(format!("an unexpected {:?} frame", header.kind));
        }
        let payload = match self.read_small(header).await {
            Ok(payload) => payload,
            Err(error) => return error,
        };
        let peer = self.peer;
        match decode::<RemoteError>(&payload, "error") {
            Ok(RemoteError::Failed(reason)) => TransferError::Refused { peer, reason },
            Ok(RemoteError::UnknownSector) => TransferError::UnknownSector { peer },
            Ok(RemoteError::GoingAway) => {
                TransferError::Unavailable { peer, reason: "it is going to stop".to_owned() }
            }
            Ok(RemoteError::Protocol(what)) => TransferError::Protocol { peer, what },
            Err(what) => self.protocol(what),
        }
    }

    async fn expect(&mut self, header: Header, id: u64, kind: Kind) -> Result<(), TransferError> {
        if header.kind == kind && header.id == id {
            return Ok(());
        }
        Err(self.unexpected(header).await)
    }
}
