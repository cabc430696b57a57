//! Applied, applied again, changed, with a host that is down, stopped.

use crate::hosts::{Fleet, is_outside};
use crate::support::Kept;
use provision::apply::{self, Options};
use provision::error::Error;
use provision::events::Event;

/// Where the steps of a program begin and end, by host, in the order in which it happened.
fn course(told: &[Event], wanted: &str) -> Vec<(bool, String)> {
    let of = |event: &Event| match event {
        Event::StepStarted { host, step, .. } if step == wanted => Some((true, host.clone())),
        Event::StepFinished { host, step, .. } if step == wanted => Some((false, host.clone())),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

#[tokio::test]
async fn fleet_is_applied_from_bare_hosts_and_then_left_alone() {
    if is_outside("applied::fleet_is_applied_from_bare_hosts_and_then_left_alone") {
        return;
    }
    let fleet = Fleet::new().await;
    let (first, told) = fleet.apply().await;
    let first = first.unwrap_or_else(|error| panic!("{}", provision::output::error_text(&error)));
    assert_eq!(first.plans.len(), 7);
    let status = fleet.status().await;
    assert!(status.healthy(), "{}", provision::output::status_text(&status));
    // Nobody starts what another host's start was to come before.
    let last_nats = told.iter().rposition(
        |event| matches!(event, Event::StepFinished { step, .. } if step == "program:nats-server"),
    );
    let first_node = told.iter().position(
        |event| matches!(event, Event::StepStarted { step, .. } if step == "program:autonomys-dev-node"),
    );
    assert!(last_nats.unwrap() < first_node.unwrap());
    // One secret for all, told to nobody.
    let secret = fleet.read(1, "/var/lib/autonomys/guide/etc/cluster-secret");
    assert_eq!(secret.len(), 64);
    for host in 2..=7 {
        assert_eq!(fleet.read(host, "/var/lib/autonomys/guide/etc/cluster-secret"), secret, "host {host}");
    }
    assert!(!format!("{told:?}").contains(std::str::from_utf8(&secret).unwrap()));
    // The three servers are one cluster: each has routes to the other two.
    let conf = String::from_utf8(fleet.read(2, "/var/lib/autonomys/guide/etc/nats-server.conf")).unwrap();
    assert!(conf.contains("server_name: \"guide-node-2\"") && conf.contains("@192.168.1.3:4248"), "{conf}");

    let before = fleet.pids().await;
    let (again, _) = fleet.apply().await;
    assert_eq!(again.unwrap().changes, 0);
    assert_eq!(fleet.pids().await, before);

    // A change of all NATS servers goes through one after the other, and restarts nothing else.
    fleet.edit("max_payload: 3MB", "max_payload: 4MB");
    let (changed, told) = fleet.apply().await;
    changed.unwrap();
    let course = course(&told, "program:nats-server");
    let hosts = ["node-1", "node-2", "node-3"].map(String::from);
    let one_by_one: Vec<_> =
        hosts.iter().flat_map(|host| [(true, host.clone()), (false, host.clone())]).collect();
    assert_eq!(course, one_by_one);
    let restarted: Vec<_> = fleet.pids().await.into_iter().filter(|row| !before.contains(row)).collect();
    assert_eq!(
        restarted.iter().map(|(_, program, _)| program.as_str()).collect::<Vec<_>>(),
        ["nats-server"; 3]
    );

    // A supervisord that has to be restarted takes everything of its host down: one host is whole before the next begins.
    for host in [1, 2] {
        fleet.run_on(host, &["sed", "-i", "1i ; changed", "/var/lib/autonomys/guide/etc/supervisord.conf"]);
    }
    let (mended, told) = fleet.apply().await;
    mended.unwrap_or_else(|error| panic!("{}", provision::output::error_text(&error)));
    let of = |wanted: &str| {
        let is_of = move |event: &Event| matches!(event, Event::StepFinished { host, .. } if host == wanted);
        (told.iter().position(is_of).unwrap(), told.iter().rposition(is_of).unwrap())
    };
    let ((_, node_1_whole), (node_2_begins, _), (_, node_3_done)) =
        (of("node-1"), of("node-2"), of("node-3"));
    assert!(node_3_done < node_1_whole && node_1_whole < node_2_begins);
    assert!(fleet.status().await.healthy());

    // A host with a secret of its own would be refused by all others.
    fleet.run_on(7, &["sed", "-i", "s/^./x/", "/var/lib/autonomys/guide/etc/cluster-secret"]);
    let error = fleet.apply().await.0.unwrap_err().to_string();
    assert!(error.contains("hosts node-1 and storage-2 have different ones"), "{error}");

    let cluster = fleet.cluster();
    let (connections, options) = (fleet.connect(&cluster).await, Options::default());
    let stopped = apply::stop(&cluster, connections, &options, &Kept::default()).await.unwrap();
    assert_eq!(stopped, 3 * 4 + 2 * 6 + 2);
    assert!(fleet.status().await.hosts.iter().all(|host| host.supervisord.is_none()));
}

#[tokio::test]
async fn fleet_goes_on_without_a_host_that_is_down() {
    if is_outside("applied::fleet_goes_on_without_a_host_that_is_down") {
        return;
    }
    let fleet = Fleet::new().await;
    fleet.network.cut(7);
    let (failed, _) = fleet.apply().await;
    let error = failed.unwrap_err();
    let text = provision::output::error_text(&error);
    assert_eq!(error.exit_code() as u8, 5, "{text}");
    let Error::Hosts { failures, of: 7 } = &error else { panic!("{text}") };
    assert_eq!(
        failures.iter().map(|failure| failure.host.as_str()).collect::<Vec<_>>(),
        ["storage-2"],
        "{text}"
    );
    let status = fleet.status().await;
    assert_eq!(status.hosts.iter().filter(|host| host.healthy()).count(), 6);
    assert!(status.hosts[6].error.is_some());
    let before = fleet.pids().await;

    // Back again it gets what it lacks, the others' secret among it, and nobody else is touched.
    fleet.network.mend(7);
    let (mended, _) = fleet.apply().await;
    let mended = mended.unwrap_or_else(|error| panic!("{}", provision::output::error_text(&error)));
    assert!(mended.plans[..6].iter().all(|plan| plan.changes() == 0), "{mended:?}");
    assert!(fleet.status().await.healthy());
    let after = fleet.pids().await;
    assert!(before.iter().all(|row| after.contains(row)), "{before:?} {after:?}");
    let secret = |host| fleet.read(host, "/var/lib/autonomys/guide/etc/cluster-secret");
    assert_eq!(secret(1), secret(7));
}

#[tokio::test]
async fn fleet_is_not_touched_when_one_host_is_unfit() {
    if is_outside("applied::fleet_is_not_touched_when_one_host_is_unfit") {
        return;
    }
    let fleet = Fleet::new().await;
    fleet.edit("/mnt/nvme0n2/farm", "/mnt/nvme9n9/farm");
    let (failed, told) = fleet.apply().await;
    let error = failed.unwrap_err();
    let text = provision::output::error_text(&error);
    assert_eq!(error.exit_code() as u8, 4, "{text}");
    assert!(text.contains("host storage-1:") && text.contains("/mnt/nvme9n9/farm does not exist"), "{text}");
    assert!(text.contains("nothing was done on any host"), "{text}");
    assert!(!told.iter().any(|event| matches!(event, Event::StepStarted { .. })));
}

/// The whole farm by the command line, as an operator has it: a chain of its own, 26 programs on seven hosts, and solutions.
#[tokio::test]
async fn fleet_of_the_guides_farms() {
    if is_outside("applied::fleet_of_the_guides_farms") {
        return;
    }
    let fleet = Fleet::new().await.with_real_binaries();
    let applied = fleet.provision(&["apply"]);
    assert!(applied.contains("wait for the first accepted solution"), "{applied}");
    let status: serde_json::Value = serde_json::from_str(&fleet.provision(&["--json", "status"])).unwrap();
    let roles = status["hosts"].as_array().unwrap().iter().flat_map(|host| host["roles"].as_array().unwrap());
    let states: Vec<_> = roles.map(|role| role["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ready"; 26], "{status:#}");
    assert!(status["cluster"]["solutions"]["accepted"].as_u64() > Some(0), "{status:#}");
    let shown = fleet.provision(&["status"]);
    assert!(shown.contains("storage-2  1 of 1 role ready"), "{shown}");
    let again = fleet.provision(&["apply"]);
    assert!(again.contains("is as it should be: 0 changes"), "{again}");
}
