//! The full-piece-cache.

use crate::cli::FullPieceCacheArguments;
use crate::roles::{Error, RoleContext};

/// Runs a full-piece-cache until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, _arguments: FullPieceCacheArguments) -> Result<(), Error> {
    Err(Error::Unavailable(format!("this build has no {} yet", context.role)))
}
