//! Fetches pieces from sources in their order, again and again until all are there and good.
//!
//! What a source is late with is asked of the next one, too, a bounded share of all pieces; the first good answer counts and
//! the other request is given up. What several sectors want at the same time is fetched once.

use super::collection::{Arrival, Collection, Fetch};
use super::flights::{Awaited, Claim, Flights};
use super::hedging::Hedging;
use super::round::Round;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use primitives::PieceIndex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// First wait before the sources are asked again for what is missing.
const RETRY_MIN: Duration = Duration::from_secs(15);
/// Longest such wait.
const RETRY_MAX: Duration = Duration::from_secs(600);

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

    /// Whether it costs so little that it is also asked for what only may turn out to be missing elsewhere.
    fn is_quick(&self) -> bool {
        false
    }

    /// Gives what it has of the missing pieces, each as it arrives. Ends by itself in bounded time; may be dropped at any
    /// time.
    async fn fetch(&self, fetch: &Fetch<'_>);
}

/// Where pieces come from, and how it is known that they are good.
pub struct PieceSources {
    /// In the order in which they are asked.
    pub sources: Vec<Box<dyn Source>>,
    /// Tells good pieces from bad ones.
    pub check: Arc<dyn Check>,
    /// What may be asked twice.
    pub hedging: Arc<Hedging>,
    /// What is being fetched.
    pub flights: Flights,
}

impl PieceSources {
    /// Fetches until everything is there and good; false when it was cancelled before.
    pub async fn collect(&self, collection: &Collection, cancelled: &CancellationToken) -> bool {
        cancelled.run_until_cancelled(self.collect_all(collection)).await.is_some()
    }

    async fn collect_all(&self, collection: &Collection) {
        let mut wait = RETRY_MIN;
        loop {
            let before = collection.len();
            if self.ask_around(collection).await {
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

    /// One round over all sources; true when everything is there and good.
    pub async fn ask_around(&self, collection: &Collection) -> bool {
        // What could not be checked in the last round, for example.
        let mut wanted = collection.missing();
        loop {
            let (claim, awaited) = self.flights.claim(wanted);
            let ((), given_up) =
                tokio::join!(self.ask_sources(collection, &claim), self.wait_for_others(awaited, collection));
            drop(claim);
            if given_up.is_empty() {
                return collection.is_complete();
            }
            wanted = collection.missing_of(&given_up);
        }
    }

    /// Takes what is fetched for others; gives the pieces that they gave up on.
    async fn wait_for_others(&self, awaited: Vec<Awaited>, collection: &Collection) -> BTreeSet<PieceIndex> {
        let mut given_up = BTreeSet::new();
        for (index, piece) in awaited {
            match piece.await {
                Ok(piece) => {
                    collection.put_good(index, piece);
                    self.hedging.metrics().shared.inc();
                }
                Err(_) => {
                    given_up.insert(index);
                }
            }
        }
        given_up
    }

    async fn ask_sources(&self, collection: &Collection, claim: &Claim) {
        let round = Round::default();
        self.check_arrivals(collection, claim).await;
        for place in 0..self.sources.len() {
            if collection.are_good(claim.pieces()) {
                return;
            }
            let fetch = Fetch::new(collection, &round, collection.missing_of(claim.pieces()));
            self.fetch_hedged(place, &fetch, collection, &round, claim).await;
            tracing::debug!(
                source = self.sources[place].name(),
                pieces = fetch.given(),
                missing = fetch.missing().len(),
                "Pieces fetched"
            );
            self.check_arrivals(collection, claim).await;
        }
    }

    /// Asks one source, and others for what it is late with. Ends when that source does, or when it is not needed any more.
    async fn fetch_hedged(
        &self,
        place: usize,
        fetch: &Fetch<'_>,
        collection: &Collection,
        round: &Round,
        claim: &Claim,
    ) {
        self.hedging.asked(fetch.missing().len());
        let mut first = std::pin::pin!(self.sources[place].fetch(fetch));
        let mut has_ended = false;
        let mut hedges = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = &mut first, if !has_ended => has_ended = true,
                Some(()) = hedges.next() => {}
                pieces = round.next_hedge(collection, &self.hedging) => {
                    hedges.push(self.hedge(place, pieces, collection, round, claim));
                }
            }
            // What others were asked for is waited for: they will not be asked again in this round.
            let waits = !hedges.is_empty() && !fetch.missing().is_empty();
            if fetch.is_done() || has_ended && !waits {
                return;
            }
        }
    }

    /// Asks the source again, which knows others than those that are late, and those behind it. What comes is checked at once:
    /// only a good piece ends the wait for the one that is late.
    async fn hedge(
        &self,
        place: usize,
        pieces: BTreeSet<PieceIndex>,
        collection: &Collection,
        round: &Round,
        claim: &Claim,
    ) {
        let fetch = Fetch::new(collection, round, pieces);
        for source in self.sources[place..].iter().filter(|source| source.is_quick()) {
            source.fetch(&fetch).await;
            if fetch.missing().is_empty() {
                break;
            }
        }
        self.hedging.metrics().hedges_won.inc_by(fetch.given() as u64);
        self.check_arrivals(collection, claim).await;
    }

    async fn check_arrivals(&self, collection: &Collection, claim: &Claim) {
        let (checking, unchecked) = collection.take_unchecked();
        if unchecked.is_empty() {
            return;
        }
        let checked = self.check.check(unchecked).await;
        for Arrival { index, piece, .. } in checked.iter().flatten() {
            claim.land(*index, piece);
        }
        checking.end(checked);
    }
}

#[cfg(test)]
mod tests;
