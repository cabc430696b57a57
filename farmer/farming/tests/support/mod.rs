//! Sectors made cheaply: masks come from a hash instead of a table, commitments are made up.
#![allow(dead_code, reason = "each test binary uses its share")]

use farming::encoding::{
    EncodedSector, PieceInput, RecordEncoder, RecordEncoderError, SectorEncoder, SectorPlan, encode_chunks,
};
use farming::plot::{Farm, FarmMode, FarmOptions, FarmSpace};
use farming::sector::{Bitfield, Chunk};
use primitives::pieces::Record;
use primitives::rpc::GenesisHash;
use primitives::sectors::PosSeed;
use primitives::{
    Blake3Hash, FarmerProtocolInfo, HistorySize, Piece, PieceOffset, PublicKey, RecordCommitment,
    RecordWitness, SBucket, SectorIndex,
};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub(crate) const GENESIS: GenesisHash = GenesisHash([0x67; 32]);

pub(crate) fn history(segments: u64) -> HistorySize {
    HistorySize::new(segments).unwrap()
}

pub(crate) fn protocol_info(history_size: u64, max_pieces_in_sector: u16) -> FarmerProtocolInfo {
    FarmerProtocolInfo {
        history_size: history(history_size),
        max_pieces_in_sector,
        recent_segments: history(5),
        recent_history_fraction: (history(1), history(10)),
        min_sector_lifetime: history(4),
    }
}

/// A piece with a record of valid scalars; commitment and witness are made up.
pub(crate) fn piece(label: &str) -> Piece {
    let mut piece = Piece::zeroed();
    let bytes = vectors::xof(label, 31 * Record::NUM_CHUNKS);
    for (chunk, bytes) in piece.record_chunks_mut().iter_mut().zip(bytes.as_chunks::<31>().0) {
        chunk[1..].copy_from_slice(bytes);
    }
    let made_up = |kind| vectors::xof(&format!("{label}/{kind}"), 48).try_into().unwrap();
    piece.set_commitment(&RecordCommitment(made_up("commitment")));
    piece.set_witness(&RecordWitness(made_up("witness")));
    piece
}

/// Masks the chunks of two of three s-buckets by hashes of seed and s-bucket.
pub(crate) struct FakeEncoder;

impl RecordEncoder for FakeEncoder {
    fn encode_record(
        &mut self,
        seed: &PosSeed,
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        let source = chunks.to_vec();
        let extended: Vec<Chunk> = (0..Record::NUM_S_BUCKETS).map(|bucket| source[bucket / 2]).collect();
        let extended: Box<[Chunk; Record::NUM_S_BUCKETS]> = extended.try_into().unwrap();
        encode_chunks(&extended, chunks, contents, |visit| {
            for bucket in (0..=u16::MAX).filter(|bucket| bucket % 3 > 0) {
                let hash = blake3::keyed_hash(&seed.0, &bucket.to_le_bytes());
                if visit(SBucket(bucket), &Blake3Hash(*hash.as_bytes())) == ControlFlow::Break(()) {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// Encodes a sector with these encoders and pieces labelled by their offset.
pub(crate) fn encode_with(
    encoders: Vec<Box<dyn RecordEncoder>>,
    plan: &SectorPlan,
    label: &str,
) -> EncodedSector {
    let pieces = |offset: PieceOffset| Ok(PieceInput::Piece(piece(&format!("{label}/{offset}"))));
    SectorEncoder::new(encoders).encode(plan, &pieces, &|_| {}, &AtomicBool::new(false)).unwrap()
}

/// A sector of a farm, not provable but sound.
pub(crate) fn fake_sector(
    public_key: PublicKey,
    sector_index: SectorIndex,
    pieces_in_sector: u16,
    history_size: u64,
) -> EncodedSector {
    let info = protocol_info(history_size, 1000);
    let plan = SectorPlan::new(public_key, sector_index, pieces_in_sector, info).unwrap();
    encode_with(vec![Box::new(FakeEncoder)], &plan, &format!("sector {sector_index} at {history_size}"))
}

pub(crate) fn farm_options(directory: &Path, pieces_in_sector: u16, sectors: u16) -> FarmOptions {
    FarmOptions {
        directory: directory.to_owned(),
        genesis_hash: Some(GENESIS),
        max_pieces_in_sector: Some(1000),
        pieces_in_sector,
        space: FarmSpace::Sectors(sectors),
        allow_shrink: false,
        mode: FarmMode::Create,
    }
}

/// Writes a sector to a farm.
pub(crate) fn store(farm: &Arc<Farm>, sector: &EncodedSector) {
    let mut writer = farm.write_sector(sector.metadata().sector_index).unwrap();
    sector.write_to(&mut writer).unwrap();
    writer.flush().unwrap();
    writer.finish(sector.metadata()).unwrap();
}
