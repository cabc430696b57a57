//! The inventory: which hosts there are and what runs on them.
//!
//! Parsed strictly: an unknown or repeated key, or a value of the wrong type, is an error that shows its place. A
//! host's settings are `defaults`, then its groups in order, then its own, the later winning key by key; two groups that
//! say different things of one host are an error. Where the guides have the operator write what follows from the hosts
//! (routes, URLs), it may be written, and is checked.

mod expand;
mod hosts;
mod network;
mod range;
pub mod read;
mod schema;
mod secrets;
pub mod source;
pub mod tree;

use crate::monitoring::Monitoring;
pub use network::{Artifact, Binaries, Network, ReferenceString};
use read::{Findings, MapReader};
pub use schema::schema;
use serde::Serialize;
use serde_json::json;
pub use source::{Diagnostic, Severity, Source, Span, Spanned, in_order};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tree::{Node, Value};

/// The only version of the inventory's schema so far.
pub const SCHEMA_VERSION: u64 = 1;

/// How a host is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// It is this machine.
    Local,
    /// Over SSH.
    Ssh,
}

/// How to log in to a host over SSH; what is absent is left to `ssh` and the user's own configuration of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshSettings {
    /// User name there.
    pub user: Option<Spanned<String>>,
    /// sshd's port.
    pub port: Option<Spanned<u16>>,
    /// Private key of the control machine.
    pub identity_file: Option<Spanned<PathBuf>>,
    /// `[USER@]HOST[:PORT]` through which the host is reached.
    pub jump: Option<Spanned<String>>,
    /// Whether to become root there with sudo.
    pub sudo: Option<Spanned<bool>>,
    /// The host's public keys as in `/etc/ssh/ssh_host_*_key.pub`, without the comment: no other is accepted.
    pub host_keys: Option<Vec<Spanned<String>>>,
}

/// Where a secret comes from; the secret itself never stands in an inventory or a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretReference {
    /// Made at random once, on the first apply.
    Generate,
    /// The first line of a file of the control machine.
    File(PathBuf),
    /// An environment variable of the control machine.
    Env(String),
    /// What a command of the control machine prints.
    Command(Vec<String>),
}

/// The development chain's parameters; what is absent is the dev-node's own default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each is the dev-node's flag of the same name")]
pub struct DevChain {
    pub seed: Option<Spanned<String>>,
    pub pieces_in_sector: Option<Spanned<u16>>,
    pub slot_ms: Option<Spanned<u64>>,
    pub block_bytes: Option<Spanned<u64>>,
    pub archive_ahead: Option<Spanned<u64>>,
    pub confirmation_depth: Option<Spanned<u64>>,
    pub recent_segments: Option<Spanned<u64>>,
    pub min_sector_lifetime: Option<Spanned<u64>>,
    pub slots_per_block: Option<Spanned<u64>>,
}

/// Ports and limits of a host's nats-server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsSettings {
    /// Its name, its own in the cluster.
    pub server_name: Option<Spanned<String>>,
    /// Clients.
    pub port: Option<Spanned<u16>>,
    /// `/healthz`, `/jsz`.
    pub monitor_port: Option<Spanned<u16>>,
    /// The other nats-servers of the cluster.
    pub cluster_port: Option<Spanned<u16>>,
    /// The other servers' cluster ports, as the operator thinks they are.
    pub routes: Option<Spanned<Vec<Spanned<SocketAddr>>>>,
    /// Largest message in bytes.
    pub max_payload: Option<Spanned<u64>>,
    /// TLS of clients and of the other nats-servers.
    pub tls: Option<Spanned<NatsTls>>,
}

/// PEM files of a nats-server's host, which the operator puts there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NatsTls {
    /// Its certificate: for clients and servers, with its address as subjectAltName.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The authority of all nats-servers; at this path on every host, since roles compare with it.
    pub ca: PathBuf,
}

/// A controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControllerSettings {
    /// `--prometheus-listen-on`.
    pub metrics_port: Option<Spanned<u16>>,
    /// `--node-rpc-url`.
    pub node_rpc_url: Option<Spanned<SocketAddr>>,
}

