//! How roles start: what they wait for, what they refuse, and how fast they leave.

use crate::roles_support::{self, RoleProcess, fake_controller, free_address, util};
use archiving::SrsKind;
use cluster::contract::{InstanceId, Role};
use cluster::testing::NatsServer;
use cluster::{ClusterSecret, MemberInfo, Membership};
use piece_store::{FullPieceStore, StoreOptions};
use primitives::Blake3Hash;
use primitives::rpc::GenesisHash;
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const GENESIS: GenesisHash = GenesisHash([5; 32]);

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn waits_for(what: &'static str) -> impl Fn(&Value) -> bool {
    move |status| {
        status["state"] == "waiting" && status["waiting_for"].as_str().is_some_and(|text| text.contains(what))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_waits_for_nats_and_a_controller_and_leaves_promptly() {
    let directory = directory();
    let path = format!("path={}", directory.path().join("pieces").display());
    let mut nats = NatsServer::start();
    nats.kill();
    let url = nats.url();
    let listen = free_address().to_string();
    let arguments = ["full-piece-sharded-cache", &path, "--listen", &listen];
    let mut cache = RoleProcess::start(directory.path(), "waiting", &url, &arguments);
    cache.wait_for("waits for NATS", SOON, waits_for("a NATS server"));
    std::thread::sleep(Duration::from_secs(2));
    cache.wait_for("still waits for NATS", SOON, waits_for("a NATS server"));
    assert!(util(&url, &["ready", "all"]).status.code() == Some(69));
    cache.terminate();

    let mut cache = RoleProcess::start(directory.path(), "waiting", &url, &arguments);
    cache.wait_for("waits for NATS", SOON, waits_for("a NATS server"));
    let instance = cache.instance();
    nats.restart();
    cache.wait_for("waits for a controller", SOON, waits_for("a controller"));
    let output = util(&url, &["ready", "full-piece-sharded-cache", "--json", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let members: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(members["members"][0]["instance"], instance.to_string());
    assert!(members["members"][0]["reference_string"].as_str().unwrap().contains("INSECURE"));

    let client = nats.client().await;
    let controller = fake_controller(&client, GENESIS, SrsKind::Development.digest()).await;
    cache.wait_until_ready(SOON);
    let output = util(&url, &["ready", "full-piece-sharded-cache"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // The fake controller keeps silent about sharded caches only when it is asked for them alone.
    let output = util(&url, &["ready", "no-such-role"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");

    // NATS goes and comes back: the role stays and says so.
    nats.kill();
    cache.wait_for("waits for NATS again", SOON, waits_for("a NATS server"));
    nats.restart();
    cache.wait_until_ready(SOON);
    assert_eq!(cache.instance(), instance);
    drop(controller);
    cache.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_both_sides_named() {
    let directory = directory();
    let nats = NatsServer::start();
    let client = nats.client().await;
    let url = nats.url();
    let path = format!("path={}", directory.path().join("pieces").display());
    let listen = free_address().to_string();
    let arguments = ["full-piece-sharded-cache", "--tmp", &path, "--listen", &listen];
    let ours = SrsKind::Development.digest();

    // The controllers use another reference string.
    let controller = fake_controller(&client, GENESIS, SrsKind::Live.digest()).await;
    let cache = RoleProcess::start(directory.path(), "other-string", &url, &arguments);
    cache.fails_with(78, &[&ours.to_string(), &SrsKind::Live.digest().to_string(), "INSECURE"]);
    drop(controller);

    // The store belongs to another chain.
    let _controller = fake_controller(&client, GENESIS, ours).await;
    let other = GenesisHash([9; 32]);
    let store = FullPieceStore::open(&directory.path().join("pieces"), &StoreOptions::default()).unwrap();
    store.bind_chain(other).unwrap();
    drop(store);
    let cache = RoleProcess::start(directory.path(), "other-chain", &url, &arguments);
    cache.fails_with(78, &[&GENESIS.to_string(), &other.to_string()]);

    // The cluster has agreed on another string, and no controller is there to say so.
    let theirs = Blake3Hash([7; 32]);
    let info = MemberInfo {
        role: Role::PlotClient,
        instance: InstanceId::generate(),
        address: None,
        capacity_bytes: 0,
        build: "test".into(),
        srs_digest: Some(theirs),
        genesis: None,
        holds: Default::default(),
    };
    let member = Membership::join(&client, info);
    let mut members = member.watch();
    let joined = members.wait_for(|members| !members.all().is_empty());
    tokio::time::timeout(SOON, joined).await.unwrap().unwrap();
    let path = format!("path={}", directory.path().join("others").display());
    let arguments = ["full-piece-sharded-cache", "--tmp", &path, "--listen", &listen];
    let cache = RoleProcess::start(directory.path(), "other-cluster", &url, &arguments);
    cache.fails_with(78, &[&ours.to_string(), &theirs.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_named_at_once() {
    let directory = directory();
    let nats = NatsServer::start();
    let url = nats.url();
    let pieces = format!("path={}", directory.path().join("pieces").display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap();
    let taken_text = taken_address.to_string();
    let start = |name: &str, arguments: &[&str]| {
        RoleProcess::start_bare(
            directory.path(),
            name,
            taken_address,
            &[&["--nats-server", &url], arguments].concat(),
        )
    };
    let srs = roles_support::srs_cache();
    let srs = ["--dev-srs-cache", srs.to_str().unwrap()];

    let role =
        start("status-port", &[&srs[..], &["--prometheus-listen-on", &taken_text, "proof-server"]].concat());
    role.fails_with(71, &[&taken_text, "--prometheus-listen-on"]);
    start("no-string", &["full-piece-sharded-cache", &pieces]).fails_with(78, &["--srs", "--dev-srs-cache"]);
    let no_string = directory.path().join("no-string.bin");
    std::fs::write(&no_string, "no string").unwrap();
    let role =
        start("bad-string", &["--srs", no_string.to_str().unwrap(), "full-piece-sharded-cache", &pieces]);
    role.fails_with(78, &["no-string.bin", "1579104"]);
    let role = start(
        "bad-name",
        &[&srs[..], &["--cluster", "No Name", "full-piece-sharded-cache", &pieces]].concat(),
    );
    role.fails_with(78, &["No Name"]);
    let short = directory.path().join("secret");
    std::fs::write(&short, "short").unwrap();
    let client = nats.client().await;
    let _controller = fake_controller(&client, GENESIS, SrsKind::Development.digest()).await;
    let secret = ["--cluster-secret-file", short.to_str().unwrap()];
    let role = start("bad-secret", &[&srs[..], &secret, &["full-piece-sharded-cache", &pieces]].concat());
    role.fails_with(78, &["--cluster-secret-file", "5 bytes"]);
    let role = start(
        "cache-port",
        &[&srs[..], &["full-piece-sharded-cache", &pieces, "--listen", &taken_text]].concat(),
    );
    role.fails_with(71, &[&taken_text, "--listen"]);

    // Not for root, whom no permission stops.
    let locked = directory.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o500)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_err() {
        let locked_path = format!("path={}", locked.join("pieces").display());
        let role = start("not-writable", &[&srs[..], &["full-piece-sharded-cache", &locked_path]].concat());
        role.fails_with(74, &["locked"]);
    }
    // A file where a directory is due stops everybody.
    let file_path = format!("path={}", short.join("pieces").display());
    let role = start("not-a-directory", &[&srs[..], &["full-piece-sharded-cache", &file_path]].concat());
    role.fails_with(74, &["secret/pieces"]);
    assert!(ClusterSecret::from_file(&short).is_err());
}
