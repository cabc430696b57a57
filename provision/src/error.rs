//! Everything that can go wrong, each with its exit code.

use crate::inventory::{Diagnostic, Source};
use std::path::PathBuf;

/// Exit codes of `provision`: the one table. `provision help exit-codes` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "described by `meaning`")]
pub enum ExitCode {
    Ok = 0,
    Internal = 1,
    Usage = 2,
    Inventory = 3,
    Check = 4,
    Host = 5,
    Package = 6,
    Build = 7,
    Apply = 8,
    Gate = 9,
    Locked = 10,
    Down = 11,
    Drift = 12,
    Stale = 13,
    TakenBack = 14,
    Interrupted = 130,
}

impl ExitCode {
    /// All codes in order.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::Internal,
        Self::Usage,
        Self::Inventory,
        Self::Check,
        Self::Host,
        Self::Package,
        Self::Build,
        Self::Apply,
        Self::Gate,
        Self::Locked,
        Self::Down,
        Self::Drift,
        Self::Stale,
        Self::TakenBack,
        Self::Interrupted,
    ];

    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done; for `status` and `doctor`: everything runs",
            Self::Internal => "a mistake in provision itself",
            Self::Usage => "the command line is wrong, or a question was not answered with yes",
            Self::Inventory => "the inventory cannot be read or contradicts itself",
            Self::Check => "the host is not fit for the plan: port taken, path not writable, disk too small",
            Self::Host => "the host cannot be reached or asked",
            Self::Package => "a package could not be installed",
            Self::Build => "our binaries could not be built",
            Self::Apply => "a step of the plan failed",
            Self::Gate => "something started but did not become ready in time",
            Self::Locked => "another apply is at work",
            Self::Down => "`status`, `doctor`: something does not run",
            Self::Drift => "`drift`: a host differs from the inventory",
            Self::Stale => "a saved plan does not fit any more, or its file is damaged: plan again",
            Self::TakenBack => "a change did not work and was taken back: what ran before runs again",
            Self::Interrupted => "interrupted by the user; apply again to go on",
        }
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inventory cannot be read.
    #[error("cannot read the inventory {path}: {source}", path = path.display())]
    ReadInventory {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The inventory is wrong.
    #[error("{} in {}", count(findings.len(), "error"), source_text.name)]
    Inventory {
        /// Its text.
        source_text: Box<Source>,
        /// All that is wrong.
        findings: Vec<Diagnostic>,
    },
    /// The command line asks for what there is not.
    #[error("{message}")]
    Usage {
        /// What.
        message: String,
        /// What there is.
        hint: String,
    },
    /// The file of a saved plan cannot be used.
    #[error("{path}: {message}", path = path.display())]
    PlanFile {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// What a saved plan was made from is not so any more.
    #[error("{what} changed since the plan was made: {}", differences.join("; "))]
    Stale {
        /// `the inventory …`, `host …`.
        what: String,
        /// What is different.
        differences: Vec<String>,
    },
    /// The host is not fit for the plan.
    #[error("{}", problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("\n"))]
    Check {
        /// All that is unfit.
        problems: Vec<Problem>,
    },
    /// A file or directory of a host.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// "cannot write".
        action: String,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A command of a host could not be run, or was too slow.
    #[error("{program}: {message}")]
    Command {
        /// Its program.
        program: String,
        /// Why.
        message: String,
    },
    /// An HTTP question was not answered.
    #[error("{endpoint}: {message}")]
    Http {
        /// Whom we asked.
        endpoint: String,
        /// Why.
        message: String,
    },
    /// A host cannot be reached, or the connection to it ended.
    #[error("{host}: {message}")]
    Connection {
        /// Which.
        host: String,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// What went wrong on a host that is not this machine.
    #[error("{host}: {error}")]
    OnHost {
        /// Which.
        host: String,
        /// What.
        error: Box<Self>,
    },
    /// The run did not get to its end on some hosts.
    #[error("{} of {} failed: {}", failures.len(), count(*of, "host"), failures.iter().map(|failure| failure.host.as_str()).collect::<Vec<_>>().join(", "))]
    Hosts {
        /// Those, and why.
        failures: Vec<HostFailure>,
        /// How many there are in all.
        of: usize,
    },
    /// A host told us something we do not understand.
    #[error("facts of host {host}: {message}")]
    Facts {
        /// Which.
        host: String,
        /// Why.
        message: String,
    },
    /// supervisord refused.
    #[error("supervisord: {0}")]
    Supervisor(String),
    /// A package could not be installed.
    #[error("{message}")]
    Package {
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The build failed.
    #[error("cargo build failed: {message}")]
    Build {
        /// The compiler's last words.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A secret cannot be had.
    #[error("cluster secret: {0}")]
    Secret(String),
    /// A template is wrong.
    #[error("template: {0}")]
    Template(String),
    /// A disk has no room for what is to come.
    #[error("{path}: {what} needs {needed}, and {free} are free there", path = path.display(), needed = crate::transfer::size(*needed), free = crate::transfer::size(*free))]
    NoRoom {
        /// Where it was to go.
        path: PathBuf,
        /// What.
        what: String,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// A file that was brought along is not what it should be, or cannot be had.
    #[error("{what}: {message}")]
    Artifact {
        /// Which.
        what: String,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A step failed.
    #[error("{step}: {message}")]
    Step {
        /// Its title.
        step: String,
        /// Why.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Something did not become ready.
    #[error("{what} was not ready after {seconds} s: {last}")]
    Gate {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// What it said last.
        last: String,
        /// Its last log lines.
        log: Vec<String>,
        /// Where its log is.
        log_path: PathBuf,
    },
    /// A change did not work and was taken back, or was to be.
    #[error("{error}; {}", taken_back(problem.as_deref()))]
    TakenBack {
        /// What did not work.
        error: Box<Self>,
        /// Why what ran before does not run again, if it does not.
        problem: Option<String>,
    },
    /// Another apply is at work.
    #[error("another provision is at work on {path}: {holder}", path = path.display())]
    Locked {
        /// The prefix.
        path: PathBuf,
        /// Who holds the lock.
        holder: String,
    },
    /// What needs a yes did not get one.
    #[error("{0}: not done")]
    Unconfirmed(String),
    /// Nothing of this cluster is on the host.
    #[error("nothing runs below {0}", prefix.display())]
    NotRunning {
        /// The prefix.
        prefix: PathBuf,
    },
    /// Interrupted by the user.
    #[error("interrupted")]
    Interrupted,
    /// A mistake of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

fn taken_back(problem: Option<&str>) -> String {
    match problem {
        None => "the change was taken back, and what ran before runs again".to_string(),
        Some(problem) => format!("taking the change back failed, too: {problem}"),
    }
}

/// `1 error`, `2 errors`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `2 d 3 h`, `4 min`, `12 s`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A host on which a run did not get to its end.
#[derive(Debug)]
pub struct HostFailure {
    /// Its name.
    pub host: String,
    /// Why.
    pub error: Error,
}

/// Why a host is not fit for the plan, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Stable name of the rule.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Error {
    /// The exit code that tells of this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::ReadInventory { .. } | Self::Inventory { .. } => ExitCode::Inventory,
            Self::Check { .. } | Self::NoRoom { .. } => ExitCode::Check,
            Self::Usage { .. } => ExitCode::Usage,
            Self::PlanFile { .. } | Self::Stale { .. } => ExitCode::Stale,
            Self::File { .. }
            | Self::Command { .. }
            | Self::Http { .. }
            | Self::Facts { .. }
            | Self::Connection { .. } => ExitCode::Host,
            Self::OnHost { error, .. } | Self::TakenBack { error, problem: Some(_) } => error.exit_code(),
            Self::TakenBack { .. } => ExitCode::TakenBack,
            // What went wrong first is what the others may follow from.
            Self::Hosts { failures, .. } => {
                failures.first().map_or(ExitCode::Internal, |failure| failure.error.exit_code())
            }
            Self::Package { .. } => ExitCode::Package,
            Self::Build { .. } => ExitCode::Build,
            Self::Supervisor(_) | Self::Secret(_) | Self::Step { .. } | Self::Artifact { .. } => {
                ExitCode::Apply
            }
            Self::Gate { .. } => ExitCode::Gate,
            Self::Locked { .. } => ExitCode::Locked,
            Self::Unconfirmed(_) => ExitCode::Usage,
            Self::NotRunning { .. } => ExitCode::Down,
            Self::Interrupted => ExitCode::Interrupted,
            Self::Template(_) | Self::Internal(_) => ExitCode::Internal,
        }
    }

    /// Whether nothing may be begun on any host: this one is not fit for its plan, or not what a saved plan was made for, or
    /// another run is at work there, and two runs never have half of the hosts each.
    pub fn is_unfit(&self) -> bool {
        match self {
            Self::Check { .. } | Self::Stale { .. } | Self::Locked { .. } => true,
            Self::OnHost { error, .. } => error.is_unfit(),
            _ => false,
        }
    }

    /// The last log lines of what failed, where there are any.
    pub fn log(&self) -> &[String] {
        match self {
            Self::Gate { log, .. } => log,
            Self::OnHost { error, .. } | Self::TakenBack { error, .. } => error.log(),
            _ => &[],
        }
    }

    /// What to do about it, where that is not in the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. }
            | Self::PlanFile { hint, .. }
            | Self::Package { hint, .. }
            | Self::Build { hint, .. }
            | Self::Artifact { hint, .. }
            | Self::Step { hint, .. }
            | Self::Connection { hint, .. } => Some(hint.clone()),
            Self::OnHost { error, .. } => error.hint(),
            Self::TakenBack { error, problem: None } => Some(match error.hint() {
                Some(hint) => format!("mend the inventory or the sources, then apply again; {hint}"),
                None => "mend the inventory or the sources, then apply again".to_string(),
            }),
            Self::TakenBack { error, .. } => error.hint(),
            Self::NoRoom { .. } => {
                Some("make room there, then run the same command again: what came already stays".to_string())
            }
            Self::Hosts { failures, .. } => Some(
                match failures.iter().any(|failure| failure.error.is_unfit()) {
                    true => "nothing was done on any host",
                    false => "nothing kept the other hosts from their end; apply again when these are mended",
                }
                .to_string(),
            ),
            Self::Stale { .. } => {
                Some("nothing was done; look at a new plan: `plan INVENTORY --out FILE`".to_string())
            }
            Self::Gate { log_path, .. } => Some(format!("its whole log: {}", log_path.display())),
            Self::Locked { .. } => Some(
                "wait for it to end; a lock never outlives its process. If that hangs: `provision lock break INVENTORY`"
                    .to_string(),
            ),
            Self::Unconfirmed(_) => Some("say yes on a terminal, or with --yes".to_string()),
            Self::NotRunning { .. } => Some("`provision apply INVENTORY` starts the cluster".to_string()),
            Self::Interrupted => Some("apply again to go on where this stopped".to_string()),
            Self::File { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull => {
                    Some("the disk is full: make room and apply again".to_string())
                }
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    Some("choose a writable directory with --prefix, or mend its permissions".to_string())
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// `1 directory`, `2 directories`.
pub(crate) fn count_of(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