/// A role that has no settings but its metrics port and GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleSettings {
    /// `--prometheus-listen-on`.
    pub metrics_port: Option<Spanned<u16>>,
    /// `CUDA_VISIBLE_DEVICES`.
    pub gpu: Option<Spanned<u16>>,
}

/// A piece cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheSettings {
    /// TCP port that serves pieces.
    pub port: Option<Spanned<u16>>,
    /// `--prometheus-listen-on`.
    pub metrics_port: Option<Spanned<u16>>,
    /// Directory of the store.
    pub path: Option<Spanned<PathBuf>>,
    /// Bytes at most.
    pub size: Option<Spanned<u64>>,
    /// CPUs that it runs on.
    pub cpus: Option<Spanned<BTreeSet<u32>>>,
}

/// A plot-server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlotServerSettings {
    /// Name of its program.
    pub name: Option<Spanned<String>>,
    /// TCP port that serves sectors.
    pub port: Option<Spanned<u16>>,
    /// `--prometheus-listen-on`.
    pub metrics_port: Option<Spanned<u16>>,
    /// `CUDA_VISIBLE_DEVICES`.
    pub gpu: Option<Spanned<u16>>,
    /// `GPU_CONCURRENCY`.
    pub gpu_concurrency: Option<Spanned<u16>>,
    /// CPUs that it runs on.
    pub cpus: Option<Spanned<BTreeSet<u32>>>,
    /// Directory of the spool.
    pub path: Option<Spanned<PathBuf>>,
}

/// How many sectors a farm has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectorCount {
    /// As many as its disk holds.
    Max,
    /// So many.
    Number(u16),
}

/// A farm: a directory and how much of it is plotted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarmSettings {
    /// Directory.
    pub path: Spanned<PathBuf>,
    /// Sectors.
    pub sectors: Option<Spanned<SectorCount>>,
    /// Bytes.
    pub size: Option<Spanned<u64>>,
}

/// What a node host runs: nats-server, node, controller, proof-server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// nats-server.
    pub nats: NatsSettings,
    /// The node's RPC.
    pub rpc_port: Option<Spanned<u16>>,
    /// Controller.
    pub controller: ControllerSettings,
    /// Proof-server.
    pub proof_server: RoleSettings,
}

/// What a plotter runs: caches and plot-servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlotterSettings {
    /// Sharded cache.
    pub sharded_cache: CacheSettings,
    /// Full copy.
    pub full_piece_cache: CacheSettings,
    /// One per GPU.
    pub plot_servers: Option<Vec<Spanned<PlotServerSettings>>>,
}

/// What a storage host runs: one plot-client for all its disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageSettings {
    /// `--prometheus-listen-on`.
    pub metrics_port: Option<Spanned<u16>>,
    /// `--new-segment-delay-max`, seconds.
    pub new_segment_delay_max_s: Option<Spanned<u64>>,
    /// Farms, one a disk.
    pub farms: Option<Spanned<Vec<Spanned<FarmSettings>>>>,
}

/// Everything that can be said of a host, a group or all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Groups that the host is in (hosts only).
    pub groups: Vec<Spanned<String>>,
    /// Words by which it can be chosen (hosts only).
    pub tags: Vec<Spanned<String>>,
    /// How it is reached.
    pub connection: Option<Spanned<Connection>>,
    /// How to log in over SSH.
    pub ssh: Option<Spanned<SshSettings>>,
    /// Its address in the cluster.
    pub address: Option<Spanned<IpAddr>>,
    /// Directory that holds everything we install there.
    pub prefix: Option<Spanned<PathBuf>>,
    /// Added to every port of the host.
    pub port_offset: Option<Spanned<u16>>,
    /// Directory of the cached development reference string.
    pub dev_srs_cache: Option<Spanned<PathBuf>>,
    /// Node host.
    pub node: Option<Spanned<NodeSettings>>,
    /// Plotter.
    pub plotter: Option<Spanned<PlotterSettings>>,
    /// Storage host.
    pub storage: Option<Spanned<StorageSettings>>,
}

/// A host by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// Its name.
    pub name: Spanned<String>,
    /// Defaults, groups and its own settings, merged.
    pub settings: Settings,
}

