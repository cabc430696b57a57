//! A whole farm on this machine, set up by `provision` as a user would: real NATS, Supervisor, roles, files.
//!
//! Each farm has a prefix and ports of its own and is stopped when it is dropped.

use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Ports of `inventories/local.yaml`.
const PORTS: [u16; 12] = [4222, 8222, 9860, 9861, 9862, 9863, 9864, 9866, 9944, 9950, 9951, 9966];

pub struct Farm {
    home: TempDir,
    inventory: PathBuf,
    port_offset: u16,
}

/// The directory of the binaries under test.
pub fn binaries() -> PathBuf {
    let directory = Path::new(env!("CARGO_BIN_EXE_autonomys-farmer")).parent().unwrap().to_owned();
    for name in ["autonomys-dev-node", "provision"] {
        assert!(directory.join(name).is_file(), "{name} is not built: run the tests with `cargo xtask test`");
    }
    directory
}

/// The reference string is made once for all tests.
pub fn srs_cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("srs")
}

impl Farm {
    /// A farm by `inventories/local.yaml` with `replacements` made in its text.
    pub fn new(replacements: &[(&str, &str)]) -> Self {
        let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../inventories/local.yaml");
        let mut text = std::fs::read_to_string(local).unwrap();
        for (old, new) in replacements {
            assert_eq!(text.matches(old).count(), 1, "{old:?} has to stand once in inventories/local.yaml");
            text = text.replace(old, new);
        }
        let home = tempfile::Builder::new().prefix("farm").tempdir().unwrap();
        let inventory = home.path().join("inventory.yaml");
        std::fs::write(&inventory, text).unwrap();
        Self { home, inventory, port_offset: free_port_offset() }
    }

    pub fn prefix(&self) -> PathBuf {
        self.home.path().join("prefix")
    }

    pub fn farm_directory(&self) -> PathBuf {
        self.prefix().join("data/farm-0")
    }

    pub fn node_url(&self) -> String {
        format!("ws://127.0.0.1:{}", 9944 + self.port_offset)
    }

    /// Runs `provision COMMAND inventory … arguments`.
    pub fn provision(&self, command: &str, arguments: &[&str]) -> Output {
        let binaries = binaries();
        Command::new(binaries.join("provision"))
            .args(["--json", command])
            .arg(&self.inventory)
            .arg("--prefix")
            .arg(self.prefix())
            .args(["--port-offset", &self.port_offset.to_string()])
            .arg("--dev-srs-cache")
            .arg(srs_cache())
            .arg("--binaries")
            .arg(&binaries)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Applies the inventory; gives the number of changes.
    pub fn apply(&self) -> u64 {
        let output = self.provision("apply", &[]);
        let events = json_lines(&output.stdout);
        assert!(
            output.status.success(),
            "apply failed: {}\n{:#?}\n{}",
            output.status,
            &events[events.len().saturating_sub(6)..],
            self.logs()
        );
        let last = events.last().expect("apply ends with an event");
        assert_eq!(last["event"], "run_finished", "{last}");
        last["changes"].as_u64().unwrap()
    }

    /// What `status --json` says of the cluster, and of the one host of the farm.
    pub fn status(&self) -> Value {
        let output = self.provision("status", &[]);
        json_lines(&output.stdout).pop().unwrap_or_else(|| panic!("no status: {output:?}"))
    }

    /// Every role's part of the status.
    pub fn roles(&self) -> Vec<Value> {
        let status = self.status();
        let roles = status["hosts"][0]["roles"].as_array();
        roles.unwrap_or_else(|| panic!("no roles in {status:#}")).clone()
    }

    /// A role's part of the status.
    pub fn role(&self, role: &str) -> Value {
        let roles = self.roles();
        let found = roles.iter().find(|entry| entry["role"] == role);
        found.unwrap_or_else(|| panic!("no {role} in {roles:#?}")).clone()
    }

    pub fn accepted(&self) -> u64 {
        self.status()["cluster"]["solutions"]["accepted"].as_u64().unwrap()
    }

    /// Waits until `condition` gives something.
    pub fn wait_for<T>(&self, what: &str, timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(result) = condition() {
                return result;
            }
            if Instant::now() > deadline {
                panic!("{what}: not within {timeout:?}\n{:#}\n{}", self.status(), self.logs());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The last lines of every log.
    pub fn logs(&self) -> String {
        let output = Command::new(binaries().join("provision"))
            .args(["logs"])
            .arg(&self.inventory)
            .arg("--prefix")
            .arg(self.prefix())
            .args(["-n", "25"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        let output = self.provision("stop", &[]);
        if !output.status.success() && !std::thread::panicking() {
            panic!("the farm does not stop: {output:?}");
        }
    }
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// An offset at which every port of a farm is free on loopback, and below those of outgoing connections.
fn free_port_offset() -> u16 {
    let start = 8_000 + (std::process::id() % 120) as u16 * 100;
    let free = |offset: &u16| {
        PORTS.iter().all(|port| {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port + offset))).is_ok()
                && TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port + offset))).is_ok()
        })
    };
    (start..22_800).step_by(10).find(free).expect("a machine has free ports")
}
