//! A TCP proxy that cuts its first connection with data after so many bytes.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct CuttingProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<Option<u16>>,
    cut_after: u64,
    cuts: AtomicU64,
    sent: AtomicU64,
}

impl CuttingProxy {
    pub async fn start(cut_after: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            cut_after,
            cuts: AtomicU64::new(0),
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

    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
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
            if sent > self.cut_after && self.cuts.load(Ordering::Relaxed) == 0 {
                self.cuts.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        up.abort();
    }
}
