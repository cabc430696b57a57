//! What on the hosts is not as the inventory wants it. Pure: found in facts and in the plan that would mend it.

use crate::derive::Program;
use crate::error::count_of;
use crate::facts::HostFacts;
use crate::plan::{Action, Change, FileDiff, Plan};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Version of the JSON form of drift.
pub const DRIFT_VERSION: u32 = 1;

/// What kind of difference it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A package or directory is not there.
    Missing,
    /// A managed file is not there.
    FileMissing,
    /// A managed file has another text.
    FileDiffers,
    /// A file among those that supervisord reads is not the inventory's.
    FileUnknown,
    /// The cluster secret is not there.
    SecretMissing,
    /// A binary is not there.
    BinaryMissing,
    /// A binary is not the one that is to be installed.
    BinaryDiffers,
    /// The sources changed since the last build: whether the binaries differ is not known before the next.
    BinaryUnknown,
    /// A program, or supervisord itself, does not run.
    NotRunning,
    /// A program runs, but with an older binary or configuration.
    Outdated,
    /// A program runs that the inventory does not know.
    ProgramUnknown,
    /// Programs of this cluster run that no supervisord looks after.
    Unsupervised,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its kind.
    pub kind: Kind,
    /// What differs: a path below the prefix, or a program's name.
    pub subject: String,
    /// What it is like.
    pub message: String,
}

/// What a host has that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostDrift {
    /// Its name.
    pub host: String,
    /// Why it cannot be asked or planned for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What differs, in the order of the plan that would mend it.
    pub differences: Vec<Difference>,
    /// The changes of files from what is there to what is wanted, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<Vec<FileDiff>>,
}

/// What differs on the hosts of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// [`DRIFT_VERSION`].
    pub version: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Its hosts, in the order of the inventory.
    pub hosts: Vec<HostDrift>,
}

impl Drift {
    /// Whether any host differs.
    pub fn is_found(&self) -> bool {
        self.hosts.iter().any(|host| !host.differences.is_empty())
    }

    /// Whether every host could be asked.
    pub fn is_whole(&self) -> bool {
        self.hosts.iter().all(|host| host.error.is_none())
    }
}

/// What differs on a host, given the plan that would mend it. What only follows from another difference, such as the
/// restart of a program whose file differs, is not told.
pub fn differences(plan: &Plan, facts: &HostFacts) -> Vec<Difference> {
    let find = Find { plan, facts, changed: changed(plan) };
    plan.steps.iter().flat_map(|step| find.of(&step.action)).collect()
}

/// What the plan puts in place: binaries by name, programs whose file is written.
fn changed(plan: &Plan) -> BTreeSet<String> {
    let of = |action: &Action| match action {
        Action::InstallBinary { name, .. } => Some(name.clone()),
        Action::WriteFile { file, .. } => Some(file.path.file_stem()?.to_string_lossy().into_owned()),
        _ => None,
    };
    plan.steps.iter().filter_map(|step| of(&step.action)).collect()
}

struct Find<'a> {
    plan: &'a Plan,
    facts: &'a HostFacts,
    changed: BTreeSet<String>,
}

impl Find<'_> {
    fn below(&self, path: &std::path::Path) -> String {
        path.strip_prefix(&self.plan.prefix).unwrap_or(path).display().to_string()
    }

    fn of(&self, action: &Action) -> Vec<Difference> {
        let one = |kind, subject: String, message: &str| {
            vec![Difference { kind, subject, message: message.to_string() }]
        };
        match action {
            Action::InstallPackages { packages } => one(
                Kind::Missing,
                "packages".to_string(),
                &format!(
                    "{} missing or too old",
                    count_of(packages.install.len(), "package is", "packages are")
                ),
            ),
            Action::MakeDirectories { paths } => {
                let missing = |path: &PathBuf| one(Kind::Missing, self.below(path), "is not there");
                paths.iter().flat_map(missing).collect()
            }
            Action::PlaceSecret { path } => one(Kind::SecretMissing, self.below(path), "is not there"),
            Action::Build { .. } => one(
                Kind::BinaryUnknown,
                "sources".to_string(),
                "changed since the last build: whether the binaries differ is known after the next",
            ),
            Action::InstallBinary { source: None, .. } => Vec::new(),
            Action::InstallBinary { name, .. } => self.binary(name),
            Action::WriteFile { file, replaces: Some(_) } => one(
                Kind::FileDiffers,
                self.below(&file.path),
                "is not as the inventory wants it: changed by hand, or the inventory was not applied",
            ),
            Action::WriteFile { file, replaces: None } => {
                one(Kind::FileMissing, self.below(&file.path), "is not there")
            }
            Action::RemoveFile { path } => {
                one(Kind::FileUnknown, self.below(path), "is not the inventory's, and supervisord reads it")
            }
            Action::StopOrphans { pids } => {
                let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
                let message = format!("run without a supervisord: {}", pids.join(", "));
                one(Kind::Unsupervised, "processes".to_string(), &message)
            }
            // Said by the program that takes its place, or by the file that changed.
            Action::StopSupervisor => Vec::new(),
            Action::StartSupervisor if self.facts.supervisor.is_some() => Vec::new(),
            Action::StartSupervisor => {
                one(Kind::NotRunning, "supervisord".to_string(), "does not run, nor does what it looks after")
            }
            Action::RemoveProgram { name } => {
                one(Kind::ProgramUnknown, name.clone(), "runs, and the inventory does not know it")
            }
            Action::Program { program, change } => self.program(program, change),
            Action::Wait { .. } => Vec::new(),
        }
    }

    fn binary(&self, name: &str) -> Vec<Difference> {
        let subject = format!("bin/{name}");
        let Some(link) = self.facts.links.get(name) else {
            return vec![Difference {
                kind: Kind::BinaryMissing,
                subject,
                message: "is not there".to_string(),
            }];
        };
        let is =
            link.target.parent().and_then(|digest| digest.file_name()).unwrap_or_default().to_string_lossy();
        let wanted =
            self.facts.build.digests.get(name).map_or("another", |digest| &digest[..16.min(digest.len())]);
        let message = match link.resolved.as_os_str().is_empty() {
            true => format!("leads nowhere: {}", link.target.display()),
            false => format!("is {is}, wanted is {wanted} (sha256)"),
        };
        vec![Difference { kind: Kind::BinaryDiffers, subject, message }]
    }

    fn program(&self, program: &Program, change: &Change) -> Vec<Difference> {
        let Some(supervisor) = &self.facts.supervisor else { return Vec::new() };
        let there = supervisor.programs.get(&program.name);
        let (kind, message) = match change {
            Change::Keep | Change::RestartIfBuilt => return Vec::new(),
            // Everything is started anew when supervisord's own file changes, also what runs.
            Change::Start => match there {
                Some(there) if there.pid.is_some() => return Vec::new(),
                Some(there) => (Kind::NotRunning, format!("does not run: {}", there.state.name())),
                None => (Kind::NotRunning, "does not run: supervisord does not know it".to_string()),
            },
            Change::Restart { .. }
                if self.changed.contains(&program.name) || self.changed.contains(program.role.binary()) =>
            {
                return Vec::new();
            }
            Change::Restart { why } => (Kind::Outdated, format!("runs, but {why}")),
        };
        vec![Difference { kind, subject: program.name.clone(), message }]
    }
}
