//! NATS servers, controllers, nodes, the proof-server: each killed, hung, cut off and started anew; two NATS servers at
//! once.

use crate::fault::Fault::{self, Cut, Hung, Killed, Restarted};
use crate::fleet::{Fleet, LONE_CONTROLLER, LONE_NODE, SOURCE};
use crate::{AFTER_HANG, Drills};
use std::thread::sleep;
use std::time::Duration;

/// How often something is moved that comes back.
const MOVES: usize = 5;
/// In this time those who lost their NATS server have another one.
const MOVING: Duration = Duration::from_secs(2);

pub fn all(drills: &mut Drills) {
    nats(drills);
    controllers(drills);
    nodes(drills);
    proof_server(drills);
}

/// What `find` finds among the NATS servers, moved from the host that the slots come from if it is there.
fn elsewhere(fleet: &mut Fleet, find: impl Fn(&mut Fleet) -> String) -> String {
    let of_source = format!("nats-{SOURCE}");
    for _ in 0..MOVES {
        let found = find(fleet);
        if found != of_source {
            return found;
        }
        fleet.terminate(&of_source);
        sleep(MOVING);
        fleet.restart(&of_source);
    }
    panic!("{of_source} has it again after {MOVES} restarts");
}

fn leader(fleet: &mut Fleet) -> String {
    let mut leader = None;
    fleet.wait_settled("JetStream has a leader", |fleet| {
        leader = fleet.jetstream_leader();
        leader.is_some()
    });
    leader.expect("it was waited for")
}

fn nats(drills: &mut Drills) {
    for (name, fault) in [("nats_killed", Killed), ("nats_hangs", Hung), ("nats_restarted", Restarted)] {
        drills.drill(name, fault.may_miss(), |fleet| {
            let name = fleet.nats_of(6);
            fault.strike(fleet, &[&name], &format!("{name}, the plot-client's"))
        });
    }
    drills.drill("node_host_cut", Cut.may_miss(), |fleet| {
        Cut.strike(fleet, &["nats-1"], "host 192.168.1.1 (NATS, node, controller)")
    });
    for (name, fault) in [
        ("jetstream_leader_killed", Killed),
        ("jetstream_leader_hangs", Hung),
        ("jetstream_leader_cut", Cut),
        ("jetstream_leader_restarted", Restarted),
    ] {
        drills.drill(name, fault.may_miss(), |fleet| {
            let name = elsewhere(fleet, leader);
            let what = if matches!(fault, Cut) { format!("the host of {name}") } else { name.clone() };
            fault.strike(fleet, &[&name], &format!("{what}, JetStream's leader"))
        });
    }
    for (name, fault) in [
        ("two_nats_killed", Killed),
        ("two_nats_hang", Hung),
        ("two_nats_cut", Cut),
        ("two_nats_restarted", Restarted),
    ] {
        let what = if matches!(fault, Cut) { "the hosts of nats-1 and nats-2" } else { "nats-1 and nats-2" };
        drills.drill(name, AFTER_HANG, |fleet| {
            elsewhere(fleet, |fleet| fleet.nats_of(6));
            fault.strike(fleet, &["nats-1", "nats-2"], &format!("{what}, the plot-client's among them"))
        });
    }
}

/// Has a controller and its node on hosts of their own, so that each can be cut off alone.
fn with_lone_controller(fleet: &mut Fleet, strike: impl FnOnce(&mut Fleet) -> String) -> String {
    fleet.add_lone_controller();
    let done = strike(fleet);
    fleet.settle();
    fleet.remove(LONE_CONTROLLER);
    fleet.remove(LONE_NODE);
    done
}

fn each(drills: &mut Drills, unit: &str, faults: [(&'static str, Fault); 3]) {
    for (name, fault) in faults {
        drills.drill(name, fault.may_miss(), |fleet| fault.strike(fleet, &[unit], unit));
    }
}

fn controllers(drills: &mut Drills) {
    let faults =
        [("controller_killed", Killed), ("controller_hangs", Hung), ("controller_restarted", Restarted)];
    each(drills, "controller-2", faults);
    drills.drill("controller_cut", Cut.may_miss(), |fleet| {
        with_lone_controller(fleet, |fleet| {
            Cut.strike(fleet, &[LONE_CONTROLLER], "a fourth controller, on 192.168.1.5, its node on .7")
        })
    });
}

fn nodes(drills: &mut Drills) {
    each(drills, "node-1", [("node_killed", Killed), ("node_hangs", Hung), ("node_restarted", Restarted)]);
    drills.drill("node_cut", Cut.may_miss(), |fleet| {
        with_lone_controller(fleet, |fleet| {
            Cut.strike(fleet, &[LONE_NODE], "a fourth node, on 192.168.1.7, its controller on .5")
        })
    });
}

fn proof_server(drills: &mut Drills) {
    let faults = [
        ("proof_server_killed", Killed),
        ("proof_server_hangs", Hung),
        ("proof_server_restarted", Restarted),
    ];
    each(drills, "proof-server", faults);
    drills.drill("proof_server_cut", Cut.may_miss(), |fleet| {
        fleet.relocate("proof-server", 7);
        let done = Cut.strike(fleet, &["proof-server"], "the proof-server, on 192.168.1.7");
        fleet.relocate("proof-server", SOURCE);
        done
    });
}
