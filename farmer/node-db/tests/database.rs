//! What is written is read again, across reopening; every wrong database has its own error.
#![allow(clippy::unwrap_used, missing_docs)]

use node_db::{BlockId, Error, NodeDb};
use primitives::blocks::{BlockHeader, DigestItem, SignedBlock};
use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};
use primitives::{SegmentCommitment, SegmentHeader, SegmentIndex};
use std::path::Path;
use std::process::Command;

fn block(number: u32, parent_hash: [u8; 32], body: usize) -> SignedBlock {
    SignedBlock {
        header: BlockHeader {
            parent_hash,
            number,
            state_root: [number as u8; 32],
            extrinsics_root: [1; 32],
            digest: vec![DigestItem([&[6u8], &b"DEV_"[..], &[4, 9]].concat())],
        },
        extrinsics: vec![vec![7; body], vec![]],
        justifications: (number == 2).then(|| vec![(*b"OTHR", vec![1, 2, 3])]),
    }
}

fn write_chain(path: &Path, blocks: u32) -> Vec<SignedBlock> {
    let database = NodeDb::open_or_create(path).unwrap();
    assert!(!database.has_genesis().unwrap());
    let mut parent = [0; 32];
    (0..blocks)
        .map(|number| {
            // Above and below the size from which ParityDB compresses.
            let block = block(number, parent, if number % 2 == 0 { 10 } else { 10_000 });
            parent = database.insert_best_block(&block).unwrap().hash;
            block
        })
        .collect()
}

fn segment_header(index: u64, previous: Option<&SegmentHeader>) -> SegmentHeader {
    SegmentHeader::V0 {
        segment_index: SegmentIndex(index),
        segment_commitment: SegmentCommitment([3; 48]),
        prev_segment_header_hash: previous.map(SegmentHeader::hash).unwrap_or_default(),
        last_archived_block: LastArchivedBlock {
            number: index as u32,
            archived_progress: ArchivedBlockProgress::Partial(5),
        },
    }
}

#[test]
fn a_chain_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let blocks = write_chain(&path, 5);
    let headers = {
        let database = NodeDb::open_or_create(&path).unwrap();
        let first = segment_header(0, None);
        let second = segment_header(1, Some(&first));
        let third = segment_header(2, Some(&second));
        database.append_segment_headers(&[first]).unwrap();
        database.append_segment_headers(&[second, third]).unwrap();
        database.set_finalized(database.block_id(3).unwrap().unwrap()).unwrap();
        vec![first, second, third]
    };

    let database = NodeDb::open_read_only(directory.path()).unwrap();
    assert_eq!(database.path(), path);
    assert_eq!(database.segment_headers().unwrap(), headers);
    assert_eq!(database.genesis_hash().unwrap(), blocks[0].header.hash());
    let last = BlockId { number: 4, hash: blocks[4].header.hash() };
    assert_eq!(database.best().unwrap(), last);
    assert_eq!(database.finalized().unwrap().number, 3);
    for block in &blocks {
        assert_eq!(&database.canonical_block(block.header.number).unwrap(), block);
        assert_eq!(
            database.encoded_for_archiving(block.header.number).unwrap(),
            block.clone().encode_for_archiving()
        );
    }
    assert_eq!(database.block_id(5).unwrap(), None);
    assert_eq!(database.block_id_of(&[9; 32]).unwrap(), None);
}

#[test]
fn a_locked_database_is_said_to_be_locked() {
    let directory = tempfile::tempdir().unwrap();
    write_chain(directory.path(), 1);
    let _running = NodeDb::open_or_create(directory.path()).unwrap();
    let error = NodeDb::open_read_only(directory.path()).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("stop the node"), "{error}");
}

/// Names, lengths and bytes of everything in a directory.
fn contents(path: &Path) -> std::collections::BTreeMap<std::ffi::OsString, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_database_is_read_without_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let blocks = write_chain(&path, 5);
    let before = contents(&path);
    let database = NodeDb::open_unchanged(directory.path()).unwrap();
    assert_eq!(database.canonical_block(3).unwrap(), blocks[3]);
    drop(database);
    assert!(contents(&path) == before, "the files changed");

    // A log may be left by a node that was killed: ParityDB would play it into the tables and remove it.
    std::fs::write(path.join("log7"), []).unwrap();
    let error = NodeDb::open_unchanged(&path).unwrap_err();
    assert!(matches!(&error, Error::PendingLog { log, .. } if log == "log7"), "{error}");
    assert!(path.join("log7").exists());
    assert_eq!(NodeDb::open_read_only(&path).unwrap().best().unwrap().number, 4);
    assert!(!path.join("log7").exists());

    // A running node has a log, too; what counts is that it runs.
    let _running = NodeDb::open_or_create(&path).unwrap();
    std::fs::write(path.join("log9"), []).unwrap();
    let error = NodeDb::open_unchanged(&path).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

