//! The inventory: which hosts there are and what runs on them.
//!
//! Parsed strictly: an unknown or repeated key, or a value of the wrong type, is an error that shows its place. A
//! host's settings are `defaults`, then its groups in order, then its own, the later winning key by key.

pub mod read;
pub mod source;
pub mod tree;

use read::{Findings, MapReader};
use serde::Serialize;
pub use source::{Diagnostic, Severity, Source, Span, Spanned};
use std::collections::BTreeSet;
use std::net::IpAddr;
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

/// Where our binaries come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Binaries {
    /// Built from this workspace.
    Build,
    /// Brought by the operator.
    Files {
        /// `autonomys-farmer`.
        farmer: Spanned<PathBuf>,
        /// `autonomys-dev-node`.
        dev_node: Spanned<PathBuf>,
    },
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
    /// Clients.
    pub port: Option<Spanned<u16>>,
    /// `/healthz`, `/jsz`.
    pub monitor_port: Option<Spanned<u16>>,
    /// The other nats-servers of the cluster.
    pub cluster_port: Option<Spanned<u16>>,
    /// Largest message in bytes.
    pub max_payload: Option<Spanned<u64>>,
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
    /// TCP port that serves sectors.
    pub port: Option<Spanned<u16>>,
    /// `--prometheus-listen-on`.
    pub metrics_port: Option<Spanned<u16>>,
    /// `CUDA_VISIBLE_DEVICES`.
    pub gpu: Option<Spanned<u16>>,
    /// `GPU_CONCURRENCY`.
    pub gpu_concurrency: Option<Spanned<u16>>,
    /// Directory of the spool.
    pub path: Option<Spanned<PathBuf>>,
    /// CPUs that it runs on.
    pub cpus: Option<Spanned<BTreeSet<u32>>>,
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
    pub controller: RoleSettings,
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
    /// The development chain.
    pub dev_chain: DevChain,
    /// Where our binaries come from.
    pub binaries: Binaries,
    /// The hosts in the order of the file.
    pub hosts: Vec<HostEntry>,
}

/// Parses an inventory.
///
/// # Errors
/// All findings, in the order of the file.
pub fn parse(source: &Source) -> Result<Inventory, Vec<Diagnostic>> {
    let root = tree::parse(source).map_err(|finding| vec![finding])?;
    let findings = Findings::default();
    let inventory = read_inventory(&root, &findings);
    let findings = findings.into_sorted();
    match inventory {
        Some(inventory) if findings.is_empty() => Ok(inventory),
        _ => Err(findings),
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
    let binaries = map.get("binaries", read_binaries);
    let defaults = map.node("defaults");
    let groups = map.node("groups");
    let hosts = map.node("hosts");
    for (key, present) in [
        ("version", version.is_some() || map.key_span("version").is_some()),
        ("cluster", cluster.is_some() || map.key_span("cluster").is_some()),
        ("reward_address", reward_address.is_some() || map.key_span("reward_address").is_some()),
        ("hosts", hosts.is_some()),
    ] {
        if !present {
            let span = Span { start: root.span.start, end: root.span.start };
            findings.add(Diagnostic::error("missing", span, format!("the inventory lacks `{key}:`")));
        }
    }
    map.finish();

    if let Some(defaults) = defaults {
        read_settings(defaults, "defaults", false, findings);
    }
    let groups = groups.map_or_else(Vec::new, |groups| named(groups, "group", findings));
    for (_, group) in &groups {
        read_settings(group, "a group", false, findings);
    }
    let hosts = named(hosts?, "host", findings)
        .into_iter()
        .filter_map(|(name, own)| read_host(name, own, defaults, &groups, findings))
        .collect();
    Some(Inventory {
        cluster: cluster?,
        reward_address: reward_address?,
        secret: secret.map_or(SecretReference::Generate, |secret| secret.value),
        dev_chain: dev_chain.map(|chain| chain.value).unwrap_or_default(),
        binaries: binaries.map_or(Binaries::Build, |binaries| binaries.value),
        hosts,
    })
}

/// The entries of `hosts:` or `groups:`, duplicates noted.
fn named<'a>(node: &'a Node, what: &str, findings: &Findings) -> Vec<(Spanned<String>, &'a Node)> {
    let Value::Map(entries) = &node.value else {
        let message = format!("`{what}s:` is a map from names to settings, found {}", node.value.kind());
        findings.add(Diagnostic::error("type", node.span, message));
        return Vec::new();
    };
    let mut seen: Vec<(Spanned<String>, &Node)> = Vec::new();
    for (key, settings) in entries {
        if let Some((first, _)) = seen.iter().find(|(name, _)| name.value == key.text) {
            let finding = Diagnostic::error(
                if what == "host" { "duplicate-host" } else { "duplicate-group" },
                key.span,
                format!("{what} `{}` is defined twice", key.text),
            );
            let hint = format!("give the second {what} another name, or merge the two");
            findings.add(finding.label("again here").also(first.span, "first here").hint(hint));
            continue;
        }
        if !read::is_name(&key.text) {
            let message = format!("`{}` is no name of a {what}: use a-z, digits, `-` and `_`", key.text);
            findings.add(Diagnostic::error("type", key.span, message));
        }
        seen.push((Spanned::new(key.text.clone(), key.span), settings));
    }
    seen
}

