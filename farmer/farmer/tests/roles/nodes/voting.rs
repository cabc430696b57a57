//! Two nodes that vote on one chain: whatever hangs or dies while a solution is on its way, it is handed in once and signed
//! once. A second signature over the same vote would cost the farm its reward.

use super::node_proxy::{Hold, NodeProxy};
use super::small_farm::SmallFarm;
use super::{key, passed_on, taken_copies, wait_until};
use crate::roles_support::RoleProcess;
use primitives::SolutionResponse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Every solution is at one node only, unless the other gave proof that it has not got it, and the chain has seen none
/// twice; there is one signature of each block and vote, and not more of these than solutions that the chain took.
fn check_votes(farm: &SmallFarm) {
    let passed_on = passed_on(&farm.plot_client);
    let mut keys = BTreeMap::new();
    for (node, proxy) in farm.proxies.iter().enumerate() {
        for (response, _) in proxy.submissions() {
            let before = keys.insert(key(&response), node);
            let again = before.is_some_and(|_| !passed_on.contains(&response.slot_number));
            assert!(!again, "submitted twice: {response:?}");
        }
    }
    let mut signatures = BTreeMap::new();
    for response in farm.proxies.iter().flat_map(NodeProxy::signatures) {
        let signature = response.signature.expect("it is the farm's own").0;
        let first = *signatures.entry(response.hash).or_insert(signature);
        assert!(first == signature, "a second signature of {}", response.hash);
    }
    let stats = farm.nodes[0].stats();
    assert!(stats.solutions.rejected.is_empty() && stats.rewards.invalid == 0, "{stats:?}");
    assert!(signatures.len() as u64 <= stats.rewards.asked, "{stats:?}");
    assert!(stats.rewards.asked <= stats.solutions.accepted, "more votes than solutions: {stats:?}");
}

/// Waits until a solution is on its way to a node.
fn wait_for_held(proxy: &NodeProxy) -> SolutionResponse {
    let before = proxy.held().len();
    wait_until("a solution on its way", || proxy.held().len() > before);
    proxy.held().remove(before)
}

fn without_answer(plot_client: &RoleProcess) -> i64 {
    plot_client.counter("solutions_rejected{NoAnswer}")
}

/// How many of a solution's copies have reached a node, or are on their way to it.
fn copies(proxy: &NodeProxy, solution: &SolutionResponse) -> usize {
    let arrived = proxy.submissions().into_iter().map(|(response, _)| response);
    let seen: BTreeSet<_> = arrived.chain(proxy.held()).map(|response| key(&response)).collect();
    usize::from(seen.contains(&key(solution)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_on_its_way_to_one_of_two_voting_nodes_is_never_signed_twice() {
    let mut farm = SmallFarm::start_with_follower().await;
    let late = Duration::from_millis(700);
    // Copies of both nodes come; solutions of either go to the chain.
    farm.proxies[1].hold_slots_back(late);
    farm.wait_for_solutions("farming with the first node", 2);
    farm.proxies[1].hold_slots_back(Duration::ZERO);
    farm.proxies[0].hold_slots_back(late);
    wait_until("a solution of the second node that the chain took", || {
        farm.proxies[1].submissions().iter().any(|(_, taken)| *taken)
    });
    wait_until("slots of both nodes", || {
        let taken: BTreeSet<_> = taken_copies(&farm.plot_client).into_keys().collect();
        farm.proxies.iter().map(NodeProxy::slots).fold(taken, |common, slots| &common & &slots).len() >= 4
    });
    check_votes(&farm);

    hung_node(&mut farm);
    farm.proxies[0].hold_slots_back(Duration::ZERO);
    farm.proxies[1].hold_slots_back(late);
    killed_controller(&mut farm);
    farm.stop().await;
}

/// The second node hangs with a solution on its way to it.
fn hung_node(farm: &mut SmallFarm) {
    let unanswered = without_answer(&farm.plot_client);
    farm.proxies[1].hold(Hold::Solutions);
    let solution = wait_for_held(&farm.proxies[1]);
    let follower = farm.follower.as_ref().unwrap();
    follower.suspend();
    farm.proxies[1].hold(Hold::Nothing);
    wait_until("silence is taken for what it is", || without_answer(&farm.plot_client) > unanswered);
    assert_eq!(copies(&farm.proxies[0], &solution), 0, "it went to the other node after silence");
    farm.wait_for_solutions("farming with the node that is left", 2);
    let named = |status: &serde_json::Value| status["state"] == "waiting";
    farm.controllers[1].wait_for("the node that hangs is named", super::small_farm::LONG, named);
    // It goes on, and hands in what it had: the same solution, late, and for the first time.
    farm.follower.as_ref().unwrap().resume();
    farm.controllers[1].wait_until_ready(super::small_farm::LONG);
    farm.wait_for_solutions("farming with both again", 2);
    check_votes(farm);
}

/// The first controller is killed when its node has a solution and has not answered.
fn killed_controller(farm: &mut SmallFarm) {
    let unanswered = without_answer(&farm.plot_client);
    farm.proxies[0].hold(Hold::Answers);
    let solution = wait_for_held(&farm.proxies[0]);
    farm.controllers.remove(0).kill();
    farm.proxies[0].hold(Hold::Nothing);
    wait_until("silence is taken for what it is", || without_answer(&farm.plot_client) > unanswered);
    assert_eq!(copies(&farm.proxies[1], &solution), 0, "it went to the other node after silence");
    farm.wait_for_solutions("farming with the controller that is left", 3);
    check_votes(farm);
}
