//! What does not work is taken back; what worked before is put back by hand.

use crate::support::{Fixture, Kept};
use provision::apply::{self, Options};
use provision::events::Event;
use provision::layout::Layout;
use provision::output;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Every configuration file and every link to a binary.
fn file_set(layout: &Layout) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for directory in [layout.etc(), layout.etc().join("supervisor.d")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            // What a kill left of a file that was being written has a dot in front, and nobody reads it.
            let written = !path.file_name().unwrap().as_encoded_bytes().starts_with(b".");
            if path.is_file() && written {
                found.insert(path.clone(), std::fs::read(&path).unwrap());
            }
        }
    }
    for entry in std::fs::read_dir(layout.bin()).unwrap() {
        let path = entry.unwrap().path();
        let target = std::fs::read_link(&path).unwrap();
        found.insert(path, target.into_os_string().into_encoded_bytes());
    }
    found
}

fn without_prefix(fixture: &Fixture, text: &str) -> String {
    text.replace(&fixture.prefix.display().to_string(), "PREFIX")
}

#[tokio::test]
async fn a_change_whose_gate_fails_is_taken_back() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let (files, before) = (file_set(&fixture.layout()), fixture.pids().await);
    // NATS comes back changed, a second plot-server is new, and the plot-client fails.
    fixture.edit("max_payload: 3MB", "max_payload: 4MB");
    fixture.edit(
        "- {port: 9966, metrics_port: 9866}",
        "- {port: 9966, metrics_port: 9866}\n        - {port: 9967}",
    );
    fixture.edit("sectors: 4", "sectors: 13");
    let (error, events) = fixture.apply_in_vain().await;
    assert_eq!(error.exit_code() as u8, 14, "{error}");
    let text = output::error_text(&error);
    assert!(text.contains("fears the number thirteen"), "{text}");
    assert!(text.contains("the change was taken back, and what ran before runs again"), "{text}");
    assert!(text.contains("mend the inventory"), "{text}");

    assert_eq!(file_set(&fixture.layout()), files);
    let restarted = fixture.restarted_since(&before).await;
    assert_eq!(restarted, ["autonomys-plot-client", "nats-server"]);
    let told = events.iter().find_map(|event| match event {
        Event::RollbackFinished { restarted, problem, .. } => Some((restarted.clone(), problem.clone())),
        _ => None,
    });
    let (mut told, problem) = told.unwrap();
    told.sort();
    assert_eq!((told, problem), (restarted, None));
    assert_eq!(fixture.processes().len(), 9, "the second plot-server is gone");
    fixture.edit("sectors: 13", "sectors: 4");
    fixture.edit("\n        - {port: 9967}", "");
    fixture.edit("max_payload: 4MB", "max_payload: 3MB");
    assert!(fixture.status().await.healthy());
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_binary_that_does_not_run_is_taken_back() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let (files, before) = (file_set(&fixture.layout()), fixture.pids().await);
    fixture.spoil("autonomys-farmer");
    let (error, _) = fixture.apply_in_vain().await;
    assert_eq!(error.exit_code() as u8, 14, "{error}");
    assert!(output::error_text(&error).contains("this build is broken"), "{error}");
    assert_eq!(file_set(&fixture.layout()), files);
    // The first role of that binary was restarted; no other was touched.
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-controller"]);
    assert!(fixture.status().await.healthy());
    fixture.mend("autonomys-farmer");
    fixture.apply().await.unwrap();
    assert!(fixture.status().await.healthy());
}

#[tokio::test]
async fn a_rollback_that_is_killed_leaves_files_old_or_new_and_is_taken_up() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let old = file_set(&fixture.layout());
    fixture.edit("max_payload: 3MB", "max_payload: 4MB");
    fixture.edit("sectors: 4", "sectors: 13");
    let journal = fixture.layout().state().join("journal.jsonl");
    let mut apply = fixture
        .provision(&["apply", "--patience", "0.1"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut new = BTreeMap::new();
    while !std::fs::read_to_string(&journal).unwrap().contains("putting_back") {
        assert!(apply.try_wait().unwrap().is_none(), "it ended before it was to be killed");
        new = file_set(&fixture.layout());
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    apply.kill().unwrap();
    apply.wait().unwrap();
    for (path, bytes) in file_set(&fixture.layout()) {
        let known = [old.get(&path), new.get(&path)];
        assert!(known.contains(&Some(&bytes)), "{} is neither old nor new", path.display());
    }
    // What is gone back to is what ran, not the mixture.
    let (error, events) = fixture.apply_in_vain().await;
    assert_eq!(error.exit_code() as u8, 14, "{error}");
    let noted = |event: &Event| matches!(event, Event::Note { message, .. } if message.contains("putting"));
    assert!(events.iter().any(noted), "{events:?}");
    assert_eq!(file_set(&fixture.layout()), old);
    fixture.edit("sectors: 13", "sectors: 4");
    fixture.edit("max_payload: 4MB", "max_payload: 3MB");
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_generation_is_put_back_by_hand_and_that_is_undone() {
    let fixture = Fixture::new().await;
    let list = async || {
        let cluster = fixture.cluster();
        apply::generations(apply::connect(&cluster, 1).await, 1, &Kept::default()).await.unwrap()
    };
    let rollback = async |to: Option<&str>| {
        let cluster = fixture.cluster();
        let connections = apply::connect(&cluster, 1).await;
        apply::rollback(&cluster, connections, to, &Options::default(), &Kept::default()).await
    };
    fixture.apply().await.unwrap();
    assert_eq!(list().await, [], "nothing stood here before");
    let error = rollback(None).await.unwrap_err();
    assert_eq!((error.exit_code() as u8, error.to_string().contains("no host keeps")), (4, true), "{error}");

    let one = file_set(&fixture.layout());
    fixture.edit("sectors: 4", "sectors: 5");
    fixture.apply().await.unwrap();
    let two = file_set(&fixture.layout());
    // A run that changes no file leaves no trace.
    fixture.apply().await.unwrap();
    let runs = list().await;
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].hosts["this-machine"], ["etc/supervisor.d/autonomys-plot-client.conf"]);
    // Runs are told apart by the second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    fixture.rebuild("autonomys-dev-node");
    fixture.apply().await.unwrap();

    let before = fixture.pids().await;
    let done = rollback(Some(&runs[0].name)).await.unwrap();
    assert_eq!(done[0].restarted, ["autonomys-dev-node", "autonomys-plot-client"]);
    assert_eq!(fixture.restarted_since(&before).await, done[0].restarted);
    assert_eq!(file_set(&fixture.layout()), one);
    assert!(fixture.status().await.healthy());

    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    rollback(None).await.unwrap();
    let names: Vec<_> = list().await.into_iter().map(|run| run.command).collect();
    assert_eq!(names, ["rollback", "rollback", "apply", "apply"]);
    assert_eq!(fixture.apply().await.unwrap().changes, 0, "back where the inventory is");
    assert_ne!(file_set(&fixture.layout()), two, "the other dev-node");

    let listed = fixture.provision(&["rollback", "--list"]).output().unwrap();
    let text = without_prefix(&fixture, &String::from_utf8(listed.stdout).unwrap());
    assert!(text.contains("this-machine  bin/autonomys-dev-node"), "{text}");
    let unknown = fixture.provision(&["rollback", "--to", "2"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(4));
}
