//! `autonomys-farmer`: the roles of an Autonomys farming cluster.

use clap::Parser;
use farmer::cli::{Cli, Command};
use farmer::roles::Error;
use farmer::{program, roles, util};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let run = |shutdown| async {
        match cli.command {
            Command::Cluster(arguments) => roles::run(arguments, shutdown).await,
            Command::Util(arguments) => util::run(arguments, shutdown).await,
        }
    };
    program::run(cli.log_format, run, Error::exit_code)
}
