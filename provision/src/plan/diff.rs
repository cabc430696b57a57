//! What a plan changes in files, line by line, without the secrets in them. Pure.

use super::{Action, Plan};
use crate::redact;
use primitives::cluster_secret::is_marked;
use serde::Serialize;
use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices, group_diff_ops};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Lines around a change that are shown, too.
const CONTEXT: usize = 3;
/// Lines of both sides beyond which a text is shown as replaced as a whole: comparing takes the product of their lengths.
const LINES_MAX: usize = 10_000;

/// What stands in the files that a plan replaces or removes: their bytes, or why they cannot be read.
pub type Texts = BTreeMap<PathBuf, Result<Vec<u8>, String>>;

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// It was not there.
    Write,
    /// It has another text.
    Update,
    /// It goes.
    Remove,
}

/// The change of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FileDiff {
    /// Its path below the prefix, or the whole where it lies elsewhere.
    pub path: PathBuf,
    /// What becomes of it.
    pub change: FileChange,
    /// The hunks of a unified diff, without the lines that name the files; empty of a file that is a secret.
    pub unified: String,
    /// Why the hunks are not there, where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
}

/// The files whose text is needed for a [`diff`].
pub fn replaced(plan: &Plan) -> Vec<PathBuf> {
    let paths = plan.steps.iter().filter_map(|step| match &step.action {
        Action::WriteFile { file, replaces: Some(_) } => Some(&file.path),
        Action::RemoveFile { path } => Some(path),
        _ => None,
    });
    paths.filter(|path| !redact::is_secret_file(path)).cloned().collect()
}

/// What a plan changes in files, in the order of its steps; `there` holds what is [`replaced`].
pub fn diff(plan: &Plan, there: &Texts) -> Vec<FileDiff> {
    let changes = plan.steps.iter().filter_map(|step| match &step.action {
        Action::WriteFile { file, replaces: None } => Some((&file.path, FileChange::Write, &*file.text)),
        Action::WriteFile { file, replaces: Some(_) } => Some((&file.path, FileChange::Update, &*file.text)),
        Action::RemoveFile { path } => Some((path, FileChange::Remove, "")),
        Action::PlaceSecret { path } => Some((path, FileChange::Write, "")),
        _ => None,
    });
    changes.map(|(path, change, new)| of_file(&plan.prefix, path, change, new, there.get(path))).collect()
}

fn of_file(
    prefix: &Path,
    path: &Path,
    change: FileChange,
    new: &str,
    old: Option<&Result<Vec<u8>, String>>,
) -> FileDiff {
    let shown = path.strip_prefix(prefix).unwrap_or(path).to_path_buf();
    let hidden =
        |why: String| FileDiff { path: shown.clone(), change, unified: String::new(), hidden: Some(why) };
    if redact::is_secret_file(path) {
        return hidden("a secret: its contents are never shown".to_string());
    }
    let old = match (change, old) {
        (FileChange::Write, _) => String::new(),
        (_, Some(Ok(bytes))) => String::from_utf8_lossy(bytes).into_owned(),
        (_, Some(Err(why))) => return hidden(format!("what stands there cannot be read: {why}")),
        (_, None) => return hidden("what stands there was not read".to_string()),
    };
    FileDiff { unified: unified(&old, new), path: shown, change, hidden: None }
}

/// The hunks of a unified diff. Texts are compared as they are and shown without secrets: that one changed is seen, what
/// it is is not.
pub fn unified(old: &str, new: &str) -> String {
    let (old_shown, new_shown) = (redact::text(old), redact::text(new));
    let lines = |text| -> Vec<&str> { str::split_inclusive(text, '\n').collect() };
    let (mut old, mut new) = (lines(old), lines(new));
    let (old_shown, new_shown) = (lines(&old_shown), lines(&new_shown));
    // A line that gets its password on the host is the one that has it there.
    let marked = new.iter().zip(&new_shown).filter(|(line, _)| is_marked(line));
    let marked: BTreeSet<&str> = marked.map(|(_, shown)| *shown).collect();
    for (lines, shown) in [(&mut old, &old_shown), (&mut new, &new_shown)] {
        for (line, shown) in lines.iter_mut().zip(shown).filter(|(_, shown)| marked.contains(**shown)) {
            *line = *shown;
        }
    }
    let ops = if old.len() + new.len() > LINES_MAX {
        vec![DiffOp::Replace { old_index: 0, old_len: old.len(), new_index: 0, new_len: new.len() }]
    } else {
        capture_diff_slices(Algorithm::Myers, &old, &new)
    };
    let mut out = String::new();
    for group in group_diff_ops(ops, CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let _ = writeln!(
            out,
            "@@ -{} +{} @@",
            range(first.old_range().start, last.old_range().end),
            range(first.new_range().start, last.new_range().end)
        );
        for op in &group {
            if op.tag() == DiffTag::Equal {
                op.new_range().for_each(|at| push(&mut out, ' ', new_shown[at]));
                continue;
            }
            op.old_range().for_each(|at| push(&mut out, '-', old_shown[at]));
            op.new_range().for_each(|at| push(&mut out, '+', new_shown[at]));
        }
    }
    out
}

/// `FIRST,COUNT` from 1, as `diff -u` has it: the line before where there is none.
fn range(start: usize, end: usize) -> String {
    match end - start {
        0 => format!("{start},0"),
        1 => (start + 1).to_string(),
        count => format!("{},{count}", start + 1),
    }
}

fn push(out: &mut String, sign: char, line: &str) {
    out.push(sign);
    // A host's file must not move the cursor of whoever looks at it.
    for c in line.strip_suffix('\n').unwrap_or(line).chars() {
        match c {
            '\t' => out.push(c),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('\n');
    if !line.ends_with('\n') {
        out.push_str("\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unified_diff() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\n";
        assert_eq!(unified(old, old), "");
        let new = "a\nb\nc\nd\nE\nf\ng\nh\ni";
        let expected = "@@ -2,7 +2,8 @@\n b\n c\n d\n-e\n+E\n f\n g\n h\n+i\n\\ No newline at end of file\n";
        assert_eq!(unified(old, new), expected);
        assert_eq!(unified("", "x\ny\n"), "@@ -0,0 +1,2 @@\n+x\n+y\n");
        assert_eq!(unified("x\n", ""), "@@ -1 +0,0 @@\n-x\n");
    }

    #[test]
    fn a_changed_secret_is_seen_as_changed_and_no_more() {
        let shown = unified("port: 1\npassword: \"first one\"\n", "port: 1\npassword: \"second one\"\n");
        assert_eq!(shown, "@@ -1,2 +1,2 @@\n port: 1\n-password: ***\n+password: ***\n");
    }

    #[test]
    fn control_characters_of_a_host_do_not_reach_the_terminal() {
        assert_eq!(unified("\x1b[2Jx\r\n", ""), "@@ -1 +0,0 @@\n-\\u{1b}[2Jx\\r\n");
    }

    #[test]
    fn texts_of_any_length_end() {
        let (old, new) = ("x\n".repeat(LINES_MAX), "y\n".repeat(LINES_MAX));
        assert_eq!(unified(&old, &new).lines().count(), 1 + 2 * LINES_MAX);
    }
}
