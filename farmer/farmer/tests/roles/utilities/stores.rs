//! `verify-piece` and `info` on piece stores.

use super::{
    CHAIN, OPTIONS, PIECES, directory, flip, full_store, item_offset, piece, sharded_store, util, util_json,
};
use crate::roles_support::srs_cache;
use crate::world::Controller;
use cluster::testing::NatsServer;
use farmer::roles::items;
use piece_store::{Capacity, FullPieceStore, ItemKind, ShardedPieceStore, StoreOptions};
use primitives::PieceIndex;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(120);

/// The bad pieces of a store, with what is said of them.
fn bad(value: &Value, store: usize) -> Vec<(Option<u64>, String)> {
    let bad = value["stores"][store]["bad"].as_array().unwrap_or_else(|| panic!("{value}"));
    bad.iter().map(|bad| (bad["piece"].as_u64(), bad["reason"].as_str().unwrap().to_owned())).collect()
}

fn names(bad: &[(Option<u64>, String)]) -> Vec<u64> {
    let mut names: Vec<u64> = bad.iter().map(|(piece, _)| piece.unwrap()).collect();
    names.sort_unstable();
    names
}

/// One test, since the chain is made in tens of seconds of CPU.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_are_verified_named_and_taken_up_again() {
    let nats = NatsServer::start();
    let _controller = Controller::start(&nats, &CHAIN).await;
    flipped_bits_are_named_by_piece(&nats);
    pieces_of_another_place_or_history_are_found_by_the_chain_alone(&nats);
    pieces_with_their_parity_are_verified_with_it(&nats);
    a_killed_verification_goes_on_where_it_was(&nats);
}

fn flipped_bits_are_named_by_piece(nats: &NatsServer) {
    let directory = directory();
    let (full, sharded) = (directory.path().join("full"), directory.path().join("sharded"));
    full_store(&full);
    sharded_store(&sharded);
    let url = nats.url();
    let both = ["verify-piece", full.to_str().unwrap(), sharded.to_str().unwrap(), "--nats-server", &url];
    let (value, code, output) = util_json(&both);
    assert_eq!(code, 0, "{output:?}");
    for (store, kind) in ["full", "sharded"].iter().enumerate() {
        let store = &value["stores"][store];
        assert_eq!((&store["kind"], &store["good"]), (&Value::from(*kind), &Value::from(PIECES)), "{store}");
        assert_eq!(store["checked_against"], "chain", "{store}");
    }

    let extent = |store: &Path| store.join("extent-00000000.bin");
    flip(&extent(&full), item_offset(17) + 5000);
    flip(&extent(&full), item_offset(200));
    // An entry of the table: its piece is damaged as well, and an opening store would forget it.
    flip(&extent(&full), 4096 + 99 * 64 + 20);
    // Pieces stand in the sharded store from the last to the first.
    flip(&extent(&sharded), item_offset(3) + 1_000_000);
    let (value, code, output) = util_json(&both);
    assert_eq!(code, 65, "{output:?}");
    let found = bad(&value, 0);
    assert_eq!(names(&found), [17, 99, 200], "{value}");
    for (piece, reason) in &found {
        let expected = if *piece == Some(99) { "entry in the store's table" } else { "its bytes changed" };
        assert!(reason.contains(expected), "{piece:?}: {reason}");
    }
    assert_eq!(names(&bad(&value, 1)), [PIECES - 1 - 3]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("4 pieces are bad") && said.contains("reinitialization-cache"), "{said}");

    // The same in words, without chain and reference string.
    let output = util(&["verify-piece", "--hashes-only", full.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("253 good, 3 bad") && said.contains("piece 17 (slot 17)"), "{said}");
    let (value, code, output) = util_json(&["info", full.to_str().unwrap()]);
    assert_eq!(code, 0, "{output:?}");
    let store = &value["found"][0];
    assert_eq!((&store["pieces"], &store["damaged_entries"]), (&255.into(), &1.into()), "{store}");
    assert_eq!((&store["segments"], &store["segments_complete"]), (&1.into(), &0.into()), "{store}");
}

fn pieces_of_another_place_or_history_are_found_by_the_chain_alone(nats: &NatsServer) {
    let directory = directory();
    let path = directory.path().join("full");
    {
        let store = FullPieceStore::open(&path, &OPTIONS).unwrap();
        for (index, contents) in [(1, 1), (4, 3), (PIECES + 2, 2)] {
            store.put(PieceIndex(index), piece(contents).as_bytes()).unwrap();
        }
    }
    let path = path.to_str().unwrap();
    let (value, code, output) = util_json(&["verify-piece", "--hashes-only", path]);
    assert_eq!((code, &value["stores"][0]["good"]), (0, &3.into()), "{output:?}");
    let url = nats.url();
    let (value, code, _) = util_json(&["verify-piece", "--nats-server", &url, path]);
    assert_eq!((code, &value["stores"][0]["good"]), (65, &1.into()), "{value}");
    let found = bad(&value, 0);
    assert_eq!(names(&found), [4, PIECES + 2], "{value}");
    assert!(found[0].1.contains("does not belong to the chain's history"), "{found:?}");
    assert!(found[1].1.contains("the chain has no segment 1"), "{found:?}");
    // Nobody to ask, and a store of another chain.
    let (_, code, output) = util_json(&["verify-piece", path]);
    assert_eq!(code, 78);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--hashes-only"), "{output:?}");
    let store = FullPieceStore::open(Path::new(path), &OPTIONS).unwrap();
    store.bind_chain(primitives::rpc::GenesisHash([9; 32])).unwrap();
    drop(store);
    let (_, code, output) = util_json(&["verify-piece", "--nats-server", &url, path]);
    assert_eq!(code, 78);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("pieces of the chain with genesis"),
        "{output:?}"
    );
}

