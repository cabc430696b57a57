//! `autonomys-export-piece`: all pieces of the history, archived from a node's blocks into a store.

use clap::Parser;
use farmer::export::{self, ExportError, cli::Cli};
use farmer::program;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    program::run(cli.log_format, |shutdown| export::run(cli, shutdown), ExportError::exit_code)
}
