//! The one place that prints: events, plans, states and errors as text or JSON.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the module that talks to the user")]

mod explanation;
mod plain;
mod plans;
mod run;
mod terminal;
mod text;

use crate::apply::{Planned, PutBack, Replaced};
use crate::doctor::Finding;
use crate::drift::Drift;
use crate::error::{Error, Problem};
use crate::events::{EVENT_VERSION, Event, Sink};
use crate::explain::Explanation;
use crate::inventory::{Diagnostic, Source};
use crate::lock::HostLock;
use crate::plan::{self, FileDiff, Plan};
use crate::status::Status;
use crate::trust::HostTrust;
pub use plans::Paint;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// How to talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people: progress to standard error, results to standard output.
    Text,
    /// One JSON object a line to standard output.
    Json,
}

/// Talks to the user.
pub struct Output {
    form: Form,
    sink: Box<dyn Sink>,
}

impl Output {
    /// Talks in `form`; progress moves when standard error is a terminal.
    pub fn new(form: Form) -> Self {
        let sink: Box<dyn Sink> = match form {
            Form::Json => Box::new(Json::default()),
            Form::Text if std::io::stderr().is_terminal() => Box::new(terminal::Terminal::new(colours(true))),
            Form::Text => Box::new(plain::Plain::default()),
        };
        Self { form, sink }
    }

    /// Where events go.
    pub fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// Says what an inventory is warned of.
    pub fn findings(&self, findings: &[Diagnostic], source: &Source) {
        for finding in findings {
            match self.form {
                Form::Text => eprint!("{}", finding.render(source)),
                Form::Json => {
                    self.sink.event(&Event::Warning { host: None, message: located(finding, source).message })
                }
            }
        }
    }

    /// Says a result: `value` as JSON, or `text`.
    pub fn result(&self, value: &impl Serialize, text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that went away (`| head`) is no error of ours.
        let _ = match self.form {
            Form::Text => out.write_all(text.as_bytes()),
            Form::Json => match serde_json::to_string(value) {
                Ok(json) => writeln!(out, "{json}"),
                Err(error) => writeln!(out, "{{\"error\":\"{error}\"}}"),
            },
        };
    }

    /// Says the plans of a cluster's hosts; with `diff` also what they change in files.
    pub fn plans(&self, planned: &[Planned], diff: bool) {
        let plans: Vec<_> = planned.iter().map(|planned| &planned.plan).cloned().collect();
        let mut text = plans::plans(&plans);
        let mut views: Vec<PlanView<'_>> = plans.iter().map(|plan| PlanView { plan, diff: None }).collect();
        if diff {
            let diffs: Vec<_> =
                planned.iter().map(|planned| plan::diff(&planned.plan, &planned.texts)).collect();
            let hosts = plans.iter().map(|plan| plan.host.as_str());
            text += "\n";
            text += &plans::diffs(hosts.zip(diffs.iter().map(Vec::as_slice)), self.paint());
            for (view, diff) in views.iter_mut().zip(diffs) {
                view.diff = Some(diff);
            }
        }
        self.result(&views, &text);
    }

    /// Says what is not as the inventory wants it.
    pub fn drift(&self, drift: &Drift) {
        self.result(drift, &plans::drift(drift, self.paint()));
    }

    fn paint(&self) -> Paint {
        if self.form == Form::Text { colours(std::io::stdout().is_terminal()) } else { Paint::Plain }
    }

    /// Says why a host's programs run as they run.
    pub fn explanation(&self, explanation: &Explanation) {
        self.result(explanation, &explanation::text(explanation));
    }

    /// Says what runs replaced.
    pub fn replaced(&self, runs: &[Replaced]) {
        self.result(&runs, &run::replaced(runs));
    }

    /// Says which hosts were put back.
    pub fn put_back(&self, hosts: &[PutBack]) {
        self.result(&hosts, &run::put_back(hosts));
    }

    /// Says who is at work on which host.
    pub fn locks(&self, locks: &[HostLock]) {
        self.result(&locks, &run::locks(locks));
    }

    /// Says what is wrong.
    pub fn doctor(&self, findings: &[Finding]) {
        self.result(&findings, &run::doctor(findings));
    }

    /// Says by which keys hosts are known.
    pub fn trust(&self, hosts: &[HostTrust]) {
        self.result(&hosts, &run::trust(hosts));
    }

    /// Asks for a yes on the terminal.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`]: there is no terminal, or it is not a yes.
    pub fn confirm(&self, question: &str) -> Result<(), Error> {
        let mut answer = String::new();
        if self.form == Form::Text && std::io::stdin().is_terminal() {
            eprint!("{question}? [y/N] ");
            let _ = std::io::stdin().read_line(&mut answer);
        }
        match matches!(answer.trim(), "y" | "Y" | "yes") {
            true => Ok(()),
            false => Err(Error::Unconfirmed(question.to_string())),
        }
    }

