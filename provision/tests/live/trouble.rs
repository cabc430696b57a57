//! What goes wrong, is said clearly, and heals.

use crate::support::{Fixture, signal};
use provision::Error;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

fn codes(error: &Error) -> Vec<&str> {
    match error {
        Error::Check { problems } => problems.iter().map(|problem| problem.code).collect(),
        other => panic!("expected Check, found {other}"),
    }
}

#[tokio::test]
async fn a_taken_port_is_found_before_anything_is_touched() {
    let fixture = Fixture::new().await;
    let _taken = TcpListener::bind(("127.0.0.1", 9944 + fixture.port_offset)).unwrap();
    let error = fixture.apply().await.unwrap_err();
    assert_eq!(codes(&error), ["port-taken"]);
    let text = provision::output::error_text(&error);
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    assert_eq!(error.exit_code() as u8, 4);
    assert!(!fixture.layout().state().exists() && !fixture.layout().etc().exists());
}

#[tokio::test]
async fn a_prefix_that_cannot_be_written_is_said() {
    let mut fixture = Fixture::new().await;
    let file = fixture.directory.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    fixture.prefix = file.join("prefix");
    let error = fixture.apply().await.unwrap_err();
    assert!(codes(&error).iter().all(|code| *code == "not-a-directory"), "{error}");
    // A file system that has no room for anything, however its permissions look to root.
    fixture.prefix = "/proc/autonomys-test".into();
    let error = fixture.apply().await.unwrap_err();
    assert_eq!(codes(&error), ["disk-too-small"], "{error}");
}

