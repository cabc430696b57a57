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
use tokio::task::JoinHandle;

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

/// How pieces go through NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsWay {
    /// A request for each, several on the way at once (`read-piece`).
    Requests,
    /// One request for all, answered by a stream whose receiver acknowledges each message; one is sent ahead (`read-pieces`:
    /// how the reference's plotters fetch).
    Stream,
}

/// Answers over NATS; ends with [`Self::end`].
pub struct Serving(JoinHandle<()>);

impl Serving {
    /// The store is in use until this is over.
    pub async fn end(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

/// The piece as the store's file has it: without the few bytes that the reference sends with it.
fn read(store: &FullPieceStore, index: PieceIndex) -> Vec<u8> {
    let piece = store.get(index).unwrap();
    let (file, offset) = piece.file_region();
    let mut bytes = vec![0; Piece::SIZE];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// Serves a store's pieces over NATS.
pub async fn serve_over_nats(nats: &NatsServer, store: &FullPieceStore, way: NatsWay) -> Serving {
    let server = async_nats::connect(nats.url()).await.unwrap();
    let mut requests = server.subscribe("bench.piece").await.unwrap();
    let mut acks = server.subscribe("bench.ack").await.unwrap();
    server.flush().await.unwrap();
    let store = store.clone();
    Serving(tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.unwrap();
            for (number, index) in request.payload.as_chunks().0.iter().enumerate() {
                if way == NatsWay::Stream && number > 1 {
                    acks.next().await.unwrap();
                }
                let bytes = read(&store, PieceIndex(u64::from_le_bytes(*index)));
                server.publish(reply.clone(), bytes.into()).await.unwrap();
            }
        }
    }))
}

/// The same pieces through NATS, and hashed.
pub async fn over_nats(
    nats: &NatsServer,
    store: &FullPieceStore,
    indices: &[PieceIndex],
    way: NatsWay,
) -> Duration {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let is_right = |index: &PieceIndex, bytes: &[u8]| {
        Some(Blake3Hash(*blake3::hash(bytes).as_bytes())) == store.hash(*index)
    };
    let begin = Instant::now();
    match way {
        NatsWay::Requests => {
            let answers = stream::iter(indices).map(|index| {
                let (client, is_right) = (&client, &is_right);
                async move {
                    let request = index.0.to_le_bytes().to_vec();
                    let answer = client.request("bench.piece", request.into()).await.unwrap();
                    is_right(index, &answer.payload)
                }
            });
            assert!(answers.buffer_unordered(NATS_REQUESTS).all(|is_right| async move { is_right }).await);
        }
        NatsWay::Stream => {
            let mut answers = client.subscribe("bench.answers").await.unwrap();
            let request: Vec<u8> = indices.iter().flat_map(|index| index.0.to_le_bytes()).collect();
            client.publish_with_reply("bench.piece", "bench.answers", request.into()).await.unwrap();
            for index in indices {
                let answer = answers.next().await.unwrap();
                client.publish("bench.ack", Vec::new().into()).await.unwrap();
                assert!(is_right(index, &answer.payload));
            }
        }
    }
    begin.elapsed()
}
