//! Hosts of one cluster that have different versions of the same thing.

use super::hardware::text;
use crate::facts::HostFacts;
use crate::resolve::Host;
use std::collections::BTreeMap;

type Version = (u32, u32, u32);
type VersionOf<'a> = &'a dyn Fn(&Host, &HostFacts) -> Option<Version>;

/// What differs between hosts, a sentence each: versions of nats-server, Supervisor and the NVIDIA driver.
pub fn mixed_versions(hosts: &[(&Host, &HostFacts)]) -> Vec<String> {
    let tool = |facts: &HostFacts, name: &str| {
        let tools = [&facts.prefix_tools, &facts.path_tools];
        tools.into_iter().find_map(|tools| tools.get(name)).map(|tool| tool.version)
    };
    let things: [(&str, VersionOf<'_>); 3] = [
        ("nats-server", &|host, facts| host.node.as_ref().and_then(|_| tool(facts, "nats-server"))),
        ("Supervisor", &|_, facts| tool(facts, "supervisord")),
        ("the NVIDIA driver", &|_, facts| facts.hardware.driver),
    ];
    let mut told = Vec::new();
    for (thing, version) in things {
        let mut by_version: BTreeMap<Version, Vec<&str>> = BTreeMap::new();
        for (host, facts) in hosts {
            if let Some(version) = version(host, facts) {
                by_version.entry(version).or_default().push(&host.name.value);
            }
        }
        if by_version.len() > 1 {
            let shown = |version: &Version| match thing {
                "the NVIDIA driver" => text(*version),
                _ => format!("{}.{}.{}", version.0, version.1, version.2),
            };
            let each: Vec<_> = by_version
                .iter()
                .map(|(version, hosts)| format!("{} on {}", shown(version), hosts.join(", ")))
                .collect();
            told.push(format!("{thing} is not the same everywhere: {}", each.join("; ")));
        }
    }
    told
}
