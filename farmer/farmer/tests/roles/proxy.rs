//! A TCP proxy that fails after so many bytes of a connection.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens after so many bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The first connection that comes so far is cut.
    CutOnce,
    /// Nothing more comes, of any connection.
    Hang,
}

pub struct FaultyProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<Option<u16>>,
    fault: Fault,
    after: u64,
    faults: AtomicU64,
    sent: AtomicU64,
}

impl FaultyProxy {
    pub async fn start(fault: Fault, after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            fault,
            after,
            faults: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&accepting).forward(stream));
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn forward_to(&self, port: u16) {
        *self.shared.target.lock() = Some(port);
    }

    /// Connections that met with the fault.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    /// Bytes sent to clients.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn forward(self: Arc<Self>, client: TcpStream) {
        let Some(port) = *self.target.lock() else { return };
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut buffer = vec![0; 65536];
        let mut sent = 0;
        while let Ok(read) = from_server.read(&mut buffer).await {
            if read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
            sent += read as u64;
            self.sent.fetch_add(read as u64, Ordering::Relaxed);
            if sent > self.after {
                match self.fault {
                    Fault::CutOnce if self.faults.load(Ordering::Relaxed) > 0 => {}
                    Fault::CutOnce => {
                        self.faults.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Fault::Hang => {
                        self.faults.fetch_add(1, Ordering::Relaxed);
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
        up.abort();
    }
}
