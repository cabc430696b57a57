//! The text of an inventory, places in it, and messages that point at them.

use serde::Serialize;
use std::fmt::Write;

/// A byte range of a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte behind the last.
    pub end: usize,
}

/// A value and where it was written. Serialises as the value alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value that stands at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// The text of an inventory and the name it is called by in messages.
#[derive(Debug, Clone)]
pub struct Source {
    /// File name as the user gave it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// Line and column (both from 1, the column in characters) of a byte offset.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// The line in which a byte offset lies, without its newline.
    pub fn line_around(&self, offset: usize) -> Span {
        let bytes = self.text.as_bytes();
        let offset = offset.min(bytes.len());
        let start = bytes[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let end =
            bytes[offset..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| offset + at);
        Span { start, end }
    }

    fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number - 1).unwrap_or("").trim_end_matches('\r')
    }
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is done before it is mended.
    Error,
    /// Worth knowing; does not stop anything.
    Warning,
}

/// A place and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What stands behind the caret; may be empty.
    pub text: String,
}

/// A finding in an inventory: what was expected, what was found, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How grave it is.
    pub severity: Severity,
    /// Stable name of the rule.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// Where; the first is the primary place.
    pub labels: Vec<Label>,
    /// What to do.
    pub hint: Option<String>,
    /// Parts of the shown lines that hold a secret and are left out.
    pub hidden: Vec<Span>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        let labels = vec![Label { span, text: String::new() }];
        Self { severity: Severity::Error, code, message: message.into(), labels, hint: None, hidden: vec![] }
    }

    /// A warning at `span`.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// Adds what stands behind the primary caret.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message with file:line:column, the offending lines, carets and the hint.
    pub fn render(&self, source: &Source) -> String {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut out = format!("{word}[{}]: {}\n", self.code, self.message);
        let positions: Vec<_> = self.labels.iter().map(|label| source.position(label.span.start)).collect();
        let width = positions.iter().map(|(line, _)| line.to_string().len()).max().unwrap_or(1);
        for (index, (label, &(line, column))) in self.labels.iter().zip(&positions).enumerate() {
            let arrow = if index == 0 { "-->" } else { ":::" };
            let _ = writeln!(out, "{:width$}{arrow} {}:{line}:{column}", "", source.name);
            let _ = writeln!(out, "{:width$} |", "");
            let text = source.line(line);
            let shown = self.shown(source, label.span.start, column, text);
            let _ = writeln!(out, "{line:>width$} | {}", shown.text);
            let length = match shown.covers_hidden {
                true => 1,
                false => source
                    .text
                    .get(label.span.start..label.span.end)
                    .map_or(1, |covered| covered.lines().next().unwrap_or("").trim_end().chars().count()),
            };
            let rest = (shown.text.chars().count() + 1).saturating_sub(shown.column);
            let mark = if index == 0 { "^" } else { "-" }.repeat(length.min(rest).max(1));
            // Tabs are kept so that the caret stands below what it means in any terminal.
            let indent: String = (shown.text.chars().take(shown.column - 1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let gap = if label.text.is_empty() { "" } else { " " };
            let _ = writeln!(out, "{:width$} | {indent}{mark}{gap}{}", "", label.text);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "{:width$} = hint: {hint}", "");
        }
        out
    }
}

/// A line as it may be shown: each hidden part is one `…`.
struct Shown {
    text: String,
    /// Where the label begins in `text`, from 1.
    column: usize,
    /// Whether that is a hidden part.
    covers_hidden: bool,
}

impl Diagnostic {
    fn shown(&self, source: &Source, start: usize, column: usize, line: &str) -> Shown {
        let line_start = source.line_around(start).start;
        let hidden =
            |offset: usize| self.hidden.iter().position(|span| (span.start..span.end).contains(&offset));
        let mut shown = Shown { text: String::new(), column: 1, covers_hidden: hidden(start).is_some() };
        let mut last = None;
        for (place, (offset, character)) in line.char_indices().enumerate() {
            let part = hidden(line_start + offset);
            let again = part.is_some() && part == last;
            if !again {
                if place < column - 1 {
                    shown.column += 1;
                }
                shown.text.push(if part.is_some() { '…' } else { character });
            }
            last = part;
        }
        // Behind the end of the line, where something is missing.
        shown.column += (column - 1).saturating_sub(line.chars().count());
        shown
    }
}

/// Sorts findings by their place, and says once what is so for many hosts that share a line: hosts by range, or of one
/// group. What differs by numbers alone is taken for the same.
pub fn in_order(mut findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    findings.sort_by_key(|finding| finding.labels.first().map(|label| (label.span.start, label.span.end)));
    let mut seen = std::collections::HashSet::new();
    findings.retain(|finding| {
        let places: Vec<_> = finding.labels.iter().map(|label| (label.span.start, label.span.end)).collect();
        let words: String = finding.message.chars().filter(|c| !c.is_ascii_digit()).collect();
        seen.insert((finding.code, places, words))
    });
    findings
}

/// The candidate that `found` was probably meant to be.
pub fn closest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let normal = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let wanted = normal(found);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &normal(candidate)), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(found.len()) / 3).max(1))
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two short texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_far_ones_not() {
        let known = ["sectors", "path", "size"];
        assert_eq!(closest("sectrs", known), Some("sectors"));
        assert_eq!(closest("psth", known), Some("path"));
        assert_eq!(closest("colour", known), None);
        assert_eq!(closest("full-piece-cache", ["full_piece_cache"]), Some("full_piece_cache"));
    }

    #[test]
    fn positions_count_characters() {
        let source = Source { name: "x".into(), text: "ä: 1\nbü: 2\n".into() };
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(source.text.find('2').expect("is there")), (2, 5));
        assert_eq!(source.position(1_000), (3, 1));
    }
}