fn read_host(
    name: Spanned<String>,
    own: &Node,
    defaults: Option<&Node>,
    groups: &[(Spanned<String>, &Node)],
    findings: &Findings,
) -> Option<HostEntry> {
    let mine = read_settings(own, "a host", true, findings)?;
    let mut merged = defaults.cloned().unwrap_or(Node { value: Value::Map(Vec::new()), span: own.span });
    for member in &mine.groups {
        match groups.iter().find(|(group, _)| group.value == member.value) {
            Some((_, group)) => merged = merged.overlaid(group),
            None => {
                let message =
                    format!("host `{}` is in group `{}`, which is not defined", name.value, member.value);
                let names = groups.iter().map(|(group, _)| group.value.as_str());
                let finding = Diagnostic::error("unknown-group", member.span, message);
                let hint = match source::closest(&member.value, names) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("define it under `groups:` as `{}:`", member.value),
                };
                findings.add(finding.hint(hint));
            }
        }
    }
    // Each part was read on its own above; what the merged tree gets wrong was noted there.
    let settings = read_settings(&merged.overlaid(own), "a host", true, &Findings::default())?;
    Some(HostEntry { name, settings })
}

fn read_settings(node: &Node, what: &str, host: bool, findings: &Findings) -> Option<Settings> {
    let mut map = MapReader::open(node, what, findings)?;
    let groups = if host { map.get("groups", |n, f| read::list(n, "groups", f, read::name)) } else { None };
    let settings = Settings {
        groups: groups.map(|groups| groups.value).unwrap_or_default(),
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
    match read::text(node, findings)?.as_str() {
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
    let mut map = MapReader::open(node, "`secret:`", findings)?;
    let file = map.get("file", read::path);
    let env = map.get("env", read::text);
    let command = map.get("command", |n, f| read::list(n, "command", f, read::text));
    map.finish();
    match (file, env, command) {
        (Some(file), None, None) => Some(SecretReference::File(file.value)),
        (None, Some(name), None) => Some(SecretReference::Env(name.value)),
        (None, None, Some(command)) if !command.value.is_empty() => {
            Some(SecretReference::Command(command.value.into_iter().map(|word| word.value).collect()))
        }
        _ => {
            let message = "a secret has one source";
            findings
                .add(Diagnostic::error("secret", node.span, message).hint("`file:`, `env:` or `command:`"));
            None
        }
    }
}

fn read_binaries(node: &Node, findings: &Findings) -> Option<Binaries> {
    if let Value::Scalar { text, .. } = &node.value
        && text == "build"
    {
        return Some(Binaries::Build);
    }
    let mut map = MapReader::open(node, "`binaries:`", findings)?;
    let farmer = map.get("farmer", read::path);
    let dev_node = map.get("dev_node", read::path);
    map.finish();
    if farmer.is_none() || dev_node.is_none() {
        let message = "`binaries:` is `build`, or names both `farmer:` and `dev_node:`";
        findings.add(Diagnostic::error("missing", node.span, message));
    }
    Some(Binaries::Files { farmer: farmer?, dev_node: dev_node? })
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
        port: map.get("port", read::port),
        monitor_port: map.get("monitor_port", read::port),
        cluster_port: map.get("cluster_port", read::port),
        max_payload: map.get("max_payload", read::size),
    };
    map.finish();
    Some(nats)
}

fn read_role(node: &Node, findings: &Findings) -> Option<RoleSettings> {
    let mut map = MapReader::open(node, "this role", findings)?;
    let role =
        RoleSettings { metrics_port: map.get("metrics_port", read::port), gpu: map.get("gpu", read::small) };
    map.finish();
    Some(role)
}

fn read_node(node: &Node, findings: &Findings) -> Option<NodeSettings> {
    let mut map = MapReader::open(node, "`node:`", findings)?;
    let settings = NodeSettings {
        nats: map.part("nats", read_nats).map(|nats| nats.value).unwrap_or_default(),
        rpc_port: map.get("rpc_port", read::port),
        controller: map.part("controller", read_role).map(|role| role.value).unwrap_or_default(),
        proof_server: map.part("proof_server", read_role).map(|role| role.value).unwrap_or_default(),
    };
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
    map.finish();
    Some(cache)
}

fn read_plot_server(node: &Node, findings: &Findings) -> Option<PlotServerSettings> {
    let mut map = MapReader::open(node, "a plot-server", findings)?;
    let server = PlotServerSettings {
        port: map.get("port", read::port),
        metrics_port: map.get("metrics_port", read::port),
        gpu: map.get("gpu", read::small),
        gpu_concurrency: map.get("gpu_concurrency", read::positive),
        path: map.get("path", read::path),
        cpus: map.get("cpus", read::cpus),
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
    match &node.value {
        Value::Scalar { text, plain: true } if text == "max" => Some(SectorCount::Max),
        _ => read::positive(node, findings).map(SectorCount::Number),
    }
}

fn read_farm(node: &Node, findings: &Findings) -> Option<FarmSettings> {
    let mut map = MapReader::open(node, "a farm", findings)?;
    let path = map.get("path", read::path);
    let sectors = map.get("sectors", read_sector_count);
    let size = map.get("size", read::size);
    let keys = (map.key_span("sectors"), map.key_span("size"));
    if map.key_span("path").is_none() && !map.has_unknown() {
        findings.add(Diagnostic::error("missing", node.span, "a farm lacks `path:`"));
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