/// A parsed inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Name of the cluster.
    pub cluster: Spanned<String>,
    /// SS58 address.
    pub reward_address: Spanned<String>,
    /// The cluster secret.
    pub secret: SecretReference,
    /// Every NATS server as the operator thinks that clients reach it.
    pub nats_servers: Option<Spanned<Vec<Spanned<SocketAddr>>>>,
    /// The development chain, where there is no network.
    pub dev_chain: DevChain,
    /// The network.
    pub network: Option<Network>,
    /// Where our binaries come from.
    pub binaries: Binaries,
    /// Prometheus, where one is to watch the cluster.
    pub monitoring: Option<Monitoring>,
    /// The hosts in the order of the file.
    pub hosts: Vec<HostEntry>,
}

/// Parses an inventory.
///
/// # Errors
/// All findings, in the order of the file.
pub fn parse(source: &Source) -> Result<Inventory, Vec<Diagnostic>> {
    let hidden = |mut findings: Vec<Diagnostic>, root: &Node| {
        secrets::hide(source, root, &mut findings);
        findings
    };
    let root = tree::parse(source).map_err(|finding| {
        let mut findings = vec![finding];
        secrets::hide_in_text(source, &mut findings);
        findings
    })?;
    let findings = Findings::default();
    let written_out = expand::expand(root.clone(), &findings);
    let inventory = read_inventory(&written_out, &findings);
    let findings = findings.into_sorted();
    match inventory {
        Some(inventory) if findings.is_empty() => Ok(inventory),
        _ => Err(hidden(findings, &root)),
    }
}

fn read_inventory(root: &Node, findings: &Findings) -> Option<Inventory> {
    let mut map = MapReader::open(root, "the inventory", findings)?;
    let version = map.get("version", read::integer);
    if let Some(version) = version
        && version.value != SCHEMA_VERSION
    {
        let message = format!("inventory version {}, this build reads {SCHEMA_VERSION}", version.value);
        findings.add(Diagnostic::error("version", version.span, message));
    }
    let cluster = map.get("cluster", read::name);
    let reward_address = map.get("reward_address", read::text);
    let secret = map.get("secret", read_secret);
    let dev_chain = map.get("dev_chain", read_dev_chain);
    let network = map.get("network", network::read_network);
    if let (Some(dev_chain), Some(network)) = (map.key_span("dev_chain"), map.key_span("network")) {
        let message = "a cluster farms for a development chain or for a network, not for both";
        let finding = Diagnostic::error("conflict", network, message).also(dev_chain, "also here");
        findings.add(finding.hint("take one of the two out"));
    }
    let binaries = map.get("binaries", network::read_binaries);
    let monitoring = map.part("monitoring", crate::monitoring::read_settings);
    let nats_servers = map.get("nats_servers", |n, f| read::list(n, "`nats_servers:`", f, read::nats_url));
    let defaults = map.later("defaults", |n, f| read_settings(n, "defaults", false, f));
    let groups = map.later("groups", |n, f| described(n, f, |n, f| read_settings(n, "a group", false, f)));
    let hosts = map.later("hosts", |n, f| described(n, f, |n, f| read_settings(n, "a host", true, f)));
    let begin = Span { start: root.span.start, end: root.span.start };
    map.require(&["version", "cluster", "reward_address", "hosts"], begin);
    map.finish();

    if let Some(defaults) = defaults {
        read_settings(defaults, "defaults", false, findings);
    }
    let groups = groups.map_or_else(Vec::new, |groups| hosts::named(groups, "group", findings));
    for (_, group) in &groups {
        read_settings(group, "a group", false, findings);
    }
    let hosts = hosts::hosts(hosts?, defaults, &groups, findings);
    Some(Inventory {
        cluster: cluster?,
        reward_address: reward_address?,
        secret: secret.map_or(SecretReference::Generate, |secret| secret.value),
        nats_servers,
        dev_chain: dev_chain.map(|chain| chain.value).unwrap_or_default(),
        network: network.map(|network| network.value),
        binaries: binaries.map_or(Binaries::Build, |binaries| binaries.value),
        monitoring: monitoring.map(|monitoring| monitoring.value),
        hosts,
    })
}