/// Set for the process that is to be killed: where its database is.
const KILLED: &str = "NODE_DB_TEST_KILLED";

/// Whether some log has a record.
fn has_log(path: &Path) -> bool {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let mut logs = entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with("log"));
    logs.any(|log| log.metadata().is_ok_and(|metadata| metadata.len() > 0))
}

#[test]
fn a_log_that_a_killed_node_left_is_replayed_if_asked() {
    if let Some(path) = std::env::var_os(KILLED) {
        let path = Path::new(&path);
        let database = NodeDb::open_or_create(path).unwrap();
        let mut parent = [0; 32];
        for number in 0..200 {
            // Whole values of every class, and values in parts.
            let block = block(number, parent, 7 + number as usize * number as usize * 3);
            parent = database.insert_best_block(&block).unwrap().hash;
        }
        while !has_log(path) {
            std::thread::yield_now();
        }
        std::process::abort();
    }
    let directory = tempfile::tempdir().unwrap();
    let name = "a_log_that_a_killed_node_left_is_replayed_if_asked";
    let killed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(KILLED, directory.path())
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None, "{killed:?}");
    assert!(has_log(directory.path()));
    let error = NodeDb::open_unchanged(directory.path()).unwrap_err();
    assert!(matches!(&error, Error::PendingLog { .. }), "{error}");
    let database = NodeDb::open_read_only(directory.path()).unwrap();
    for number in 0..=database.best().unwrap().number {
        assert_eq!(database.canonical_block(number).unwrap().header.number, number);
    }
}

/// A log of one record with such entries, its checksum left out.
fn forged_log(entries: &[&[u8]]) -> Vec<u8> {
    [&[1], &1u64.to_le_bytes()[..], &entries.concat(), &[4], &[0; 4]].concat()
}

/// An entry of a log: kind, column and table in it, where, what.
fn entry(kind: u8, column: u8, table: u8, at: u64, what: &[u8]) -> Vec<u8> {
    [&[kind, table, column], &at.to_le_bytes()[..], what].concat()
}

#[test]
fn a_log_that_no_node_wrote_is_not_followed() {
    const INDEX: u8 = 2;
    const VALUE: u8 = 3;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write_chain(path, 5);
    let log = path.join("log0");
    let (one_entry, header) = ([&1u64.to_le_bytes()[..], &[7; 8]].concat(), [0u64, 1].map(u64::to_le_bytes));
    let bad_header = [0u64, 1 << 40].map(u64::to_le_bytes).concat();
    let drop_table = [5u8, 16, 13];
    let cases: [(&str, Vec<u8>); 10] = [
        ("chunk 65536 of an index of 2^16", entry(INDEX, 4, 16, 1 << 16, &one_entry)),
        ("index of 2^255 chunks", entry(INDEX, 4, 255, 0, &one_entry)),
        ("index of 2^19 chunks", entry(INDEX, 4, 19, 0, &one_entry)),
        ("index of 2^3 chunks", entry(INDEX, 4, 3, 0, &one_entry)),
        ("column 13 of 13", entry(INDEX, 13, 16, 0, &one_entry)),
        ("column 13 of 13", drop_table.to_vec()),
        ("writes into slot 4611686018427387904", entry(VALUE, 5, 0, 1 << 62, &[2, 0, 1, 1])),
        ("31 bytes into a slot of 32", entry(VALUE, 5, 0, 1, &[&[31, 0][..], &[1; 31]].concat())),
        (
            "4095 bytes into a slot of 4096",
            entry(VALUE, 5, 255, 1, &[&[0xff, 0x0f][..], &[1; 4095]].concat()),
        ),
        ("1099511627776 slots are filled", entry(VALUE, 5, 0, 0, &bad_header)),
    ];
    let good = [
        entry(INDEX, 4, 16, (1 << 16) - 1, &one_entry),
        entry(INDEX, 4, 18, (1 << 18) - 1, &one_entry),
        entry(VALUE, 5, 0, 1, &[&[30, 0][..], &[1; 30]].concat()),
        entry(VALUE, 5, 255, 1, &[&[0xfe, 0xff][..], &[1; 4094]].concat()),
        entry(VALUE, 5, 0, 2, &[0xff; 10]),
        entry(VALUE, 5, 0, 0, &header.concat()),
    ]
    .concat();
    for (what, bad) in &cases {
        // What is fine before it does not hide it.
        for entries in [&[bad.as_slice()][..], &[&good, bad]] {
            std::fs::write(&log, forged_log(entries)).unwrap();
            let before = contents(path);
            for error in
                [NodeDb::open_read_only(path).unwrap_err(), NodeDb::open_or_create(path).unwrap_err()]
            {
                assert!(matches!(&error, Error::BadLog { log, .. } if log == "log0"), "{what}: {error}");
                assert!(error.to_string().contains(what), "{what}: {error}");
            }
            assert!(contents(path) == before, "{what}: the files changed");
        }
    }
    // Without a fitting checksum ParityDB throws a record away, as it does one that is cut off.
    for end in [good.len() + 14, 40, 9] {
        std::fs::write(&log, &forged_log(&[&good])[..end]).unwrap();
        assert_eq!(NodeDb::open_read_only(path).unwrap().best().unwrap().number, 4);
    }
}

