//! Getting and putting pieces.

use super::Connection;
use crate::transfer::error::TransferError;
use crate::transfer::frame::{
    GetPieces, Header, ItemType, Kind, PIECE_PREFIX, PiecePrefix, PutOutcome, PutPrefix, decode,
};
use parity_scale_codec::Encode;
use primitives::{Blake3Hash, PieceIndex};
use std::collections::VecDeque;
use std::ops::Range;

/// Pieces in one request.
const PIECES_PER_REQUEST: usize = 16;
/// Requests on the way at once.
const GETS_IN_FLIGHT: usize = 3;
/// Puts on the way at once.
const PUTS_IN_FLIGHT: usize = 4;

/// What became of a piece that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchOutcome {
    /// It is in the buffer, and has this hash.
    Found(Blake3Hash),
    /// The peer does not have it.
    Missing,
    /// What the peer sent does not have the hash that it sent with it; the buffer's content is worthless.
    Damaged,
}

/// A piece to be stored by the peer.
#[derive(Debug, Clone, Copy)]
pub struct PieceToPut<'a> {
    /// Index of the piece.
    pub index: PieceIndex,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// BLAKE3 of the bytes; the peer checks it.
    pub hash: Blake3Hash,
}

/// A request on the way and what is still due of it.
#[derive(Debug)]
struct InFlight {
    id: u64,
    due: Range<usize>,
}

/// Pieces that a server was asked for, received one after the other, several requests ahead.
///
/// The answers to different requests may mix, so a piece may come before one that was named earlier. Dropped before its end it
/// leaves the connection broken: what is on the way would still come.
#[derive(Debug)]
pub struct PieceFetch<'a> {
    connection: &'a mut Connection,
    item: ItemType,
    indices: &'a [PieceIndex],
    asked: usize,
    in_flight: VecDeque<InFlight>,
}

impl PieceFetch<'_> {
    /// Receives the next piece straight into `buffer`, which is as long as the item, and checks its hash; none after the last.
    ///
    /// The hash is the peer's own word: that the piece belongs to the history is proven by its witness, elsewhere. Unless it was
    /// found the buffer's content is worthless.
    ///
    /// # Errors
    /// When the connection breaks or the peer refuses; what came until then stands.
    pub async fn next(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<(PieceIndex, FetchOutcome)>, TransferError> {
        if buffer.len() != self.item.size() {
            return Err(TransferError::Usage("a buffer does not have the size of the item"));
        }
        loop {
            self.ask().await?;
            if self.in_flight.is_empty() {
                self.connection.finish();
                return Ok(None);
            }
            let header = self.connection.read_header("a piece").await?;
            let Some(place) = self.in_flight.iter().position(|request| request.id == header.id) else {
                return Err(self.connection.unexpected(header).await);
            };
            if header.kind == Kind::Done {
                if !self.in_flight[place].due.is_empty() {
                    return Err(self.connection.protocol("an end before all pieces were answered"));
                }
                self.in_flight.remove(place);
                continue;
            }
            let Some(next) = self.in_flight[place].due.next() else {
                return Err(self.connection.unexpected(header).await);
            };
            let index = self.indices[next];
            let outcome = self.connection.read_answer(header, self.item, index, buffer).await?;
            return Ok(Some((index, outcome)));
        }
    }

    /// Keeps requests on the way.
    async fn ask(&mut self) -> Result<(), TransferError> {
        while self.asked < self.indices.len() && self.in_flight.len() < GETS_IN_FLIGHT {
            if self.asked == 0 {
                self.connection.begin()?;
            }
            let end = self.indices.len().min(self.asked + PIECES_PER_REQUEST);
            let get = GetPieces { item: self.item, indices: self.indices[self.asked..end].to_vec() };
            let id = self.connection.send(Kind::GetPieces, &get.encode(), &[]).await?;
            self.in_flight.push_back(InFlight { id, due: self.asked..end });
            self.asked = end;
        }
        Ok(())
    }
}

