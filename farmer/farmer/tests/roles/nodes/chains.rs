//! Nodes of one cluster that do not show the same chain: one is behind, one is on a fork, one has lost its peers. Each is
//! found and named by its own controller; the others go on.

use super::small_farm::{LONG, config, controller_of, first_segment};
use super::wait_until;
use crate::roles_support::{RoleProcess, util};
use cluster::testing::NatsServer;
use dev_node::{Config, DevNode};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Blocks come every three seconds.
const SLOT_MS: u64 = 500;
const LAG: u32 = 10;

fn url(node: &DevNode) -> String {
    format!("ws://{}", node.address())
}

/// A node on a copy of the first one's chain, that follows it.
fn following(directory: &Path, name: &str, first: &DevNode) -> Config {
    Config { slot_ms: SLOT_MS, follow: Some(url(first)), ..config(directory.join(name)) }
}

fn waits_for<'a>(words: &'a [&'a str]) -> impl Fn(&Value) -> bool + 'a {
    move |status| {
        let reason = status["waiting_for"].as_str().unwrap_or_default();
        status["state"] == "waiting" && words.iter().all(|word| reason.contains(word))
    }
}

fn counter(role: &RoleProcess, name: &str) -> i64 {
    role.counter(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_behind_or_on_a_fork_are_found_and_named() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path();
    for name in ["chain-0", "good", "behind", "fork"] {
        first_segment(&path.join(name)).await;
    }
    let first = DevNode::start(Config { slot_ms: SLOT_MS, ..config(path.join("chain-0")) }).await.unwrap();
    let good = DevNode::start(following(path, "good", &first)).await.unwrap();
    let behind_config = Config { lag: LAG, ..following(path, "behind", &first) };
    let behind = DevNode::start(behind_config.clone()).await.unwrap();
    let fork_at = Some(first.stats().best_block + 1);
    let fork = DevNode::start(Config { fork_at, ..following(path, "fork", &first) }).await.unwrap();

    let nats = NatsServer::start();
    let controller = |name, node: &DevNode| controller_of(path, name, &nats.url(), &url(node));
    let mut sound = [controller("first", &first), controller("good", &good)];
    let mut late = controller("behind", &behind);
    let mut forked = controller("fork", &fork);

    late.wait_for(
        "the node that is behind",
        LONG,
        waits_for(&[&url(&behind), "is behind", "check its peers"]),
    );
    let on_fork = [&url(&fork), "is on a fork", "synced anew"];
    forked.wait_for("the fork", LONG, waits_for(&on_fork));
    for role in [&late, &forked] {
        assert!(role.log().contains("looks alive and earns nothing"), "{}", role.log());
    }
    assert!(counter(&late, "node_slots_behind") > 4 || counter(&late, "node_blocks_behind") > 5);
    // Its slots cost nobody a proof any more.
    let withheld = counter(&forked, "slots_withheld");
    wait_until("slots of the fork are kept back", || counter(&forked, "slots_withheld") > withheld + 2);

    // The others know, say so, and go on.
    for role in &mut sound {
        role.wait_until_ready(LONG);
        wait_until("the fork is named by the others", || {
            let log = role.log();
            log.contains(&format!("The node at {} is on another chain", url(&fork)))
        });
        let seen = counter(role, "slots_seen");
        wait_until("slots go on", || counter(role, "slots_seen") > seen + 2);
        assert_eq!(role.counter("slots_withheld"), 0);
        assert!(!role.log().contains("looks alive and earns nothing"), "{}", role.log());
    }
    let output = util(&nats.url(), &["ready", "controller"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(text.contains("is behind") && text.contains("is on a fork"), "{text}");

    heals(behind, behind_config, &mut late).await;
    // The first one's node goes away: who followed it has no peers, and says so.
    first.shutdown().await.unwrap();
    let alone = [&url(&good), "has no peers", "check its network"];
    sound[1].wait_for("a node without peers", LONG, waits_for(&alone));
    let [first_controller, good_controller] = sound;
    for role in [first_controller, good_controller, late, forked] {
        role.terminate();
    }
    for node in [good, fork] {
        node.shutdown().await.unwrap();
    }
}

/// The node that was behind catches up.
async fn heals(behind: DevNode, behind_config: Config, late: &mut RoleProcess) {
    behind.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let caught_up = DevNode::start(Config { lag: 0, ..behind_config }).await.unwrap();
    late.wait_until_ready(LONG);
    assert!(late.log().contains("Nothing is wrong with the node any more"), "{}", late.log());
    caught_up.shutdown().await.unwrap();
}
