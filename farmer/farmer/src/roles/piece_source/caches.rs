//! Pieces from caches, over TCP.

use super::collect::{Collection, Source};
use super::directory::{Cache, CacheDirectory, Selection};
use crate::roles::items::ItemBuffer;
use async_trait::async_trait;
use cluster::contract::InstanceId;
use cluster::transfer::{FetchOutcome, ItemType, PieceWanted, TransferPool};
use futures::future::join_all;
use parking_lot::Mutex;
use primitives::PieceIndex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pieces asked of a cache at once: bounds what is lost when it breaks off.
const BATCH: usize = 64;
/// Requests to one cache at once.
const BATCHES_IN_FLIGHT: usize = 2;
/// A cache that takes longer for a batch, which is a megabyte a second, is not waited for.
const BATCH_TIMEOUT: Duration = Duration::from_secs(64);
/// A cache that failed is left alone for so long.
const QUARANTINE: Duration = Duration::from_secs(10);

/// Connections to caches, and which of them failed lately.
pub struct Caches {
    directory: Arc<dyn CacheDirectory>,
    pool: TransferPool,
    failed: Mutex<HashMap<InstanceId, Instant>>,
}

impl Caches {
    /// Asks the caches of `directory` over `pool`.
    pub fn new(directory: Arc<dyn CacheDirectory>, pool: TransferPool) -> Self {
        Self { directory, pool, failed: Mutex::default() }
    }

    /// The caches that are there and have not failed lately.
    fn usable(&self) -> Vec<Cache> {
        let mut failed = self.failed.lock();
        failed.retain(|_, since| since.elapsed() < QUARANTINE);
        self.directory.caches().into_iter().filter(|cache| !failed.contains_key(&cache.instance)).collect()
    }

    /// Asks one cache; what it has goes to the collection.
    async fn ask(&self, cache: &Cache, item: ItemType, pieces: &[PieceIndex], collection: &Collection) {
        let from: Arc<str> = format!("cache {} at {}", cache.instance, cache.address).into();
        let mut batches = pieces.chunks(BATCH);
        loop {
            let next: Vec<_> = batches.by_ref().take(BATCHES_IN_FLIGHT).collect();
            if next.is_empty() {
                return;
            }
            let answers =
                join_all(next.into_iter().map(|batch| self.ask_batch(cache, item, batch, collection, &from)));
            if answers.await.contains(&false) {
                self.failed.lock().insert(cache.instance, Instant::now());
                return;
            }
        }
    }

    /// False when the cache failed.
    async fn ask_batch(
        &self,
        cache: &Cache,
        item: ItemType,
        batch: &[PieceIndex],
        collection: &Collection,
        from: &Arc<str>,
    ) -> bool {
        let mut pieces: Vec<_> = batch.iter().map(|index| (*index, ItemBuffer::zeroed(item))).collect();
        let mut wanted: Vec<_> =
            pieces.iter_mut().map(|(index, piece)| PieceWanted::new(*index, piece.as_bytes_mut())).collect();
        let asked = Instant::now();
        let asking = async {
            let mut connection = self.pool.get(cache.address).await?;
            connection.get_pieces(item, &mut wanted).await
        };
        let result = match tokio::time::timeout(BATCH_TIMEOUT, asking).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!("A cache does not give pieces: {error}");
                false
            }
            Err(_) => {
                tracing::warn!(%from, "A cache is too slow");
                false
            }
        };
        let found: Vec<bool> =
            wanted.iter().map(|wanted| matches!(wanted.outcome, Some(FetchOutcome::Found(_)))).collect();
        drop(wanted);
        for ((index, piece), found) in pieces.into_iter().zip(found) {
            if found {
                collection.put(index, piece.into_input(), from, asked);
            }
        }
        result
    }
}

/// Some of the caches as a source.
pub struct CacheSource {
    /// The caches.
    pub caches: Arc<Caches>,
    /// Which of them.
    pub selection: Selection,
    /// The form that is asked for where it is held; plain pieces are asked of the others.
    pub form: ItemType,
}

#[async_trait]
impl Source for CacheSource {
    fn name(&self) -> &'static str {
        self.selection.name()
    }

    async fn fetch(&self, collection: &Collection) {
        let rounds = self.selection.rounds(&self.caches.usable(), &collection.missing());
        for round in rounds {
            let missing = collection.missing();
            if missing.is_empty() {
                return;
            }
            let asked = round.into_iter().map(|(cache, mut pieces)| {
                pieces.retain(|index| missing.contains(index));
                let item = if cache.holds == self.form { self.form } else { ItemType::Piece };
                async move { self.caches.ask(&cache, item, &pieces, collection).await }
            });
            join_all(asked).await;
        }
    }
}
