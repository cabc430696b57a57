//! The forms of a piece: as archived, or with its record already erasure-coded (design §4, "Cache item types").
//!
//! A split-parity piece has 2,097,248 bytes: the record's 65,536 chunks as sectors have them (source chunk k at 2k, parity
//! chunk k at 2k + 1), then its commitment and its witness.

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

/// Tells whether the parity of a record is what erasure coding makes of its source, for three quarters of what coding it
/// again would cost.
///
/// Source and parity chunks are each the values of one polynomial of degree below 2^15, and the parity is right exactly when
/// these are one. Two different ones have equal values at fewer than 2^15 of the field's 2^255 points; so they are compared at
/// one point that is drawn at random for this process and never leaves it, and wrong parity passes with probability below
/// 2^-239. The difference of their values there is a fixed linear combination of the 65,536 chunks (barycentric
/// interpolation), whose weights are computed once.
pub struct ParityCheck {
    weights: Vec<Scalar>,
}

impl Default for ParityCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl ParityCheck {
    /// Draws a point; 10 ms of CPU.
    pub fn new() -> Self {
        loop {
            let point = Scalar::from_bytes_reduced(&rand::random::<[u8; 64]>());
            let power = point.pow(Record::NUM_CHUNKS as u64);
            // One of the 2^16 places of the chunks, which nobody will ever see drawn, has no weights.
            if power != Scalar::ONE && power != -Scalar::ONE {
                return Self { weights: weights(point, power) };
            }
        }
    }

    /// Whether source and parity, interleaved, belong together and every parity chunk is a scalar in its one form. The source
    /// chunks have to be the record's: that is checked elsewhere.
    pub fn is_extension(&self, extended: &[Chunk; Record::NUM_S_BUCKETS]) -> bool {
        let mut difference = Scalar::ZERO;
        for (weight, chunk) in self.weights.iter().zip(extended) {
            let Some(scalar) = Scalar::from_bytes(chunk) else { return false };
            difference += *weight * scalar;
        }
        difference.is_zero()
    }
}

/// With x = w^i, w the root of order 2^16, and z the point: (z^k - 1) x / (z - x) for source chunks, (z^k + 1) x / (z - x) for
/// parity chunks. It is k times the difference that they give.
fn weights(point: Scalar, power: Scalar) -> Vec<Scalar> {
    let root = Scalar::root_of_unity(Record::NUM_S_BUCKETS).expect("2^16 divides the group's order");
    let places: Vec<Scalar> =
        std::iter::successors(Some(Scalar::ONE), |x| Some(*x * root)).take(Record::NUM_S_BUCKETS).collect();
    let mut weights: Vec<Scalar> = places.iter().map(|x| point - *x).collect();
    Scalar::batch_inverse(&mut weights);
    let factors = [power - Scalar::ONE, power + Scalar::ONE];
    for ((weight, x), factor) in weights.iter_mut().zip(places).zip(factors.into_iter().cycle()) {
        *weight *= x * factor;
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece() -> Piece {
        let mut piece = Piece::zeroed();
        for (number, chunk) in (1_u64..).zip(piece.record_chunks_mut()) {
            // Below the field's order: the first byte stays zero.
            chunk[1..].copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[1..]);
        }
        piece.set_commitment(&RecordCommitment([3; 48]));
        piece.set_witness(&RecordWitness([4; 48]));
        piece
    }

    fn received(item: &[u8]) -> SplitParityPiece {
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

    #[test]
    fn wrong_parity_is_found_wherever_it_is() {
        let check = ParityCheck::new();
        let mut extended = received(&extend(piece().as_bytes()).unwrap()).extended;
        assert!(check.is_extension(&extended));
        for place in [0, 1, 2, 777, 32_767, 65_534, 65_535] {
            extended[place][31] ^= 1;
            assert!(!check.is_extension(&extended), "{place}");
            extended[place][31] ^= 1;
        }
        // The same number in another form: its order added.
        let order = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";
        let zero = std::mem::replace(&mut extended[9], hex::decode(order).unwrap().try_into().unwrap());
        assert!(!check.is_extension(&extended));
        extended[9] = zero;
        // Two errors that cancel out in a sum.
        extended.swap(1, 3);
        assert!(!check.is_extension(&extended));
        extended.swap(1, 3);
        assert!(check.is_extension(&extended) && ParityCheck::new().is_extension(&extended));
    }
}
