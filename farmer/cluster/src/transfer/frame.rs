//! Frames: header, kinds, bounds and payloads.

use super::payload::Payload;
use crate::contract::{LeaseKey, MAX_TEXT, PlotProgress, clip};
use bytes::{Bytes, BytesMut};
use parity_scale_codec::{Decode, DecodeAll, Encode, Error as CodecError};
use primitives::{Blake3Hash, Piece, PieceIndex, RecordCommitment, RecordWitness};

/// Most pieces in one request.
pub const MAX_PIECES_PER_REQUEST: usize = 256;
/// Bytes of a block of a sector; the last block of a sector has what is left.
pub const SECTOR_BLOCK_SIZE: usize = 1024 * 1024;
/// Bytes of a frame's header.
pub(crate) const HEADER_SIZE: usize = 16;
/// Bytes before a piece in its frame: index and hash.
pub(crate) const PIECE_PREFIX: usize = 8 + 32;
/// Bytes before a piece in a put: item, fence, index, hash.
pub(crate) const PUT_PREFIX: usize = 1 + 8 + 8 + 32;
/// Bytes before a block in its frame: its number.
pub(crate) const BLOCK_PREFIX: usize = 4;
/// Most blocks of a sector: of one with 65,535 pieces.
const MAX_BLOCKS: usize = 66_100;
/// Most bytes of a sector's metadata: 131,116 are due.
const MAX_SECTOR_METADATA: usize = 256 * 1024;

/// What is transferred of a piece (design §4, "Cache item types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ItemType {
    /// The piece: 1,048,672 bytes.
    #[codec(index = 0)]
    Piece,
    /// The piece with its record erasure-coded: 2,097,248 bytes.
    #[codec(index = 1)]
    SplitParityPiece,
}

impl ItemType {
    /// Bytes of an item.
    pub const fn size(self) -> usize {
        match self {
            Self::Piece => Piece::SIZE,
            Self::SplitParityPiece => {
                2 * primitives::pieces::Record::SIZE + RecordCommitment::SIZE + RecordWitness::SIZE
            }
        }
    }
}

/// What became of a piece that was put.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PutOutcome {
    /// It is stored.
    #[codec(index = 0)]
    Stored,
    /// It was there already.
    #[codec(index = 1)]
    AlreadyThere,
    /// There is no room.
    #[codec(index = 2)]
    Full,
    /// Its bytes did not have its hash when they arrived.
    #[codec(index = 3)]
    Damaged,
    /// Someone with a higher fencing number has put pieces here: whoever sent it leads no more.
    #[codec(index = 4)]
    StaleFence {
        /// The highest number seen.
        highest: u64,
    },
    /// It could not be stored.
    #[codec(index = 5)]
    Failed(String),
}

/// What a finished sector consists of.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SectorManifest {
    /// Bytes of the sector.
    pub size_bytes: u64,
    /// SCALE of the sector's metadata with its checksum (farming §3); at most 256 KiB.
    pub metadata: Vec<u8>,
    /// BLAKE3 of each block of 1 MiB.
    pub block_hashes: Vec<Blake3Hash>,
}

impl SectorManifest {
    /// Number of blocks.
    pub fn blocks(&self) -> u32 {
        self.block_hashes.len() as u32
    }

    /// Bytes of a block.
    pub fn block_size(&self, block: u32) -> usize {
        let start = u64::from(block) * SECTOR_BLOCK_SIZE as u64;
        (self.size_bytes.saturating_sub(start)).min(SECTOR_BLOCK_SIZE as u64) as usize
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.block_hashes.len() > MAX_BLOCKS || self.block_hashes.is_empty() {
            return Err("a sector of impossible size");
        }
        if self.size_bytes.div_ceil(SECTOR_BLOCK_SIZE as u64) != self.block_hashes.len() as u64 {
            return Err("a manifest whose number of blocks does not fit its size");
        }
        if self.metadata.len() > MAX_SECTOR_METADATA {
            return Err("sector metadata of more than 256 KiB");
        }
        Ok(())
    }
}

/// Why a request failed, for the peer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum RemoteError {
    #[codec(index = 0)]
    Failed(String),
    #[codec(index = 1)]
    UnknownSector,
    #[codec(index = 2)]
    GoingAway,
    #[codec(index = 3)]
    Protocol(String),
}

/// Kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    GetPieces = 0x01,
    PutPiece = 0x02,
    FetchSector = 0x03,
    AckSector = 0x04,
    Ping = 0x05,
    Piece = 0x81,
    Missing = 0x82,
    Done = 0x83,
    PutResult = 0x84,
    Progress = 0x85,
    Manifest = 0x86,
    Block = 0x87,
    Error = 0x88,
    Pong = 0x89,
}

