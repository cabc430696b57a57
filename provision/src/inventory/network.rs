//! The network that the cluster farms for, and the files that the operator brings.

use super::read::{self, Findings, MapReader};
use super::source::{Diagnostic, Spanned};
use super::tree::{Node, Value};
use crate::transfer::{Origin, parse_sha256};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What provision itself says to a node, and where else it is said.
const NODE_FLAGS: [(&str, &str); 4] = [
    ("--base-path", "its database is below the host's `prefix:`"),
    ("--chain", "that is `chain:`"),
    ("--rpc-listen-on", "that is the host's `address:` and `rpc_port:`"),
    ("--farmer", "it is said already"),
];

/// A file that the operator brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Artifact {
    /// A path of the control machine, or a URL from which that fetches it.
    pub origin: Spanned<Origin>,
    /// Its SHA-256 in hex; always there for a URL.
    pub sha256: Option<Spanned<String>>,
}

impl Artifact {
    /// A file of the control machine.
    pub fn file(path: Spanned<PathBuf>) -> Self {
        Self { origin: Spanned::new(Origin::File(path.value), path.span), sha256: None }
    }

    /// The same with a path made absolute.
    #[must_use]
    pub fn from_directory(&self, absolute: impl Fn(&Path) -> PathBuf) -> Self {
        let origin = match &self.origin.value {
            Origin::File(path) => Origin::File(absolute(path)),
            Origin::Url(url) => Origin::Url(url.clone()),
        };
        Self { origin: Spanned::new(origin, self.origin.span), sha256: self.sha256.clone() }
    }

    /// Where it lies on the control machine, or will once it is fetched into `cache`.
    pub fn path(&self, cache: &Path) -> PathBuf {
        match &self.origin.value {
            Origin::File(path) => path.clone(),
            Origin::Url(_) => cache.join(self.sha256.as_ref().map_or("", |digest| &digest.value)),
        }
    }
}

/// Where our binaries come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Binaries {
    /// Built from this workspace.
    Build,
    /// Brought by the operator.
    Brought {
        /// `autonomys-farmer`.
        farmer: Artifact,
        /// `autonomys-dev-node`, where there is a development chain.
        dev_node: Option<Artifact>,
    },
}

/// The reference string of the network's chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceString {
    /// The development string, which roles refuse on any chain but a development node's.
    Development,
    /// The live one.
    Live(Artifact),
}

/// A network with nodes of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// `--chain` of the node.
    pub chain: Spanned<String>,
    /// The node's executable.
    pub node: Artifact,
    /// More arguments of the node.
    pub arguments: Vec<Spanned<String>>,
    /// Its reference string.
    pub reference_string: ReferenceString,
}

pub(super) fn read_binaries(node: &Node, findings: &Findings) -> Option<Binaries> {
    if let Value::Scalar { text, .. } = &node.value
        && text == "build"
    {
        return Some(Binaries::Build);
    }
    findings.accepts(|| json!({"const": "build"}));
    let mut map = MapReader::open(node, "`binaries:`", findings)?;
    let farmer = map.get("farmer", read_artifact);
    let dev_node = map.get("dev_node", read_artifact);
    let given = map.key_span("farmer").is_some();
    map.finish();
    if !given {
        let message = "`binaries:` is `build`, or names `farmer:` and, for a development chain, `dev_node:`";
        findings.add(Diagnostic::error("missing", node.span, message));
    }
    Some(Binaries::Brought { farmer: farmer?.value, dev_node: dev_node.map(|artifact| artifact.value) })
}

pub(super) fn read_network(node: &Node, findings: &Findings) -> Option<Network> {
    let mut map = MapReader::open(node, "`network:`", findings)?;
    let chain = map.get("chain", read::text);
    let program = map.get("node", read_artifact);
    let arguments = map.get("arguments", |n, f| read::list(n, "`arguments:`", f, read_argument));
    let reference_string = map.get("reference_string", read_reference_string);
    map.require(&["chain", "node", "reference_string"], node.span);
    map.finish();
    Some(Network {
        chain: chain?,
        node: program?.value,
        arguments: arguments.map(|arguments| arguments.value).unwrap_or_default(),
        reference_string: reference_string?.value,
    })
}

