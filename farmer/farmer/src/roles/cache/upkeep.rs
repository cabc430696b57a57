//! What a cache does to its stores beside serving them: verifies them when asked or after a power failure, and forces to
//! the disk what was written.

use crate::roles::cache::contents::CacheContents;
use crate::shutdown::Shutdown;
use cluster::ClusterClient;
use cluster::contract::{CacheState, ReinitializeBroadcast};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often what was written is forced to the disk.
const FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How often the progress of a verification is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// Verifies all pieces against the hashes stored with them and removes the damaged ones; pieces are served meanwhile.
pub async fn verify(contents: Arc<CacheContents>, shutdown: Shutdown) {
    let verifying = tokio::task::spawn_blocking(move || {
        let of = contents.len();
        let started = Instant::now();
        let mut told = started;
        let mut done = 0;
        contents.set_state(CacheState::Verifying { done, of });
        let damaged = contents.store().verify_all(|| {
            done += 1;
            contents.set_state(CacheState::Verifying { done, of });
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                tracing::info!(done, of, "Verifies its pieces");
            }
            !shutdown.is_triggered()
        });
        for &index in &damaged {
            contents.remove_damaged(index);
        }
        contents.set_state(CacheState::Ready);
        tracing::info!(
            pieces = done,
            damaged = damaged.len(),
            seconds = started.elapsed().as_secs_f32(),
            "Verified its pieces"
        );
    });
    if let Err(error) = verifying.await {
        tracing::error!(%error, "The verification broke off");
    }
}

/// Verifies when the cluster is reinitialised. Ends with the connection to NATS.
pub async fn reinitialize_when_told(client: ClusterClient, contents: Arc<CacheContents>, shutdown: Shutdown) {
    let mut told = match client.listen::<ReinitializeBroadcast>().await {
        Ok(told) => told,
        Err(error) => return tracing::error!(%error, "This cache cannot be reinitialised"),
    };
    while let Some(ReinitializeBroadcast { delay_ms }) = told.next().await {
        let delay = Duration::from_millis(delay_ms.into());
        tracing::info!(delay_s = delay.as_secs_f32(), "Told to verify its pieces and be filled again");
        tokio::time::sleep(delay).await;
        verify(Arc::clone(&contents), shutdown.clone()).await;
    }
}

/// Forces what was written to the disk, now and then, as long as something is written.
pub async fn flush_now_and_then(contents: Arc<CacheContents>) {
    let mut flushed = contents.pieces_stored();
    loop {
        tokio::time::sleep(FLUSH_INTERVAL).await;
        let stored = contents.pieces_stored();
        if stored == flushed {
            continue;
        }
        let flushing = Arc::clone(&contents);
        match tokio::task::spawn_blocking(move || flushing.store().flush()).await {
            Ok(Ok(())) => flushed = stored,
            Ok(Err(error)) => tracing::error!(%error, "What was stored could not be forced to the disk"),
            Err(error) => tracing::error!(%error, "What was stored could not be forced to the disk"),
        }
    }
}
