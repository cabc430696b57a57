//! Rules over the whole inventory, checked before any host is touched. Pure.

mod cpus;

use crate::inventory::{Connection, Diagnostic, Severity, Span};
use crate::resolve::{Cluster, FarmSpace, Host};
use primitives::ss58;
use std::path::Path;

/// Smallest `max_payload` that any message of ours fits: 2 MiB.
const MAX_PAYLOAD_MIN: u64 = 2 << 20;
/// Sectors at most in a farm: indices are 16 bits, and the last is not used (farming §8).
const SECTORS_MAX: u16 = primitives::farms::MAX_SECTORS;

/// A port of a host and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortUse {
    /// The port.
    pub port: u16,
    /// Where the inventory says so.
    pub span: Span,
    /// "nats-server clients".
    pub purpose: String,
}

/// Every port that a host's programs listen on.
pub fn ports(host: &Host) -> Vec<PortUse> {
    let mut uses = Vec::new();
    let mut add = |port: &crate::inventory::Spanned<u16>, purpose: &str| {
        uses.push(PortUse { port: port.value, span: port.span, purpose: purpose.to_string() });
    };
    if let Some(node) = &host.node {
        add(&node.nats.port, "nats-server (clients)");
        add(&node.nats.monitor_port, "nats-server (monitoring)");
        if let Some(port) = &node.nats.cluster_port {
            add(port, "nats-server (its cluster)");
        }
        add(&node.rpc_port, "node RPC");
        add(&node.controller.metrics_port, "controller metrics");
        add(&node.proof_server.metrics_port, "proof-server metrics");
    }
    if let Some(plotter) = &host.plotter {
        add(&plotter.sharded_cache.port, "sharded-cache");
        add(&plotter.sharded_cache.metrics_port, "sharded-cache metrics");
        add(&plotter.full_piece_cache.port, "full-piece-sharded-cache");
        add(&plotter.full_piece_cache.metrics_port, "full-piece-sharded-cache metrics");
        for (index, server) in plotter.plot_servers.iter().enumerate() {
            add(&server.port, &format!("plot-server {index}"));
            add(&server.metrics_port, &format!("plot-server {index} metrics"));
        }
    }
    if let Some(storage) = &host.storage {
        add(&storage.metrics_port, "plot-client metrics");
    }
    uses
}

/// Checks a cluster; errors stop everything, warnings do not.
pub fn check(cluster: &Cluster) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    check_reward_address(cluster, &mut findings);
    check_connections(cluster, &mut findings);
    check_kinds(cluster, &mut findings);
    check_addresses(cluster, &mut findings);
    for host in &cluster.hosts {
        check_ports(host, &mut findings);
        check_nats(host, &mut findings);
        check_paths(host, &mut findings);
        check_plot_servers(host, &mut findings);
        cpus::check(host, &mut findings);
    }
    findings.sort_by_key(|finding| finding.labels.first().map(|label| label.span.start));
    findings
}

