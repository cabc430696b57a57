//! Events on a terminal: what is going on moves, what is done stays.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "part of `output`")]

use super::{plans, run, text};
use crate::error::count_of;
use crate::events::{Event, Outcome, Sink};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Events on a terminal.
pub(super) struct Terminal {
    bar: ProgressBar,
    paint: plans::Paint,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: text::HostNames,
    hosts: BTreeMap<String, OfHost>,
}

/// How far a host is.
#[derive(Default)]
struct OfHost {
    done: usize,
    of: usize,
    /// The step that is at work.
    title: Option<String>,
}

impl Terminal {
    pub(super) fn new(paint: plans::Paint) -> Self {
        let style = ProgressStyle::with_template("{spinner} [{pos}/{len}] {wide_msg} {elapsed}");
        let bar = ProgressBar::new(0);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { bar, paint, state: Mutex::default() }
    }

    fn say(&self, line: &str) {
        // Above the bar while it stands; plainly when it does not.
        if self.bar.is_finished() || self.bar.length() == Some(0) {
            eprintln!("{line}");
        } else {
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }

    /// Shows what is going on: a step, and how many other hosts are at work beside it.
    fn show(&self, state: &State, host: &str, message: Option<&str>) {
        let sum = |of: fn(&OfHost) -> usize| state.hosts.values().map(of).sum::<usize>() as u64;
        self.bar.set_length(sum(|host| host.of));
        self.bar.set_position(sum(|host| host.done));
        let title = state.hosts.get(host).and_then(|host| host.title.as_deref()).unwrap_or_default();
        let message = message.map(|message| format!(" … {message}")).unwrap_or_default();
        let others = state.hosts.iter().filter(|(name, of)| *name != host && of.title.is_some()).count();
        let others = if others == 0 { String::new() } else { format!(" (and {others} more)") };
        self.bar.set_message(format!("{}{title}{message}{others}", state.names.of(Some(host))));
    }
}

impl Sink for Terminal {
    fn event(&self, event: &Event) {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.names.learn(event);
        match event {
            Event::RunStarted { command, cluster, version, .. } => {
                self.say(&format!("provision {version}: {command} cluster {cluster}"));
            }
            Event::Note { host, message } => {
                self.say(&format!("note: {}{message}", state.names.of(host.as_deref())));
            }
            Event::Warning { host, message } => {
                self.say(&format!("warning: {}{message}", state.names.of(host.as_deref())));
            }
            Event::Planned { host, changes, gates } => {
                state.hosts.entry(host.clone()).or_default().of = changes + gates;
                let changes = count_of(*changes, "change", "changes");
                self.say(&format!("plan for host {host}: {changes}, {}", count_of(*gates, "gate", "gates")));
            }
            Event::FileDiff { host, diff } => {
                self.say(plans::file_diff(host, diff, self.paint).trim_end());
            }
            Event::StepStarted { host, title, number, of, .. } => {
                state
                    .hosts
                    .insert(host.clone(), OfHost { done: number - 1, of: *of, title: Some(title.clone()) });
                if self.bar.is_finished() {
                    self.bar.reset();
                }
                if state.hosts.len() == 1 {
                    self.bar.reset_elapsed();
                }
                self.bar.enable_steady_tick(Duration::from_millis(120));
                self.show(state, host, None);
            }
            Event::StepProgress { host, message, .. } => self.show(state, host, Some(message)),
            Event::Transfer { host, bytes, of, bytes_per_second, eta_seconds, .. } => {
                let message = text::transfer(*bytes, *of, *bytes_per_second, *eta_seconds);
                self.show(state, host, Some(&message));
            }
            Event::StepFinished { host, title, outcome, milliseconds, detail, .. } => {
                let of_host = state.hosts.entry(host.clone()).or_default();
                of_host.done += 1;
                of_host.title = None;
                let mark = if *outcome == Outcome::Changed { "✔" } else { "·" };
                let title = format!("{}{title}", state.names.of(Some(host)));
                self.say(&format!("{mark} {}", text::finished(&title, *outcome, *milliseconds, detail)));
            }
            Event::StepFailed { host, title, .. } => {
                state.hosts.entry(host.clone()).or_default().title = None;
                // The error is said plainly; the bar comes back with the next step, if there is one.
                if state.hosts.values().all(|host| host.title.is_none()) {
                    self.bar.finish_and_clear();
                }
                self.say(&format!("✘ {}{title}", state.names.of(Some(host))));
            }
            Event::RollbackStarted { .. } | Event::RollbackFinished { .. } => {
                if let Some((host, line)) = run::rollback(event) {
                    self.say(&format!("↶ {}{line}", state.names.of(Some(host))));
                }
            }
            Event::HostFailed { host, message, .. } => self.say(&format!("✘ {}", text::once(host, message))),
            Event::Failed { message, .. } => self.say(&format!("error: {message}")),
            Event::RunFinished { .. } => {
                self.bar.finish_and_clear();
                let _ = write!(std::io::stdout().lock(), "{}", text::summary(event).unwrap_or_default());
            }
        }
    }
}
