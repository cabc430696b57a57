//! Controllers and their nodes: those that cannot be earned with, that are behind or on a fork; two at once, one that dies,
//! one that hangs; the farm behind them when proof-servers hang; the sources of its pieces; history that nobody serves.

mod chains;
mod history;
mod node_process;
mod node_proxy;
mod small_farm;
mod sources;
mod voting;

use crate::roles_support::{RoleProcess, util};
use crate::world;
use archiving::SrsKind;
use cluster::contract::InstanceId;
use cluster::testing::NatsServer;
use farming::identity::Identity;
use node_proxy::NodeProxy;
use primitives::{PieceIndex, PieceOffset, SlotNumber, SolutionResponse};
use small_farm::{LONG, PIECES_IN_SECTOR, SECTORS, SmallFarm, controller, start_nodes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_cannot_be_earned_with_are_found_and_named() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let nodes = start_nodes(directory.path(), 1).await;
    let nats = NatsServer::start();

    // A node that is no development node: only those have `dev_stats`.
    let live = NodeProxy::start(nodes[0].address(), false).await;
    controller(directory.path(), "live", &nats.url(), &live).fails_with(
        78,
        &[
            &live.url(),
            "live chain",
            "INSECURE",
            &SrsKind::Development.digest().to_string(),
            &SrsKind::Live.digest().to_string(),
            "--srs FILE",
        ],
    );
    assert!(live.slots().is_empty() && live.submissions().is_empty());

    let safe = NodeProxy::start(nodes[0].address(), true).await;
    safe_methods_only(directory.path(), &nats, &safe);
    for node in nodes {
        node.shutdown().await.unwrap();
    }
}

