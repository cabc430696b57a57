//! The utilities on real parts: `nats-server`, caches as processes, piece stores of an archived segment, a farm of provable
//! sectors. The controller is the test's.

mod caches;
mod farms;
mod stores;

use crate::roles_support::{farmer, srs_cache};
use crate::world;
use archiving::{Kzg, Srs};
use piece_store::{Capacity, FullPieceStore, ItemKind, ShardedPieceStore, StoreOptions};
use primitives::{Piece, PieceIndex, SegmentIndex};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// Pieces in a sector of the test's chain.
pub const PIECES_IN_SECTOR: u16 = 12;
/// Pieces of the one segment.
pub const PIECES: u64 = SegmentIndex::NUM_PIECES as u64;
/// Small extents: stores of a segment are not sparse then.
const OPTIONS: StoreOptions =
    StoreOptions { items: ItemKind::Piece, chain: None, slots_per_extent: PIECES as u32 };

/// A chain of one segment.
pub static CHAIN: LazyLock<Arc<world::Node>> = LazyLock::new(|| {
    let kzg = Kzg::new(Srs::development(&srs_cache()).unwrap());
    world::Node::new(crate::fixtures::archive(&kzg, 1), PIECES_IN_SECTOR)
});

pub fn piece(index: u64) -> &'static Piece {
    static PIECES: LazyLock<Vec<Piece>> = LazyLock::new(|| CHAIN.segments[0].pieces.to_vec());
    &PIECES[index as usize]
}

pub fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A full store of the whole segment.
pub fn full_store(path: &Path) {
    let store = FullPieceStore::open(path, &OPTIONS).unwrap();
    (0..PIECES).for_each(|index| assert!(store.put(PieceIndex(index), piece(index).as_bytes()).is_ok()));
    store.flush().unwrap();
}

/// A sharded store of the whole segment, the last piece in the first slot.
pub fn sharded_store(path: &Path) {
    let store = ShardedPieceStore::open(path, &OPTIONS, Capacity::Pieces(PIECES)).unwrap();
    for index in (0..PIECES).rev() {
        store.put(PieceIndex(index), piece(index).as_bytes()).unwrap();
    }
    store.flush().unwrap();
}

/// Changes one bit of a file.
pub fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 8], offset).unwrap();
}

/// Byte of a store's only extent at which the item of a slot begins.
pub fn item_offset(slot: u64) -> u64 {
    let head = 4096 + PIECES * 64;
    head.next_multiple_of(4096) + slot * Piece::SIZE as u64
}

/// `autonomys-farmer util ARGUMENTS`.
pub fn util(arguments: &[&str]) -> Command {
    let mut command = farmer();
    command.arg("util").args(arguments);
    command
}

/// Runs a utility with the development string and `--json`; gives what it printed and its exit status.
pub fn util_json(arguments: &[&str]) -> (Value, i32, Output) {
    let srs = srs_cache();
    let common = ["--json", "--dev-srs-cache", srs.to_str().unwrap()];
    let output = util(arguments).args(common).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or(Value::Null);
    (value, output.status.code().unwrap_or(-1), output)
}