/// Describes a map from names to what `parse` reads.
fn described(node: &Node, findings: &Findings, parse: read::Parse<Settings>) -> Option<()> {
    parse(node, findings);
    if let Some(description) = findings.description() {
        description.wrap(|settings| json!({"type": "object", "additionalProperties": settings}));
    }
    None
}

fn read_settings(node: &Node, what: &str, host: bool, findings: &Findings) -> Option<Settings> {
    let mut map = MapReader::open(node, what, findings)?;
    let names = |map: &mut MapReader<'_>, key| {
        let names = map.get(key, |n, f| read::list(n, "this", f, read::name));
        names.map(|names| names.value).unwrap_or_default()
    };
    let settings = Settings {
        groups: if host { names(&mut map, "groups") } else { Vec::new() },
        tags: if host { names(&mut map, "tags") } else { Vec::new() },
        connection: map.get("connection", read_connection),
        ssh: map.part("ssh", read_ssh),
        address: map.get("address", read::address),
        prefix: map.get("prefix", read::path),
        port_offset: map.get("port_offset", read::small),
        dev_srs_cache: map.get("dev_srs_cache", read::path),
        node: map.part("node", read_node),
        plotter: map.part("plotter", read_plotter),
        storage: map.part("storage", read_storage),
    };
    map.finish();
    Some(settings)
}

fn read_connection(node: &Node, findings: &Findings) -> Option<Connection> {
    findings.accepts(|| json!({"enum": ["local", "ssh"]}));
    let name = read::plain_text(node, findings)?;
    match name.as_str() {
        "local" => Some(Connection::Local),
        "ssh" => Some(Connection::Ssh),
        other => {
            let finding = Diagnostic::error("type", node.span, format!("unknown connection `{other}`"));
            findings.add(finding.hint("`local` or `ssh`"));
            None
        }
    }
}

fn read_ssh(node: &Node, findings: &Findings) -> Option<SshSettings> {
    let mut map = MapReader::open(node, "`ssh:`", findings)?;
    let keys = map.get("host_keys", |n, f| read::list(n, "`host_keys:`", f, read::host_key));
    let settings = SshSettings {
        user: map.get("user", read::login),
        port: map.get("port", read::port),
        identity_file: map.get("identity_file", read::path),
        jump: map.get("jump", read::jump),
        sudo: map.get("sudo", read::boolean),
        host_keys: keys.map(|keys| keys.value),
    };
    map.finish();
    Some(settings)
}

fn read_secret(node: &Node, findings: &Findings) -> Option<SecretReference> {
    if let Value::Scalar { text, .. } = &node.value {
        if text == "generate" {
            return Some(SecretReference::Generate);
        }
        let message = "a secret does not stand in an inventory";
        let hint = "write `secret: generate`, or name its source: `secret: {file: PATH}`, `{env: NAME}` or \
                    `{command: [PROGRAM, ARGUMENT]}`";
        findings.add(Diagnostic::error("secret", node.span, message).hint(hint));
        return None;
    }
    findings.accepts(|| json!({"const": "generate"}));
    let mut map = MapReader::open(node, "`secret:`", findings)?;
    let file = map.get("file", read::path);
    let env = map.get("env", read::variable);
    let command = map.get("command", |n, f| read::list(n, "command", f, read::text));
    let given = ["file", "env", "command"].iter().filter(|key| map.key_span(key).is_some()).count();
    map.finish();
    match (file, env, command) {
        (Some(file), None, None) => Some(SecretReference::File(file.value)),
        (None, Some(name), None) => Some(SecretReference::Env(name.value)),
        (None, None, Some(command)) if !command.value.is_empty() => {
            Some(SecretReference::Command(command.value.into_iter().map(|word| word.value).collect()))
        }
        (None, None, Some(command)) => {
            let message = "the command of a secret names no program";
            findings.add(
                Diagnostic::error("secret", command.span, message).hint("`command: [PROGRAM, ARGUMENT]`"),
            );
            None
        }
        // What is wrong with the one that is there was said.
        _ if given == 1 => None,
        _ => {
            let message = "a secret has one source";
            findings
                .add(Diagnostic::error("secret", node.span, message).hint("`file:`, `env:` or `command:`"));
            None
        }
    }
}

