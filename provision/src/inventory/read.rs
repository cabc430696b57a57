//! Reading typed values out of the tree; every mistake is noted and reading goes on.

use super::schema::Description;
use super::secrets;
use super::source::{Diagnostic, Span, Spanned, closest, in_order};
use super::tree::{Key, Node, Value};
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Highest number of a CPU: Linux is built for 8,192 at most.
const CPU_MAX: u32 = 8191;

/// Findings so far; or, when the readers are asked what they read instead, their answers.
#[derive(Debug, Default)]
pub struct Findings {
    found: RefCell<Vec<Diagnostic>>,
    description: Option<Description>,
}

impl Findings {
    /// Notes a finding.
    pub fn add(&self, finding: Diagnostic) {
        self.found.borrow_mut().push(finding);
    }

    /// For readers that describe what they read: nothing is found then.
    pub(super) fn describing() -> Self {
        Self { description: Some(Description::default()), ..Self::default() }
    }

    /// The description, in that case.
    pub(super) fn description(&self) -> Option<&Description> {
        self.description.as_ref()
    }

    /// A reader says in JSON Schema what it accepts.
    pub fn accepts(&self, schema: impl FnOnce() -> serde_json::Value) {
        if let Some(description) = &self.description {
            description.say(schema());
        }
    }

    /// All findings, in the order of the file, each once.
    pub fn into_sorted(self) -> Vec<Diagnostic> {
        in_order(self.found.into_inner())
    }
}

/// Reads a value of one type.
pub type Parse<T> = fn(&Node, &Findings) -> Option<T>;

/// A map of which every key must be asked for.
pub struct MapReader<'a> {
    entries: &'a [(Key, Node)],
    what: &'a str,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
    findings: &'a Findings,
}

impl<'a> MapReader<'a> {
    /// Opens a map; nothing counts as an empty one. `what` names it in messages ("a farm").
    pub fn open(node: &'a Node, what: &'a str, findings: &'a Findings) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => &[],
            other => {
                let message = format!("{what} is a map of settings, found {}", other.kind());
                findings.add(Diagnostic::error("type", node.span, message));
                return None;
            }
        };
        for (index, (key, _)) in entries.iter().enumerate() {
            if let Some((first, _)) = entries[..index].iter().find(|(earlier, _)| earlier.text == key.text) {
                let message = format!("`{}` is given twice in {what}", key.text);
                let finding = Diagnostic::error("duplicate-key", key.span, message).label("again here");
                findings.add(finding.also(first.span, "first here").hint("keep one of the two"));
            }
        }
        if let Some(description) = findings.description() {
            description.open(what);
        }
        Some(Self { entries, what, known: Vec::new(), refused: Vec::new(), findings })
    }

    /// The node at `key`, present or not.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.entries.iter().find(|(entry, _)| entry.text == key).map(|(_, node)| node)
    }

    /// Where `key` is written.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|(entry, _)| entry.text == key).map(|(entry, _)| entry.span)
    }

    /// The node at `key`, present or not, to be read later by `parse`.
    pub fn later<T>(&mut self, key: &'static str, parse: Parse<T>) -> Option<&'a Node> {
        if let Some(description) = self.findings.description() {
            parse(&Node::nothing(), self.findings);
            description.key(key);
        }
        self.node(key)
    }

    /// The value at `key`; none when absent or wrong (which is noted).
    pub fn get<T>(&mut self, key: &'static str, parse: Parse<T>) -> Option<Spanned<T>> {
        let node = self.later(key, parse)?;
        if node.value == Value::Null {
            let span = self.key_span(key).unwrap_or(node.span);
            self.findings.add(Diagnostic::error("type", span, format!("`{key}` has no value")));
            return None;
        }
        parse(node, self.findings).map(|value| Spanned::new(value, node.span))
    }

    /// A part that may be empty: none when the key is absent.
    pub fn part<T>(&mut self, key: &'static str, parse: Parse<T>) -> Option<Spanned<T>> {
        let node = self.later(key, parse)?;
        let span = self.key_span(key).unwrap_or(node.span);
        parse(node, self.findings).map(|value| Spanned::new(value, span))
    }

    /// Notes which of these keys are missing; `place` is where one would be.
    pub fn require(&self, keys: &[&'static str], place: Span) {
        if let Some(description) = self.findings.description() {
            description.require(keys);
        }
        for key in keys.iter().filter(|key| self.key_span(key).is_none()) {
            let message = format!("{} lacks `{key}:`", self.what);
            self.findings.add(Diagnostic::error("missing", place, message));
        }
    }

    /// A key that is known from elsewhere and does not stand here: notes why, when it does.
    pub fn refuse(&mut self, key: &'static str, refusal: impl FnOnce(Span, &Node) -> Diagnostic) {
        self.refused.push(key);
        if let Some((key, node)) = self.entries.iter().find(|(entry, _)| entry.text == key) {
            self.findings.add(refusal(key.span, node));
        }
    }

    fn is_known(&self, key: &str) -> bool {
        self.known.contains(&key) || self.refused.contains(&key)
    }

    /// Whether a key is there that was not asked for: then what seems to be missing is probably it.
    pub fn has_unknown(&self) -> bool {
        self.entries.iter().any(|(key, _)| !self.is_known(&key.text))
    }

    /// Notes every key that was not asked for.
    pub fn finish(self) {
        if let Some(description) = self.findings.description() {
            description.close();
        }
        for (key, _) in self.entries {
            if self.is_known(&key.text) {
                continue;
            }
            if secrets::is_secret_name(&key.text) {
                let message =
                    format!("`{}` in {}: a secret does not stand in an inventory", key.text, self.what);
                let hint = "take it out: SSH logs in with a key (`identity_file: PATH`) or an agent, and `secret:` at \
                            the top names where the cluster's comes from";
                self.findings.add(Diagnostic::error("secret", key.span, message).hint(hint));
                continue;
            }
            let message = format!("unknown key `{}` in {}", key.text, self.what);
            let hint = match closest(&key.text, self.known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.findings.add(Diagnostic::error("unknown-key", key.span, message).hint(hint));
        }
    }
}

/// Notes that a value is not what was expected.
pub(super) fn wrong<T>(node: &Node, findings: &Findings, expected: &str) -> Option<T> {
    let found = match &node.value {
        Value::Scalar { text, .. } => format!("`{text}`"),
        other => other.kind().to_string(),
    };
    findings.add(Diagnostic::error("type", node.span, format!("expected {expected}, found {found}")));
    None
}

/// Any text.
pub fn text(node: &Node, findings: &Findings) -> Option<String> {
    findings.accepts(|| json!({"type": ["string", "number", "boolean"]}));
    plain_text(node, findings)
}

/// [`text`] for readers that say more exactly what they accept.
pub(super) fn plain_text(node: &Node, findings: &Findings) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } if !text.is_empty() => Some(text.clone()),
        _ => wrong(node, findings, "text"),
    }
}

