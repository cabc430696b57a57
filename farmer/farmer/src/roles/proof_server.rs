//! The proof-server.

use crate::cli::ProofServerArguments;
use crate::roles::{Error, RoleContext};

/// Runs a proof-server until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, _arguments: ProofServerArguments) -> Result<(), Error> {
    Err(Error::Unavailable(format!("this build has no {} yet", context.role)))
}
