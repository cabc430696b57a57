//! The plot-client.

pub mod chain;
pub mod expiry;
pub mod farming;
pub mod farms;
pub mod handle;
pub mod metrics;
pub mod plotting;
pub mod prove;
pub mod queue;
pub mod replot;
pub mod rewards;
pub mod scrub;
pub mod slots;
pub mod store;
pub mod submit;

use crate::cli::PlotClientArguments;
use crate::roles::{Error, RoleContext};

/// Runs a plot-client until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, _arguments: PlotClientArguments) -> Result<(), Error> {
    Err(Error::Unavailable(format!("this build has no {} yet", context.role)))
}