fn read_argument(node: &Node, findings: &Findings) -> Option<String> {
    let argument = read::text(node, findings)?;
    let flag = argument.split('=').next().unwrap_or_default();
    if ["--rpc-methods", "--rpc-cors"].contains(&flag) {
        let message =
            format!("`{flag}` is not chosen: whoever reaches a node's unsafe RPC can act as the farm");
        let hint = "take it out: the node listens on the host's `address:` and answers no web page";
        findings.add(Diagnostic::error("open-rpc", node.span, message).hint(hint));
        return None;
    }
    if let Some((flag, place)) = NODE_FLAGS.iter().find(|(known, _)| *known == flag) {
        let message = format!("`{flag}` of the node is given by provision: {place}");
        findings.add(Diagnostic::error("conflict", node.span, message).hint("take it out of `arguments:`"));
        return None;
    }
    Some(argument)
}

fn read_reference_string(node: &Node, findings: &Findings) -> Option<ReferenceString> {
    if let Value::Scalar { text, .. } = &node.value
        && text == "development"
    {
        return Some(ReferenceString::Development);
    }
    read_artifact(node, findings).map(ReferenceString::Live)
}

/// `PATH`, or `{path: PATH, sha256: HEX}`, or `{url: URL, sha256: HEX}`.
fn read_artifact(node: &Node, findings: &Findings) -> Option<Artifact> {
    if let Value::Scalar { .. } = &node.value {
        let path = read::path(node, findings)?;
        if path.to_string_lossy().contains("://") {
            let message = "what is fetched is known by its digest";
            let hint = "`{url: https://…, sha256: HEX}`; `sha256sum FILE` prints it";
            findings.add(Diagnostic::error("artifact", node.span, message).hint(hint));
            return None;
        }
        return Some(Artifact::file(Spanned::new(path, node.span)));
    }
    findings.accepts(|| json!({"type": "string"}));
    let mut map = MapReader::open(node, "an artifact", findings)?;
    let path = map.get("path", read::path);
    let url = map.get("url", read_url);
    let sha256 = map.get("sha256", read_sha256);
    let given = ["path", "url"].iter().filter(|key| map.key_span(key).is_some()).count();
    let digest_given = map.key_span("sha256").is_some();
    map.finish();
    match (path, url) {
        (Some(path), None) => Some(Artifact { sha256, ..Artifact::file(path) }),
        (None, Some(url)) if digest_given => {
            // One that is wrong was told of.
            sha256.is_some().then_some(Artifact { origin: url, sha256 })
        }
        (None, Some(url)) => {
            let message = "what is fetched is known by its digest: `sha256:` is missing";
            findings.add(Diagnostic::error("artifact", url.span, message).hint("`sha256sum FILE` prints it"));
            None
        }
        _ if given == 1 => None,
        _ => {
            let message = "an artifact has one source";
            findings.add(Diagnostic::error("artifact", node.span, message).hint("`path:` or `url:`"));
            None
        }
    }
}

fn read_url(node: &Node, findings: &Findings) -> Option<Origin> {
    findings.accepts(|| json!({"type": "string", "pattern": "^https?://"}));
    let text = read::text(node, findings)?;
    let finding = match text.parse() {
        Ok(origin @ Origin::Url(_)) => return Some(origin),
        Ok(Origin::File(_)) => "no URL: it begins with https:// or http://".to_string(),
        Err(message) => message,
    };
    findings.add(Diagnostic::error("artifact", node.span, finding));
    None
}

fn read_sha256(node: &Node, findings: &Findings) -> Option<String> {
    findings.accepts(|| json!({"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"}));
    let text = read::text(node, findings)?;
    parse_sha256(&text)
        .map_err(|message| {
            findings.add(Diagnostic::error("artifact", node.span, format!("no SHA-256: {message}")));
        })
        .ok()
}
