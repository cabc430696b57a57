//! Events as lines: for logs, pipes and CI.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "part of `output`")]

use super::{plans, run, text};
use crate::error::count_of;
use crate::events::{Event, Sink};
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two lines of progress of one step.
const QUIET: Duration = Duration::from_secs(5);

/// Events as lines.
#[derive(Default)]
pub(super) struct Plain(Mutex<State>);

#[derive(Default)]
struct State {
    names: text::HostNames,
    hosts: HashMap<String, OfHost>,
}

/// What was said of a host's step.
#[derive(Default)]
struct OfHost {
    /// The step that began, until it has been said.
    begun: Option<String>,
    last_progress: Option<(String, Instant)>,
}

impl OfHost {
    /// Whether enough time has passed since this step's last line.
    fn due(&mut self, step: &str) -> bool {
        let due = self.last_progress.as_ref().is_none_or(|(of, at)| of != step || at.elapsed() >= QUIET);
        if due {
            self.last_progress = Some((step.to_string(), Instant::now()));
        }
        due
    }
}

impl Plain {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Plain {
    fn event(&self, event: &Event) {
        let state = &mut *self.state();
        state.names.learn(event);
        let names = &state.names;
        match event {
            Event::RunStarted { command, cluster, version, .. } => {
                eprintln!("provision {version}: {command} cluster {cluster}");
            }
            Event::Note { host, message } => eprintln!("note: {}{message}", names.of(host.as_deref())),
            Event::Warning { host, message } => eprintln!("warning: {}{message}", names.of(host.as_deref())),
            Event::Planned { host, changes, gates } => eprintln!(
                "plan for host {host}: {}, {}",
                count_of(*changes, "change", "changes"),
                count_of(*gates, "gate", "gates")
            ),
            Event::FileDiff { host, diff } => {
                eprint!("{}", plans::file_diff(host, diff, plans::Paint::Plain));
            }
            // Said with the first progress or with the end: most steps take milliseconds and one line.
            Event::StepStarted { host, title, number, of, .. } => {
                let line = format!("[{number}/{of}] {}{title}", names.of(Some(host)));
                state.hosts.entry(host.clone()).or_default().begun = Some(line);
            }
            Event::StepProgress { host, step, message } => {
                let of_host = state.hosts.entry(host.clone()).or_default();
                if let Some(begun) = of_host.begun.take() {
                    eprintln!("{begun}");
                }
                if of_host.due(step) {
                    eprintln!("        … {}{message}", names.of(Some(host)));
                }
            }
            Event::Transfer { host, step, bytes, of, bytes_per_second, eta_seconds } => {
                let of_host = state.hosts.entry(host.clone()).or_default();
                if let Some(begun) = of_host.begun.take() {
                    eprintln!("{begun}");
                }
                if of_host.due(step) {
                    let message = text::transfer(*bytes, *of, *bytes_per_second, *eta_seconds);
                    eprintln!("        … {}{message}", names.of(Some(host)));
                }
            }
            Event::StepFinished { host, title, outcome, milliseconds, detail, .. } => {
                let begun = state.hosts.entry(host.clone()).or_default().begun.take();
                let number = begun.and_then(|begun| begun.split_once(' ').map(|(n, _)| n.to_string()));
                let number = number.unwrap_or_else(|| "       ".to_string());
                let title = format!("{}{title}", names.of(Some(host)));
                eprintln!("{number:<7} {}", text::finished(&title, *outcome, *milliseconds, detail));
            }
            // The error itself is said at the end.
            Event::StepFailed { host, title, .. } => {
                eprintln!("        FAILED  {}{title}", names.of(Some(host)));
            }
            Event::RollbackStarted { .. } | Event::RollbackFinished { .. } => {
                if let Some((host, line)) = run::rollback(event) {
                    eprintln!("        ROLLBACK {}{line}", names.of(Some(host)));
                }
            }
            Event::HostFailed { host, message, .. } => {
                eprintln!("        FAILED  {}", text::once(host, message))
            }
            Event::Failed { message, .. } => eprintln!("error: {message}"),
            Event::RunFinished { .. } => {
                let _ = write!(std::io::stdout().lock(), "{}", text::summary(event).unwrap_or_default());
            }
        }
    }
}
