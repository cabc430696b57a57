//! `autonomys-farmer`: the roles of an Autonomys farming cluster.

use clap::Parser;
use farmer::cli::{Cli, Command};
use farmer::{logging, roles, shutdown::Shutdown, util};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::init(cli.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "The runtime does not start");
            return ExitCode::from(71);
        }
    };
    let code = runtime.block_on(async {
        let shutdown = Shutdown::on_signals();
        let result = match cli.command {
            Command::Cluster(arguments) => roles::run(arguments, shutdown).await,
            Command::Util(arguments) => util::run(arguments, shutdown).await,
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::from(error.exit_code())
            }
        }
    });
    // Work on blocking threads (a read, an encoding) must not hold up a shutdown that has been asked for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    code
}
