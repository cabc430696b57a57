//! Pinning the keys of hosts in the inventory, by which they are recognised from then on.

use crate::apply::side_by_side;
use crate::error::{Error, Result};
use crate::inventory::tree::{self, Node, Value};
use crate::inventory::{self, Connection, Diagnostic, Source};
use crate::resolve::Host;
use crate::transport::ssh::{fingerprint, shown_key};
use serde::Serialize;

/// What is known of a host's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Trust {
    /// It is reached without one: this machine.
    Local,
    /// It shows a key that is pinned.
    Pinned {
        /// Of that key.
        fingerprint: String,
    },
    /// It shows a key, and none is pinned.
    New {
        /// `TYPE KEY`.
        key: String,
        /// Of that key.
        fingerprint: String,
    },
    /// It shows another key than those that are pinned.
    Differs {
        /// `TYPE KEY`.
        key: String,
        /// Of that key.
        fingerprint: String,
        /// Of those that are pinned.
        pinned: Vec<String>,
        /// Where they are: `FILE:LINE:COLUMN`.
        place: String,
    },
    /// It cannot be asked.
    Unknown {
        /// Why.
        error: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// A host and what is known of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostTrust {
    /// Its name.
    pub host: String,
    /// Its key.
    #[serde(flatten)]
    pub trust: Trust,
}

/// Asks every host for its key, `forks` at once.
pub async fn ask(hosts: &[&Host], source: &Source, forks: usize) -> Vec<HostTrust> {
    let asking = side_by_side(hosts, forks, |host| async move {
        let trust = match host.connection.value {
            Connection::Local => Trust::Local,
            Connection::Ssh => of_host(host, source)
                .await
                .unwrap_or_else(|error| Trust::Unknown { error: error.to_string(), hint: error.hint() }),
        };
        HostTrust { host: host.name.value.clone(), trust }
    });
    asking.await
}

async fn of_host(host: &Host, source: &Source) -> Result<Trust> {
    let key = shown_key(host).await?;
    let shown = fingerprint(&key).await?;
    let pinned = &host.ssh.host_keys;
    if pinned.contains(&key) {
        return Ok(Trust::Pinned { fingerprint: shown });
    }
    let Some(first) = pinned.first() else { return Ok(Trust::New { key, fingerprint: shown }) };
    let mut fingerprints = Vec::new();
    for key in pinned {
        fingerprints.push(fingerprint(key).await?);
    }
    // The key itself stands in the text once, whatever stands around it.
    let body = first.split(' ').nth(1).unwrap_or(first);
    let (line, column) = source.position(source.text.find(body).unwrap_or(0));
    let place = format!("{}:{line}:{column}", source.name);
    Ok(Trust::Differs { key, fingerprint: shown, pinned: fingerprints, place })
}

/// The error of hosts that cannot be trusted: nothing is ever put in place of a key that is pinned.
///
/// # Errors
/// That, if there are any.
pub fn verdict(hosts: &[HostTrust]) -> Result<()> {
    let mut failures = Vec::new();
    for HostTrust { host, trust } in hosts {
        let (message, hint) = match trust {
            Trust::Differs { key, fingerprint, pinned, place } => (
                format!("it shows the key {fingerprint}, but {} is pinned at {place}", pinned.join(", ")),
                format!(
                    "if the host was reinstalled, compare this on the host (`ssh-keygen -lf \
                     /etc/ssh/ssh_host_ed25519_key.pub`) and write `{key}` there by hand; if not, somebody is in between"
                ),
            ),
            Trust::Unknown { error, hint } => {
                let message = error.strip_prefix(&format!("{host}: ")).unwrap_or(error).to_string();
                (message, hint.clone().unwrap_or_default())
            }
            _ => continue,
        };
        let error = Error::Connection { host: host.clone(), message, hint };
        failures.push(crate::error::HostFailure { host: host.clone(), error });
    }
    match failures.len() {
        0 => Ok(()),
        1 if hosts.len() == 1 => Err(failures.remove(0).error),
        _ => Err(Error::Hosts { failures, of: hosts.len() }),
    }
}

/// The inventory with these keys pinned, each under its host; nothing else of the text is changed.
///
/// # Errors
/// A host's entry has a form that cannot be extended safely: what is to be written there by hand.
pub fn pinned(source: &Source, keys: &[(&str, &str)]) -> Result<String> {
    let root = tree::parse(source).map_err(|finding| wrong(source, finding))?;
    let mut insertions = Vec::new();
    for (host, key) in keys {
        let place = entry(&root, "hosts").and_then(|hosts| entry(hosts, host));
        let insertion = place.and_then(|node| insertion(&source.text, node, key));
        insertions.push(insertion.ok_or_else(|| by_hand(host, key))?);
    }
    insertions.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut text = source.text.clone();
    for (at, insertion) in insertions {
        text.insert_str(at, &insertion);
    }
    // Whatever YAML allows that was not thought of here: what comes out must mean what it is to mean.
    let changed = Source { name: source.name.clone(), text };
    for (host, key) in keys {
        if !is_pinned(&changed, host, key) {
            return Err(by_hand(host, key));
        }
    }
    if pins(&changed) != pins(source) + keys.len() {
        let (host, key) = keys.first().copied().unwrap_or_default();
        return Err(by_hand(host, key));
    }
    Ok(changed.text)
}

fn wrong(source: &Source, finding: Diagnostic) -> Error {
    Error::Inventory { source_text: Box::new(source.clone()), findings: vec![finding] }
}