    /// Says how a cluster is.
    pub fn status(&self, status: &Status) {
        self.result(status, &text::status(status));
    }

    /// Says a line of a program's log.
    pub fn log_line(&self, host: Option<&str>, program: &str, line: &str, many: bool) {
        let mut out = std::io::stdout().lock();
        if self.form == Form::Json {
            let line =
                serde_json::json!({"v": EVENT_VERSION, "host": host, "program": program, "line": line});
            let _ = writeln!(out, "{line}");
            return;
        }
        let host = host.map(|host| format!("{host:<12} ")).unwrap_or_default();
        let program = program.trim_start_matches("autonomys-");
        let _ = match many {
            true => writeln!(out, "{host}{program:<24} {line}"),
            false => writeln!(out, "{host}{line}"),
        };
    }

    /// Says why the run ends.
    pub fn error(&self, error: &Error) {
        let exit_code = error.exit_code() as u8;
        match self.form {
            Form::Json => {
                let problems = match error {
                    Error::Inventory { source_text, findings } => {
                        findings.iter().map(|finding| located(finding, source_text)).collect()
                    }
                    Error::Check { problems } => problems.clone(),
                    _ => Vec::new(),
                };
                let message = error.to_string();
                self.sink.event(&Event::Failed { message, hint: error.hint(), problems, exit_code });
            }
            Form::Text => eprint!("{}", text::error(error)),
        }
    }
}

/// Colours on a terminal whose user does not refuse them (<https://no-color.org>).
fn colours(terminal: bool) -> Paint {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if terminal && !refused { Paint::Colours } else { Paint::Plain }
}

fn located(finding: &Diagnostic, source: &Source) -> Problem {
    let (line, column) = finding.labels.first().map_or((1, 1), |label| source.position(label.span.start));
    Problem {
        code: finding.code,
        message: format!("{}:{line}:{column}: {}", source.name, finding.message),
        hint: finding.hint.clone().unwrap_or_default(),
    }
}

/// The text of an error as [`Output::error`] prints it, for tests and other front ends.
pub fn error_text(error: &Error) -> String {
    text::error(error)
}

/// A plan as `plan --json` prints it.
#[derive(Serialize)]
struct PlanView<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Vec<FileDiff>>,
}

/// The text of plans as [`Output::plans`] prints it.
pub fn plans_text(plans: &[Plan]) -> String {
    plans::plans(plans)
}

/// What changes in the files of hosts as [`Output::plans`] prints it.
pub fn diffs_text<'a>(hosts: impl IntoIterator<Item = (&'a str, &'a [FileDiff])>, paint: Paint) -> String {
    plans::diffs(hosts, paint)
}

/// The text of drift as [`Output::drift`] prints it.
pub fn drift_text(drift: &Drift, paint: Paint) -> String {
    plans::drift(drift, paint)
}

/// The text of an explanation as [`Output::explanation`] prints it.
pub fn explanation_text(explanation: &Explanation) -> String {
    explanation::text(explanation)
}

/// The text of a status as [`Output::status`] prints it.
pub fn status_text(status: &Status) -> String {
    text::status(status)
}

/// The text of what runs replaced as [`Output::replaced`] prints it.
pub fn replaced_text(runs: &[Replaced]) -> String {
    run::replaced(runs)
}

/// The text of a rollback as [`Output::put_back`] prints it.
pub fn put_back_text(hosts: &[PutBack]) -> String {
    run::put_back(hosts)
}

/// The text of who is at work as [`Output::locks`] prints it.
pub fn locks_text(locks: &[HostLock]) -> String {
    run::locks(locks)
}

/// The text of findings as [`Output::doctor`] prints it.
pub fn doctor_text(findings: &[Finding]) -> String {
    run::doctor(findings)
}

/// The text of keys as [`Output::trust`] prints it.
pub fn trust_text(hosts: &[HostTrust]) -> String {
    run::trust(hosts)
}

/// What is said of the events of a rollback.
pub fn rollback_text(event: &Event) -> Option<(&str, String)> {
    run::rollback(event)
}

/// Versioned JSON events, one a line.
#[derive(Default)]
struct Json {
    number: AtomicU64,
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    n: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Sink for Json {
    fn event(&self, event: &Event) {
        let n = self.number.fetch_add(1, Ordering::Relaxed);
        if let Ok(line) = serde_json::to_string(&Versioned { v: EVENT_VERSION, n, event }) {
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}
