//! Where secrets stand in an inventory although none should: so that no message shows them.

use super::source::{Diagnostic, Source, Span};
use super::tree::{Node, Value};

/// Names of keys whose values are secrets, or end like these.
const NAMES: [&str; 9] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "mnemonic",
    "private_key",
    "api_key",
    "credentials",
];
/// What may stand below `secret:`, since it names a source.
const SOURCES: [&str; 3] = ["file", "env", "command"];

/// Whether the value of a key of this name is a secret.
pub(super) fn is_secret_name(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    NAMES.iter().any(|name| key.ends_with(name))
}

/// Whether an environment variable can be called so.
pub(super) fn is_variable_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Where the user and password of a URL stand in it: `nats://USER:PASSWORD@HOST`.
fn credentials(text: &str) -> Option<(usize, usize)> {
    let start = text.find("://")? + 3;
    let end = start + text[start..].find('/').unwrap_or(text.len() - start);
    text[start..end].rfind('@').map(|at| (start, start + at))
}

/// Whether a URL carries a user's name or password.
pub(super) fn has_credentials(text: &str) -> bool {
    credentials(text).is_some()
}

/// Leaves every secret of the tree out of the lines that findings show.
pub(super) fn hide(source: &Source, root: &Node, findings: &mut [Diagnostic]) {
    let mut hidden = Vec::new();
    collect(source, root, false, &mut hidden);
    hide_spans(source, hidden, findings);
}

/// The same where there is no tree, as the text is no YAML: what stands behind such a key.
pub(super) fn hide_in_text(source: &Source, findings: &mut [Diagnostic]) {
    let mut hidden = Vec::new();
    let mut start = 0;
    let mut continues = false;
    for line in source.text.split_inclusive('\n') {
        let value_at = |from: usize| {
            let value = line[from..].trim();
            let at = from + line[from..].len() - line[from..].trim_start().len();
            Span { start: start + at, end: start + at + value.len() }
        };
        let keys = line.match_indices(':').map(|(colon, _)| colon);
        let found =
            keys.into_iter().find(|&colon| is_secret_name(line[..colon].trim_end_matches(['"', '\''])));
        let value = match found {
            Some(colon) => value_at(colon + 1),
            None if continues => value_at(0),
            None => Span::default(),
        };
        let text = source.text.get(value.start..value.end).unwrap_or("");
        continues = found.is_some() && text.is_empty();
        if !text.is_empty() && text != "generate" {
            hidden.push(value);
        }
        start += line.len();
    }
    hide_spans(source, hidden, findings);
}

/// Gives each finding the hidden parts of the lines that it shows.
fn hide_spans(source: &Source, mut hidden: Vec<Span>, findings: &mut [Diagnostic]) {
    hidden.sort_by_key(|span| (span.start, span.end));
    hidden.dedup();
    if hidden.is_empty() {
        return;
    }
    for finding in findings {
        for label in &finding.labels {
            let line = source.line_around(label.span.start);
            let first = hidden.partition_point(|span| span.end <= line.start);
            let shown = hidden[first..].iter().take_while(|span| span.start < line.end);
            finding.hidden.extend(shown);
        }
    }
}

fn collect(source: &Source, node: &Node, secret: bool, hidden: &mut Vec<Span>) {
    match &node.value {
        Value::Null => {}
        Value::Scalar { text, .. } if secret && text == "generate" => {}
        Value::Scalar { .. } if secret => hidden.push(node.span),
        Value::Scalar { text, .. } => {
            let Some((start, end)) = credentials(text) else { return };
            // Escapes, or lines that were folded, shift the place: then all of it goes.
            let written = source.text.get(node.span.start..node.span.end).unwrap_or("");
            hidden.push(match written.find(&text[start..end]) {
                Some(at) => Span { start: node.span.start + at, end: node.span.start + at + end - start },
                None => node.span,
            });
        }
        Value::Sequence(items) => items.iter().for_each(|item| collect(source, item, secret, hidden)),
        Value::Map(entries) => {
            for (key, value) in entries {
                let names_source = SOURCES.contains(&key.text.as_str())
                    && match &value.value {
                        Value::Scalar { text, .. } => key.text != "env" || is_variable_name(text),
                        _ => true,
                    };
                let is_secret = is_secret_name(&key.text) || (secret && !names_source);
                collect(source, value, is_secret, hidden);
            }
        }
    }
}
