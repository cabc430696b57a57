//! Fetches a set of pieces from sources in their order, again and again until all are there, and keeps what arrived.

use async_trait::async_trait;
use parking_lot::Mutex;
use primitives::{Piece, PieceIndex};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// First wait before the sources are asked again for what is missing.
const RETRY_MIN: Duration = Duration::from_secs(15);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// Pieces that are wanted and those that have arrived.
#[derive(Debug)]
pub struct Collection {
    wanted: BTreeSet<PieceIndex>,
    found: Mutex<HashMap<PieceIndex, Piece>>,
}

impl Collection {
    /// Nothing of `wanted` has arrived yet.
    pub fn new(wanted: BTreeSet<PieceIndex>) -> Self {
        Self { wanted, found: Mutex::default() }
    }

    /// Enters a piece; one that nobody wants or that is there already is dropped.
    pub fn put(&self, index: PieceIndex, piece: Piece) {
        if self.wanted.contains(&index) {
            self.found.lock().entry(index).or_insert(piece);
        }
    }

    /// Pieces that have not arrived.
    pub fn missing(&self) -> BTreeSet<PieceIndex> {
        let found = self.found.lock();
        self.wanted.iter().filter(|index| !found.contains_key(index)).copied().collect()
    }

    /// Number of pieces that have arrived.
    pub fn len(&self) -> usize {
        self.found.lock().len()
    }

    /// Whether nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything has arrived.
    pub fn is_complete(&self) -> bool {
        self.len() == self.wanted.len()
    }

    /// What has arrived.
    pub fn into_pieces(self) -> HashMap<PieceIndex, Piece> {
        self.found.into_inner()
    }

    /// A copy of one piece that has arrived.
    pub fn get(&self, index: PieceIndex) -> Option<Piece> {
        self.found.lock().get(&index).cloned()
    }
}

/// One kind of source. What it gives has been checked.
#[async_trait]
pub trait Source: Send + Sync {
    /// Name for the log.
    fn name(&self) -> &'static str;

    /// Puts what it has of the missing pieces into the collection, each as it arrives. Ends by itself in bounded time; may
    /// be dropped at any time.
    async fn fetch(&self, collection: &Collection);
}

/// Fetches until everything is there; false when it was cancelled before.
pub async fn collect(
    sources: &[&dyn Source],
    collection: &Collection,
    cancelled: &CancellationToken,
) -> bool {
    cancelled.run_until_cancelled(collect_all(sources, collection)).await.is_some()
}

async fn collect_all(sources: &[&dyn Source], collection: &Collection) {
    let mut wait = RETRY_MIN;
    loop {
        let before = collection.len();
        for source in sources {
            if collection.is_complete() {
                return;
            }
            let had = collection.len();
            source.fetch(collection).await;
            let pieces = collection.len() - had;
            tracing::debug!(
                source = source.name(),
                pieces,
                missing = collection.missing().len(),
                "Pieces fetched"
            );
        }
        if collection.is_complete() {
            return;
        }
        if collection.len() > before {
            wait = RETRY_MIN;
        }
        let missing = collection.missing();
        let first = missing.first().expect("the collection is not complete");
        tracing::warn!(
            missing = missing.len(),
            %first,
            retry_in_s = wait.as_secs(),
            "No source has some of the pieces of a sector; those that arrived are kept"
        );
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    /// Has some pieces, and others from some round on; remembers when it was asked.
    struct Scripted {
        has: Vec<(u64, usize)>,
        asked: Mutex<Vec<(Instant, Vec<u64>)>>,
    }

    impl Scripted {
        fn new(has: &[(u64, usize)]) -> Self {
            Self { has: has.to_vec(), asked: Mutex::default() }
        }
    }

    #[async_trait]
    impl Source for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        async fn fetch(&self, collection: &Collection) {
            let missing: Vec<u64> = collection.missing().iter().map(|index| index.0).collect();
            let round = self.asked.lock().len();
            self.asked.lock().push((Instant::now(), missing.clone()));
            for (index, from_round) in &self.has {
                if missing.contains(index) && round >= *from_round {
                    collection.put(PieceIndex(*index), Piece::zeroed());
                }
            }
        }
    }

    fn wanted(indices: &[u64]) -> Collection {
        Collection::new(indices.iter().map(|index| PieceIndex(*index)).collect())
    }

    fn asked(source: &Scripted) -> Vec<Vec<u64>> {
        source.asked.lock().iter().map(|(_, missing)| missing.clone()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_source_is_asked_for_what_those_before_it_lack() {
        let (first, second, third) =
            (Scripted::new(&[(1, 0), (9, 0)]), Scripted::new(&[(1, 0), (2, 0), (3, 0)]), Scripted::new(&[]));
        let collection = wanted(&[1, 2, 3]);
        assert!(collect(&[&first, &second, &third], &collection, &CancellationToken::new()).await);
        assert_eq!(asked(&first), [[1, 2, 3]]);
        assert_eq!(asked(&second), [[2, 3]]);
        assert!(asked(&third).is_empty());
        assert_eq!(collection.into_pieces().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_and_what_arrived_is_kept() {
        let source = Scripted::new(&[(1, 0), (2, 2), (3, 9)]);
        let collection = wanted(&[1, 2, 3]);
        assert!(collect(&[&source], &collection, &CancellationToken::new()).await);
        let expected: Vec<Vec<u64>> = [vec![vec![1, 2, 3]], vec![vec![2, 3]; 2], vec![vec![3]; 7]].concat();
        assert_eq!(asked(&source), expected);
        let times = source.asked.lock();
        let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect();
        // Something arrived in rounds 0 and 2: the waits begin anew.
        assert_eq!(waits, [15, 30, 15, 30, 60, 120, 240, 480, 600]);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_the_wait() {
        let source = Scripted::new(&[]);
        let cancelled = CancellationToken::new();
        let later = cancelled.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            later.cancel();
        });
        let start = Instant::now();
        assert!(!collect(&[&source], &wanted(&[7]), &cancelled).await);
        assert_eq!(start.elapsed(), Duration::from_secs(20));
    }
}
