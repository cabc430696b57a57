//! Several nodes of one chain: one that follows another, one that stays behind, one that leaves on a fork. They are one
//! test because a segment costs tens of CPU seconds.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/farm.rs"]
mod farm;
mod support;

use archiving::{Kzg, Srs};
use cluster::testing::free_address;
use dev_node::DevStats;
use farm::Farm;
use node::{Error, NodeClient, Options};
use node_db::NodeDb;
use primitives::{BlockNumber, RewardSignatureResponse, SlotInfo};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::Process;

/// A machine with other work to do archives a segment in minutes.
const LONG: Duration = Duration::from_secs(400);
const LAG: u32 = 3;
/// Slots that leave time for a proof.
const SLOW: [&str; 2] = ["--slot-ms", "3000"];
const FAST: [&str; 2] = ["--slot-ms", "500"];

struct Node {
    address: SocketAddr,
    data: PathBuf,
    client: NodeClient,
}

impl Node {
    fn new(directory: &Path, name: &str) -> Self {
        let address = free_address();
        let options = Options { backoff_max: Duration::from_millis(500), ..Options::default() };
        let client = NodeClient::new(&format!("ws://{address}"), options).unwrap();
        Self { address, data: directory.join(name), client }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        let chain = ["--block-bytes", "1048576", "--pieces-in-sector", "2", "--confirmation-depth", "2"];
        let every_chunk_wins = ["--initial-solution-range", "18446744073709551615"];
        Process::start(&self.data, self.address, &[&chain[..], &every_chunk_wins, arguments].concat())
    }

    fn start_following(&self, followed: &Self, arguments: &[&str]) -> Process {
        let url = format!("ws://{}", followed.address);
        self.start(&[&["--follow", &url][..], arguments].concat())
    }

    async fn stats(&self) -> DevStats {
        self.client.read("dev_stats").await.unwrap()
    }

