//! One request for a piece that several sectors want at the same time.

use farming::encoding::PieceInput;
use parking_lot::Mutex;
use primitives::PieceIndex;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Who fetches a piece and who waits for it.
struct Flight {
    claim: u64,
    waiting: Vec<oneshot::Sender<PieceInput>>,
}

/// Pieces that are being fetched in this process; cheap to clone.
#[derive(Clone, Default)]
pub struct Flights {
    flights: Arc<Mutex<HashMap<PieceIndex, Flight>>>,
    claims: Arc<AtomicU64>,
}

/// A piece that someone else fetches: comes as soon as it is good, or not at all.
pub(super) type Awaited = (PieceIndex, oneshot::Receiver<PieceInput>);

impl Flights {
    /// Makes the caller the one who fetches those of `pieces` that nobody fetches; the others are to be awaited.
    pub(super) fn claim(&self, pieces: BTreeSet<PieceIndex>) -> (Claim, Vec<Awaited>) {
        let claim = self.claims.fetch_add(1, Ordering::Relaxed);
        let mut own = BTreeSet::new();
        let mut awaited = Vec::new();
        let mut flights = self.flights.lock();
        for index in pieces {
            match flights.entry(index) {
                Entry::Vacant(vacant) => {
                    vacant.insert(Flight { claim, waiting: Vec::new() });
                    own.insert(index);
                }
                Entry::Occupied(mut flight) => {
                    let (sender, receiver) = oneshot::channel();
                    flight.get_mut().waiting.push(sender);
                    awaited.push((index, receiver));
                }
            }
        }
        (Claim { flights: self.clone(), claim, pieces: own }, awaited)
    }
}

/// The duty to fetch pieces; whoever still waits for one when it is dropped has to fetch it.
pub(super) struct Claim {
    flights: Flights,
    claim: u64,
    pieces: BTreeSet<PieceIndex>,
}

impl Claim {
    /// What is to be fetched.
    pub(super) fn pieces(&self) -> &BTreeSet<PieceIndex> {
        &self.pieces
    }

    /// Gives a good piece to those who wait for it. From now on it counts as not being fetched.
    pub(super) fn land(&self, index: PieceIndex, piece: &PieceInput) {
        for waiting in self.take(index).into_iter().flat_map(|flight| flight.waiting) {
            // Who has been cancelled meanwhile does not wait.
            let _ = waiting.send(piece.clone());
        }
    }

    /// Somebody else may have claimed a piece that has landed.
    fn take(&self, index: PieceIndex) -> Option<Flight> {
        let mut flights = self.flights.flights.lock();
        let is_own = flights.get(&index).is_some_and(|flight| flight.claim == self.claim);
        is_own.then(|| flights.remove(&index)).flatten()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pieces.iter().for_each(|index| drop(self.take(*index)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use primitives::Piece;

    fn pieces(indices: &[u64]) -> BTreeSet<PieceIndex> {
        indices.iter().copied().map(PieceIndex).collect()
    }

    #[tokio::test]
    async fn who_comes_second_waits_and_takes_over() {
        let flights = Flights::default();
        let (first, awaited) = flights.claim(pieces(&[1, 2]));
        assert!(first.pieces() == &pieces(&[1, 2]) && awaited.is_empty());
        let (second, awaited) = flights.claim(pieces(&[1, 2, 3]));
        assert_eq!(second.pieces(), &pieces(&[3]));
        let (_, mut awaited): (Vec<_>, Vec<_>) = awaited.into_iter().unzip();
        first.land(PieceIndex(1), &Piece::zeroed().into());
        assert!(awaited.remove(0).await.is_ok());
        // What has landed may be claimed anew, and that claim outlives the first one.
        let (third, _) = flights.claim(pieces(&[1]));
        drop(first);
        assert!(awaited.remove(0).await.is_err());
        let (fourth, awaited) = flights.claim(pieces(&[1, 2, 3]));
        assert_eq!((fourth.pieces(), awaited.len()), (&pieces(&[2]), 2));
        drop((second, third));
        assert_eq!(flights.claim(pieces(&[1, 2, 3])).0.pieces(), &pieces(&[1, 3]));
    }
}
