//! What the transfer is compared with.

use super::reference::StreamResponses;
use super::store::{self, Buffers};
use super::{Bench, KEPT, LONG, cpu, fetching, gb_per_s, median, serving, spread};
use cluster::testing::NatsServer;
use cluster::transfer::ItemType;
use futures::StreamExt;
use futures::stream;
use parity_scale_codec::{DecodeAll, Encode};
use piece_store::{FullPieceStore, ItemKind};
use primitives::hashes::blake3_hash;
use primitives::{Piece, PieceIndex};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Requests on the way at once over NATS.
const NATS_REQUESTS: usize = 16;
/// Pieces in a message of a stream: as many as the reference puts into nine tenths of 3 MB.
const PIECES_IN_MESSAGE: usize = 2;

/// How pieces go from one end to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Ours, into so many buffers in turns.
    Transfer(usize),
    /// See [`bare_loop`].
    Loop,
    /// The reference's `read-piece` (farming §10): a request for each, several on the way at once.
    NatsRequests,
    /// The reference's `read-pieces`, with which its plotters fetch: one request for all, answered by a stream whose receiver
    /// acknowledges each message; one is sent ahead.
    NatsStream,
}

const WAYS: [(&str, Way); 5] = [
    ("TCP transfer", Way::Transfer(1)),
    ("TCP transfer, pieces kept", Way::Transfer(KEPT)),
    ("bare loop", Way::Loop),
    ("NATS, a request a piece", Way::NatsRequests),
    ("NATS, the reference's stream", Way::NatsStream),
];

impl Bench {
    /// All ways in turns, each over so many lanes: connections with a thread at each end. Medians; the CPU time of NATS's own
    /// server is not in its rows.
    pub fn rivals(&self, nats: &NatsServer, path: &Path, lanes: usize) {
        let store = store::open(path, ItemKind::Piece);
        let total = store.contents().len();
        let indices = spread(total as u64, self.plan.pieces.min(total));
        let mut rows = WAYS.map(|(name, way)| (name, way, Vec::new(), Duration::ZERO));
        for round in 0..=self.plan.rounds {
            for (_, way, times, used) in &mut rows {
                let (time, cpu) = self.measure(nats, &store, &indices, *way, lanes);
                // The first round fills the page cache.
                if round > 0 {
                    times.push(time);
                    *used += cpu;
                }
            }
        }
        println!("| way, {lanes} at each end | GB/s | CPU s per GB, both ends | speed beside the transfer |");
        println!("|---|---|---|---|");
        let moved = (self.plan.rounds * indices.len() * Piece::SIZE) as f64 / 1e9;
        let ours = median(rows[0].2.clone());
        for (name, _, times, used) in rows {
            let time = median(times);
            let (speed, cpu) = (gb_per_s(indices.len(), time), used.as_secs_f64() / moved);
            println!("| {name} | {speed:.2} | {cpu:.2} | {:.2} |", ours.as_secs_f64() / time.as_secs_f64());
        }
        println!();
    }

    /// Wall and CPU time.
    fn measure(
        &self,
        nats: &NatsServer,
        store: &FullPieceStore,
        indices: &[PieceIndex],
        way: Way,
        lanes: usize,
    ) -> (Duration, Duration) {
        let serving = serving(lanes);
        match way {
            Way::Transfer(buffers) => {
                let server = serving.block_on(store::serve(store, &self.secret));
                let taken = in_lanes(indices, lanes, |_, share| {
                    fetching().block_on(async {
                        let mut connection = self.connect(server.address()).await;
                        Buffers::new(ItemType::Piece, buffers).fetch(&mut connection, share).await
                    })
                });
                serving.block_on(server.drain(LONG));
                taken
            }
            Way::Loop => in_lanes(indices, lanes, |_, share| bare_loop(store, share)),
            Way::NatsRequests | Way::NatsStream => {
                let serve = |lane| serving.block_on(serve_over_nats(nats, store, way, lane));
                let served: Vec<_> = (0..lanes).map(serve).collect();
                let taken = in_lanes(indices, lanes, |lane, share| {
                    fetching().block_on(over_nats(nats, store, share, way, lane))
                });
                served.into_iter().for_each(|served| serving.block_on(served.end()));
                taken
            }
        }
    }
}