/// A name that may stand in subjects, file names and program names.
pub fn name(node: &Node, findings: &Findings) -> Option<String> {
    findings.accepts(|| json!({"type": ["string", "integer"], "pattern": "^[a-z0-9][a-z0-9_-]{0,47}$"}));
    let text = plain_text(node, findings)?;
    if is_name(&text) {
        return Some(text);
    }
    wrong(
        node,
        findings,
        "a name of up to 48 letters a-z, digits, `-` and `_` that begins with a letter or digit",
    )
}

/// Whether `text` is a [`name`].
pub fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    (1..=48).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with(['-', '_'])
}

fn number<T: std::str::FromStr>(node: &Node) -> Option<T> {
    match &node.value {
        Value::Scalar { text, plain: true } => text.replace('_', "").parse().ok(),
        _ => None,
    }
}

/// A TCP port.
pub fn port(node: &Node, findings: &Findings) -> Option<u16> {
    findings.accepts(|| json!({"type": "integer", "minimum": 1, "maximum": 65535}));
    match number::<u16>(node) {
        Some(port) if port != 0 => Some(port),
        _ => wrong(node, findings, "a TCP port from 1 to 65535"),
    }
}

/// A whole number from 0 to 65,535.
pub fn small(node: &Node, findings: &Findings) -> Option<u16> {
    findings.accepts(|| json!({"type": "integer", "minimum": 0, "maximum": 65535}));
    number(node).or_else(|| wrong(node, findings, "a whole number from 0 to 65535"))
}

/// A whole number from 1 to 65,535.
pub fn positive(node: &Node, findings: &Findings) -> Option<u16> {
    findings.accepts(|| json!({"type": "integer", "minimum": 1, "maximum": 65535}));
    number(node).filter(|n| *n > 0).or_else(|| wrong(node, findings, "a whole number from 1 to 65535"))
}

/// A whole number.
pub fn integer(node: &Node, findings: &Findings) -> Option<u64> {
    findings.accepts(|| json!({"type": "integer", "minimum": 0}));
    number(node).or_else(|| wrong(node, findings, "a whole number"))
}

/// `true` or `false`.
pub fn boolean(node: &Node, findings: &Findings) -> Option<bool> {
    findings.accepts(|| json!({"type": "boolean"}));
    match &node.value {
        Value::Scalar { text, plain: true } if text == "true" => Some(true),
        Value::Scalar { text, plain: true } if text == "false" => Some(false),
        _ => wrong(node, findings, "true or false"),
    }
}

