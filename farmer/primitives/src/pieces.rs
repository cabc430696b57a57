//! Pieces, records and their indices (archival §2).

use crate::bytes::{fixed_bytes, serde_as_text};
use crate::scalars::ScalarBytes;
use crate::segments::SegmentIndex;
use parity_scale_codec::{Compact, Decode, Encode, Error, Input, Output};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Shape of a record: 2^15 scalars.
pub struct Record;

impl Record {
    /// Scalars in a record.
    pub const NUM_CHUNKS: usize = 1 << 15;
    /// Chunks of a record after erasure coding; also the number of s-buckets of a sector.
    pub const NUM_S_BUCKETS: usize = 1 << 16;
    /// Bytes of a record.
    pub const SIZE: usize = Self::NUM_CHUNKS * ScalarBytes::SIZE;
    /// Bytes of source data in a record: 31 for each scalar.
    pub const RAW_SIZE: usize = Self::NUM_CHUNKS * ScalarBytes::SAFE_BYTES;
}

fixed_bytes! {
    /// KZG commitment of a record: compressed G1.
    RecordCommitment, 48
}
serde_as_text!(RecordCommitment);

fixed_bytes! {
    /// Compressed G1 point that opens the segment commitment at a piece's position.
    RecordWitness, 48
}
serde_as_text!(RecordWitness);

/// Index of a piece in the history of the chain.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PieceIndex(pub u64);

impl PieceIndex {
    /// The segment the piece belongs to.
    pub const fn segment_index(self) -> SegmentIndex {
        SegmentIndex(self.0 / SegmentIndex::NUM_PIECES as u64)
    }

    /// Position in its segment, 0..256.
    pub const fn position(self) -> usize {
        (self.0 % SegmentIndex::NUM_PIECES as u64) as usize
    }

    /// Whether the piece carries source data; parity pieces stand at odd positions.
    pub const fn is_source(self) -> bool {
        self.position().is_multiple_of(2)
    }

    /// Place among the segment's 128 source pieces; none for a parity piece.
    pub const fn source_position(self) -> Option<usize> {
        if self.is_source() { Some(self.position() / 2) } else { None }
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Offset of a piece in a sector.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PieceOffset(pub u16);

impl fmt::Display for PieceOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A piece: record (32,768 scalars) ‖ record commitment ‖ record witness; 1,048,672 bytes on the heap.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece(Box<[u8; Self::SIZE]>);

impl Piece {
    /// Bytes of a piece.
    pub const SIZE: usize = Record::SIZE + RecordCommitment::SIZE + RecordWitness::SIZE;

    /// A piece of zeroes, to be filled.
    pub fn zeroed() -> Self {
        Self::try_from(vec![0; Self::SIZE]).expect("the vector has the size of a piece")
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8; Self::SIZE] {
        &self.0
    }

    /// All bytes, to be changed.
    pub fn as_bytes_mut(&mut self) -> &mut [u8; Self::SIZE] {
        &mut self.0
    }

    /// The bytes, given away without a copy.
    pub fn into_vec(self) -> Vec<u8> {
        (self.0 as Box<[u8]>).into_vec()
    }

    /// The record: 1,048,576 bytes.
    pub fn record(&self) -> &[u8] {
        &self.0[..Record::SIZE]
    }

    /// The record's 32,768 chunks of 32 bytes.
    pub fn record_chunks(&self) -> &[[u8; 32]] {
        self.record().as_chunks().0
    }

    /// The record's chunks, to be changed.
    pub fn record_chunks_mut(&mut self) -> &mut [[u8; 32]] {
        self.0[..Record::SIZE].as_chunks_mut().0
    }

    /// The record commitment.
    pub fn commitment(&self) -> RecordCommitment {
        RecordCommitment(self.0[Record::SIZE..][..48].try_into().expect("48 bytes"))
    }

    /// The record witness.
    pub fn witness(&self) -> RecordWitness {
        RecordWitness(self.0[Record::SIZE + 48..].try_into().expect("48 bytes"))
    }

    /// Sets the record commitment.
    pub fn set_commitment(&mut self, commitment: &RecordCommitment) {
        self.0[Record::SIZE..][..48].copy_from_slice(&commitment.0);
    }

    /// Sets the record witness.
    pub fn set_witness(&mut self, witness: &RecordWitness) {
        self.0[Record::SIZE + 48..].copy_from_slice(&witness.0);
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("commitment", &self.commitment()).finish_non_exhaustive()
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0[..]
    }
}

/// A byte vector that is no piece: its length is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a piece has {} bytes, found {found}", Piece::SIZE)]
pub struct PieceSizeError {
    /// Bytes found.
    pub found: usize,
}

impl TryFrom<Vec<u8>> for Piece {
    type Error = PieceSizeError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Self::Error> {
        let found = bytes.len();
        bytes.into_boxed_slice().try_into().map(Self).map_err(|_| PieceSizeError { found })
    }
}

impl TryFrom<&[u8]> for Piece {
    type Error = PieceSizeError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        if bytes.len() != Self::SIZE {
            return Err(PieceSizeError { found: bytes.len() });
        }
        Self::try_from(bytes.to_vec())
    }
}

impl Encode for Piece {
    fn size_hint(&self) -> usize {
        4 + Self::SIZE
    }

    fn encode_to<O: Output + ?Sized>(&self, dest: &mut O) {
        Compact(Self::SIZE as u32).encode_to(dest);
        dest.write(&self.0[..]);
    }
}

impl Decode for Piece {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        let Compact(length) = Compact::<u32>::decode(input)?;
        if length as usize != Self::SIZE {
            return Err(Error::from("a piece of the wrong size"));
        }
        let mut piece = Self::zeroed();
        input.read(&mut piece.0[..])?;
        Ok(piece)
    }
}

// The node's RPC gives pieces as hex strings of 2,097,344 characters (farming §9).
impl Serialize for Piece {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0[..]))
    }
}

impl<'de> Deserialize<'de> for Piece {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut piece = Self::zeroed();
        hex::decode_to_slice(text.as_bytes(), &mut piece.0[..]).map_err(serde::de::Error::custom)?;
        Ok(piece)
    }
}
