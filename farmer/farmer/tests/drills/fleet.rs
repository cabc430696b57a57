//! The guides' seven hosts, small: three with NATS, a node and a controller each, two plotters, two with farms.

use crate::clock::Clocks;
use crate::namespaces::Network;
use crate::roles_support::{RoleProcess, farmer, srs_cache};
use cluster::ClusterClient;
use cluster::client::NatsOptions;
use cluster::contract::ClusterName;
use dev_node::DevStats;
use node::{NodeClient, Options};
use primitives::{PublicKey, ss58};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A machine with other work to do archives a segment in minutes.
pub const LONG: Duration = Duration::from_secs(400);
/// In this time everything is at work again.
const SETTLED: Duration = Duration::from_secs(90);
pub const HOSTS: u8 = 7;
/// The chain is made on this host; the other nodes follow it, so this node is left alone.
pub const SOURCE: u8 = 3;
/// See [`Fleet::add_lone_controller`].
pub const LONE_CONTROLLER: &str = "controller-5";
pub const LONE_NODE: &str = "node-7";
pub const SECTORS: u16 = 4;
/// Pieces of the one segment.
pub const PIECES: i64 = 256;
const PIECES_IN_SECTOR: &str = "4";
const SLOT_MS: &str = "1000";
/// Sectors win seldom enough for two cores.
const SLOTS_PER_BLOCK: &str = "120";
const BLOCK_BYTES: &str = "1048576";
const LOG: &str = "info,async_nats=warn,farmer::roles::plot_client=debug,dev_node::slots=debug";

/// A process of the fleet, that can be started again.
struct Unit {
    host: u8,
    status: SocketAddr,
    program: PathBuf,
    arguments: Vec<String>,
    process: Option<RoleProcess>,
}

/// What the system gives a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Footprint {
    pub resident_mib: u64,
    pub threads: u64,
    /// Open file descriptors.
    pub descriptors: u64,
}

impl Footprint {
    /// None of a process that is gone.
    fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            resident_mib: number("VmRSS:")? / 1024,
            threads: number("Threads:")?,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
        })
    }
}

pub struct Fleet {
    pub network: Network,
    pub clocks: Clocks,
    units: BTreeMap<String, Unit>,
    runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

fn dev_node_binary() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_autonomys-farmer")).with_file_name("autonomys-dev-node");
    assert!(binary.is_file(), "autonomys-dev-node is not built: run the tests with `cargo xtask test`");
    binary
}

fn strings(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|&argument| argument.to_owned()).collect()
}

/// What roles and utilities are told alike: the servers, the reference string.
fn common_arguments(command: &str) -> Vec<String> {
    let mut arguments = vec![command.to_owned()];
    for host in 1..=3 {
        arguments.extend(strings(&["--nats-server", &format!("nats://{}:4222", Network::address(host))]));
    }
    arguments.extend(strings(&["--dev-srs-cache", srs_cache().to_str().unwrap()]));
    arguments
}

