//! Everything that keeps a chain from starting is a clear error, and stopping is prompt.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use cluster::testing::free_address;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use support::{Process, http_call, wait_for_rpc};

const WAIT: Duration = Duration::from_secs(60);

/// Starts the binary, which must fail, and gives its log.
fn failure(data: &Path, address: SocketAddr, arguments: &[&str]) -> String {
    let mut process = Process::start(data, address, arguments);
    let status = process.wait(WAIT);
    let log = process.log();
    assert!(!status.success(), "{log}");
    std::fs::remove_file(data.with_extension("log")).unwrap();
    log
}

#[test]
fn stops_promptly_in_the_middle_of_archiving_and_knows_its_parameters() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("chain");
    let address = free_address();
    let process = Process::start(&data, address, &["--seed", "one"]);
    wait_for_rpc(address);
    let health = http_call(address, "system_health", json!([])).unwrap().unwrap();
    assert_eq!(health["isSyncing"], true, "the genesis segment takes seconds");
    let genesis = http_call(address, "chain_getBlockHash", json!([0])).unwrap().unwrap();

    // A second process on the same data.
    let log = failure(&data, free_address(), &["--seed", "one"]);
    assert!(log.contains("is locked") && log.contains("stop the node"), "{log}");

    let (status, took) = process.terminate();
    assert!(status.success());
    assert!(took < Duration::from_secs(15), "stopping took {took:?}");

    for (arguments, difference) in [
        (&["--seed", "two"][..], r#"--seed is "one" there, "two" was asked for"#),
        (&["--seed", "one", "--block-bytes", "1"], "--block-bytes is 65536 there, 1 was asked for"),
        (&["--seed", "one", "--pieces-in-sector", "2"], "--pieces-in-sector is 12 there"),
    ] {
        let log = failure(&data, address, arguments);
        assert!(log.contains("holds another development chain"), "{log}");
        assert!(log.contains(difference), "{log}");
    }

    // What is not part of the chain may change.
    let process = Process::start(&data, address, &["--seed", "one", "--slot-ms", "500"]);
    wait_for_rpc(address);
    assert_eq!(http_call(address, "chain_getBlockHash", json!([0])).unwrap().unwrap(), genesis);
    process.kill();
}

#[test]
fn a_taken_port_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let log = failure(&directory.path().join("chain"), address, &[]);
    assert!(log.contains(&format!("cannot listen on {address}")) && log.contains("--rpc-listen-on"), "{log}");
}

#[test]
fn a_data_directory_that_cannot_be_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    // The path of the data is itself a file.
    let log = failure(&file, free_address(), &[]);
    assert!(log.contains("cannot make the data directory"), "{log}");

    // A database of something else.
    let foreign = directory.path().join("foreign");
    std::fs::create_dir_all(foreign.join("db")).unwrap();
    std::fs::write(foreign.join("db/metadata"), "version=8\nsalt=00").unwrap();
    let log = failure(&foreign, free_address(), &[]);
    assert!(log.contains("is not a node's database"), "{log}");
}

#[test]
fn wrong_parameters_name_their_flag() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("chain");
    for (flag, value) in
        [("--pieces-in-sector", "1001"), ("--slot-ms", "1"), ("--archive-ahead", "0"), ("--blocks", "absent")]
    {
        let log = failure(&data, free_address(), &[flag, value]);
        assert!(log.contains(flag) || log.contains(value), "{log}");
    }
    let log = failure(&data, free_address(), &["--no-such-flag"]);
    assert!(log.contains("--no-such-flag"), "{log}");
    assert!(!data.exists(), "nothing is made before the parameters are known to be right");
}

#[test]
fn help_and_version_say_insecure() {
    for argument in ["--help", "-h", "--version"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_autonomys-dev-node"))
            .arg(argument)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("INSECURE"), "{text}");
    }
}
