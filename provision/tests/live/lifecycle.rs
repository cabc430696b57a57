//! Applied, applied again, changed, stopped, started.

use crate::support::{Fixture, Kept, Served};
use primitives::cluster_secret::{self, NatsUser};
use provision::apply::{self, Options};
use provision::events::Event;
use std::process::Command;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn a_second_apply_changes_nothing() {
    let fixture = Fixture::new().await;
    let first = fixture.apply().await.unwrap();
    assert!(first.changes > 20, "{}", first.changes);
    let status = fixture.status().await;
    assert!(status.healthy(), "{status:?}");
    assert_eq!(status.hosts[0].roles.len(), 8);
    assert_eq!(status.cluster.solutions.accepted, 2);
    assert_eq!(status.cluster.solutions.rejected["OutsideRange"], 1);

    // The password of NATS follows from the secret and stands in no plan.
    let path = fixture.layout().nats_conf();
    let configuration = std::fs::read_to_string(&path).unwrap();
    let secret = std::fs::read(fixture.layout().secret()).unwrap();
    let password = NatsUser::Client.password(&cluster_secret::key(&secret));
    assert!(configuration.contains(&password) && !cluster_secret::is_marked(&configuration));
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions()) & 0o777,
        0o600
    );
    assert!(!format!("{first:?}").contains(&password));

    let before = fixture.pids().await;
    let second = fixture.apply().await.unwrap();
    assert_eq!((second.changes, second.plans[0].changes()), (0, 0));
    assert_eq!(fixture.restarted_since(&before).await, Vec::<String>::new());
}

#[tokio::test]
async fn each_change_restarts_exactly_what_it_must() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();

    let before = fixture.pids().await;
    fixture.edit("sectors: 4", "sectors: 5");
    fixture.apply().await.unwrap();
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-plot-client"]);

    let before = fixture.pids().await;
    fixture.edit("max_payload: 3MB", "max_payload: 4MB");
    fixture.apply().await.unwrap();
    assert_eq!(fixture.restarted_since(&before).await, ["nats-server"]);

    let before = fixture.pids().await;
    fixture.rebuild("autonomys-dev-node");
    fixture.apply().await.unwrap();
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-dev-node"]);

    let before = fixture.pids().await;
    fixture.edit(
        "- {port: 9966, metrics_port: 9866}",
        "- {port: 9966, metrics_port: 9866}\n        - {port: 9967}",
    );
    fixture.apply().await.unwrap();
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-plot-server-1"]);
    let second = fixture.pids().await["autonomys-plot-server-1"];

    fixture.edit("        - {port: 9967}\n", "");
    fixture.apply().await.unwrap();
    assert!(!fixture.processes().contains(&second), "the second plot-server was not stopped");
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn stop_and_start_keep_everything_else() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let cluster = fixture.cluster();
    let secret = std::fs::read(fixture.layout().secret()).unwrap();
    assert_eq!(
        apply::stop(&cluster, apply::connect(&cluster, 1).await, &Options::default(), &Kept::default())
            .await
            .unwrap(),
        8
    );
    assert_eq!(fixture.processes(), Vec::<u32>::new());
    let status = fixture.status().await;
    assert!(status.hosts[0].roles.iter().all(|role| role.state == "down"), "{status:?}");

    let started =
        apply::start(&cluster, apply::connect(&cluster, 1).await, &Options::default(), &Kept::default())
            .await
            .unwrap();
    assert_eq!(started.changes, 9, "supervisord and eight programs");
    assert!(fixture.status().await.healthy());
    assert_eq!(std::fs::read(fixture.layout().secret()).unwrap(), secret);
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn the_command_line_speaks_json_events_of_one_version() {
    let fixture = Fixture::new().await;
    let output = fixture.provision(&["--json", "apply"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!((event["v"].as_u64(), event["n"].as_u64()), (Some(1), Some(number as u64)), "{event}");
    }
    assert_eq!(events[0]["event"], "run_started");
    let last = events.last().unwrap();
    assert_eq!(last["event"], "run_finished");
    assert!(last["next"].as_array().unwrap().len() >= 3, "{last}");
    // The secret is in no event, whatever it is.
    let secret = std::fs::read_to_string(fixture.layout().secret()).unwrap();
    assert!(secret.len() == 64 && !text.contains(&secret));

    let status = fixture.provision(&["--json", "status"]).output().unwrap();
    assert!(status.status.success());
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["hosts"][0]["roles"][2]["role"], "controller");
    assert_eq!(status["hosts"][0]["roles"][2]["state"], "ready");
    assert_eq!(status["cluster"]["solutions"]["accepted"], 2);

    let logs = fixture.provision(&["logs"]).arg("plot-client").output().unwrap();
    assert!(String::from_utf8(logs.stdout).unwrap().contains("stub begins"));

    let stopped = fixture.provision(&["stop"]).output().unwrap();
    assert!(stopped.status.success());
    let down = fixture.provision(&["status"]).output().unwrap();
    assert_eq!(down.status.code(), Some(11));
}

