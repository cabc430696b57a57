//! A small farm of real parts: development nodes of one chain behind proxies, a controller for each, proof-servers, a
//! plot-server, a plot-client. There is no cache: all pieces come from the nodes.

use super::node_process::NodeProcess;
use super::node_proxy::NodeProxy;
use crate::fixtures;
use crate::roles_support::{RoleProcess, free_address, srs_cache};
use cluster::testing::NatsServer;
use dev_node::{Config, DevNode};
use primitives::{PublicKey, ss58};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine with other work to do archives a segment in minutes.
pub const LONG: Duration = Duration::from_secs(400);
pub const SECTORS: u16 = 2;
pub const PIECES_IN_SECTOR: u16 = 2;

pub const SLOT_MS: u64 = 5000;
pub const BLOCK_BYTES: u32 = 1024 * 1024;

/// Says which copy of each slot was taken.
const PLOT_CLIENT_LOG: &str = "info,async_nats=warn,farmer::roles::plot_client=debug";

/// Few slots, each with time for proofs on a loaded machine; every chunk wins.
pub fn config(data: PathBuf) -> Config {
    Config {
        rpc_listen_on: free_address(),
        srs_cache: Some(srs_cache()),
        pieces_in_sector: PIECES_IN_SECTOR,
        slot_ms: SLOT_MS,
        slots_per_block: 1,
        initial_solution_range: Some(u64::MAX),
        block_bytes: BLOCK_BYTES,
        ..Config::new(data)
    }
}

/// Nodes of one chain, as far as it is archived: each goes on from there by itself.
pub async fn start_nodes(directory: &Path, count: usize) -> Vec<DevNode> {
    let mut nodes = Vec::new();
    for index in 0..count {
        let data = directory.join(format!("chain-{index}"));
        first_segment(&data).await;
        nodes.push(DevNode::start(config(data)).await.unwrap());
    }
    nodes
}

/// Puts the data of a node with one segment at `data`.
pub async fn first_segment(data: &Path) {
    fixtures::chain("first-segment", config, data).await;
}

pub struct SmallFarm {
    pub plot_client: RoleProcess,
    pub plot_server: RoleProcess,
    pub proof_servers: Vec<RoleProcess>,
    pub controllers: Vec<RoleProcess>,
    pub proxies: Vec<NodeProxy>,
    pub nodes: Vec<DevNode>,
    /// A node of its own process that follows the first one.
    pub follower: Option<NodeProcess>,
    nats: NatsServer,
    directory: tempfile::TempDir,
}

impl SmallFarm {
    /// Starts everything; gives it back when all sectors are plotted.
    pub async fn start(nodes: usize, proof_servers: usize) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let nodes = start_nodes(directory.path(), nodes).await;
        Self::start_on(directory, nodes, None, proof_servers).await
    }

    /// [`Self::start`] with two voting nodes of one chain: the second follows the first.
    pub async fn start_with_follower() -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path();
        let [first, second] = ["chain-0", "chain-1"].map(|name| path.join(name));
        first_segment(&first).await;
        first_segment(&second).await;
        let node = DevNode::start(config(first)).await.unwrap();
        let follower = NodeProcess::follow(&second, node.address());
        Self::start_on(directory, vec![node], Some(follower), 1).await
    }

    async fn start_on(
        directory: tempfile::TempDir,
        nodes: Vec<DevNode>,
        follower: Option<NodeProcess>,
        proof_servers: usize,
    ) -> Self {
        let path = directory.path();
        let nats = NatsServer::start();
        let url = nats.url();
        let mut proxies = Vec::new();
        let mut controllers = Vec::new();
        let addresses = nodes.iter().map(DevNode::address).chain(follower.as_ref().map(NodeProcess::address));
        for (index, address) in addresses.enumerate() {
            let proxy = NodeProxy::start(address, true).await;
            controllers.push(controller(path, &format!("controller-{index}"), &url, &proxy));
            proxies.push(proxy);
        }
        controllers.iter_mut().for_each(|controller| controller.wait_until_ready(LONG));
        let proof_server =
            |index| RoleProcess::start(path, &format!("proof-server-{index}"), &url, &["proof-server"]);
        let mut proof_servers: Vec<_> = (0..proof_servers).map(proof_server).collect();
        proof_servers.iter_mut().for_each(|server| server.wait_until_ready(LONG));
        let (spool, port) = (path.join("plot-server"), free_address().port().to_string());
        let arguments = ["plot-server", spool.to_str().unwrap(), "--listen-port", &port];
        let mut plot_server = RoleProcess::start(path, "plot-server", &url, &arguments);
        plot_server.wait_until_ready(LONG);
        let farm = format!("path={},sectors={SECTORS}", path.join("farm").display());
        let reward_address = ss58::encode(ss58::AUTONOMYS_PREFIX, &PublicKey([5; 32]));
        let arguments = ["plot-client", &farm, "--reward-address", &reward_address];
        let mut plot_client =
            RoleProcess::start_logging(path, "plot-client", &url, &arguments, PLOT_CLIENT_LOG);
        plot_client.wait_for("all sectors are plotted", LONG, |status| {
            status["counters"]["sectors_plotted"] == SECTORS
        });
        Self {
            plot_client,
            plot_server,
            proof_servers,
            controllers,
            proxies,
            nodes,
            follower,
            nats,
            directory,
        }
    }

    pub fn farm_directory(&self) -> PathBuf {
        self.directory.path().join("farm")
    }

    /// Waits for so many more accepted solutions, as the plot-client counts them.
    pub fn wait_for_solutions(&mut self, what: &str, more: i64) {
        let wanted = self.plot_client.counter("solutions_accepted").max(0) + more;
        self.plot_client.wait_for(what, LONG, |status| {
            status["counters"]["solutions_accepted"].as_i64().is_some_and(|accepted| accepted >= wanted)
        });
    }

    pub async fn stop(self) {
        self.plot_client.terminate();
        self.plot_server.terminate();
        self.proof_servers.into_iter().chain(self.controllers).for_each(RoleProcess::terminate);
        drop(self.proxies);
        drop(self.follower);
        for node in self.nodes {
            node.shutdown().await.unwrap();
        }
        drop(self.nats);
    }
}

/// Starts a controller of the node behind `proxy`.
pub fn controller(directory: &Path, name: &str, nats: &str, proxy: &NodeProxy) -> RoleProcess {
    controller_of(directory, name, nats, &proxy.url())
}

/// Starts a controller of the node at `url`.
pub fn controller_of(directory: &Path, name: &str, nats: &str, url: &str) -> RoleProcess {
    let arguments = ["controller", "--tmp", "--node-rpc-url", url];
    RoleProcess::start(directory, name, nats, &arguments)
}
