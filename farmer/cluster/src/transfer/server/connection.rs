//! One connection of a server: a reader, a task per request, a writer.

use super::Shared;
use super::outgoing::Outgoing;
use crate::contract::{LeaseKey, PlotProgress};
use crate::transfer::frame::{
    FetchSector, GetPieces, HEADER_SIZE, Header, ItemType, Kind, MAX_PIECES_PER_REQUEST, OutFrame,
    PUT_PREFIX, PiecePrefix, PutOutcome, PutPrefix, RemoteError, decode,
};
use crate::transfer::source::{PieceSource, SectorSource, SectorState, StoredPiece};
use crate::transfer::{FRAME_TIMEOUT, IDLE_TIMEOUT, PROGRESS_INTERVAL};
use bytes::{BufMut, Bytes, BytesMut};
use parity_scale_codec::Encode;
use primitives::PieceIndex;
use primitives::hashes::blake3_hash;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Requests in hand on one connection; the next one is not read before there is a place for it.
const MAX_REQUESTS: usize = 32;
/// Frames waiting to be written on one connection.
const MAX_QUEUED_FRAMES: usize = 8;
/// Pieces that are looked for in one go on a thread that may block.
const PIECES_AT_ONCE: usize = 4;
/// How often a sector in the making is looked at.
const STATE_INTERVAL: Duration = Duration::from_millis(250);

/// Why a connection ends.
enum End {
    /// The peer closed it, was idle for too long, or the server stops.
    Quiet,
    /// The peer violated the protocol: it is told so.
    Violation(String),
}

/// Serves a connection until it ends.
pub(super) async fn run(incoming: Incoming, outgoing: Outgoing, peer: SocketAddr, shared: Arc<Shared>) {
    let (frames, queue) = mpsc::channel(MAX_QUEUED_FRAMES);
    let closed = CancellationToken::new();
    let writing = tokio::spawn(write_frames(outgoing, queue, peer, closed.clone()));
    let mut connection = Connection {
        reader: incoming,
        tasks: JoinSet::new(),
        places: Arc::new(Semaphore::new(MAX_REQUESTS)),
        request: Request { shared: Arc::clone(&shared), frames },
        closed,
    };
    let end = connection.read_requests().await;
    let Connection { mut tasks, request, closed, .. } = connection;
    match end {
        End::Quiet => {}
        End::Violation(what) => {
            tracing::warn!(%peer, what, "a peer violated the transfer protocol");
            tasks.abort_all();
            let error = OutFrame::error(0, RemoteError::Protocol(what));
            let _ = timeout(FRAME_TIMEOUT, request.frames.send(error)).await;
        }
    }
    if closed.is_cancelled() || !shared.stop.is_cancelled() {
        // Nobody is there to hear the answers.
        tasks.abort_all();
    }
    while tasks.join_next().await.is_some() {}
    drop(request);
    let _ = writing.await;
}

/// What a client sends, however it comes.
pub(super) type Incoming = BufReader<Box<dyn AsyncRead + Send + Unpin>>;

/// Writes frames as they come; a peer that does not take one in time is given up.
async fn write_frames(
    mut outgoing: Outgoing,
    mut queue: mpsc::Receiver<OutFrame>,
    peer: SocketAddr,
    closed: CancellationToken,
) {
    while let Some(frame) = queue.recv().await {
        match timeout(FRAME_TIMEOUT, outgoing.write(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a peer is gone");
                break;
            }
            Err(_) => {
                tracing::warn!(%peer, "a peer is too slow; its connection is closed");
                break;
            }
        }
    }
    closed.cancel();
    let _ = timeout(Duration::from_secs(1), outgoing.shutdown()).await;
}

struct Connection {
    reader: Incoming,
    tasks: JoinSet<()>,
    places: Arc<Semaphore>,
    request: Request,
    closed: CancellationToken,
}

impl Connection {
    async fn read_requests(&mut self) -> End {
        loop {
            let header = match self.read_header().await {
                Ok(Some(header)) => header,
                Ok(None) => return End::Quiet,
                Err(end) => return end,
            };
            let place = tokio::select! {
                () = self.closed.cancelled() => return End::Quiet,
                place = Arc::clone(&self.places).acquire_owned() => place.expect("the semaphore is never closed"),
            };
            // The memory for a piece is taken only when it is there.
            let put = match header.kind {
                Kind::PutPiece => Some(tokio::select! {
                    () = self.closed.cancelled() => return End::Quiet,
                    put = Arc::clone(&self.request.shared.puts).acquire_owned() => {
                        put.expect("the semaphore is never closed")
                    }
                }),
                _ => None,
            };
            let payload = match timeout(FRAME_TIMEOUT, self.read_payload(header.length)).await {
                Ok(Ok(payload)) => payload,
                Ok(Err(_)) => return End::Quiet,
                Err(_) => return End::Violation("a frame that does not come to its end".to_owned()),
            };
            let work = match self.request.begin(header, payload) {
                Ok(work) => work,
                Err(what) => return End::Violation(what),
            };
            self.tasks.spawn(async move {
                work.await;
                drop((place, put));
            });
        }
    }

