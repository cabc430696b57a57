//! The file beside a spooled sector that makes it a finished one: what it is, its metadata, the hash of each block.
//!
//! magic ‖ version u16 ‖ SCALE body ‖ BLAKE3 of everything before; integers little-endian.

use super::super::leases::SectorRequest;
use cluster::contract::LeaseKey;
use cluster::transfer::SectorManifest;
use parity_scale_codec::{Decode, Encode};
use primitives::hashes::blake3_hash;
use primitives::rpc::FarmerProtocolInfo;
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Checksummed, Blake3Hash, HistorySize, PublicKey, SectorGeometry, SectorIndex};

/// First bytes of a header file.
const MAGIC: [u8; 8] = *b"ATNSPOOL";
/// Version written and understood.
const VERSION: u16 = 1;
/// Bytes of a block that is hashed by itself.
pub const BLOCK_SIZE: usize = cluster::transfer::SECTOR_BLOCK_SIZE;
/// No header is longer: that of the largest possible sector has about 2.2 MB.
pub const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Why a header was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not such a file.
    #[error("does not begin with {:?}", String::from_utf8_lossy(&MAGIC))]
    Magic,
    /// Another version's.
    #[error("has version {0}, this build knows {VERSION}")]
    Version(u16),
    /// It was cut off or changed.
    #[error("its checksum does not match its bytes")]
    Checksum,
    /// The body contradicts itself.
    #[error("{0}")]
    Body(String),
}

/// What is known of a finished sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolHeader {
    /// What was asked for.
    pub request: SectorRequest,
    /// Metadata of the sector.
    pub metadata: SectorMetadata,
    /// BLAKE3 of each block of [`BLOCK_SIZE`] bytes; the last may be shorter.
    pub block_hashes: Vec<Blake3Hash>,
}

#[derive(Encode, Decode)]
struct Body {
    public_key: PublicKey,
    sector_index: SectorIndex,
    history_size: HistorySize,
    pieces_in_sector: u16,
    protocol_info: FarmerProtocolInfo,
    metadata: SectorMetadata,
    block_hashes: Vec<Blake3Hash>,
}

impl SpoolHeader {
    /// Bytes of the sector.
    pub fn sector_size(&self) -> u64 {
        SectorGeometry::new(self.request.pieces_in_sector).sector_size() as u64
    }

    /// What a plot-client has to know of the sector.
    pub fn manifest(&self) -> SectorManifest {
        SectorManifest {
            size_bytes: self.sector_size(),
            metadata: Blake3Checksummed(self.metadata.clone()).encode(),
            block_hashes: self.block_hashes.clone(),
        }
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let SectorRequest { key, pieces_in_sector, protocol_info } = self.request;
        let body = Body {
            public_key: key.public_key,
            sector_index: key.sector_index,
            history_size: key.history_size,
            pieces_in_sector,
            protocol_info,
            metadata: self.metadata.clone(),
            block_hashes: self.block_hashes.clone(),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        body.encode_to(&mut bytes);
        bytes.extend_from_slice(blake3_hash(&bytes).as_ref());
        bytes
    }

    /// Parses the bytes of the file.
    ///
    /// # Errors
    /// All of [`HeaderError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(HeaderError::Magic)?;
        let (version, rest) = rest.split_first_chunk().ok_or(HeaderError::Checksum)?;
        let version = u16::from_le_bytes(*version);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let (mut body, checksum) = rest.split_last_chunk::<32>().ok_or(HeaderError::Checksum)?;
        if blake3_hash(&bytes[..bytes.len() - 32]).0 != *checksum {
            return Err(HeaderError::Checksum);
        }
        let decoded = Body::decode(&mut body).map_err(|error| HeaderError::Body(error.to_string()))?;
        if !body.is_empty() {
            return Err(HeaderError::Body(format!("{} bytes too many", body.len())));
        }
        Self::from_body(decoded)
    }

    fn from_body(body: Body) -> Result<Self, HeaderError> {
        let Body {
            public_key,
            sector_index,
            history_size,
            pieces_in_sector,
            protocol_info,
            metadata,
            block_hashes,
        } = body;
        let key = LeaseKey { public_key, sector_index, history_size };
        let header =
            Self { request: SectorRequest { key, pieces_in_sector, protocol_info }, metadata, block_hashes };
        let metadata = &header.metadata;
        let same = metadata.sector_index == sector_index
            && metadata.history_size == history_size
            && metadata.pieces_in_sector == pieces_in_sector;
        if !same {
            return Err(HeaderError::Body("its metadata is that of another sector".into()));
        }
        let blocks = header.sector_size().div_ceil(BLOCK_SIZE as u64);
        if header.block_hashes.len() as u64 != blocks {
            let found = header.block_hashes.len();
            return Err(HeaderError::Body(format!("{found} block hashes, {blocks} are due")));
        }
        Ok(header)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(in super::super) mod tests {
    use super::*;

    pub(in super::super) fn request(pieces_in_sector: u16, sector_index: SectorIndex) -> SectorRequest {
        let size = |n| HistorySize::new(n).unwrap();
        SectorRequest {
            key: LeaseKey { public_key: PublicKey([9; 32]), sector_index, history_size: size(3) },
            pieces_in_sector,
            protocol_info: FarmerProtocolInfo {
                history_size: size(3),
                max_pieces_in_sector: 1000,
                recent_segments: size(5),
                recent_history_fraction: (size(1), size(10)),
                min_sector_lifetime: size(4),
            },
        }
    }

    pub(in super::super) fn metadata(request: &SectorRequest) -> SectorMetadata {
        let mut metadata = SectorMetadata::dummy(request.key.sector_index, request.pieces_in_sector);
        metadata.history_size = request.key.history_size;
        metadata
    }

    fn header() -> SpoolHeader {
        let request = request(2, 7);
        let metadata = metadata(&request);
        SpoolHeader {
            request,
            metadata,
            block_hashes: vec![Blake3Hash([1; 32]), Blake3Hash([2; 32]), Blake3Hash([3; 32])],
        }
    }

    #[test]
    fn round_trip_and_every_kind_of_damage() {
        let header = header();
        let bytes = header.to_bytes();
        assert!((bytes.len() as u64) < SIZE_MAX);
        assert_eq!(SpoolHeader::from_bytes(&bytes).unwrap(), header);
        assert_eq!(SpoolHeader::from_bytes(b"ATN"), Err(HeaderError::Magic));
        assert_eq!(SpoolHeader::from_bytes(&bytes[..9]), Err(HeaderError::Checksum));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert_eq!(SpoolHeader::from_bytes(&newer), Err(HeaderError::Version(2)));
        for position in (10..bytes.len()).step_by(4999) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            assert_eq!(SpoolHeader::from_bytes(&damaged), Err(HeaderError::Checksum), "byte {position}");
            assert_eq!(
                SpoolHeader::from_bytes(&bytes[..position]),
                Err(HeaderError::Checksum),
                "cut at {position}"
            );
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let mut other = header();
        other.metadata.sector_index = 8;
        assert!(matches!(SpoolHeader::from_bytes(&other.to_bytes()), Err(HeaderError::Body(_))));
        let mut short = header();
        short.block_hashes.pop();
        assert!(matches!(SpoolHeader::from_bytes(&short.to_bytes()), Err(HeaderError::Body(_))));
    }
}
