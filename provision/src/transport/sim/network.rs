//! What answers over HTTP: supervisord, nats-server, the node and the roles, each as far as gates and status ask.
//!
//! A program is ready [`STARTUP`] after its start; a role only while JetStream answers, a node that follows another one only
//! once it has found that one. JetStream answers while most servers of its cluster have joined it.

use super::machine::{Host, Nats, Process, Service};
use super::supervisord::Now;
use crate::transport::http::{Endpoint, Request, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What a program takes from its start to being ready; a nats-server, to join its cluster.
pub const STARTUP: Duration = Duration::from_secs(2);
/// What the first solution takes from the plot-client's being ready.
const FIRST_SOLUTION: Duration = Duration::from_secs(10);

/// The hosts by name.
pub(super) type Hosts = BTreeMap<String, Host>;

/// What becomes of a request.
pub(super) enum Answer {
    Response(Response),
    /// Nobody answers before the request's deadline.
    Silence,
    /// An error of the system.
    Refused(&'static str),
}

fn response(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    Answer::Response(Response { status, body: body.into() })
}

fn json_response(status: u16, body: &Value) -> Answer {
    response(status, body.to_string())
}

/// Asks on behalf of `host`.
pub(super) fn ask(hosts: &mut Hosts, host: &str, request: &Request, now: Now) -> Answer {
    match &request.endpoint {
        Endpoint::Unix(socket) => {
            let Some(host) = hosts.get_mut(host) else { return Answer::Silence };
            host.advance(now);
            let body = request.body.as_ref().map_or("", |(_, body)| body.as_str());
            match host.supervisord.take_if(|supervisord| supervisord.socket == *socket) {
                None if host.machine.files.is_directory(socket.parent().unwrap_or(socket)) => {
                    Answer::Refused("Connection refused (os error 111)")
                }
                None => Answer::Refused("No such file or directory (os error 2)"),
                Some(mut supervisord) => {
                    let answer = if supervisord.hangs {
                        Answer::Silence
                    } else if supervisord.ends_at.is_some() {
                        Answer::Refused("Connection refused (os error 111)")
                    } else {
                        match supervisord.answer(body, &mut host.machine, now) {
                            Some(text) => response(200, text),
                            None => response(500, "Internal Server Error"),
                        }
                    };
                    host.supervisord = Some(supervisord);
                    answer
                }
            }
        }
        Endpoint::Tcp(address) => served(hosts, host, *address, request, now),
    }
}

fn served(hosts: &mut Hosts, from: &str, address: SocketAddr, request: &Request, now: Now) -> Answer {
    let whose = |(name, host): (&String, &Host)| {
        let there = if address.ip().is_loopback() { name == from } else { host.address == address.ip() };
        there.then(|| name.clone())
    };
    let Some(name) = hosts.iter().find_map(whose) else { return Answer::Silence };
    let Some(host) = hosts.get(&name).filter(|host| !host.lost) else { return Answer::Silence };
    let listening = host
        .machine
        .processes
        .values()
        .find(|process| process.serves && process.listens().contains(&address) && process.since < now);
    let Some(process) = listening.cloned() else {
        return Answer::Refused("Connection refused (os error 111)");
    };
    let open = !host.shut.contains(&process.program);
    match &process.service {
        Service::Nobody => Answer::Silence,
        Service::Nats(nats) => of_nats(hosts, nats, &process, open, &request.path, now),
        Service::Node { .. } => {
            let ready = open && node_is_ready(hosts, &name, &process, now);
            if let Some(host) = hosts.get_mut(&name).filter(|_| ready) {
                host.synced = true;
            }
            of_node(hosts, ready, request, now)
        }
        Service::Role { .. } => {
            let ready = open && role_is_ready(hosts, &process, now);
            of_role(&process, ready, &request.path)
        }
    }
}

fn up(process: &Process, now: Now) -> bool {
    process.serves && process.since + STARTUP <= now
}

fn processes(hosts: &Hosts) -> impl Iterator<Item = (&Host, &Process)> {
    let there = hosts.values().filter(|host| !host.lost);
    there.flat_map(|host| host.machine.processes.values().map(move |process| (host, process)))
}

/// Whether JetStream answers at a server that has joined.
fn has_quorum(hosts: &Hosts, nats: &Nats, now: Now) -> bool {
    if nats.routes.is_empty() {
        return true;
    }
    let joined = processes(hosts).filter(|(_, process)| match &process.service {
        Service::Nats(other) => {
            up(process, now) && other.cluster.is_some_and(|cluster| nats.routes.contains(&cluster))
        }
        _ => false,
    });
    joined.count() * 2 > nats.routes.len()
}

fn of_nats(hosts: &Hosts, nats: &Nats, process: &Process, open: bool, path: &str, now: Now) -> Answer {
    match path.split('?').next().unwrap_or_default() {
        "/healthz" if open => json_response(200, &json!({"status": "ok"})),
        "/healthz" => {
            json_response(503, &json!({"status": "unavailable", "error": "JetStream is not current"}))
        }
        "/jsz" if nats.routes.is_empty() => json_response(200, &json!({"memory": 0})),
        "/jsz" => {
            let led = up(process, now) && has_quorum(hosts, nats, now);
            let leader = if led { nats.name.as_str() } else { "" };
            let cluster = json!({"name": "c", "leader": leader, "cluster_size": nats.routes.len()});
            json_response(200, &json!({"meta_cluster": cluster}))
        }
        "/varz" => json_response(200, &json!({"version": "2.14.6", "connections": 8})),
        _ => response(404, ""),
    }
}

fn node_is_ready(hosts: &Hosts, name: &str, process: &Process, now: Now) -> bool {
    let Service::Node { follows, .. } = &process.service else { return false };
    let found = follows.is_none_or(|first| {
        hosts.get(name).is_some_and(|host| host.synced)
            || processes(hosts).any(|(_, other)| up(other, now) && other.listens().contains(&first))
    });
    up(process, now) && found
}

fn role_is_ready(hosts: &Hosts, process: &Process, now: Now) -> bool {
    let Service::Role { servers, .. } = &process.service else { return false };
    let answered = processes(hosts).any(|(_, other)| match &other.service {
        Service::Nats(nats) => {
            up(other, now) && servers.contains(&nats.listen) && has_quorum(hosts, nats, now)
        }
        _ => false,
    });
    up(process, now) && answered
}

fn of_role(process: &Process, ready: bool, path: &str) -> Answer {
    let Service::Role { role, .. } = &process.service else { return Answer::Silence };
    match (path, ready) {
        ("/ready", true) => json_response(200, &json!({"version": "0.1.0", "state": "ready"})),
        ("/ready", false) => {
            json_response(503, &json!({"version": "0.1.0", "state": "starting", "waiting_for": "JetStream"}))
        }
        ("/status", _) => {
            let counters = json!({"sectors_plotted": u8::from(role == "plot-client")});
            json_response(200, &json!({"version": "0.1.0", "counters": counters}))
        }
        _ => response(404, ""),
    }
}

fn of_node(hosts: &Hosts, ready: bool, request: &Request, now: Now) -> Answer {
    let body: Value =
        request.body.as_ref().and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or_default();
    let result = match body.get("method").and_then(Value::as_str) {
        Some("system_version") => json!("0.1.0"),
        Some("dev_stats") => {
            let farming = processes(hosts).any(|(_, process)| match &process.service {
                Service::Role { role, .. } => {
                    role == "plot-client"
                        && process.since + STARTUP + FIRST_SOLUTION <= now
                        && role_is_ready(hosts, process, now)
                }
                _ => false,
            });
            let accepted = u64::from(farming && ready);
            json!({
                "syncing": !ready,
                "bestBlock": now.as_secs(),
                "segments": {"archived": u64::from(ready)},
                "slots": {"newest": now.as_secs(), "announced": now.as_secs()},
                "solutions": {"received": accepted, "accepted": accepted},
            })
        }
        _ => return json_response(200, &json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601}})),
    };
    json_response(200, &json!({"jsonrpc": "2.0", "id": 1, "result": result}))
}
