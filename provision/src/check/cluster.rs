//! The cluster as a whole: reward address, hosts, their kinds and addresses.

use crate::inventory::{Connection, Diagnostic, Span};
use crate::resolve::{Cluster, Host};
use primitives::{PublicKey, ss58};
use std::collections::HashMap;
use std::net::IpAddr;

/// Public key of the well-known development account "Alice", whose secret key stands in Substrate's documentation.
const ALICE: [u8; 32] = [
    0xd4, 0x35, 0x93, 0xc7, 0x15, 0xfd, 0xd3, 0x1c, 0x61, 0x14, 0x1a, 0xbd, 0x04, 0xa9, 0x9f, 0xd6, 0x82,
    0x2c, 0x85, 0x58, 0x85, 0x4c, 0xcd, 0xe3, 0x9a, 0x56, 0x84, 0xe7, 0xa5, 0x6d, 0xa2, 0x7d,
];

pub(super) fn check(cluster: &Cluster, findings: &mut Vec<Diagnostic>) {
    check_reward_address(cluster, findings);
    check_connections(cluster, findings);
    check_kinds(cluster, findings);
    check_addresses(cluster, findings);
    check_node_rpcs(cluster, findings);
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
        Ok((_, key)) if key == PublicKey::from(ALICE) && cluster.is_live() => {
            let message = "this account's key is public: whoever wants to takes what it earns";
            let finding = Diagnostic::error("reward-address", address.span, message);
            findings.push(finding.hint("write the address of your own wallet"));
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
    let mut taken: HashMap<IpAddr, &Host> = HashMap::new();
    let beyond = cluster.hosts.iter().find(|host| !host.address.value.is_loopback());
    for host in &cluster.hosts {
        let address = host.address.value;
        if let Some(first) = taken.get(&address) {
            let message = format!(
                "hosts `{}` and `{}` have the same address {address}",
                first.name.value, host.name.value
            );
            let finding = Diagnostic::error("duplicate-address", host.address.span, message);
            findings
                .push(finding.also(first.address.span, "first here").hint("give each host its own address"));
            continue;
        }
        taken.insert(address, host);
        let name = &host.name.value;
        if address.is_unspecified() || address.is_multicast() {
            let message = format!("{address} is no address of host `{name}`: others reach it there");
            let finding = Diagnostic::error("address", host.address.span, message);
            findings.push(finding.hint("write the address that it has in the cluster's network"));
        } else if let Some(other) = beyond.filter(|_| address.is_loopback()) {
            let message = format!("no other host reaches `{name}` at {address}");
            let finding = Diagnostic::error("address", host.address.span, message);
            let finding = finding.also(other.address.span, format!("`{}` is elsewhere", other.name.value));
            findings.push(finding.hint("write the address that it has in the cluster's network"));
        }
    }
}

fn check_node_rpcs(cluster: &Cluster, findings: &mut Vec<Diagnostic>) {
    for host in &cluster.hosts {
        let Some(node) = &host.node else { continue };
        if is_public(host.address.value) {
            let message = format!(
                "the node of `{}` would offer unsafe RPC at {}:{}, an address of the internet",
                host.name.value, host.address.value, node.rpc_port.value
            );
            let finding = Diagnostic::warning("open-rpc", host.address.span, message);
            let hint = "give the host its address in a private network; or let a firewall keep its ports to the cluster";
            findings.push(finding.hint(hint));
        }
        let Some(url) = node.node_rpc_url else { continue };
        let own = std::net::SocketAddr::new(host.address.value, node.rpc_port.value);
        if url.value == own {
            continue;
        }
        let name = &host.name.value;
        let hint = format!("write `ws://{own}`, or leave it out: that is the node beside it");
        let message =
            format!("the controller of `{name}` would ask {}, which is no node of this cluster", url.value);
        findings.push(match cluster.node_rpcs().any(|rpc| rpc == url.value) {
            false => Diagnostic::error("node-rpc", url.span, message).hint(hint),
            true => {
                let message = format!("the controller of `{name}` asks another host's node, {}", url.value);
                Diagnostic::warning("node-rpc", url.span, message).hint(hint)
            }
        });
    }
}

/// Whether the internet can reach an address if no firewall is in the way.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            let own = v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared;
            !(own || v4.is_unspecified() || v4.is_multicast())
        }
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}