#[tokio::test]
async fn a_prefix_too_long_for_a_socket_works() {
    let fixture = Fixture::below(&"long-".repeat(30)).await;
    assert!(!fixture.layout().socket().starts_with(&fixture.prefix));
    fixture.apply().await.unwrap();
    let state = std::fs::metadata(fixture.layout().run()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&state.permissions()) & 0o777, 0o700);
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn secrets_come_from_where_the_inventory_says() {
    let fixture = Fixture::new().await;
    std::fs::write(fixture.directory.path().join("secret.txt"), "sixteen bytes or more\n").unwrap();
    fixture.edit("secret: generate", "secret: {file: secret.txt}");
    let sink = Kept::default();
    let cluster = fixture.cluster();
    let connections = apply::connect(&cluster, 1).await;
    apply::apply(&cluster, connections, &Options::default(), &sink).await.unwrap();
    assert_eq!(std::fs::read_to_string(fixture.layout().secret()).unwrap(), "sixteen bytes or more");
    let told = format!("{:?}", sink.0.lock().unwrap());
    assert!(!told.contains("sixteen bytes"));
    let everywhere =
        Command::new("grep").args(["-rlF", "sixteen bytes"]).arg(&fixture.prefix).output().unwrap();
    let found = String::from_utf8(everywhere.stdout).unwrap();
    assert_eq!(found.trim(), fixture.layout().secret().display().to_string());
    let finished = |event: &Event| matches!(event, Event::RunFinished { .. });
    assert!(sink.0.lock().unwrap().iter().any(finished));
}

/// The network's own node instead of a development chain: brought by path and by URL, checked, started with the guides' flags.
#[tokio::test]
async fn a_network_has_its_own_node() {
    let fixture = Fixture::new().await;
    let node = fixture.add_stub("autonomys-node");
    let served = Served::begin(std::fs::read(&node).unwrap());
    let text = std::fs::read_to_string(&fixture.inventory).unwrap();
    let (before, after) = text.split_once("dev_chain:").unwrap();
    let (_, hosts) = after.split_once("\nhosts:").unwrap();
    let network = format!(
        "network:\n  chain: dev\n  node: {{url: \"{}\", sha256: {}}}\n  arguments: [--name, x]\n  \
         reference_string: development\nhosts:",
        served.url, served.sha256
    );
    std::fs::write(&fixture.inventory, format!("{before}{network}{hosts}")).unwrap();
    let mut cluster = fixture.cluster();
    cluster.artifact_cache = fixture.directory.path().join("cache");
    let apply = async |cluster: &provision::resolve::Cluster| {
        apply::apply(cluster, apply::connect(cluster, 1).await, &Options::default(), &Kept::default()).await
    };

    // What is fetched is not what the inventory says: nothing is begun.
    let mut other = cluster.clone();
    let digest = other.network.as_mut().unwrap().node.sha256.as_mut().unwrap();
    digest.value = "00".repeat(32);
    let error = apply(&other).await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 8, "{error}");
    assert!(!fixture.layout().state().exists(), "nothing is done before everything is here");

    apply(&cluster).await.unwrap();
    let status = provision::status::status(&cluster, &apply::connect(&cluster, 1).await, 1).await;
    assert!(status.healthy(), "{status:?}");
    let told = &status.cluster;
    assert_eq!(
        (told.segments, told.slots_seen, told.solutions.accepted),
        (5, 9, 2),
        "as its controller says"
    );
    assert_eq!(told.solutions.rejected["by the node"], 1);
    let node = &status.hosts[0].roles[1];
    assert_eq!((node.program.as_str(), node.counters["best_block"]), ("autonomys-node", 4_100_000));
    let log = std::fs::read_to_string(fixture.layout().log("autonomys-node")).unwrap();
    let data = fixture.layout().data().join("node");
    let begun = format!("run --base-path {} --chain dev --rpc-listen-on 127.0.0.1:", data.display());
    assert!(
        log.contains(&begun) && log.contains("--rpc-methods unsafe --farmer --sync full --name x"),
        "{log}"
    );
    let before = fixture.pids_of(&cluster).await;
    // Neither fetched nor started again.
    let asked = served.asked.load(Ordering::SeqCst);
    assert_eq!(apply(&cluster).await.unwrap().changes, 0);
    assert_eq!(served.asked.load(Ordering::SeqCst), asked);
    assert_eq!(fixture.pids_of(&cluster).await, before);

    // The development chain again: its node takes the other one's place.
    std::fs::write(&fixture.inventory, text).unwrap();
    fixture.apply().await.unwrap();
    let pids = fixture.pids().await;
    assert!(
        pids.contains_key("autonomys-dev-node") && !fixture.processes().contains(&before["autonomys-node"])
    );
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_wrong_reference_string_is_refused() {
    let fixture = Fixture::new().await;
    let path = fixture.directory.path().join("eth-public-parameters.bin");
    std::fs::write(&path, "another ceremony").unwrap();
    let text = std::fs::read_to_string(&fixture.inventory).unwrap();
    let (_, hosts) = text.split_once("\nhosts:").unwrap();
    let text = format!(
        "version: 1\ncluster: local\nreward_address: sudYa81vECk7o59bZkT37hmZnCHWFBcG4fdr7Gc2ZV9cb8bNY\nnetwork:\n  \
         chain: mainnet\n  node: binaries/autonomys-dev-node\n  reference_string: {}\nhosts:{hosts}",
        path.display()
    );
    std::fs::write(&fixture.inventory, text).unwrap();
    let error = fixture.apply().await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 8, "{error}");
    assert!(error.to_string().contains("expected f3ead1a6249527aa"), "{error}");
    assert!(!fixture.layout().state().exists());
}