/// Name of an environment variable; what is none may be the secret itself, and is not shown.
pub fn variable(node: &Node, findings: &Findings) -> Option<String> {
    findings.accepts(|| json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}));
    let text = plain_text(node, findings)?;
    if secrets::is_variable_name(&text) {
        return Some(text);
    }
    let finding = Diagnostic::error("secret", node.span, "this is no name of an environment variable");
    findings.add(
        finding.hint("write the variable's name, such as `FARM_SECRET`, and set it when provision runs"),
    );
    None
}

fn is_login(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    !text.is_empty() && text.len() <= 64 && text.chars().all(allowed) && !text.starts_with('-')
}

/// A user's name on a host.
pub fn login(node: &Node, findings: &Findings) -> Option<String> {
    findings.accepts(|| json!({"type": "string"}));
    let text = plain_text(node, findings)?;
    if is_login(&text) {
        return Some(text);
    }
    wrong(node, findings, "a user name of letters, digits, `_`, `.` and `-`")
}

/// A host to go through: `[USER@]HOST[:PORT]`.
pub fn jump(node: &Node, findings: &Findings) -> Option<String> {
    findings.accepts(|| json!({"type": "string"}));
    let text = plain_text(node, findings)?;
    let (user, place) = text.rsplit_once('@').map_or((None, &*text), |(user, place)| (Some(user), place));
    // An address of IPv6 stands in brackets, as its colons would be taken for that of a port.
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or((!port.is_empty()).then_some("?"))),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let is_host = is_login(host) || host.parse::<std::net::Ipv6Addr>().is_ok();
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    if is_host && is_port && user.is_none_or(is_login) {
        return Some(text);
    }
    wrong(node, findings, "a host to go through, `[USER@]HOST[:PORT]`")
}

/// A public key as sshd keeps it: type and key; the comment is dropped.
pub fn host_key(node: &Node, findings: &Findings) -> Option<String> {
    findings.accepts(|| json!({"type": "string", "pattern": "^(ssh|ecdsa|sk)-[^ ]+ +AAAA"}));
    let text = plain_text(node, findings)?;
    let mut words = text.split_ascii_whitespace();
    if let (Some(kind), Some(key)) = (words.next(), words.next()) {
        let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start));
        let plain = |c: char| c.is_ascii_alphanumeric() || "@.-".contains(c);
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        if known && kind.chars().all(plain) && key.starts_with("AAAA") && key.chars().all(base64) {
            return Some(format!("{kind} {key}"));
        }
    }
    wrong(node, findings, "a public host key such as `ssh-ed25519 AAAA…`")
}

/// An address; names are not resolved.
pub fn address(node: &Node, findings: &Findings) -> Option<IpAddr> {
    findings.accepts(|| json!({"type": "string"}));
    let parsed = match &node.value {
        Value::Scalar { text, .. } => text.parse().ok(),
        _ => None,
    };
    if let Value::Scalar { text, .. } = &node.value
        && text.contains('[')
    {
        let message = format!("`{text}` is several addresses");
        let hint = "a range of addresses belongs to hosts by range: `storage-[1..24]: {address: \"192.168.1.[11..34]\"}`";
        findings.add(Diagnostic::error("range", node.span, message).hint(hint));
        return None;
    }
    parsed.or_else(|| wrong(node, findings, "an IP address such as 127.0.0.1"))
}

/// Where a nats-server takes clients or routes: `nats://ADDRESS:PORT`.
pub fn nats_url(node: &Node, findings: &Findings) -> Option<SocketAddr> {
    url(node, findings, "nats", 4222)
}

/// A node's RPC: `ws://ADDRESS:PORT`.
pub fn node_url(node: &Node, findings: &Findings) -> Option<SocketAddr> {
    url(node, findings, "ws", 9944)
}

/// `SCHEME://ADDRESS:PORT`; names are not resolved.
fn url(node: &Node, findings: &Findings, scheme: &str, port: u16) -> Option<SocketAddr> {
    findings.accepts(|| json!({"type": "string", "pattern": format!("^{scheme}://[^@]+$")}));
    let text = plain_text(node, findings)?;
    if secrets::has_credentials(&text) {
        let message = "a user or password in a URL: a secret does not stand in an inventory";
        findings.add(Diagnostic::error("secret", node.span, message).hint("write the URL without it"));
        return None;
    }
    let place = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let place = place.map(|place| place.strip_suffix('/').unwrap_or(place));
    match place.and_then(|place| place.parse::<SocketAddr>().ok()).filter(|place| place.port() != 0) {
        Some(place) => Some(place),
        None => {
            wrong(node, findings, &format!("the URL of an address such as `{scheme}://192.168.1.1:{port}`"))
        }
    }
}

