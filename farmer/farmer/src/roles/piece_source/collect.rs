//! Fetches a set of pieces from sources in their order, again and again until all are there, and keeps what arrived.

use async_trait::async_trait;
use farming::encoding::PieceInput;
use parking_lot::Mutex;
use primitives::PieceIndex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// First wait before the sources are asked again for what is missing.
const RETRY_MIN: Duration = Duration::from_secs(15);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// A piece that has arrived and has not been checked.
pub struct Arrival {
    /// Its index.
    pub index: PieceIndex,
    /// The piece, in the form in which it came.
    pub piece: PieceInput,
    /// Who gave it, for the log.
    pub from: Arc<str>,
    /// From the request that it came with to its arrival.
    pub took: Duration,
}

#[derive(Default)]
struct Arrived {
    unchecked: HashMap<PieceIndex, Arrival>,
    good: HashMap<PieceIndex, PieceInput>,
}

/// Pieces that are wanted and those that have arrived.
pub struct Collection {
    wanted: BTreeSet<PieceIndex>,
    arrived: Mutex<Arrived>,
}

impl Collection {
    /// Nothing of `wanted` has arrived yet.
    pub fn new(wanted: BTreeSet<PieceIndex>) -> Self {
        Self { wanted, arrived: Mutex::default() }
    }

    /// Enters a piece that was asked for at `asked`; one that nobody wants or that is there already is dropped.
    pub fn put(&self, index: PieceIndex, piece: PieceInput, from: &Arc<str>, asked: Instant) {
        let mut arrived = self.arrived.lock();
        if self.wanted.contains(&index) && !arrived.good.contains_key(&index) {
            let arrival = Arrival { index, piece, from: Arc::clone(from), took: asked.elapsed() };
            arrived.unchecked.entry(index).or_insert(arrival);
        }
    }

    /// Pieces that have not arrived.
    pub fn missing(&self) -> BTreeSet<PieceIndex> {
        let arrived = self.arrived.lock();
        let missing =
            |index: &&PieceIndex| !arrived.good.contains_key(index) && !arrived.unchecked.contains_key(index);
        self.wanted.iter().filter(missing).copied().collect()
    }

    /// Number of pieces that have arrived.
    pub fn len(&self) -> usize {
        let arrived = self.arrived.lock();
        arrived.good.len() + arrived.unchecked.len()
    }

    /// Whether nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything has arrived and was found good.
    pub fn is_complete(&self) -> bool {
        self.arrived.lock().good.len() == self.wanted.len()
    }

    /// What has arrived and was found good.
    pub fn into_pieces(self) -> HashMap<PieceIndex, PieceInput> {
        self.arrived.into_inner().good
    }

    /// Takes out what has not been checked.
    fn take_unchecked(&self) -> Vec<Arrival> {
        self.arrived.lock().unchecked.drain().map(|(_, arrival)| arrival).collect()
    }

    /// Enters what has been found good, and again what could not be checked.
    fn put_checked(&self, checked: Result<Vec<Arrival>, Vec<Arrival>>) {
        let mut arrived = self.arrived.lock();
        match checked {
            Ok(good) => arrived.good.extend(good.into_iter().map(|arrival| (arrival.index, arrival.piece))),
            Err(unchecked) => {
                arrived.unchecked.extend(unchecked.into_iter().map(|arrival| (arrival.index, arrival)));
            }
        }
    }
}

/// Tells good pieces from bad ones.
#[async_trait]
pub trait Check: Send + Sync {
    /// The good ones among `arrivals`; says in the log who gave the others. All are given back as an error when that
    /// cannot be told now.
    async fn check(&self, arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Vec<Arrival>>;
}

/// One kind of source. What it gives need not be good.
#[async_trait]
pub trait Source: Send + Sync {
    /// Name for the log.
    fn name(&self) -> &'static str;