/// A node without unsafe methods looks alive: slots and segments come. It earns nothing, and the controller says so until
/// the node is started as it should be.
fn safe_methods_only(directory: &Path, nats: &NatsServer, node: &NodeProxy) {
    node.set_safe_only(true);
    let mut role = controller(directory, "safe", &nats.url(), node);
    let named = |status: &serde_json::Value| {
        let waits_for = status["waiting_for"].as_str().unwrap_or_default();
        let words = ["can be earned with", "subspace_subscribeRewardSigning", "--rpc-methods unsafe"];
        status["state"] == "waiting" && words.iter().all(|word| waits_for.contains(word))
    };
    let status = role.wait_for("the node is named", LONG, named);
    assert!(status["waiting_for"].as_str().unwrap().contains(&node.url()), "{status}");
    let status = role.wait_for("slots come all the same", LONG, |status| {
        status["counters"]["slots_seen"].as_i64().is_some_and(|slots| slots >= 2)
    });
    assert!(named(&status) && status["counters"]["segments"] == 1, "{status}");
    assert!(node.refused() > 0 && node.submissions().is_empty());
    let output = util(&nats.url(), &["ready", "controller"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let log = role.log();
    assert!(log.contains("looks alive and earns nothing"), "{log}");
    assert!(!log.contains(": Ready role="), "{log}");

    node.set_safe_only(false);
    role.wait_until_ready(LONG);
    assert!(util(&nats.url(), &["ready", "controller"]).status.success());
    role.terminate();
}

/// `NAME=VALUE` in a line of a log.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {line:?}"))
}

/// The controller whose copy of each slot the plot-client took; each slot is there once.
fn taken_copies(plot_client: &RoleProcess) -> BTreeMap<SlotNumber, InstanceId> {
    let mut taken = BTreeMap::new();
    for line in plot_client.log().lines().filter(|line| line.contains(": Slot slot=")) {
        let slot = field(line, "slot").parse().unwrap();
        let before = taken.insert(slot, field(line, "controller").parse().unwrap());
        assert_eq!(before, None, "slot {slot} was taken twice");
    }
    taken
}

/// Slots of which a solution went on to another controller, with proof that the first one had not delivered it.
fn passed_on(plot_client: &RoleProcess) -> BTreeSet<SlotNumber> {
    let log = plot_client.log();
    let lines = log.lines().filter(|line| line.contains("Solution goes to another controller"));
    lines.map(|line| field(line, "slot").parse().unwrap()).collect()
}

/// What makes two solutions the same to the chain.
fn key(response: &SolutionResponse) -> impl Ord + std::fmt::Debug + use<> {
    let solution = &response.solution;
    let (farm, sector) = (solution.public_key.0, solution.sector_index);
    (response.slot_number, farm, sector, solution.piece_offset.0, solution.chunk.0)
}

/// Every solution is at the node of the controller whose copy of the slot was taken, and no node took one that another
/// node, or itself, had taken before. Gives the number of solutions at each node.
fn check_submissions(farm: &SmallFarm, instances: &[InstanceId]) -> Vec<usize> {
    let submissions: Vec<_> = farm.proxies.iter().map(NodeProxy::submissions).collect();
    let (taken, passed_on) = (taken_copies(&farm.plot_client), passed_on(&farm.plot_client));
    let mut keys = BTreeSet::new();
    for (instance, submissions) in instances.iter().zip(&submissions) {
        for (response, was_taken) in submissions {
            let slot = response.slot_number;
            assert!(taken[&slot] == *instance || passed_on.contains(&slot), "slot {slot} at {instance}");
            assert!(!was_taken || keys.insert(key(response)), "submitted twice: {response:?}");
        }
    }
    submissions.iter().map(Vec::len).collect()
}

/// No node had anything to object, to solutions or to signatures.
fn check_nodes(farm: &SmallFarm) {
    for node in &farm.nodes {
        let stats = node.stats();
        let objections = stats.solutions.rejected.keys().filter(|reason| *reason != "AlreadyRewarded");
        assert_eq!((objections.count(), stats.rewards.invalid), (0, 0), "{stats:?}");
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_farm_as_one_and_one_of_them_goes_on_alone() {
    let mut farm = SmallFarm::start(2, 1).await;
    let instances: Vec<_> = farm.controllers.iter().map(RoleProcess::instance).collect();
    // The first one's copies of the slots come first, whenever the machine keeps up.
    farm.proxies[1].hold_slots_back(Duration::from_millis(500));
    farm.wait_for_solutions("farming with two controllers", 3);
    wait_until("slots of both controllers", || {
        let taken: BTreeSet<_> = taken_copies(&farm.plot_client).into_keys().collect();
        let copies = farm.proxies.iter().map(|proxy| proxy.slots());
        copies.fold(taken, |common, slots| &common & &slots).len() >= 4
    });
    assert!(check_submissions(&farm, &instances).iter().sum::<usize>() >= 3);

    // The first one's node refuses solutions: that is proof that it has not got them, and they go to the second.
    farm.proxies[0].set_safe_only(true);
    let refused_from = farm.proxies[0].submissions().len();
    wait_until("a solution passed on", || {
        let passed_on = passed_on(&farm.plot_client);
        let at_second = farm.proxies[1].submissions();
        at_second.iter().any(|(response, taken)| *taken && passed_on.contains(&response.slot_number))
    });
    assert!(farm.proxies[0].refused() > 0);
    assert_eq!(farm.proxies[0].submissions().len(), refused_from);
    farm.proxies[0].set_safe_only(false);
    check_submissions(&farm, &instances);

    // The first one is killed: farming goes on with the other, signatures included.
    farm.controllers.remove(0).kill();
    let before = check_submissions(&farm, &instances);
    let signed = farm.nodes[1].stats().rewards.signed;
    farm.wait_for_solutions("farming with the controller that is left", 3);
    wait_until("a signature", || farm.nodes[1].stats().rewards.signed > signed);
    let after = check_submissions(&farm, &instances);
    assert!(after[0] == before[0] && after[1] > before[1], "{before:?} {after:?}");
    check_nodes(&farm);
    farm.stop().await;
}

/// Requests that a proof-server has not answered.
fn in_hand(proof_server: &RoleProcess) -> i64 {
    let answered = ["proofs_made", "proofs_late", "proofs_refused_busy", "proofs_unwanted", "proofs_failed"];
    let answered: i64 = answered.into_iter().map(|name| proof_server.counter(name)).sum();
    proof_server.counter("proofs_requested") - answered
}

/// Solutions that proof-servers made, as far as the plot-client tells.
fn proved_by_servers(plot_client: &RoleProcess) -> i64 {
    plot_client.counter("solutions_sent") - plot_client.counter("proofs_local")
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_proof_servers_hold_up_no_slot_and_are_used_again() {
    let mut farm = SmallFarm::start(1, 2).await;
    all_pieces_came_from_the_node(&farm);
    let made = |farm: &SmallFarm, server: usize| farm.proof_servers[server].counter("proofs_made");
    wait_until("proofs of both servers", || made(&farm, 0) > 0 && made(&farm, 1) > 0);

    // One hangs in the middle of a proof: what it was asked for is asked of the other.
    wait_until("a proof in the making", || in_hand(&farm.proof_servers[0]) > 0);
    farm.proof_servers[0].suspend();
    let (before, asked_again) = (made(&farm, 1), farm.plot_client.counter("proofs_asked_again"));
    farm.wait_for_solutions("farming with one server hung", 3);
    wait_until("proofs of the other server", || {
        made(&farm, 1) > before && farm.plot_client.counter("proofs_asked_again") > asked_again
    });

    // All hang: the plot-client proves on its own CPU, in slot after slot.
    farm.proof_servers[1].suspend();
    let (own, skipped) =
        (farm.plot_client.counter("proofs_local"), farm.plot_client.counter("slots_skipped"));
    let solved_before: BTreeSet<_> = solved_slots(&farm).collect();
    wait_until("solutions of four slots", || {
        solved_slots(&farm).collect::<BTreeSet<_>>().difference(&solved_before).count() >= 4
    });
    assert!(farm.plot_client.counter("proofs_local") >= own + 2);
    assert_eq!(farm.plot_client.counter("slots_skipped"), skipped);

    // They go on: both prove again, and what they prove is used again.
    farm.proof_servers.iter().for_each(RoleProcess::resume);
    for server in &mut farm.proof_servers {
        server.wait_until_ready(LONG);
    }
    // Nothing is made of what lay about meanwhile.
    wait_until("old requests are dropped", || {
        farm.proof_servers.iter().map(|server| server.counter("proofs_unwanted")).sum::<i64>() >= 3
    });
    let (first, second) = (made(&farm, 0), made(&farm, 1));
    let by_servers = proved_by_servers(&farm.plot_client);
    wait_until("proofs of both servers again", || {
        made(&farm, 0) > first && made(&farm, 1) > second && proved_by_servers(&farm.plot_client) > by_servers
    });
    let instance = farm.controllers[0].instance();
    assert!(check_submissions(&farm, &[instance])[0] >= 8);
    check_nodes(&farm);
    farm.stop().await;
}

fn solved_slots(farm: &SmallFarm) -> impl Iterator<Item = SlotNumber> {
    let taken = farm.proxies[0].submissions().into_iter().filter(|(_, was_taken)| *was_taken);
    taken.map(|(response, _)| response.slot_number)
}

/// Without caches the plot-server had to ask a controller, whose node has the newest segment.
fn all_pieces_came_from_the_node(farm: &SmallFarm) {
    assert_eq!(farm.nodes[0].stats().segments.archived, 1, "one segment, the newest");
    let public_key = Identity::open(&farm.farm_directory()).unwrap().unwrap().public_key();
    let size = world::size(1);
    let piece = |sector_index, offset| -> PieceIndex {
        let sector_id = public_key.sector_id(sector_index, size);
        let (recent, fraction) = (world::size(5), (world::size(1), world::size(10)));
        sector_id.derive_piece_index(PieceOffset(offset), size, PIECES_IN_SECTOR, recent, fraction)
    };
    let wanted: BTreeSet<_> = (0..SECTORS)
        .flat_map(|sector_index| (0..PIECES_IN_SECTOR).map(move |offset| (sector_index, offset)))
        .map(|(sector_index, offset)| piece(sector_index, offset))
        .collect();
    assert_eq!(farm.proxies[0].pieces_given(), wanted);
    let downloaded = i64::from(SECTORS * PIECES_IN_SECTOR);
    assert_eq!(farm.plot_server.counter("pieces_downloaded"), downloaded);
}
