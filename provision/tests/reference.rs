//! What users and programs rely on word for word: command line, exit codes, JSON events, texts.
#![allow(clippy::unwrap_used, missing_docs)]

use provision::apply::{PutBack, Replaced};
use provision::derive::Role;
use provision::doctor::Finding;
use provision::error::{Error, Problem};
use provision::events::{Event, Outcome};
use provision::inventory::Severity;
use provision::lock::{Held, HostLock};
use provision::output;
use provision::plan::{FileChange, FileDiff};
use provision::status::{ClusterStatus, HostStatus, RoleStatus, Solutions, Status};
use provision::trust::{HostTrust, Trust};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_provision"))
        .args(arguments)
        .env_remove("PROVISION_PREFIX")
        .env_remove("PROVISION_INVENTORY")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn command_line() {
    let mut text = String::new();
    for command in [
        "",
        "check",
        "plan",
        "explain",
        "apply",
        "drift",
        "start",
        "stop",
        "restart",
        "rollback",
        "lock",
        "lock status",
        "lock break",
        "status",
        "logs",
        "render",
        "monitoring",
        "schema",
        "doctor",
        "import-node-db",
        "export-piece",
        "trust",
        "completions",
        "man",
        "exit-codes",
    ] {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        writeln!(text, "$ provision {}\n{}", arguments.join(" "), run(&arguments)).unwrap();
    }
    writeln!(text, "$ provision exit-codes\n{}", run(&["exit-codes"])).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn unknown_flags_are_usage_errors() {
    let status =
        Command::new(env!("CARGO_BIN_EXE_provision")).args(["apply", "--frobnicate"]).output().unwrap();
    assert_eq!(status.status.code(), Some(2));
}

#[test]
fn json_events() {
    let text = |text: &str| text.to_string();
    let events = [
        Event::RunStarted {
            command: text("apply"),
            cluster: text("local"),
            hosts: vec![text("here")],
            version: text("1.2.3"),
        },
        Event::Note { host: None, message: text("one NUMA node") },
        Event::Warning { host: Some(text("here")), message: text("on tmpfs") },
        Event::Planned { host: text("here"), changes: 2, gates: 9 },
        Event::FileDiff {
            host: text("here"),
            diff: FileDiff {
                path: "etc/x.conf".into(),
                change: FileChange::Update,
                unified: text("@@ -1 +1 @@\n-a\n+b\n"),
                hidden: None,
            },
        },
        Event::StepStarted {
            host: text("here"),
            step: text("build"),
            title: text("build it"),
            number: 1,
            of: 2,
        },
        Event::StepProgress { host: text("here"), step: text("build"), message: text("3 compiled") },
        Event::Transfer {
            host: text("here"),
            step: text("archive"),
            bytes: 12_300_000_000,
            of: 26_000_000_000,
            bytes_per_second: 110_000_000,
            eta_seconds: Some(125),
        },
        Event::StepFinished {
            host: text("here"),
            step: text("build"),
            title: text("build it"),
            outcome: Outcome::Unchanged,
            milliseconds: 12,
            detail: text(""),
        },
        Event::StepFailed {
            host: text("here"),
            step: text("x"),
            title: text("y"),
            message: text("z"),
            log: vec![text("last line")],
        },
        Event::RollbackStarted { host: text("here"), generation: text("20261121-054200") },
        Event::RollbackFinished { host: text("here"), restarted: vec![text("nats-server")], problem: None },
        Event::HostFailed { host: text("here"), message: text("it is gone"), hint: None },
        Event::Failed {
            message: text("port taken"),
            hint: None,
            problems: vec![Problem { code: "port-taken", message: text("port 1"), hint: text("stop it") }],
            exit_code: 4,
        },
        Event::RunFinished {
            cluster: text("local"),
            changes: 0,
            milliseconds: 900,
            prefix: text("/p"),
            logs: text("/p/log"),
            next: vec![(text("provision status"), text("how it is"))],
        },
    ];
    let lines: Vec<_> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn status_text_and_json() {
    let role = |role: Role, program: &str, state: &str, pid: Option<u32>| RoleStatus {
        role,
        program: program.into(),
        state: state.into(),
        reason: (state != "ready").then(|| "it waits for a NATS server".to_string()),
        version: pid.map(|_| "0.1.0".to_string()),
        uptime_seconds: 7265,
        pid,
        log: format!("/p/log/{program}.log").into(),
        counters: BTreeMap::from([("sectors_plotted".to_string(), 4)]),
    };
    let host = HostStatus {
        host: "here".into(),
        error: None,
        prefix: "/p".into(),
        supervisord: Some(10),
        roles: vec![
            role(Role::Controller, "autonomys-controller", "ready", Some(11)),
            role(Role::PlotServer, "autonomys-plot-server-0", "waiting", Some(12)),
            role(Role::PlotServer, "autonomys-plot-server-1", "fatal", None),
        ],
        chain: None,
    };
    let mut status = Status {
        version: provision::status::STATUS_VERSION,
        name: "local".into(),
        hosts: vec![host],
        cluster: ClusterStatus {
            segments: 2,
            pieces_cached: 512,
            pieces_in_full_copy: 500,
            sectors_plotted: 4,
            slots_seen: 100,
            solutions: Solutions {
                sent: 5,
                accepted: 3,
                ignored: 1,
                rejected: BTreeMap::from([("OutsideRange".to_string(), 1)]),
            },
        },
    };
    assert!(!status.healthy());
    let json = serde_json::to_string_pretty(&status).unwrap();
    insta::assert_snapshot!(format!("{}\n{json}", output::status_text(&status)));

    // A line a host, the worst first.
    let with = |name: &str, error: Option<&str>, supervisord, roles: &[RoleStatus]| HostStatus {
        host: name.into(),
        error: error.map(Into::into),
        supervisord,
        roles: roles.to_vec(),
        ..status.hosts[0].clone()
    };
    let roles = &status.hosts[0].roles;
    status.hosts = vec![
        with("node-1", None, Some(3), &roles[..1]),
        with("plotter-1", None, Some(4), roles),
        with("storage-1", None, None, &roles[2..]),
        with("storage-2", Some("storage-2: no answer within 10 s"), None, &[]),
    ];
    assert!(!status.healthy());
    insta::assert_snapshot!("status_of_a_fleet", output::status_text(&status));
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        for word in ["rollback", "doctor", "break", "patience"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man");
    let listed = run(&["man", pages.to_str().unwrap()]);
    let names: Vec<_> = listed.lines().map(|line| line.rsplit('/').next().unwrap()).collect();
    for page in ["provision.1", "provision-apply.1", "provision-lock-break.1", "provision-rollback.1"] {
        assert!(names.contains(&page), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("remote")), "{names:?}");
    let page = std::fs::read_to_string(pages.join("provision-rollback.1")).unwrap();
    assert!(
        page.starts_with(".ie") && page.contains("provision-rollback") && page.contains("patience"),
        "{page}"
    );
}

#[test]
fn what_protects_a_run_is_said() {
    let mut said = String::new();
    let mut tell = |what: &str, text: &str| write!(said, "== {what}\n{text}").unwrap();
    let gate = Error::Gate {
        what: "nats-server".into(),
        seconds: 30,
        last: "it does not listen yet".into(),
        log: vec!["bind: address already in use".into()],
        log_path: "/p/log/nats-server.log".into(),
    };
    let taken_back = |problem: Option<&str>, error| Error::TakenBack {
        error: Box::new(error),
        problem: problem.map(str::to_string),
    };
    let again = Error::Supervisor("it does not answer".into());
    tell("taken back", &output::error_text(&taken_back(None, gate)));
    tell("not taken back", &output::error_text(&taken_back(Some("the disk is full"), again)));
    let holder = "`provision apply` of me@control, process 7, for 3 min";
    tell("locked", &output::error_text(&Error::Locked { path: "/p".into(), holder: holder.into() }));
    tell("unconfirmed", &output::error_text(&Error::Unconfirmed("break the locks that are held".into())));
    for (restarted, problem) in [
        (vec!["nats-server".to_string(), "autonomys-controller".to_string()], None),
        (vec![], None),
        (vec![], Some("the disk is full".to_string())),
    ] {
        let event = Event::RollbackFinished { host: "here".into(), restarted, problem };
        let (host, line) = output::rollback_text(&event).unwrap();
        tell("after a rollback", &format!("{host}: {line}\n"));
    }
    let event = Event::RollbackStarted { host: "here".into(), generation: "20261121-054200".into() };
    let (host, line) = output::rollback_text(&event).unwrap();
    tell("before a rollback", &format!("{host}: {line}\n"));

    let lock = |host: &str, error: Option<&str>, hangs: Option<bool>| HostLock {
        host: host.into(),
        error: error.map(Into::into),
        held: hangs.map(|hangs| Held {
            holder: "`provision apply` of me@control, process 7".into(),
            pid: 70,
            started: 1,
            age_seconds: 200,
            silent_seconds: if hangs { 150 } else { 3 },
            hangs,
            told: holder.into(),
        }),
    };
    let locks =
        [lock("node-1", None, Some(true)), lock("b", None, None), lock("c", Some("it is gone"), None)];
    tell("locks", &output::locks_text(&locks));
    tell("locks as JSON", &format!("{}\n", serde_json::to_string(&locks).unwrap()));

    let changed = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let eight = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let runs = [Replaced {
        name: "20261121-054200".into(),
        command: "apply".into(),
        hosts: BTreeMap::from([
            ("node-1".into(), changed(&["etc/nats-server.conf"])),
            ("b".into(), changed(&eight)),
            ("c".into(), changed(&[])),
        ]),
    }];
    tell("generations", &output::replaced_text(&runs));
    tell("no generations", &output::replaced_text(&[]));
    let back = |names: &[&str]| PutBack { host: "node-1".into(), restarted: changed(names) };
    tell("put back", &output::put_back_text(&[back(&["nats-server"]), back(&[])]));
    tell("nothing to put back", &output::put_back_text(&[]));
    insta::assert_snapshot!(said);
}

#[test]
fn findings_and_keys_are_said() {
    let finding = |severity, host: Option<&str>, code, finding: &str| Finding {
        severity,
        host: host.map(Into::into),
        code,
        finding: finding.into(),
        why: "nothing of this host farms".into(),
        fix: "`provision start INVENTORY`".into(),
    };
    let findings = [
        finding(Severity::Error, Some("node-1"), "supervisord", "supervisord does not\nrun"),
        finding(Severity::Warning, None, "cache-short", "the sharded caches hold 1 of 256 pieces"),
    ];
    let trusts = [
        Trust::Local,
        Trust::Pinned { fingerprint: "SHA256:one (ED25519)".into() },
        Trust::New { key: "ssh-ed25519 AAAA".into(), fingerprint: "SHA256:two (ED25519)".into() },
        Trust::Differs {
            key: "ssh-ed25519 AAAA".into(),
            fingerprint: "SHA256:three (ED25519)".into(),
            pinned: vec!["SHA256:one (ED25519)".into()],
            place: "farm.yaml:12:34".into(),
        },
        Trust::Unknown { error: "h5: cannot connect".into(), hint: Some("is it up?".into()) },
    ];
    let named = (1..).zip(trusts);
    let hosts: Vec<_> = named.map(|(n, trust)| HostTrust { host: format!("h{n}"), trust }).collect();
    let mut said = output::doctor_text(&findings);
    for text in [
        serde_json::to_string_pretty(&findings).unwrap() + "\n",
        output::doctor_text(&[]),
        output::trust_text(&hosts),
        serde_json::to_string_pretty(&hosts).unwrap() + "\n",
        output::error_text(&provision::trust::verdict(&hosts).unwrap_err()),
    ] {
        write!(said, "==\n{text}").unwrap();
    }
    insta::assert_snapshot!(said);
}
