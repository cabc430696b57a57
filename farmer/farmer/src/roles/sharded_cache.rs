//! The sharded cache: holds its share of all pieces, by its capacity, and serves them over TCP.

use crate::cli::ShardedCacheArguments;
use crate::roles::cache::serve;
use crate::roles::cache::store::Store;
use crate::roles::{Error, RoleContext};

/// Runs a sharded cache until the shutdown.
///
/// # Errors
/// When its directories, its address or its cluster do not fit.
pub async fn run(context: RoleContext, arguments: ShardedCacheArguments) -> Result<(), Error> {
    let ShardedCacheArguments { paths, cache_item_type, listen, advertise, tmp: _ } = arguments;
    serve::run(context, move || Store::open_sharded(&paths, cache_item_type.into()), listen, &advertise).await
}
