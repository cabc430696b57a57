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

/// Pieces in one request of [`Connection::get_pieces`].
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

/// A piece that is wanted and where it is to be put.
#[derive(Debug)]
pub struct PieceWanted<'a> {
    /// Index of the piece.
    pub index: PieceIndex,
    /// As long as the item.
    pub buffer: &'a mut [u8],
    /// Set when the peer has answered.
    pub outcome: Option<FetchOutcome>,
}

impl<'a> PieceWanted<'a> {
    /// A piece to be read into `buffer`.
    pub fn new(index: PieceIndex, buffer: &'a mut [u8]) -> Self {
        Self { index, buffer, outcome: None }
    }
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
struct InFlight {
    id: u64,
    due: Range<usize>,
}

impl Connection {
    /// Gets pieces, several requests at once, straight into their buffers; every hash is checked.
    ///
    /// The hash is the peer's own word: that the piece belongs to the history is proven by its witness, elsewhere.
    ///
    /// # Errors
    /// When the connection breaks or the peer refuses; outcomes set until then stand.
    pub async fn get_pieces(
        &mut self,
        item: ItemType,
        wanted: &mut [PieceWanted<'_>],
    ) -> Result<(), TransferError> {
        if wanted.iter().any(|wanted| wanted.buffer.len() != item.size()) {
            return Err(TransferError::Usage("a buffer does not have the size of the item"));
        }
        self.begin()?;
        let mut in_flight = VecDeque::with_capacity(GETS_IN_FLIGHT);
        let mut asked = 0;
        while asked < wanted.len() || !in_flight.is_empty() {
            while asked < wanted.len() && in_flight.len() < GETS_IN_FLIGHT {
                let end = wanted.len().min(asked + PIECES_PER_REQUEST);
                let indices = wanted[asked..end].iter().map(|wanted| wanted.index).collect();
                let id = self.send(Kind::GetPieces, &GetPieces { item, indices }.encode(), &[]).await?;
                in_flight.push_back(InFlight { id, due: asked..end });
                asked = end;
            }
            let header = self.read_header("a piece").await?;
            let Some(place) = in_flight.iter().position(|request| request.id == header.id) else {
                return Err(self.unexpected(header).await);
            };
            if header.kind == Kind::Done {
                if !in_flight[place].due.is_empty() {
                    return Err(self.protocol("an end before all pieces were answered"));
                }
                in_flight.remove(place);
                continue;
            }
            let Some(next) = in_flight[place].due.next() else {
                return Err(self.unexpected(header).await);
            };
            self.read_answer(header, item, &mut wanted[next]).await?;
        }
        self.finish();
        Ok(())
    }

    async fn read_answer(
        &mut self,
        header: Header,
        item: ItemType,
        wanted: &mut PieceWanted<'_>,
    ) -> Result<(), TransferError> {
        match header.kind {
            Kind::Piece if header.length == PIECE_PREFIX + item.size() => {
                let mut prefix = [0; PIECE_PREFIX];
                self.read_exact(&mut prefix, "a piece").await?;
                let prefix: PiecePrefix = decode(&prefix, "piece").map_err(|what| self.protocol(what))?;
                if prefix.index != wanted.index {
                    return Err(self.protocol("another piece than the one that was due"));
                }
                let hash = self.read_hashed(wanted.buffer, "a piece").await?;
                wanted.outcome = Some(if hash == prefix.hash {
                    FetchOutcome::Found(prefix.hash)
                } else {
                    tracing::warn!(peer = %self.peer, piece = %wanted.index, "a peer sent a damaged piece");
                    FetchOutcome::Damaged
                });
                Ok(())
            }
            Kind::Missing => {
                let payload = self.read_small(header).await?;
                let index: PieceIndex = decode(&payload, "answer").map_err(|what| self.protocol(what))?;
                if index != wanted.index {
                    return Err(self.protocol("another piece than the one that was due"));
                }
                wanted.outcome = Some(FetchOutcome::Missing);
                Ok(())
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
