//! `autonomys-export-piece`: all pieces of the history, archived from a node's blocks into a store.

use clap::Parser;
use farmer::export::{self, cli::Cli};
use farmer::{logging, shutdown::Shutdown};
use std::process::ExitCode;
use std::time::Duration;

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
        match export::run(cli, Shutdown::on_signals()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::from(error.exit_code())
            }
        }
    });
    // A block that is being read must not hold up a shutdown that has been asked for.
    runtime.shutdown_timeout(Duration::from_secs(2));
    code
}
