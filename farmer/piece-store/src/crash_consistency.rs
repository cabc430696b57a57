//! What a store looks like when its process is killed, or its disk fills, before each single step of writing.
#![allow(clippy::unwrap_used)]

use crate::faults::Faults;
use crate::{Capacity, FullPieceStore, Put, ShardedPieceStore, StoreError, StoreOptions, Verdict};
use primitives::{Piece, PieceIndex};
use std::io::ErrorKind;
use std::sync::Arc;

fn piece(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; Piece::SIZE];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn options() -> StoreOptions {
    StoreOptions { slots_per_extent: 4, ..StoreOptions::default() }
}

/// Drops a store without closing it, as a kill does.
fn kill<T>(store: T) {
    // The lock is bound to the open file, which a forgotten store would keep: a killed process does not.
    drop(store);
}

#[test]
fn a_full_store_killed_before_any_step_holds_a_piece_wholly_or_not_at_all() {
    let mut steps_needed = None;
    for steps in 0..32 {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let store = FullPieceStore::open_with(directory.path(), &options(), Arc::clone(&faults)).unwrap();
        store.put(PieceIndex(0), &piece(0)).unwrap();
        faults.set(steps);
        // Index 5 needs a new extent: every step of making one is among those at which it is killed.
        let result = store.put(PieceIndex(5), &piece(5));
        kill(store);

        let store = FullPieceStore::open(directory.path(), &options()).unwrap();
        assert_eq!(store.verify(PieceIndex(0)), Verdict::Valid);
        let verdict = store.verify(PieceIndex(5));
        match result {
            Ok(put) => {
                assert_eq!((put, verdict), (Put::Stored, Verdict::Valid));
                steps_needed.get_or_insert(steps);
            }
            Err(_) => assert_ne!(verdict, Verdict::Damaged, "killed before step {steps}"),
        }
        assert!(store.verify_all(|_, _| true).is_empty());
        let expected = if verdict == Verdict::Valid { Put::AlreadyThere } else { Put::Stored };
        assert_eq!(store.put(PieceIndex(5), &piece(5)).unwrap(), expected);
        assert_eq!(&store.get(PieceIndex(5)).unwrap()[..], &piece(5)[..]);
    }
    // Two for the extent, three for the data, two for the entry.
    assert_eq!(steps_needed, Some(7));
}

#[test]
fn a_sharded_store_killed_while_it_replaces_a_piece_never_mixes_the_two() {
    for steps in 0..16 {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let open = |faults: Arc<Faults>| {
            ShardedPieceStore::open_with(directory.path(), &options(), Capacity::Pieces(1), faults).unwrap()
        };
        let store = open(Arc::clone(&faults));
        store.put(PieceIndex(1), &piece(1)).unwrap();
        faults.set(steps);
        let removed = store.remove(PieceIndex(1));
        let stored = store.put(PieceIndex(2), &piece(2));
        kill(store);

        let store = open(Arc::default());
        let contents = store.contents();
        assert!(store.verify_all(|_, _| true).is_empty(), "killed before step {steps}: {contents:?}");
        for index in &contents {
            assert_eq!(&store.get(*index).unwrap()[..], &piece(index.0)[..]);
        }
        if removed.is_ok() && stored.is_ok() {
            assert_eq!(contents, [PieceIndex(2)]);
        }
        assert!(contents.len() <= 1);
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_the_store_usable() {
    for steps in 0..7 {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::after(steps, ErrorKind::StorageFull));
        let store = ShardedPieceStore::open_with(
            directory.path(),
            &options(),
            Capacity::Pieces(2),
            Arc::clone(&faults),
        )
        .unwrap();
        let error = store.put(PieceIndex(7), &piece(7)).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        assert!(store.get(PieceIndex(7)).is_none() && store.contents().is_empty());
        assert_eq!(store.usage().pieces, 0);
        // Room is made: the same process goes on, and no slot was lost unless its entry could not be cleared.
        faults.set(i64::MAX);
        let mut result = store.put(PieceIndex(7), &piece(7));
        if matches!(result, Err(StoreError::Busy { .. })) {
            result = store.put(PieceIndex(7), &piece(7));
        }
        assert_eq!(result.unwrap(), Put::Stored);
        assert_eq!(store.verify(PieceIndex(7)), Verdict::Valid);
    }
}

#[test]
fn a_removal_that_fails_leaves_the_piece() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store =
        ShardedPieceStore::open_with(directory.path(), &options(), Capacity::Pieces(2), Arc::clone(&faults))
            .unwrap();
    store.put(PieceIndex(3), &piece(3)).unwrap();
    faults.set(0);
    assert!(store.remove(PieceIndex(3)).is_err());
    faults.set(i64::MAX);
    assert_eq!(store.verify(PieceIndex(3)), Verdict::Valid);
    assert!(store.remove(PieceIndex(3)).unwrap());
    assert_eq!(store.verify(PieceIndex(3)), Verdict::Absent);
}
