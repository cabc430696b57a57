//! The cases on each code path of this machine, every path in a process of its own: it is chosen once.

use crate::case::Case;
use anyhow::{Context, Result, ensure};
use proof_of_space::Simd;
use std::path::Path;
use std::process::{Command, Stdio};

/// CPU seconds of the cases on a path that is not this process's.
pub(crate) struct PathFigures {
    /// Name in `AUTONOMYS_SIMD`.
    pub(crate) path: String,
    /// In the order of the cases asked for.
    pub(crate) cpu_s: Vec<(Case, f64)>,
}

/// Runs the cases on all other paths that this machine has, with few runs each.
pub(crate) fn measure(cases: &[Case], scratch: &Path) -> Result<Vec<PathFigures>> {
    let others = Simd::ALL.into_iter().filter(|simd| simd.is_available() && *simd != Simd::best());
    others.map(|simd| run(simd.name(), cases, scratch)).collect()
}

fn run(path: &str, cases: &[Case], scratch: &Path) -> Result<PathFigures> {
    eprintln!("path {path}");
    let mut command = Command::new(std::env::current_exe()?);
    command.env("AUTONOMYS_SIMD", path).args(["--json", "--quick", "--scratch"]).arg(scratch).arg("--only");
    command.args(cases.iter().map(|case| case.key())).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start a process for path {path}"))?;
    ensure!(output.status.success(), "the process for path {path} failed: {}", output.status);
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let cpu_s = |case: &Case| {
        let figure = &figures[case.key()];
        ensure!(figure["simd"] == path, "asked for path {path}, {} ran", figure["simd"]);
        let seconds = figure["cpu_s"].as_f64();
        Ok((*case, seconds.with_context(|| format!("path {path} has no figure for {}", case.key()))?))
    };
    Ok(PathFigures { path: path.to_owned(), cpu_s: cases.iter().map(cpu_s).collect::<Result<_>>()? })
}
