//! Prometheus and Grafana: what to scrape, what to be told of, and a dashboard. Pure.
//!
//! A host is watched for what it runs: its targets carry its roles, and every alert is about a role's own metrics, so a host
//! without a node has no alert about one.

mod dashboard;

use crate::derive::{self, Gate};
use crate::error::{Error, Problem, Result};
use crate::facts::HostFacts;
use crate::inventory::Spanned;
use crate::inventory::read::{self, Findings, MapReader};
use crate::inventory::tree::Node;
use crate::render;
use crate::resolve::Cluster;
use serde::Serialize;
use std::net::SocketAddr;
use tera::Context;

/// Days before a disk is full within which that is said.
const DISK_DAYS: u16 = 3;

/// `monitoring:` of the inventory: with it, roles serve their metrics at their host's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Monitoring {
    /// Port of the prometheus-node-exporter on every host, where the operator has installed it.
    pub node_exporter_port: Option<Spanned<u16>>,
    /// A plotted sector brings one solution in so many days; without it, what sectors brought within the last week counts.
    pub sector_days_per_solution: Option<Spanned<u16>>,
}

/// Reads `monitoring:`.
pub fn read_settings(node: &Node, findings: &Findings) -> Option<Monitoring> {
    let mut map = MapReader::open(node, "`monitoring:`", findings)?;
    let settings = Monitoring {
        node_exporter_port: map.get("node_exporter_port", read::port),
        sector_days_per_solution: map.get("sector_days_per_solution", read::positive),
    };
    map.finish();
    Some(settings)
}

/// How the user calls this tool: alerts say what to type.
#[derive(Debug, Clone)]
pub struct Call {
    /// `provision`, `cargo run …`.
    pub provision: String,
    /// The inventory and what goes with it.
    pub inventory: String,
}

/// A process to be scraped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Where it serves `/metrics`.
    pub address: SocketAddr,
    /// Its host.
    pub host: String,
    /// Its role; none of a host's own exporter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// Its name under supervisord.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// Every role that serves metrics, host after host in the order of the start.
pub fn targets(cluster: &Cluster) -> Vec<Target> {
    let of_host = |host| {
        let (programs, _) = derive::programs(cluster, host, &HostFacts::default());
        programs.into_iter().filter_map(|program| match program.gate {
            Gate::Role { address } => Some(Target {
                address,
                host: host.name.value.clone(),
                role: Some(program.role.name()),
                program: Some(program.name),
            }),
            _ => None,
        })
    };
    cluster.hosts.iter().flat_map(of_host).collect()
}

/// The exporters of the hosts themselves, where the inventory says that there are any.
fn exporters(cluster: &Cluster) -> Vec<Target> {
    let Some(port) = cluster.monitoring.as_ref().and_then(|monitoring| monitoring.node_exporter_port) else {
        return Vec::new();
    };
    let of_host = |host: &crate::resolve::Host| Target {
        address: SocketAddr::new(host.address.value, port.value),
        host: host.name.value.clone(),
        role: None,
        program: None,
    };
    cluster.hosts.iter().map(of_host).collect()
}

/// Names and texts of the files: Prometheus's configuration, its rules, Grafana's dashboard.
///
/// # Errors
/// No Prometheus could reach the metrics, or `call` cannot stand in an alert.
pub fn files(cluster: &Cluster, call: &Call) -> Result<[(&'static str, String); 3]> {
    check_reachable(cluster)?;
    let call_text = format!("{} {}", call.provision, call.inventory);
    if call_text.contains("{{") || call_text.contains(char::is_control) {
        let message =
            format!("alerts cannot carry the inventory's path {call_text:?} (control character, or `{{{{`)");
        return Err(Error::Template(message));
    }
    let tera = render::templates()?;
    let mut context = Context::new();
    context.insert("cluster", &cluster.name);
    context.insert("targets", &targets(cluster));
    context.insert("hosts", &exporters(cluster));
    let prometheus = render::render(tera, "monitoring/prometheus.yml", &context)?;
    let monitoring = cluster.monitoring.as_ref();
    let sector_days = monitoring.and_then(|monitoring| monitoring.sector_days_per_solution);
    context.insert("sector_days", &sector_days.map(|days| days.value));
    context.insert("disk_days", &DISK_DAYS);
    context.insert("provision", &call.provision);
    context.insert("inventory", &call.inventory);
    // What Prometheus fills in has the same braces as what is filled in here.
    let label = |name: &&'static str| (*name, format!("{{{{ $labels.{name} }}}}"));
    let labels = ["cluster", "host", "role", "program", "farm_id", "mountpoint"];
    context.insert("label", &labels.iter().map(label).collect::<std::collections::BTreeMap<_, _>>());
    context.insert("value", "{{ $value | humanize }}");
    context.insert("percent", "{{ $value | humanizePercentage }}");
    let rules = render::render(tera, "monitoring/autonomys.rules.yml", &context)?;
    let dashboard = format!("{:#}\n", dashboard::dashboard());
    Ok([("prometheus.yml", prometheus), ("autonomys.rules.yml", rules), ("dashboard.json", dashboard)])
}

/// Roles that serve their host alone can be scraped by nobody else.
fn check_reachable(cluster: &Cluster) -> Result<()> {
    use crate::inventory::Connection;
    let elsewhere = cluster.hosts.iter().find(|host| host.connection.value != Connection::Local);
    match (elsewhere, &cluster.monitoring) {
        (Some(host), None) => {
            let problem = Problem {
                code: "metrics-unreachable",
                message: format!("the roles of host `{}` serve their metrics on 127.0.0.1 only", host.name.value),
                hint: "write `monitoring: {}` into the inventory and apply: then they serve them at the host's address, to \
                       everybody who reaches it"
                    .to_string(),
            };
            Err(Error::Check { problems: vec![problem] })
        }
        _ => Ok(()),
    }
}
