//! The controller.

pub mod headers;
pub mod history;
pub mod once;
pub mod placement;

use crate::cli::ControllerArguments;
use crate::roles::{Error, RoleContext};

/// Runs a controller until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, _arguments: ControllerArguments) -> Result<(), Error> {
    Err(Error::Unavailable(format!("this build has no {} yet", context.role)))
}
