//! In which order the steps of several hosts are taken.

use super::{Action, Change, Plan, Step};
use crate::derive::Role;

/// What is done on all hosts before the next begins on any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Packages, binaries, files, supervisord.
    Prepare,
    /// The programs of a role.
    Start(Role),
    /// What is waited for when everything runs.
    Wait,
}

impl Phase {
    /// Where a step belongs.
    pub fn of(step: &Step) -> Self {
        match &step.action {
            Action::Program { program, .. } => Self::Start(program.role),
            Action::Wait { .. } => Self::Wait,
            _ => Self::Prepare,
        }
    }
}

impl Step {
    /// Whether it takes a running program down.
    pub fn takes_down(&self) -> bool {
        matches!(
            &self.action,
            Action::Program { change: Change::Restart { .. } | Change::RestartIfBuilt, .. }
        )
    }
}

impl Plan {
    /// Whether it takes a program down in this phase: then hosts go one after the other.
    pub fn restarts(&self, phase: Phase) -> bool {
        self.steps.iter().any(|step| Phase::of(step) == phase && step.takes_down())
    }

    /// Whether it takes down everything that runs on its host: then the host goes alone, after all others.
    pub fn stops_everything(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::StopSupervisor))
    }
}
