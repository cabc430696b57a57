//! The steps of a command that follows no plan: told to the sink and written to the host's journal like those of one.

use crate::error::{Error, Result};
use crate::events::{Event, Outcome, Sink};
use crate::journal::{Journal, What};
use crate::layout::Layout;
use crate::transport::Transport;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Least time between two events of a transfer.
const TELL: Duration = Duration::from_millis(250);
/// Over how long a rate is measured.
const RATE_OVER: Duration = Duration::from_secs(5);

/// The steps of a command on a host.
pub(crate) struct Steps<'a> {
    host: String,
    sink: &'a dyn Sink,
    journal: Journal<'a>,
    number: usize,
    of: usize,
}

impl<'a> Steps<'a> {
    /// Begins a command of `of` steps.
    pub(crate) async fn begin(
        command: &str,
        of: usize,
        host: &str,
        layout: &Layout,
        transport: &'a dyn Transport,
        sink: &'a dyn Sink,
    ) -> Result<Self> {
        let journal = Journal::new(layout, transport);
        let steps = Self { host: host.to_string(), sink, journal, number: 0, of };
        if let Some(step) = steps.journal.last_run().await?.cut_off {
            steps.note(format!("the last run was cut off at {step}"));
        }
        let version = env!("CARGO_PKG_VERSION").to_string();
        steps.journal.add(What::Begun { command: command.to_string(), version }).await?;
        Ok(steps)
    }

    /// Ends the command; gives its result back.
    pub(crate) async fn end<T>(&self, result: Result<T>) -> Result<T> {
        let error = result.as_ref().err().map(ToString::to_string);
        let written = self.journal.add(What::Ended { error }).await;
        // An error of the command counts more than that it could not be written down.
        result.and_then(|value| written.map(|()| value))
    }

    /// Says something worth knowing.
    pub(crate) fn note(&self, message: impl Into<String>) {
        self.sink.event(&Event::Note { host: Some(self.host.clone()), message: message.into() });
    }

    /// Does a step; `work` gives a value and what it found.
    pub(crate) async fn step<T>(
        &mut self,
        id: &str,
        title: &str,
        work: impl Future<Output = Result<(T, String)>>,
    ) -> Result<T> {
        let started = Instant::now();
        self.number += 1;
        let (host, step, title) = (self.host.clone(), id.to_string(), title.to_string());
        let (number, of) = (self.number, self.of.max(self.number));
        let event =
            Event::StepStarted { host: host.clone(), step: step.clone(), title: title.clone(), number, of };
        self.sink.event(&event);
        self.journal.add(What::Step { step: step.clone() }).await?;
        let (value, detail) = work.await.inspect_err(|error: &Error| {
            let (host, step, title, log) = (host.clone(), step.clone(), title.clone(), error.log().to_vec());
            self.sink.event(&Event::StepFailed { host, step, title, message: error.to_string(), log });
        })?;
        self.journal.add(What::Done { step: step.clone() }).await?;
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.sink.event(&Event::StepFinished {
            host,
            step,
            title,
            outcome: Outcome::Changed,
            milliseconds,
            detail,
        });
        Ok(value)
    }

    /// Tells how a step goes on.
    pub(crate) fn progress(&self, step: &str) -> impl FnMut(&str) + Send + use<'a> {
        let (host, step, sink) = (self.host.clone(), step.to_string(), self.sink);
        move |message| {
            let (host, step, message) = (host.clone(), step.clone(), message.to_string());
            sink.event(&Event::StepProgress { host, step, message });
        }
    }

    /// Tells how a step that moves bytes goes on.
    pub(crate) fn meter(&self, step: &str) -> impl FnMut(u64, u64) + Send + use<'a> {
        let (host, step, sink) = (self.host.clone(), step.to_string(), self.sink);
        let mut meter = Meter::default();
        move |bytes, of| {
            if let Some((bytes_per_second, eta_seconds)) = meter.take(Instant::now(), bytes, of) {
                let (host, step) = (host.clone(), step.clone());
                sink.event(&Event::Transfer { host, step, bytes, of, bytes_per_second, eta_seconds });
            }
        }
    }
}

/// Makes rates of byte counts.
#[derive(Default)]
pub(crate) struct Meter {
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    /// Takes a count; gives rate and seconds left when it is time to tell.
    pub(crate) fn take(&mut self, now: Instant, bytes: u64, of: u64) -> Option<(u64, Option<u64>)> {
        let due = self.samples.back().is_none_or(|(last, _)| now.duration_since(*last) >= TELL);
        if !due && bytes < of {
            return None;
        }
        self.samples.push_back((now, bytes));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= RATE_OVER {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        let seconds = now.duration_since(since).as_secs_f64();
        let moved = bytes.saturating_sub(before);
        if seconds <= 0.0 || moved == 0 {
            return Some((0, None));
        }
        let rate = moved as f64 / seconds;
        Some((rate as u64, Some((of.saturating_sub(bytes) as f64 / rate).ceil() as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut meter = Meter::default();
        // What an earlier run brought does not count.
        assert_eq!(meter.take(at(0), 1_000_000, 2_000_000), Some((0, None)));
        assert_eq!(meter.take(at(100), 1_010_000, 2_000_000), None);
        assert_eq!(meter.take(at(1_000), 1_100_000, 2_000_000), Some((100_000, Some(9))));
        for second in 2..10_u64 {
            // A line that has become ten times slower.
            meter.take(at(second * 1_000), 1_100_000 + (second - 1) * 10_000, 2_000_000);
        }
        assert_eq!(meter.take(at(10_000), 1_190_000, 2_000_000), Some((10_000, Some(81))));
        assert!(meter.take(at(10_001), 2_000_000, 2_000_000).is_some(), "the end is always told");
    }
}
