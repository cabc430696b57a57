//! `autonomys-bench`, the driver behind `cargo xtask bench`: runs the cases, says how they compare with the reference and
//! with what this machine could do at best, and writes both into `docs/benchmarks.md`.
//!
//! Architecture invariant: a case's set-up stands beside the benches of the crate that it measures, and is included here.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its user")]

mod case;
mod chart;
mod document;
mod floor;
mod footprint;
mod machine;
mod measure;
mod paths;
mod report;
mod run;
mod scaling;

// One place for each case: see there.
#[path = "../../archiving/benches/cases/mod.rs"]
mod archiving_cases;
#[path = "../../farming/benches/cases/mod.rs"]
mod farming_cases;
#[path = "../../proof-of-space/benches/cases/mod.rs"]
mod table_cases;

use anyhow::{Context, Result};
use case::Case;
use clap::Parser;
use footprint::Footprint;
use machine::{Machine, Rates};
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "autonomys-bench", about = "Runs the cases of docs/benchmarks.md")]
struct Cli {
    /// Print the cases' figures as JSON, and nothing else, to standard output
    #[arg(long)]
    json: bool,
    /// Few runs of each case: shows that the driver works, not how fast the cases are; writes no document
    #[arg(long)]
    quick: bool,
    /// Only these cases; writes no document
    #[arg(long, value_enum, num_args = 1.., value_name = "CASE")]
    only: Vec<Case>,
    /// Also run the cases on the slower code paths of this machine (AUTONOMYS_SIMD)
    #[arg(long)]
    paths: bool,
    /// Also measure many tables at once, and audits of up to 60,000 sectors
    #[arg(long)]
    scaling: bool,
    /// Directory of benchmarks.md, which a whole run brings up to date
    #[arg(long, value_name = "DIR")]
    docs: Option<PathBuf>,
    /// Directory for the reference string and sparse plots [default: autonomys-bench among temporary files]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Measure the memory of one thing in this process
    #[arg(long, hide = true, value_enum)]
    footprint: Option<Footprint>,
}

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> Result<()> {
    let scratch = cli.scratch.unwrap_or_else(|| std::env::temp_dir().join("autonomys-bench"));
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    if let Some(footprint) = cli.footprint {
        println!("{}", serde_json::to_string(&footprint.measure(&scratch)?)?);
        return Ok(());
    }
    let whole = cli.only.is_empty();
    let cases = if whole { Case::ALL.to_vec() } else { cli.only };
    let machine = Machine::describe()?;
    let rates = Rates::measure(cli.quick);
    let figures = run::run(&cases, &scratch, cli.quick)?;
    if cli.json {
        println!("{:#}", report::json(&figures, &rates));
    }
    let report = Report {
        memory: whole.then(|| footprint::measure_all(&scratch)).transpose()?,
        paths: cli.paths.then(|| paths::measure(&cases, &scratch)).transpose()?,
        scaling: cli.scaling.then(|| scaling::measure(&scratch, cli.quick)).transpose()?,
        machine,
        rates,
        figures,
    };
    if !cli.json {
        print!("{}", report.text());
    }
    match cli.docs {
        Some(docs) if whole && !cli.quick => document::update(&docs, &report),
        _ => Ok(()),
    }
}
