//! What happens during a run, as data. The library tells a [`Sink`]; only `output` turns events into text.

use crate::error::Problem;
use crate::plan::FileDiff;
use serde::Serialize;

/// Version of the JSON form of events (`"v"`); raised when a field changes its meaning or goes.
pub const EVENT_VERSION: u32 = 1;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Something is different now.
    Changed,
    /// It was so already.
    Unchanged,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A command begins.
    RunStarted {
        /// `apply`.
        command: String,
        /// Name of the cluster.
        cluster: String,
        /// Names of its hosts.
        hosts: Vec<String>,
        /// Version of this tool.
        version: String,
    },
    /// Something worth knowing that changes nothing.
    Note {
        /// Host that it is about, if one.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// What.
        message: String,
    },
    /// Something that should not be, but does not stop the run.
    Warning {
        /// Host that it is about, if one.
        #[serde(skip_serializing_if = "Option::is_none")]
        host: Option<String>,
        /// What.
        message: String,
    },
    /// The plan is made.
    Planned {
        /// Host.
        host: String,
        /// Steps that change something.
        changes: usize,
        /// Gates that are asked.
        gates: usize,
    },
    /// What the plan changes in a file.
    FileDiff {
        /// Host.
        host: String,
        /// The change, without secrets.
        #[serde(flatten)]
        diff: FileDiff,
    },
    /// A step begins.
    StepStarted {
        /// Host.
        host: String,
        /// Identity within the plan.
        step: String,
        /// What it does.
        title: String,
        /// Its place in the plan, from 1.
        number: usize,
        /// Steps in the plan.
        of: usize,
    },
    /// A step goes on.
    StepProgress {
        /// Host.
        host: String,
        /// Identity within the plan.
        step: String,
        /// How far it is.
        message: String,
    },
    /// A step that moves bytes goes on.
    Transfer {
        /// Host.
        host: String,
        /// Identity within the run.
        step: String,
        /// Bytes dealt with, those of earlier runs included.
        bytes: u64,
        /// Bytes in all.
        of: u64,
        /// Bytes a second, over the last seconds.
        bytes_per_second: u64,
        /// Seconds that the rest takes at that rate; none while that cannot be told.
        #[serde(skip_serializing_if = "Option::is_none")]
        eta_seconds: Option<u64>,
    },
    /// A step ended well.
    StepFinished {
        /// Host.
        host: String,
        /// Identity within the plan.
        step: String,
        /// What it did.
        title: String,
        /// What became of it.
        outcome: Outcome,
        /// How long it took.
        milliseconds: u64,
        /// What it found.
        detail: String,
    },
    /// A step failed; the run ends on this host.
    StepFailed {
        /// Host.
        host: String,
        /// Identity within the plan.
        step: String,
        /// What it did.
        title: String,
        /// Why.
        message: String,
        /// The last log lines of what failed.
        log: Vec<String>,
    },
    /// What the run changed on a host does not work: it is put back as it was.
    RollbackStarted {
        /// Host.
        host: String,
        /// The generation that is put back.
        generation: String,
    },
    /// What was there before is there again, unless there is a problem.
    RollbackFinished {
        /// Host.
        host: String,
        /// Programs that were started on what was put back.
        restarted: Vec<String>,
        /// Why it does not run.
        problem: Option<String>,
    },
    /// The run ended on a host before its end: nothing more is done there, and the others go on.
    HostFailed {
        /// Host.
        host: String,
        /// Why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The run ends with an error.
    Failed {
        /// What.
        message: String,
        /// What to do.
        hint: Option<String>,
        /// Each thing that is wrong, where there are several.
        problems: Vec<Problem>,
        /// Exit code of the process.
        exit_code: u8,
    },
    /// The run ended well.
    RunFinished {
        /// Name of the cluster.
        cluster: String,
        /// Steps that changed something.
        changes: usize,
        /// How long it took.
        milliseconds: u64,
        /// Where everything is.
        prefix: String,
        /// Where the logs are.
        logs: String,
        /// What to type next: command and what it does.
        next: Vec<(String, String)>,
    },
}

/// Someone who wants to know.
pub trait Sink: Send + Sync {
    /// Tells of an event.
    fn event(&self, event: &Event);
}

/// Nobody wants to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Sink for Silent {
    fn event(&self, _: &Event) {}
}
