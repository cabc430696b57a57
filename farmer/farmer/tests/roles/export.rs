//! The exporter on a real chain: from a node's RPC and from its database the same pieces, those that the node has; killed,
//! stopped, and gone on with; what it refuses. One test, since a segment costs tens of CPU seconds each time.

mod exporter;

use crate::fixtures;
use crate::roles_support::{RoleProcess, fake_controller, free_address, srs_cache};
use archiving::SrsKind;
use archiving::reconstruction::BlockReconstructor;
use cluster::testing::NatsServer;
use dev_node::DevNode;
use exporter::{Exporter, LONG, command, files, pieces};
use node::{NodeClient, Options};
use node_db::NodeDb;
use parity_scale_codec::Encode;
use piece_store::{FullPieceStore, StoreOptions};
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{Piece, PieceIndex, SegmentCommitment, SegmentHeader, SegmentIndex};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SEGMENTS: u64 = fixtures::LONG_CHAIN;
/// Columns of a node's database (archival §11).
const BODY: u8 = 5;
const AUX: u8 = 8;

struct World {
    directory: tempfile::TempDir,
    genesis: GenesisHash,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("chain").join("db")
    }

    /// A copy of the database with some entries changed or removed, as a pruning or a faulty node would leave it.
    fn changed_database(&self, name: &str, changes: Vec<(u8, Vec<u8>, Option<Vec<u8>>)>) -> PathBuf {
        let path = self.path(name);
        let copied = Command::new("cp").arg("-r").arg(self.database()).arg(&path).status().unwrap();
        assert!(copied.success());
        let mut options = parity_db::Options::with_columns(&path, 13);
        options.columns = parity_db::Options::load_metadata(&path).unwrap().unwrap().columns;
        parity_db::Db::open(&options).unwrap().commit(changes).unwrap();
        path
    }

    fn export(&self, output: &str, arguments: &[&str]) -> exporter::Ended {
        Exporter::start(&self.path(output), arguments).wait()
    }

    fn export_database(&self, output: &str, database: &Path, more: &[&str]) -> exporter::Ended {
        self.export(output, &[&["--node-db", database.to_str().unwrap()], more].concat())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_exported() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let chain = directory.path().join("chain");
    fixtures::long_chain(&chain).await;
    let node = DevNode::start(fixtures::long_chain_config(chain)).await.unwrap();
    let world = World { directory, genesis: node.genesis_hash() };

    kill_and_stop_an_export(&world, &node);
    read_what_a_running_node_exported(&world, &node).await;
    world.export_database("locked", &world.database(), &[]).failed_with(69, &["is locked", "stop the node"]);
    node.shutdown().await.unwrap();
    fixtures::wait_until_closed(&world.database());

    export_from_the_database(&world);
    refuse_another_chain(&world);
    start_where_a_pruned_database_can(&world);
    catch_a_lie(&world);
    mend_a_damaged_store(&world);
    serve_the_result(&world).await;
}

async fn read_what_a_running_node_exported(world: &World, node: &DevNode) {
    let url = format!("ws://{}", node.address());
    let ended = world.export("ws", &["--node-url", &url]);
    assert_eq!(ended.complete(), (SEGMENTS, 0));
    assert_eq!(ended.summary["headers_compared"], true, "{}", ended.summary);
    assert_eq!(ended.summary["genesis"], world.genesis.to_string());

    // Genesis is final at any depth, and no other block is at this one.
    let deep = ["--node-url", &url, "--confirmation-depth", "1000000"];
    assert_eq!(world.export("ws", &deep).complete(), (1, 0));
    let from = ["--node-url", &url, "--from-segment", "3"];
    world.export("ws", &from).failed_with(78, &["3 final segments"]);

    let exported = pieces(&world.path("ws"));
    let client = NodeClient::new(&url, Options::default()).unwrap();
    for segment in [0, SEGMENTS - 1].map(SegmentIndex) {
        for index in segment.piece_indices() {
            let piece = client.piece(index).await.unwrap().unwrap();
            assert_eq!(exported[&index], blake3_hash(piece.as_bytes()), "{index}");
        }
    }
    assert_eq!(exported.len() as u64, SEGMENTS * SegmentIndex::NUM_PIECES as u64);
}

/// Over http, as the operators' guides have it, `NODE_URL` in the environment; gone on with over ws.
fn kill_and_stop_an_export(world: &World, node: &DevNode) {
    let output = world.path("ws");
    let start = |scheme| {
        let mut command = command();
        let url = format!("{scheme}://{}", node.address());
        command.env("NODE_URL", &url).arg("--dev-srs-cache").arg(srs_cache());
        Exporter::spawn(&output, &mut command)
    };
    let mut killed = start("http");
    killed.wait_for("Stored a segment");
    killed.kill();

    let mut stopped = start("http");
    stopped.wait_for("Archiving from here on");
    let ended = stopped.terminate();
    ended.failed_with(75, &["run the same command again"]);
    assert_eq!(ended.summary["complete"], false, "{}", ended.summary);
    let there = ended.summary["segments_already_there"].as_u64().unwrap();
    assert!(there >= 1, "{}", ended.summary);

    let (there_now, archived) = start("ws").wait().complete();
    assert!(there_now >= there && there_now + archived == SEGMENTS, "{there} {there_now} {archived}");
}