fn by_hand(host: &str, key: &str) -> Error {
    Error::Step {
        step: format!("pin the key of {host}"),
        message: "its entry in the inventory cannot be extended safely".to_string(),
        hint: format!("write it there by hand: `ssh: {{host_keys: [\"{key}\"]}}`"),
    }
}

fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
}

/// Where to insert what.
fn insertion(text: &str, host: &Node, key: &str) -> Option<(usize, String)> {
    let keys = format!("host_keys: [\"{key}\"]");
    match entry(host, "ssh") {
        Some(ssh) => into_map(text, ssh, keys),
        None => into_map(text, host, format!("ssh: {{{keys}}}")),
    }
}

/// In front of the first entry of a map, written as that is.
fn into_map(text: &str, map: &Node, entry: String) -> Option<(usize, String)> {
    let Value::Map(entries) = &map.value else { return None };
    if text.get(map.span.start..)?.starts_with('{') {
        let comma = if entries.is_empty() { "" } else { ", " };
        return Some((map.span.start + 1, entry + comma));
    }
    let at = entries.first()?.0.span.start;
    let line = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let indent = text.get(line..at)?;
    indent.chars().all(|c| c == ' ').then(|| (at, format!("{entry}\n{indent}")))
}

/// Whether a host has exactly this key.
fn is_pinned(source: &Source, host: &str, key: &str) -> bool {
    let Ok(inventory) = inventory::parse(source) else { return false };
    let resolved = crate::resolve::resolve(&inventory, &Default::default(), &Default::default());
    let found = resolved.hosts.iter().find(|known| known.name.value == host);
    found.is_some_and(|found| found.ssh.host_keys == [key])
}

/// Keys that are pinned over all hosts.
fn pins(source: &Source) -> usize {
    let Ok(inventory) = inventory::parse(source) else { return 0 };
    let resolved = crate::resolve::resolve(&inventory, &Default::default(), &Default::default());
    resolved.hosts.iter().map(|host| host.ssh.host_keys.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ";

    fn source(hosts: &str) -> Source {
        let text = format!(
            "version: 1\ncluster: test\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
             # the hosts\nhosts:\n{hosts}"
        );
        Source { name: "test.yaml".into(), text }
    }

    #[test]
    fn keys_are_written_as_the_rest_is_and_nothing_else_changes() {
        let rest = "node: {}, plotter: {}, storage: {farms: [{path: data/f, sectors: 1}]}";
        let block = "    node: {}\n    plotter: {}\n    storage: {farms: [{path: data/f, sectors: 1}]}\n";
        for (before, after) in [
            (
                format!("  a: {{connection: ssh, address: 10.0.0.1, {rest}}} # one\n"),
                format!(
                    "  a: {{ssh: {{host_keys: [\"{KEY}\"]}}, connection: ssh, address: 10.0.0.1, {rest}}} # one\n"
                ),
            ),
            (
                format!("  a: {{connection: ssh, address: 10.0.0.1, ssh: {{user: me}}, {rest}}}\n"),
                format!(
                    "  a: {{connection: ssh, address: 10.0.0.1, ssh: {{host_keys: [\"{KEY}\"], user: me}}, {rest}}}\n"
                ),
            ),
            (
                format!("  a:\n    # where\n    connection: ssh\n    address: 10.0.0.1\n{block}"),
                format!(
                    "  a:\n    # where\n    ssh: {{host_keys: [\"{KEY}\"]}}\n    connection: ssh\n    address: 10.0.0.1\n{block}"
                ),
            ),
            (
                format!(
                    "  a:\n    connection: ssh\n    address: 10.0.0.1\n    ssh:\n      user: me # not root\n{block}"
                ),
                format!(
                    "  a:\n    connection: ssh\n    address: 10.0.0.1\n    ssh:\n      host_keys: [\"{KEY}\"]\n      user: me # not root\n{block}"
                ),
            ),
        ] {
            let changed = pinned(&source(&before), &[("a", KEY)]);
            assert_eq!(changed.map_err(|error| error.to_string()), Ok(source(&after).text));
        }
    }

    #[test]
    fn what_cannot_be_extended_safely_is_left_to_the_user() {
        let rest = "node: {}, plotter: {}, storage: {farms: [{path: data/f, sectors: 1}]}";
        let two = "  a: &a {connection: ssh, address: 10.0.0.1, REST}\n  b: *a\n".replace("REST", rest);
        for (hosts, name) in [(two.as_str(), "b"), (two.as_str(), "c")] {
            let error = pinned(&source(hosts), &[(name, KEY)]).expect_err("not safely");
            assert!(error.hint().expect("a hint").contains(KEY), "{error}");
        }
    }

    #[test]
    fn another_key_is_told_with_both_fingerprints_and_its_place() {
        let trust = Trust::Differs {
            key: KEY.to_string(),
            fingerprint: "SHA256:new (ED25519)".to_string(),
            pinned: vec!["SHA256:old (ED25519)".to_string()],
            place: "farm.yaml:12:34".to_string(),
        };
        let error = verdict(&[HostTrust { host: "a".to_string(), trust }]).expect_err("another key");
        assert_eq!(
            error.to_string(),
            "a: it shows the key SHA256:new (ED25519), but SHA256:old (ED25519) is pinned at farm.yaml:12:34"
        );
        assert!(error.hint().expect("a hint").contains(KEY));
        assert_eq!(error.exit_code() as u8, 5);
    }
}
