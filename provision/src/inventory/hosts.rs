//! Hosts and groups by name, and what a host gets from where: `defaults`, then its groups in order, then its own.

use super::read::{self, Findings};
use super::source::{self, Diagnostic, Span, Spanned};
use super::tree::{NODES_MAX, Node, Value, size};
use super::{HostEntry, read_settings};

/// Values of all hosts at most, those of their groups and of the defaults counted for each.
const MERGED_MAX: usize = 5 * NODES_MAX;

/// A name and the settings under it.
pub(super) type Named<'a> = (Spanned<String>, &'a Node);

/// The entries of `hosts:` or `groups:`, duplicates noted.
pub(super) fn named<'a>(node: &'a Node, what: &str, findings: &Findings) -> Vec<Named<'a>> {
    let Value::Map(entries) = &node.value else {
        let message = format!("`{what}s:` is a map from names to settings, found {}", node.value.kind());
        findings.add(Diagnostic::error("type", node.span, message));
        return Vec::new();
    };
    let mut seen: std::collections::HashMap<&str, Span> = std::collections::HashMap::new();
    let mut all = Vec::new();
    for (key, settings) in entries {
        if let Some(first) = seen.get(key.text.as_str()) {
            let finding = Diagnostic::error(
                if what == "host" { "duplicate-host" } else { "duplicate-group" },
                key.span,
                format!("{what} `{}` is defined twice", key.text),
            );
            let hint = format!("give the second {what} another name, or merge the two");
            findings.add(finding.label("again here").also(*first, "first here").hint(hint));
            continue;
        }
        if !read::is_name(&key.text) {
            let message = format!("`{}` is no name of a {what}: use a-z, digits, `-` and `_`", key.text);
            findings.add(Diagnostic::error("type", key.span, message));
        }
        seen.insert(&key.text, key.span);
        all.push((Spanned::new(key.text.clone(), key.span), settings));
    }
    all
}

/// Every host with the settings that come to it.
pub(super) fn hosts(
    node: &Node,
    defaults: Option<&Node>,
    groups: &[Named<'_>],
    findings: &Findings,
) -> Vec<HostEntry> {
    let mut values = 0;
    let mut all = Vec::new();
    for (name, own) in named(node, "host", findings) {
        let Some(mine) = read_settings(own, "a host", true, findings) else { continue };
        let mut layers: Vec<Named<'_>> = Vec::new();
        for member in &mine.groups {
            match groups.iter().find(|(group, _)| group.value == member.value) {
                Some((group, settings)) => layers.push((group.clone(), settings)),
                None => unknown_group(&name.value, member, groups, findings),
            }
        }
        let parts = layers.iter().map(|(_, group)| *group).chain(defaults);
        values += size(own) + parts.map(size).sum::<usize>();
        if values > MERGED_MAX {
            let message = format!("more than {MERGED_MAX} values, those of groups counted for each host");
            findings.add(Diagnostic::error("range", name.span, message).hint("make groups smaller"));
            break;
        }
        disagreements(&name.value, own, &layers, findings);
        let mut merged = defaults.cloned().unwrap_or(Node { value: Value::Map(Vec::new()), span: own.span });
        for (_, group) in &layers {
            merged = merged.overlaid(group);
        }
        // Each part was read on its own; what the merged tree gets wrong was noted there.
        let settings = read_settings(&merged.overlaid(own), "a host", true, &Findings::default());
        all.extend(settings.map(|settings| HostEntry { name, settings }));
    }
    all
}

fn unknown_group(host: &str, member: &Spanned<String>, groups: &[Named<'_>], findings: &Findings) {
    let message = format!("host `{host}` is in group `{}`, which is not defined", member.value);
    let names = groups.iter().map(|(group, _)| group.value.as_str());
    let finding = Diagnostic::error("unknown-group", member.span, message);
    let hint = match source::closest(&member.value, names) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("define it under `groups:` as `{}:`", member.value),
    };
    findings.add(finding.hint(hint));
}

/// Notes every setting that two groups of a host give differently, unless the host has it itself.
fn disagreements(host: &str, own: &Node, layers: &[Named<'_>], findings: &Findings) {
    for (index, (later, above)) in layers.iter().enumerate() {
        for (earlier, below) in &layers[..index] {
            let mut found = Vec::new();
            compare(below, above, Some(own), &mut Vec::new(), &mut found);
            for (path, first, second) in found {
                let message = format!(
                    "groups `{}` and `{}` disagree on `{path}`, and host `{host}` is in both",
                    earlier.value, later.value
                );
                let finding = Diagnostic::error("group-conflict", second, message).label(later.value.clone());
                let hint = "say it for the host itself, or in one group only";
                findings.add(finding.also(first, earlier.value.clone()).hint(hint));
            }
        }
    }
}

fn child<'a>(node: &'a Node, wanted: &str) -> Option<&'a Node> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.text == wanted).map(|(_, value)| value),
        _ => None,
    }
}

fn compare<'a>(
    below: &Node,
    above: &'a Node,
    own: Option<&Node>,
    path: &mut Vec<&'a str>,
    found: &mut Vec<(String, Span, Span)>,
) {
    // What the host says itself settles it; a part that it only opens (`node:`) says nothing.
    if !matches!(own.map(|own| &own.value), None | Some(Value::Map(_) | Value::Null)) {
        return;
    }
    match (&below.value, &above.value) {
        (Value::Map(_), Value::Map(entries)) => {
            for (key, above) in entries {
                if let Some(below) = child(below, &key.text) {
                    path.push(&key.text);
                    compare(below, above, own.and_then(|own| child(own, &key.text)), path, found);
                    path.pop();
                }
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ if same(below, above) => {}
        _ => found.push((path.join("."), below.span, above.span)),
    }
}

/// Whether two values say the same, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Null, Value::Null) => true,
        (Value::Scalar { text: one, .. }, Value::Scalar { text: other, .. }) => one == other,
        (Value::Sequence(one), Value::Sequence(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(entries)) => {
            one.len() == entries.len()
                && one
                    .iter()
                    .all(|(key, value)| child(other, &key.text).is_some_and(|there| same(value, there)))
        }
        _ => false,
    }
}
