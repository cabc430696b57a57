//! What a segment consists of (archival §7).

use parity_scale_codec::{Decode, Encode};
use primitives::SegmentHeader;
use primitives::blocks::compact_length_size;

/// One item of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SegmentItem {
    /// One zero byte of padding; decoded, never written as an item.
    #[codec(index = 0)]
    Padding,
    /// A whole block.
    #[codec(index = 1)]
    Block(Vec<u8>),
    /// The first bytes of a block that the next segment continues.
    #[codec(index = 2)]
    BlockStart(Vec<u8>),
    /// More bytes of the block that an earlier segment started.
    #[codec(index = 3)]
    BlockContinuation(Vec<u8>),
    /// Header of the previous segment; the first item of every segment but the first.
    #[codec(index = 4)]
    ParentSegmentHeader(SegmentHeader),
}

/// A segment's bytes that are no sequence of items.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentItemError {
    /// The segment's first byte is not a known version.
    #[error("expected segment version 0, found {0:?}")]
    Version(Option<u8>),
    /// An item does not decode.
    #[error("byte {offset} of the segment: no segment item: {source}")]
    Item {
        /// Where the item starts in the segment.
        offset: usize,
        /// What is wrong with it.
        source: parity_scale_codec::Error,
    },
}

impl SegmentItem {
    /// Bytes of block data in the item; zero for the items that have none.
    pub fn data_length(&self) -> usize {
        self.data().map_or(0, <[u8]>::len)
    }

    fn data(&self) -> Option<&[u8]> {
        match self {
            Self::Block(bytes) | Self::BlockStart(bytes) | Self::BlockContinuation(bytes) => Some(bytes),
            Self::Padding | Self::ParentSegmentHeader(_) => None,
        }
    }

    /// Bytes before the block data: index and length.
    pub(crate) fn prefix_length(&self) -> usize {
        1 + self.data().map_or(0, |data| compact_length_size(data.len()))
    }

    /// Bytes of the encoded item.
    pub(crate) fn encoded_length(&self) -> usize {
        match self {
            Self::ParentSegmentHeader(header) => 1 + header.encoded_size(),
            _ => self.prefix_length() + self.data_length(),
        }
    }

    /// Decodes all items of a segment, whatever its length, padding left out.
    ///
    /// # Errors
    /// When the version is unknown or an item does not decode.
    pub fn decode_segment(bytes: &[u8]) -> Result<Vec<Self>, SegmentItemError> {
        let Some((0, mut input)) = bytes.split_first() else {
            return Err(SegmentItemError::Version(bytes.first().copied()));
        };
        let mut items = Vec::new();
        while !input.is_empty() {
            let offset = bytes.len() - input.len();
            match Self::decode(&mut input) {
                Ok(Self::Padding) => {}
                Ok(item) => items.push(item),
                Err(source) => return Err(SegmentItemError::Item { offset, source }),
            }
        }
        Ok(items)
    }
}
