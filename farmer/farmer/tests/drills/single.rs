//! kill -9, SIGSTOP, a link cut and a restart of one thing at a time; two NATS servers at once.

use crate::fleet::Fleet;
use crate::{AFTER_CRASH, AFTER_HANG, Drills};
use std::time::Duration;

/// How long something hangs or is cut off.
pub const HANG: Duration = Duration::from_secs(15);
/// How long something that was killed is down.
pub const DOWN: Duration = Duration::from_secs(5);

pub fn all(drills: &mut Drills) {
    nats(drills);
    node_hosts(drills);
}

fn kill(fleet: &mut Fleet, name: &str) -> String {
    fleet.kill(name);
    std::thread::sleep(DOWN);
    fleet.restart(name);
    format!("{name} killed, started again after {} s", DOWN.as_secs())
}

fn hang(fleet: &mut Fleet, name: &str) -> String {
    fleet.suspend(name);
    std::thread::sleep(HANG);
    fleet.resume(name);
    format!("{name} hung for {} s", HANG.as_secs())
}

fn cut(fleet: &mut Fleet, host: u8, what: &str) -> String {
    fleet.network.cut(host);
    std::thread::sleep(HANG);
    fleet.network.mend(host);
    format!("{what} cut off for {} s", HANG.as_secs())
}

fn nats(drills: &mut Drills) {
    drills.drill("nats_killed", AFTER_CRASH, |fleet| {
        let name = fleet.nats_of(6);
        kill(fleet, &name) + ", the plot-client's"
    });
    drills.drill("nats_hangs", AFTER_HANG, |fleet| {
        let name = fleet.nats_of(6);
        hang(fleet, &name) + ", the plot-client's"
    });
    drills.drill("nats_restarted", AFTER_CRASH, |fleet| {
        let name = fleet.nats_of(6);
        fleet.terminate(&name);
        fleet.restart(&name);
        format!("{name}, the plot-client's, stopped and started again at once")
    });
    drills.drill("jetstream_leader_killed", AFTER_CRASH, |fleet| {
        let leader = fleet.jetstream_leader().expect("JetStream has a leader");
        kill(fleet, &leader)
    });
    drills.drill("two_nats_killed", AFTER_HANG, |fleet| {
        ["nats-1", "nats-2"].into_iter().for_each(|name| fleet.kill(name));
        std::thread::sleep(HANG);
        ["nats-1", "nats-2"].into_iter().for_each(|name| fleet.restart(name));
        format!("nats-1 and nats-2 killed, started again after {} s", HANG.as_secs())
    });
}

fn node_hosts(drills: &mut Drills) {
    drills.drill("node_host_cut", AFTER_HANG, |fleet| {
        cut(fleet, 1, "host 192.168.1.1 (NATS, node, controller)")
    });
    drills.drill("controller_killed", AFTER_CRASH, |fleet| kill(fleet, "controller-2"));
    drills.drill("controller_hangs", AFTER_HANG, |fleet| hang(fleet, "controller-2"));
    drills.drill("node_killed", AFTER_CRASH, |fleet| kill(fleet, "node-1"));
    drills.drill("node_hangs", AFTER_HANG, |fleet| hang(fleet, "node-1"));
    drills.drill("proof_server_killed", AFTER_CRASH, |fleet| kill(fleet, "proof-server"));
    drills.drill("proof_server_hangs", AFTER_HANG, |fleet| hang(fleet, "proof-server"));
}
