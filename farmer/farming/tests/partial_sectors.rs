//! Records with fewer than 32,768 proofs: unencoded chunks fill them up (farming §3, §4.5). Real tables never have so
//! few, so the encoder here forgets some of their proofs.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use archiving::{Kzg, Polynomial, Scalar, Srs};
use farming::audit::{AuditScratch, SectorCandidates, audit_sector};
use farming::encoding::{
    CpuRecordEncoder, EncodedSector, PieceInput, RecordEncoder, RecordEncoderError, SectorEncoder,
    SectorPlan, encode_chunks,
};
use farming::plot::SectorState;
use farming::proving::{
    CpuProver, ProofInput, ProofTarget, ProveError, Prover, prepare_proof_request, provable_chunks,
};
use farming::sector::{
    Bitfield, Chunk, RecordChunksMode, RecoverError, SectorReader, record_polynomial, source_piece,
};
use farming::verification::{SolutionError, verify_solution_for_challenge};
use parity_scale_codec::{Decode, Encode};
use primitives::hashes::blake3_hash;
use primitives::pieces::Record;
use primitives::sectors::PosSeed;
use primitives::{Blake3Hash, Piece, PieceOffset, PublicKey, SBucket};
use proof_of_space::TableGenerator;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Whether the proof of an s-bucket is remembered.
type Keep = fn(u16) -> bool;

/// The proofs that the encoder of a record remembers, and how many of its chunks are encoded then.
const KEPT: [(Keep, Option<u32>); 5] = [
    (|_| true, Some(32_768)),
    (|bucket| bucket % 3 == 0, None),
    (|bucket| bucket >= 65_000, None),
    (|_| false, Some(0)),
    (|bucket| bucket < 20_000, None),
];

/// Encodes the records of one sector in order, each with its own share of the proofs.
struct Forgetful {
    generator: TableGenerator,
    next: usize,
}

fn extend(chunks: &[Chunk]) -> Vec<Chunk> {
    let scalars: Vec<_> = chunks.iter().map(|chunk| Scalar::from_bytes(chunk).unwrap()).collect();
    let parity = archiving::erasure::extend(&scalars).unwrap();
    chunks.iter().zip(parity).flat_map(|(source, parity)| [*source, parity.to_bytes()]).collect()
}

impl RecordEncoder for Forgetful {
    fn encode_record(
        &mut self,
        seed: &PosSeed,
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        let extended: Box<[Chunk; Record::NUM_S_BUCKETS]> = extend(chunks).try_into().unwrap();
        let table = self.generator.generate(seed);
        let keep = KEPT[self.next].0;
        self.next += 1;
        encode_chunks(&extended, chunks, contents, |visit| {
            table.for_each_proof_hash(|s_bucket, hash| match keep(s_bucket.0) {
                true => visit(s_bucket, hash),
                false => ControlFlow::Continue(()),
            });
        });
        Ok(())
    }
}

struct Fixture {
    kzg: Kzg,
    pieces: Vec<Piece>,
    encoded: EncodedSector,
    bytes: Vec<u8>,
    state: Arc<SectorState>,
}

const PUBLIC_KEY: PublicKey = PublicKey([0x42; 32]);

fn fixture() -> Fixture {
    let cache = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kzg = Kzg::new(Srs::development(cache).unwrap());
    let records = KEPT.len();
    let pieces: Vec<Piece> = (0..records)
        .map(|record| {
            let mut piece = support::piece(&format!("partial/{record}"));
            let scalars: Vec<_> =
                piece.record_chunks().iter().map(|chunk| Scalar::from_bytes(chunk).unwrap()).collect();
            let commitment = kzg.commit(&Polynomial::interpolate(&scalars).unwrap());
            piece.set_commitment(&commitment.into());
            piece
        })
        .collect();
    let info = support::protocol_info(60, 1000);
    let plan = SectorPlan::new(PUBLIC_KEY, 0, records as u16, info).unwrap();
    let encoder = Forgetful { generator: TableGenerator::new(), next: 0 };
    let encoded = SectorEncoder::new(vec![Box::new(encoder)])
        .encode(
            &plan,
            &|offset: PieceOffset| Ok(PieceInput::Piece(pieces[usize::from(offset.0)].clone())),
            &|_| {},
            &AtomicBool::new(false),
        )
        .unwrap();
    let bytes = encoded.to_bytes();
    let state = Arc::new(SectorState::from_metadata(&PUBLIC_KEY, encoded.metadata()).unwrap());
    Fixture { kzg, pieces, encoded, bytes, state }
}

