//! From what the inventory says to what is meant: defaults filled in, ports shifted, paths made absolute. Pure.

use crate::derive::Role;
use crate::inventory::{
    Artifact, Binaries, CacheSettings, Connection, DevChain, HostEntry, Inventory, NatsTls, Network,
    NodeSettings, PlotServerSettings, PlotterSettings, ReferenceString, SecretReference, SectorCount, Span,
    Spanned, SshSettings, StorageSettings,
};
use crate::layout::Layout;
use crate::monitoring::Monitoring;
use primitives::cluster_secret::NatsUser;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Pieces in a sector of the development chain when the inventory does not say.
pub const DEV_PIECES_IN_SECTOR: u16 = 12;
/// Pieces in a sector of the live network.
pub const LIVE_PIECES_IN_SECTOR: u16 = 1000;
/// Name of the live network's reference string on hosts.
pub const REFERENCE_STRING: &str = "eth-public-parameters.bin";
/// `max_payload` of the guides: 3 MB.
pub const MAX_PAYLOAD_DEFAULT: u64 = 3_000_000;

/// Default ports, those of the guides where they name one.
mod ports {
    pub(super) const NATS: u16 = 4222;
    pub(super) const NATS_MONITOR: u16 = 8222;
    pub(super) const NATS_CLUSTER: u16 = 4248;
    pub(super) const NODE_RPC: u16 = 9944;
    pub(super) const SHARDED_CACHE: u16 = 9950;
    pub(super) const FULL_PIECE_CACHE: u16 = 9951;
    pub(super) const PLOT_SERVER_FIRST: u16 = 9966;
    pub(super) const METRICS_CONTROLLER: u16 = 9860;
    pub(super) const METRICS_PROOF_SERVER: u16 = 9861;
    pub(super) const METRICS_SHARDED_CACHE: u16 = 9862;
    pub(super) const METRICS_FULL_PIECE_CACHE: u16 = 9863;
    pub(super) const METRICS_PLOT_CLIENT: u16 = 9864;
    pub(super) const METRICS_PLOT_SERVER_FIRST: u16 = 9866;
}

/// What of the caller's surroundings decides paths.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`.
    pub xdg_cache_home: Option<PathBuf>,
    /// Directory that relative paths of `binaries:` and of a secret's file begin at: the inventory's.
    pub inventory_directory: PathBuf,
}

impl Surroundings {
    /// Those of this process, for an inventory at `inventory`.
    pub fn of_process(inventory: &Path) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory =
            inventory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self {
            home: variable("HOME"),
            xdg_state_home: variable("XDG_STATE_HOME"),
            xdg_cache_home: variable("XDG_CACHE_HOME"),
            inventory_directory: std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf()),
        }
    }
}

/// What the command line (or a test) puts over the inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// Prefix of the local host.
    pub prefix: Option<PathBuf>,
    /// Port offset of the local host.
    pub port_offset: Option<u16>,
    /// Directory of the cached development reference string.
    pub dev_srs_cache: Option<PathBuf>,
    /// Binaries that are there already: farmer and dev-node.
    pub binaries: Option<(PathBuf, PathBuf)>,
}

/// nats-server of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nats {
    /// Its name, its own in the cluster.
    pub server_name: Spanned<String>,
    /// Clients.
    pub port: Spanned<u16>,
    /// `/healthz`, `/jsz`.
    pub monitor_port: Spanned<u16>,
    /// The other nats-servers, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_port: Option<Spanned<u16>>,
    /// The routes that the inventory gives, to be checked; [`Cluster::nats_routes`] are written.
    #[serde(skip)]
    pub given_routes: Option<Spanned<Vec<Spanned<SocketAddr>>>>,
    /// Largest message in bytes.
    pub max_payload: Spanned<u64>,
    /// TLS of clients and of the other nats-servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Spanned<NatsTls>>,
}

/// A role with no data of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlainRole {
    /// `--prometheus-listen-on`.
    pub metrics_port: Spanned<u16>,
    /// `CUDA_VISIBLE_DEVICES`.
    pub gpu: Option<Spanned<u16>>,
}

