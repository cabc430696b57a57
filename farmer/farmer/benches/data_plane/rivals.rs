//! What the transfer is compared with.

use cluster::testing::NatsServer;
use futures::StreamExt;
use futures::stream;
use piece_store::FullPieceStore;
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, Piece, PieceIndex};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Requests on the way at once over NATS.
const NATS_REQUESTS: usize = 16;

/// The least that can be done with a socket: one thread sends pieces by `sendfile`, one receives them into one buffer
/// and hashes them.
pub fn bare_loop(store: &FullPieceStore, indices: &[PieceIndex]) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (socket, _) = listener.accept().unwrap();
            for index in indices {
                let piece = store.get(*index).unwrap();
                let (file, mut offset) = piece.file_region();
                let end = offset + Piece::SIZE as u64;
                while offset < end {
                    let due = (end - offset) as usize;
                    rustix::fs::sendfile(&socket, file, Some(&mut offset), due).unwrap();
                }
            }
        });
        let mut socket = TcpStream::connect(address).unwrap();
        let mut buffer = vec![0; Piece::SIZE];
        let begin = Instant::now();
        for index in indices {
            socket.read_exact(&mut buffer).unwrap();
            assert_eq!(blake3_hash(&buffer), store.hash(*index).unwrap());
        }
        begin.elapsed()
    })
}

/// The same pieces through NATS request and reply, as the reference moves them, and hashed.
pub async fn over_nats(nats: &NatsServer, store: &FullPieceStore, indices: &[PieceIndex]) -> Duration {
    let server = async_nats::connect(nats.url()).await.unwrap();
    let mut requests = server.subscribe("bench.piece").await.unwrap();
    server.flush().await.unwrap();
    let serving = tokio::spawn({
        let store = store.clone();
        async move {
            while let Some(request) = requests.next().await {
                let index = PieceIndex(u64::from_le_bytes(request.payload[..].try_into().unwrap()));
                let piece = store.get(index).unwrap();
                let (file, offset) = piece.file_region();
                let mut bytes = vec![0; Piece::SIZE];
                file.read_exact_at(&mut bytes, offset).unwrap();
                server.publish(request.reply.unwrap(), bytes.into()).await.unwrap();
            }
        }
    });
    let client = async_nats::connect(nats.url()).await.unwrap();
    let begin = Instant::now();
    let answers = stream::iter(indices).map(|index| {
        let client = &client;
        async move {
            let request = index.0.to_le_bytes().to_vec();
            let answer = client.request("bench.piece", request.into()).await.unwrap();
            Blake3Hash(*blake3::hash(&answer.payload).as_bytes()) == store.hash(*index).unwrap()
        }
    });
    assert!(answers.buffer_unordered(NATS_REQUESTS).all(|is_right| async move { is_right }).await);
    let elapsed = begin.elapsed();
    serving.abort();
    // The store is in use until it has ended.
    let _ = serving.await;
    elapsed
}
