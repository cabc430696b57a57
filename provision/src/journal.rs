//! What was done on a host, one JSON object a line, synced before the next step begins.

use crate::error::Result;
use crate::layout::Layout;
use crate::transport::Transport;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Size from which a new journal is begun, in bytes.
const JOURNAL_MAX: u64 = 1 << 20;
/// How much of its end is read, in bytes: more than a run writes.
const TAIL: u64 = 256 << 10;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Seconds since 1970.
    pub at: u64,
    /// Process that wrote it.
    pub pid: u32,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A run began.
    Begun {
        /// `apply`.
        command: String,
        /// Version of this tool.
        version: String,
    },
    /// A step that changes something began.
    Step {
        /// Its identity.
        step: String,
    },
    /// It ended well.
    Done {
        /// Its identity.
        step: String,
    },
    /// What stands here before the run is kept as this generation, or was by the run before, which did not get to its end.
    Kept {
        /// Its name.
        generation: String,
    },
    /// A generation is being put back.
    PuttingBack {
        /// Its name.
        generation: String,
    },
    /// It is in place, and its programs run.
    PutBack {
        /// Its name.
        generation: String,
    },
    /// The run ended.
    Ended {
        /// The error, if it failed.
        error: Option<String>,
    },
}

/// What became of the last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The step at which it was cut off, if it was.
    pub cut_off: Option<String>,
    /// Whether it may have changed files, and neither got to its end nor put them back: what stands there is a mixture, and the
    /// newest generation is what to go back to.
    pub unsettled: bool,
}

/// The journal of a host.
pub struct Journal<'a> {
    transport: &'a dyn Transport,
    path: PathBuf,
}

impl<'a> Journal<'a> {
    /// The journal of a host.
    pub fn new(layout: &Layout, transport: &'a dyn Transport) -> Self {
        Self { transport, path: layout.state().join("journal.jsonl") }
    }

    /// What became of the last run.
    ///
    /// # Errors
    /// The journal is there and cannot be read.
    pub async fn last_run(&self) -> Result<LastRun> {
        let size = self.transport.read_from(&self.path, 0, 0).await?.map_or(0, |chunk| chunk.size);
        let from = size.saturating_sub(TAIL);
        let tail = self.transport.read_from(&self.path, from, TAIL).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&tail.bytes).into_owned();
        let mut last = LastRun::default();
        for entry in text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
            last.cut_off = match &entry.what {
                What::Ended { .. } => None,
                What::Begun { command, .. } => Some(format!("the beginning of `{command}`")),
                What::Step { step } => Some(format!("step {step}")),
                What::Done { step } => Some(format!("the end of step {step}")),
                What::Kept { .. } => last.cut_off,
                What::PuttingBack { generation } => Some(format!("putting {generation} back")),
                What::PutBack { generation } => Some(format!("the end of putting {generation} back")),
            };
            last.unsettled = match entry.what {
                What::Ended { error: None } | What::PutBack { .. } => false,
                What::Kept { .. } => true,
                _ => last.unsettled,
            };
        }
        Ok(last)
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn add(&self, what: What) -> Result<()> {
        if matches!(what, What::Begun { .. }) {
            self.rotate().await?;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let entry = Entry { at, pid: std::process::id(), what };
        let mut line = serde_json::to_string(&entry).expect("an entry has only text and numbers");
        line.push('\n');
        self.transport.append(&self.path, line.as_bytes()).await
    }

    async fn rotate(&self) -> Result<()> {
        let size = self.transport.read_from(&self.path, 0, 0).await?.map_or(0, |chunk| chunk.size);
        if size > JOURNAL_MAX {
            let old = self.transport.read(&self.path, size + JOURNAL_MAX).await?.unwrap_or_default();
            self.transport.write(&self.path.with_extension("jsonl.1"), &old, 0o600).await?;
            self.transport.remove_file(&self.path).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Local;

    #[tokio::test]
    async fn a_run_that_was_cut_off_is_found() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(directory.path());
        Local.make_directory(&layout.state(), 0o755).await.expect("made");
        let journal = Journal::new(&layout, &Local);
        let cut_off = async || journal.last_run().await.expect("readable").cut_off;
        assert_eq!(cut_off().await, None);
        let begun = What::Begun { command: "apply".to_string(), version: "1".to_string() };
        journal.add(begun).await.expect("written");
        journal.add(What::Step { step: "build".to_string() }).await.expect("written");
        assert_eq!(cut_off().await.as_deref(), Some("step build"));
        // A torn last line, as a crash leaves it, is passed over.
        Local.append(&layout.state().join("journal.jsonl"), b"{\"at\":1,\"wh").await.expect("written");
        assert_eq!(cut_off().await.as_deref(), Some("step build"));
        Local.append(&layout.state().join("journal.jsonl"), b"\n").await.expect("written");
        journal.add(What::Ended { error: None }).await.expect("written");
        assert_eq!(cut_off().await, None);
    }

    #[tokio::test]
    async fn a_run_that_left_a_mixture_is_told_from_one_that_did_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(directory.path());
        Local.make_directory(&layout.state(), 0o755).await.expect("made");
        let journal = Journal::new(&layout, &Local);
        let begun = || What::Begun { command: "apply".to_string(), version: "1".to_string() };
        let generation = || "20261121-054200".to_string();
        let kept = || What::Kept { generation: generation() };
        let failed = || What::Ended { error: Some("no".to_string()) };
        let file = || What::Step { step: "file:etc/x".to_string() };
        let back = || What::PutBack { generation: generation() };
        let putting = || What::PuttingBack { generation: generation() };
        for (entries, cut_off, unsettled) in [
            (vec![begun(), file()], Some("step file:etc/x"), false),
            (vec![begun(), kept(), file()], Some("step file:etc/x"), true),
            (vec![begun(), kept(), What::Ended { error: None }], None, false),
            (vec![begun(), kept(), file(), failed()], None, true),
            // The next run failed before it began to change anything.
            (vec![begun(), failed()], None, true),
            (vec![begun(), kept(), putting()], Some("putting 20261121-054200 back"), true),
            (vec![begun(), kept(), putting(), back(), failed()], None, false),
            (vec![begun(), failed()], None, false),
        ] {
            for entry in entries {
                journal.add(entry).await.expect("written");
            }
            let expected = LastRun { cut_off: cut_off.map(str::to_string), unsettled };
            assert_eq!(journal.last_run().await.expect("readable"), expected);
        }
    }
}
