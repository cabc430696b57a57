//! What a benchmark of the caches sees: the sources and the check of plotting, watched.

use crate::roles::piece_source::{Arrival, Check, Fetch, PieceSources, Source};
use crate::util::latencies::Latencies;
use async_trait::async_trait;
use indicatif::ProgressBar;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one source was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// Pieces asked for.
    pub asked: u64,
    /// Pieces that it gave.
    pub given: u64,
}

/// What one cache, or another giver, gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given {
    /// Pieces.
    pub pieces: u64,
    /// Pieces among them that do not belong to the history.
    pub rejected: u64,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// From the request of a piece to its arrival.
    pub latencies: Latencies,
    /// By who gave them.
    pub givers: BTreeMap<Arc<str>, Given>,
    /// In the order in which they are asked.
    pub sources: Vec<(&'static str, Asked)>,
    /// Time spent on checking, of all sectors together.
    pub checking: Duration,
}

impl Tally {
    /// Pieces that the source asked first did not give, `first` being its place.
    pub fn misses(&self, first: usize) -> u64 {
        self.sources.get(first).map_or(0, |(_, Asked { asked, given })| asked - given)
    }

    /// How often a piece was asked of a source behind the first.
    pub fn retries(&self, first: usize) -> u64 {
        self.sources.iter().skip(first + 1).map(|(_, source)| source.asked).sum()
    }
}

/// Has sources and check watched; what they see goes to the tally, what arrives moves the bar.
pub fn watch(pieces: PieceSources, tally: &Arc<Mutex<Tally>>, bar: &ProgressBar) -> PieceSources {
    let PieceSources { sources, check, hedging, flights } = pieces;
    tally.lock().sources = sources.iter().map(|source| (source.name(), Asked::default())).collect();
    let watched = |(place, inner)| -> Box<dyn Source> {
        Box::new(Watched { inner, place, tally: Arc::clone(tally), bar: bar.clone() })
    };
    let sources = sources.into_iter().enumerate().map(watched).collect();
    let check = Arc::new(WatchedCheck { inner: check, tally: Arc::clone(tally) });
    PieceSources { sources, check, hedging, flights }
}

struct Watched {
    inner: Box<dyn Source>,
    place: usize,
    tally: Arc<Mutex<Tally>>,
    bar: ProgressBar,
}

#[async_trait]
impl Source for Watched {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn is_quick(&self) -> bool {
        self.inner.is_quick()
    }

    async fn fetch(&self, fetch: &Fetch<'_>) {
        self.tally.lock().sources[self.place].1.asked += fetch.missing().len() as u64;
        let _given = CountGiven { watched: self, fetch, before: fetch.given() };
        self.inner.fetch(fetch).await;
    }
}

/// Counts what a source gave when it ends, or is given up because others were faster.
struct CountGiven<'a, 'b> {
    watched: &'a Watched,
    fetch: &'a Fetch<'b>,
    before: usize,
}

impl Drop for CountGiven<'_, '_> {
    fn drop(&mut self) {
        let given = (self.fetch.given() - self.before) as u64;
        self.watched.bar.inc(given);
        self.watched.tally.lock().sources[self.watched.place].1.given += given;
    }
}

struct WatchedCheck {
    inner: Arc<dyn Check>,
    tally: Arc<Mutex<Tally>>,
}

#[async_trait]
impl Check for WatchedCheck {
    async fn check(&self, arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Vec<Arrival>> {
        let givers: Vec<Arc<str>> = arrivals.iter().map(|arrival| Arc::clone(&arrival.from)).collect();
        let took: Vec<Duration> = arrivals.iter().map(|arrival| arrival.took).collect();
        let started = Instant::now();
        let checked = self.inner.check(arrivals).await;
        let mut tally = self.tally.lock();
        tally.checking += started.elapsed();
        took.into_iter().for_each(|time| tally.latencies.record(time));
        for giver in givers {
            let given = tally.givers.entry(giver).or_default();
            given.pieces += 1;
            given.rejected += 1;
        }
        match &checked {
            Ok(kept) | Err(kept) => {
                for arrival in kept {
                    tally.givers.entry(Arc::clone(&arrival.from)).or_default().rejected -= 1;
                }
            }
        }
        checked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::items;
    use crate::roles::piece_source::flights::Flights;
    use crate::roles::piece_source::hedging::Hedging;
    use crate::roles::piece_source::{Collection, FetchMetrics};
    use primitives::{Piece, PieceIndex};

    /// Gives the pieces below a number; the first byte of those of a liar is set.
    struct Gives {
        name: &'static str,
        below: u64,
        lies: bool,
    }

    #[async_trait]
    impl Source for Gives {
        fn name(&self) -> &'static str {
            self.name
        }

        async fn fetch(&self, fetch: &Fetch<'_>) {
            for index in fetch.missing().into_iter().filter(|index| index.0 < self.below) {
                let mut piece = Piece::zeroed();
                piece.as_bytes_mut()[0] = u8::from(self.lies);
                fetch.put(index, piece, &self.name.into(), Instant::now());
            }
        }
    }

    struct FirstByte;

    #[async_trait]
    impl Check for FirstByte {
        async fn check(&self, mut arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Vec<Arrival>> {
            arrivals.retain(|arrival| items::into_piece(arrival.piece.clone()).as_bytes()[0] == 0);
            Ok(arrivals)
        }
    }

    #[tokio::test]
    async fn misses_retries_and_lies_are_counted() {
        let sources: Vec<Box<dyn Source>> = vec![
            Box::new(Gives { name: "owners", below: 6, lies: false }),
            Box::new(Gives { name: "liar", below: 8, lies: true }),
            Box::new(Gives { name: "copies", below: 9, lies: false }),
        ];
        let tally = Arc::default();
        let hedging = Arc::new(Hedging::new(FetchMetrics::default()));
        let pieces =
            PieceSources { sources, check: Arc::new(FirstByte), hedging, flights: Flights::default() };
        let pieces = watch(pieces, &tally, &ProgressBar::hidden());
        let collection = Collection::new((0..10).map(PieceIndex).collect());
        assert!(!pieces.ask_around(&collection).await);
        let tally = tally.lock().clone();
        let asked = |asked, given| Asked { asked, given };
        assert_eq!(tally.sources, [("owners", asked(10, 6)), ("liar", asked(4, 2)), ("copies", asked(4, 3))]);
        assert_eq!((tally.misses(0), tally.retries(0)), (4, 8));
        assert_eq!((tally.misses(1), tally.retries(1)), (2, 4));
        assert_eq!((tally.misses(9), tally.retries(9)), (0, 0));
        assert_eq!(tally.givers["liar"], Given { pieces: 2, rejected: 2 });
        assert_eq!(tally.givers["copies"], Given { pieces: 3, rejected: 0 });
        assert_eq!(tally.latencies.count(), 11);
    }
}
