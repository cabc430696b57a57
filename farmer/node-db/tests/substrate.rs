//! Databases that Substrate's own backend made (`testdata/sc-client-db`, by `farmer/node-db/fixture`): every block is read to the
//! bit, and of a pruned node's it is known where its bodies begin.
#![allow(clippy::unwrap_used, missing_docs)]

use node_db::{BlockId, Error, NodeDb};
use parity_scale_codec::Encode;
use primitives::hashes::blake3_hash;
use serde::Deserialize;
use vectors::Hex;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    made_with: String,
    archive: Vec<Block>,
    pruned: Vec<Block>,
}

/// A block of the best chain, by the generator's own encoder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    number: u32,
    hash: Hex,
    len: usize,
    signed_block_blake3: Hex,
}

impl Block {
    fn id(&self) -> BlockId {
        BlockId { number: self.number, hash: self.hash.array() }
    }
}

fn open(name: &str) -> (tempfile::TempDir, NodeDb, File) {
    let directory = tempfile::tempdir().unwrap();
    vectors::unpack_fixture(&format!("sc-client-db/{name}.tar.xz"), directory.path());
    let database = NodeDb::open_unchanged(directory.path()).unwrap();
    let file: File = vectors::load_fixture("sc-client-db/blocks.json.xz");
    assert_eq!(file.made_with, "sc-client-db 0.56.0");
    (directory, database, file)
}

fn check_block(database: &NodeDb, block: &Block) {
    let encoded = database.canonical_block(block.number).unwrap().encode();
    assert_eq!(encoded.len(), block.len, "block {}", block.number);
    assert_eq!(blake3_hash(&encoded).0, block.signed_block_blake3.array(), "block {}", block.number);
}

/// What the chain's blocks are called, whether their bodies are there or not.
fn check_chain(database: &NodeDb, blocks: &[Block]) {
    assert_eq!(database.genesis_hash().unwrap(), blocks[0].hash.array());
    assert_eq!(database.best().unwrap(), blocks.last().unwrap().id());
    for (number, block) in blocks.iter().enumerate() {
        assert_eq!(block.number as usize, number);
        assert_eq!(database.block_id(block.number).unwrap(), Some(block.id()), "not the one of the fork");
        assert_eq!(database.block_id_of(&block.id().hash).unwrap(), Some(block.id()));
        assert_eq!(database.header(block.id()).unwrap().hash(), block.id().hash);
    }
    let last = blocks.len() as u32 - 1;
    assert_eq!(database.finalized().unwrap(), blocks[last as usize - 10].id());
    assert!(
        matches!(database.canonical_block(last + 1), Err(Error::NoSuchBlock { best, .. }) if best == last)
    );
    assert_eq!(database.segment_headers().unwrap(), []);
}

#[test]
fn an_archive_nodes_database_is_read_to_the_bit() {
    let (_directory, database, file) = open("archive");
    let blocks = &file.archive;
    check_chain(&database, blocks);
    assert_eq!(database.first_missing_body(0, blocks.last().unwrap().number).unwrap(), None);
    blocks.iter().for_each(|block| check_block(&database, block));
    let raw: usize = blocks.iter().map(|block| block.len).sum();
    assert!(raw > 128 * 31 * 32_768, "longer than a segment");
    let with_justifications =
        blocks.iter().filter(|block| database.justifications(block.id()).unwrap().is_some()).count();
    assert_eq!(with_justifications, blocks.iter().filter(|block| matches!(block.number % 7, 3 | 5)).count());
}

#[test]
fn a_pruned_nodes_database_says_where_its_bodies_begin() {
    let (_directory, database, file) = open("pruned");
    let blocks = &file.pruned;
    check_chain(&database, blocks);
    let last = blocks.last().unwrap().number;
    // The generator keeps the bodies of 16 finalized blocks and of all after them.
    let first_kept = database.finalized().unwrap().number - 16 + 1;
    assert_eq!(database.first_missing_body(first_kept, last).unwrap(), None);
    assert_eq!(database.first_missing_body(first_kept - 1, last).unwrap(), Some(first_kept - 1));
    assert_eq!(database.first_missing_body(1, last).unwrap(), Some(1));
    blocks[first_kept as usize..].iter().for_each(|block| check_block(&database, block));
    let error = database.canonical_block(1).unwrap_err();
    assert!(error.to_string().contains("block 1"), "{error}");
}
