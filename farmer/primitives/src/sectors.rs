//! Sectors: identity, derivations and the geometry of their bytes (farming §2, §3).

use crate::bytes::{fixed_bytes, serde_as_text};
use crate::checksum::Blake3Checksummed;
use crate::hashes::{Blake3Hash, blake3_hash, blake3_hash_list, blake3_hash_list_with_key};
use crate::pieces::{PieceIndex, PieceOffset, Record, RecordCommitment, RecordWitness};
use crate::segments::{HistorySize, SegmentCommitment, SegmentIndex};
use parity_scale_codec::{Decode, Encode};

/// Index of a sector in its farm.
pub type SectorIndex = u16;

/// One of the 65,536 buckets that group a sector's chunks by the position they have in their extended record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct SBucket(pub u16);

fixed_bytes! {
    /// Identity of a sector: depends on the farm's key, its index and the history size it was plotted at.
    SectorId, 32
}
serde_as_text!(SectorId);

fixed_bytes! {
    /// Seed of the proof-of-space table of one record of a sector.
    PosSeed, 32
}

fixed_bytes! {
    /// What a slot asks of one sector.
    SectorSlotChallenge, 32
}

impl SectorSlotChallenge {
    /// The s-bucket to be audited.
    pub const fn s_bucket_audit_index(&self) -> SBucket {
        SBucket(u16::from_le_bytes([self.0[0], self.0[1]]))
    }
}

/// The remainder of a 256-bit little-endian number.
fn rem_u256_le(number: &[u8; 32], modulus: u64) -> u64 {
    number.as_chunks::<8>().0.iter().rev().fold(0, |remainder, limb| {
        let value = (u128::from(remainder) << 64) | u128::from(u64::from_le_bytes(*limb));
        (value % u128::from(modulus)) as u64
    })
}

impl SectorId {
    /// Identity of sector `sector_index` of the farm with this public key hash.
    pub fn new(public_key_hash: &Blake3Hash, sector_index: SectorIndex, history_size: HistorySize) -> Self {
        let parts: [&[u8]; 2] = [&sector_index.to_le_bytes(), &history_size.get().to_le_bytes()];
        Self(blake3_hash_list_with_key(&public_key_hash.0, &parts).0)
    }

    /// Index of the piece that stands at `piece_offset`.
    ///
    /// `max_pieces_in_sector` is the protocol's, even for sectors with fewer pieces.
    pub fn derive_piece_index(
        &self,
        piece_offset: PieceOffset,
        history_size: HistorySize,
        max_pieces_in_sector: u16,
        recent_segments: HistorySize,
        recent_history_fraction: (HistorySize, HistorySize),
    ) -> PieceIndex {
        const PIECES: u64 = SegmentIndex::NUM_PIECES as u64;
        let mut key = [0; 32];
        key[..2].copy_from_slice(&piece_offset.0.to_le_bytes());
        let hash = blake3_hash_list_with_key(&key, &[&self.0]);

        let pieces = history_size.in_pieces();
        let recent_pieces = recent_segments.in_pieces();
        let numerator = recent_history_fraction.0.in_pieces();
        let denominator = recent_history_fraction.1.in_pieces();
        let min_history = u128::from(recent_pieces) * u128::from(denominator) / u128::from(numerator);
        // The division comes before the doubling: that is the network's rounding.
        let share = u128::from(max_pieces_in_sector) * u128::from(numerator) / u128::from(denominator) * 2;
        let interleaved = share.max(1);

        let offset = piece_offset.0;
        if u128::from(pieces) > min_history && u128::from(offset) < interleaved && offset % 2 == 1 {
            PieceIndex(rem_u256_le(&hash.0, recent_pieces) + (pieces - recent_pieces))
        } else {
            debug_assert!(pieces >= PIECES);
            PieceIndex(rem_u256_le(&hash.0, pieces))
        }
    }

    /// Seed of the table of the record at `piece_offset`.
    pub fn derive_evaluation_seed(&self, piece_offset: PieceOffset) -> PosSeed {
        PosSeed(blake3_hash_list(&[&self.0, &piece_offset.0.to_le_bytes()]).0)
    }

    /// The challenge that the slot with `global_challenge` sets this sector.
    pub fn derive_sector_slot_challenge(&self, global_challenge: &Blake3Hash) -> SectorSlotChallenge {
        SectorSlotChallenge(std::array::from_fn(|i| self.0[i] ^ global_challenge.0[i]))
    }

    /// History size at which the sector expires; none on overflow.
    ///
    /// `check_segment_commitment` is that of the segment with index [`HistorySize::sector_expiration_check`] − 1.
    pub fn derive_expiration_history_size(
        &self,
        history_size: HistorySize,
        check_segment_commitment: &SegmentCommitment,
        min_sector_lifetime: HistorySize,
    ) -> Option<HistorySize> {
        let check = history_size.sector_expiration_check(min_sector_lifetime)?;
        let modulus = history_size
            .get()
            .checked_mul(4)?
            .checked_add(min_sector_lifetime.get())?
            .checked_sub(check.get())?;
        if modulus == 0 {
            return None;
        }
        let hash = blake3_hash_list(&[&self.0, &check_segment_commitment.0]);
        HistorySize::new(check.get().checked_add(rem_u256_le(&hash.0, modulus))?)
    }
}

