//! The sharded-cache.

use crate::cli::ShardedCacheArguments;
use crate::roles::{Error, RoleContext};

/// Runs a sharded-cache until the shutdown.
///
/// # Errors
/// When it cannot go on.
pub async fn run(context: RoleContext, _arguments: ShardedCacheArguments) -> Result<(), Error> {
    Err(Error::Unavailable(format!("this build has no {} yet", context.role)))
}
