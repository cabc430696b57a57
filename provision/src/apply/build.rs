//! `cargo build` of our binaries, told as it goes.

use crate::error::{Error, Result};
use crate::transport::{Command, Local, Stream, Transport};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A cold build on a slow machine.
const BUILD: Duration = Duration::from_secs(4 * 3600);

/// What a build gave.
pub(crate) struct Built {
    /// Executables by name.
    pub(crate) executables: BTreeMap<String, PathBuf>,
    /// Crates that had to be compiled.
    pub(crate) compiled: usize,
}

/// A line of cargo's `--message-format=json`, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Variables that `cargo run` set for this process. An inner cargo must not see them: build scripts that look at them, and all that
/// depends on these, would be built anew each time.
pub fn set_by_cargo_run() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    })
}

/// Builds binaries, each named with its package.
pub(crate) async fn cargo(
    workspace: &Path,
    binaries: &[(&str, &str)],
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Built> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo)
        .args(["build", "--release", "--message-format=json-render-diagnostics"])
        .directory(workspace)
        .deadline(BUILD);
    for (package, binary) in binaries {
        command = command.args(["-p", package, "--bin", binary]);
    }
    command.without.extend(set_by_cargo_run());

    let mut built = Built { executables: BTreeMap::new(), compiled: 0 };
    let mut on_line = |stream: Stream, line: &str| match stream {
        Stream::Err => {
            let line = line.trim();
            if line.starts_with("Compiling ") || line.starts_with("Blocking ") || line.starts_with("Download")
            {
                progress(line);
            }
        }
        Stream::Out => {
            let Ok(message) = serde_json::from_str::<Message>(line) else { return };
            if message.reason != "compiler-artifact" {
                return;
            }
            let Some(target) = message.target else { return };
            if !message.fresh {
                built.compiled += 1;
                progress(&format!("{} compiled: {}", built.compiled, target.name));
            }
            if let Some(executable) = message.executable {
                built.executables.insert(target.name, executable);
            }
        }
    };
    let output = Local.run_lines(&command, &mut on_line).await.map_err(|error| Error::Build {
        message: error.to_string(),
        hint: "Rust's cargo must be on PATH: https://rustup.rs".to_string(),
    })?;
    if !output.success() {
        return Err(Error::Build {
            message: format!("{}\n{}", output.status, output.last_words(30)),
            hint: format!("cargo build --release in {} shows all of it", workspace.display()),
        });
    }
    match binaries.iter().find(|(_, binary)| !built.executables.contains_key(*binary)) {
        None => Ok(built),
        Some((package, binary)) => Err(Error::Build {
            message: format!("package {package} gave no {binary}"),
            hint: "is this workspace complete?".to_string(),
        }),
    }
}