/// Whether any finding stops the run.
pub fn has_errors(findings: &[Diagnostic]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

fn check_reward_address(cluster: &Cluster, findings: &mut Vec<Diagnostic>) {
    let address = &cluster.reward_address;
    match ss58::decode(&address.value) {
        Err(error) => {
            let finding =
                Diagnostic::error("reward-address", address.span, format!("no SS58 address: {error}"));
            findings.push(
                finding.hint("copy the address from your wallet again; rewards to a wrong one are lost"),
            );
        }
        Ok((ss58::AUTONOMYS_PREFIX | ss58::GENERIC_PREFIX, _)) => {}
        Ok((prefix, _)) => {
            let message =
                format!("this address is of network {prefix}, not of Autonomys ({})", ss58::AUTONOMYS_PREFIX);
            let finding = Diagnostic::warning("reward-address", address.span, message);
            findings.push(finding.hint("the account is the same key on every chain; make sure it is yours"));
        }
    }
}

fn check_connections(cluster: &Cluster, findings: &mut Vec<Diagnostic>) {
    let mut first_local: Option<Span> = None;
    for host in &cluster.hosts {
        match host.connection.value {
            Connection::Ssh => check_ssh(host, findings),
            Connection::Local => match first_local {
                None => first_local = Some(host.name.span),
                Some(first) => {
                    let message = format!("host `{}` is this machine a second time", host.name.value);
                    let finding = Diagnostic::error("duplicate-host", host.name.span, message);
                    findings.push(finding.also(first, "first here").hint("put all its roles into one host"));
                }
            },
        }
    }
}

fn check_ssh(host: &Host, findings: &mut Vec<Diagnostic>) {
    // A default stands where the host's name does.
    if host.address.span == host.name.span {
        let message = format!("host `{}` is reached over SSH but has no `address:`", host.name.value);
        let finding = Diagnostic::error("missing", host.name.span, message);
        findings.push(finding.hint("`address: 192.168.1.4`; or `connection: local` if it is this machine"));
    }
    let span = host.connection.span;
    let paths = crate::facts::data_paths(host);
    let own = [&host.prefix, &host.dev_srs_cache];
    if let Some(path) = own.into_iter().chain(&paths).find(|path| path.iter().any(|part| part == "~")) {
        let message =
            format!("host `{}`: `~` in {} is not known before we are there", host.name.value, path.display());
        findings.push(Diagnostic::error("path", span, message).hint("write the whole path"));
    }
}

fn check_kinds(cluster: &Cluster, findings: &mut Vec<Diagnostic>) {
    let place = cluster.hosts.first().map_or_else(Span::default, |host| host.name.span);
    if cluster.hosts.is_empty() {
        findings.push(Diagnostic::error("missing", place, "the inventory has no host"));
        return;
    }
    type Has = fn(&Host) -> bool;
    let kinds: [(&str, &str, Has); 3] = [
        ("node", "NATS, the chain and the controller", |host| host.node.is_some()),
        ("plotter", "caches and plot-servers", |host| host.plotter.is_some()),
        ("storage", "the farms", |host| host.storage.is_some()),
    ];
    for (kind, purpose, has) in kinds {
        if !cluster.hosts.iter().any(has) {
            let finding = Diagnostic::error(
                "missing",
                place,
                format!("no host has `{kind}:`: {purpose} would be missing"),
            );
            findings.push(
                finding.hint(format!("add `{kind}:` to a host; with no settings it takes the defaults")),
            );
        }
    }
    for host in &cluster.hosts {
        if host.storage.as_ref().is_some_and(|storage| storage.farms.is_empty()) {
            let message = format!("host `{}` has `storage:` but no farm", host.name.value);
            let hint = "`farms:` followed by `- {path: DIR, sectors: N}`";
            findings.push(Diagnostic::error("missing", host.name.span, message).hint(hint));
        }
        if let Some(plotter) = &host.plotter
            && plotter.plot_servers.is_empty()
        {
            let message =
                format!("host `{}` has `plot_servers: []`: nothing would plot there", host.name.value);
            findings.push(Diagnostic::warning("missing", host.name.span, message));
        }
    }
}

fn check_addresses(cluster: &Cluster, findings: &mut Vec<Diagnostic>) {
    for (index, host) in cluster.hosts.iter().enumerate() {
        let same = cluster.hosts[..index].iter().find(|other| other.address.value == host.address.value);
        if let Some(first) = same {
            let message = format!(
                "hosts `{}` and `{}` have the same address {}",
                first.name.value, host.name.value, host.address.value
            );
            let finding = Diagnostic::error("duplicate-address", host.address.span, message);
            findings.push(finding.also(first.address.span, "first here"));
        }
    }
}

fn check_ports(host: &Host, findings: &mut Vec<Diagnostic>) {
    let uses = ports(host);
    let beyond: Vec<_> = uses.iter().filter(|used| used.port == 0).collect();
    if let Some(first) = beyond.first() {
        let message = format!("with `port_offset` the ports of {} programs are beyond 65535", beyond.len());
        findings.push(Diagnostic::error("port", first.span, message).hint("choose a smaller `port_offset`"));
    }
    let label = |used: &PortUse| match used.span == host.name.span {
        true => format!("{} (by default)", used.purpose),
        false => used.purpose.clone(),
    };
    for (index, used) in uses.iter().enumerate().filter(|(_, used)| used.port != 0) {
        if let Some(first) = uses[..index].iter().find(|other| other.port == used.port) {
            let message = format!("port {} is given to {} and to {}", used.port, first.purpose, used.purpose);
            let finding = Diagnostic::error("duplicate-port", used.span, message).label(label(used));
            findings.push(finding.also(first.span, label(first)).hint("give one of them another port"));
        }
    }
}

fn check_nats(host: &Host, findings: &mut Vec<Diagnostic>) {
    let Some(node) = &host.node else { return };
    let payload = &node.nats.max_payload;
    if payload.value < MAX_PAYLOAD_MIN {
        let message = format!(
            "max_payload of {} bytes: proof requests are about 1.06 MB and roles refuse less than {MAX_PAYLOAD_MIN}",
            payload.value
        );
        findings
            .push(Diagnostic::error("max-payload", payload.span, message).hint("write `max_payload: 3MB`"));
    }
    if payload.value > 64 << 20 {
        let message = format!("max_payload of {} bytes: nats-server allows at most 64 MiB", payload.value);
        findings
            .push(Diagnostic::error("max-payload", payload.span, message).hint("write `max_payload: 3MB`"));
    }
}

fn check_paths(host: &Host, findings: &mut Vec<Diagnostic>) {
    let mut taken: Vec<(&Path, Span, String)> = Vec::new();
    if let Some(plotter) = &host.plotter {
        for (cache, what) in [
            (&plotter.sharded_cache, "sharded-cache"),
            (&plotter.full_piece_cache, "full-piece-sharded-cache"),
        ] {
            taken.push((&cache.path.value, cache.path.span, what.to_string()));
        }
        for (index, server) in plotter.plot_servers.iter().enumerate() {
            taken.push((&server.path.value, server.path.span, format!("plot-server {index}")));
        }
    }
    for (index, farm) in host.storage.iter().flat_map(|storage| &storage.farms).enumerate() {
        taken.push((&farm.path.value, farm.path.span, format!("farm {index}")));
        if let FarmSpace::Sectors(sectors) = farm.space.value
            && sectors > SECTORS_MAX
        {
            let message = format!("a farm has at most {SECTORS_MAX} sectors, not {sectors}");
            findings.push(Diagnostic::error("sectors", farm.space.span, message));
        }
    }
    for (index, (path, span, what)) in taken.iter().enumerate() {
        let clash =
            taken[..index].iter().find(|(other, ..)| path.starts_with(other) || other.starts_with(path));
        if let Some((other, first, other_what)) = clash {
            let relation =
                if path == other { "the same directory as" } else { "nested with the directory of" };
            let message = format!("{what} has {relation} {other_what}");
            let finding = Diagnostic::error("duplicate-path", *span, message).label(what.clone());
            findings.push(finding.also(*first, other_what.clone()).hint("give each a directory of its own"));
        }
    }
}

fn check_plot_servers(host: &Host, findings: &mut Vec<Diagnostic>) {
    let Some(plotter) = &host.plotter else { return };
    let gpus: Vec<_> = plotter.plot_servers.iter().filter_map(|server| server.gpu).collect();
    for (index, gpu) in gpus.iter().enumerate() {
        if let Some(first) = gpus[..index].iter().find(|other| other.value == gpu.value) {
            let message = format!("GPU {} has two plot-servers", gpu.value);
            let finding = Diagnostic::error("duplicate-gpu", gpu.span, message);
            findings.push(finding.also(first.span, "first here").hint("one plot-server per GPU"));
        }
    }
}