    /// Puts what it has of the missing pieces into the collection, each as it arrives. Ends by itself in bounded time; may
    /// be dropped at any time.
    async fn fetch(&self, collection: &Collection);
}

/// Fetches until everything is there and good; false when it was cancelled before.
pub async fn collect(
    sources: &[Box<dyn Source>],
    check: &dyn Check,
    collection: &Collection,
    cancelled: &CancellationToken,
) -> bool {
    cancelled.run_until_cancelled(collect_all(sources, check, collection)).await.is_some()
}

/// One round over all sources; true when everything is there and good.
pub async fn ask_around(sources: &[Box<dyn Source>], check: &dyn Check, collection: &Collection) -> bool {
    for source in sources {
        let had = collection.len();
        source.fetch(collection).await;
        let pieces = collection.len() - had;
        tracing::debug!(
            source = source.name(),
            pieces,
            missing = collection.missing().len(),
            "Pieces fetched"
        );
        let unchecked = collection.take_unchecked();
        if !unchecked.is_empty() {
            collection.put_checked(check.check(unchecked).await);
        }
        if collection.is_complete() {
            return true;
        }
    }
    false
}

async fn collect_all(sources: &[Box<dyn Source>], check: &dyn Check, collection: &Collection) {
    let mut wait = RETRY_MIN;
    loop {
        let before = collection.len();
        if collection.wanted.is_empty() || ask_around(sources, check, collection).await {
            return;
        }
        if collection.len() > before {
            wait = RETRY_MIN;
        }
        let missing = collection.missing();
        tracing::warn!(
            missing = missing.len(),
            first = ?missing.first(),
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
    use crate::roles::items;
    use primitives::Piece;
    use tokio::time::Instant;

    /// Has some pieces, and others from some round on; remembers when it was asked.
    struct Scripted {
        has: Vec<(u64, usize)>,
        lies: bool,
        asked: Mutex<Vec<(Instant, Vec<u64>)>>,
    }

    impl Scripted {
        fn new(has: &[(u64, usize)], lies: bool) -> Arc<Self> {
            Arc::new(Self { has: has.to_vec(), lies, asked: Mutex::default() })
        }
    }

    #[async_trait]
    impl Source for Arc<Scripted> {
        fn name(&self) -> &'static str {
            "scripted"
        }

        async fn fetch(&self, collection: &Collection) {
            let missing: Vec<u64> = collection.missing().iter().map(|index| index.0).collect();
            let round = self.asked.lock().len();
            self.asked.lock().push((Instant::now(), missing.clone()));
            for (index, from_round) in &self.has {
                if missing.contains(index) && round >= *from_round {
                    let mut piece = Piece::zeroed();
                    piece.as_bytes_mut()[0] = u8::from(self.lies);
                    let asked = super::Instant::now();
                    collection.put(PieceIndex(*index), piece.into(), &"scripted".into(), asked);
                }
            }
        }
    }

    fn first_byte(piece: &PieceInput) -> u8 {
        items::into_piece(piece.clone()).as_bytes()[0]
    }

    /// Good pieces begin with a zero.
    struct FirstByte;

    #[async_trait]
    impl Check for FirstByte {
        async fn check(&self, mut arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Vec<Arrival>> {
            arrivals.retain(|arrival| first_byte(&arrival.piece) == 0);
            Ok(arrivals)
        }
    }

    fn boxed(sources: &[&Arc<Scripted>]) -> Vec<Box<dyn Source>> {
        sources.iter().map(|source| Box::new(Arc::clone(source)) as Box<dyn Source>).collect()
    }

    fn wanted(indices: &[u64]) -> Collection {
        Collection::new(indices.iter().map(|index| PieceIndex(*index)).collect())
    }

    fn asked(source: &Scripted) -> Vec<Vec<u64>> {
        source.asked.lock().iter().map(|(_, missing)| missing.clone()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_source_is_asked_for_what_those_before_it_lack() {
        let (first, second, third) = (
            Scripted::new(&[(1, 0), (9, 0)], false),
            Scripted::new(&[(1, 0), (2, 0), (3, 0)], false),
            Scripted::new(&[], false),
        );
        let collection = wanted(&[1, 2, 3]);
        assert!(
            collect(&boxed(&[&first, &second, &third]), &FirstByte, &collection, &CancellationToken::new())
                .await
        );
        assert_eq!(asked(&first), [[1, 2, 3]]);
        assert_eq!(asked(&second), [[2, 3]]);
        assert!(asked(&third).is_empty());
        assert_eq!(collection.into_pieces().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn bad_pieces_are_had_from_the_next_source() {
        let liar = Scripted::new(&[(1, 0), (2, 0)], true);
        let honest = Scripted::new(&[(1, 0), (2, 0)], false);
        let collection = wanted(&[1, 2]);
        assert!(collect(&boxed(&[&liar, &honest]), &FirstByte, &collection, &CancellationToken::new()).await);
        assert_eq!(asked(&honest), [[1, 2]]);
        assert!(collection.into_pieces().values().all(|piece| first_byte(piece) == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_and_what_arrived_is_kept() {
        let source = Scripted::new(&[(1, 0), (2, 2), (3, 9)], false);
        let collection = wanted(&[1, 2, 3]);
        assert!(collect(&boxed(&[&source]), &FirstByte, &collection, &CancellationToken::new()).await);
        let expected: Vec<Vec<u64>> = [vec![vec![1, 2, 3]], vec![vec![2, 3]; 2], vec![vec![3]; 7]].concat();
        assert_eq!(asked(&source), expected);
        let times = source.asked.lock();
        let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect();
        // Something arrived in rounds 0 and 2: the waits begin anew.
        assert_eq!(waits, [15, 30, 15, 30, 60, 120, 240, 480, 600]);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_the_wait() {
        let source = Scripted::new(&[], false);
        let cancelled = CancellationToken::new();
        let later = cancelled.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            later.cancel();
        });
        let start = Instant::now();
        assert!(!collect(&boxed(&[&source]), &FirstByte, &wanted(&[7]), &cancelled).await);
        assert_eq!(start.elapsed(), Duration::from_secs(20));
    }
}