    async fn wait_for(&self, what: &str, wanted: impl Fn(&DevStats) -> bool) -> DevStats {
        let deadline = Instant::now() + LONG;
        loop {
            let stats = self.stats().await;
            if wanted(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "{what}: {stats:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn hash(&self, number: BlockNumber) -> Option<[u8; 32]> {
        self.client.block_hash(number).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_chain() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let first = Node::new(directory.path(), "first");
    let second = Node::new(directory.path(), "second");
    // Whoever follows may be there first.
    let following = second.start_following(&first, &SLOW);
    let leading = first.start(&SLOW);
    first.wait_for("the first segment", |stats| !stats.syncing).await;
    second.wait_for("a node that follows", |stats| !stats.syncing && stats.slots.announced > 0).await;
    let health = second.client.system_health().await.unwrap();
    assert!(!health.is_syncing && health.should_have_peers && health.peers == 1, "{health:?}");

    submissions_are_passed_on(&first, &second).await;
    let leading = the_first_goes_away_and_comes_back(&first, &second, leading).await;
    assert!(following.terminate().0.success());
    assert!(leading.terminate().0.success());
    same_history(&first.data, &second.data);
    behind_and_on_a_fork(directory.path(), &first, &second).await;
}

/// What a farm hands to the second node is judged by the first, which gets its signature by the same way.
async fn submissions_are_passed_on(first: &Node, second: &Node) {
    let kzg = Kzg::new(Srs::development(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap());
    let protocol = second.client.farmer_app_info().await.unwrap().protocol_info;
    let farm = Farm::plot(&second.client, &kzg, 0, protocol).await;
    let (client, identity) = (second.client.clone(), Arc::clone(&farm.identity));
    let signer = tokio::spawn(async move {
        let mut asked = client.subscribe_reward_signing();
        while let Some(info) = asked.next_item().await {
            let signature = Some(identity.sign_reward_hash(&info.hash));
            let response = RewardSignatureResponse { hash: info.hash, signature };
            client.submit_reward_signature(&response).await.unwrap();
        }
    });
    let deadline = Instant::now() + LONG;
    while first.stats().await.rewards.signed == 0 {
        assert!(Instant::now() < deadline, "{:?}", first.stats().await);
        let slot = second.client.subscribe_slots().next_item().await.unwrap();
        let Some(solution) = farm.solve(slot).await else { continue };
        match second.client.submit_solution(&solution).await {
            Ok(()) => tokio::time::sleep(Duration::from_secs(1)).await,
            // The machine was too slow for this slot.
            Err(Error::SolutionIgnored { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    signer.abort();
    let (judge, passed_on) = (first.stats().await, second.stats().await);
    assert!(judge.solutions.accepted >= 1 && judge.solutions.rejected.is_empty(), "{judge:?}");
    assert_eq!((passed_on.solutions.received, passed_on.rewards.asked), (0, 0), "{passed_on:?}");
}

async fn the_first_goes_away_and_comes_back(first: &Node, second: &Node, leading: Process) -> Process {
    assert!(leading.terminate().0.success());
    let deadline = Instant::now() + LONG;
    while second.client.system_health().await.unwrap().peers > 0 {
        assert!(Instant::now() < deadline, "it has not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It goes on answering, and takes no solutions: it could not tell what becomes of them.
    let best = second.stats().await.best_block;
    assert!(second.hash(best).await.is_some() && second.hash(best + 1).await.is_none());
    let samples: serde_json::Value = vectors::load("farming/rpc_types.json");
    let solution = serde_json::from_value(samples["solutionResponse"]["json"].clone()).unwrap();
    let refused = second.client.submit_solution(&solution).await.unwrap_err();
    assert!(matches!(refused, Error::SolutionIgnored { .. }), "{refused}");

    let announced = second.stats().await.slots.announced;
    let leading = first.start(&FAST);
    second
        .wait_for("the chain goes on", |stats| {
            stats.best_block > best + 1 && stats.slots.announced > announced
        })
        .await;
    leading
}

/// Block for block and byte for byte, as far as the second one has come.
fn same_history(first: &Path, second: &Path) {
    let [first_db, second_db] = [first, second].map(|data| NodeDb::open_read_only(&data.join("db")).unwrap());
    let best = second_db.best().unwrap();
    let first_best = first_db.best().unwrap();
    assert!(best.number > 2 && first_best.number >= best.number, "{best:?} {first_best:?}");
    for number in 0..=best.number {
        let [ours, theirs] = [&first_db, &second_db].map(|db| db.canonical_block(number).unwrap());
        assert_eq!(ours, theirs, "block {number}");
    }
    assert_eq!(first_db.segment_headers().unwrap(), second_db.segment_headers().unwrap());
    let pieces = |data: &Path| std::fs::read(data.join("segments/segment-0.pieces")).unwrap();
    assert!(pieces(first) == pieces(second), "the pieces of the first segment differ");
}

async fn behind_and_on_a_fork(directory: &Path, first: &Node, second: &Node) {
    let [behind, fork] = ["behind", "fork"].map(|name| Node::new(directory, name));
    for node in [&behind, &fork] {
        let copied = std::process::Command::new("cp").arg("-r").args([&second.data, &node.data]).status();
        assert!(copied.unwrap().success());
    }
    let leading = first.start(&FAST);
    let fork_at = first.wait_for("the first one", |stats| !stats.syncing).await.best_block + 1;
    let fork_at_text = fork_at.to_string();
    let lagging = behind.start_following(first, &[&FAST[..], &["--lag", &LAG.to_string()]].concat());
    let forked = fork.start_following(first, &[&FAST[..], &["--fork-at", &fork_at_text]].concat());

    let far = |stats: &DevStats| stats.best_block > fork_at + 1;
    behind.wait_for("blocks of the node that is behind", far).await;
    let late = behind.stats().await;
    let newest = first.stats().await;
    assert!(late.best_block + LAG <= newest.best_block, "{late:?} {newest:?}");
    assert!(late.slots.announced > 0 && late.slots.newest + u64::from(LAG) <= newest.slots.newest);
    assert_eq!(behind.hash(late.best_block).await, first.hash(late.best_block).await);
    assert!(lagging.terminate().0.success());

    fork.wait_for("blocks of the fork", far).await;
    assert_eq!(fork.hash(fork_at).await, first.hash(fork_at).await);
    assert_ne!(fork.hash(fork_at + 1).await, first.hash(fork_at + 1).await);
    challenges_differ(first, &fork).await;
    let before = (fork.hash(fork_at + 1).await, fork.stats().await.best_block);
    assert!(forked.terminate().0.success());

    let again = fork.start_following(first, &[&FAST[..], &["--fork-at", &fork_at_text]].concat());
    fork.wait_for("the fork goes on", |stats| stats.best_block > before.1).await;
    assert_eq!(fork.hash(fork_at + 1).await, before.0);
    challenges_differ(first, &fork).await;
    assert!(again.terminate().0.success());
    let mut refused = fork.start_following(first, &FAST);
    let log = |process: &Process| process.log();
    assert!(!refused.wait(LONG).success(), "{}", log(&refused));
    let words = format!("cannot follow the node at ws://{}", first.address);
    assert!(log(&refused).contains(&words) && log(&refused).contains("--fork-at"), "{}", log(&refused));
    assert!(leading.terminate().0.success());
}

/// Both have slots of the same numbers, with other challenges.
async fn challenges_differ(first: &Node, fork: &Node) {
    let mut slots = [first.client.subscribe_slots(), fork.client.subscribe_slots()];
    let mut seen: [BTreeMap<u64, SlotInfo>; 2] = Default::default();
    let deadline = Instant::now() + LONG;
    loop {
        for (slots, seen) in slots.iter_mut().zip(&mut seen) {
            let slot = tokio::time::timeout(LONG, slots.next_item()).await.unwrap().unwrap();
            seen.insert(slot.slot_number, slot);
        }
        let common = seen[0].iter().find_map(|(number, slot)| Some((slot, seen[1].get(number)?)));
        if let Some((ours, theirs)) = common {
            assert_ne!(ours.global_challenge, theirs.global_challenge);
            return;
        }
        assert!(Instant::now() < deadline, "no slot in common: {seen:?}");
    }
}

#[tokio::test]
async fn another_chain_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let [first, other] = ["first", "other"].map(|name| Node::new(directory.path(), name));
    let leading = first.start(&FAST);
    let mut following = other.start_following(&first, &["--seed", "another"]);
    assert!(!following.wait(LONG).success());
    let log = following.log();
    assert!(log.contains("has another chain") && log.contains("--seed"), "{log}");
    leading.kill();

    for flags in [&["--lag", "3"][..], &["--fork-at", "3"], &["--follow", "127.0.0.1:9944"]] {
        let mut wrong = other.start(flags);
        assert!(!wrong.wait(LONG).success(), "{}", wrong.log());
        assert!(wrong.log().contains("--follow"), "{}", wrong.log());
    }
}
