//! The binaries, and what they have in common: a log, a runtime, a shutdown by signal, an exit status.
//!
//! They are here and not in the binaries' own files, so that all that they call is compiled once, with this library; its
//! tests do without.

use crate::cli::{Cli, Command};
use crate::export::{self, ExportError, cli::Cli as ExporterCli};
use crate::logging::{self, LogFormat};
use crate::roles::{self, Error};
use crate::shutdown::Shutdown;
use crate::util;
use clap::Parser;
use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

/// Exit status when the system gives no runtime (`EX_OSERR` of sysexits.h).
const NO_RUNTIME: u8 = 71;
/// How long work on blocking threads (a read, an encoding) may hold up a shutdown that has been asked for.
const BLOCKING_WORK: Duration = Duration::from_secs(2);

/// All of `autonomys-farmer`.
pub fn farmer() -> ExitCode {
    let cli = Cli::parse();
    let program = |shutdown| async {
        match cli.command {
            Command::Cluster(arguments) => roles::run(arguments, shutdown).await,
            Command::Util(arguments) => util::run(arguments, shutdown).await,
        }
    };
    run(cli.log_format, program, Error::exit_code)
}

/// All of `autonomys-export-piece`.
pub fn exporter() -> ExitCode {
    let cli = ExporterCli::parse();
    run(cli.log_format, |shutdown| export::run(cli, shutdown), ExportError::exit_code)
}

/// Runs a program to its end; its error is logged, and `exit_code` gives the exit status for it.
fn run<F, E>(
    log_format: LogFormat,
    program: impl FnOnce(Shutdown) -> F,
    exit_code: impl FnOnce(&E) -> u8,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    logging::init(log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "The runtime does not start");
            return ExitCode::from(NO_RUNTIME);
        }
    };
    let code = runtime.block_on(async {
        match program(Shutdown::on_signals()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::from(exit_code(&error))
            }
        }
    });
    runtime.shutdown_timeout(BLOCKING_WORK);
    code
}
