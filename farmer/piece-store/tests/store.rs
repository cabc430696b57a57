//! Both stores through their public interface.
#![allow(clippy::unwrap_used, missing_docs)]

use piece_store::{
    Capacity, FullPieceStore, ItemKind, Put, ShardedPieceStore, StoreError, StoreOptions, Verdict,
};
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{Piece, PieceIndex};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

fn piece(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; Piece::SIZE];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn options() -> StoreOptions {
    StoreOptions { slots_per_extent: 4, ..StoreOptions::default() }
}

fn full(path: &Path) -> FullPieceStore {
    FullPieceStore::open(path, &options()).unwrap()
}

fn sharded(path: &Path, pieces: u64) -> ShardedPieceStore {
    ShardedPieceStore::open(path, &options(), Capacity::Pieces(pieces)).unwrap()
}

fn flip_bit(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_full_store_finds_every_piece_at_its_index_and_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let indices = [0, 1, 3, 4, 9, 4095, 100_000].map(PieceIndex);
    {
        let store = full(directory.path());
        for index in indices {
            assert_eq!(store.put(index, &piece(index.0)).unwrap(), Put::Stored);
            assert_eq!(store.put(index, &piece(index.0)).unwrap(), Put::AlreadyThere);
        }
        store.flush().unwrap();
    }
    let store = full(directory.path());
    assert!(!store.opened_after_power_loss());
    assert_eq!(store.contents(), indices);
    assert_eq!(store.usage().pieces, indices.len() as u64);
    for index in indices {
        let found = store.get(index).unwrap();
        assert_eq!(&found[..], &piece(index.0)[..]);
        assert_eq!(found.hash(), blake3_hash(&piece(index.0)));
        assert_eq!(store.hash(index), Some(found.hash()));
        let (file, offset) = found.file_region();
        let mut bytes = vec![0; Piece::SIZE];
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert_eq!(bytes, piece(index.0));
    }
    for absent in [2, 5, 4096, 99_999, u64::MAX] {
        assert!(store.get(PieceIndex(absent)).is_none());
        assert_eq!(store.verify(PieceIndex(absent)), Verdict::Absent);
        assert!(!store.remove(PieceIndex(absent)).unwrap());
    }
    assert!(matches!(store.put(PieceIndex(u64::MAX), &piece(1)), Err(StoreError::IndexTooLarge { .. })));
    assert!(matches!(store.put(PieceIndex(2), &piece(1)[1..]), Err(StoreError::ItemSize { .. })));
}

#[test]
fn a_sharded_store_takes_what_fits_and_gives_slots_back() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = sharded(directory.path(), 6);
        for index in [700, 5, 300, 1 << 40, 2, 9].map(PieceIndex) {
            assert_eq!(store.put(index, &piece(index.0)).unwrap(), Put::Stored);
        }
        assert!(matches!(store.put(PieceIndex(1), &piece(1)), Err(StoreError::Full { capacity: 6 })));
        assert!(store.remove(PieceIndex(300)).unwrap());
        assert!(!store.remove(PieceIndex(300)).unwrap());
        assert_eq!(store.put(PieceIndex(1), &piece(1)).unwrap(), Put::Stored);
    }
    let store = sharded(directory.path(), 6);
    assert_eq!(store.contents(), [1, 2, 5, 9, 700, 1 << 40].map(PieceIndex));
    for index in store.contents() {
        assert_eq!(&store.get(index).unwrap()[..], &piece(index.0)[..]);
    }
    drop(store);

    // Fewer slots than pieces: nothing is dropped, nothing more is taken.
    let store = sharded(directory.path(), 3);
    assert_eq!(store.usage().pieces, 6);
    assert!(matches!(store.put(PieceIndex(3), &piece(3)), Err(StoreError::Full { .. })));
    drop(store);
    let store = sharded(directory.path(), 12);
    assert_eq!(store.put(PieceIndex(3), &piece(3)).unwrap(), Put::Stored);
    assert_eq!(store.verify_all(|_, verdict| verdict == Verdict::Valid), []);
}

#[test]
fn a_removed_slot_is_not_reused_while_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = sharded(directory.path(), 1);
    store.put(PieceIndex(1), &piece(1)).unwrap();
    let reader = store.get(PieceIndex(1)).unwrap();
    assert!(store.remove(PieceIndex(1)).unwrap());
    assert!(store.get(PieceIndex(1)).is_none());
    // The only slot is still read: the store must not take another piece, and the reader's bytes must not change.
    assert!(store.put(PieceIndex(2), &piece(2)).is_err());
    assert_eq!(&reader[..], &piece(1)[..]);
    drop(reader);
    assert_eq!(store.put(PieceIndex(2), &piece(2)).unwrap(), Put::Stored);

    let full_directory = tempfile::tempdir().unwrap();
    let full = full(full_directory.path());
    full.put(PieceIndex(1), &piece(1)).unwrap();
    let reader = full.get(PieceIndex(1)).unwrap();
    assert!(full.remove(PieceIndex(1)).unwrap());
    assert!(matches!(full.put(PieceIndex(1), &piece(1)), Err(StoreError::Busy { .. })));
    drop(reader);
    assert_eq!(full.put(PieceIndex(1), &piece(1)).unwrap(), Put::Stored);
}

