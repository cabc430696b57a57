//! What is written for Prometheus and Grafana: every metric that it names exists, every command that it says can be typed,
//! and every alert fires when it should and not otherwise (`promtool_…`, which need Prometheus's promtool).
#![allow(clippy::unwrap_used, missing_docs)]

mod cases;
mod expressions;
mod promtool;
mod structure;

use provision::inventory::tree::{self, Node, Value};
use provision::inventory::{self, Source};
use provision::monitoring::{self, Call};
use provision::resolve::{Cluster, Overrides, Surroundings, resolve};
use std::path::{Path, PathBuf};

/// The path that the texts name.
const INVENTORY: &str = "/etc/autonomys/guide.yaml";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The guides' seven hosts with these settings for monitoring.
pub(crate) fn guide(monitoring: &str) -> Cluster {
    let text = std::fs::read_to_string(root().join("inventories/guide.yaml")).unwrap();
    let text = text.lines().filter(|line| !line.starts_with("monitoring:")).collect::<Vec<_>>().join("\n");
    cluster(&text.replace("\nhosts:", &format!("\nmonitoring: {monitoring}\nhosts:")))
}

pub(crate) fn cluster(text: &str) -> Cluster {
    let source = Source { name: "test.yaml".into(), text: text.into() };
    let inventory = inventory::parse(&source).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(|f| f.render(&source)).collect::<String>())
    });
    resolve(&inventory, &Overrides::default(), &Surroundings::default())
}

pub(crate) fn files(cluster: &Cluster) -> [(&'static str, String); 3] {
    let call = Call { provision: "provision".into(), inventory: INVENTORY.into() };
    monitoring::files(cluster, &call).unwrap()
}

/// An alert, or a rule that records.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) alert: Option<String>,
    pub(crate) record: Option<String>,
    pub(crate) expression: String,
    pub(crate) holds_for: Option<String>,
    pub(crate) keeps_firing_for: Option<String>,
    pub(crate) severity: Option<String>,
    pub(crate) annotations: Vec<(String, String)>,
}

fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else { panic!("no map: {node:?}") };
    entries.iter().find(|(name, _)| name.text == key).map(|(_, node)| node)
}

fn text(node: &Node) -> String {
    let Value::Scalar { text, .. } = &node.value else { panic!("no text: {node:?}") };
    text.clone()
}

fn items<'a>(node: &'a Node, key: &str) -> &'a [Node] {
    let Some(Node { value: Value::Sequence(items), .. }) = get(node, key) else { panic!("no list {key}") };
    items
}

pub(crate) fn rules_of(yaml: &str) -> Vec<Rule> {
    let tree = tree::parse(&Source { name: "rules".into(), text: yaml.into() }).unwrap();
    let rules = items(&tree, "groups").iter().flat_map(|group| items(group, "rules"));
    let read = |rule: &Node| {
        let field = |key| get(rule, key).map(text);
        let annotations = get(rule, "annotations").map(|node| match &node.value {
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.clone(), text(node))).collect(),
            other => panic!("{other:?}"),
        });
        Rule {
            alert: field("alert"),
            record: field("record"),
            expression: field("expr").unwrap(),
            holds_for: field("for"),
            keeps_firing_for: field("keep_firing_for"),
            severity: get(rule, "labels").and_then(|labels| get(labels, "severity")).map(text),
            annotations: annotations.unwrap_or_default(),
        }
    };
    rules.map(read).collect()
}

/// The rules of the guides' hosts, with exporters.
pub(crate) fn rules() -> Vec<Rule> {
    rules_of(&files(&guide("{node_exporter_port: 9100}"))[1].1)
}
