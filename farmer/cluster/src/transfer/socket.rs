//! A client's socket, with or without TLS.

use rustix::io::{Errno, retry_on_intr};
use std::io;
use std::mem;
use std::net;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;
use tokio_rustls::client::TlsStream;

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(QuietSocket),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut (dyn Stream + Unpin)> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket),
            Self::Tls(stream) => Pin::new(stream.as_mut()),
        }
    }
}

/// What both kinds of sockets are.
trait Stream: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> Stream for T {}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

/// A socket that the runtime watches only while it is waited for.
///
/// A socket of tokio stays registered, and then each packet that comes in wakes a thread of the runtime, also while the
/// task is busy with what came before: sixteen times a piece, a fifth of all that receiving one costs.
#[derive(Debug)]
pub(crate) enum QuietSocket {
    /// The runtime knows nothing of it.
    Quiet(net::TcpStream),
    /// It is waited for.
    Watched(TcpStream),
    /// Going from one to the other failed.
    Lost,
}

impl QuietSocket {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        Ok(Self::Quiet(stream.into_std()?))
    }

    fn watch(&mut self) -> io::Result<()> {
        if let Self::Quiet(stream) = mem::replace(self, Self::Lost) {
            *self = Self::Watched(TcpStream::from_std(stream)?);
        }
        Ok(())
    }

    fn leave_alone(&mut self) -> io::Result<()> {
        if let Self::Watched(stream) = mem::replace(self, Self::Lost) {
            *self = Self::Quiet(stream.into_std()?);
        }
        Ok(())
    }

    fn poll_io(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut io: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        // What always has something to do lets other tasks run now and then.
        let budget = ready!(poll_proceed(cx));
        if let Self::Quiet(stream) = self {
            match retry_on_intr(|| io(stream.as_fd())) {
                Err(Errno::AGAIN) => self.watch()?,
                result => {
                    budget.made_progress();
                    return Poll::Ready(Ok(result?));
                }
            }
        }
        let Self::Watched(stream) = self else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        loop {
            if interest.is_readable() {
                ready!(stream.poll_read_ready(cx))?;
            } else {
                ready!(stream.poll_write_ready(cx))?;
            }
            match stream.try_io(interest, || Ok(retry_on_intr(|| io(stream.as_fd()))?)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.leave_alone()?;
                    budget.made_progress();
                    return Poll::Ready(result);
                }
            }
        }
    }
}

impl AsyncRead for QuietSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buffer.initialize_unfilled();
        let read = |socket: BorrowedFd<'_>| rustix::io::read(socket, &mut *unfilled);
        let count = ready!(self.get_mut().poll_io(cx, Interest::READABLE, read))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for QuietSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_io(cx, Interest::WRITABLE, |socket| rustix::io::write(socket, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_io(cx, Interest::WRITABLE, |socket| rustix::io::writev(socket, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = match self.get_mut() {
            Self::Quiet(stream) => stream.shutdown(net::Shutdown::Write),
            Self::Watched(stream) => Ok(rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?),
            Self::Lost => Ok(()),
        };
        Poll::Ready(done)
    }
}