const KINDS: [Kind; 14] = [
    Kind::GetPieces,
    Kind::PutPiece,
    Kind::FetchSector,
    Kind::AckSector,
    Kind::Ping,
    Kind::Piece,
    Kind::Missing,
    Kind::Done,
    Kind::PutResult,
    Kind::Progress,
    Kind::Manifest,
    Kind::Block,
    Kind::Error,
    Kind::Pong,
];

impl Kind {
    /// Most bytes of the payload.
    pub(crate) const fn max_payload(self) -> usize {
        match self {
            Self::GetPieces => 1 + 4 + 8 * MAX_PIECES_PER_REQUEST,
            Self::PutPiece => PUT_PREFIX + ItemType::SplitParityPiece.size(),
            Self::FetchSector | Self::AckSector => 64,
            Self::Ping | Self::Pong | Self::Done => 0,
            Self::Piece => PIECE_PREFIX + ItemType::SplitParityPiece.size(),
            Self::Missing => 8,
            Self::PutResult | Self::Progress | Self::Error => 2 * MAX_TEXT,
            Self::Manifest => 16 + MAX_SECTOR_METADATA + 4 + 32 * MAX_BLOCKS + 4,
            Self::Block => BLOCK_PREFIX + SECTOR_BLOCK_SIZE,
        }
    }
}

/// Header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) id: u64,
    pub(crate) length: usize,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let length = u32::try_from(self.length).expect("payloads are bounded by their kind");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[8..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// Checks kind and length before anything is read.
    pub(crate) fn decode(bytes: &[u8; HEADER_SIZE]) -> Result<Self, String> {
        let kind = KINDS
            .into_iter()
            .find(|kind| *kind as u8 == bytes[4])
            .ok_or_else(|| format!("a frame of unknown kind {:#04x}", bytes[4]))?;
        if bytes[5..8] != [0; 3] {
            return Err("a frame with reserved bits set".to_owned());
        }
        let length = u32::from_le_bytes(bytes[..4].try_into().expect("4 bytes")) as usize;
        if length > kind.max_payload() {
            let limit = kind.max_payload();
            return Err(format!("a {kind:?} frame of {length} bytes, at most {limit} are allowed"));
        }
        let id = u64::from_le_bytes(bytes[8..].try_into().expect("8 bytes"));
        Ok(Self { kind, id, length })
    }
}

/// A frame on its way out: header and small fields, then bytes that are sent from where they lie.
#[derive(Debug, Clone)]
pub(crate) struct OutFrame {
    pub(crate) head: Bytes,
    pub(crate) body: Payload,
}

impl OutFrame {
    pub(crate) fn new(kind: Kind, id: u64, fields: &[u8], body: impl Into<Payload>) -> Self {
        let body = body.into();
        let length = fields.len() + body.len();
        debug_assert!(length <= kind.max_payload(), "{kind:?} of {length} bytes");
        let mut head = BytesMut::with_capacity(HEADER_SIZE + fields.len());
        head.extend_from_slice(&Header { kind, id, length }.encode());
        head.extend_from_slice(fields);
        Self { head: head.freeze(), body }
    }

    pub(crate) fn small(kind: Kind, id: u64, fields: &[u8]) -> Self {
        Self::new(kind, id, fields, Bytes::new())
    }

    pub(crate) fn error(id: u64, error: RemoteError) -> Self {
        let error = match error {
            RemoteError::Failed(text) => RemoteError::Failed(clip(text)),
            RemoteError::Protocol(text) => RemoteError::Protocol(clip(text)),
            error => error,
        };
        Self::small(Kind::Error, id, &error.encode())
    }

    pub(crate) fn progress(id: u64, progress: PlotProgress) -> Self {
        let progress = match progress {
            PlotProgress::Failed { reason } => PlotProgress::Failed { reason: clip(reason) },
            progress => progress,
        };
        Self::small(Kind::Progress, id, &progress.encode())
    }

    pub(crate) fn put_result(id: u64, outcome: PutOutcome) -> Self {
        let outcome = match outcome {
            PutOutcome::Failed(text) => PutOutcome::Failed(clip(text)),
            outcome => outcome,
        };
        Self::small(Kind::PutResult, id, &outcome.encode())
    }
}

/// Payload of a get.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct GetPieces {
    pub(crate) item: ItemType,
    pub(crate) indices: Vec<PieceIndex>,
}

/// Payload of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FetchSector {
    pub(crate) key: LeaseKey,
    pub(crate) from_block: u32,
}

