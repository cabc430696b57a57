//! `cargo xtask bench`: builds the driver of the benchmarks and runs it. The cases are the driver's, not ours: whoever only
//! wants to run the tests need not build what they measure.

use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::Path;
use std::process::Command;

#[derive(Args)]
pub(crate) struct Bench {
    /// Print the cases' figures as JSON, and nothing else, to standard output
    #[arg(long)]
    json: bool,
    /// Few runs of each case: shows that the driver works, not how fast the cases are; writes no document
    #[arg(long)]
    quick: bool,
    /// Only these cases, by their keys in the JSON; writes no document
    #[arg(long, num_args = 1.., value_name = "CASE")]
    only: Vec<String>,
    /// Also run the cases on the slower code paths of this machine (AUTONOMYS_SIMD)
    #[arg(long)]
    paths: bool,
    /// Also measure many tables at once, and audits of up to 60,000 sectors
    #[arg(long)]
    scaling: bool,
}

/// Runs the driver that stands built below `root`; a whole run brings docs/benchmarks.md up to date.
pub(crate) fn run(root: &Path, bench: &Bench) -> Result<()> {
    let mut command = Command::new(root.join("target/release/autonomys-bench"));
    command.arg("--docs").arg(root.join("docs")).arg("--scratch").arg(root.join("target/bench"));
    let flags = [
        (bench.json, "--json"),
        (bench.quick, "--quick"),
        (bench.paths, "--paths"),
        (bench.scaling, "--scaling"),
    ];
    command.args(flags.into_iter().filter_map(|(given, flag)| given.then_some(flag)));
    if !bench.only.is_empty() {
        command.arg("--only").args(&bench.only);
    }
    let status = command.status().context("cannot run autonomys-bench")?;
    ensure!(status.success(), "autonomys-bench failed: {status}");
    Ok(())
}
