//! What was done on a host, one JSON object a line, synced before the next step begins.

use crate::error::Result;
use crate::layout::Layout;
use crate::transport::Transport;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Size from which a new journal is begun, in bytes.
const JOURNAL_MAX: u64 = 1 << 20;

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
    /// The run ended.
    Ended {
        /// The error, if it failed.
        error: Option<String>,
    },
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

    /// The step at which the last run was cut off, if it was.
    ///
    /// # Errors
    /// The journal is there and cannot be read.
    pub async fn interrupted(&self) -> Result<Option<String>> {
        let size = self.transport.read_from(&self.path, 0, 0).await?.map_or(0, |chunk| chunk.size);
        let from = size.saturating_sub(16 << 10);
        let tail = self.transport.read_from(&self.path, from, 16 << 10).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&tail.bytes).into_owned();
        let last = text.lines().rev().find_map(|line| serde_json::from_str::<Entry>(line).ok());
        Ok(match last.map(|entry| entry.what) {
            None | Some(What::Ended { .. }) => None,
            Some(What::Begun { command, .. }) => Some(format!("the beginning of `{command}`")),
            Some(What::Step { step }) => Some(format!("step {step}")),
            Some(What::Done { step }) => Some(format!("the end of step {step}")),
        })
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
        assert_eq!(journal.interrupted().await.expect("none yet"), None);
        let begun = What::Begun { command: "apply".to_string(), version: "1".to_string() };
        journal.add(begun).await.expect("written");
        journal.add(What::Step { step: "build".to_string() }).await.expect("written");
        assert_eq!(journal.interrupted().await.expect("readable").as_deref(), Some("step build"));
        // A torn last line, as a crash leaves it, is passed over.
        Local.append(&layout.state().join("journal.jsonl"), b"{\"at\":1,\"wh").await.expect("written");
        assert_eq!(journal.interrupted().await.expect("readable").as_deref(), Some("step build"));
        Local.append(&layout.state().join("journal.jsonl"), b"\n").await.expect("written");
        journal.add(What::Ended { error: None }).await.expect("written");
        assert_eq!(journal.interrupted().await.expect("readable"), None);
    }
}
