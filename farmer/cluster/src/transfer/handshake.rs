//! The beginning of a connection: versions, and proofs of the cluster secret both ways.
//!
//! client → server: 8 magic ‖ 2 version ‖ 6 zero ‖ 16 instance ‖ 32 nonce.
//! server → client: the same with 2 bytes of status in the zeroes' place first ‖ 32 proof over both hellos.
//! client → server: 32 proof over both hellos and the server's proof. server → client: 1 byte verdict.
//! The two proofs use different keys, so that neither can be reflected.
//!
//! With TLS all of it is inside. An end that does not use TLS and one that does tell each other from the first byte.

use super::CONNECT_TIMEOUT;
use super::error::TransferError;
use crate::contract::InstanceId;
use crate::secret::ClusterSecret;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use ulid::Ulid;

const MAGIC: [u8; 8] = *b"AUTXFER\0";
/// Version of handshake and frames.
pub(crate) const VERSION: u16 = 1;
/// What a hello begins with, and no record of TLS does.
pub(crate) const FIRST_BYTE: [u8; 1] = [MAGIC[0]];
/// What the hello of a TLS client begins with: a handshake record of any version.
const TLS_RECORD: [u8; 2] = [0x16, 0x03];
/// Most bytes of a TLS client's hello that are read away.
const TLS_HELLO_MAX: u64 = 64 * 1024;
const HELLO_SIZE: usize = 64;
const SERVER_PURPOSE: &str = "autonomys farming cluster 2026-11 transfer: proof of the server";
const CLIENT_PURPOSE: &str = "autonomys farming cluster 2026-11 transfer: proof of the client";
const WELCOME: u8 = 1;

/// Why a server turns a client away before it proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Welcome = 0,
    TooManyConnections = 1,
    GoingAway = 2,
    TlsOnly = 3,
}

pub(crate) type Hello = [u8; HELLO_SIZE];

pub(crate) fn hello(instance: InstanceId, status: u16) -> Hello {
    let mut bytes = [0; HELLO_SIZE];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10..12].copy_from_slice(&status.to_le_bytes());
    bytes[16..32].copy_from_slice(&instance.0.0.to_le_bytes());
    bytes[32..].copy_from_slice(&rand::random::<[u8; 32]>());
    bytes
}

/// Checks magic and version; gives instance and status.
pub(crate) fn read_hello(bytes: &Hello, peer: SocketAddr) -> Result<(InstanceId, u16), TransferError> {
    if bytes[..2] == TLS_RECORD {
        return Err(TransferError::PeerWithTls { peer });
    }
    if bytes[..8] != MAGIC {
        return Err(TransferError::NotAPeer { peer });
    }
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if word(8) != VERSION {
        return Err(TransferError::Version { peer, found: word(8), expected: VERSION });
    }
    let instance = u128::from_le_bytes(bytes[16..32].try_into().expect("16 bytes"));
    Ok((InstanceId(Ulid(instance)), word(10)))
}

async fn within<T>(
    peer: SocketAddr,
    work: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    timeout(CONNECT_TIMEOUT, work)
        .await
        .unwrap_or(Err(TransferError::TimedOut { peer, what: "the handshake" }))
}

/// The client's part; gives the server's instance.
pub(crate) async fn as_client(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    peer: SocketAddr,
    secret: &ClusterSecret,
    instance: InstanceId,
) -> Result<InstanceId, TransferError> {
    within(peer, async {
        let io = |source| TransferError::broken(peer, source);
        let own = hello(instance, 0);
        stream.write_all(&own).await.map_err(io)?;
        let mut theirs: Hello = [0; HELLO_SIZE];
        stream.read_exact(&mut theirs).await.map_err(io)?;
        let (server, status) = read_hello(&theirs, peer)?;
        let reason = match status {
            0 => None,
            3 => return Err(TransferError::PeerWithTls { peer }),
            1 => Some("it has too many connections"),
            2 => Some("it is going to stop"),
            _ => Some("for a reason this build does not know"),
        };
        if let Some(reason) = reason {
            return Err(TransferError::Unavailable { peer, reason: reason.to_owned() });
        }
        let mut proof = [0; 32];
        stream.read_exact(&mut proof).await.map_err(io)?;
        if secret.proof(SERVER_PURPOSE, &[&own, &theirs]) != blake3::Hash::from(proof) {
            return Err(TransferError::WrongSecret { peer });
        }
        let answer = secret.proof(CLIENT_PURPOSE, &[&own, &theirs, &proof]);
        stream.write_all(answer.as_bytes()).await.map_err(io)?;
        match stream.read_u8().await.map_err(io)? {
            WELCOME => Ok(server),
            _ => Err(TransferError::WrongSecret { peer }),
        }
    })
    .await
}

/// The server's part; gives the client's instance.
pub(crate) async fn as_server(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    peer: SocketAddr,
    secret: &ClusterSecret,
    instance: InstanceId,
    status: Status,
) -> Result<InstanceId, TransferError> {
    within(peer, async {
        let io = |source| TransferError::broken(peer, source);
        let mut theirs: Hello = [0; HELLO_SIZE];
        stream.read_exact(&mut theirs).await.map_err(io)?;
        let greeting = read_hello(&theirs, peer);
        if matches!(greeting, Err(TransferError::NotAPeer { .. })) {
            // Nothing is said to what is no peer.
            return greeting.map(|(client, _)| client);
        }
        // A client of another version learns ours from the hello, one with TLS that this is none.
        let own = hello(instance, status as u16);
        stream.write_all(&own).await.map_err(io)?;
        if matches!(greeting, Err(TransferError::PeerWithTls { .. })) {
            // Closed with bytes unread, the hello might be lost on its way.
            stream.shutdown().await.map_err(io)?;
            let _ = tokio::io::copy(&mut stream.take(TLS_HELLO_MAX), &mut tokio::io::sink()).await;
        }
        let (client, _) = greeting?;
        if status != Status::Welcome {
            return Err(TransferError::Unavailable { peer, reason: format!("{status:?}") });
        }
        let proof = secret.proof(SERVER_PURPOSE, &[&theirs, &own]);
        stream.write_all(proof.as_bytes()).await.map_err(io)?;
        let mut answer = [0; 32];
        stream.read_exact(&mut answer).await.map_err(io)?;
        let expected = secret.proof(CLIENT_PURPOSE, &[&theirs, &own, proof.as_bytes()]);
        let welcome = expected == blake3::Hash::from(answer);
        stream.write_u8(if welcome { WELCOME } else { 0 }).await.map_err(io)?;
        if welcome { Ok(client) } else { Err(TransferError::WrongSecret { peer }) }
    })
    .await
}

/// Tells a client without TLS that this server takes none.
pub(crate) async fn refuse_without_tls(mut stream: TcpStream, peer: SocketAddr) -> TransferError {
    let mut theirs: Hello = [0; HELLO_SIZE];
    let io = |source| TransferError::broken(peer, source);
    let refusing = async {
        stream.read_exact(&mut theirs).await.map_err(io)?;
        read_hello(&theirs, peer)?;
        // It proves nothing, so it is told nothing but this.
        let own = hello(InstanceId(Ulid(0)), Status::TlsOnly as u16);
        stream.write_all(&own).await.map_err(io)
    };
    refusing.await.err().unwrap_or(TransferError::PeerWithoutTls { peer })
}