fn read_dev_chain(node: &Node, findings: &Findings) -> Option<DevChain> {
    let mut map = MapReader::open(node, "`dev_chain:`", findings)?;
    let chain = DevChain {
        seed: map.get("seed", read::name),
        pieces_in_sector: map.get("pieces_in_sector", read::positive),
        slot_ms: map.get("slot_ms", read::integer),
        block_bytes: map.get("block_bytes", read::integer),
        archive_ahead: map.get("archive_ahead", read::integer),
        confirmation_depth: map.get("confirmation_depth", read::integer),
        recent_segments: map.get("recent_segments", read::integer),
        min_sector_lifetime: map.get("min_sector_lifetime", read::integer),
        slots_per_block: map.get("slots_per_block", read::integer),
    };
    map.finish();
    Some(chain)
}

fn read_nats(node: &Node, findings: &Findings) -> Option<NatsSettings> {
    let mut map = MapReader::open(node, "`nats:`", findings)?;
    let nats = NatsSettings {
        server_name: map.get("server_name", read::name),
        port: map.get("port", read::port),
        monitor_port: map.get("monitor_port", read::port),
        cluster_port: map.get("cluster_port", read::port),
        routes: map.get("routes", |n, f| read::list(n, "`routes:`", f, read::nats_url)),
        max_payload: map.get("max_payload", read::size),
        tls: map.get("tls", read_nats_tls),
    };
    map.finish();
    Some(nats)
}

fn read_nats_tls(node: &Node, findings: &Findings) -> Option<NatsTls> {
    let mut map = MapReader::open(node, "`tls:`", findings)?;
    let files = ["cert", "key", "ca"].map(|name| (name, map.get(name, read::path)));
    map.require(&["cert", "key", "ca"], node.span);
    map.finish();
    for (name, file) in &files {
        if let Some(file) = file.as_ref().filter(|file| !file.value.is_absolute()) {
            let message = format!("`{name}: {}` of `tls:` is no absolute path", file.value.display());
            findings.add(Diagnostic::error("path", file.span, message));
        }
    }
    let [cert, key, ca] = files.map(|(_, file)| file.map(|file| file.value));
    Some(NatsTls { cert: cert?, key: key?, ca: ca? })
}

fn read_controller(node: &Node, findings: &Findings) -> Option<ControllerSettings> {
    let mut map = MapReader::open(node, "the controller", findings)?;
    let controller = ControllerSettings {
        metrics_port: map.get("metrics_port", read::port),
        node_rpc_url: map.get("node_rpc_url", read::node_url),
    };
    map.finish();
    Some(controller)
}

fn read_proof_server(node: &Node, findings: &Findings) -> Option<RoleSettings> {
    let mut map = MapReader::open(node, "the proof-server", findings)?;
    let role =
        RoleSettings { metrics_port: map.get("metrics_port", read::port), gpu: map.get("gpu", read::small) };
    map.finish();
    Some(role)
}

/// The guides let everyone reach the node's unsafe RPC, and every web page with them.
fn refuse_open_rpc(map: &mut MapReader<'_>) {
    for key in ["rpc_listen_on", "rpc_methods", "rpc_cors"] {
        map.refuse(key, |span, _| {
            let message = format!("`{key}` is not chosen: whoever reaches a node's unsafe RPC can act as the farm");
            let hint = "take it out: the node listens on the host's `address:` at `rpc_port:` and answers no web page; \
                        give it an address that only the cluster reaches";
            Diagnostic::error("open-rpc", span, message).hint(hint)
        });
    }
}

fn read_node(node: &Node, findings: &Findings) -> Option<NodeSettings> {
    let mut map = MapReader::open(node, "`node:`", findings)?;
    let settings = NodeSettings {
        nats: map.part("nats", read_nats).map(|nats| nats.value).unwrap_or_default(),
        rpc_port: map.get("rpc_port", read::port),
        controller: map.part("controller", read_controller).map(|role| role.value).unwrap_or_default(),
        proof_server: map.part("proof_server", read_proof_server).map(|role| role.value).unwrap_or_default(),
    };
    refuse_open_rpc(&mut map);
    map.finish();
    Some(settings)
}

