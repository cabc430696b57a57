//! Memory of a table in flight and of the precomputed multiples of points, measured in processes that do nothing else.

use crate::archiving_cases;
use crate::machine::kibibytes;
use crate::table_cases::{generate, seeds};
use anyhow::{Context, Result, ensure};
use archiving::{Kzg, Polynomial, Scalar, Srs};
use clap::ValueEnum;
use proof_of_space::TableGenerator;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

/// A thing whose memory is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Footprint {
    Table,
    Commitment,
}

/// Bytes by which the thing made a process grow.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Growth {
    /// At most, while it was made the first time.
    pub(crate) first: f64,
    /// What remained after that.
    pub(crate) first_resident: f64,
    /// At most, until it had been made seven times more.
    pub(crate) later: f64,
}

/// Memory of both.
pub(crate) struct Memory {
    pub(crate) table: Growth,
    pub(crate) commitment: Growth,
}

/// Starts a process for each and asks it.
pub(crate) fn measure_all(scratch: &Path) -> Result<Memory> {
    eprintln!("measuring memory");
    Ok(Memory { table: ask("table", scratch)?, commitment: ask("commitment", scratch)? })
}

fn ask(what: &str, scratch: &Path) -> Result<Growth> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--footprint", what, "--scratch"]).arg(scratch).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start a process to measure {what}"))?;
    ensure!(
        output.status.success(),
        "the process that measures the memory of {what} failed: {}",
        output.status
    );
    serde_json::from_slice(&output.stdout).context("the process that measures memory printed no growth")
}

impl Footprint {
    /// Makes the thing in this process.
    pub(crate) fn measure(self, scratch: &Path) -> Result<Growth> {
        match self {
            Self::Table => {
                let (mut seeds, mut generator) = (seeds(), TableGenerator::new());
                grow(&mut |_| generate(&mut generator, &seeds()))
            }
            Self::Commitment => {
                let kzg = Kzg::new(Srs::load(&archiving_cases::string(scratch))?);
                let record = kzg.polynomial(&archiving_cases::record())?;
                // Needs the multiples, and then nothing of them.
                let zero = Polynomial::from_coefficients(vec![Scalar::ZERO; record.coefficients().len()])?;
                grow(&mut |turn| {
                    black_box(kzg.commit(if turn == Turn::First { &zero } else { &record }));
                })
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Later,
}

fn grow(make: &mut dyn FnMut(Turn)) -> Result<Growth> {
    let bytes = |key| Ok::<f64, anyhow::Error>(kibibytes("/proc/self/status", key)? * 1024.0);
    // What came before must not count as a peak: 5 sets the peak back to what is resident.
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of this process's memory")?;
    let before = bytes("VmRSS")?;
    make(Turn::First);
    let (first, first_resident) = (bytes("VmHWM")? - before, bytes("VmRSS")? - before);
    (0..7).for_each(|_| make(Turn::Later));
    Ok(Growth { first, first_resident, later: bytes("VmHWM")? - before })
}
