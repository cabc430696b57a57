//! Archived histories, each made by the first test that asks for it: a segment costs tens of CPU seconds. They live as long
//! as the build of this test binary that made them.

use crate::roles_support::{free_address, srs_cache};
use archiving::Kzg;
use archiving::archiver::{ArchivedSegment, Archiver};
use dev_node::{Config, DevNode};
use node::{NodeClient, Options};
use parity_scale_codec::{Decode, Encode};
use primitives::hashes::blake3_hash;
use primitives::objects::BlockObjectMapping;
use primitives::{Blake3Hash, Piece, PieceIndex, SegmentHeader, SegmentIndex};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A machine with other work to do archives a segment in minutes.
const LONG: Duration = Duration::from_secs(400);
const BEGINNING: &str = "made-by-";
/// In the directory of a chain: its node's data, and the hashes of its pieces.
const CHAIN: &str = "chain";
const PIECES: &str = "pieces";

/// Where this build keeps its histories; those of earlier builds are removed.
fn directory() -> PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let build = fs::metadata(std::env::current_exe().unwrap()).unwrap();
    let made = build.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    let name = format!("{BEGINNING}{}-{}", made.as_nanos(), build.len());
    for entry in fs::read_dir(base).unwrap().flatten() {
        let entry_name = entry.file_name().into_string().unwrap_or_default();
        if entry_name.starts_with(BEGINNING) && entry_name != name {
            // Another process may be about it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    fs::create_dir_all(base.join(&name)).unwrap();
    base.join(name)
}

/// What is there under `name`, or a directory in which it is to be made; whoever else asks for it waits.
fn find(name: &str) -> Result<PathBuf, Unfinished> {
    let path = directory().join(name);
    let lock = fs::File::create(path.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if path.exists() {
        return Ok(path);
    }
    let directory = tempfile::tempdir_in(path.parent().unwrap()).unwrap();
    Err(Unfinished { directory, path, _lock: lock })
}

struct Unfinished {
    directory: tempfile::TempDir,
    path: PathBuf,
    _lock: fs::File,
}

impl Unfinished {
    fn finish(self) -> PathBuf {
        fs::rename(self.directory.keep(), &self.path).unwrap();
        self.path
    }
}

/// The first of two archived segments of noise, or both.
pub fn archive(kzg: &Kzg, segments: usize) -> Vec<ArchivedSegment> {
    const SEGMENTS: usize = 2;
    assert!(segments <= SEGMENTS);
    let path = find("noise").unwrap_or_else(|unfinished| {
        let mut archiver = Archiver::new(kzg.clone());
        let block = vectors::xof("roles/plot/block", SEGMENTS * SegmentIndex::RECORDED_HISTORY_SIZE);
        let made = archiver.add_block(block, BlockObjectMapping::default()).unwrap().segments;
        assert_eq!(made.len(), SEGMENTS);
        for (index, segment) in made.iter().enumerate() {
            let pieces = segment.pieces.iter().map(AsRef::<[u8]>::as_ref);
            let bytes: Vec<u8> =
                std::iter::once(&segment.header.encode()[..]).chain(pieces).flatten().copied().collect();
            fs::write(unfinished.directory.path().join(index.to_string()), bytes).unwrap();
        }
        unfinished.finish()
    });
    let read = |index: usize| {
        let bytes = fs::read(path.join(index.to_string())).unwrap();
        let mut pieces = &bytes[..];
        let header = SegmentHeader::decode(&mut pieces).unwrap();
        let pieces = pieces.chunks(Piece::SIZE).map(|piece| Piece::try_from(piece).unwrap()).collect();
        ArchivedSegment { header, pieces }
    };
    (0..segments).map(read).collect()
}

/// Segments of [`long_chain`].
pub const LONG_CHAIN: u64 = 3;

/// [`Config`] of a chain that is archived so far and then makes hardly any block, if `data` is a copy of [`long_chain`].
pub fn long_chain_config(data: PathBuf) -> Config {
    Config {
        rpc_listen_on: free_address(),
        srs_cache: Some(srs_cache()),
        slot_ms: 60_000,
        // Sixteen blocks fill a segment.
        block_bytes: 8 * 1024 * 1024,
        confirmation_depth: 2,
        archive_ahead: LONG_CHAIN,
        ..Config::new(data)
    }
}

/// Puts the data of a node with three segments at `data`; it serves the oldest and the newest.
pub async fn long_chain(data: &Path) {
    chain("long-chain", long_chain_config, data).await;
}

/// Hashes of all pieces of [`long_chain`], as its node served them.
pub fn long_chain_pieces() -> BTreeMap<PieceIndex, Blake3Hash> {
    let path = find("long-chain").ok().expect("the chain is made first").join(PIECES);
    let pieces = Vec::<(u64, [u8; 32])>::decode(&mut &fs::read(path).unwrap()[..]).unwrap();
    pieces.into_iter().map(|(index, hash)| (PieceIndex(index), Blake3Hash(hash))).collect()
}

/// Puts the data of a node with `config` at `data`, as far as it is archived ahead.
pub async fn chain(name: &str, config: impl FnOnce(PathBuf) -> Config, data: &Path) {
    let made = match find(name) {
        Ok(path) => path,
        Err(unfinished) => {
            let path = unfinished.directory.path();
            let pieces = make_chain(config(path.join(CHAIN))).await;
            fs::write(path.join(PIECES), pieces.encode()).unwrap();
            unfinished.finish()
        }
    };
    let copied = Command::new("cp").arg("-r").arg(made.join(CHAIN)).arg(data).status().unwrap();
    assert!(copied.success());
}

/// Makes a chain and takes all its pieces while its node has them.
async fn make_chain(config: Config) -> Vec<(u64, [u8; 32])> {
    let (segments, data) = (config.archive_ahead, config.data.clone());
    // A segment is kept until its pieces are taken.
    let node = DevNode::start(Config { acknowledgement_timeout: LONG, ..config }).await.unwrap();
    let client = NodeClient::new(&format!("ws://{}", node.address()), Options::default()).unwrap();
    let mut announced = client.subscribe_archived_segment_headers();
    let mut pieces = Vec::new();
    for segment in (0..segments).map(SegmentIndex) {
        let header = tokio::time::timeout(LONG, announced.next_item()).await.unwrap().unwrap();
        assert_eq!(header.segment_index(), segment);
        for index in segment.piece_indices() {
            let piece = client.piece(index).await.unwrap().expect("the newest segment is served");
            pieces.push((index.0, blake3_hash(piece.as_bytes()).0));
        }
        client.acknowledge_segment_header(segment).await.unwrap();
    }
    let deadline = Instant::now() + LONG;
    while node.stats().syncing {
        assert!(Instant::now() < deadline, "not archived ahead: {:?}", node.stats());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    node.shutdown().await.unwrap();
    wait_until_closed(&data.join("db"));
    pieces
}

/// A node on a loaded machine returns from its shutdown before its database is closed.
pub fn wait_until_closed(database: &Path) {
    let deadline = Instant::now() + LONG;
    while let Err(error) = node_db::NodeDb::open_unchanged(database) {
        let is_closing = matches!(error, node_db::Error::Locked { .. } | node_db::Error::PendingLog { .. });
        assert!(is_closing && Instant::now() < deadline, "{error}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
