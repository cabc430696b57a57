//! The sending half of a server's connection, with or without TLS.

use crate::transfer::frame::OutFrame;
use crate::transfer::payload::{FileRegion, Payload};
use bytes::Buf;
use rustix::fs::sendfile;
use rustix::net::SendFlags;
use std::io;
use std::os::unix::fs::FileExt;
use tokio::io::{AsyncWriteExt, Interest, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio_rustls::server::TlsStream;

/// Bytes of a file that are read and encrypted at a time: little enough to stay in the processor's cache.
const ENCRYPTED_AT_ONCE: usize = 128 * 1024;

/// Where frames go.
pub(super) enum Outgoing {
    /// Files go by `sendfile`.
    Plain(OwnedWriteHalf),
    /// Files are read, because they have to be encrypted here.
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

impl Outgoing {
    /// Sends a frame. Head and body go out together; the body goes from where it lies to the socket.
    pub(super) async fn write(&mut self, frame: OutFrame) -> io::Result<()> {
        match (self, frame.body) {
            (Self::Plain(writer), Payload::Memory(body)) => {
                writer.write_all_buf(&mut frame.head.chain(body)).await
            }
            (Self::Plain(writer), Payload::File(region)) => {
                send_region(writer.as_ref(), &frame.head, &region).await
            }
            (Self::Tls(writer), Payload::Memory(body)) => {
                writer.write_all_buf(&mut frame.head.chain(body)).await?;
                writer.flush().await
            }
            (Self::Tls(writer), Payload::File(region)) => {
                writer.write_all(&frame.head).await?;
                let mut chunk = vec![0; ENCRYPTED_AT_ONCE.min(region.len())];
                for start in (0..region.len()).step_by(ENCRYPTED_AT_ONCE) {
                    let part = &mut chunk[..ENCRYPTED_AT_ONCE.min(region.len() - start)];
                    // It is in the page cache: this copies and waits for no disk.
                    region.file().read_exact_at(part, region.offset() + start as u64)?;
                    writer.write_all(part).await?;
                }
                writer.flush().await
            }
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.shutdown().await,
            Self::Tls(writer) => writer.shutdown().await,
        }
    }
}

async fn send_region(stream: &TcpStream, mut head: &[u8], region: &FileRegion) -> io::Result<()> {
    while !head.is_empty() {
        let flags = SendFlags::MORE | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let send = || Ok(rustix::net::send(stream, head, flags)?);
        head = &head[stream.async_io(Interest::WRITABLE, send).await?..];
    }
    let (mut offset, mut due) = (region.offset(), region.len());
    while due > 0 {
        let send = || Ok(sendfile(stream, region.file(), Some(&mut offset), due)?);
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        due -= sent;
    }
    Ok(())
}