/// The layout by the definition alone, chunk by chunk.
fn naive_layout(fixture: &Fixture) -> Vec<u8> {
    let Fixture { pieces, encoded, .. } = fixture;
    let mut generator = TableGenerator::new();
    let plan = encoded.plan();
    let mut bitfields = Vec::new();
    let mut present: Vec<Vec<Option<Chunk>>> = Vec::new();
    for (offset, piece) in pieces.iter().enumerate() {
        let extended = extend(piece.record_chunks());
        let table = generator.generate(&plan.evaluation_seed(PieceOffset(offset as u16)));
        let mut bits = vec![0u8; 8192];
        let mut chunks: Vec<Option<Chunk>> = vec![None; 65536];
        let mut count = 0;
        for bucket in 0..65536usize {
            if count == 32768 || !KEPT[offset].0(bucket as u16) {
                continue;
            }
            if let Some(proof) = table.find_proof(bucket as u32) {
                let hash = proof.hash();
                chunks[bucket] = Some(std::array::from_fn(|i| extended[bucket][i] ^ hash.0[i]));
                bits[bucket / 8] |= 1 << (bucket % 8);
                count += 1;
            }
        }
        for bucket in 0..65536usize {
            if count < 32768 && chunks[bucket].is_none() {
                chunks[bucket] = Some(extended[bucket]);
                count += 1;
            }
        }
        bitfields.extend(bits);
        present.push(chunks);
    }
    let mut bytes = bitfields.clone();
    bytes.extend(blake3_hash(&bitfields).0);
    for bucket in 0..65536 {
        for chunks in &present {
            bytes.extend(chunks[bucket].iter().flatten());
        }
    }
    for piece in pieces {
        bytes.extend(piece.commitment().0);
        bytes.extend(piece.witness().0);
        bytes.extend(blake3_hash(piece.as_ref()).0);
    }
    let checksum = blake3_hash(&bytes);
    bytes.extend(checksum.0);
    bytes
}

/// The chunks that win somewhere in the slots of these challenges, with everything in range.
fn audit(fixture: &Fixture, challenge: &Blake3Hash) -> Option<SectorCandidates> {
    audit_sector(&fixture.bytes, &fixture.state, challenge, u64::MAX, &mut AuditScratch::default()).unwrap()
}

fn challenges() -> impl Iterator<Item = Blake3Hash> {
    (0u32..).map(|i| Blake3Hash(vectors::xof(&format!("challenge/{i}"), 32).try_into().unwrap()))
}

fn check_reading(fixture: &Fixture) {
    let Fixture { pieces, bytes, encoded, .. } = fixture;
    let reader = SectorReader::new(bytes, 0, pieces.len() as u16);
    reader.verify_checksum(&AtomicBool::new(false)).unwrap();
    let contents = reader.read_contents_map().unwrap();
    assert_eq!(&contents, encoded.contents_map());
    let mut generator = TableGenerator::new();
    for (offset, piece) in pieces.iter().enumerate() {
        let piece_offset = PieceOffset(offset as u16);
        let record = contents.record(piece_offset).unwrap();
        if let Some(expected) = KEPT[offset].1 {
            assert_eq!(record.encoded_chunks(), expected);
        } else {
            assert!((1..32_768).contains(&record.encoded_chunks()));
        }
        let read = |mode| reader.read_record_chunks(&contents, piece_offset, mode).unwrap();
        let stored = read(RecordChunksMode::ConcurrentChunks);
        assert!(stored == read(RecordChunksMode::WholeSector));
        let metadata = reader.read_record_metadata(piece_offset).unwrap();
        let table = generator.generate(&encoded.plan().evaluation_seed(piece_offset));
        assert!(source_piece(&table, record, &stored, &metadata).unwrap() == *piece, "record {offset}");
        let polynomial = record_polynomial(&table, record, &stored).unwrap();
        assert_eq!(fixture.kzg.commit(&polynomial), piece.commitment().try_into().unwrap());
        // One bit anywhere in the record is noticed.
        let mut damaged = stored.clone();
        damaged[777][31] ^= 1;
        assert!(matches!(
            source_piece(&table, record, &damaged, &metadata),
            Err(RecoverError::PieceChecksum { .. })
        ));
        if record.encoded_chunks() > 0 {
            let other = TableGenerator::new();
            let mut other = other;
            let foreign = other.generate(&PosSeed([9; 32]));
            assert!(record_polynomial(&foreign, record, &stored).is_err(), "another table's proofs");
        }
    }
}

