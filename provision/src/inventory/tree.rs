//! YAML as a tree in which every key and value knows where it was written.
//!
//! serde's data model has no place for spans and stops at the first mistake; the tree keeps both, so that one run
//! shows every mistake of an inventory and a conflict can show both of its lines.

use super::source::{Diagnostic, Source, Span};
use granit_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;

/// Largest inventory, in bytes.
pub const SIZE_MAX: usize = 4 << 20;
/// Deepest nesting of maps and lists.
const DEPTH_MAX: usize = 32;
/// Nodes at most, aliases expanded.
pub(super) const NODES_MAX: usize = 200_000;

/// A key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it was written.
    pub span: Span,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was written.
    pub span: Span,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text; `plain` when it was not quoted.
    Scalar {
        /// The text after unescaping.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map in the order of the file; keys may repeat.
    Map(Vec<(Key, Node)>),
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { .. } => "a single value",
            Self::Sequence(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl Node {
    /// Nothing, at the beginning.
    pub(super) fn nothing() -> Self {
        Self { value: Value::Null, span: Span::default() }
    }

    /// This value with `over` laid on top: maps are merged key by key, anything else is replaced.
    #[must_use]
    pub fn overlaid(&self, over: &Self) -> Self {
        match (&self.value, &over.value) {
            (Value::Map(below), Value::Map(above)) => {
                let mut merged = below.clone();
                for (key, value) in above {
                    match merged.iter_mut().find(|(known, _)| known.text == key.text) {
                        Some((known, old)) => {
                            *old = old.overlaid(value);
                            *known = key.clone();
                        }
                        None => merged.push((key.clone(), value.clone())),
                    }
                }
                Self { value: Value::Map(merged), span: over.span }
            }
            // `node:` alone means "with what is said elsewhere", not "with nothing".
            (Value::Map(_), Value::Null) => Self { value: self.value.clone(), span: over.span },
            _ => over.clone(),
        }
    }
}

const BARE_RANGE: &str = "inside `{…}` a range stands in quotes: `{address: \"192.168.1.[11..34]\"}`";

struct Builder<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    text: &'a str,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// Reads one YAML document.
///
/// # Errors
/// A syntax error, more than one document, a tag, a merge key, a key that is no text, or a size bound exceeded.
pub fn parse(source: &Source) -> Result<Node, Diagnostic> {
    if source.text.len() > SIZE_MAX {
        let message = format!("the inventory has {} bytes, at most {SIZE_MAX} are read", source.text.len());
        return Err(Diagnostic::error("yaml", Span::default(), message));
    }
    let mut builder = Builder {
        parser: Parser::new_from_str(&source.text),
        text: &source.text,
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut root = None;
    loop {
        let (event, span) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event if root.is_none() => root = Some(builder.node(event, span, 0)?),
            _ => {
                let message = "a second YAML document begins here; an inventory is one document";
                return Err(Diagnostic::error("yaml", span, message));
            }
        }
    }
    Ok(root.unwrap_or(Node { value: Value::Null, span: Span::default() }))
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Diagnostic> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, Span::default())),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => {
                    let start = self.offset(&span.start);
                    let end = self.offset(&span.end).max(start);
                    return Ok((event, Span { start, end }));
                }
                Some(Err(error)) => {
                    let start = self.offset(error.marker());
                    let span = Span { start, end: start };
                    let finding = Diagnostic::error("yaml", span, format!("not YAML: {}", error.info()));
                    return Err(if self.has_bare_range(start) { finding.hint(BARE_RANGE) } else { finding });
                }
            }
        }
    }

    /// Whether the line before `offset` has a range without quotes around it.
    fn has_bare_range(&self, offset: usize) -> bool {
        let before = self.text.get(..offset).unwrap_or("").trim_end();
        let line = before.rsplit('\n').next().unwrap_or("");
        line.contains('{') && line.contains('[') && line.contains("..")
    }

    fn offset(&self, marker: &granit_parser::Marker) -> usize {
        let by_characters =
            || self.text.char_indices().nth(marker.index()).map_or(self.text.len(), |(offset, _)| offset);
        marker.byte_offset().unwrap_or_else(by_characters).min(self.text.len())
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} values, aliases counted each time");
            return Err(Diagnostic::error("yaml", span, message));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        if depth > DEPTH_MAX {
            return Err(Diagnostic::error("yaml", span, format!("nested more than {DEPTH_MAX} deep")));
        }
        self.count(1, span)?;
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, None) => {
                let plain = style == ScalarStyle::Plain;
                let value = if plain && matches!(&*text, "" | "~" | "null") {
                    Value::Null
                } else {
                    Value::Scalar { text: text.into_owned(), plain }
                };
                (Node { value, span }, anchor)
            }
            Event::SequenceStart(_, anchor, None) => (self.sequence(span, depth)?, anchor),
            Event::MappingStart(_, anchor, None) => (self.map(span, depth)?, anchor),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node =
                    node.ok_or_else(|| Diagnostic::error("yaml", span, "an alias inside its own anchor"))?;
                self.count(size(&node), span)?;
                (node, 0)
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                return Err(Diagnostic::error(
                    "yaml",
                    span,
                    "YAML tags (`!…`) have no meaning in an inventory",
                ));
            }
            _ => return Err(Diagnostic::error("yaml", span, "expected a value")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, start: Span, depth: usize) -> Result<Node, Diagnostic> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(Node { value: Value::Sequence(items), span: start });
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, start: Span, depth: usize) -> Result<Node, Diagnostic> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd | Event::StreamEnd => {
                    return Ok(Node { value: Value::Map(entries), span: start });
                }
                Event::Scalar(text, ..) => Key { text: text.into_owned(), span },
                _ => return Err(Diagnostic::error("yaml", span, "a key must be a single word")),
            };
            if key.text == "<<" {
                let diagnostic =
                    Diagnostic::error("yaml", span, "merge keys (`<<`) are not part of YAML 1.2");
                return Err(diagnostic.hint("put what hosts share under `defaults:` or in a group"));
            }
            let (event, span) = self.next()?;
            entries.push((key, self.node(event, span, depth + 1)?));
        }
    }
}

/// How many values a tree has.
pub(super) fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::Null | Value::Scalar { .. } => 0,
        Value::Sequence(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(_, node)| size(node)).sum(),
    }
}
