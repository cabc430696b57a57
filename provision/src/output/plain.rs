//! Events as lines: for logs, pipes and CI.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "part of `output`")]

use super::text;
use crate::error::count_of;
use crate::events::{Event, Sink};
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Least time between two lines of progress of one step.
const QUIET: Duration = Duration::from_secs(5);

/// Events as lines.
#[derive(Default)]
pub(super) struct Plain {
    last_progress: Mutex<Option<(String, Instant)>>,
    /// The step that began, until it has been said.
    begun: Mutex<Option<String>>,
}

impl Plain {
    /// Takes the line of the step that began, if it was not said yet.
    fn take_begun(&self) -> Option<String> {
        self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// Whether enough time has passed since this step's last line.
    fn due(&self, step: &str) -> bool {
        let mut last = self.last_progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = last.as_ref().is_none_or(|(of, at)| of != step || at.elapsed() >= QUIET);
        if due {
            *last = Some((step.to_string(), Instant::now()));
        }
        due
    }
}

impl Sink for Plain {
    fn event(&self, event: &Event) {
        match event {
            Event::RunStarted { command, cluster, version } => {
                eprintln!("provision {version}: {command} cluster {cluster}");
            }
            Event::Note { message } => eprintln!("note: {message}"),
            Event::Warning { message } => eprintln!("warning: {message}"),
            Event::Planned { host, changes, gates } => eprintln!(
                "plan for host {host}: {}, {}",
                count_of(*changes, "change", "changes"),
                count_of(*gates, "gate", "gates")
            ),
            // Said with the first progress or with the end: most steps take milliseconds and one line.
            Event::StepStarted { title, number, of, .. } => {
                *self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(format!("[{number}/{of}] {title}"));
            }
            Event::StepProgress { step, message } => {
                if let Some(begun) = self.take_begun() {
                    eprintln!("{begun}");
                }
                if self.due(step) {
                    eprintln!("        … {message}");
                }
            }
            Event::StepFinished { title, outcome, milliseconds, detail, .. } => {
                let number =
                    self.take_begun().and_then(|begun| begun.split_once(' ').map(|(n, _)| n.to_string()));
                let number = number.unwrap_or_else(|| "       ".to_string());
                eprintln!("{number:<7} {}", text::finished(title, *outcome, *milliseconds, detail));
            }
            // The error itself is said at the end.
            Event::StepFailed { title, .. } => eprintln!("        FAILED  {title}"),
            Event::Failed { message, .. } => eprintln!("error: {message}"),
            Event::RunFinished { .. } => {
                let _ = write!(std::io::stdout().lock(), "{}", text::summary(event).unwrap_or_default());
            }
        }
    }
}