/// Unencoded chunks never win; encoded ones of partial records do, and the node agrees.
fn check_winning(fixture: &Fixture) {
    let prover = CpuProver::new(fixture.kzg.clone());
    let (mut unencoded, mut proved) = (0, [false; KEPT.len()]);
    for challenge in challenges().take(4000) {
        let Some(found) = audit(fixture, &challenge) else { continue };
        let records: Vec<_> = fixture.encoded.contents_map().s_bucket_records(found.s_bucket).collect();
        let provable = provable_chunks(&fixture.bytes, &found).unwrap();
        for chunk in &found.chunks {
            let (piece_offset, encoded) = records[usize::from(chunk.chunk_offset)];
            let offered = provable.iter().any(|provable| provable.piece_offset == piece_offset);
            assert_eq!(offered, encoded);
            unencoded += usize::from(!encoded);
        }
        assert!(provable.is_sorted_by_key(|chunk| chunk.distance));
        for chunk in provable {
            let record = usize::from(chunk.piece_offset.0);
            if std::mem::replace(&mut proved[record], true) {
                continue;
            }
            let target = ProofTarget {
                slot_number: 5,
                global_challenge: challenge,
                public_key: PUBLIC_KEY,
                reward_address: PublicKey([7; 32]),
            };
            let input =
                prepare_proof_request(&fixture.bytes, &chunk, &target, RecordChunksMode::ConcurrentChunks)
                    .unwrap();
            let solution = prover.prove(&input).unwrap();
            let verified = verify_solution_for_challenge(&fixture.kzg, &solution, &challenge, u64::MAX, None);
            assert_eq!(verified, Ok(chunk.distance));
            check_refusals(fixture, &prover, &input);
        }
    }
    assert!(unencoded > 100, "unencoded chunks must have been met: {unencoded}");
    assert_eq!(proved, [true, true, true, false, true], "each record with encoded chunks");
}

/// What a prover does with input that is wrong.
fn check_refusals(fixture: &Fixture, prover: &CpuProver, input: &ProofInput) {
    let mut wrong = input.clone();
    wrong.s_bucket = SBucket(wrong.s_bucket.0 ^ 1);
    assert!(matches!(prover.prove(&wrong), Err(ProveError::NotAudited { .. })));
    let mut wrong = input.clone();
    wrong.chunk_index ^= 1;
    assert!(matches!(prover.prove(&wrong), Err(ProveError::NoChunk { .. })));
    let mut wrong = input.clone();
    wrong.contents.fill(0xff);
    assert!(matches!(prover.prove(&wrong), Err(ProveError::Contents)));
    let mut wrong = input.clone();
    wrong.contents.fill(0);
    assert!(matches!(prover.prove(&wrong), Err(ProveError::NoChunk { .. })));
    // A damaged record: the prover cannot know, the verifier does.
    let mut wrong = input.clone();
    let other = (usize::from(wrong.chunk_index) + 1) % Record::NUM_CHUNKS;
    wrong.chunks[other][31] ^= 1;
    let solution = prover.prove(&wrong).unwrap();
    let verified =
        verify_solution_for_challenge(&fixture.kzg, &solution, &input.global_challenge, u64::MAX, None);
    assert_eq!(verified, Err(SolutionError::InvalidChunkWitness));

    let encoded = input.encode();
    assert_eq!(encoded.len(), ProofInput::SIZE);
    assert!(ProofInput::decode(&mut &encoded[..]).unwrap() == *input);
    assert!(ProofInput::decode(&mut &encoded[..encoded.len() - 1]).is_err());
    let mut wrong = input.clone();
    wrong.piece_offset = PieceOffset(wrong.pieces_in_sector);
    assert!(ProofInput::decode(&mut wrong.encode().as_slice()).is_err());
    let mut wrong = input.clone();
    wrong.chunk_index = 32_768;
    assert!(ProofInput::decode(&mut wrong.encode().as_slice()).is_err());
}

#[test]
fn sectors_with_unencoded_chunks_are_laid_out_read_audited_and_proved() {
    let fixture = fixture();
    assert!(fixture.bytes == naive_layout(&fixture), "layout");
    assert_eq!(fixture.bytes.len(), fixture.encoded.size());
    check_reading(&fixture);
    check_winning(&fixture);
}

