//! What users and programs rely on word for word: command line, exit codes, JSON events, texts.
#![allow(clippy::unwrap_used, missing_docs)]

use provision::derive::Role;
use provision::error::Problem;
use provision::events::{Event, Outcome};
use provision::output;
use provision::plan::{FileChange, FileDiff};
use provision::status::{ClusterStatus, HostStatus, RoleStatus, Solutions, Status};
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
        "status",
        "logs",
        "render",
        "monitoring",
        "schema",
        "exit-codes",
    ] {
        let arguments: Vec<_> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
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