#[test]
fn a_reference_outlives_the_store_and_crosses_threads() {
    let directory = tempfile::tempdir().unwrap();
    let store = full(directory.path());
    store.put(PieceIndex(1), &piece(1)).unwrap();
    let reader = store.get(PieceIndex(1)).unwrap();
    drop(store);
    let handle = std::thread::spawn(move || {
        assert_eq!(&reader[..], &piece(1)[..]);
        assert!(matches!(FullPieceStore::open(directory.path(), &options()), Err(StoreError::Locked { .. })));
        drop(reader);
        full(directory.path());
    });
    handle.join().unwrap();
}

#[test]
fn readers_and_writers_work_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = sharded(directory.path(), 8);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..20 {
                    let index = PieceIndex(thread * 2 + round % 2);
                    store.put(index, &piece(index.0)).unwrap();
                    let other = PieceIndex((index.0 + 3) % 8);
                    if let Some(found) = store.get(other) {
                        assert_eq!(blake3_hash(&found), blake3_hash(&piece(other.0)));
                    }
                    assert!(store.remove(index).unwrap());
                }
            });
        }
        // All threads fight for one index: it is stored once.
        for _ in 0..4 {
            scope.spawn(|| {
                let result = store.put(PieceIndex(99), &piece(99));
                assert!(matches!(result, Ok(_) | Err(StoreError::Busy { .. } | StoreError::Full { .. })));
            });
        }
    });
    assert!(store.contents().iter().all(|index| index.0 == 99));
    let _ = store.remove(PieceIndex(99)).unwrap();
    // No slot leaked.
    for index in 0..8 {
        assert_eq!(store.put(PieceIndex(1000 + index), &piece(index)).unwrap(), Put::Stored);
    }
}

#[test]
fn a_flipped_bit_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let store = full(directory.path());
    for index in 0..4 {
        store.put(PieceIndex(index), &piece(index)).unwrap();
    }
    let extent = directory.path().join("extent-00000000.bin");
    let offset = store.get(PieceIndex(2)).unwrap().file_region().1;
    flip_bit(&extent, offset + 500_000);
    assert_eq!(store.verify(PieceIndex(2)), Verdict::Damaged);
    assert_eq!(store.verify_all(|_, _| true), [PieceIndex(2)]);
    // What a receiver sees: the hash that was stored no longer fits the bytes.
    let found = store.get(PieceIndex(2)).unwrap();
    assert_ne!(blake3_hash(&found), found.hash());
    drop(found);
    assert!(store.remove(PieceIndex(2)).unwrap());
    store.put(PieceIndex(2), &piece(2)).unwrap();
    assert_eq!(store.verify_all(|_, _| true), []);
    drop(store);

    // A bit of the table: that one piece is absent, the others are there.
    flip_bit(&extent, 4096 + 64 + 20);
    let store = full(directory.path());
    assert_eq!(store.contents(), [0, 2, 3].map(PieceIndex));
}

#[test]
fn damaged_files_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    full(directory.path()).put(PieceIndex(0), &piece(0)).unwrap();
    let extent = directory.path().join("extent-00000000.bin");
    let manifest = directory.path().join("manifest.bin");
    let reopen = || FullPieceStore::open(directory.path(), &options()).map(|_| ()).unwrap_err();

    for (path, offset) in [(&extent, 30), (&extent, 50), (&manifest, 30), (&manifest, 100)] {
        flip_bit(path, offset);
        let error = reopen();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
        flip_bit(path, offset);
    }
    for path in [&extent, &manifest] {
        flip_bit(path, 0);
        assert!(matches!(reopen(), StoreError::WrongMagic { .. }));
        flip_bit(path, 0);
        flip_bit(path, 9);
        assert!(matches!(reopen(), StoreError::UnsupportedVersion { found: 257, supported: 1, .. }));
        flip_bit(path, 9);
    }
    let length = fs::metadata(&extent).unwrap().len();
    for wrong in [0, 100, 4096, length - 1, length + 1] {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(&manifest, copy.path().join("manifest.bin")).unwrap();
        let file = copy.path().join("extent-00000000.bin");
        fs::copy(&extent, &file).unwrap();
        File::options().write(true).open(&file).unwrap().set_len(wrong).unwrap();
        let error = FullPieceStore::open(copy.path(), &options()).unwrap_err();
        assert!(matches!(&error, StoreError::WrongLength { found, .. } if *found == wrong), "{error}");
    }
    // Still whole after all of this.
    assert_eq!(full(directory.path()).verify(PieceIndex(0)), Verdict::Valid);

    fs::rename(&extent, directory.path().join("extent-00000003.bin")).unwrap();
    assert!(matches!(reopen(), StoreError::Damaged { .. }));
    fs::rename(directory.path().join("extent-00000003.bin"), &extent).unwrap();
    let other = tempfile::tempdir().unwrap();
    full(other.path());
    fs::copy(&extent, other.path().join("extent-00000000.bin")).unwrap();
    assert!(matches!(
        FullPieceStore::open(other.path(), &options()).unwrap_err(),
        StoreError::Foreign { .. }
    ));
    fs::remove_file(&manifest).unwrap();
    assert!(matches!(reopen(), StoreError::Damaged { .. }));
}

