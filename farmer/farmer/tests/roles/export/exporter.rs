//! The exporter as a child process, and stores as it leaves them.

use crate::roles_support::srs_cache;
use piece_store::{FullPieceStore, StoreOptions};
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, PieceIndex};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A machine with other work to do archives a segment in minutes.
pub const LONG: Duration = Duration::from_secs(400);

/// The binary without settings of the caller's.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autonomys-export-piece"));
    for name in ["AUTONOMYS_SRS", "NODE_URL", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A running export; dropping it kills it.
pub struct Exporter {
    child: Child,
    log: PathBuf,
    out: PathBuf,
}

/// How an export ended.
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
    /// The summary; null when there is none.
    pub summary: Value,
}

impl Exporter {
    /// Starts an export into `output` with the development string; its log and output go to files beside it.
    pub fn start(output: &Path, arguments: &[&str]) -> Self {
        Self::spawn(output, command().arg("--dev-srs-cache").arg(srs_cache()).args(arguments))
    }

    pub fn spawn(output: &Path, command: &mut Command) -> Self {
        let (log, out) = (output.with_extension("log"), output.with_extension("out"));
        let file = |path: &Path| std::fs::File::create(path).unwrap();
        let child = command.arg("--json").arg("--output").arg(output);
        let child = child.stdout(file(&out)).stderr(file(&log)).spawn().unwrap();
        Self { child, log, out }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has these words.
    pub fn wait_for(&mut self, words: &str) {
        let deadline = Instant::now() + LONG;
        while !self.log().contains(words) {
            assert!(self.child.try_wait().unwrap().is_none(), "ended before {words:?}:\n{}", self.log());
            assert!(Instant::now() < deadline, "not within {LONG:?}: {words:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn kill(self) {
        self.signal("-KILL");
        assert_eq!(self.wait().status.signal(), Some(9));
    }

    pub fn terminate(self) -> Ended {
        self.signal("-TERM");
        self.wait()
    }

    pub fn wait(mut self) -> Ended {
        let deadline = Instant::now() + LONG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it still runs after {LONG:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        };
        let out = std::fs::read_to_string(&self.out).unwrap();
        Ended { status, log: self.log(), summary: serde_json::from_str(&out).unwrap_or(Value::Null) }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Nothing is to be done about a child that cannot be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Ended {
    /// It has to have exported everything; gives how many segments were there and how many were archived.
    pub fn complete(&self) -> (u64, u64) {
        assert_eq!(self.status.code(), Some(0), "{}", self.log);
        assert_eq!(self.summary["complete"], true, "{}", self.summary);
        let count = |name: &str| self.summary[name].as_u64().unwrap();
        (count("segments_already_there"), count("segments_archived"))
    }

    /// It has to have failed with this exit status and said all of this.
    pub fn failed_with(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}", self.log);
        for word in words {
            assert!(self.log.contains(word), "{word:?} is not said:\n{}", self.log);
        }
    }
}

/// Hashes of the bytes of all pieces in a store, which match the hashes stored with them.
pub fn pieces(path: &Path) -> BTreeMap<PieceIndex, Blake3Hash> {
    let store = FullPieceStore::open(path, &StoreOptions::default()).unwrap();
    let hash = |index| {
        let piece = store.get(index).unwrap();
        assert_eq!(blake3_hash(&piece), piece.hash(), "{index}");
        (index, piece.hash())
    };
    store.contents().into_iter().map(hash).collect()
}

/// Names and bytes of all files of a database.
pub fn files(path: &Path) -> BTreeMap<OsString, Blake3Hash> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name(), blake3_hash(&std::fs::read(entry.path()).unwrap()))).collect()
}