fn export_from_the_database(world: &World) {
    let before = files(&world.database());
    // The node's base path is as good as the database itself.
    let ended = world.export_database("db", &world.path("chain"), &[]);
    assert_eq!(ended.complete(), (0, SEGMENTS));
    assert!(files(&world.database()) == before, "the database was changed");
    assert!(pieces(&world.path("db")) == pieces(&world.path("ws")), "the pieces differ");

    // A log that a killed node left is not played into the tables unless that is asked for.
    let copy = world.changed_database("killed-chain", Vec::new());
    std::fs::write(copy.join("log0"), []).unwrap();
    world.export_database("db", &copy, &[]).failed_with(69, &["log0", "--replay-log"]);
    assert_eq!(world.export_database("db", &copy, &["--replay-log"]).complete(), (SEGMENTS, 0));
    world.export_database("db", &world.path("nowhere"), &[]).failed_with(78, &["no such directory"]);
}

fn refuse_another_chain(world: &World) {
    let other = GenesisHash([9; 32]);
    let options = StoreOptions { chain: Some(other), ..StoreOptions::default() };
    drop(FullPieceStore::open(&world.path("other"), &options).unwrap());
    let words = [other.to_string(), world.genesis.to_string()];
    world
        .export_database("other", &world.database(), &[])
        .failed_with(78, &[&words[0], &words[1], "use another directory"]);
}

fn headers(world: &World) -> Vec<SegmentHeader> {
    NodeDb::open_read_only(&world.database()).unwrap().segment_headers().unwrap()
}

fn start_where_a_pruned_database_can(world: &World) {
    let first_kept = headers(world)[1].last_archived_block().number;
    let bodies = {
        let database = NodeDb::open_read_only(&world.database()).unwrap();
        let key = |number: u32| {
            let id = database.block_id(number).unwrap().unwrap();
            [&number.to_be_bytes()[..], &id.hash].concat()
        };
        (1..first_kept).map(|number| (BODY, key(number), None)).collect()
    };
    let pruned = world.changed_database("pruned-chain", bodies);
    let ended = world.export_database("pruned", &pruned, &["--from-segment", "1"]);
    let first = format!("all blocks from {first_kept} on");
    let words =
        ["no longer has block 1,", &first, "`--from-segment 2`", "--blocks-pruning archive-canonical"];
    ended.failed_with(69, &words);
    assert!(pieces(&world.path("pruned")).is_empty());

    let ended = world.export_database("pruned", &pruned, &["--from-segment", "2"]);
    assert_eq!(ended.complete(), (0, 1));
    let mut all = pieces(&world.path("ws"));
    assert!(pieces(&world.path("pruned")) == all.split_off(&SegmentIndex(2).first_piece_index()));
}

/// The newest header has another commitment; the headers before it do not tell.
fn catch_a_lie(world: &World) {
    let SegmentHeader::V0 { segment_index, prev_segment_header_hash, last_archived_block, .. } =
        headers(world)[2];
    let segment_commitment = SegmentCommitment([0xc0; 48]);
    let lie = SegmentHeader::V0 {
        segment_index,
        segment_commitment,
        prev_segment_header_hash,
        last_archived_block,
    };
    // The development node writes one batch for each segment.
    let key = (b"segment-headers".to_vec(), 2u16).encode();
    let lying = world.changed_database("lying-chain", vec![(AUX, key, Some(vec![lie].encode()))]);
    let ended = world.export_database("lie", &lying, &["--from-segment", "2"]);
    let commitment = segment_commitment.to_string();
    ended.failed_with(65, &["segment 2", &commitment, "nothing of this segment was stored", "compare with"]);
    assert!(pieces(&world.path("lie")).is_empty());

    // A store that holds the segment already says so at once.
    world.export_database("db", &lying, &[]).failed_with(65, &["segment 2 with another header"]);
}

fn mend_a_damaged_store(world: &World) {
    let (output, database) = (world.path("db"), world.database());
    let extent = output.join("extent-00000000.bin");
    let damaged = SegmentIndex(2).first_piece_index().0 + 77;
    let (offset, byte) = {
        let store = FullPieceStore::open(&output, &StoreOptions::default()).unwrap();
        let piece = store.get(PieceIndex(damaged)).unwrap();
        (piece.file_region().1 + 1000, piece[1000])
    };
    let file = std::fs::File::options().write(true).open(&extent).unwrap();
    file.write_all_at(&[byte ^ 1], offset).unwrap();
    // The segment that an export goes on from is always verified.
    let ended = world.export_database("db", &database, &[]);
    assert_eq!(ended.complete(), (SEGMENTS - 1, 1));
    assert!(ended.log.contains("archived again"), "{}", ended.log);
    assert!(pieces(&output) == pieces(&world.path("ws")), "the pieces differ");

    file.set_len(offset).unwrap();
    world.export_database("db", &database, &[]).failed_with(65, &["extent-00000000.bin", "move it away"]);
    std::fs::rename(&extent, world.path("moved-away")).unwrap();
    let ended = world.export_database("db", &database, &["--from-segment", "2"]);
    assert_eq!(ended.complete(), (0, 1), "what the journal says does not count without the pieces");
}