fn read_cache(node: &Node, findings: &Findings) -> Option<CacheSettings> {
    let mut map = MapReader::open(node, "a cache", findings)?;
    let cache = CacheSettings {
        port: map.get("port", read::port),
        metrics_port: map.get("metrics_port", read::port),
        path: map.get("path", read::path),
        size: map.get("size", read::size),
        cpus: map.get("cpus", read::cpus),
    };
    let path = map.key_span("path");
    map.refuse("tmp", |span, _| {
        let message =
            "a cache's store is kept: `tmp` has no place here, and with `path` it contradicts itself";
        let finding = Diagnostic::error("tmp-and-path", span, message).hint("take `tmp` out");
        path.into_iter().fold(finding, |finding, path| finding.also(path, "the store"))
    });
    map.finish();
    Some(cache)
}

fn read_plot_server(node: &Node, findings: &Findings) -> Option<PlotServerSettings> {
    let mut map = MapReader::open(node, "a plot-server", findings)?;
    let server = PlotServerSettings {
        name: map.get("name", read::name),
        port: map.get("port", read::port),
        metrics_port: map.get("metrics_port", read::port),
        gpu: map.get("gpu", read::small),
        gpu_concurrency: map.get("gpu_concurrency", read::positive),
        cpus: map.get("cpus", read::cpus),
        path: map.get("path", read::path),
    };
    map.finish();
    Some(server)
}

fn read_plotter(node: &Node, findings: &Findings) -> Option<PlotterSettings> {
    let mut map = MapReader::open(node, "`plotter:`", findings)?;
    let servers = map.get("plot_servers", |n, f| read::list(n, "`plot_servers:`", f, read_plot_server));
    let settings = PlotterSettings {
        sharded_cache: map.part("sharded_cache", read_cache).map(|cache| cache.value).unwrap_or_default(),
        full_piece_cache: map
            .part("full_piece_cache", read_cache)
            .map(|cache| cache.value)
            .unwrap_or_default(),
        plot_servers: servers.map(|servers| servers.value),
    };
    map.finish();
    Some(settings)
}

fn read_sector_count(node: &Node, findings: &Findings) -> Option<SectorCount> {
    if let Some(description) = findings.description() {
        read::positive(node, findings);
        description.wrap(|number| json!({"anyOf": [number, {"const": "max"}]}));
        return None;
    }
    match &node.value {
        Value::Scalar { text, plain: true } if text == "max" => Some(SectorCount::Max),
        _ => read::positive(node, &Findings::default())
            .map(SectorCount::Number)
            .or_else(|| read::wrong(node, findings, "a whole number from 1 to 65534, or `max`")),
    }
}

fn read_farm(node: &Node, findings: &Findings) -> Option<FarmSettings> {
    let mut map = MapReader::open(node, "a farm", findings)?;
    let path = map.get("path", read::path);
    let sectors = map.get("sectors", read_sector_count);
    let size = map.get("size", read::size);
    let keys = (map.key_span("sectors"), map.key_span("size"));
    if !map.has_unknown() {
        map.require(&["path"], node.span);
    }
    match keys {
        (Some(sectors), Some(size)) => {
            let finding = Diagnostic::error("conflict", size, "a farm has `sectors:` or `size:`, not both");
            findings.add(finding.also(sectors, "also here"));
        }
        (None, None) if !map.has_unknown() => {
            findings.add(Diagnostic::error("missing", node.span, "a farm lacks `sectors:` or `size:`"));
        }
        _ => {}
    }
    map.finish();
    Some(FarmSettings { path: path?, sectors, size })
}

fn read_storage(node: &Node, findings: &Findings) -> Option<StorageSettings> {
    let mut map = MapReader::open(node, "`storage:`", findings)?;
    let settings = StorageSettings {
        metrics_port: map.get("metrics_port", read::port),
        new_segment_delay_max_s: map.get("new_segment_delay_max_s", read::integer),
        farms: map.get("farms", |n, f| read::list(n, "`farms:`", f, read_farm)),
    };
    map.finish();
    Some(settings)
}