    /// The next header; none when the connection is to end.
    async fn read_header(&mut self) -> Result<Option<Header>, End> {
        let mut bytes = [0; HEADER_SIZE];
        {
            let read = self.reader.read_exact(&mut bytes);
            tokio::pin!(read);
            loop {
                tokio::select! {
                    biased;
                    () = self.request.shared.stop.cancelled() => return Ok(None),
                    () = self.closed.cancelled() => return Ok(None),
                    read = &mut read => match read {
                        Ok(_) => break,
                        Err(_) => return Ok(None),
                    },
                    // A client that waits for a sector is rightly silent.
                    () = sleep(IDLE_TIMEOUT) => {
                        while self.tasks.try_join_next().is_some() {}
                        if self.tasks.is_empty() {
                            return Ok(None);
                        }
                    }
                }
            }
        }
        while self.tasks.try_join_next().is_some() {}
        Header::decode(&bytes).map(Some).map_err(End::Violation)
    }

    async fn read_payload(&mut self, length: usize) -> io::Result<Bytes> {
        let mut payload = BytesMut::with_capacity(length);
        while payload.len() < length {
            let missing = length - payload.len();
            if self.reader.read_buf(&mut (&mut payload).limit(missing)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(payload.freeze())
    }
}

/// A piece of the right size; one that cannot be read is as good as none.
fn find(source: &dyn PieceSource, item: ItemType, index: PieceIndex) -> Option<StoredPiece> {
    match source.get(item, index) {
        Ok(found) => found.filter(|piece| piece.bytes.len() == item.size()),
        Err(error) => {
            tracing::warn!(piece = %index, %error, "a stored piece cannot be served");
            None
        }
    }
}

/// What the work on a request needs.
#[derive(Clone)]
struct Request {
    shared: Arc<Shared>,
    frames: mpsc::Sender<OutFrame>,
}

type Work = futures::future::BoxFuture<'static, ()>;

impl Request {
    /// Checks a request and gives the work on it; an error is a violation of the protocol.
    fn begin(&self, header: Header, payload: Bytes) -> Result<Work, String> {
        let id = header.id;
        let request = self.clone();
        Ok(match header.kind {
            Kind::GetPieces => {
                let get: GetPieces = decode(&payload, "get")?;
                if get.indices.len() > MAX_PIECES_PER_REQUEST {
                    return Err("more than 256 pieces in one request".to_owned());
                }
                Box::pin(async move { request.get_pieces(id, get).await })
            }
            Kind::PutPiece => {
                if payload.len() < PUT_PREFIX {
                    return Err("a put without its fields".to_owned());
                }
                let prefix: PutPrefix = decode(&payload[..PUT_PREFIX], "put")?;
                let bytes = payload.slice(PUT_PREFIX..);
                if bytes.len() != prefix.item.size() {
                    return Err(format!("a {:?} of {} bytes", prefix.item, bytes.len()));
                }
                Box::pin(async move { request.put_piece(id, prefix, bytes).await })
            }
            Kind::FetchSector => {
                let fetch: FetchSector = decode(&payload, "fetch")?;
                Box::pin(async move { request.fetch_sector(id, fetch).await })
            }
            Kind::AckSector => {
                let key: LeaseKey = decode(&payload, "acknowledgement")?;
                Box::pin(async move { request.acknowledge(id, key).await })
            }
            Kind::Ping => Box::pin(async move { request.send(OutFrame::small(Kind::Pong, id, &[])).await }),
            kind => return Err(format!("a {kind:?} frame from a client")),
        })
    }

    /// Queues a frame; when the connection is gone there is nobody to tell.
    async fn send(&self, frame: OutFrame) {
        let _ = self.frames.send(frame).await;
    }

    async fn done(&self, id: u64) {
        self.send(OutFrame::small(Kind::Done, id, &[])).await;
    }

    async fn fail(&self, id: u64, reason: impl ToString) {
        self.send(OutFrame::error(id, RemoteError::Failed(reason.to_string()))).await;
    }

    fn pieces(&self) -> Option<Arc<dyn PieceSource>> {
        self.shared.options.pieces.clone()
    }

    async fn get_pieces(&self, id: u64, get: GetPieces) {
        let Some(source) = self.pieces() else { return self.fail(id, "it serves no pieces").await };
        let item = get.item;
        for indices in get.indices.chunks(PIECES_AT_ONCE) {
            let (source, indices) = (Arc::clone(&source), indices.to_vec());
            let looking = spawn_blocking(move || {
                indices.into_iter().map(|index| (index, find(&*source, item, index))).collect::<Vec<_>>()
            });
            let found = match looking.await {
                Ok(found) => found,
                Err(error) => return self.fail(id, error).await,
            };
            for (index, piece) in found {
                if self.frames.send(self.answer(id, index, piece)).await.is_err() {
                    return;
                }
            }
        }
        self.done(id).await;
    }

    fn answer(&self, id: u64, index: PieceIndex, piece: Option<StoredPiece>) -> OutFrame {
        let counters = &self.shared.counters;
        match piece {
            Some(piece) => {
                counters.pieces_sent.fetch_add(1, Ordering::Relaxed);
                let prefix = PiecePrefix { index, hash: piece.hash }.encode();
                OutFrame::new(Kind::Piece, id, &prefix, piece.bytes)
            }
            None => {
                counters.pieces_missing.fetch_add(1, Ordering::Relaxed);
                OutFrame::small(Kind::Missing, id, &index.encode())
            }
        }
    }

    async fn put_piece(&self, id: u64, put: PutPrefix, bytes: Bytes) {
        let highest = self.shared.highest_fence.fetch_max(put.fence, Ordering::AcqRel);
        if highest > put.fence {
            return self.send(OutFrame::put_result(id, PutOutcome::StaleFence { highest })).await;
        }
        let Some(source) = self.pieces() else { return self.fail(id, "it stores no pieces").await };
        let store = move || {
            if blake3_hash(&bytes) != put.hash {
                return PutOutcome::Damaged;
            }
            source.put(put.item, put.index, bytes, put.hash)
        };
        let outcome =
            spawn_blocking(store).await.unwrap_or_else(|error| PutOutcome::Failed(error.to_string()));
        let counters = &self.shared.counters;
        match &outcome {
            PutOutcome::Stored => {
                counters.pieces_stored.fetch_add(1, Ordering::Relaxed);
            }
            PutOutcome::Damaged => {
                counters.pieces_damaged.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        self.send(OutFrame::put_result(id, outcome)).await;
    }

    async fn fetch_sector(&self, id: u64, fetch: FetchSector) {
        let Some(source) = self.shared.options.sectors.clone() else {
            return self.fail(id, "it serves no sectors").await;
        };
        let FetchSector { key, from_block } = fetch;
        let Some(manifest) = self.wait_until_ready(id, &source, key).await else { return };
        if let Err(what) = manifest.check() {
            return self.fail(id, what).await;
        }
        if from_block > manifest.blocks() {
            return self.fail(id, format!("the sector has no block {from_block}")).await;
        }
        self.send(OutFrame::new(Kind::Manifest, id, &[], manifest.encode())).await;
        for block in from_block..manifest.blocks() {
            if self.shared.stop.is_cancelled() {
                // A sector is long: the client resumes at this block when the server is back.
                return self.send(OutFrame::error(id, RemoteError::GoingAway)).await;
            }
            let source = Arc::clone(&source);
            let bytes = match spawn_blocking(move || source.block(&key, block)).await {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(error)) => return self.fail(id, error).await,
                Err(error) => return self.fail(id, error).await,
            };
            let expected = manifest.block_size(block);
            if bytes.len() != expected {
                let found = bytes.len();
                return self.fail(id, format!("block {block} has {found} bytes, {expected} are due")).await;
            }
            let frame = OutFrame::new(Kind::Block, id, &block.to_le_bytes(), bytes);
            if self.frames.send(frame).await.is_err() {
                return;
            }
            self.shared.counters.blocks_sent.fetch_add(1, Ordering::Relaxed);
        }
        self.done(id).await;
    }

    /// Reports progress until the sector is in the spool; none when the client has been told why it never will be.
    async fn wait_until_ready(
        &self,
        id: u64,
        source: &Arc<dyn SectorSource>,
        key: LeaseKey,
    ) -> Option<Arc<crate::transfer::SectorManifest>> {
        let mut said: Option<(PlotProgress, Instant)> = None;
        loop {
            let asked = Arc::clone(source);
            let progress = match spawn_blocking(move || asked.state(&key)).await {
                Ok(SectorState::Ready(manifest)) => return Some(manifest),
                Ok(SectorState::Making(progress)) => progress,
                Ok(SectorState::Unknown) => {
                    self.send(OutFrame::error(id, RemoteError::UnknownSector)).await;
                    return None;
                }
                Err(error) => {
                    self.fail(id, error).await;
                    return None;
                }
            };
            let is_news =
                said.as_ref().is_none_or(|(last, at)| *last != progress || at.elapsed() >= PROGRESS_INTERVAL);
            if is_news {
                let frame = OutFrame::progress(id, progress.clone());
                if self.frames.send(frame).await.is_err() || matches!(progress, PlotProgress::Failed { .. }) {
                    return None;
                }
                said = Some((progress, Instant::now()));
            }
            tokio::select! {
                () = self.shared.stop.cancelled() => {
                    self.send(OutFrame::error(id, RemoteError::GoingAway)).await;
                    return None;
                }
                () = sleep(STATE_INTERVAL) => {}
            }
        }
    }

    async fn acknowledge(&self, id: u64, key: LeaseKey) {
        let Some(source) = self.shared.options.sectors.clone() else {
            return self.fail(id, "it serves no sectors").await;
        };
        match spawn_blocking(move || source.acknowledge(&key)).await {
            Ok(Ok(())) => self.done(id).await,
            Ok(Err(error)) => self.fail(id, error).await,
            Err(error) => self.fail(id, error).await,
        }
    }
}
