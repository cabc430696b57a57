//! The full-piece cache: holds every piece and serves them over TCP.

use crate::cli::FullPieceCacheArguments;
use crate::roles::cache::serve;
use crate::roles::cache::store::Store;
use crate::roles::{Error, RoleContext};

/// Runs a full-piece cache until the shutdown.
///
/// # Errors
/// When its directory, its address or its cluster do not fit.
pub async fn run(context: RoleContext, arguments: FullPieceCacheArguments) -> Result<(), Error> {
    let FullPieceCacheArguments { path, cache_item_type, listen, advertise, tmp: _ } = arguments;
    serve::run(context, move || Store::open_full(&path, cache_item_type.into()), listen, &advertise).await
}
