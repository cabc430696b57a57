//! The measured parts of `docs/benchmarks.md`; what stands around them is written by hand and stays.

use crate::report::Report;
use anyhow::{Context, Result};
use std::fs::{read_to_string, write};
use std::path::Path;

/// Brings the document and its charts up to date with what was measured; other parts keep their older figures.
pub(crate) fn update(docs: &Path, report: &Report) -> Result<()> {
    let path = docs.join("benchmarks.md");
    let context = || format!("cannot bring {} up to date", path.display());
    let mut document = read_to_string(&path).with_context(context)?;
    let parts = [
        ("cases", Some(report.cases())),
        ("memory", report.memory()),
        ("paths", report.path_table()),
        ("scaling", report.scaling_tables()),
    ];
    for (name, text) in parts {
        if let Some(text) = text {
            document = replaced(&document, name, &text).with_context(context)?;
        }
    }
    for (name, chart) in report.scaling.iter().flat_map(|scaling| scaling.charts()) {
        write(docs.join(name), chart.svg()).with_context(|| format!("cannot write {name}"))?;
    }
    write(&path, document).with_context(context)?;
    eprintln!("{} is up to date", path.display());
    Ok(())
}

/// The document with another text in its part `name`.
fn replaced(document: &str, name: &str, text: &str) -> Result<String> {
    let begin = format!("<!-- {name}: written by cargo xtask bench -->\n");
    let end = format!("<!-- end of {name} -->\n");
    let missing = |marker: &str| format!("the line {:?} is missing; put it back", marker.trim_end());
    let (before, rest) = document.split_once(&begin).with_context(|| missing(&begin))?;
    let (_, after) = rest.split_once(&end).with_context(|| missing(&end))?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_changes() {
        let document =
            "by hand\n<!-- cases: written by cargo xtask bench -->\nold\n<!-- end of cases -->\nmore\n";
        let new = replaced(document, "cases", "new\n").unwrap();
        assert_eq!(new, document.replace("old", "new"));
        assert_eq!(replaced(&new, "cases", "old\n").unwrap(), document);
        let error = replaced(document, "paths", "").unwrap_err().to_string();
        assert!(error.contains("<!-- paths: written by cargo xtask bench -->"), "{error}");
    }
}
