//! The plot-client.

pub mod expiry;
pub mod farms;
pub mod metrics;
pub mod queue;
pub mod slots;

use crate::cli::PlotClientArguments;
use crate::roles::{Error, RoleContext};

/// Runs a plot-client until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, _arguments: PlotClientArguments) -> Result<(), Error> {
    Err(Error::Unavailable(format!("this build has no {} yet", context.role)))
}
