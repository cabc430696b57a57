//! nats-server: names, routes, the servers that everyone is told of, quorum and the size of messages.

use crate::inventory::{Diagnostic, Span, Spanned};
use crate::resolve::{Cluster, Host, Nats};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Smallest `max_payload` that any message of ours fits: 2 MiB.
const MAX_PAYLOAD_MIN: u64 = 2 << 20;
/// Largest that nats-server takes.
const MAX_PAYLOAD_MAX: u64 = 64 << 20;
/// Copies of what JetStream holds for us, where there are as many servers.
const REPLICAS_MAX: usize = 3;

pub(super) fn check(cluster: &Cluster, findings: &mut Vec<Diagnostic>) {
    let servers = servers(cluster);
    check_names(&servers, findings);
    check_quorum(&servers, findings);
    check_payloads(&servers, findings);
    check_tls(&servers, findings);
    let at = |port: fn(&Nats) -> Option<u16>| {
        let places = servers.iter().filter_map(|(host, nats)| {
            Some((&*host.name.value, SocketAddr::new(host.address.value, port(nats)?)))
        });
        places.collect::<Vec<_>>()
    };
    let clients = at(|nats| Some(nats.port.value));
    let routes = at(|nats| nats.cluster_port.map(|port| port.value));
    if let Some(given) = &cluster.given_nats_servers {
        let rule = Rule {
            code: "nats-servers",
            what: "`nats_servers`",
            places: &clients,
            others: &routes,
            other: "where it takes the routes of other servers; clients use",
        };
        rule.check(cluster, given, None, findings);
    }
    for (host, nats) in &servers {
        let Some(given) = &nats.given_routes else { continue };
        if servers.len() == 1 {
            let message =
                format!("`{}` has the only nats-server: there is nowhere to route to", host.name.value);
            let finding = Diagnostic::error("nats-route", given.span, message);
            findings.push(finding.hint("leave `routes:` out, or give other hosts `node:`"));
            continue;
        }
        let rule = Rule {
            code: "nats-route",
            what: "`routes`",
            places: &routes,
            others: &clients,
            other: "its port for clients, where a route is refused; routes use",
        };
        rule.check(cluster, given, Some(&host.name.value), findings);
    }
}

fn servers(cluster: &Cluster) -> Vec<(&Host, &Nats)> {
    cluster.hosts.iter().filter_map(|host| Some((host, &host.node.as_ref()?.nats))).collect()
}

fn check_names(servers: &[(&Host, &Nats)], findings: &mut Vec<Diagnostic>) {
    let mut taken: HashMap<&str, (&Host, Span)> = HashMap::new();
    for (host, nats) in servers {
        let name = &nats.server_name;
        let Some((first, span)) = taken.get(&*name.value) else {
            taken.insert(&name.value, (host, name.span));
            continue;
        };
        let (one, other) = (&first.name.value, &host.name.value);
        let message = format!("the nats-servers of `{one}` and `{other}` have one name: {}", name.value);
        let finding =
            Diagnostic::error("duplicate-server-name", name.span, message).label(format!("of `{other}`"));
        let hint = "JetStream takes two of one name for one server: leave `server_name:` out, then each has its host's";
        findings.push(finding.also(*span, format!("of `{one}`")).hint(hint));
    }
}

fn check_quorum(servers: &[(&Host, &Nats)], findings: &mut Vec<Diagnostic>) {
    let count = servers.len();
    let Some((last, _)) = servers.last() else { return };
    let needed = count / 2 + 1;
    let reason = match count {
        1 | 3 | 5 => return,
        2 => "JetStream needs both for its majority, so that the loss of either stops it: less safe than one"
            .to_string(),
        _ if count.is_multiple_of(2) => format!(
            "JetStream's majority is {needed}, so that it survives the loss of {}, as {} servers do",
            count - needed,
            count - 1
        ),
        _ => format!(
            "what JetStream holds has {REPLICAS_MAX} copies at most: more than 5 servers only cost agreement"
        ),
    };
    let message = format!("{count} NATS servers: {reason}");
    let finding = Diagnostic::warning("nats-quorum", last.name.span, message);
    findings.push(finding.hint("give 1, 3 or 5 hosts `node:`; three survive the loss of any one"));
}