#[test]
fn another_kind_chain_or_item_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let chain = |byte| Some(GenesisHash([byte; 32]));
    let store = full(directory.path());
    assert_eq!(store.chain(), None);
    store.bind_chain(GenesisHash([1; 32])).unwrap();
    store.bind_chain(GenesisHash([1; 32])).unwrap();
    assert!(matches!(store.bind_chain(GenesisHash([2; 32])), Err(StoreError::WrongChain { .. })));
    assert!(matches!(FullPieceStore::open(directory.path(), &options()), Err(StoreError::Locked { .. })));
    drop(store);

    let open = |options: StoreOptions| FullPieceStore::open(directory.path(), &options);
    assert_eq!(open(options()).unwrap().chain(), chain(1));
    open(StoreOptions { chain: chain(1), ..options() }).unwrap();
    let error = open(StoreOptions { chain: chain(2), ..options() }).unwrap_err();
    assert!(matches!(error, StoreError::WrongChain { .. }), "{error}");
    let error = open(StoreOptions { items: ItemKind::SplitParityPiece, ..options() }).unwrap_err();
    assert!(matches!(error, StoreError::WrongItems { .. }), "{error}");
    let error = ShardedPieceStore::open(directory.path(), &options(), Capacity::Pieces(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is a full store, a sharded store was expected", directory.path().display())
    );
    assert!(matches!(open(StoreOptions { slots_per_extent: 0, ..options() }), Err(StoreError::Options(_))));
}

#[test]
fn split_parity_pieces_have_their_own_size() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { items: ItemKind::SplitParityPiece, ..options() };
    let store = ShardedPieceStore::open(directory.path(), &options, Capacity::Pieces(2)).unwrap();
    let item = vec![7; 2_097_248];
    store.put(PieceIndex(1), &item).unwrap();
    assert_eq!(&store.get(PieceIndex(1)).unwrap()[..], &item[..]);
    assert!(matches!(store.put(PieceIndex(2), &piece(2)), Err(StoreError::ItemSize { .. })));
}

#[test]
fn capacities_in_bytes_and_of_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let capacity = |bytes| {
        ShardedPieceStore::open(directory.path(), &options(), Capacity::Bytes(bytes))
            .map(|store| store.usage().capacity_pieces.unwrap())
    };
    let extent = 8192 + 4 * Piece::SIZE as u64;
    assert_eq!(capacity(extent).unwrap(), 4);
    assert_eq!(capacity(extent - 1).unwrap(), 3);
    assert_eq!(capacity(extent + 8192 + Piece::SIZE as u64).unwrap(), 5);
    assert!(matches!(capacity(8192), Err(StoreError::Options(_))));

    let disk =
        ShardedPieceStore::open(directory.path(), &options(), Capacity::Disk { reserve_bytes: 0 }).unwrap();
    assert!(disk.usage().capacity_pieces.unwrap() > 10);
    drop(disk);
    let nothing = Capacity::Disk { reserve_bytes: u64::MAX };
    assert!(ShardedPieceStore::open(directory.path(), &options(), nothing).is_err());
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = FullPieceStore::open(&path, &options()).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }
}

#[test]
fn a_power_failure_is_noticed_and_a_kill_is_not_one() {
    let directory = tempfile::tempdir().unwrap();
    let in_use = directory.path().join("in-use");
    {
        let store = full(directory.path());
        store.put(PieceIndex(1), &piece(1)).unwrap();
    }
    // Closed without a flush: the mark stays, and the same boot means that the page cache is intact.
    assert!(in_use.exists());
    assert!(!full(directory.path()).opened_after_power_loss());
    fs::write(&in_use, "another boot").unwrap();
    let store = full(directory.path());
    assert!(store.opened_after_power_loss());
    store.flush().unwrap();
    drop(store);
    assert!(!in_use.exists());
    assert!(!full(directory.path()).opened_after_power_loss());
}

#[test]
fn a_store_on_a_full_disk_says_so() {
    // /dev/full refuses every write for want of room: the nearest thing to a full disk without mounting one.
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.path().join("manifest.bin.new")).unwrap();
    let error = FullPieceStore::open(directory.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
}
