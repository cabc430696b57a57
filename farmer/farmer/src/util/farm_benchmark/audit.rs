//! How long audits take.

use super::{Outcome, SLOT, in_words, seconds, verdict, verdict_in_words};
use crate::roles::{Error, plot_client};
use crate::util::farms::OpenedFarm;
use crate::util::latencies::Latencies;
use crate::util::output;
use primitives::{Blake3Hash, SolutionRange};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// No chunk wins: winning is rare in a farm's life, too.
const RANGE: SolutionRange = 1;

/// A farm with the threads that its plot-client would audit it with.
pub(super) struct Auditor<'a> {
    opened: &'a OpenedFarm,
    pool: rayon::ThreadPool,
    times: Latencies,
    unreadable: usize,
}

impl<'a> Auditor<'a> {
    pub(super) fn new(opened: &'a OpenedFarm, threads: usize) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Error::Internal(format!("threads do not start: {error}")))?;
        Ok(Self { opened, pool, times: Latencies::default(), unreadable: 0 })
    }

    /// Audits the whole farm; gives the time.
    pub(super) fn audit(&mut self, challenge: &Blake3Hash) -> Duration {
        let started = Instant::now();
        let outcome = self.pool.install(|| self.opened.farm.audit(challenge, RANGE, None));
        let took = started.elapsed();
        self.times.record(took);
        self.unreadable = self.unreadable.max(outcome.errors.len());
        took
    }

    pub(super) fn times(&self) -> &Latencies {
        &self.times
    }

    pub(super) fn unreadable(&self) -> usize {
        self.unreadable
    }

    fn fast_enough(&self) -> bool {
        self.times.longest() < SLOT
    }

    fn share_of_slot(&self) -> f64 {
        self.times.mean().as_secs_f64() / SLOT.as_secs_f64()
    }

    fn name(&self) -> String {
        self.opened.farm.directory().display().to_string()
    }

    fn to_json(&self) -> Value {
        let sectors = self.opened.plotted();
        json!({
            "path": self.opened.farm.directory(),
            "id": self.opened.farm.id().to_string(),
            "in_use": self.opened.in_use,
            "direct_io": self.opened.farm.plot().is_direct(),
            "sectors_plotted": sectors,
            "sectors_unreadable": self.unreadable,
            "audits": self.times.count(),
            "audits_per_second": output::rounded(output::per_second(1.0, self.times.mean())),
            "sectors_per_second": output::rounded(output::per_second(sectors as f64, self.times.mean())),
            "seconds": seconds(&self.times),
            "share_of_slot": output::rounded(self.share_of_slot()),
            "limit_seconds": SLOT.as_secs_f64(),
            "fast_enough": self.fast_enough(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}: {} sectors, an audit {}: {:.1} audits/s, {:.1} % of a slot; {}",
            self.name(),
            self.opened.plotted(),
            in_words(&self.times),
            output::per_second(1.0, self.times.mean()),
            self.share_of_slot() * 100.0,
            verdict_in_words(self.fast_enough())
        );
        if self.unreadable > 0 {
            let _ = writeln!(text, "  {} sectors cannot be read", self.unreadable);
        }
        text
    }
}

/// Audits all farms at once, as in a slot, again and again.
pub(super) fn run(farms: &[OpenedFarm], audits: usize) -> Result<Outcome, Error> {
    let threads = plot_client::audit_threads(farms.len());
    let mut auditors = farms.iter().map(|farm| Auditor::new(farm, threads)).collect::<Result<Vec<_>, _>>()?;
    let bar = output::progress_bar(audits as u64, "slots");
    for _ in 0..audits {
        let challenge = Blake3Hash(rand::random());
        std::thread::scope(|scope| {
            for auditor in &mut auditors {
                scope.spawn(|| auditor.audit(&challenge));
            }
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let named = |wanted: &dyn Fn(&Auditor<'_>) -> bool| {
        auditors.iter().filter(|auditor| wanted(auditor)).map(Auditor::name).collect::<Vec<_>>()
    };
    let damaged = named(&|auditor| auditor.unreadable() > 0);
    let slow = named(&|auditor| !auditor.fast_enough());
    Ok(Outcome {
        farms: auditors.iter().map(Auditor::to_json).collect(),
        text: auditors.iter().map(Auditor::to_text).collect(),
        verdict: verdict(&damaged, &slow, "an audit has to end before the next slot"),
    })
}