#[test]
fn a_chunk_masked_to_zero_counts_as_having_no_proof() {
    let extended: Vec<Chunk> = (0..65536u32).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect();
    let extended: Box<[Chunk; 65536]> = extended.try_into().unwrap();
    let mut chunks: Box<[Chunk; 32768]> = vec![[0; 32]; 32768].try_into().unwrap();
    let mut contents = [0xaa; 8192];
    encode_chunks(&extended, &mut chunks, &mut contents, |visit| {
        for bucket in [5u16, 6, 7] {
            let chunk = extended[usize::from(bucket)];
            let hash = if bucket == 6 { chunk } else { [1; 32] };
            assert!(visit(SBucket(bucket), &Blake3Hash(hash)).is_continue());
        }
    });
    assert_eq!(contents[0], 0b1010_0000);
    assert!(contents[1..].iter().all(|&byte| byte == 0));
    // S-bucket 6 is filled up like any other: unencoded.
    assert_eq!(chunks[4], extended[4]);
    assert_eq!(chunks[5], extended[5].map(|byte| byte ^ 1));
    assert_eq!(chunks[6], extended[6]);
    assert_eq!(chunks[32767], extended[32767]);
}

#[test]
fn split_parity_and_the_number_of_encoders_do_not_change_a_sector() {
    use farming::encoding::SplitParityPiece;
    let plan = SectorPlan::new(PUBLIC_KEY, 9, 3, support::protocol_info(3, 3)).unwrap();
    let one = support::encode_with(vec![Box::new(CpuRecordEncoder::new())], &plan, "split");
    let many = (0..5).map(|_| Box::new(CpuRecordEncoder::new()) as Box<dyn RecordEncoder>).collect();
    let many = support::encode_with(many, &plan, "split");
    assert!(one.to_bytes() == many.to_bytes());
    assert_eq!(one.metadata(), many.metadata());
    let split = |offset: PieceOffset| {
        let piece = support::piece(&format!("split/{offset}"));
        Ok(PieceInput::SplitParity(SplitParityPiece {
            extended: extend(piece.record_chunks()).try_into().unwrap(),
            commitment: piece.commitment(),
            witness: piece.witness(),
        }))
    };
    let mut encoder = SectorEncoder::cpu(2);
    let cancel = AtomicBool::new(false);
    let again = encoder.encode(&plan, &split, &|_| {}, &cancel).unwrap();
    assert!(again.to_bytes() == one.to_bytes());
}

#[test]
fn encoding_stops_when_told_and_names_what_failed() {
    use farming::encoding::EncodeError;
    let plan = SectorPlan::new(PUBLIC_KEY, 9, 4, support::protocol_info(3, 4)).unwrap();
    let good = |offset: PieceOffset| Ok(PieceInput::Piece(support::piece(&format!("stop/{offset}"))));
    let mut encoder = SectorEncoder::new(vec![Box::new(support::FakeEncoder)]);
    let cancel = AtomicBool::new(false);
    let after_one = |_| cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(encoder.encode(&plan, &good, &after_one, &cancel), Err(EncodeError::Cancelled)));
    let absent = |offset: PieceOffset| match offset.0 {
        2 => Err("no such piece".into()),
        _ => good(offset),
    };
    let error = encoder.encode(&plan, &absent, &|_| {}, &AtomicBool::new(false)).err().unwrap();
    assert_eq!(error.to_string(), "piece for offset 2: no such piece");
    let damaged = |offset: PieceOffset| {
        let mut piece = support::piece("damaged");
        piece.record_chunks_mut()[17] = [0xff; 32];
        match offset.0 {
            3 => Ok(PieceInput::Piece(piece)),
            _ => good(offset),
        }
    };
    let mut encoder = SectorEncoder::cpu(1);
    let error = encoder.encode(&plan, &damaged, &|_| {}, &AtomicBool::new(false)).err().unwrap();
    assert_eq!(error.to_string(), "record 3: source chunk 17 of the record is no scalar");
    // The encoder is as good as new.
    let bytes = encoder.encode(&plan, &good, &|_| {}, &AtomicBool::new(false)).unwrap().to_bytes();
    let fresh = support::encode_with(vec![Box::new(CpuRecordEncoder::new())], &plan, "stop").to_bytes();
    assert!(bytes == fresh);
}

#[test]
fn plans_refuse_impossible_sectors() {
    for pieces in [0, 5] {
        assert!(SectorPlan::new(PUBLIC_KEY, 0, pieces, support::protocol_info(1, 4)).is_err());
    }
}