/// A node host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeHost {
    /// nats-server.
    pub nats: Nats,
    /// The node's RPC.
    pub rpc_port: Spanned<u16>,
    /// Controller.
    pub controller: PlainRole,
    /// The node that the controller asks, where it is not the one beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_rpc_url: Option<Spanned<SocketAddr>>,
    /// Proof-server.
    pub proof_server: PlainRole,
}

/// A piece cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// TCP port that serves pieces.
    pub port: Spanned<u16>,
    /// `--prometheus-listen-on`.
    pub metrics_port: Spanned<u16>,
    /// Directory of the store.
    pub path: Spanned<PathBuf>,
    /// Bytes at most.
    pub size: Option<Spanned<u64>>,
    /// CPUs that it runs on, where they are given by hand.
    pub cpus: Option<Spanned<BTreeSet<u32>>>,
}

/// A plot-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlotServer {
    /// Name of its program.
    pub name: Spanned<String>,
    /// TCP port that serves sectors.
    pub port: Spanned<u16>,
    /// `--prometheus-listen-on`.
    pub metrics_port: Spanned<u16>,
    /// Directory of the spool.
    pub path: Spanned<PathBuf>,
    /// `CUDA_VISIBLE_DEVICES`.
    pub gpu: Option<Spanned<u16>>,
    /// `GPU_CONCURRENCY`.
    pub gpu_concurrency: Option<Spanned<u16>>,
    /// CPUs that it runs on, where they are given by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Spanned<BTreeSet<u32>>>,
}

/// A plotter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plotter {
    /// Sharded cache.
    pub sharded_cache: Cache,
    /// Full copy.
    pub full_piece_cache: Cache,
    /// One per GPU.
    pub plot_servers: Vec<PlotServer>,
}

/// How much of a farm's disk is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FarmSpace {
    /// So many sectors.
    Sectors(u16),
    /// So many bytes.
    Bytes(u64),
    /// As many sectors as the disk holds.
    Max,
}

/// A farm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Farm {
    /// Directory.
    pub path: Spanned<PathBuf>,
    /// How much of it.
    pub space: Spanned<FarmSpace>,
}

/// A storage host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// `--prometheus-listen-on`.
    pub metrics_port: Spanned<u16>,
    /// `--new-segment-delay-max`, seconds, where the role's own default is not wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_segment_delay_max_s: Option<Spanned<u64>>,
    /// One a disk.
    pub farms: Vec<Farm>,
}

/// How to log in to a host over SSH.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SshAccess {
    /// User name there.
    pub user: Option<String>,
    /// sshd's port.
    pub port: Option<u16>,
    /// Private key of the control machine.
    pub identity_file: Option<PathBuf>,
    /// `[USER@]HOST[:PORT]` through which the host is reached.
    pub jump: Option<String>,
    /// Whether to become root there with sudo.
    pub sudo: bool,
    /// The host's public keys, each `TYPE KEY`; when there are none, the user's known_hosts decides.
    pub host_keys: Vec<String>,
}

impl SshAccess {
    fn of(settings: &SshSettings, from_inventory: impl Fn(&Path) -> PathBuf) -> Self {
        let keys = settings.host_keys.iter().flatten();
        Self {
            user: settings.user.as_ref().map(|user| user.value.clone()),
            port: settings.port.map(|port| port.value),
            identity_file: settings.identity_file.as_ref().map(|file| from_inventory(&file.value)),
            jump: settings.jump.as_ref().map(|jump| jump.value.clone()),
            sudo: settings.sudo.is_some_and(|sudo| sudo.value),
            host_keys: keys.map(|key| key.value.clone()).collect(),
        }
    }
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Its name.
    pub name: Spanned<String>,
    /// Groups that it is in.
    pub groups: Vec<String>,
    /// Words by which it can be chosen.
    pub tags: Vec<String>,
    /// How it is reached.
    pub connection: Spanned<Connection>,
    /// How to log in, for [`Connection::Ssh`].
    pub ssh: SshAccess,
    /// Its address in the cluster.
    pub address: Spanned<IpAddr>,
    /// Directory that holds everything we install there.
    pub prefix: PathBuf,
    /// Directory of the cached development reference string.
    pub dev_srs_cache: PathBuf,
    /// Node host.
    pub node: Option<NodeHost>,
    /// Plotter.
    pub plotter: Option<Plotter>,
    /// Storage host.
    pub storage: Option<Storage>,
}

