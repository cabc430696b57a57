//! Events on a terminal: what is going on moves, what is done stays.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "part of `output`")]

use super::text;
use crate::error::count_of;
use crate::events::{Event, Outcome, Sink};
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Mutex;
use std::time::Duration;

/// Events on a terminal.
pub(super) struct Terminal {
    bar: ProgressBar,
    title: Mutex<String>,
}

impl Terminal {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} [{pos}/{len}] {wide_msg} {elapsed}");
        let bar = ProgressBar::new(0);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { bar, title: Mutex::default() }
    }

    fn say(&self, line: &str) {
        // Above the bar while it stands; plainly when it does not.
        if self.bar.is_finished() || self.bar.length() == Some(0) {
            eprintln!("{line}");
        } else {
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }
}

impl Sink for Terminal {
    fn event(&self, event: &Event) {
        match event {
            Event::RunStarted { command, cluster, version } => {
                self.say(&format!("provision {version}: {command} cluster {cluster}"));
            }
            Event::Note { message } => self.say(&format!("note: {message}")),
            Event::Warning { message } => self.say(&format!("warning: {message}")),
            Event::Planned { host, changes, gates } => {
                let changes = count_of(*changes, "change", "changes");
                self.say(&format!("plan for host {host}: {changes}, {}", count_of(*gates, "gate", "gates")));
            }
            Event::StepStarted { title, number, of, .. } => {
                self.title.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone_from(title);
                self.bar.set_length(*of as u64);
                self.bar.set_position(*number as u64);
                self.bar.reset_elapsed();
                self.bar.enable_steady_tick(Duration::from_millis(120));
                self.bar.set_message(title.clone());
            }
            Event::StepProgress { message, .. } => {
                let title = self.title.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
                self.bar.set_message(format!("{title} … {message}"));
            }
            Event::StepFinished { title, outcome, milliseconds, detail, .. } => {
                let mark = if *outcome == Outcome::Changed { "✔" } else { "·" };
                self.say(&format!("{mark} {}", text::finished(title, *outcome, *milliseconds, detail)));
            }
            Event::StepFailed { title, .. } => {
                self.bar.finish_and_clear();
                self.say(&format!("✘ {title}"));
            }
            Event::Failed { message, .. } => self.say(&format!("error: {message}")),
            Event::RunFinished { .. } => {
                self.bar.finish_and_clear();
                use std::io::Write;
                let _ = write!(std::io::stdout().lock(), "{}", text::summary(event).unwrap_or_default());
            }
        }
    }
}
