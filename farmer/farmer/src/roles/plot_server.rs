//! The plot-server.

pub mod desk;
pub mod leases;
pub mod metrics;
pub mod serve;
pub mod spool;
pub mod worker;

use crate::cli::PlotServerArguments;
use crate::roles::{Error, RoleContext};

/// Runs a plot-server until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, _arguments: PlotServerArguments) -> Result<(), Error> {
    Err(Error::Unavailable(format!("this build has no {} yet", context.role)))
}
