//! An explanation for people: three columns, as wide as they have to be.

use crate::explain::{Explanation, Line};
use std::fmt::Write;

/// Longest value that still makes the column of reasons begin further right.
const VALUE_MAX: usize = 44;

pub(super) fn text(explanation: &Explanation) -> String {
    let mut out = format!("Host {} of cluster {}\n", explanation.host, explanation.cluster);
    let parts = || explanation.programs.iter().map(|program| &program.lines).chain([&explanation.machine]);
    let width = |of: fn(&Line) -> &str| {
        let lengths = parts().flatten().map(|line| of(line).chars().count());
        lengths.filter(|length| *length <= VALUE_MAX).max().unwrap_or(0)
    };
    let widths = (width(|line| &line.what), width(|line| &line.value));
    lines(&mut out, &explanation.machine, widths);
    for program in &explanation.programs {
        let _ = writeln!(out, "\n{}", program.program);
        lines(&mut out, &program.lines, widths);
    }
    for (index, note) in explanation.notes.iter().enumerate() {
        let _ = writeln!(out, "{}note: {note}", if index == 0 { "\n" } else { "" });
    }
    out
}

fn lines(out: &mut String, lines: &[Line], (what, value): (usize, usize)) {
    for line in lines {
        let shown = format!("  {:<what$}  {:<value$}  {}", line.what, line.value, line.why);
        let _ = writeln!(out, "{}", shown.trim_end());
    }
}
