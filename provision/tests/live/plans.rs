//! Plans that are kept and applied later, drift, and single roles.

use crate::support::Fixture;
use std::path::Path;
use std::process::{Command, Output};

fn apply_file(file: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_provision"));
    command.arg("apply").arg(file).env_remove("PROVISION_PREFIX").output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_saved_plan_is_executed_or_refused() {
    let fixture = Fixture::new().await;
    let file = fixture.directory.path().join("the.plan");
    let save = || {
        let saved = fixture.provision(&["plan", "--diff"]).arg("--out").arg(&file).output();
        saved.unwrap()
    };
    let planned = save();
    assert!(planned.status.success(), "{}", said(&planned));
    assert!(!fixture.layout().state().exists(), "a plan touches nothing");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // On the bare host it was made for.
    let applied = apply_file(&file);
    assert!(applied.status.success(), "{}", said(&applied));
    assert!(fixture.status().await.healthy());

    // It is done: the same plan again does not fit.
    let again = apply_file(&file);
    assert_eq!(again.status.code(), Some(13), "{}", said(&again));

    // A file that was changed by hand after the plan was made.
    fixture.edit("sectors: 4", "sectors: 5");
    let planned = save();
    assert!(said(&planned).contains("+command="), "{}", said(&planned));
    assert!(said(&planned).contains("-command="), "{}", said(&planned));
    let before = fixture.pids().await;
    let conf = fixture.layout().program_conf("autonomys-controller");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{text}; by hand\n")).unwrap();
    let refused = apply_file(&file);
    assert_eq!(refused.status.code(), Some(13), "{}", said(&refused));
    assert!(
        said(&refused).contains("the file etc/supervisor.d/autonomys-controller.conf changed"),
        "{}",
        said(&refused)
    );
    assert_eq!(fixture.restarted_since(&before).await, Vec::<String>::new());
    assert!(std::fs::read_to_string(&conf).unwrap().ends_with("; by hand\n"), "nothing was done");

    // Drift names it, and what the inventory wants that is not applied.
    let drift = fixture.provision(&["drift", "--diff"]).output().unwrap();
    assert_eq!(drift.status.code(), Some(12), "{}", said(&drift));
    for expected in ["autonomys-controller.conf is not as", "-; by hand", "2 differences"] {
        assert!(said(&drift).contains(expected), "{expected}: {}", said(&drift));
    }

    // As it was it fits again, and restarts what it said.
    std::fs::write(&conf, text).unwrap();
    let applied = apply_file(&file);
    assert!(applied.status.success(), "{}", said(&applied));
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-plot-client"]);
    let drift = fixture.provision(&["drift"]).output().unwrap();
    assert_eq!(drift.status.code(), Some(0), "{}", said(&drift));

    // Another inventory than the plan's.
    save();
    fixture.edit("sectors: 5", "sectors: 6");
    let refused = apply_file(&file);
    assert_eq!(refused.status.code(), Some(13), "{}", said(&refused));
    assert!(said(&refused).contains("`storage` of host this-machine changed"), "{}", said(&refused));
    // An inventory is not overwritten by a plan.
    let lost = fixture.provision(&["plan"]).arg("--out").arg(&fixture.inventory).output().unwrap();
    assert_eq!(lost.status.code(), Some(2), "{}", said(&lost));
}

#[tokio::test]
async fn single_roles_are_restarted_stopped_and_started() {
    let fixture = Fixture::new().await;
    fixture.apply().await.unwrap();
    let run = |command: &str, role: &str| {
        let output = fixture.provision(&[command]).arg(role).args(["--limit", "role:plot-server"]).output();
        output.unwrap()
    };
    let before = fixture.pids().await;
    let restarted = run("restart", "sharded-cache");
    assert!(restarted.status.success(), "{}", said(&restarted));
    assert_eq!(fixture.restarted_since(&before).await, ["autonomys-sharded-cache"]);

    let before = fixture.pids().await;
    let stopped = run("stop", "plot-server");
    assert!(stopped.status.success() && said(&stopped).contains("1 program stopped"), "{}", said(&stopped));
    let now = fixture.pids().await;
    assert_eq!(now.len(), 7);
    assert!(now.iter().all(|(name, pid)| before[name] == *pid), "the others run on");
    let drift = fixture.provision(&["drift"]).output().unwrap();
    assert_eq!(drift.status.code(), Some(12), "{}", said(&drift));
    assert!(said(&drift).contains("autonomys-plot-server-0 does not run"), "{}", said(&drift));

    let started = run("start", "plot-server");
    assert!(started.status.success(), "{}", said(&started));
    assert_eq!(fixture.restarted_since(&now).await, ["autonomys-plot-server-0"]);
    assert!(fixture.status().await.healthy());

    let unknown = run("restart", "plot-sever");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(said(&unknown).contains("did you mean \"plot-server\""), "{}", said(&unknown));
}
