//! The archived chain and its reconstruction: one test for each string, since a segment takes seconds to make.

use ::vectors::{Hex, load, xof};
use archiving::archiver::{ArchivedSegment, Archiver, Packer};
use archiving::reconstruction::{
    BlockReconstructor, reconstruct_piece, reconstruct_pieces, reconstruct_segment,
};
use archiving::{Commitment, Kzg, PieceToVerify, verify_piece, verify_pieces};
use parity_scale_codec::{Decode, Encode};
use primitives::blocks::extend_genesis;
use primitives::objects::{BlockObject, BlockObjectMapping, GlobalObject};
use primitives::{Blake3Hash, Piece, PieceIndex, SegmentHeader, SegmentIndex};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    block_lens: Vec<usize>,
    events: Vec<Event>,
    generator: String,
    genesis_blake3: Hex,
    num_blocks: usize,
    recorded_history_segment_size: usize,
    restart_check: String,
    segments: Vec<Segment>,
    set: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    block: usize,
    block_len: usize,
    block_objects: Vec<Object>,
    global_objects: Vec<Global>,
    segments_produced: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    hash: Hex,
    offset: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Global {
    hash: Hex,
    offset: u32,
    piece_index: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment {
    all_pieces_concat_blake3: Hex,
    header_hash: Hex,
    header_json: serde_json::Value,
    header_scale: Hex,
    pieces: Vec<PieceEntry>,
    raw_segment_blake3: Hex,
    raw_segment_first_64: Hex,
    raw_segment_last_64: Hex,
    segment: u64,
    verified_positions: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceEntry {
    blake3: Hex,
    chunk_0: Option<Hex>,
    chunk_1: Option<Hex>,
    chunk_32767: Option<Hex>,
    commitment: Hex,
    position: usize,
    witness: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconstruction {
    note: String,
    segments: Vec<Reconstructed>,
    set: String,
    source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reconstructed {
    all_pieces_restored_identically: bool,
    blocks: Vec<BlockEntry>,
    parent_segment_header: Option<serde_json::Value>,
    present_positions: Vec<usize>,
    segment: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockEntry {
    blake3: Hex,
    len: usize,
    number: u32,
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Checks header fields that every vector of a segment has.
pub(crate) fn check_header(header: &SegmentHeader, scale: &[u8], json: &serde_json::Value, hash: &Hex) {
    assert_eq!(header.encode(), scale);
    assert_eq!(SegmentHeader::decode(&mut &scale[..]).unwrap(), *header);
    assert_eq!(serde_json::to_value(header).unwrap(), *json);
    assert_eq!(header.hash().0, hash.array());
}

/// Checks the fields that a vector has about a segment's bytes.
pub(crate) fn check_raw(raw: &[u8], hash_of_all: &Hex, first: &Hex, last: &Hex) {
    assert_eq!(raw.len(), SegmentIndex::RECORDED_HISTORY_SIZE);
    assert_eq!(raw[..64], first[..]);
    assert_eq!(raw[raw.len() - 64..], last[..]);
    assert_eq!(hash(raw), hash_of_all.array());
}

/// BLAKE3 of all pieces.
pub(crate) fn hash_of_pieces(pieces: &[Piece]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for piece in pieces {
        hasher.update(piece.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

pub(crate) fn objects_of(expected: &[Global]) -> Vec<GlobalObject> {
    let object = |global: &Global| GlobalObject {
        hash: Blake3Hash(global.hash.array()),
        piece_index: PieceIndex(global.piece_index),
        offset: global.offset,
    };
    expected.iter().map(object).collect()
}

/// The chain's blocks by its generator.
struct Blocks<'a> {
    set: &'a str,
}

impl Blocks<'_> {
    fn check_rule(&self, chain: &Chain) {
        let expected = format!(
            "block 0 = xof('{set}/archive/A/genesis',1234) extended to 130023424 bytes by the ChaCha8 keystream (key = \
             xof('{set}/archive/A/state_root',32), zero nonce, counter 0). block i>=1: len = \
             u32le(xof('{set}/archive/A/len/i',4)) % 400000; if i%5==0 len%=64; if i%50==7 len+=3000000; bytes = \
             xof('{set}/archive/A/block/i', len); if i%7==3 && len>1000 two objects at offsets 10 and len/2 (integer \
             division) with hash xof('{set}/archive/A/object/i/k',32), k=0,1. Each given to Archiver::add_block in \
             order, until {count} segments.",
            set = self.set,
            count = chain.segments.len(),
        );
        assert_eq!(chain.generator, expected);
    }

    fn bytes(&self, number: usize) -> Vec<u8> {
        let label = |what: &str| format!("{}/archive/A/{what}", self.set);
        if number == 0 {
            let state_root = xof(&label("state_root"), 32).try_into().unwrap();
            return extend_genesis(xof(&label("genesis"), 1234), &state_root);
        }
        let length = u32::from_le_bytes(xof(&label(&format!("len/{number}")), 4).try_into().unwrap());
        let mut length = length as usize % 400_000;
        if number.is_multiple_of(5) {
            length %= 64;
        }
        if number % 50 == 7 {
            length += 3_000_000;
        }
        xof(&label(&format!("block/{number}")), length)
    }

    fn objects(&self, number: usize, length: usize) -> Vec<BlockObject> {
        if number == 0 || number % 7 != 3 || length <= 1000 {
            return Vec::new();
        }
        let object = |(k, offset): (usize, usize)| BlockObject {
            hash: Blake3Hash(
                xof(&format!("{}/archive/A/object/{number}/{k}", self.set), 32).try_into().unwrap(),
            ),
            offset: offset as u32,
        };
        [10, length / 2].into_iter().enumerate().map(object).collect()
    }
}

fn check_pieces(kzg: &Kzg, archived: &ArchivedSegment, expected: &Segment) {
    let ArchivedSegment { header, pieces } = archived;
    assert_eq!(header.segment_index(), SegmentIndex(expected.segment));
    check_header(header, &expected.header_scale, &expected.header_json, &expected.header_hash);
    assert_eq!(pieces.len(), SegmentIndex::NUM_PIECES);
    assert_eq!(expected.pieces.len(), SegmentIndex::NUM_PIECES);
    for (position, (piece, entry)) in pieces.iter().zip(&expected.pieces).enumerate() {
        let PieceEntry { blake3, chunk_0, chunk_1, chunk_32767, commitment, position: at, witness } = entry;
        assert_eq!(*at, position);
        for (index, chunk) in [(0, chunk_0), (1, chunk_1), (32_767, chunk_32767)] {
            // Listed for some positions only.
            if let Some(chunk) = chunk {
                assert_eq!(piece.record_chunks()[index], chunk.array(), "{position} {index}");
            }
        }
        assert_eq!(piece.commitment().0, commitment.array(), "{position}");
        assert_eq!(piece.witness().0, witness.array(), "{position}");
        assert_eq!(hash(piece.as_bytes()), blake3.array(), "{position}");
    }
    assert_eq!(hash_of_pieces(pieces), expected.all_pieces_concat_blake3.array());
    let mut raw = Vec::with_capacity(SegmentIndex::RECORDED_HISTORY_SIZE);
    for piece in pieces.iter().step_by(2) {
        piece.record_chunks().iter().for_each(|chunk| raw.extend_from_slice(&chunk[1..]));
    }
    check_raw(
        &raw,
        &expected.raw_segment_blake3,
        &expected.raw_segment_first_64,
        &expected.raw_segment_last_64,
    );
    assert!(!expected.verified_positions.is_empty());
    let segment_commitment = header.segment_commitment();
    for &position in &expected.verified_positions {
        assert_eq!(verify_piece(kzg, &pieces[position], &segment_commitment, position), Ok(()));
        assert!(verify_piece(kzg, &pieces[position], &segment_commitment, position ^ 1).is_err());
    }
    let batch: Vec<PieceToVerify<'_>> = pieces
        .iter()
        .enumerate()
        .map(|(position, piece)| PieceToVerify { piece, segment_commitment, position })
        .collect();
    assert!(verify_pieces(kzg, &batch).iter().all(Result::is_ok));
}

/// Reconstructs a segment, its pieces and its blocks from the pieces the vector lists.
fn check_reconstruction(
    kzg: &Kzg,
    blocks: &mut BlockReconstructor,
    archived: &ArchivedSegment,
    expected: &Reconstructed,
) {
    assert_eq!(archived.header.segment_index(), SegmentIndex(expected.segment));
    let mut present = vec![None; SegmentIndex::NUM_PIECES];
    for &position in &expected.present_positions {
        present[position] = Some(archived.pieces[position].clone());
    }
    let restored = reconstruct_pieces(kzg, &present).unwrap();
    assert_eq!(restored == archived.pieces, expected.all_pieces_restored_identically);
    drop(restored);
    let missing = (0..SegmentIndex::NUM_PIECES).find(|position| present[*position].is_none()).unwrap();
    assert_eq!(reconstruct_piece(kzg, &present, missing).unwrap(), archived.pieces[missing]);
    let raw = reconstruct_segment(&present).unwrap();
    let sources = archived.pieces.iter().step_by(2).flat_map(Piece::record_chunks);
    assert!(raw.as_chunks::<31>().0.iter().zip(sources).all(|(raw, chunk)| raw[..] == chunk[1..]));
    let contents = blocks.add_segment(&present).unwrap();
    let header = contents.parent_segment_header.map(|header| serde_json::to_value(header).unwrap());
    assert_eq!(header, expected.parent_segment_header);
    assert_eq!(contents.blocks.len(), expected.blocks.len());
    for ((number, bytes), entry) in contents.blocks.iter().zip(&expected.blocks) {
        assert_eq!((*number, bytes.len()), (entry.number, entry.len));
        assert_eq!(hash(bytes), entry.blake3.array(), "{number}");
    }
}

/// What follows the archiver through the chain.
struct Run<'a> {
    kzg: &'a Kzg,
    set: &'a str,
    chain: Chain,
    reconstruction: Reconstruction,
    /// Whether the vector's reconstructor has seen the segments before the one listed.
    continuous: bool,
}

impl Run<'_> {
    fn check(&self) {
        let Self { kzg, set, chain, reconstruction, continuous } = self;
        let blocks = Blocks { set };
        blocks.check_rule(chain);
        assert_eq!((chain.set.as_str(), reconstruction.set.as_str()), (*set, *set));
        assert_eq!(chain.recorded_history_segment_size, SegmentIndex::RECORDED_HISTORY_SIZE);
        assert_eq!(chain.block_lens.len(), chain.num_blocks);
        assert_eq!(reconstruction.source, "segments of archive_chain.json");
        let mut archiver = Archiver::new((*kzg).clone());
        let mut segments = chain.segments.iter();
        let mut events = chain.events.iter().peekable();
        let mut reconstructions = reconstruction.segments.iter().peekable();
        let mut reconstructor = BlockReconstructor::new();
        for (number, length) in chain.block_lens.iter().enumerate() {
            let bytes = blocks.bytes(number);
            assert_eq!(bytes.len(), *length, "block {number}");
            if number == 0 {
                assert_eq!(hash(&bytes), chain.genesis_blake3.array());
            }
            let objects = blocks.objects(number, *length);
            let event = events.next_if(|event| event.block == number);
            let last = event.is_some_and(|event| !event.segments_produced.is_empty()).then(|| bytes.clone());
            let mapping = BlockObjectMapping::V0 { objects: objects.clone() };
            let archived = archiver.add_block(bytes, mapping).unwrap();
            check_event(event, &objects, *length, &archived.objects, &archived.segments);
            for archived in archived.segments {
                check_pieces(kzg, &archived, segments.next().unwrap());
                let index = archived.header.segment_index().0;
                if let Some(expected) = reconstructions.next_if(|expected| expected.segment == index) {
                    if !continuous {
                        reconstructor = BlockReconstructor::new();
                    }
                    check_reconstruction(kzg, &mut reconstructor, &archived, expected);
                }
                // Goes on as after a restart: all that follows has to come out the same.
                let block = last.as_ref().unwrap();
                archiver = Archiver::with_initial_state((*kzg).clone(), archived.header, block).unwrap();
                assert_eq!(archiver.last_archived_block(), Some(archived.header.last_archived_block()));
            }
        }
        assert!(segments.next().is_none() && events.next().is_none() && reconstructions.next().is_none());
    }
}

fn check_event(
    event: Option<&Event>,
    objects: &[BlockObject],
    length: usize,
    global: &[GlobalObject],
    segments: &[ArchivedSegment],
) {
    // Only blocks that brought forth something are listed.
    let Some(event) = event else {
        assert!(objects.is_empty() && global.is_empty() && segments.is_empty());
        return;
    };
    assert_eq!(event.block_len, length);
    let expected = event.block_objects.iter();
    let expected: Vec<_> = expected.map(|object| (object.hash.array(), object.offset)).collect();
    assert_eq!(objects.iter().map(|object| (object.hash.0, object.offset)).collect::<Vec<_>>(), expected);
    assert_eq!(objects_of(&event.global_objects), global);
    let indices: Vec<u64> = segments.iter().map(|segment| segment.header.segment_index().0).collect();
    assert_eq!(indices, event.segments_produced);
}

/// The bytes of all segments without any string: only the parent headers, which carry commitments, come from the file.
fn check_packing(name: &str, set: &str) {
    let chain: Chain = load(name);
    let blocks = Blocks { set };
    let mut packer = Packer::new();
    let mut segments = chain.segments.iter();
    for number in 0..chain.num_blocks {
        packer.push_block(blocks.bytes(number), BlockObjectMapping::default()).unwrap();
        while let Some(segment) = packer.next_segment() {
            let expected = segments.next().unwrap();
            let header = SegmentHeader::decode(&mut &expected.header_scale[..]).unwrap();
            assert_eq!(segment.segment_index(), header.segment_index());
            assert_eq!(segment.last_archived_block(), header.last_archived_block());
            check_raw(
                &segment.into_bytes(),
                &expected.raw_segment_blake3,
                &expected.raw_segment_first_64,
                &expected.raw_segment_last_64,
            );
            packer.continue_after(header);
        }
    }
    assert!(segments.next().is_none());
}

#[test]
fn vectors_archive_chain_packing() {
    check_packing("archive_chain.json", "shared");
}

#[test]
fn vectors_dev_archive_chain_and_reconstruction() {
    let chain: Chain = load("dev/archive_chain.json");
    let reconstruction: Reconstruction = load("dev/reconstruction.json");
    assert_eq!(chain.restart_check, "not run for this set");
    assert_eq!(
        reconstruction.note,
        "blocks = what the reference block reconstructor returns when only the listed segment is given to a fresh \
         reconstructor with only the listed piece positions; the continuation of a block that started in an earlier \
         segment is not returned"
    );
    let kzg = super::development();
    Run { kzg: &kzg, set: "dev-public", chain, reconstruction, continuous: false }.check();
}

#[test]
fn vectors_live_archive_chain_and_reconstruction() {
    let Some(kzg) = super::live("vectors_live_archive_chain_and_reconstruction") else { return };
    let chain: Chain = load("archive_chain.json");
    let reconstruction: Reconstruction = load("reconstruction.json");
    assert_eq!(
        chain.restart_check,
        "an archiver rebuilt from header of segment 1 + the last archived block, run with incremental=true, produced \
         identical results"
    );
    assert_eq!(
        reconstruction.note,
        "blocks = what the reference block reconstructor returns when segments 0,1,2 are added in order with only the \
         listed piece positions; a block cut by a segment boundary is returned with the segment that completes it \
         (genesis is completed in segment 1)"
    );
    assert!(
        chain
            .segments
            .iter()
            .all(|segment| Commitment::from_bytes_strict(&segment.pieces[0].commitment.array()).is_ok())
    );
    Run { kzg: &kzg, set: "shared", chain, reconstruction, continuous: true }.check();
}