async fn serve_the_result(world: &World) {
    let nats = NatsServer::start();
    let client = nats.client().await;
    let _controller = fake_controller(&client, world.genesis, SrsKind::Development.digest()).await;
    let path = format!("path={}", world.path("ws").display());
    let arguments = ["full-piece-sharded-cache", "--tmp", &path, "--listen", &free_address().to_string()];
    let mut cache = RoleProcess::start(world.directory.path(), "cache", &nats.url(), &arguments);
    cache.wait_until_ready(LONG);
    assert_eq!(cache.counter("pieces_cached"), (SEGMENTS * SegmentIndex::NUM_PIECES as u64) as i64);
    cache.terminate();
}

/// A database that Substrate's own backend made (`farmer/node-db/fixture`): its blocks are in the exported pieces to the
/// bit, and recovered from the parity pieces alone.
#[test]
fn a_database_of_substrates_own_making_is_exported() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (node, output) = (directory.path().join("node"), directory.path().join("pieces"));
    vectors::unpack_fixture("sc-client-db/archive.tar.xz", &node);
    let before = files(&node.join("db"));
    let ended = Exporter::start(&output, &["--node-db", node.to_str().unwrap()]).wait();
    assert_eq!(ended.complete(), (0, 2));
    assert_eq!(ended.summary["headers_compared"], false, "its node has archived nothing");
    assert!(files(&node.join("db")) == before, "the database was changed");

    let database = NodeDb::open_unchanged(&node).unwrap();
    let store = FullPieceStore::open(&output, &StoreOptions::default()).unwrap();
    let mut reconstructor = BlockReconstructor::new();
    let mut number = 0;
    for segment in [0, 1].map(SegmentIndex) {
        let parity = |index: PieceIndex| {
            (index.0 % 2 == 1).then(|| Piece::try_from(&store.get(index).unwrap()[..]).unwrap())
        };
        let pieces: Vec<_> = segment.piece_indices().map(parity).collect();
        for (found, block) in reconstructor.add_segment(&pieces).unwrap().blocks {
            assert_eq!(found, number);
            assert!(block == database.encoded_for_archiving(number).unwrap(), "block {number} is another");
            number += 1;
        }
    }
    assert!(number > 60, "{number} blocks");
}

/// Of a pruned database whose node has archived nothing no segment can be exported: it is said why.
#[test]
fn a_pruned_database_of_substrates_own_making_is_refused() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (node, output) = (directory.path().join("node"), directory.path().join("pieces"));
    vectors::unpack_fixture("sc-client-db/pruned.tar.xz", &node);
    let ended = Exporter::start(&output, &["--node-db", node.to_str().unwrap()]).wait();
    ended.failed_with(69, &["no longer has block 0,", "--blocks-pruning archive-canonical"]);
}

/// A database made by the reference's own layout, whose node has archived nothing: genesis alone is final.
#[test]
fn vectors_live_export_of_a_database() {
    let Some(srs) = vectors::live_srs("vectors_live_export_of_a_database") else { return };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (database, output) = (directory.path().join("node"), directory.path().join("pieces"));
    vectors::unpack_node_db(&database);
    let export = || {
        let mut command = command();
        Exporter::spawn(&output, command.arg("--node-db").arg(&database).arg("--srs").arg(&srs)).wait()
    };
    let ended = export();
    assert_eq!(ended.complete(), (0, 1));
    assert_eq!(ended.summary["headers_compared"], false);
    assert_eq!(export().complete(), (1, 0));

    let file: serde_json::Value = vectors::load("node_db.json");
    let store = FullPieceStore::open(&output, &StoreOptions::default()).unwrap();
    let mut all = blake3::Hasher::new();
    for index in SegmentIndex(0).piece_indices() {
        all.update(&store.get(index).unwrap());
    }
    assert_eq!(all.finalize().to_hex().as_str(), file["segment_0"]["all_pieces_concat_blake3"]);
}

#[test]
fn what_does_not_fit_is_said_at_once() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = directory.path().join("pieces");
    let export = |arguments: &[&str]| Exporter::start(&output, arguments).wait();
    export(&[]).failed_with(2, &["--node-url"]);
    export(&["--node-url", "ftp://host"]).failed_with(78, &["the scheme is not ws"]);
    let url = format!("ws://{}", free_address());
    export(&["--node-url", &url, "--node-db", "/nowhere"]).failed_with(2, &["cannot be used with"]);
    export(&["--node-url", &url, "--replay-log"]).failed_with(78, &["--node-db"]);
    export(&["--node-url", &url]).failed_with(69, &["no connection to the node", "refused"]);
    let help = command().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["NODE_URL", "--sync full", "stopped", "full-piece-sharded-cache", "Exit status"] {
        assert!(help.contains(word), "{word:?} is not in the help:\n{help}");
    }
    assert!(!output.exists(), "nothing is made before it is known what to export");
}