/// CPUs in the kernel's notation: `0-23,96-119`.
pub fn cpus(node: &Node, findings: &Findings) -> Option<BTreeSet<u32>> {
    findings.accepts(
        || json!({"type": ["string", "integer"], "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"}),
    );
    let text = plain_text(node, findings)?;
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u32>().ok().filter(|cpu| *cpu <= CPU_MAX),
            false => None,
        };
        let (Some(low), Some(high)) = (number(first), number(last)) else {
            let message =
                format!("expected CPUs such as `0-23,96-119`, each up to {CPU_MAX}, found `{text}`");
            findings.add(Diagnostic::error("cpus", node.span, message));
            return None;
        };
        if high < low {
            let message = format!(
                "`{part}` runs backwards: numactl takes it without a word and binds to nothing of it"
            );
            let hint = format!("write `{high}-{low}`");
            findings.add(Diagnostic::error("cpus", node.span, message).hint(hint));
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

/// A path; `~/` is resolved later.
pub fn path(node: &Node, findings: &Findings) -> Option<PathBuf> {
    findings.accepts(|| json!({"type": "string", "minLength": 1}));
    let text = plain_text(node, findings)?;
    // Supervisor and NATS configuration can carry none of these in every place where a path stands.
    let bad = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | ',' | '\\' | ';' | '#' | '$')
    };
    if text.contains(bad) {
        return wrong(node, findings, "a path without blanks, quotes, commas, `;`, `#`, `$` and `\\`");
    }
    Some(text.into())
}

/// Bytes: a number with a unit (`3MB`, `1.5GiB`, `4T`) or without.
pub fn size(node: &Node, findings: &Findings) -> Option<u64> {
    findings
        .accepts(|| json!({"type": ["string", "integer"], "pattern": "^[0-9.]+ *[kKmMgGtTpP]?[iI]?[bB]?$"}));
    let expected = "a size such as 3MB, 20GiB or 4T";
    let Value::Scalar { text, .. } = &node.value else { return wrong(node, findings, expected) };
    primitives::parse_size(text)
        .map_err(|error| {
            let message = format!("expected {expected}, found `{text}`");
            findings.add(Diagnostic::error("type", node.span, message).hint(error.to_string()));
        })
        .ok()
}

/// The items of a list, those that are wrong left out (and noted).
pub fn list<T>(node: &Node, what: &str, findings: &Findings, parse: Parse<T>) -> Option<Vec<Spanned<T>>> {
    if let Some(description) = findings.description() {
        parse(&Node::nothing(), findings);
        description.wrap(|items| json!({"type": "array", "items": items}));
    }
    match &node.value {
        Value::Sequence(items) => Some(
            items
                .iter()
                .filter_map(|item| parse(item, findings).map(|value| Spanned::new(value, item.span)))
                .collect(),
        ),
        other => {
            let message = format!("{what} is a list (`- …`), found {}", other.kind());
            findings.add(Diagnostic::error("type", node.span, message));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted<T>(parse: Parse<T>, text: &str) -> Option<T> {
        let node =
            Node { value: Value::Scalar { text: text.to_string(), plain: true }, span: Span::default() };
        parse(&node, &Findings::default())
    }

    #[test]
    fn hosts_to_go_through() {
        for good in
            ["gate", "me@gate", "me@10.0.0.1:2222", "gate.example.org:22", "[fe80::1]", "me@[2001:db8::1]:22"]
        {
            assert_eq!(accepted(jump, good).as_deref(), Some(good));
        }
        for bad in [
            "-oProxyCommand=x",
            "a b",
            "me@",
            "@gate",
            "gate:",
            "gate:0",
            "gate:ssh",
            "a,b",
            "$(x)",
            "[::1",
            "[::1]22",
        ] {
            assert_eq!(accepted(jump, bad), None, "{bad}");
        }
    }

    #[test]
    fn host_keys_lose_their_comment() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI";
        assert_eq!(accepted(host_key, &format!("{key} root@farm")).as_deref(), Some(key));
        assert!(accepted(host_key, "ecdsa-sha2-nistp256 AAAAE2V=").is_some());
        for bad in [
            "ssh-ed25519",
            "AAAAC3",
            "farm ssh-ed25519 AAAA",
            "ssh-ed25519 BBBB",
            "@cert-authority * ssh-rsa AAAA",
        ] {
            assert_eq!(accepted(host_key, bad), None, "{bad}");
        }
    }
}
