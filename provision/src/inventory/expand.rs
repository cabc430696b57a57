//! Ranges written out: a host by range becomes its hosts, each with its own address; a farm by range its farms. What
//! reads settings sees no range.

use super::range::{Range, RangeError};
use super::read::Findings;
use super::source::{Diagnostic, Span};
use super::tree::{Key, NODES_MAX, Node, Value, size};

/// Writes every range of an inventory out; those that are wrong are noted and left out.
pub(super) fn expand(root: Node, findings: &Findings) -> Node {
    let mut expander = Expander { findings, values: size(&root), full: false };
    let Value::Map(entries) = root.value else { return root };
    let entries = entries.into_iter().map(|(key, node)| {
        let node = match key.text.as_str() {
            "hosts" => expander.hosts(node),
            "groups" => map(node, |_, group| expander.farms(group)),
            "defaults" => expander.farms(node),
            _ => node,
        };
        (key, node)
    });
    Node { value: Value::Map(entries.collect()), span: root.span }
}

struct Expander<'a> {
    findings: &'a Findings,
    /// Values so far.
    values: usize,
    /// Whether it was said that they are too many.
    full: bool,
}

fn map(node: Node, mut change: impl FnMut(&Key, Node) -> Node) -> Node {
    let value = match node.value {
        Value::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let value = change(&key, value);
                    (key, value)
                })
                .collect(),
        ),
        other => other,
    };
    Node { value, span: node.span }
}

fn at_key(node: Node, wanted: &str, mut change: impl FnMut(Node) -> Node) -> Node {
    map(node, |key, value| if key.text == wanted { change(value) } else { value })
}

fn scalar_at<'a>(node: &'a Node, wanted: &str) -> Option<(&'a str, Span)> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(key, _)| key.text == wanted).and_then(|(_, value)| match &value.value {
        Value::Scalar { text, .. } => Some((text.as_str(), value.span)),
        _ => None,
    })
}

fn with_scalar(node: &Node, wanted: &str, text: &str) -> Node {
    at_key(node.clone(), wanted, |old| Node {
        value: Value::Scalar { text: text.to_string(), plain: false },
        span: old.span,
    })
}

impl Expander<'_> {
    fn wrong(&self, span: Span, error: &RangeError) {
        let finding = Diagnostic::error("range", span, error.to_string());
        self.findings.add(match error {
            RangeError::Reversed { first, last } => finding.hint(format!("write `[{last}..{first}]`")),
            RangeError::TooLarge(_) => finding.hint("write it as several ranges"),
            RangeError::Several => finding.hint("write each value of one of the two out"),
            _ => finding,
        });
    }

    /// Whether so many copies of a value may be made.
    fn has_room(&mut self, node: &Node, copies: usize, span: Span) -> bool {
        self.values = self.values.saturating_add(size(node).saturating_mul(copies));
        if self.values <= NODES_MAX {
            return true;
        }
        if !self.full {
            let message = format!("more than {NODES_MAX} values when the ranges are written out");
            let finding = Diagnostic::error("range", span, message);
            self.findings.add(finding.hint("put what the hosts share into a group"));
        }
        self.full = true;
        false
    }

    fn hosts(&mut self, hosts: Node) -> Node {
        let Value::Map(entries) = hosts.value else { return hosts };
        let mut written = Vec::new();
        for (key, own) in entries {
            let own = self.farms(own);
            match Range::find(&key.text) {
                Err(error) => self.wrong(key.span, &error),
                Ok(None) => written.push((key, own)),
                Ok(Some(range)) => written.extend(self.host(&key, &range, &own)),
            }
        }
        Node { value: Value::Map(written), span: hosts.span }
    }

    /// The hosts of one range.
    fn host(&mut self, key: &Key, range: &Range<'_>, own: &Node) -> Vec<(Key, Node)> {
        if !self.has_room(own, range.count(), key.span) {
            return Vec::new();
        }
        let name = |text: String| Key { text, span: key.span };
        let Some((address, span)) = scalar_at(own, "address") else {
            return range.texts().map(|text| (name(text), own.clone())).collect();
        };
        let addresses = match Range::find(address) {
            Err(error) => {
                self.wrong(span, &error);
                return Vec::new();
            }
            Ok(Some(addresses)) if addresses.count() == range.count() => addresses,
            Ok(None) if range.count() == 1 => return vec![(name(range.texts().collect()), own.clone())],
            Ok(addresses) => {
                let (hosts, found) = (range.count(), addresses.map_or(1, |range| range.count()));
                let message =
                    format!("{hosts} hosts have {}", crate::error::count_of(found, "address", "addresses"));
                let finding = Diagnostic::error("range", span, message).label(format!("{found} here"));
                let hint = "give as many addresses as there are hosts: `192.168.1.[11..34]` for 24";
                self.findings.add(finding.also(key.span, format!("{hosts} here")).hint(hint));
                return Vec::new();
            }
        };
        let hosts = range.texts().zip(addresses.texts());
        hosts.map(|(text, address)| (name(text), with_scalar(own, "address", &address))).collect()
    }

    /// Settings with the ranges in their farms' paths written out.
    fn farms(&mut self, settings: Node) -> Node {
        at_key(settings, "storage", |storage| at_key(storage, "farms", |farms| self.list(farms)))
    }

    fn list(&mut self, farms: Node) -> Node {
        let Value::Sequence(items) = farms.value else { return farms };
        let mut written = Vec::new();
        for item in items {
            let Some((path, span)) = scalar_at(&item, "path") else {
                written.push(item);
                continue;
            };
            match Range::find(path) {
                Err(error) => self.wrong(span, &error),
                Ok(None) => written.push(item),
                Ok(Some(range)) if self.has_room(&item, range.count(), span) => {
                    written.extend(range.texts().map(|path| with_scalar(&item, "path", &path)));
                }
                Ok(Some(_)) => {}
            }
        }
        Node { value: Value::Sequence(written), span: farms.span }
    }
}
