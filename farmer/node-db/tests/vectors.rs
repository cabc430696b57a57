//! Every entry of `node_db.json` against the database in `node_db.tar.xz`.
#![allow(clippy::unwrap_used, missing_docs)]

use node_db::{BlockId, Error, NodeDb};
use parity_scale_codec::Encode;
use primitives::SegmentHeader;
use primitives::blocks::{SignedBlock, archived_justifications};
use serde::Deserialize;
use vectors::Hex;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    blocks: Vec<Block>,
    columns: usize,
    genesis_extended: GenesisExtended,
    note: String,
    parity_db: String,
    segment_0: Segment,
    set: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    encoded_block: Hex,
    encoded_block_blake3: Hex,
    hash: Hex,
    lookup_key: Hex,
    number: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisExtended {
    blake3: Hex,
    first_bytes_after_encoding: Hex,
    len: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment {
    all_pieces_concat_blake3: Hex,
    header_hash: Hex,
    header_json: SegmentHeader,
    header_scale: Hex,
    piece_0_blake3: Hex,
    piece_255_blake3: Hex,
    raw_segment_blake3: Hex,
}

fn open() -> (tempfile::TempDir, NodeDb, File) {
    let directory = tempfile::tempdir().unwrap();
    vectors::unpack_node_db(directory.path());
    let database = NodeDb::open_read_only(directory.path()).unwrap();
    (directory, database, vectors::load("node_db.json"))
}

fn blake3(bytes: &[u8]) -> Vec<u8> {
    primitives::hashes::blake3_hash(bytes).0.to_vec()
}

#[test]
fn vectors_node_db() {
    let (_directory, database, file) = open();
    assert_eq!(file.set, "shared");
    assert_eq!(file.parity_db, "0.4.13");
    assert_eq!(file.columns, node_db::NUM_COLUMNS);
    assert!(file.note.starts_with("synthetic node database"));
    // The aux column of the fixture is empty: its node has archived nothing.
    assert_eq!(database.segment_headers().unwrap(), []);

    assert_eq!(file.blocks.len(), 6);
    for (number, block) in file.blocks.iter().enumerate() {
        check_block(&database, block, number as u32);
    }
    let genesis = &file.blocks[0];
    let last = file.blocks.last().unwrap();
    assert_eq!(database.genesis_hash().unwrap(), genesis.hash.array());
    assert_eq!(database.best().unwrap(), BlockId { number: last.number, hash: last.hash.array() });
    assert!(database.finalized().unwrap().number <= last.number);
    assert_eq!(database.first_missing_body(0, last.number).unwrap(), None);
    assert!(matches!(database.canonical_block(6), Err(Error::NoSuchBlock { number: 6, best: 5 })));

    let extended = database.encoded_for_archiving(0).unwrap();
    assert_eq!(extended.len(), file.genesis_extended.len);
    assert_eq!(blake3(&extended), *file.genesis_extended.blake3);
    let (encoded, extension) = extended.split_at(genesis.encoded_block.len());
    assert_eq!(encoded, &*genesis.encoded_block);
    let first = &*file.genesis_extended.first_bytes_after_encoding;
    assert_eq!(&extension[..first.len()], first);
}

fn check_block(database: &NodeDb, block: &Block, number: u32) {
    assert_eq!(block.number, number);
    let id = BlockId { number, hash: block.hash.array() };
    assert_eq!([&number.to_be_bytes()[..], &id.hash].concat(), *block.lookup_key);
    assert_eq!(database.block_id(number).unwrap(), Some(id));
    assert_eq!(database.block_id_of(&id.hash).unwrap(), Some(id));
    assert_eq!(database.header(id).unwrap().hash(), id.hash);

    let stored = database.canonical_block(number).unwrap();
    // Genesis is given in the file before its extension.
    let encoded = if number == 0 { stored.encode() } else { database.encoded_for_archiving(number).unwrap() };
    assert_eq!(encoded, *block.encoded_block, "block {number}");
    assert_eq!(blake3(&encoded), *block.encoded_block_blake3, "block {number}");

    // What each block's justifications are there for, by the file's note.
    let SignedBlock { justifications, .. } = stored;
    let engines = |list: &Option<Vec<([u8; 4], Vec<u8>)>>| {
        list.as_ref().map(|list| list.iter().map(|(engine, _)| *engine == *b"SUB_").collect::<Vec<_>>())
    };
    let archived = archived_justifications(justifications.clone());
    match number {
        2 => {
            assert_eq!(engines(&justifications), Some(vec![false, true]), "foreign and SUB_");
            assert_eq!(engines(&archived), Some(vec![true]));
        }
        3 => {
            assert_eq!(engines(&justifications), Some(vec![false]), "foreign alone");
            assert_eq!(archived, None);
        }
        4 => {
            assert_eq!(engines(&justifications), Some(vec![true]), "SUB_ alone");
            assert_eq!(archived, justifications);
            assert!(encoded.len() > 4096, "its body is stored compressed");
        }
        5 => {
            assert_eq!(engines(&justifications), Some(vec![true]), "a SUB_ that does not decode");
            assert_eq!(archived, None);
        }
        _ => assert_eq!(archived, None),
    }
}

#[test]
fn vectors_live_node_db_archives_segment_0() {
    let Some(path) = vectors::live_srs("vectors_live_node_db_archives_segment_0") else { return };
    let (_directory, database, file) = open();
    let kzg = archiving::Kzg::new(archiving::Srs::load(&path).unwrap());
    let mut archiver = archiving::archiver::Archiver::new(kzg);
    let genesis = database.encoded_for_archiving(0).unwrap();

    // The raw segment: version, BlockStart of all but six bytes of the extended genesis block.
    let mut raw = vec![0, 2];
    parity_scale_codec::Compact(genesis.len() as u32 - 6).encode_to(&mut raw);
    raw.extend_from_slice(&genesis[..genesis.len() - 6]);
    assert_eq!(raw.len(), file.genesis_extended.len);
    assert_eq!(blake3(&raw), *file.segment_0.raw_segment_blake3);

    let archived = archiver.add_block(genesis, Default::default()).unwrap();
    assert_eq!(archived.segments.len(), 1);
    let segment = &archived.segments[0];
    let expected = &file.segment_0;
    assert_eq!(segment.header, expected.header_json);
    assert_eq!(segment.header.encode(), *expected.header_scale);
    assert_eq!(segment.header.hash().0, expected.header_hash.array());
    assert_eq!(blake3(segment.pieces[0].as_ref()), *expected.piece_0_blake3);
    assert_eq!(blake3(segment.pieces[255].as_ref()), *expected.piece_255_blake3);
    let mut hasher = ::blake3::Hasher::new();
    for piece in &segment.pieces {
        hasher.update(piece.as_ref());
    }
    assert_eq!(hasher.finalize().as_bytes()[..], expected.all_pieces_concat_blake3[..]);
    for (position, piece) in segment.pieces.iter().enumerate().step_by(2) {
        let raw_record = &raw[position / 2 * 31 * 32_768..][..31 * 32_768];
        let record = piece.record_chunks().iter().flat_map(|chunk| &chunk[1..]);
        assert!(record.eq(raw_record), "source piece {position} carries its part of the raw segment");
    }

    // Written as a node writes it, read back from its aux column.
    let copy = tempfile::tempdir().unwrap();
    vectors::unpack_node_db(copy.path());
    let writable = NodeDb::open_or_create(&node_db::database_directory(copy.path())).unwrap();
    writable.append_segment_headers(&[segment.header]).unwrap();
    drop(writable);
    let read = NodeDb::open_read_only(copy.path()).unwrap().segment_headers().unwrap();
    assert_eq!(read, [expected.header_json]);
}