#[tokio::test]
async fn two_applies_at_once_exclude_each_other() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    fixture.edit("sectors: 4", "sectors: 6");
    let (one, other) = tokio::join!(fixture.apply(), fixture.apply());
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    won.unwrap();
    let lost = lost.unwrap_err();
    assert_eq!(lost.exit_code() as u8, 10);
    assert!(lost.to_string().contains(&format!("process {}", std::process::id())), "{lost}");
    assert!(lost.hint().unwrap().contains("lock break"), "{lost}");
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_run_that_hangs_is_named_and_its_lock_broken() {
    let fixture = Fixture::new().await;
    let output = |arguments: &[&str]| {
        let output = fixture.provision(arguments).stdin(std::process::Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    assert!(output(&["lock", "status"]).1.contains("free"));
    let mut hanging = fixture.provision(&["apply"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let lock = fixture.layout().lock();
    while std::fs::read(&lock).unwrap_or_default().is_empty() {
        assert!(hanging.try_wait().unwrap().is_none(), "it ended before it took the lock");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    signal(hanging.id(), "-STOP");
    let held = format!("process {}", hanging.id());
    let (code, said) = output(&["apply"]);
    assert!(code == Some(10) && said.contains(&held), "{said}");
    let (_, said) = output(&["lock", "status"]);
    assert!(said.contains("held by `provision apply` of ") && said.contains(&held), "{said}");
    // Not without a yes, and there is nobody who could say it.
    let (code, said) = output(&["lock", "break"]);
    assert!(code == Some(2) && said.contains("--yes"), "{said}");
    assert!(output(&["lock", "status"]).1.contains(&held));
    let (code, said) = output(&["lock", "break", "--yes"]);
    assert!(code == Some(0) && said.contains("1 lock broken"), "{said}");
    assert!(!hanging.wait().unwrap().success());
    assert!(output(&["lock", "status"]).1.contains("free"));
    fixture.apply().await.unwrap();
    assert!(fixture.status().await.healthy());
}

#[tokio::test]
async fn a_doctor_finds_what_is_wrong() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let doctor = || {
        let output = fixture.provision(&["--json", "doctor"]).output().unwrap();
        let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let of = |severity: &str| {
            let found = findings.iter().filter(|finding| finding["severity"] == severity);
            found.map(|finding| finding["code"].as_str().unwrap().to_string()).collect::<Vec<_>>()
        };
        (output.status.code(), of("error"), of("warning"))
    };
    let (code, errors, warnings) = doctor();
    assert_eq!((code, errors), (Some(0), vec![]), "{warnings:?}");
    assert!(warnings.contains(&"rejected".to_string()), "{warnings:?}");
    signal(fixture.status().await.hosts[0].supervisord.unwrap(), "-KILL");
    let (code, errors, _) = doctor();
    assert_eq!((code, errors), (Some(11), vec!["orphans".to_string(), "supervisord".to_string()]));
    fixture.apply().await.unwrap();
    assert_eq!(doctor().0, Some(0));
}

#[tokio::test]
async fn a_killed_supervisord_is_healed() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let supervisord = fixture.status().await.hosts[0].supervisord.unwrap();
    let before = fixture.pids().await;
    signal(supervisord, "-KILL");
    // Its programs go on without it, and hold their ports.
    let report = fixture.apply().await.unwrap();
    assert!(report.plans[0].steps.iter().any(|step| step.id == "orphans"));
    assert!(fixture.status().await.healthy());
    assert_eq!(fixture.restarted_since(&before).await.len(), 8);
    assert_eq!(fixture.processes().len(), 9, "nothing is left behind");
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_stale_socket_and_pid_file_do_not_hinder() {
    let fixture = Fixture::new().await;
    let run = fixture.layout().run();
    std::fs::create_dir_all(&run).unwrap();
    drop(UnixListener::bind(fixture.layout().socket()).unwrap());
    // A process that is not ours has the number now.
    std::fs::write(run.join("supervisord.pid"), "1\n").unwrap();
    fixture.apply().await.unwrap();
    assert!(fixture.status().await.healthy());
}

#[tokio::test]
async fn a_stopped_supervisord_is_told_in_bounded_time() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let supervisord = fixture.status().await.hosts[0].supervisord.unwrap();
    let before = fixture.pids().await;
    signal(supervisord, "-STOP");
    let started = Instant::now();
    let error = fixture.apply().await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
    assert!(error.to_string().contains(&format!("kill -9 {supervisord}")), "{error}");
    signal(supervisord, "-CONT");
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
    assert_eq!(fixture.restarted_since(&before).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_apply_is_taken_up_again() {
    let fixture = Fixture::new().await;
    // At the very beginning, in the files, at supervisord, and between programs.
    for milliseconds in [50, 350, 700, 1500, 3500] {
        let mut apply = fixture.provision(&["apply"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        apply.kill().unwrap();
        apply.wait().unwrap();
    }
    let journal = std::fs::read_to_string(fixture.layout().state().join("journal.jsonl")).unwrap();
    assert!(!journal.contains("\"ended\""), "no apply was to end: {journal}");
    fixture.apply().await.unwrap();
    assert!(fixture.status().await.healthy());
    assert_eq!(fixture.processes().len(), 9);
    assert_eq!(fixture.apply().await.unwrap().changes, 0);
}

#[tokio::test]
async fn a_program_that_does_not_stay_up_shows_its_log() {
    let fixture = Fixture::new().await;
    let spoil = fixture.layout().data().join("spoil-the-proof-server");
    std::fs::create_dir_all(fixture.layout().data()).unwrap();
    std::fs::write(&spoil, "").unwrap();
    let options = provision::apply::Options { patience: 0.2, ..Default::default() };
    let sink = crate::support::Kept::default();
    let cluster = fixture.cluster();
    let connections = provision::apply::connect(&cluster, 1).await;
    let error = provision::apply::apply(&cluster, connections, &options, &sink).await.unwrap_err();
    assert_eq!(error.exit_code() as u8, 9, "{error}");
    let text = provision::output::error_text(&error);
    assert!(text.contains("this proof-server was told to fail"), "{text}");
    assert!(text.contains("autonomys-proof-server.log"), "{text}");
    // What was started stays, and the next apply goes on from there.
    let before = fixture.pids().await;
    std::fs::remove_file(&spoil).unwrap();
    fixture.apply().await.unwrap();
    let restarted = fixture.restarted_since(&before).await;
    assert!(
        !restarted.iter().any(|name| name.contains("nats") || name.contains("controller")),
        "{restarted:?}"
    );
    assert!(fixture.status().await.healthy());
}
