//! kill -9 of any one role: it comes back, farming goes on.

use crate::farm::Farm;
use std::time::Duration;

/// Every role of the demo, in the order of its start.
const ROLES: [&str; 8] = [
    "nats-server",
    "dev-node",
    "controller",
    "proof-server",
    "sharded-cache",
    "full-piece-sharded-cache",
    "plot-server",
    "plot-client",
];

#[test]
fn every_role_comes_back_and_farming_goes_on() {
    let farm = Farm::new(&[("  slot_ms: 1000", "  slot_ms: 1000\n  slots_per_block: 12")]);
    farm.apply();
    for role in ROLES {
        kill_one(&farm, role);
    }
}

fn kill_one(farm: &Farm, role: &str) {
    let pid = farm.role(role)["pid"].as_i64().unwrap_or_else(|| panic!("{role} does not run"));
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    farm.wait_for(&format!("{role} to come back"), Duration::from_secs(90), || {
        let now = farm.role(role);
        (now["state"] == "ready" && now["pid"].as_i64().is_some_and(|now| now != pid)).then_some(())
    });
    // The node's counters begin anew with the node, so growth is measured from here on.
    let before = farm.accepted();
    farm.wait_for(&format!("an accepted solution after {role} was killed"), Duration::from_secs(150), || {
        (farm.accepted() > before).then_some(())
    });
    for entry in farm.roles() {
        assert_eq!(entry["state"], "ready", "after {role} was killed: {entry:#}");
    }
}