/// Roles turn to every nats-server in the same way, and those to each other.
fn check_tls(servers: &[(&Host, &Nats)], findings: &mut Vec<Diagnostic>) {
    let Some((first, tls)) = servers.iter().find_map(|(host, nats)| Some((host, nats.tls.as_ref()?))) else {
        return;
    };
    for (host, nats) in servers {
        let (span, message) = match &nats.tls {
            None => (host.name.span, format!("the nats-server of host `{}` has no `tls:`", host.name.value)),
            Some(other) if other.value.ca != tls.value.ca => {
                let message = format!("the nats-server of host `{}` has another authority", host.name.value);
                (other.span, message)
            }
            Some(_) => continue,
        };
        let finding = Diagnostic::error("nats-tls", span, message);
        let finding = finding.also(tls.span, format!("host `{}` has this", first.name.value));
        findings.push(finding.hint("all nats-servers have TLS or none, with one `ca:` at the same path"));
    }
}

fn check_payloads(servers: &[(&Host, &Nats)], findings: &mut Vec<Diagnostic>) {
    for (index, (_, nats)) in servers.iter().enumerate() {
        let payload = &nats.max_payload;
        let message = if payload.value < MAX_PAYLOAD_MIN {
            format!(
                "max_payload of {} bytes: proof requests are about 1.06 MB and roles refuse less than {MAX_PAYLOAD_MIN}",
                payload.value
            )
        } else if payload.value > MAX_PAYLOAD_MAX {
            format!("max_payload of {} bytes: nats-server allows at most 64 MiB", payload.value)
        } else {
            let (first, other) = (servers[0].0, servers[0].1.max_payload);
            if index > 0 && other.value != payload.value {
                let message = format!(
                    "max_payload of {} bytes here and of {} on `{}`: what one server takes another refuses",
                    payload.value, other.value, first.name.value
                );
                let finding = Diagnostic::error("max-payload", payload.span, message);
                let hint = "say it once, under `defaults:` or in a group";
                findings.push(finding.also(other.span, "another limit here").hint(hint));
            }
            continue;
        };
        findings
            .push(Diagnostic::error("max-payload", payload.span, message).hint("write `max_payload: 3MB`"));
    }
}

/// What a list of URLs must name: each nats-server once, at one of its two ports.
struct Rule<'a> {
    code: &'static str,
    what: &'a str,
    /// Host and where it is to be named.
    places: &'a [(&'a str, SocketAddr)],
    /// Host and its other port.
    others: &'a [(&'a str, SocketAddr)],
    /// What that is for.
    other: &'a str,
}

impl Rule<'_> {
    /// `own` is the server that has the list: it may name itself or not.
    fn check(
        &self,
        cluster: &Cluster,
        given: &Spanned<Vec<Spanned<SocketAddr>>>,
        own: Option<&str>,
        findings: &mut Vec<Diagnostic>,
    ) {
        let mut seen: HashMap<SocketAddr, Span> = HashMap::new();
        let right = || {
            let urls = self.places.iter().filter(|(host, _)| Some(*host) != own);
            let urls = urls.map(|(_, place)| format!("nats://{place}")).collect::<Vec<_>>();
            format!("write [{}], or leave it out: it follows from the hosts", urls.join(", "))
        };
        let before = findings.len();
        for url in &given.value {
            if let Some(first) = seen.get(&url.value) {
                let message = format!("nats://{} is in {} twice", url.value, self.what);
                let finding = Diagnostic::error(self.code, url.span, message).label("again here");
                findings.push(finding.also(*first, "first here").hint(right()));
                continue;
            }
            seen.insert(url.value, url.span);
            if self.places.iter().all(|(_, place)| *place != url.value) {
                findings.push(
                    Diagnostic::error(self.code, url.span, self.wrong(cluster, url.value)).hint(right()),
                );
            }
        }
        let lacks = |host: &str, place: &SocketAddr| Some(host) != own && !seen.contains_key(place);
        let missing = self.places.iter().find(|(host, place)| lacks(host, place));
        // What is wrong in the list is why another is missing, as a rule.
        if let Some((host, place)) = missing.filter(|_| findings.len() == before) {
            let message = format!("{} lacks the nats-server of `{host}`, nats://{place}", self.what);
            findings.push(Diagnostic::error(self.code, given.span, message).hint(right()));
        }
    }

    /// Why a URL names no server.
    fn wrong(&self, cluster: &Cluster, url: SocketAddr) -> String {
        if let Some((host, _)) = self.others.iter().find(|(_, other)| *other == url) {
            let place =
                self.places.iter().find(|(name, _)| name == host).map_or(0, |(_, place)| place.port());
            return format!("{} of `{host}` is {} {place}", url.port(), self.other);
        }
        match cluster.hosts.iter().find(|host| host.address.value == url.ip()) {
            Some(host) if host.node.is_some() => {
                format!("the nats-server of `{}` does not listen at port {}", host.name.value, url.port())
            }
            Some(host) => format!("`{}` has the address {}, but no nats-server", host.name.value, url.ip()),
            None => format!("{} is no host of this cluster", url.ip()),
        }
    }
}
