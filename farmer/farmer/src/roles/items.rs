//! The forms of a piece: as archived, or with its record already erasure-coded (design §4, "Cache item types").
//!
//! A split-parity piece has 2,097,248 bytes: the record's 65,536 chunks as sectors have them (source chunk k at 2k, parity
//! chunk k at 2k + 1), then its commitment and its witness.

pub mod verification;

use archiving::{Scalar, erasure};
use cluster::transfer::ItemType;
use farming::encoding::{PieceInput, SplitParityPiece};
use primitives::pieces::Record;
use primitives::{Piece, RecordCommitment, RecordWitness};

type Chunk = [u8; 32];

/// Commitment and witness together, in chunks.
const TAIL_CHUNKS: usize = (RecordCommitment::SIZE + RecordWitness::SIZE) / size_of::<Chunk>();

/// The split-parity form of a piece of 1,048,672 bytes; none when a chunk of its record is no scalar. 5 ms of CPU.
///
/// # Panics
/// When `piece` has another size.
pub fn extend(piece: &[u8]) -> Option<Vec<u8>> {
    assert_eq!(piece.len(), Piece::SIZE, "a piece is what is extended");
    let (record, tail) = piece.split_at(Record::SIZE);
    let source = record.as_chunks::<{ size_of::<Chunk>() }>().0;
    let mut parity = source.iter().map(Scalar::from_bytes).collect::<Option<Vec<_>>>()?;
    erasure::extend_in_place(&mut parity).expect("a record has 2^15 chunks");
    let mut item = Vec::with_capacity(ItemType::SplitParityPiece.size());
    for (source, parity) in source.iter().zip(parity) {
        item.extend_from_slice(source);
        item.extend_from_slice(&parity.to_bytes());
    }
    item.extend_from_slice(tail);
    Some(item)
}

/// The piece that a split-parity piece of 2,097,248 bytes was made of.
///
/// # Panics
/// When `item` has another size.
pub fn plain(item: &[u8]) -> Piece {
    assert_eq!(item.len(), ItemType::SplitParityPiece.size(), "a split-parity piece is what is taken apart");
    let (extended, tail) = item.split_at(2 * Record::SIZE);
    let mut piece = Piece::zeroed();
    let source = extended.as_chunks::<{ size_of::<Chunk>() }>().0.iter().step_by(2);
    piece.record_chunks_mut().iter_mut().zip(source).for_each(|(chunk, source)| *chunk = *source);
    piece.as_bytes_mut()[Record::SIZE..].copy_from_slice(tail);
    piece
}

/// Bytes of a piece in the form in which it is.
pub fn size(input: &PieceInput) -> usize {
    match input {
        PieceInput::Piece(_) => ItemType::Piece.size(),
        PieceInput::SplitParity(_) => ItemType::SplitParityPiece.size(),
    }
}

/// The piece, whatever its form.
pub fn into_piece(input: PieceInput) -> Piece {
    match input {
        PieceInput::Piece(piece) => piece,
        PieceInput::SplitParity(split) => split.piece(),
    }
}

/// What a piece is received into: the very memory that the encoder reads.
#[derive(Debug)]
pub enum ItemBuffer {
    /// A piece.
    Piece(Piece),
    /// A split-parity piece in chunks.
    SplitParity(Vec<Chunk>),
}

impl ItemBuffer {
    /// Zeroes, to be filled.
    pub fn zeroed(item: ItemType) -> Self {
        match item {
            ItemType::Piece => Self::Piece(Piece::zeroed()),
            ItemType::SplitParityPiece => {
                Self::SplitParity(vec![[0; size_of::<Chunk>()]; Record::NUM_S_BUCKETS + TAIL_CHUNKS])
            }
        }
    }

    /// All bytes.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Piece(piece) => piece.as_bytes_mut(),
            Self::SplitParity(chunks) => chunks.as_flattened_mut(),
        }
    }

    /// The filled buffer as the encoder takes it.
    pub fn into_input(self) -> PieceInput {
        let mut chunks = match self {
            Self::Piece(piece) => return PieceInput::Piece(piece),
            Self::SplitParity(chunks) => chunks,
        };
        let tail = chunks.split_off(Record::NUM_S_BUCKETS);
        let (commitment, witness) = tail.as_flattened().split_at(RecordCommitment::SIZE);
        let (commitment, witness) = (commitment.try_into(), witness.try_into());
        PieceInput::SplitParity(SplitParityPiece {
            extended: chunks.into_boxed_slice().try_into().expect("2^16 chunks are left"),
            commitment: RecordCommitment(commitment.expect("the tail begins with 48 bytes")),
            witness: RecordWitness(witness.expect("the tail ends with 48 bytes")),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn piece() -> Piece {
        let mut piece = Piece::zeroed();
        for (number, chunk) in (1_u64..).zip(piece.record_chunks_mut()) {
            // Below the field's order: the first byte stays zero.
            chunk[1..].copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[1..]);
        }
        piece.set_commitment(&RecordCommitment([3; 48]));
        piece.set_witness(&RecordWitness([4; 48]));
        piece
    }

    pub(super) fn received(item: &[u8]) -> SplitParityPiece {
        let mut buffer = ItemBuffer::zeroed(ItemType::SplitParityPiece);
        buffer.as_bytes_mut().copy_from_slice(item);
        let PieceInput::SplitParity(split) = buffer.into_input() else { panic!() };
        split
    }

    #[test]
    fn a_piece_is_extended_received_and_found_again() {
        let piece = piece();
        let item = extend(piece.as_bytes()).unwrap();
        assert_eq!(item.len(), ItemType::SplitParityPiece.size());
        assert_eq!(plain(&item), piece);
        let split = received(&item);
        assert_eq!(split.piece(), piece);
        assert_eq!(into_piece(PieceInput::SplitParity(split.clone())), piece);
        assert_eq!(size(&PieceInput::SplitParity(split)), item.len());
        let mut buffer = ItemBuffer::zeroed(ItemType::Piece);
        buffer.as_bytes_mut().copy_from_slice(piece.as_bytes());
        assert_eq!(into_piece(buffer.into_input()), piece);
    }

    #[test]
    fn records_that_are_none_are_not_extended() {
        let mut piece = piece();
        piece.record_chunks_mut()[7] = [0xff; 32];
        assert!(extend(piece.as_bytes()).is_none());
    }
}
