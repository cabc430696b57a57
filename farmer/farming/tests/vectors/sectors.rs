//! `farming/sectors.json`, `farming/audits.json` and the making of `farming/solutions.json`.

use crate::solutions::{SolutionCase, Solutions};
use crate::{development_kzg, live_kzg};
use archiving::archiver::Archiver;
use archiving::{Kzg, Polynomial, Scalar, erasure};
use farming::audit::{AuditScratch, audit_sector};
use farming::encoding::{EncodedSector, PieceInput, SectorEncoder, SectorPlan};
use farming::plot::SectorState;
use farming::proving::{CpuProver, ProofInput, ProofTarget, Prover, prepare_proof_request, provable_chunks};
use farming::sector::{ContentsMap, RecordChunksMode, SectorReader, source_piece};
use parity_scale_codec::{Decode, Encode};
use primitives::hashes::blake3_hash;
use primitives::objects::BlockObjectMapping;
use primitives::pot::PotOutput;
use primitives::sectors::{RecordMetadata, SectorMetadata};
use primitives::{
    Blake3Checksummed, Blake3Hash, FarmerProtocolInfo, Piece, PieceIndex, PieceOffset, PublicKey,
    RecordWitness, SBucket, SectorId, SegmentHeader, Solution,
};
use proof_of_space::TableGenerator;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use vectors::{Decimal, Hex};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    archived_segment: ArchivedSegment,
    notes: Notes,
    sectors: Vec<Sector>,
    seed: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Notes {
    piece_recipe: String,
    public_key_recipe: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchivedSegment {
    first_pieces_blake3: Vec<Blake3Hash>,
    segment_header_hash: Blake3Hash,
    segment_header_json: serde_json::Value,
    segment_header_scale: Hex,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sector {
    bitfield_blake3_per_record: Vec<Blake3Hash>,
    contents_map_blake3: Blake3Hash,
    contents_map_checksum: Blake3Hash,
    contents_map_size: usize,
    evaluation_seeds: Vec<Hex>,
    farmer_protocol_info: FarmerProtocolInfo,
    farmer_protocol_info_scale: Hex,
    name: String,
    num_encoded_chunks_per_record: Vec<u32>,
    piece_blake3: Vec<Blake3Hash>,
    piece_indices: Vec<PieceIndex>,
    pieces_in_sector: u16,
    plotted_sector_scale_blake3: Blake3Hash,
    plotted_sector_scale_size: usize,
    public_key: PublicKey,
    record_chunks_blake3: Blake3Hash,
    record_chunks_size: usize,
    record_metadata_blake3: Blake3Hash,
    record_metadata_hex: Hex,
    record_metadata_size: usize,
    s_bucket_sizes_first64: Vec<u16>,
    samples: Vec<Sample>,
    sector_blake3: Blake3Hash,
    sector_checksum: Blake3Hash,
    sector_id: SectorId,
    sector_index: u16,
    sector_metadata_blake3: Blake3Hash,
    sector_metadata_first36: Hex,
    sector_metadata_last40: Hex,
    sector_metadata_scale: Option<Hex>,
    sector_metadata_size: usize,
    sector_size: usize,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sample {
    chunks: Vec<SampleChunk>,
    first_chunk_index: usize,
    s_bucket: u16,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SampleChunk {
    chunk: Hex,
    encoded: bool,
    piece_offset: u16,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Audits {
    audits: Vec<Audit>,
    seed: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Audit {
    candidates: Vec<Candidate>,
    global_challenge: Blake3Hash,
    pot_output: PotOutput,
    s_bucket_audit_index: u16,
    s_bucket_chunks: u16,
    s_bucket_offset_in_sector: u64,
    sector: String,
    slot: Decimal,
    solution_range: Decimal,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Candidate {
    chunk_offset: u16,
    distance: Decimal,
    encoded: bool,
    piece_offset: u16,
}

/// A plotted sector of the vectors.
struct Plotted {
    bytes: Vec<u8>,
    state: Arc<SectorState>,
    pieces: Vec<Piece>,
}

/// Where pieces come from.
enum Source<'a> {
    /// Recomputed in full: commitments under this string, the segment by archiving.
    Kzg(&'a Kzg),
    /// Without a string: records are recomputed, commitments and witnesses taken from the vector's metadata.
    Metadata,
}

fn source_chunk(bytes: &[u8]) -> [u8; 32] {
    let mut chunk = [0; 32];
    chunk[1..].copy_from_slice(bytes);
    chunk
}

/// Record chunks of `synthetic-*` pieces: 31-byte groups of a label's output, each behind a zero byte.
fn synthetic_record(seed: &str, index: PieceIndex) -> Vec<[u8; 32]> {
    let bytes = vectors::xof(&format!("{seed}/record/{index}"), 31 * 32768);
    bytes.as_chunks::<31>().0.iter().map(|group| source_chunk(group)).collect()
}

/// Record chunks of the segment made of one block, at some positions, by erasure coding alone.
fn archived_records(seed: &str, indices: &[PieceIndex]) -> HashMap<PieceIndex, Vec<[u8; 32]>> {
    const SEGMENT: usize = 130_023_424;
    // One byte for the segment, five for the block that continues behind it: 00, 02, compact length.
    let mut segment = vec![0; SEGMENT];
    segment[1] = 2;
    let length = ((SEGMENT as u32 - 6) << 2) | 2;
    segment[2..6].copy_from_slice(&length.to_le_bytes());
    vectors::xof_into(&format!("{seed}/block/0"), &mut segment[6..]);
    let raw = segment.as_chunks::<31>().0;
    let source = |record: usize, chunk: usize| source_chunk(&raw[record * 32768 + chunk]);
    let mut records: HashMap<_, Vec<[u8; 32]>> = HashMap::new();
    for chunk in 0..32768 {
        let column: Vec<Scalar> =
            (0..128).map(|record| Scalar::from_bytes(&source(record, chunk)).unwrap()).collect();
        let parity = erasure::extend(&column).unwrap();
        for index in indices {
            let half = index.position() / 2;
            let value = if index.is_source() { source(half, chunk) } else { parity[half].to_bytes() };
            records.entry(*index).or_default().push(value);
        }
    }
    records
}

impl Sector {
    fn is_archived(&self) -> bool {
        self.name.starts_with("archived-")
    }

    /// The pieces at each offset.
    fn pieces(&self, seed: &str, source: &Source<'_>, segment: &[Piece]) -> Vec<Piece> {
        if self.is_archived() && matches!(source, Source::Kzg(_)) {
            return self.piece_indices.iter().map(|index| segment[index.position()].clone()).collect();
        }
        let archived = match self.is_archived() {
            true => archived_records(seed, &self.piece_indices),
            false => HashMap::new(),
        };
        let metadata = self.record_metadata_hex.as_chunks::<128>().0;
        let pieces = self.piece_indices.iter().zip(metadata).map(|(index, metadata)| {
            let metadata = RecordMetadata::decode(&mut &metadata[..]).unwrap();
            let chunks = archived.get(index).cloned().unwrap_or_else(|| synthetic_record(seed, *index));
            let mut piece = Piece::zeroed();
            piece.record_chunks_mut().copy_from_slice(&chunks);
            match source {
                Source::Metadata => {
                    piece.set_commitment(&metadata.commitment);
                    piece.set_witness(&metadata.witness);
                }
                Source::Kzg(kzg) => {
                    let scalars: Vec<_> =
                        chunks.iter().map(|chunk| Scalar::from_bytes(chunk).unwrap()).collect();
                    let polynomial = Polynomial::interpolate(&scalars).unwrap();
                    piece.set_commitment(&kzg.commit(&polynomial).into());
                    let witness = vectors::xof(&format!("{seed}/witness/{index}"), 48);
                    piece.set_witness(&RecordWitness(witness.try_into().unwrap()));
                }
            }
            piece
        });
        pieces.collect()
    }

    fn plot(&self, seed: &str, source: &Source<'_>, segment: &[Piece]) -> Plotted {
        assert_eq!(
            self.public_key.0.to_vec(),
            vectors::xof(&format!("{seed}/pk/farm"), 32),
            "all sectors are of one farm"
        );
        assert_eq!(self.farmer_protocol_info.encode(), self.farmer_protocol_info_scale.0);
        let info = FarmerProtocolInfo::decode(&mut &self.farmer_protocol_info_scale[..]).unwrap();
        assert_eq!(info, self.farmer_protocol_info);
        let plan = SectorPlan::new(self.public_key, self.sector_index, self.pieces_in_sector, info).unwrap();
        assert_eq!(plan.sector_id(), self.sector_id);
        assert_eq!(plan.piece_indexes(), self.piece_indices);
        for (offset, seed) in self.evaluation_seeds.iter().enumerate() {
            assert_eq!(plan.evaluation_seed(PieceOffset(offset as u16)).0[..], seed[..]);
        }
        assert_eq!(self.evaluation_seeds.len(), usize::from(self.pieces_in_sector));

        let pieces = self.pieces(seed, source, segment);
        let hashes: Vec<_> = pieces.iter().map(|piece| blake3_hash(piece.as_ref())).collect();
        assert_eq!(hashes, self.piece_blake3, "{}: pieces", self.name);
        let reported = AtomicU16::new(0);
        let encoded = SectorEncoder::cpu(rayon::current_num_threads())
            .encode(
                &plan,
                &|offset: PieceOffset| Ok(PieceInput::Piece(pieces[usize::from(offset.0)].clone())),
                &|progress| {
                    assert_eq!(progress.total, self.pieces_in_sector);
                    reported.fetch_add(1, Ordering::Relaxed);
                },
                &AtomicBool::new(false),
            )
            .unwrap();
        assert_eq!(reported.into_inner(), self.pieces_in_sector);
        let bytes = encoded.to_bytes();
        self.check_bytes(&bytes);
        self.check_metadata(&encoded);
        let mut state = SectorState::from_metadata(&self.public_key, encoded.metadata()).unwrap();
        assert_eq!(state.sector_id, self.sector_id);
        assert_eq!(state.metadata(), *encoded.metadata());
        // The sector stands alone in memory.
        state.plot_offset = 0;
        Plotted { bytes, state: Arc::new(state), pieces }
    }

    fn check_bytes(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.sector_size);
        let (map, rest) = bytes.split_at(self.contents_map_size);
        let (chunks, rest) = rest.split_at(self.record_chunks_size);
        let (metadata, checksum) = rest.split_at(self.record_metadata_size);
        assert_eq!(blake3_hash(map), self.contents_map_blake3);
        assert_eq!(&map[map.len() - 32..], self.contents_map_checksum.as_ref());
        assert_eq!(blake3_hash(chunks), self.record_chunks_blake3, "{}: chunks", self.name);
        assert_eq!(blake3_hash(metadata), self.record_metadata_blake3);
        assert_eq!(metadata, &self.record_metadata_hex[..]);
        assert_eq!(checksum, self.sector_checksum.as_ref());
        assert_eq!(blake3_hash(bytes), self.sector_blake3);

        let contents = ContentsMap::from_bytes(map, self.pieces_in_sector).unwrap();
        let fields: Vec<_> = contents.records().map(|record| blake3_hash(record.bitfield())).collect();
        assert_eq!(fields, self.bitfield_blake3_per_record);
        let counts: Vec<_> = contents.records().map(|record| record.encoded_chunks()).collect();
        assert_eq!(counts, self.num_encoded_chunks_per_record);
        let sizes = contents.s_bucket_sizes();
        assert_eq!(self.samples.len(), 24);
        for sample in &self.samples {
            let before = &sizes[..usize::from(sample.s_bucket)];
            let first: usize = before.iter().map(|&size| usize::from(size)).sum();
            assert_eq!(first, sample.first_chunk_index);
            let found: Vec<_> = contents.s_bucket_records(SBucket(sample.s_bucket)).collect();
            let expected: Vec<_> =
                sample.chunks.iter().map(|chunk| (PieceOffset(chunk.piece_offset), chunk.encoded)).collect();
            assert_eq!(found, expected);
            for (place, chunk) in sample.chunks.iter().enumerate() {
                assert_eq!(chunks[(first + place) * 32..][..32], chunk.chunk[..]);
            }
        }
    }

    fn check_metadata(&self, encoded: &EncodedSector) {
        let metadata = Blake3Checksummed(encoded.metadata().clone()).encode();
        assert_eq!(metadata.len(), self.sector_metadata_size);
        assert_eq!(metadata.len(), SectorMetadata::ENCODED_SIZE);
        assert_eq!(blake3_hash(&metadata), self.sector_metadata_blake3);
        assert_eq!(metadata[..36], self.sector_metadata_first36[..]);
        assert_eq!(metadata[metadata.len() - 40..], self.sector_metadata_last40[..]);
        assert_eq!(self.sector_metadata_scale.is_some(), self.name == "synthetic-2");
        if let Some(expected) = &self.sector_metadata_scale {
            assert_eq!(metadata, expected.0);
        }
        assert_eq!(encoded.metadata().s_bucket_sizes[..64], self.s_bucket_sizes_first64[..]);
        let plotted = encoded.plotted_sector().encode();
        assert_eq!(plotted.len(), self.plotted_sector_scale_size);
        assert_eq!(blake3_hash(&plotted), self.plotted_sector_scale_blake3);
    }
}

/// A record read back in both ways gives the piece that was plotted.
fn check_recovery(plotted: &Plotted, piece_offset: PieceOffset) {
    let reader = SectorReader::new(&plotted.bytes, 0, plotted.state.pieces_in_sector);
    let contents = reader.read_contents_map().unwrap();
    let stored =
        reader.read_record_chunks(&contents, piece_offset, RecordChunksMode::ConcurrentChunks).unwrap();
    let whole = reader.read_record_chunks(&contents, piece_offset, RecordChunksMode::WholeSector).unwrap();
    assert_eq!(stored, whole);
    let metadata = reader.read_record_metadata(piece_offset).unwrap();
    let mut generator = TableGenerator::new();
    let table = generator.generate(&plotted.state.sector_id.derive_evaluation_seed(piece_offset));
    let record = contents.record(piece_offset).unwrap();
    let piece = source_piece(&table, record, &stored, &metadata).unwrap();
    assert!(piece == plotted.pieces[usize::from(piece_offset.0)]);
    reader.verify_checksum(&AtomicBool::new(false)).unwrap();
}

fn check_audit(audit: &Audit, plotted: &Plotted) {
    let name = format!("{} slot {}", audit.sector, audit.slot.0);
    assert_eq!(audit.pot_output.derive_global_challenge(audit.slot.0), audit.global_challenge);
    let state = &plotted.state;
    let challenge = state.sector_id.derive_sector_slot_challenge(&audit.global_challenge);
    assert_eq!(challenge.s_bucket_audit_index(), SBucket(audit.s_bucket_audit_index));
    let range = state.buckets.range(SBucket(audit.s_bucket_audit_index));
    assert_eq!(range.chunks, audit.s_bucket_chunks, "{name}");
    let map_size = u64::from(state.pieces_in_sector) * 8192 + 32;
    assert_eq!(map_size + u64::from(range.first_chunk) * 32, audit.s_bucket_offset_in_sector);
    assert_eq!(
        state.metadata().s_bucket_offset(SBucket(audit.s_bucket_audit_index)),
        audit.s_bucket_offset_in_sector
    );
    let mut buffer = AuditScratch::default();
    let found =
        audit_sector(&plotted.bytes, state, &audit.global_challenge, audit.solution_range.0, &mut buffer)
            .unwrap();
    let Some(found) = found else {
        assert!(audit.candidates.is_empty(), "{name}");
        return;
    };
    let chunks: Vec<_> = found.chunks.iter().map(|chunk| (chunk.chunk_offset, chunk.distance)).collect();
    let expected: Vec<_> = audit.candidates.iter().map(|c| (c.chunk_offset, c.distance.0)).collect();
    assert_eq!(chunks, expected, "{name}");
    assert!(!expected.is_empty());
    let provable: Vec<_> = provable_chunks(&plotted.bytes, &found)
        .unwrap()
        .into_iter()
        .map(|chunk| (chunk.piece_offset.0, chunk.distance))
        .collect();
    let encoded = audit.candidates.iter().filter(|candidate| candidate.encoded);
    let expected: Vec<_> = encoded.map(|c| (c.piece_offset, c.distance.0)).collect();
    assert_eq!(provable, expected, "{name}");
}

fn check_proof(prover: &dyn Prover, case: &SolutionCase, plotted: &Plotted) {
    let name = format!("{} slot {} order {}", case.sector, case.slot.0, case.order);
    let range = case.params.solution_range.0;
    let found = audit_sector(
        &plotted.bytes,
        &plotted.state,
        &case.global_challenge,
        range,
        &mut AuditScratch::default(),
    )
    .unwrap();
    let provable = provable_chunks(&plotted.bytes, &found.unwrap()).unwrap();
    assert_eq!(provable[0].distance, case.best_distance_in_sector.0, "{name}");
    let chunk = &provable[case.order];
    assert_eq!(chunk.distance, case.distance.0, "{name}");
    let expected: Solution = serde_json::from_value(case.solution_json.clone()).unwrap();
    let target = ProofTarget {
        slot_number: case.slot.0,
        global_challenge: case.global_challenge,
        public_key: expected.public_key,
        reward_address: expected.reward_address,
    };
    let prepare = |mode| prepare_proof_request(&plotted.bytes, chunk, &target, mode).unwrap();
    let input = prepare(RecordChunksMode::ConcurrentChunks);
    assert!(input == prepare(RecordChunksMode::WholeSector), "{name}: both ways of reading");
    // Over the wire and back.
    let encoded = input.encode();
    assert_eq!(encoded.len(), ProofInput::SIZE);
    let mut bytes = encoded.as_slice();
    let decoded = ProofInput::decode(&mut bytes).unwrap();
    assert!(bytes.is_empty() && decoded == input);
    let solution = prover.prove(&decoded).unwrap();
    assert_eq!(solution, expected, "{name}");
    assert_eq!(solution.encode(), case.solution_scale.0, "{name}");
}

fn check_notes(notes: &Notes) {
    // The recipes are followed above; if they change, so must the code.
    assert!(notes.piece_recipe.contains("BLAKE3-XOF(utf8('<seed>/record/<i>'))"));
    assert!(notes.piece_recipe.contains("BLAKE3-XOF(utf8('<seed>/witness/<i>'))"));
    assert!(notes.piece_recipe.contains("BLAKE3-XOF(utf8('<seed>/block/0'))"));
    assert!(notes.public_key_recipe.contains("BLAKE3-XOF(utf8('<seed>/pk/farm'))"));
}

/// The segment made of one block.
fn archive(kzg: &Kzg, seed: &str, expected: &ArchivedSegment) -> Vec<Piece> {
    let block = vectors::xof(&format!("{seed}/block/0"), 130_023_424);
    let mut archived =
        Archiver::new(kzg.clone()).add_block(block, BlockObjectMapping::default()).unwrap().segments;
    assert_eq!(archived.len(), 1);
    let segment = archived.remove(0);
    assert_eq!(segment.header.encode(), expected.segment_header_scale.0);
    assert_eq!(SegmentHeader::decode(&mut &expected.segment_header_scale[..]).unwrap(), segment.header);
    assert_eq!(segment.header.hash(), expected.segment_header_hash);
    assert_eq!(serde_json::to_value(segment.header).unwrap(), expected.segment_header_json);
    assert_eq!(expected.first_pieces_blake3.len(), 8);
    for (piece, expected) in segment.pieces.iter().zip(&expected.first_pieces_blake3) {
        assert_eq!(blake3_hash(piece.as_ref()), *expected);
    }
    segment.pieces
}

/// All of sectors.json and audits.json; with a string also the segment and solutions.json.
fn check_all(directory: &str, seed: &str, source: &Source<'_>) {
    let file: File = vectors::load(&format!("{directory}/sectors.json"));
    assert_eq!(file.seed, seed);
    check_notes(&file.notes);
    let segment = match source {
        Source::Kzg(kzg) => archive(kzg, seed, &file.archived_segment),
        Source::Metadata => Vec::new(),
    };
    let names: Vec<_> = file.sectors.iter().map(|sector| sector.name.as_str()).collect();
    assert_eq!(names, ["synthetic-2", "synthetic-3", "synthetic-10", "archived-4"]);
    let plotted: HashMap<_, _> = file
        .sectors
        .iter()
        .map(|sector| (sector.name.clone(), sector.plot(seed, source, &segment)))
        .collect();
    drop(segment);
    check_recovery(&plotted["synthetic-2"], PieceOffset(1));
    check_recovery(&plotted["archived-4"], PieceOffset(1));

    let audits: Audits = vectors::load(&format!("{directory}/audits.json"));
    assert_eq!(audits.seed, seed);
    assert_eq!(audits.audits.len(), 88);
    for audit in &audits.audits {
        check_audit(audit, &plotted[&audit.sector]);
    }
    let Source::Kzg(kzg) = source else { return };
    let solutions: Solutions = vectors::load(&format!("{directory}/solutions.json"));
    assert_eq!(solutions.seed, seed);
    let prover = CpuProver::new((*kzg).clone());
    for case in &solutions.solutions {
        check_proof(&prover, case, &plotted[&case.sector]);
    }
}

/// The live network's sectors as far as the reference string does not enter them.
#[test]
fn vectors_sectors_and_audits_without_string() {
    check_all("farming", "public-farming-1", &Source::Metadata);
}

#[test]
fn vectors_dev_sectors_audits_proofs() {
    check_all("dev/farming", "dev-public-farming-1", &Source::Kzg(&development_kzg()));
}

#[test]
fn vectors_live_sectors_audits_proofs() {
    let Some(kzg) = live_kzg("vectors_live_sectors_audits_proofs") else { return };
    check_all("farming", "public-farming-1", &Source::Kzg(&kzg));
}