/// What stands before the bytes of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PutPrefix {
    pub(crate) item: ItemType,
    pub(crate) fence: u64,
    pub(crate) index: PieceIndex,
    pub(crate) hash: Blake3Hash,
}

/// What stands before the bytes of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct PiecePrefix {
    pub(crate) index: PieceIndex,
    pub(crate) hash: Blake3Hash,
}

/// Decodes all of a payload.
pub(crate) fn decode<T: Decode>(payload: &[u8], what: &str) -> Result<T, String> {
    let wrong = |error: CodecError| format!("a malformed {what}: {error}");
    T::decode_all(&mut &*payload).map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use primitives::{HistorySize, PublicKey};
    use proptest::prelude::*;

    #[test]
    fn sizes_of_prefixes_are_what_the_code_assumes() {
        let hash = Blake3Hash([1; 32]);
        assert_eq!(PiecePrefix { index: PieceIndex(1), hash }.encode().len(), PIECE_PREFIX);
        let put = PutPrefix { item: ItemType::Piece, fence: 1, index: PieceIndex(1), hash };
        assert_eq!(put.encode().len(), PUT_PREFIX);
        let key =
            LeaseKey { public_key: PublicKey([1; 32]), sector_index: 1, history_size: HistorySize::ONE };
        let fetch = FetchSector { key, from_block: 7 }.encode();
        assert!(fetch.len() <= Kind::FetchSector.max_payload());
        let get = GetPieces { item: ItemType::Piece, indices: vec![PieceIndex(u64::MAX); 256] };
        assert!(get.encode().len() <= Kind::GetPieces.max_payload());
        let manifest = SectorManifest {
            size_bytes: MAX_BLOCKS as u64 * SECTOR_BLOCK_SIZE as u64,
            metadata: vec![0; MAX_SECTOR_METADATA],
            block_hashes: vec![hash; MAX_BLOCKS],
        };
        manifest.check().unwrap();
        assert!(manifest.encode().len() <= Kind::Manifest.max_payload());
        let largest = primitives::SectorGeometry::new(u16::MAX).sector_size();
        assert!(largest.div_ceil(SECTOR_BLOCK_SIZE) <= MAX_BLOCKS);
    }

    #[test]
    fn manifests_that_lie_about_their_size_are_refused() {
        let manifest = |size_bytes, blocks| SectorManifest {
            size_bytes,
            metadata: vec![],
            block_hashes: vec![Blake3Hash([0; 32]); blocks],
        };
        let mib = SECTOR_BLOCK_SIZE as u64;
        for (size, blocks) in [(1, 1), (mib, 1), (mib + 1, 2), (5 * mib - 1, 5)] {
            let good = manifest(size, blocks);
            good.check().unwrap();
            let sum: usize = (0..good.blocks()).map(|block| good.block_size(block)).sum();
            assert_eq!(sum as u64, size);
        }
        for (size, blocks) in [(0, 0), (0, 1), (mib, 2), (mib + 1, 1), (u64::MAX, 3), (u64::MAX, 70_000)] {
            assert!(manifest(size, blocks).check().is_err(), "{size} {blocks}");
        }
    }

    #[test]
    fn texts_from_sources_are_cut() {
        let long = "x".repeat(10_000);
        for frame in [
            OutFrame::error(1, RemoteError::Failed(long.clone())),
            OutFrame::put_result(1, PutOutcome::Failed(long.clone())),
            OutFrame::progress(1, PlotProgress::Failed { reason: long }),
        ] {
            let header = Header::decode(frame.head[..HEADER_SIZE].try_into().unwrap()).unwrap();
            assert_eq!(header.length, frame.head.len() - HEADER_SIZE);
        }
    }

    proptest! {
        #[test]
        fn headers_are_bounded_whatever_they_say(bytes in any::<[u8; HEADER_SIZE]>()) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert!(header.length <= header.kind.max_payload());
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn headers_come_back(kind in 0..KINDS.len(), id in any::<u64>(), share in 0.0..=1.0) {
            let kind = KINDS[kind];
            let header = Header { kind, id, length: (kind.max_payload() as f64 * share) as usize };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn payloads_from_anyone_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode::<GetPieces>(&bytes, "get");
            let _ = decode::<FetchSector>(&bytes, "fetch");
            let _ = decode::<PutOutcome>(&bytes, "result");
            let _ = decode::<PlotProgress>(&bytes, "progress");
            let _ = decode::<RemoteError>(&bytes, "error");
            if let Ok(manifest) = decode::<SectorManifest>(&bytes, "manifest") {
                let _ = manifest.check();
            }
        }
    }
}