/// A GET over HTTP 1.0: the answer comes in one piece.
pub fn get(address: SocketAddr, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

impl Fleet {
    /// Starts everything; gives it back when all sectors are plotted and farming has begun.
    pub fn start() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut fleet = Self {
            network: Network::new(HOSTS),
            clocks: Clocks::new(directory.path()),
            units: BTreeMap::new(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            directory,
        };
        (1..=3).for_each(|host| fleet.add_nats(host));
        fleet.start_nodes();
        (1..=3).for_each(|host| fleet.add_controller(host, host));
        fleet.add_role("proof-server", SOURCE, 9861, &["proof-server"]);
        fleet.add_cache("sharded-cache-4", 4, &[]);
        let full = format!("path={}", fleet.path("full-cache").display());
        fleet.add_role("full-cache", 4, 9863, &["full-piece-sharded-cache", &full]);
        let spool = fleet.path("spool").display().to_string();
        fleet.add_role("plot-server", 4, 9864, &["plot-server", &spool, "--listen-port", "9966"]);
        fleet.add_farm("plot-client-6", 6, SECTORS);
        fleet.wait("all sectors are plotted", LONG, |fleet| {
            fleet.counter("plot-client-6", "sectors_plotted") == i64::from(SECTORS)
        });
        fleet.settle();
        fleet
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn add(&mut self, name: &str, host: u8, port: u16, program: &Path, arguments: Vec<String>) {
        let status = SocketAddr::from((Network::address(host), port));
        let unit = Unit { host, status, program: program.to_owned(), arguments, process: None };
        self.units.insert(name.to_owned(), unit);
        self.restart(name);
    }

    fn add_nats(&mut self, host: u8) {
        let routes = [1, 2, 3].map(|host| format!("nats://{}:4248", Network::address(host))).join(", ");
        let name = format!("nats-{host}");
        let configuration = format!(
            "server_name: n{host}\nlisten: \"0.0.0.0:4222\"\nhttp: \"0.0.0.0:8222\"\nmax_payload: 3MB\n\
             jetstream {{ store_dir: {:?}, max_memory_store: 64MB, max_file_store: 1GB }}\n\
             cluster {{ name: c1, listen: \"0.0.0.0:4248\", routes: [{routes}] }}\n",
            self.path(&name),
        );
        let file = self.path(&format!("{name}.conf"));
        std::fs::write(&file, configuration).unwrap();
        let arguments = strings(&["-c", file.to_str().unwrap()]);
        self.add(&name, host, 8222, &cluster::testing::nats_server_binary(), arguments);
    }

    /// Archives the chain once; every node begins with a copy of it.
    fn start_nodes(&mut self) {
        self.add_node(SOURCE);
        self.wait("the first segment", LONG, |fleet| fleet.stats().is_some_and(|stats| !stats.syncing));
        self.end(&format!("node-{SOURCE}"));
        for host in [1, 2, 7] {
            let [from, to] = [SOURCE, host].map(|host| self.path(&format!("chain-{host}")));
            assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
        }
        self.restart(&format!("node-{SOURCE}"));
        self.wait("the chain", LONG, |fleet| fleet.stats().is_some_and(|stats| !stats.syncing));
        [1, 2].into_iter().for_each(|host| self.add_node(host));
    }

    fn add_node(&mut self, host: u8) {
        let (data, srs) = (self.path(&format!("chain-{host}")), srs_cache());
        let mut arguments =
            strings(&["--data", data.to_str().unwrap(), "--srs-cache", srs.to_str().unwrap()]);
        arguments.extend(strings(&["--rpc-listen-on", "0.0.0.0:9944", "--slot-ms", SLOT_MS]));
        arguments.extend(strings(&["--pieces-in-sector", PIECES_IN_SECTOR, "--block-bytes", BLOCK_BYTES]));
        arguments.extend(strings(&["--slots-per-block", SLOTS_PER_BLOCK]));
        if host != SOURCE {
            arguments.extend(strings(&["--follow", &format!("ws://{}:9944", Network::address(SOURCE))]));
        }
        self.add(&format!("node-{host}"), host, 9944, &dev_node_binary(), arguments);
        let address = SocketAddr::from((Network::address(host), 9944));
        self.wait("the node", LONG, |_| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
    }

    fn add_role(&mut self, name: &str, host: u8, port: u16, role: &[&str]) {
        let mut arguments = common_arguments("cluster");
        arguments.extend(strings(&["--prometheus-listen-on", &format!("0.0.0.0:{port}")]));
        arguments.extend(strings(role));
        self.add(name, host, port, Path::new(env!("CARGO_BIN_EXE_autonomys-farmer")), arguments);
    }

    fn add_controller(&mut self, host: u8, node_host: u8) {
        let url = format!("ws://{}:9944", Network::address(node_host));
        let arguments = ["controller", "--tmp", "--node-rpc-url", &url];
        self.add_role(&format!("controller-{host}"), host, 9860, &arguments);
    }

    /// A controller and a node with nothing beside them on their hosts.
    pub fn add_lone_controller(&mut self) {
        self.add_node(7);
        self.add_controller(5, 7);
        for name in [LONE_NODE, LONE_CONTROLLER] {
            self.wait_settled("it is ready", |fleet| fleet.is_ready(name));
        }
    }

    /// A sharded cache with room for a whole segment.
    pub fn add_cache(&mut self, name: &str, host: u8, arguments: &[&str]) {
        let path = format!("path={},size=400MiB", self.path(name).display());
        self.add_role(name, host, 9862, &[&["sharded-cache", &path], arguments].concat());
    }

    /// A plot-client with one farm.
    pub fn add_farm(&mut self, name: &str, host: u8, sectors: u16) {
        let farm = format!("path={},sectors={sectors}", self.path(name).display());
        let reward_address = ss58::encode(ss58::AUTONOMYS_PREFIX, &PublicKey([host; 32]));
        self.add_role(name, host, 9866, &["plot-client", &farm, "--reward-address", &reward_address]);
    }

    fn unit(&self, name: &str) -> &Unit {
        self.units.get(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    fn process(&self, name: &str) -> &RoleProcess {
        self.unit(name).process.as_ref().unwrap_or_else(|| panic!("{name} is down"))
    }

    /// The command that runs a program on a host, without settings of the caller's.
    fn command(&self, host: u8, program: &Path) -> Command {
        let mut command = self.network.command(host, program);
        farmer().get_envs().filter(|(_, value)| value.is_none()).for_each(|(name, _)| {
            command.env_remove(name);
        });
        command
    }

    /// What a utility of the farmer, run on a host, says with `--json`.
    pub fn utility(&self, host: u8, arguments: &[&str]) -> Value {
        let mut command = self.command(host, Path::new(env!("CARGO_BIN_EXE_autonomys-farmer")));
        let output = command.args(common_arguments("util")).args(arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Starts a unit that is down.
    pub fn restart(&mut self, name: &str) {
        let unit = &self.units[name];
        assert!(unit.process.is_none(), "{name} runs");
        let mut command = self.command(unit.host, &unit.program);
        self.clocks.give(unit.host, &mut command);
        command.args(&unit.arguments).env("RUST_LOG", LOG).stdin(Stdio::null());
        let process = RoleProcess::spawn(self.directory.path(), name, unit.status, &mut command);
        self.units.get_mut(name).unwrap().process = Some(process);
    }

    /// kill -9.
    pub fn kill(&mut self, name: &str) {
        self.units.get_mut(name).unwrap().process.take().unwrap().kill();
    }

    /// SIGTERM, of a process that need not be as prompt as a role.
    fn end(&mut self, name: &str) {
        let mut process = self.units.get_mut(name).unwrap().process.take().unwrap();
        process.signal("-TERM");
        assert!(process.wait(Duration::from_secs(60)).success(), "{}", process.log());
    }

    /// SIGTERM to a role, which has to be prompt, or to another unit.
    pub fn terminate(&mut self, name: &str) {
        if name.starts_with("nats") || name.starts_with("node") {
            self.end(name);
        } else {
            self.units.get_mut(name).unwrap().process.take().unwrap().terminate();
        }
    }

    /// Stops a unit for good.
    pub fn remove(&mut self, name: &str) {
        self.terminate(name);
        self.units.remove(name);
    }

    /// Stops a unit and starts it on another host.
    pub fn relocate(&mut self, name: &str, host: u8) {
        self.terminate(name);
        let unit = self.units.get_mut(name).unwrap();
        unit.host = host;
        unit.status.set_ip(Network::address(host));
        self.restart(name);
    }

    /// The host that a unit is on.
    pub fn host(&self, name: &str) -> u8 {
        self.unit(name).host
    }

    pub fn suspend(&self, name: &str) {
        self.process(name).suspend();
    }

    pub fn resume(&self, name: &str) {
        self.process(name).resume();
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.units.get(name).is_some_and(|unit| unit.process.is_some())
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    pub fn status(&self, name: &str) -> Option<Value> {
        self.unit(name).process.as_ref()?.status()
    }

    /// A counter; less than zero while nobody answers.
    pub fn counter(&self, name: &str, counter: &str) -> i64 {
        self.process(name).counter(counter)
    }

    /// Names of all units, with their process ids.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let running = self.units.iter().filter_map(|(name, unit)| Some((name, unit.process.as_ref()?)));
        running.map(|(name, process)| (name.clone(), process.id())).collect()
    }

    /// Units that ended by themselves.
    pub fn ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for (name, unit) in &mut self.units {
            if unit.process.as_mut().is_some_and(|process| process.has_ended()) {
                ended.push(name.clone());
            }
        }
        ended
    }

    /// What the chain's node counts.
    pub fn stats(&self) -> Option<DevStats> {
        let url = format!("ws://{}:9944", Network::address(SOURCE));
        self.runtime.block_on(async {
            let client = NodeClient::new(&url, Options::default()).ok()?;
            tokio::time::timeout(Duration::from_secs(5), client.read("dev_stats")).await.ok()?.ok()
        })
    }

    /// The NATS server that leads the bucket of leases; none while there is an election.
    pub fn jetstream_leader(&self) -> Option<String> {
        let address = SocketAddr::from((Network::address(SOURCE), 8222));
        let found = get(address, "/jsz?streams=true")?;
        let accounts = found["account_details"].as_array()?.iter();
        let mut streams =
            accounts.flat_map(|account| account["stream_detail"].as_array().into_iter().flatten());
        let state = streams.find(|stream| stream["name"] == "KV_autonomys-default")?;
        let leader = state["cluster"]["leader"].as_str()?;
        Some(format!("nats-{}", leader.strip_prefix('n')?))
    }

    /// The NATS server that this host's roles are connected to: the one whose loss they notice most.
    pub fn nats_of(&mut self, host: u8) -> String {
        let (client, mut found) = (Network::address(host).to_string(), None);
        self.wait("its NATS server", SETTLED, |_| {
            found = (1..=3).find(|&server| {
                let connections = get((Network::address(server), 8222).into(), "/connz").unwrap_or_default();
                let connections = connections["connections"].as_array();
                connections.into_iter().flatten().any(|connection| connection["ip"] == client)
            });
            found.is_some()
        });
        format!("nats-{}", found.unwrap())
    }

    pub fn wait(&mut self, what: &str, timeout: Duration, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + timeout;
        while !holds(self) {
            let ended = self.ended();
            assert!(ended.is_empty(), "{what}: {ended:?} ended");
            assert!(Instant::now() < deadline, "{what}: not within {timeout:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits for what has to be so soon.
    pub fn wait_settled(&mut self, what: &str, holds: impl FnMut(&mut Self) -> bool) {
        self.wait(what, SETTLED, holds);
    }

    fn is_ready(&self, name: &str) -> bool {
        match name.split('-').next() {
            Some("nats" | "node") => {
                TcpStream::connect_timeout(&self.unit(name).status, Duration::from_secs(1)).is_ok()
            }
            _ => self.status(name).is_some_and(|status| status["state"] == "ready"),
        }
    }

    /// Waits until everything is at work, holds all pieces, and a solution was accepted.
    pub fn settle(&mut self) {
        let names: Vec<_> = self.pids().into_keys().collect();
        for name in names {
            self.wait(&format!("{name} is ready"), SETTLED, |fleet| fleet.is_ready(&name));
        }
        self.wait("JetStream has a leader", SETTLED, |fleet| fleet.jetstream_leader().is_some());
        self.wait("the caches hold everything", SETTLED, |fleet| fleet.pieces() == [PIECES, PIECES]);
        self.wait_for_farms();
        let before = self.counter("plot-client-6", "solutions_accepted").max(0);
        self.wait("a solution", SETTLED, |fleet| {
            fleet.counter("plot-client-6", "solutions_accepted") > before
        });
    }

    /// Waits until every farm is plotted.
    pub fn wait_for_farms(&mut self) {
        for name in ["plot-client-6", "plot-client-7"]
            .into_iter()
            .filter(|name| self.is_running(name))
            .collect::<Vec<_>>()
        {
            self.wait(&format!("{name} has all sectors"), SETTLED, |fleet| {
                let [plotted, total] =
                    ["sectors_plotted", "sectors_total"].map(|counter| fleet.counter(name, counter));
                plotted > 0 && plotted == total
            });
        }
    }

    /// Pieces in the sharded caches together and in the full copy, as far as they are wanted.
    pub fn pieces(&self) -> [i64; 2] {
        let held =
            |name: &str| if self.is_running(name) { self.counter(name, "pieces_cached").max(0) } else { 0 };
        let sharded = held("sharded-cache-4") + held("sharded-cache-5");
        [sharded, held("full-cache")].map(|held| held.min(PIECES))
    }

    /// What runs the test's own connections.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// A connection to the cluster.
    pub async fn client(&self) -> ClusterClient {
        let servers = (1..=3).map(|host| format!("nats://{}:4222", Network::address(host))).collect();
        let options =
            NatsOptions { servers, cluster: ClusterName::default(), name: "drills".to_owned(), secret: None };
        ClusterClient::connect(&options).await.unwrap()
    }

    /// What each unit takes of the system.
    pub fn footprints(&self) -> BTreeMap<String, Footprint> {
        let footprint = |(name, pid)| Some((name, Footprint::of(pid)?));
        self.pids().into_iter().filter_map(footprint).collect()
    }
}