/// Gives each lane a thread and an equal share of the pieces; the wall time of the slowest, and the CPU time of this process.
fn in_lanes(
    indices: &[PieceIndex],
    lanes: usize,
    fetch: impl Fn(usize, &[PieceIndex]) -> Duration + Sync,
) -> (Duration, Duration) {
    let began = cpu();
    let slowest = std::thread::scope(|scope| {
        let shares = indices.chunks(indices.len().div_ceil(lanes)).enumerate();
        let lanes: Vec<_> = shares
            .map(|(lane, share)| {
                scope.spawn({
                    let fetch = &fetch;
                    move || fetch(lane, share)
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).max().unwrap()
    });
    (slowest, cpu() - began)
}

/// The least that can be done with a socket: one thread sends pieces by `sendfile`, one receives them into one buffer
/// and hashes them.
fn bare_loop(store: &FullPieceStore, indices: &[PieceIndex]) -> Duration {
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

/// Answers over NATS; ends with [`Self::end`].
struct Serving(JoinHandle<()>);

impl Serving {
    /// The store is in use until this is over.
    async fn end(self) {
        self.0.abort();
        let _ = self.0.await;
    }
}

/// What both of the reference's messages say of a piece.
type Held = Option<(PieceIndex, Piece)>;
/// Answer to `read-piece`.
type ReadPiece = Result<Held, String>;
/// A message of the answer to `read-pieces`.
type ReadPieces = StreamResponses<Result<(u32, Held), String>>;

fn held(store: &FullPieceStore, offset: u32) -> Held {
    let index = PieceIndex(offset.into());
    let piece = store.get(index)?;
    let (file, offset) = piece.file_region();
    let mut bytes = vec![0; Piece::SIZE];
    file.read_exact_at(&mut bytes, offset).unwrap();
    Some((index, Piece::try_from(bytes).unwrap()))
}

fn offsets(indices: &[PieceIndex]) -> Vec<u32> {
    indices.iter().map(|index| index.0 as u32).collect()
}

/// Serves a store's pieces over NATS, on subjects of this lane.
async fn serve_over_nats(nats: &NatsServer, store: &FullPieceStore, way: Way, lane: usize) -> Serving {
    let server = async_nats::connect(nats.url()).await.unwrap();
    let mut requests = server.subscribe(format!("bench.{lane}.read")).await.unwrap();
    let mut acks = server.subscribe(format!("bench.{lane}.ack")).await.unwrap();
    server.flush().await.unwrap();
    let store = store.clone();
    Serving(tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let reply = request.reply.unwrap();
            if way == Way::NatsRequests {
                let offset = u32::decode_all(&mut &request.payload[..]).unwrap();
                let answer: ReadPiece = Ok(held(&store, offset));
                server.publish(reply, answer.encode().into()).await.unwrap();
                continue;
            }
            let offsets = Vec::<u32>::decode_all(&mut &request.payload[..]).unwrap();
            let messages = offsets.chunks(PIECES_IN_MESSAGE).count() as u32;
            for (index, offsets) in (0..).zip(offsets.chunks(PIECES_IN_MESSAGE)) {
                let responses = offsets.iter().map(|offset| Ok((*offset, held(&store, *offset)))).collect();
                let answer = if index + 1 < messages {
                    let ack_subject = format!("bench.{lane}.ack");
                    ReadPieces::Continue { index, responses, ack_subject }
                } else {
                    ReadPieces::Last { index, responses }
                };
                // The one before the last has been taken: one is sent ahead.
                if index > 1 {
                    acks.next().await.unwrap();
                }
                server.publish(reply.clone(), answer.encode().into()).await.unwrap();
            }
        }
    }))
}

/// The same pieces through NATS, and hashed.
async fn over_nats(
    nats: &NatsServer,
    store: &FullPieceStore,
    indices: &[PieceIndex],
    way: Way,
    lane: usize,
) -> Duration {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let is_right = |held: Held| {
        let (index, piece) = held.unwrap();
        Some(blake3_hash(piece.as_bytes())) == store.hash(index)
    };
    let subject = format!("bench.{lane}.read");
    let begin = Instant::now();
    if way == Way::NatsRequests {
        let answers = stream::iter(offsets(indices)).map(|offset| {
            let (client, subject) = (&client, subject.clone());
            async move {
                let answer = client.request(subject, offset.encode().into()).await.unwrap();
                is_right(ReadPiece::decode_all(&mut &answer.payload[..]).unwrap().unwrap())
            }
        });
        assert!(answers.buffer_unordered(NATS_REQUESTS).all(|is_right| async move { is_right }).await);
        return begin.elapsed();
    }
    let reply = format!("bench.{lane}.answers");
    let mut messages = client.subscribe(reply.clone()).await.unwrap();
    client.publish_with_reply(subject, reply, offsets(indices).encode().into()).await.unwrap();
    let mut count = 0;
    while count < indices.len() {
        let message = messages.next().await.unwrap();
        let responses = match ReadPieces::decode_all(&mut &message.payload[..]).unwrap() {
            StreamResponses::Continue { index, responses, ack_subject } => {
                client.publish(ack_subject, index.to_le_bytes().to_vec().into()).await.unwrap();
                responses
            }
            StreamResponses::Last { responses, .. } => responses,
        };
        count += responses.len();
        assert!(responses.into_iter().all(|response| is_right(response.unwrap().1)));
    }
    begin.elapsed()
}