/// A cluster: the inventory with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Its name, part of every NATS subject.
    pub name: String,
    /// SS58 address.
    pub reward_address: Spanned<String>,
    /// Where the cluster secret comes from.
    pub secret: SecretReference,
    /// The NATS servers that the inventory gives, to be checked; [`Cluster::nats_servers`] are used.
    #[serde(skip)]
    pub given_nats_servers: Option<Spanned<Vec<Spanned<SocketAddr>>>>,
    /// The development chain, where there is no network.
    pub dev_chain: DevChain,
    /// The network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Where our binaries come from.
    pub binaries: Binaries,
    /// Directory of the control machine for what it fetches.
    #[serde(skip)]
    pub artifact_cache: PathBuf,
    /// Prometheus, where one is to watch the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<Monitoring>,
    /// File of the control machine that tells the next run what the last build gave.
    pub stamp: PathBuf,
    /// The hosts in the order of the inventory.
    pub hosts: Vec<Host>,
}

impl Cluster {
    /// File with the authority of the nats-servers' certificates, where NATS has TLS.
    pub fn nats_authority(&self) -> Option<&Path> {
        self.hosts.iter().find_map(|host| Some(&*host.node.as_ref()?.nats.tls.as_ref()?.value.ca))
    }

    /// NATS URLs of every node host, by address: what the inventory's order of hosts decides would restart everything when
    /// that changes.
    pub fn nats_servers(&self) -> Vec<String> {
        let scheme = if self.nats_authority().is_some() { "tls://" } else { "nats://" };
        self.nats_urls(scheme, |nats| Some(nats.port.value))
    }

    /// Routes of every nats-server to the others, with a mark for the password; none of a server that is alone.
    pub fn nats_routes(&self) -> Vec<String> {
        let user = format!("nats://{}:{}@", NatsUser::Route.name(), NatsUser::Route.mark());
        self.nats_urls(&user, |nats| Some(nats.cluster_port?.value))
    }

    fn nats_urls(&self, begin: &str, port: impl Fn(&Nats) -> Option<u16>) -> Vec<String> {
        let addresses = self
            .hosts
            .iter()
            .filter_map(|host| Some(SocketAddr::new(host.address.value, port(&host.node.as_ref()?.nats)?)));
        let addresses: BTreeSet<_> = addresses.collect();
        addresses.into_iter().map(|address| format!("{begin}{address}")).collect()
    }