#[test]
fn what_is_no_node_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |path: &Path, expected: &str| {
        let error = NodeDb::open_read_only(path).unwrap_err();
        assert!(matches!(error, Error::NotANodeDatabase { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(&directory.path().join("absent"), "no such directory");
    refused(directory.path(), "no `metadata` file");
    assert!(!directory.path().join("lock").exists(), "nothing is created where there is no database");

    let other = directory.path().join("other");
    drop(parity_db::Db::open_or_create(&parity_db::Options::with_columns(&other, 3)).unwrap());
    refused(&other, "3 columns");

    let wide = directory.path().join("wide");
    drop(parity_db::Db::open_or_create(&parity_db::Options::with_columns(&wide, 13)).unwrap());
    refused(&wide, "no type");

    let damaged = directory.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("metadata"), "version=8\nsalt=12\n").unwrap();
    refused(&damaged, "line 2: the salt is not 64 hex digits");
    std::fs::write(damaged.join("metadata"), "version=8\nsalt=zz").unwrap();
    refused(&damaged, "line 2");
    std::fs::write(damaged.join("metadata"), "col0=preimage: false, compression: 9, ordered: false").unwrap();
    refused(&damaged, "unknown compression");
    std::fs::write(damaged.join("metadata"), [0xff; 9]).unwrap();
    refused(&damaged, "its `metadata` file");
}

/// Removes entries as a pruning or faulty node would.
fn change(path: &Path, changes: Vec<(u8, Vec<u8>, Option<Vec<u8>>)>) {
    let mut options = parity_db::Options::with_columns(path, 13);
    options.columns = parity_db::Options::load_metadata(path).unwrap().unwrap().columns;
    parity_db::Db::open(&options).unwrap().commit(changes).unwrap();
}

fn key(block: &SignedBlock) -> Vec<u8> {
    [&block.header.number.to_be_bytes()[..], &block.header.hash()].concat()
}

#[test]
fn the_first_pruned_block_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = write_chain(directory.path(), 5);
    change(directory.path(), vec![(5, key(&blocks[2]), None), (5, key(&blocks[3]), None)]);

    let database = NodeDb::open_read_only(directory.path()).unwrap();
    assert_eq!(database.first_missing_body(0, 4).unwrap(), Some(2));
    assert_eq!(database.first_missing_body(4, 4).unwrap(), None);
    assert!(matches!(database.first_missing_body(4, 5), Err(Error::NoSuchBlock { number: 5, best: 4 })));
    let error = database.encoded_for_archiving(2).unwrap_err();
    assert!(matches!(error, Error::PrunedBody { number: 2, .. }), "{error}");
    assert!(error.to_string().contains("--blocks-pruning archive-canonical"), "{error}");
    assert!(database.canonical_block(4).is_ok());
}

#[test]
fn damage_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = write_chain(directory.path(), 5);
    let other_header = parity_scale_codec::Encode::encode(&blocks[0].header);
    change(
        directory.path(),
        vec![
            (4, key(&blocks[1]), Some(other_header)),
            (5, key(&blocks[2]), Some(vec![0xff])),
            (6, key(&blocks[3]), Some(vec![4, 1])),
            (3, 4u32.to_be_bytes().to_vec(), Some(vec![1; 35])),
            (8, [&[0x3c][..], b"segment-headers", &[0, 0]].concat(), Some(vec![4])),
        ],
    );
    let database = NodeDb::open_read_only(directory.path()).unwrap();
    for (number, expected) in [
        (1, "not the hash it is stored under"),
        (2, "the body of block 2"),
        (3, "the justifications of block 3"),
        (4, "35 bytes instead of 36"),
    ] {
        let error = database.canonical_block(number).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(database.segment_headers(), Err(Error::Corrupt { .. })));
}

#[test]
fn segment_headers_that_do_not_follow_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let database = NodeDb::open_or_create(directory.path()).unwrap();
    let first = segment_header(0, None);
    database.append_segment_headers(&[first]).unwrap();
    database.append_segment_headers(&[segment_header(1, None)]).unwrap();
    let error = database.segment_headers().unwrap_err();
    assert!(error.to_string().contains("does not follow"), "{error}");

    let other = tempfile::tempdir().unwrap();
    let database = NodeDb::open_or_create(other.path()).unwrap();
    database.append_segment_headers(&[segment_header(1, None)]).unwrap();
    let error = database.segment_headers().unwrap_err();
    assert!(error.to_string().contains("segment 1 where 0 is due"), "{error}");
}
