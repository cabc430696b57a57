//! Roles as child processes, a NATS server, and a controller that is none.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod small_disk;

pub use cluster::testing::free_address;

use cluster::ClusterClient;
use cluster::client::Serving;
use cluster::contract::{FarmerAppInfoRequest, IdentifyRequest, InstanceId, MemberState, MemberStatus, Role};
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, FarmerAppInfo, FarmerProtocolInfo, HistorySize};
use serde_json::Value;
use std::future::ready;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Where the reference string is kept for all tests.
pub fn srs_cache() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// The binary under test, without settings of the caller's.
pub fn farmer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-farmer"));
    for name in ["AUTONOMYS_SRS", "AUTONOMYS_NATS_SERVERS", "AUTONOMYS_CLUSTER_SECRET_FILE", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `util ARGUMENTS`.
pub fn util(nats: &str, arguments: &[&str]) -> Output {
    farmer().args(["util", "--nats-server", nats]).args(arguments).output().unwrap()
}

/// `kill NAME`, for example `-STOP`.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// A running role; dropping it kills it.
pub struct RoleProcess {
    child: Child,
    log: PathBuf,
    status: SocketAddr,
}

impl RoleProcess {
    /// Starts `cluster --nats-server NATS --dev-srs-cache … ARGUMENTS`; its log is `NAME.log` in `directory`.
    pub fn start(directory: &Path, name: &str, nats: &str, arguments: &[&str]) -> Self {
        Self::start_logging(directory, name, nats, arguments, "info,async_nats=warn")
    }

    /// [`Self::start`] with a filter of the log.
    pub fn start_logging(directory: &Path, name: &str, nats: &str, arguments: &[&str], filter: &str) -> Self {
        let status = free_address();
        let srs = srs_cache();
        let mut all = vec!["--nats-server", nats, "--dev-srs-cache", srs.to_str().unwrap()];
        let status_text = status.to_string();
        all.extend(["--prometheus-listen-on", &status_text]);
        all.extend(arguments);
        Self::spawn(directory, name, status, farmer().env("RUST_LOG", filter).arg("cluster").args(all))
    }

    /// Starts `cluster ARGUMENTS`.
    pub fn start_bare(directory: &Path, name: &str, status: SocketAddr, arguments: &[&str]) -> Self {
        Self::spawn(directory, name, status, farmer().arg("cluster").args(arguments))
    }

    /// Starts `command`, whose log is `NAME.log` in `directory`.
    pub fn spawn(directory: &Path, name: &str, status: SocketAddr, command: &mut Command) -> Self {
        let log = directory.join(format!("{name}.log"));
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log, status }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// `/status`; none while nobody answers.
    pub fn status(&self) -> Option<Value> {
        let mut stream = TcpStream::connect_timeout(&self.status, Duration::from_secs(1)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET /status HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.status);
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    pub fn counter(&self, name: &str) -> i64 {
        let Some(status) = self.status() else { return -1 };
        let labelled = format!("{name}{{");
        let counters = status["counters"].as_object().into_iter().flatten();
        let counted = counters.filter(|(key, _)| *key == name || key.starts_with(&labelled));
        counted.filter_map(|(_, count)| count.as_i64()).sum()
    }

    pub fn instance(&self) -> InstanceId {
        self.status().unwrap()["instance"].as_str().unwrap().parse().unwrap()
    }

    /// Waits until the status is as wanted.
    pub fn wait_for(&mut self, what: &str, timeout: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.status();
            if let Some(status) = status.clone().filter(&wanted) {
                return status;
            }
            if let Some(ended) = self.child.try_wait().unwrap() {
                panic!("{what}: it ended with {ended}\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "{what}: not within {timeout:?}: {status:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn wait_until_ready(&mut self, timeout: Duration) {
        self.wait_for("ready", timeout, |status| status["state"] == "ready");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// [`signal`] to it.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// SIGSTOP: from now on it hangs.
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// SIGTERM: it has to end within 2 seconds without an error.
    pub fn terminate(mut self) {
        let started = Instant::now();
        self.signal("-TERM");
        let status = self.wait(Duration::from_secs(20));
        assert_eq!(status.code(), Some(0), "{}", self.log());
        assert!(started.elapsed() < Duration::from_millis(2500), "{:?}\n{}", started.elapsed(), self.log());
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.signal("-KILL");
        assert_eq!(self.wait(Duration::from_secs(20)).signal(), Some(9));
    }

    /// Waits for the end.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs after {timeout:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// It has to end by itself with this exit code and say all of this.
    pub fn fails_with(mut self, code: i32, words: &[&str]) {
        let status = self.wait(Duration::from_secs(30));
        let log = self.log();
        assert_eq!(status.code(), Some(code), "{log}");
        for word in words {
            assert!(log.contains(word), "{word:?} is not said:\n{log}");
        }
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing is to be done about a child that cannot be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// Answers what a joining role asks of a controller, and nothing else.
pub async fn fake_controller(
    client: &ClusterClient,
    genesis: GenesisHash,
    srs_digest: Blake3Hash,
) -> Vec<Serving> {
    let segments = HistorySize::ONE;
    let info = FarmerAppInfo {
        genesis_hash: genesis,
        dsn_bootstrap_nodes: Vec::new(),
        syncing: false,
        farming_timeout: Duration::from_secs(4),
        protocol_info: FarmerProtocolInfo {
            history_size: segments,
            max_pieces_in_sector: 12,
            recent_segments: segments,
            recent_history_fraction: (segments, segments),
            min_sector_lifetime: segments,
        },
    };
    let status = MemberStatus {
        role: Role::Controller,
        instance: InstanceId::generate(),
        build: "fake".into(),
        state: MemberState::Ready,
        uptime_s: 0,
        srs_digest: Some(srs_digest),
        genesis: Some(genesis),
        address: None,
        counters: Vec::new(),
    };
    let info = client.serve_queue(8, move |FarmerAppInfoRequest| ready(Ok(info.clone()))).await.unwrap();
    let identify = client.serve_scatter(move |_: IdentifyRequest| ready(Some(status.clone()))).await.unwrap();
    vec![info, identify]
}
