//! Pieces from caches, over TCP.

use super::collection::Fetch;
use super::directory::{Cache, CacheDirectory, Selection};
use super::hedging::Usual;
use super::sources::Source;
use crate::roles::items::ItemBuffer;
use async_trait::async_trait;
use cluster::Backoff;
use cluster::contract::InstanceId;
use cluster::transfer::{FetchOutcome, ItemType, TransferError, TransferPool};
use futures::StreamExt;
use futures::future::join_all;
use parking_lot::Mutex;
use primitives::PieceIndex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pieces asked of a cache in one request: bounds what is lost when it breaks off, and what is fetched twice when it is late.
const BATCH: usize = 16;
/// Requests to one cache at once.
const BATCHES_IN_FLIGHT: usize = 4;
/// A cache that sends less is not waited for.
const BYTES_PER_SECOND_MIN: u64 = 1_000_000;
/// First time that a cache is left alone after a failure.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest such time.
const BACKOFF_MAX: Duration = Duration::from_secs(120);

/// What is known of a cache from asking it.
struct Known {
    usual: Usual,
    backoff: Backoff,
    left_alone_until: Option<Instant>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            usual: Usual::default(),
            backoff: Backoff::new(BACKOFF_MIN, BACKOFF_MAX),
            left_alone_until: None,
        }
    }
}

/// How a request to a cache ended.
enum End {
    Answered,
    /// Others had given all of it before.
    Beaten,
    Failed(TransferError),
    TooSlow,
}

/// Connections to caches, and how these have answered.
pub struct Caches {
    directory: Arc<dyn CacheDirectory>,
    pool: TransferPool,
    known: Mutex<HashMap<InstanceId, Known>>,
}

impl Caches {
    /// Asks the caches of `directory` over `pool`.
    pub fn new(directory: Arc<dyn CacheDirectory>, pool: TransferPool) -> Self {
        Self { directory, pool, known: Mutex::default() }
    }

    /// The caches that are there and are not left alone after a failure.
    fn usable(&self) -> Vec<Cache> {
        let caches = self.directory.caches();
        let now = Instant::now();
        let mut known = self.known.lock();
        // Those that are gone are forgotten.
        known.retain(|instance, _| caches.iter().any(|cache| cache.instance == *instance));
        let is_usable = |cache: &Cache| {
            known
                .get(&cache.instance)
                .and_then(|known| known.left_alone_until)
                .is_none_or(|until| until <= now)
        };
        caches.into_iter().filter(is_usable).collect()
    }

    fn patience(&self, cache: InstanceId, pieces: usize) -> Duration {
        self.known.lock().entry(cache).or_default().usual.patience(pieces)
    }

    fn answered(&self, cache: InstanceId, took: Duration, pieces: usize) {
        let mut known = self.known.lock();
        let known = known.entry(cache).or_default();
        known.usual.observe(took, pieces);
        known.backoff.reset();
        known.left_alone_until = None;
    }

    /// It is left alone, longer after each failure in a row; those that failed together do not come back together.
    fn failed(&self, cache: InstanceId) {
        let mut known = self.known.lock();
        let known = known.entry(cache).or_default();
        // Requests that fail together are one failure.
        if known.left_alone_until.is_none_or(|until| until <= Instant::now()) {
            known.left_alone_until = Some(Instant::now() + known.backoff.next_delay());
        }
    }

    /// Asks one cache; what it has goes to `fetch`.
    async fn ask(&self, cache: &Cache, item: ItemType, pieces: &[PieceIndex], fetch: &Fetch<'_>) {
        let from: Arc<str> = format!("cache {} at {}", cache.instance, cache.address).into();
        let batches: Vec<_> =
            pieces.chunks(BATCH).map(|batch| self.ask_batch(cache, item, batch, fetch, &from)).collect();
        let mut ends = futures::stream::iter(batches).buffer_unordered(BATCHES_IN_FLIGHT);
        while let Some(end) = ends.next().await {
            match end {
                End::Answered => continue,
                End::Beaten => {
                    tracing::debug!(%from, "A cache is slower than others; left alone for a while")
                }
                End::Failed(error) => tracing::warn!(%from, "A cache does not give pieces: {error}"),
                End::TooSlow => tracing::warn!(%from, "A cache is too slow"),
            }
            return self.failed(cache.instance);
        }
    }

    async fn ask_batch(
        &self,
        cache: &Cache,
        item: ItemType,
        batch: &[PieceIndex],
        fetch: &Fetch<'_>,
        from: &Arc<str>,
    ) -> End {
        let asked = Instant::now();
        let asking = async {
            let mut connection = self.pool.get(cache.address).await?;
            let mut pieces = connection.fetch_pieces(item, batch);
            let mut buffer = ItemBuffer::zeroed(item);
            while let Some((index, outcome)) = pieces.next(buffer.as_bytes_mut()).await? {
                if let FetchOutcome::Found(_) = outcome {
                    let piece = std::mem::replace(&mut buffer, ItemBuffer::zeroed(item));
                    fetch.put(index, piece.into_input(), from, asked);
                }
            }
            Ok(())
        };
        let slowest = Duration::from_secs((batch.len() * item.size()) as u64 / BYTES_PER_SECOND_MIN + 1);
        // Others are asked long before this one is given up.
        let patience = self.patience(cache.instance, batch.len()).min(slowest / 2);
        let beaten = async {
            tokio::time::sleep(patience).await;
            fetch.are_late(batch);
            fetch.until_good(batch).await;
        };
        let end = tokio::select! {
            answer = asking => answer.map_or_else(End::Failed, |()| End::Answered),
            () = beaten => End::Beaten,
            () = tokio::time::sleep(slowest) => End::TooSlow,
        };
        if matches!(end, End::Answered) {
            self.answered(cache.instance, asked.elapsed(), batch.len());
        }
        end
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

    fn is_quick(&self) -> bool {
        true
    }

    async fn fetch(&self, fetch: &Fetch<'_>) {
        let rounds = self.selection.rounds(&self.caches.usable(), &fetch.missing());
        for round in rounds {
            let missing = fetch.missing();
            if missing.is_empty() {
                return;
            }
            let asked = round.into_iter().map(|(cache, mut pieces)| {
                pieces.retain(|index| missing.contains(index) && fetch.ask(cache.instance, *index));
                let item = if cache.holds == self.form { self.form } else { ItemType::Piece };
                async move { self.caches.ask(&cache, item, &pieces, fetch).await }
            });
            join_all(asked).await;
        }
    }
}