impl Connection {
    /// Pieces to be fetched with [`PieceFetch::next`]; nothing is sent before.
    pub fn fetch_pieces<'a>(&'a mut self, item: ItemType, indices: &'a [PieceIndex]) -> PieceFetch<'a> {
        let in_flight = VecDeque::with_capacity(GETS_IN_FLIGHT);
        PieceFetch { connection: self, item, indices, asked: 0, in_flight }
    }

    async fn read_answer(
        &mut self,
        header: Header,
        item: ItemType,
        due: PieceIndex,
        buffer: &mut [u8],
    ) -> Result<FetchOutcome, TransferError> {
        match header.kind {
            Kind::Piece if header.length == PIECE_PREFIX + item.size() => {
                let mut prefix = [0; PIECE_PREFIX];
                self.read_exact(&mut prefix, "a piece").await?;
                let prefix: PiecePrefix = decode(&prefix, "piece").map_err(|what| self.protocol(what))?;
                if prefix.index != due {
                    return Err(self.protocol("another piece than the one that was due"));
                }
                if self.read_hashed(buffer, "a piece").await? == prefix.hash {
                    return Ok(FetchOutcome::Found(prefix.hash));
                }
                tracing::warn!(peer = %self.peer, piece = %due, "a peer sent a damaged piece");
                Ok(FetchOutcome::Damaged)
            }
            Kind::Missing => {
                let payload = self.read_small(header).await?;
                let index: PieceIndex = decode(&payload, "answer").map_err(|what| self.protocol(what))?;
                if index != due {
                    return Err(self.protocol("another piece than the one that was due"));
                }
                Ok(FetchOutcome::Missing)
            }
            _ => Err(self.unexpected(header).await),
        }
    }

    /// Puts pieces into the peer's store, several at once; the outcomes are in the order of the pieces.
    ///
    /// `fence` is the fencing number of the lease under which pieces are placed (design §4): a peer that has seen a
    /// higher one takes nothing.
    ///
    /// # Errors
    /// When the connection breaks or the peer takes no pieces at all.
    pub async fn put_pieces(
        &mut self,
        item: ItemType,
        fence: u64,
        pieces: &[PieceToPut<'_>],
    ) -> Result<Vec<PutOutcome>, TransferError> {
        if pieces.iter().any(|piece| piece.bytes.len() != item.size()) {
            return Err(TransferError::Usage("a piece does not have the size of the item"));
        }
        self.begin()?;
        let mut outcomes: Vec<Option<PutOutcome>> = vec![None; pieces.len()];
        let mut in_flight: VecDeque<(u64, usize)> = VecDeque::with_capacity(PUTS_IN_FLIGHT);
        let mut sent = 0;
        while sent < pieces.len() || !in_flight.is_empty() {
            if sent < pieces.len() && in_flight.len() < PUTS_IN_FLIGHT {
                let piece = &pieces[sent];
                let prefix = PutPrefix { item, fence, index: piece.index, hash: piece.hash }.encode();
                let id = self.send(Kind::PutPiece, &prefix, piece.bytes).await?;
                in_flight.push_back((id, sent));
                sent += 1;
                continue;
            }
            let header = self.read_header("the result of a put").await?;
            let place = in_flight.iter().position(|(id, _)| *id == header.id);
            let Some(place) = place.filter(|_| header.kind == Kind::PutResult) else {
                return Err(self.unexpected(header).await);
            };
            let payload = self.read_small(header).await?;
            let outcome = decode(&payload, "result").map_err(|what| self.protocol(what))?;
            let (_, piece) = in_flight.remove(place).expect("its place was just found");
            outcomes[piece] = Some(outcome);
        }
        self.finish();
        Ok(outcomes.into_iter().map(|outcome| outcome.expect("every put was answered")).collect())
    }
}
