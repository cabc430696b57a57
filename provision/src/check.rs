//! Rules over the whole inventory, checked before any host is touched. Pure.
//!
//! [`CODES`] are the names of all rules, those of reading included; each has an example in `inventories/invalid`.

mod cluster;
mod cpus;
mod nats;
mod paths;
mod plotters;

use crate::inventory::{Diagnostic, Severity, Span, in_order};
use crate::resolve::{Cluster, Host};

/// Every rule that needs nothing but the inventory, and what it asks for.
pub const CODES: &[(&str, &str)] = &[
    ("address", "an address that other hosts can reach"),
    ("artifact", "one source for each file that is brought, and the digest of what is fetched"),
    ("cache-size", "a cache that holds what plotting asks for"),
    ("conflict", "one of two settings that exclude each other"),
    ("cpus", "CPU lists that are lists, and do not overlap on a host"),
    ("duplicate-address", "an address of its own for each host"),
    ("duplicate-gpu", "one plot-server per GPU"),
    ("duplicate-group", "a name of its own for each group"),
    ("duplicate-host", "a name and a machine of its own for each host"),
    ("duplicate-key", "each key once"),
    ("duplicate-path", "a directory of its own for each store, spool and farm"),
    ("duplicate-port", "a port of its own for each listener of a host"),
    ("duplicate-program", "a name of its own for each program of a host"),
    ("duplicate-server-name", "a name of its own for each nats-server"),
    ("group-conflict", "groups of a host that do not contradict each other"),
    ("max-payload", "NATS messages as large as ours, and the same limit on every server"),
    ("missing", "what a cluster cannot do without"),
    ("nats-quorum", "a number of NATS servers that survives the loss of one"),
    ("nats-route", "routes to every other nats-server of the cluster, at its cluster port"),
    ("nats-servers", "every NATS server of the cluster, at its port for clients"),
    ("nats-tls", "all that TLS of NATS needs, and the same authority on every server"),
    ("node-rpc", "a node of this cluster"),
    ("nvme-namespace", "NVMe namespaces that exist: they are counted from 1"),
    ("open-rpc", "unsafe RPC that only the cluster reaches"),
    ("path", "paths that mean the same wherever they are read"),
    ("port", "ports from 1 to 65535"),
    ("range", "ranges that run forwards, of a bounded size, as many values as hosts"),
    ("reward-address", "an SS58 address whose checksum is right"),
    ("secret", "secrets by reference"),
    ("sectors", "no more sectors than a farm can have"),
    ("tmp-and-path", "a store that is kept or one that is not"),
    ("type", "values of the right kind"),
    ("unknown-group", "groups that are defined"),
    ("unknown-key", "keys that mean something"),
    ("version", "the format's version that this build reads"),
    ("yaml", "YAML 1.2, one document"),
];

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
    cluster::check(cluster, &mut findings);
    nats::check(cluster, &mut findings);
    for host in &cluster.hosts {
        check_ports(host, &mut findings);
        paths::check(host, &mut findings);
        plotters::check(cluster, host, &mut findings);
        cpus::check(host, &mut findings);
    }
    in_order(findings)
}

/// Whether any finding stops the run.
pub fn has_errors(findings: &[Diagnostic]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
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