/// Geometry of a sector with a given number of pieces; all sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorGeometry {
    /// Pieces, one record each.
    pub pieces_in_sector: u16,
}

impl SectorGeometry {
    /// Bytes of one record's bitfield in the contents map.
    pub const BITFIELD_SIZE: usize = Record::NUM_S_BUCKETS / 8;

    /// Geometry of a sector of `pieces_in_sector` pieces.
    pub const fn new(pieces_in_sector: u16) -> Self {
        Self { pieces_in_sector }
    }

    /// The bitfields and their checksum.
    pub const fn contents_map_size(self) -> usize {
        self.pieces_in_sector as usize * Self::BITFIELD_SIZE + Blake3Hash::SIZE
    }

    /// The chunks, ordered by s-bucket.
    pub const fn record_chunks_size(self) -> usize {
        self.pieces_in_sector as usize * Record::SIZE
    }

    /// The metadata of all records.
    pub const fn record_metadata_size(self) -> usize {
        self.pieces_in_sector as usize * RecordMetadata::SIZE
    }

    /// Where the record metadata begins in the sector.
    pub const fn record_metadata_offset(self) -> usize {
        self.contents_map_size() + self.record_chunks_size()
    }

    /// The whole sector with its checksum.
    pub const fn sector_size(self) -> usize {
        self.record_metadata_offset() + self.record_metadata_size() + Blake3Hash::SIZE
    }
}

/// What a sector keeps of each piece beside its chunks: 128 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct RecordMetadata {
    /// Record commitment.
    pub commitment: RecordCommitment,
    /// Record witness.
    pub witness: RecordWitness,
    /// BLAKE3 of the whole piece.
    pub piece_checksum: Blake3Hash,
}

impl RecordMetadata {
    /// Encoded size in bytes.
    pub const SIZE: usize = RecordCommitment::SIZE + RecordWitness::SIZE + Blake3Hash::SIZE;

    /// Metadata of a piece.
    pub fn of_piece(piece: &crate::Piece) -> Self {
        Self {
            commitment: piece.commitment(),
            witness: piece.witness(),
            piece_checksum: blake3_hash(piece.as_ref()),
        }
    }
}

/// Metadata of a plotted sector; on disk and on the wire followed by its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SectorMetadata {
    /// Index of the sector in its farm.
    pub sector_index: SectorIndex,
    /// Pieces in the sector.
    pub pieces_in_sector: u16,
    /// Chunks in each of the 65,536 s-buckets; SCALE: a fixed array without length.
    pub s_bucket_sizes: Box<[u16; Record::NUM_S_BUCKETS]>,
    /// History size at which it was plotted.
    pub history_size: HistorySize,
}

impl SectorMetadata {
    /// Bytes of the SCALE form with its checksum: 131,116.
    pub const ENCODED_SIZE: usize = 2 + 2 + 2 * Record::NUM_S_BUCKETS + 8 + Blake3Hash::SIZE;

    /// What stands for a sector that is not there: no chunks, history size 1, so that it counts as long expired.
    pub fn dummy(sector_index: SectorIndex, pieces_in_sector: u16) -> Self {
        Self {
            sector_index,
            pieces_in_sector,
            s_bucket_sizes: vec![0; Record::NUM_S_BUCKETS].try_into().expect("exactly 65,536 sizes"),
            history_size: HistorySize::ONE,
        }
    }

    /// Whether this is [`Self::dummy`]: a sector to be plotted anew.
    pub fn is_dummy(&self) -> bool {
        self.s_bucket_sizes.iter().all(|&size| size == 0)
    }

    /// Byte offset in the sector at which the chunks of `s_bucket` begin.
    pub fn s_bucket_offset(&self, s_bucket: SBucket) -> u64 {
        let chunks =
            self.s_bucket_sizes[..usize::from(s_bucket.0)].iter().map(|&size| u64::from(size)).sum::<u64>();
        SectorGeometry::new(self.pieces_in_sector).contents_map_size() as u64 + chunks * 32
    }
}

/// A sector as announced to the network.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PlottedSector {
    /// Identity.
    pub sector_id: SectorId,
    /// Index in its farm.
    pub sector_index: SectorIndex,
    /// Metadata with its checksum.
    pub sector_metadata: Blake3Checksummed<SectorMetadata>,
    /// The piece at each offset.
    pub piece_indexes: Vec<PieceIndex>,
}

impl crate::PublicKey {
    /// Identity of this farm's sector `sector_index` plotted at `history_size`.
    pub fn sector_id(&self, sector_index: SectorIndex, history_size: HistorySize) -> SectorId {
        SectorId::new(&blake3_hash(&self.0), sector_index, history_size)
    }
}
