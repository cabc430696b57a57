//! Everything a prover has to know.

use crate::sector::{Bitfield, Chunk, StoredChunks, zeroed_box};
use parity_scale_codec::{Decode, Encode, Error, Input, Output};
use primitives::pieces::Record;
use primitives::sectors::RecordMetadata;
use primitives::{
    Blake3Hash, HistorySize, PieceOffset, PublicKey, SBucket, SectorGeometry, SectorId, SectorIndex,
    SlotNumber,
};

/// One winning chunk with the record it belongs to: 1,057,018 bytes in SCALE, always.
#[derive(Clone, PartialEq, Eq)]
pub struct ProofInput {
    /// The slot to be answered.
    pub slot_number: SlotNumber,
    /// Its global challenge.
    pub global_challenge: Blake3Hash,
    /// The farm's key.
    pub public_key: PublicKey,
    /// Who is paid.
    pub reward_address: PublicKey,
    /// Sector in the farm.
    pub sector_index: SectorIndex,
    /// History size at which it was plotted.
    pub history_size: HistorySize,
    /// Pieces in it.
    pub pieces_in_sector: u16,
    /// The record in it.
    pub piece_offset: PieceOffset,
    /// The audited s-bucket.
    pub s_bucket: SBucket,
    /// Place of the winning chunk among `chunks`, 0..32,768.
    pub chunk_index: u16,
    /// Which s-buckets hold an encoded chunk of the record.
    pub contents: Box<Bitfield>,
    /// The record's chunks as the sector stores them (masked), in s-bucket order.
    pub chunks: StoredChunks,
    /// The record's commitment, witness and piece checksum.
    pub metadata: RecordMetadata,
}

impl ProofInput {
    /// Bytes of the SCALE form: fields in order of declaration, arrays without a length.
    pub const SIZE: usize =
        8 + 3 * 32 + 2 + 8 + 4 * 2 + SectorGeometry::BITFIELD_SIZE + Record::SIZE + RecordMetadata::SIZE;

    /// Identity of the sector.
    pub fn sector_id(&self) -> SectorId {
        self.public_key.sector_id(self.sector_index, self.history_size)
    }
}

impl std::fmt::Debug for ProofInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProofInput")
            .field("slot_number", &self.slot_number)
            .field("public_key", &self.public_key)
            .field("sector_index", &self.sector_index)
            .field("history_size", &self.history_size)
            .field("piece_offset", &self.piece_offset)
            .field("s_bucket", &self.s_bucket)
            .finish_non_exhaustive()
    }
}

/// The fields in front of the arrays.
type Head = (SlotNumber, [Blake3Hash; 1], [PublicKey; 2], SectorIndex, HistorySize, [u16; 4]);

impl Encode for ProofInput {
    fn size_hint(&self) -> usize {
        Self::SIZE
    }

    fn encode_to<O: Output + ?Sized>(&self, dest: &mut O) {
        let numbers = [self.pieces_in_sector, self.piece_offset.0, self.s_bucket.0, self.chunk_index];
        let head: Head = (
            self.slot_number,
            [self.global_challenge],
            [self.public_key, self.reward_address],
            self.sector_index,
            self.history_size,
            numbers,
        );
        head.encode_to(dest);
        dest.write(&self.contents[..]);
        dest.write(self.chunks.as_flattened());
        self.metadata.encode_to(dest);
    }
}

impl Decode for ProofInput {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        let head = Head::decode(input)?;
        let (
            slot_number,
            [global_challenge],
            [public_key, reward_address],
            sector_index,
            history_size,
            numbers,
        ) = head;
        let [pieces_in_sector, piece_offset, s_bucket, chunk_index] = numbers;
        if piece_offset >= pieces_in_sector {
            return Err(Error::from("a piece offset outside of the sector"));
        }
        if usize::from(chunk_index) >= Record::NUM_CHUNKS {
            return Err(Error::from("a chunk index outside of the record"));
        }
        // Sizes are fixed: nothing the sender says decides what is allocated here.
        let mut contents: Box<Bitfield> = zeroed_box();
        input.read(&mut contents[..])?;
        let mut chunks = zeroed_box::<Chunk, { Record::NUM_CHUNKS }>();
        input.read(chunks.as_flattened_mut())?;
        Ok(Self {
            slot_number,
            global_challenge,
            public_key,
            reward_address,
            sector_index,
            history_size,
            pieces_in_sector,
            piece_offset: PieceOffset(piece_offset),
            s_bucket: SBucket(s_bucket),
            chunk_index,
            contents,
            chunks,
            metadata: RecordMetadata::decode(input)?,
        })
    }
}