fn pieces_with_their_parity_are_verified_with_it(nats: &NatsServer) {
    let directory = directory();
    let path = directory.path().join("split");
    let options = StoreOptions { items: ItemKind::SplitParityPiece, ..OPTIONS };
    let store = ShardedPieceStore::open(&path, &options, Capacity::Pieces(PIECES)).unwrap();
    for index in 0..6 {
        let mut item = items::extend(piece(index).as_bytes()).unwrap();
        match index {
            // A parity chunk, which the piece itself does not have; a source chunk; a piece in another's place.
            2 => item[32 + 31] ^= 1,
            3 => item[31] ^= 1,
            4 => item = items::extend(piece(9).as_bytes()).unwrap(),
            _ => {}
        }
        store.put(PieceIndex(index), &item).unwrap();
    }
    drop(store);
    let path = path.to_str().unwrap();
    let (value, code, output) = util_json(&["verify-piece", "--hashes-only", path]);
    assert_eq!((code, &value["stores"][0]["good"]), (0, &6.into()), "{output:?}");
    assert_eq!(value["stores"][0]["items"], "split-parity-piece", "{value}");
    let url = nats.url();
    let (value, code, _) = util_json(&["verify-piece", "--nats-server", &url, path]);
    assert_eq!((code, &value["stores"][0]["good"]), (65, &3.into()), "{value}");
    let found = bad(&value, 0);
    assert_eq!(names(&found), [2, 3, 4], "{value}");
    assert!(found[0].1.contains("parity chunks are not those of its record"), "{found:?}");
    assert!(found[1..].iter().all(|(_, reason)| reason.contains("the chain's history")), "{found:?}");
}

/// The progress file of the only store, once it says more than that a run has begun.
fn progress_slot(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let file =
        files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "progress"));
    let Some(text) = file.and_then(|path| std::fs::read_to_string(path).ok()) else { return 0 };
    let value: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    value["next_slot"].as_u64().unwrap()
}

fn a_killed_verification_goes_on_where_it_was(nats: &NatsServer) {
    let directory = directory();
    let (path, kept) = (directory.path().join("full"), directory.path().join("progress"));
    full_store(&path);
    std::fs::create_dir(&kept).unwrap();
    let extent = path.join("extent-00000000.bin");
    flip(&extent, item_offset(2));
    flip(&extent, item_offset(250));
    let (url, srs) = (nats.url(), srs_cache());
    let (path, kept_text) = (path.to_str().unwrap(), kept.to_str().unwrap());
    let arguments =
        ["verify-piece", "--nats-server", &url, "--progress-dir", kept_text, "--threads", "1", path];
    let mut killed = util(&arguments)
        .args(["--dev-srs-cache", srs.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while progress_slot(&kept) == 0 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended before it could be killed");
        assert!(started.elapsed() < LONG, "no progress");
        std::thread::sleep(Duration::from_millis(2));
    }
    let kill = Command::new("kill").args(["-KILL", &killed.id().to_string()]).status().unwrap();
    assert!(kill.success() && !killed.wait().unwrap().success());
    let reached = progress_slot(&kept);
    assert!((1..PIECES).contains(&reached), "it was killed at slot {reached}");

    let (value, code, output) = util_json(&arguments);
    assert_eq!(code, 65, "{output:?}");
    let store = &value["stores"][0];
    assert_eq!(store["resumed_at_slot"], reached, "{store}");
    // What is left, and piece 2, which was bad.
    assert_eq!(store["read"], PIECES - reached + 1, "{store}");
    assert_eq!(store["good"], PIECES - 2, "{store}");
    assert_eq!(names(&bad(&value, 0)), [2, 250]);
    // It is done: the next run begins anew.
    assert_eq!(progress_slot(&kept), 0);
    let (value, ..) = util_json(&arguments);
    assert_eq!(value["stores"][0]["read"], PIECES, "{value}");
}
