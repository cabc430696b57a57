//! A writer is killed with SIGKILL again and again; what it leaves is whole.
#![allow(clippy::unwrap_used, missing_docs)]

use piece_store::{Capacity, ShardedPieceStore, StoreOptions};
use primitives::{Piece, PieceIndex};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DIRECTORY: &str = "PIECE_STORE_KILL_DIRECTORY";

fn piece(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; Piece::SIZE];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn open(path: &std::path::Path) -> ShardedPieceStore {
    let options = StoreOptions { slots_per_extent: 4, ..StoreOptions::default() };
    ShardedPieceStore::open(path, &options, Capacity::Pieces(10)).unwrap()
}

#[test]
#[ignore = "the process that the other test starts and kills"]
fn the_writer() {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let store = open(directory.as_ref());
    for number in 0.. {
        let index = PieceIndex(number % 16);
        if store.put(index, &piece(index.0)).is_err() {
            let oldest = store.contents()[number as usize % 10];
            store.remove(oldest).unwrap();
        }
    }
}

#[test]
fn a_store_whose_writer_is_killed_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for round in 0..12 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "the_writer"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !directory.path().join("in-use").exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(40 + 17 * round));
        writer.kill().unwrap();
        writer.wait().unwrap();

        let store = open(directory.path());
        assert!(!store.opened_after_power_loss());
        assert_eq!(store.verify_all(|_, _| true), [], "round {round}");
        for index in store.contents() {
            assert_eq!(&store.get(index).unwrap()[..], &piece(index.0)[..]);
            seen += 1;
        }
    }
    assert!(seen > 12, "the writer never came to write: {seen}");
}
