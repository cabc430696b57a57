//! `util reinitialization-cache`: every cache announces itself anew, verifies what it holds and is filled again.

use crate::cli::{NatsArguments, ReinitializationArguments};
use crate::roles::Error;
use crate::util::connect;
use cluster::contract::{IdentifyRequest, MemberStatus, ReinitializeBroadcast, Role};
use std::io::Write;
use std::time::Duration;

/// How long answers are collected.
const WINDOW: Duration = Duration::from_millis(700);
/// How long the message may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells all caches, and prints which ones those are.
///
/// # Errors
/// When there is no cache, or NATS is not there.
pub async fn run(nats: &NatsArguments, arguments: ReinitializationArguments) -> Result<(), Error> {
    let client = connect(nats).await?;
    let is_cache =
        |member: &MemberStatus| matches!(member.role, Role::ShardedCache | Role::FullPieceShardedCache);
    let mut caches = client.scatter(&IdentifyRequest::default(), WINDOW).await?;
    caches.retain(is_cache);
    if caches.is_empty() {
        return Err(Error::Unavailable(format!("no cache of cluster {} answers", client.cluster())));
    }
    let delay_ms = u32::try_from(arguments.delay.as_millis()).unwrap_or(u32::MAX);
    client.broadcast(&ReinitializeBroadcast { delay_ms }).await?;
    client.close(FLUSH_TIMEOUT).await;
    let mut text = format!(
        "In {} s these caches verify what they hold and are filled again:\n",
        arguments.delay.as_secs_f32()
    );
    for cache in &caches {
        let pieces = cache.counter("pieces_cached").unwrap_or(0);
        text += &format!("  {} {}: {pieces} pieces\n", cache.role, cache.instance);
    }
    text +=
        "Nothing valid is thrown away. `autonomys-farmer util ready all` shows when they are ready again.";
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Error::io("write to", "standard output".as_ref(), error))
}
