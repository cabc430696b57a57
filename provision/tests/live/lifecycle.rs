//! Applied, applied again, changed, stopped, started.

use crate::support::{Fixture, Kept};
use provision::apply::{self, Options};
use provision::events::Event;
use std::process::Command;

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
