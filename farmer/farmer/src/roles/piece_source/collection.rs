//! What is wanted and what of it has arrived.

use crate::roles::piece_source::round::Round;
use cluster::contract::InstanceId;
use farming::encoding::PieceInput;
use parking_lot::Mutex;
use primitives::PieceIndex;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

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

/// A piece that is good is nothing else; one that is being checked may have arrived from someone else meanwhile.
#[derive(Default)]
struct Arrived {
    unchecked: HashMap<PieceIndex, Arrival>,
    checking: HashSet<PieceIndex>,
    good: HashMap<PieceIndex, PieceInput>,
}

impl Arrived {
    fn has(&self, index: PieceIndex) -> bool {
        self.good.contains_key(&index)
            || self.unchecked.contains_key(&index)
            || self.checking.contains(&index)
    }
}

/// Pieces that are wanted and those that have arrived.
pub struct Collection {
    wanted: BTreeSet<PieceIndex>,
    arrived: Mutex<Arrived>,
    found_good: Notify,
}

impl Collection {
    /// Nothing of `wanted` has arrived yet.
    pub fn new(wanted: BTreeSet<PieceIndex>) -> Self {
        Self { wanted, arrived: Mutex::default(), found_good: Notify::new() }
    }

    /// Enters a piece that was asked for at `asked`; false for one that nobody wants or that is there already. One that is
    /// just being checked is kept: it may turn out to be the better one.
    fn put(&self, index: PieceIndex, piece: PieceInput, from: &Arc<str>, asked: Instant) -> bool {
        let mut arrived = self.arrived.lock();
        let is_news = self.wanted.contains(&index)
            && !arrived.good.contains_key(&index)
            && !arrived.unchecked.contains_key(&index);
        if is_news {
            let arrival = Arrival { index, piece, from: Arc::clone(from), took: asked.elapsed() };
            arrived.unchecked.insert(index, arrival);
        }
        is_news
    }

    /// Enters a piece that has been checked elsewhere.
    pub(super) fn put_good(&self, index: PieceIndex, piece: PieceInput) {
        self.arrived.lock().good.insert(index, piece);
        self.found_good.notify_waiters();
    }

    /// Pieces that have not arrived.
    pub fn missing(&self) -> BTreeSet<PieceIndex> {
        let arrived = self.arrived.lock();
        self.wanted.iter().filter(|index| !arrived.has(**index)).copied().collect()
    }

    /// Those of `pieces` that have not arrived.
    pub(super) fn missing_of(&self, pieces: &BTreeSet<PieceIndex>) -> BTreeSet<PieceIndex> {
        let arrived = self.arrived.lock();
        pieces.iter().filter(|index| !arrived.has(**index)).copied().collect()
    }

    /// Number of pieces that have arrived.
    pub fn len(&self) -> usize {
        let arrived = self.arrived.lock();
        self.wanted.iter().filter(|index| arrived.has(**index)).count()
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

    /// Whether all of these were found good.
    pub(super) fn are_good<'a>(&self, pieces: impl IntoIterator<Item = &'a PieceIndex>) -> bool {
        let arrived = self.arrived.lock();
        pieces.into_iter().all(|index| arrived.good.contains_key(index))
    }

    /// Waits until all of these were found good.
    async fn until_good(&self, pieces: &[PieceIndex]) {
        loop {
            let mut changed = std::pin::pin!(self.found_good.notified());
            changed.as_mut().enable();
            if self.are_good(pieces) {
                return;
            }
            changed.await;
        }
    }

    /// Takes out what has not been checked.
    pub(super) fn take_unchecked(&self) -> (Checking<'_>, Vec<Arrival>) {
        let mut arrived = self.arrived.lock();
        let Arrived { unchecked, checking, .. } = &mut *arrived;
        let arrivals: Vec<Arrival> =
            unchecked.extract_if(|index, _| !checking.contains(index)).map(|(_, arrival)| arrival).collect();
        let indices: Vec<PieceIndex> = arrivals.iter().map(|arrival| arrival.index).collect();
        checking.extend(&indices);
        (Checking { collection: self, indices }, arrivals)
    }
}

