//! What the benchmark says in the end.

use super::tally::Tally;
use crate::cli::CacheBenchmarkArguments;
use crate::roles::piece_source::FetchMetrics;
use crate::roles::{Error, items};
use crate::util::output::{bytes, per_second, rounded};
use farming::encoding::PieceInput;
use piece_store::ItemKind;
use primitives::PieceIndex;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::time::Duration;

/// One round over the sectors.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Epoch {
    /// Pieces that came and were good.
    pub(super) pieces: u64,
    /// Those of them that came with their parity.
    pub(super) split_parity: u64,
    /// Bytes of all of them.
    pub(super) bytes: u64,
    /// Wall time.
    pub(super) time: Duration,
}

impl Epoch {
    /// What was fetched, without the time.
    pub(super) fn of(pieces: &HashMap<PieceIndex, PieceInput>) -> Self {
        let split = |piece: &&PieceInput| matches!(piece, PieceInput::SplitParity(_));
        Self {
            pieces: pieces.len() as u64,
            split_parity: pieces.values().filter(split).count() as u64,
            bytes: pieces.values().map(|piece| items::size(piece) as u64).sum(),
            time: Duration::ZERO,
        }
    }

    /// Adds all figures of another.
    pub(super) fn add(&mut self, other: &Self) {
        self.pieces += other.pieces;
        self.split_parity += other.split_parity;
        self.bytes += other.bytes;
        self.time += other.time;
    }

    fn pieces_per_second(&self) -> f64 {
        per_second(self.pieces as f64, self.time)
    }

    fn gigabytes_per_second(&self) -> f64 {
        per_second(self.bytes as f64 / 1e9, self.time)
    }

    fn to_json(self) -> Value {
        json!({
            "pieces": self.pieces,
            "split_parity_pieces": self.split_parity,
            "bytes": self.bytes,
            "seconds": rounded(self.time.as_secs_f64()),
            "pieces_per_second": rounded(self.pieces_per_second()),
            "gigabytes_per_second": rounded(self.gigabytes_per_second()),
        })
    }
}

/// Everything that is printed.
pub(super) struct Report<'a> {
    pub(super) arguments: &'a CacheBenchmarkArguments,
    /// Whether pieces were compared with the chain, not only with their hashes.
    pub(super) checked: bool,
    /// Place of the source that is asked first.
    pub(super) first: usize,
    pub(super) tally: Tally,
    pub(super) epochs: Vec<Epoch>,
    pub(super) fetching: FetchMetrics,
    /// Pieces that nobody had.
    pub(super) lost: BTreeSet<PieceIndex>,
}

fn milliseconds(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1000.0)
}

impl Report<'_> {
    fn total(&self) -> Epoch {
        let mut total = Epoch::default();
        self.epochs.iter().for_each(|epoch| total.add(epoch));
        total
    }

    fn arrived(&self) -> u64 {
        self.tally.givers.values().map(|given| given.pieces).sum()
    }

    fn rejected(&self) -> u64 {
        self.tally.givers.values().map(|given| given.rejected).sum()
    }

    fn share(&self, pieces: u64) -> f64 {
        rounded(pieces as f64 / self.arrived().max(1) as f64)
    }

    pub(super) fn to_json(&self) -> Value {
        let givers = self.tally.givers.iter().map(|(name, given)| {
            let share = self.share(given.pieces);
            json!({ "from": **name, "pieces": given.pieces, "share": share, "rejected": given.rejected })
        });
        let sources =
            self.tally.sources.iter().map(
                |(name, source)| json!({ "source": name, "asked": source.asked, "given": source.given }),
            );
        let latencies = &self.tally.latencies;
        let mut value = self.total().to_json();
        value["version"] = 1.into();
        value["cache_item_type"] = ItemKind::from(self.arguments.cache_item_type).name().into();
        value["sectors"] = self.arguments.sectors.get().into();
        value["epochs"] = self.epochs.iter().map(|epoch| epoch.to_json()).collect();
        value["latency_ms"] = json!({
            "p50": milliseconds(latencies.percentile(0.5)),
            "p99": milliseconds(latencies.percentile(0.99)),
            "max": milliseconds(latencies.longest()),
        });
        value["shares"] = givers.collect();
        value["sources"] = sources.collect();
        value["misses"] = self.tally.misses(self.first).into();
        value["retries"] = self.tally.retries(self.first).into();
        value["hedged"] = self.fetching.hedged.get().into();
        value["hedges_won"] = self.fetching.hedges_won.get().into();
        value["shared"] = self.fetching.shared.get().into();
        value["rejected"] = self.rejected().into();
        value["failed"] = self.lost.len().into();
        value["checked_against"] = if self.checked { "chain" } else { "hashes" }.into();
        value["checking_seconds"] = rounded(self.tally.checking.as_secs_f64()).into();
        value
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let line = |epoch: &Epoch| {
            format!(
                "{} pieces, {} with their parity, {} in {:.2} s: {:.1} pieces/s, {:.3} GB/s",
                epoch.pieces,
                epoch.split_parity,
                bytes(epoch.bytes),
                epoch.time.as_secs_f64(),
                epoch.pieces_per_second(),
                epoch.gigabytes_per_second()
            )
        };
        let mut say = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        for (number, epoch) in (1..).zip(&self.epochs) {
            say(format!("epoch {number}: {}", line(epoch)));
        }
        if self.epochs.len() > 1 {
            say(format!("all:     {}", line(&self.total())));
        }
        let latencies = &self.tally.latencies;
        say(format!(
            "a piece: p50 {} ms, p99 {} ms, at most {} ms from the request of its batch to its arrival",
            milliseconds(latencies.percentile(0.5)),
            milliseconds(latencies.percentile(0.99)),
            milliseconds(latencies.longest())
        ));
        for (name, given) in &self.tally.givers {
            let share = self.share(given.pieces) * 100.0;
            say(format!("{share:5.1} % {name}: {} pieces, {} rejected", given.pieces, given.rejected));
        }
        for (name, source) in self.tally.sources.iter().filter(|(_, source)| source.asked > 0) {
            say(format!("{name}: asked for {} pieces, gave {}", source.asked, source.given));
        }
        let FetchMetrics { hedged, hedges_won, shared } = &self.fetching;
        say(format!(
            "asked of a second cache because the first was late: {}, of which {} came from there first; fetched once for \
             several sectors: {}",
            hedged.get(),
            hedges_won.get(),
            shared.get()
        ));
        let check = if self.checked { "the chain" } else { "their hashes only" };
        say(format!(
            "misses {}, retries {}, rejected {}, failed {}; compared with {check} ({:.2} s)",
            self.tally.misses(self.first),
            self.tally.retries(self.first),
            self.rejected(),
            self.lost.len(),
            self.tally.checking.as_secs_f64()
        ));
        text
    }

    pub(super) fn verdict(&self) -> Result<(), Error> {
        match self.lost.first() {
            None => Ok(()),
            Some(first) => Err(Error::Unavailable(format!(
                "{} pieces could not be had, the first is {first}: `autonomys-farmer util ready all` shows whether the \
                 caches are filled, `autonomys-farmer util reinitialization-cache` has them filled again",
                self.lost.len()
            ))),
        }
    }
}
