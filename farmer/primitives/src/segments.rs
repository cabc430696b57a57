//! Segments of the archived history and their headers (archival §2).

use crate::BlockNumber;
use crate::bytes::{fixed_bytes, serde_as_text};
use crate::hashes::{Blake3Hash, blake3_hash};
use crate::pieces::{PieceIndex, Record};
use parity_scale_codec::{Decode, Encode, Error, Input};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;

fixed_bytes! {
    /// KZG commitment of a segment: compressed G1.
    SegmentCommitment, 48
}
serde_as_text!(SegmentCommitment);

/// Index of a segment of the archived history.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SegmentIndex(pub u64);

impl SegmentIndex {
    /// Raw records in a segment.
    pub const NUM_RAW_RECORDS: usize = 128;
    /// Pieces in a segment, source and parity.
    pub const NUM_PIECES: usize = 256;
    /// Bytes of recorded history in a segment.
    pub const RECORDED_HISTORY_SIZE: usize = Record::RAW_SIZE * Self::NUM_RAW_RECORDS;

    /// First piece of the segment.
    pub const fn first_piece_index(self) -> PieceIndex {
        PieceIndex(self.0 * Self::NUM_PIECES as u64)
    }

    /// Last piece of the segment.
    pub const fn last_piece_index(self) -> PieceIndex {
        PieceIndex(self.0 * Self::NUM_PIECES as u64 + Self::NUM_PIECES as u64 - 1)
    }

    /// All pieces in order of position.
    pub fn piece_indices(self) -> impl ExactSizeIterator<Item = PieceIndex> {
        let first = self.first_piece_index().0;
        (0..Self::NUM_PIECES).map(move |position| PieceIndex(first + position as u64))
    }

    /// All pieces, source pieces first, then parity pieces (archival §2.2).
    pub fn piece_indices_source_first(self) -> impl Iterator<Item = PieceIndex> {
        let first = self.first_piece_index().0;
        let position = move |position: usize| PieceIndex(first + position as u64);
        (0..Self::NUM_PIECES).step_by(2).chain((1..Self::NUM_PIECES).step_by(2)).map(position)
    }
}

impl fmt::Display for SegmentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of archived segments; never zero. SCALE: a plain u64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HistorySize(NonZeroU64);

impl HistorySize {
    /// One segment.
    pub const ONE: Self = Self(NonZeroU64::MIN);

    /// A history of `segments` segments; none for zero.
    pub const fn new(segments: u64) -> Option<Self> {
        match NonZeroU64::new(segments) {
            Some(segments) => Some(Self(segments)),
            None => None,
        }
    }

    /// Number of segments.
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// Index of the newest segment.
    pub const fn segment_index(self) -> SegmentIndex {
        SegmentIndex(self.0.get() - 1)
    }

    /// Number of pieces; saturates.
    pub const fn in_pieces(self) -> u64 {
        self.0.get().saturating_mul(SegmentIndex::NUM_PIECES as u64)
    }

    /// The history size at which the fate of a sector plotted at this one is decided (farming §2); none on overflow.
    pub const fn sector_expiration_check(self, min_sector_lifetime: Self) -> Option<Self> {
        match self.0.checked_add(min_sector_lifetime.get()) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl From<SegmentIndex> for HistorySize {
    fn from(index: SegmentIndex) -> Self {
        Self(NonZeroU64::MIN.saturating_add(index.0))
    }
}

impl fmt::Display for HistorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for HistorySize {
    fn size_hint(&self) -> usize {
        8
    }

    fn using_encoded<R, F: FnOnce(&[u8]) -> R>(&self, f: F) -> R {
        f(&self.get().to_le_bytes())
    }
}

impl Decode for HistorySize {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        Self::new(u64::decode(input)?).ok_or_else(|| Error::from("a history size of zero"))
    }
}

/// How much of a block has been archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ArchivedBlockProgress {
    /// The whole block.
    Complete,
    /// The first so many bytes.
    Partial(u32),
}

impl ArchivedBlockProgress {
    /// Bytes archived of a block that is not complete.
    pub const fn partial(self) -> Option<u32> {
        match self {
            Self::Complete => None,
            Self::Partial(bytes) => Some(bytes),
        }
    }
}

/// The newest block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastArchivedBlock {
    /// Block number.
    pub number: BlockNumber,
    /// How much of it is archived.
    pub archived_progress: ArchivedBlockProgress,
}

/// Header of an archived segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SegmentHeader {
    /// Version 0.
    #[codec(index = 0)]
    #[serde(rename_all = "camelCase")]
    V0 {
        /// Index of the segment.
        segment_index: SegmentIndex,
        /// Commitment of the segment.
        segment_commitment: SegmentCommitment,
        /// Hash of the previous segment's header; zeroes for segment 0.
        prev_segment_header_hash: Blake3Hash,
        /// Newest block of the segment.
        last_archived_block: LastArchivedBlock,
    },
}

impl SegmentHeader {
    /// BLAKE3 of the SCALE bytes.
    pub fn hash(&self) -> Blake3Hash {
        blake3_hash(&self.encode())
    }

    /// Index of the segment.
    pub const fn segment_index(&self) -> SegmentIndex {
        let Self::V0 { segment_index, .. } = self;
        *segment_index
    }

    /// Commitment of the segment.
    pub const fn segment_commitment(&self) -> SegmentCommitment {
        let Self::V0 { segment_commitment, .. } = self;
        *segment_commitment
    }

    /// Hash of the previous segment's header.
    pub const fn prev_segment_header_hash(&self) -> Blake3Hash {
        let Self::V0 { prev_segment_header_hash, .. } = self;
        *prev_segment_header_hash
    }

    /// Newest block of the segment.
    pub const fn last_archived_block(&self) -> LastArchivedBlock {
        let Self::V0 { last_archived_block, .. } = self;
        *last_archived_block
    }
}