/// Pieces that were taken out to be checked; what is not given back by [`Self::end`] counts as never arrived.
pub(super) struct Checking<'a> {
    collection: &'a Collection,
    indices: Vec<PieceIndex>,
}

impl Checking<'_> {
    /// Enters what has been found good, or again what could not be checked.
    pub(super) fn end(self, checked: Result<Vec<Arrival>, Vec<Arrival>>) {
        let mut arrived = self.collection.arrived.lock();
        match checked {
            Ok(good) => {
                for Arrival { index, piece, .. } in good {
                    arrived.unchecked.remove(&index);
                    arrived.good.insert(index, piece);
                }
            }
            Err(unchecked) => {
                arrived.unchecked.extend(unchecked.into_iter().map(|arrival| (arrival.index, arrival)));
            }
        }
    }
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        let mut arrived = self.collection.arrived.lock();
        self.indices.iter().for_each(|index| {
            arrived.checking.remove(index);
        });
        drop(arrived);
        self.collection.found_good.notify_waiters();
    }
}

/// Some pieces of a collection, asked of one source after the other.
pub struct Fetch<'a> {
    collection: &'a Collection,
    round: &'a Round,
    pieces: BTreeSet<PieceIndex>,
    given: AtomicUsize,
}

impl<'a> Fetch<'a> {
    /// Nothing has been given yet.
    pub fn new(collection: &'a Collection, round: &'a Round, pieces: BTreeSet<PieceIndex>) -> Self {
        Self { collection, round, pieces, given: AtomicUsize::new(0) }
    }

    /// What is asked for and has not arrived.
    pub fn missing(&self) -> BTreeSet<PieceIndex> {
        self.collection.missing_of(&self.pieces)
    }

    /// Whether everything that is asked for was found good.
    pub(super) fn is_done(&self) -> bool {
        self.collection.are_good(&self.pieces)
    }

    /// Enters a piece that was asked for at `asked`; one that nobody wants or that is there already is dropped.
    pub fn put(&self, index: PieceIndex, piece: impl Into<PieceInput>, from: &Arc<str>, asked: Instant) {
        if self.collection.put(index, piece.into(), from, asked) {
            self.given.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many pieces have come of it.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    /// Notes that `cache` is asked for a piece; false when it has been asked for it in this round already.
    pub(super) fn ask(&self, cache: InstanceId, index: PieceIndex) -> bool {
        self.round.ask(cache, index)
    }

    /// Says that these should be there by now: others are asked for them, too.
    pub(super) fn are_late(&self, pieces: &[PieceIndex]) {
        self.round.add_late(pieces);
    }

    /// Waits until all of these were found good, whoever gave them.
    pub(super) async fn until_good(&self, pieces: &[PieceIndex]) {
        self.collection.until_good(pieces).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use primitives::Piece;

    #[test]
    fn what_comes_while_another_is_checked_takes_its_place_if_that_is_bad() {
        let collection = Collection::new([PieceIndex(1)].into());
        let put =
            |from: &str| collection.put(PieceIndex(1), Piece::zeroed().into(), &from.into(), Instant::now());
        assert!(put("liar") && !put("another"));
        let (checking, arrivals) = collection.take_unchecked();
        assert_eq!(&*arrivals[0].from, "liar");
        assert!(collection.missing().is_empty() && put("honest"));
        assert!(collection.take_unchecked().1.is_empty(), "one at a time");
        checking.end(Ok(Vec::new()));
        let (checking, arrivals) = collection.take_unchecked();
        assert_eq!(&*arrivals[0].from, "honest");
        // A check that is broken off has not been.
        drop(checking);
        assert_eq!(collection.missing().len(), 1);
        assert!(put("honest"));
        let (checking, arrivals) = collection.take_unchecked();
        assert!(put("late"));
        checking.end(Ok(arrivals));
        assert!(collection.is_complete() && collection.take_unchecked().1.is_empty() && !put("later"));
        assert_eq!(collection.len(), 1);
    }
}