    /// Where a host's roles serve their metrics: at its address for a Prometheus elsewhere, else for the host alone.
    pub fn metrics_address(&self, host: &Host) -> IpAddr {
        match self.monitoring {
            Some(_) => host.address.value,
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// RPC of each node host's node.
    pub fn node_rpcs(&self) -> impl Iterator<Item = SocketAddr> {
        self.hosts.iter().filter_map(|host| {
            let node = host.node.as_ref()?;
            Some(SocketAddr::new(host.address.value, node.rpc_port.value))
        })
    }

    /// Pieces in a sector.
    pub fn pieces_in_sector(&self) -> u16 {
        match &self.network {
            Some(_) => LIVE_PIECES_IN_SECTOR,
            None => self.dev_chain.pieces_in_sector.map_or(DEV_PIECES_IN_SECTOR, |pieces| pieces.value),
        }
    }

    /// What its nodes are.
    pub fn node_role(&self) -> Role {
        if self.network.is_some() { Role::Node } else { Role::DevNode }
    }

    /// What the node of a node host keeps: its database `db` and what follows from that.
    pub fn node_data(&self, host: &Host) -> PathBuf {
        Layout::of(host).data().join(self.node_role().name())
    }

    /// Whether roles use the live network's reference string.
    pub fn is_live(&self) -> bool {
        self.network
            .as_ref()
            .is_some_and(|network| matches!(network.reference_string, ReferenceString::Live(_)))
    }

    /// The reference string of a host's roles: flag and value.
    pub fn reference_string(&self, host: &Host) -> [String; 2] {
        match self.is_live() {
            true => {
                ["--srs".to_string(), Layout::of(host).bin().join(REFERENCE_STRING).display().to_string()]
            }
            false => ["--dev-srs-cache".to_string(), host.dev_srs_cache.display().to_string()],
        }
    }

    /// Names of what is linked in a host's `bin`, packages left out.
    pub fn artifacts_of(&self, host: &Host) -> Vec<&'static str> {
        let mut names = vec![Role::Controller.binary()];
        names.extend(host.node.as_ref().map(|_| self.node_role().binary()));
        names.extend(self.is_live().then_some(REFERENCE_STRING));
        names
    }

    /// What the operator brings, each with its name on hosts.
    pub fn brought(&self) -> Vec<(&'static str, &Artifact)> {
        let mut brought = Vec::new();
        if let Binaries::Brought { farmer, dev_node } = &self.binaries {
            brought.push((Role::Controller.binary(), farmer));
            let dev_node = dev_node.as_ref().filter(|_| self.network.is_none());
            brought.extend(dev_node.map(|artifact| (Role::DevNode.binary(), artifact)));
        }
        if let Some(network) = &self.network {
            brought.push((Role::Node.binary(), &network.node));
            if let ReferenceString::Live(artifact) = &network.reference_string {
                brought.push((REFERENCE_STRING, artifact));
            }
        }
        brought
    }
}

/// Fills in everything that the inventory leaves open.
pub fn resolve(inventory: &Inventory, overrides: &Overrides, around: &Surroundings) -> Cluster {
    let from_inventory = |path: &Path| around.inventory_directory.join(expand_home(path, around));
    let of_command_line = |path: &PathBuf| Artifact::file(Spanned::new(path.clone(), Span::default()));
    let binaries = match (&overrides.binaries, &inventory.binaries) {
        (Some((farmer, dev_node)), _) => {
            Binaries::Brought { farmer: of_command_line(farmer), dev_node: Some(of_command_line(dev_node)) }
        }
        (None, Binaries::Brought { farmer, dev_node }) => Binaries::Brought {
            farmer: farmer.from_directory(from_inventory),
            dev_node: dev_node.as_ref().map(|artifact| artifact.from_directory(from_inventory)),
        },
        (None, Binaries::Build) => Binaries::Build,
    };
    let network = inventory.network.as_ref().map(|network| Network {
        node: network.node.from_directory(from_inventory),
        reference_string: match &network.reference_string {
            ReferenceString::Live(artifact) => ReferenceString::Live(artifact.from_directory(from_inventory)),
            ReferenceString::Development => ReferenceString::Development,
        },
        ..network.clone()
    });
    let secret = match &inventory.secret {
        SecretReference::File(path) => SecretReference::File(from_inventory(path)),
        other => other.clone(),
    };
    let hosts: Vec<_> =
        inventory.hosts.iter().map(|host| resolve_host(inventory, host, overrides, around)).collect();
    // Only what a local host has below its prefix is this machine's.
    let local = hosts.iter().find(|host| host.connection.value == Connection::Local);
    let prefix =
        local.map_or_else(|| default_prefix(&inventory.cluster.value, around), |host| host.prefix.clone());
    Cluster {
        name: inventory.cluster.value.clone(),
        reward_address: inventory.reward_address.clone(),
        given_nats_servers: inventory.nats_servers.clone(),
        secret,
        dev_chain: inventory.dev_chain.clone(),
        network,
        binaries,
        artifact_cache: artifact_cache(around),
        monitoring: inventory.monitoring.clone(),
        stamp: Layout::new(&prefix).state().join("build.json"),
        hosts,
    }
}

fn expand_home(path: &Path, around: &Surroundings) -> PathBuf {
    match (path.strip_prefix("~"), &around.home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

/// `${XDG_STATE_HOME:-~/.local/state}/autonomys/NAME`.
fn default_prefix(cluster: &str, around: &Surroundings) -> PathBuf {
    let state = around.xdg_state_home.clone().unwrap_or_else(|| {
        around.home.clone().unwrap_or_else(|| PathBuf::from("/var/lib")).join(".local/state")
    });
    state.join("autonomys").join(cluster)
}

/// `${XDG_CACHE_HOME:-~/.cache}/autonomys/artifacts`.
fn artifact_cache(around: &Surroundings) -> PathBuf {
    let cache = around
        .xdg_cache_home
        .clone()
        .unwrap_or_else(|| around.home.clone().unwrap_or_else(|| PathBuf::from("/var/cache")).join(".cache"));
    cache.join("autonomys/artifacts")
}

/// Fills in the defaults of one host.
struct HostDefaults<'a> {
    /// Where a default is said to stand: the host's name.
    span: Span,
    offset: u16,
    cluster: &'a str,
    host: &'a str,
    /// Whether there are several node hosts.
    clustered: bool,
    prefix: &'a Path,
    around: &'a Surroundings,
}

impl HostDefaults<'_> {
    /// A port shifted by the offset; 0 when it leaves the range of ports, which the check reports.
    fn port(&self, given: Option<Spanned<u16>>, default: u16) -> Spanned<u16> {
        let port = given.unwrap_or(Spanned::new(default, self.span));
        Spanned::new(port.value.checked_add(self.offset).unwrap_or(0), port.span)
    }

    fn path(&self, given: Option<&Spanned<PathBuf>>, default: &str) -> Spanned<PathBuf> {
        let (path, span) = given.map_or((Path::new(default), self.span), |path| (&*path.value, path.span));
        Spanned::new(self.prefix.join(expand_home(path, self.around)), span)
    }

    fn cache(&self, cache: &CacheSettings, port: u16, metrics: u16, directory: &str) -> Cache {
        Cache {
            port: self.port(cache.port, port),
            metrics_port: self.port(cache.metrics_port, metrics),
            path: self.path(cache.path.as_ref(), directory),
            size: cache.size,
            cpus: cache.cpus.clone(),
        }
    }

    fn node(&self, node: &NodeSettings) -> NodeHost {
        let max_payload = node.nats.max_payload.unwrap_or(Spanned::new(MAX_PAYLOAD_DEFAULT, self.span));
        NodeHost {
            nats: Nats {
                server_name: node
                    .nats
                    .server_name
                    .clone()
                    .unwrap_or_else(|| Spanned::new(format!("{}-{}", self.cluster, self.host), self.span)),
                port: self.port(node.nats.port, ports::NATS),
                monitor_port: self.port(node.nats.monitor_port, ports::NATS_MONITOR),
                cluster_port: self.clustered.then(|| self.port(node.nats.cluster_port, ports::NATS_CLUSTER)),
                given_routes: node.nats.routes.clone(),
                max_payload,
                tls: node.nats.tls.clone(),
            },
            rpc_port: self.port(node.rpc_port, ports::NODE_RPC),
            controller: PlainRole {
                metrics_port: self.port(node.controller.metrics_port, ports::METRICS_CONTROLLER),
                gpu: None,
            },
            node_rpc_url: node.controller.node_rpc_url,
            proof_server: PlainRole {
                metrics_port: self.port(node.proof_server.metrics_port, ports::METRICS_PROOF_SERVER),
                gpu: node.proof_server.gpu,
            },
        }
    }

    fn plotter(&self, plotter: &PlotterSettings) -> Plotter {
        let one = [Spanned::new(PlotServerSettings::default(), self.span)];
        let servers = plotter.plot_servers.as_deref().unwrap_or(&one);
        Plotter {
            sharded_cache: self.cache(
                &plotter.sharded_cache,
                ports::SHARDED_CACHE,
                ports::METRICS_SHARDED_CACHE,
                "data/sharded-cache",
            ),
            full_piece_cache: self.cache(
                &plotter.full_piece_cache,
                ports::FULL_PIECE_CACHE,
                ports::METRICS_FULL_PIECE_CACHE,
                "data/full-piece",
            ),
            plot_servers: (0..)
                .zip(servers)
                .map(|(index, server)| PlotServer {
                    name: (server.value.name.clone())
                        .unwrap_or_else(|| Spanned::new(format!("autonomys-plot-server-{index}"), self.span)),
                    port: self.port(server.value.port, ports::PLOT_SERVER_FIRST.saturating_add(index)),
                    metrics_port: self.port(
                        server.value.metrics_port,
                        ports::METRICS_PLOT_SERVER_FIRST.saturating_add(index),
                    ),
                    path: self.path(server.value.path.as_ref(), &format!("data/plot-server-{index}")),
                    gpu: server.value.gpu,
                    gpu_concurrency: server.value.gpu_concurrency,
                    cpus: server.value.cpus.clone(),
                })
                .collect(),
        }
    }

    fn storage(&self, storage: &StorageSettings) -> Storage {
        let farms = storage.farms.iter().flat_map(|farms| &farms.value).filter_map(|farm| {
            let space = match (farm.value.sectors, farm.value.size) {
                (Some(sectors), _) => {
                    let space = match sectors.value {
                        SectorCount::Max => FarmSpace::Max,
                        SectorCount::Number(sectors) => FarmSpace::Sectors(sectors),
                    };
                    Spanned::new(space, sectors.span)
                }
                (None, size) => size.map(|size| Spanned::new(FarmSpace::Bytes(size.value), size.span))?,
            };
            Some(Farm { path: self.path(Some(&farm.value.path), ""), space })
        });
        Storage {
            metrics_port: self.port(storage.metrics_port, ports::METRICS_PLOT_CLIENT),
            new_segment_delay_max_s: storage.new_segment_delay_max_s,
            farms: farms.collect(),
        }
    }
}

fn values(names: &[Spanned<String>]) -> Vec<String> {
    names.iter().map(|name| name.value.clone()).collect()
}

fn resolve_host(
    inventory: &Inventory,
    host: &HostEntry,
    overrides: &Overrides,
    around: &Surroundings,
) -> Host {
    let settings = &host.settings;
    let span = host.name.span;
    let connection = settings.connection.unwrap_or(Spanned::new(Connection::Ssh, span));
    let local = connection.value == Connection::Local;
    let ssh = settings.ssh.as_ref().map(|ssh| {
        SshAccess::of(&ssh.value, |path| around.inventory_directory.join(expand_home(path, around)))
    });
    // Another host's home directory is not ours; the check refuses a `~` that is left.
    let elsewhere = Surroundings::default();
    let around = if local { around } else { &elsewhere };
    let given = settings.prefix.as_ref().map(|prefix| expand_home(&prefix.value, around));
    let prefix =
        overrides.prefix.clone().filter(|_| local).or(given).unwrap_or_else(|| match connection.value {
            Connection::Local => default_prefix(&inventory.cluster.value, around),
            Connection::Ssh => Path::new("/var/lib/autonomys").join(&inventory.cluster.value),
        });
    let offset = overrides.port_offset.filter(|_| local).or(settings.port_offset.map(|offset| offset.value));
    let nodes = inventory.hosts.iter().filter(|host| host.settings.node.is_some()).count();
    let fill = HostDefaults {
        span,
        offset: offset.unwrap_or(0),
        cluster: &inventory.cluster.value,
        host: &host.name.value,
        clustered: nodes > 1,
        prefix: &prefix,
        around,
    };
    let dev_srs_cache = match overrides.dev_srs_cache.clone().filter(|_| local) {
        Some(directory) => directory,
        None => fill.path(settings.dev_srs_cache.as_ref(), "data/dev-srs").value,
    };
    Host {
        name: host.name.clone(),
        groups: values(&settings.groups),
        tags: values(&settings.tags),
        connection,
        ssh: ssh.unwrap_or_default(),
        address: settings.address.unwrap_or(Spanned::new(IpAddr::V4(Ipv4Addr::LOCALHOST), span)),
        node: settings.node.as_ref().map(|node| fill.node(&node.value)),
        plotter: settings.plotter.as_ref().map(|plotter| fill.plotter(&plotter.value)),
        storage: settings.storage.as_ref().map(|storage| fill.storage(&storage.value)),
        dev_srs_cache,
        prefix,
    }
}
