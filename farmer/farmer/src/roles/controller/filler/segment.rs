//! The pieces of one segment on their way into the caches.

use archiving::{Kzg, PieceToVerify, verify_pieces};
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, Piece, PieceIndex, SegmentHeader, SegmentIndex};
use std::collections::{BTreeMap, BTreeSet};

/// A piece that belongs to its segment.
#[derive(Debug)]
pub struct CheckedPiece {
    /// The piece.
    pub piece: Piece,
    /// BLAKE3 of its bytes.
    pub hash: Blake3Hash,
}

/// Pieces of a segment, each checked against the segment's commitment; up to 268 MB.
#[derive(Debug)]
pub struct SegmentPieces {
    header: SegmentHeader,
    pieces: BTreeMap<PieceIndex, CheckedPiece>,
}

impl SegmentPieces {
    /// None of the pieces of `header`'s segment.
    pub fn new(header: SegmentHeader) -> Self {
        Self { header, pieces: BTreeMap::new() }
    }

    /// The segment.
    pub fn index(&self) -> SegmentIndex {
        self.header.segment_index()
    }

    /// A piece.
    pub fn get(&self, index: PieceIndex) -> Option<&CheckedPiece> {
        self.pieces.get(&index)
    }

    /// Number of pieces.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there is no piece.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Those of `wanted` that are not here.
    pub fn missing(&self, wanted: &BTreeSet<PieceIndex>) -> Vec<PieceIndex> {
        wanted.iter().filter(|index| !self.pieces.contains_key(index)).copied().collect()
    }

    /// Checks pieces and takes those that belong to the segment; gives the others. About a second of CPU for a whole
    /// segment of good pieces; each bad one among them costs more.
    pub fn check_and_add(&mut self, kzg: &Kzg, pieces: Vec<(PieceIndex, Piece)>) -> Vec<PieceIndex> {
        let segment_commitment = self.header.segment_commitment();
        let entries: Vec<_> = pieces
            .iter()
            .map(|(index, piece)| PieceToVerify { piece, segment_commitment, position: index.position() })
            .collect();
        let verdicts = verify_pieces(kzg, &entries);
        drop(entries);
        let mut bad = Vec::new();
        for ((index, piece), verdict) in pieces.into_iter().zip(verdicts) {
            match verdict {
                Ok(()) => self.add_checked(index, piece),
                Err(error) => {
                    tracing::error!(%index, %error, "A piece does not belong to its segment");
                    bad.push(index);
                }
            }
        }
        bad
    }

    /// Takes all pieces of a segment that has just been archived with the right header.
    pub fn add_archived(&mut self, pieces: Vec<Piece>) {
        let first = self.index().first_piece_index().0;
        for (index, piece) in (first..).map(PieceIndex).zip(pieces) {
            self.add_checked(index, piece);
        }
    }

    fn add_checked(&mut self, index: PieceIndex, piece: Piece) {
        let hash = blake3_hash(piece.as_bytes());
        self.pieces.insert(index, CheckedPiece { piece, hash });
    }
}
