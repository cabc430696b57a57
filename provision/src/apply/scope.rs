//! What of a plan a run takes.

use super::Options;
use crate::derive::Program;
use crate::error::count_of;
use crate::events::{Event, Sink};
use crate::facts::HostFacts;
use crate::plan::{Action, Change, Plan};
use crate::supervisor::ProcessState;

/// Which steps of a plan a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All.
    Everything,
    /// Those that start what is installed.
    StartOnly,
    /// Those that start what is installed, and what runs is restarted.
    Restart,
}

impl Scope {
    /// The command that asks for it.
    pub(super) const fn command(self) -> &'static str {
        match self {
            Self::Everything => "apply",
            Self::StartOnly => "start",
            Self::Restart => "restart",
        }
    }
}

/// Leaves of a plan what the run is to do. [`Options::roles`] says for which programs, unless it is everything.
pub(super) fn restrict(plan: &mut Plan, scope: Scope, facts: &HostFacts, options: &Options, sink: &dyn Sink) {
    if !options.wait_for_solution {
        plan.steps.retain(|step| !matches!(step.action, Action::Wait { .. }));
    }
    if scope == Scope::Everything {
        return;
    }
    let runs = |program: &Program| {
        let there = facts.supervisor.as_ref().and_then(|running| running.programs.get(&program.name));
        there.is_some_and(|there| matches!(there.state, ProcessState::Running | ProcessState::Starting))
    };
    let mut left = 0;
    plan.steps.retain(|step| match &step.action {
        Action::Program { program, .. } => program.is_meant(&options.roles),
        Action::StartSupervisor => facts.supervisor.is_none(),
        Action::StopOrphans { .. } => true,
        Action::Wait { .. } => scope == Scope::StartOnly && options.roles.is_empty(),
        _ => {
            left += 1;
            false
        }
    });
    for step in &mut plan.steps {
        if let Action::Program { change, program } = &mut step.action
            && runs(program)
        {
            (*change, step.title) = match scope {
                Scope::Restart => {
                    let why = "asked for".to_string();
                    (Change::Restart { why: why.clone() }, format!("restart {}: {why}", program.name))
                }
                _ => (Change::Keep, format!("{} runs", program.name)),
            };
        }
    }
    if left > 0 {
        let many = count_of(left, "change", "changes");
        let message =
            format!("{many} of the inventory or the sources are not applied yet; `apply` does that");
        sink.event(&Event::Warning { host: Some(plan.host.clone()), message });
    }
}
