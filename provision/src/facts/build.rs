//! Whether our binaries are built from the sources as they stand.

use crate::artifacts::{self, GlibcNeed};
use crate::error::{Error, Result};
use crate::inventory::Artifact;
use crate::resolve::REFERENCE_STRING;
use crate::transfer::Origin;
use crate::transport::Transport;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Cargo packages and the binary that each gives.
pub const BINARIES: [(&str, &str); 2] = [("farmer", "autonomys-farmer"), ("dev-node", "autonomys-dev-node")];

/// SHA-256 of the live network's reference string.
const LIVE_REFERENCE_STRING: &str = "f3ead1a6249527aa503d6c56578325c01d19b3365cc59905be2bba64ae322925";

/// What a build left behind, so that the next run can tell that nothing is to be built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The workspace that was built.
    pub workspace: PathBuf,
    /// The executables by name.
    pub executables: BTreeMap<String, PathBuf>,
    /// Digest over the state of every source and executable.
    pub inputs: String,
}

/// What is known of the binaries on the control machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFacts {
    /// The workspace; none when we are not in one.
    pub workspace: Option<PathBuf>,
    /// Why a build is due; none when the binaries are those of the sources.
    pub due: Option<String>,
    /// Executables by name, when no build is due.
    pub executables: BTreeMap<String, PathBuf>,
    /// Their SHA-256.
    pub digests: BTreeMap<String, String>,
    /// What they need of a host's C library.
    pub glibc: BTreeMap<String, GlibcNeed>,
}

impl BuildFacts {
    /// Notes a file that the operator brings. What is still to be fetched is known by its digest.
    pub(super) async fn bring(
        &mut self,
        name: &str,
        artifact: &Artifact,
        cache: &Path,
        control: &dyn Transport,
    ) -> Result<()> {
        let path = artifact.path(cache);
        let wanted = artifact.sha256.as_ref().map(|digest| &digest.value);
        match control.digest(&path).await? {
            Some(digest) => {
                check_digest(name, &path, &digest, wanted)?;
                self.digests.insert(name.to_string(), digest);
                self.note_need(name, &path)?;
            }
            None => {
                let fetched = wanted.filter(|_| matches!(artifact.origin.value, Origin::Url(_)));
                self.digests.extend(fetched.map(|digest| (name.to_string(), digest.clone())));
            }
        }
        self.executables.insert(name.to_string(), path);
        Ok(())
    }

    /// Notes what an executable needs of a host's C library.
    fn note_need(&mut self, name: &str, path: &Path) -> Result<()> {
        if let Some(need) = artifacts::glibc_need(path)? {
            self.glibc.insert(name.to_string(), need);
        }
        Ok(())
    }
}

/// Refuses what is not what the inventory, or the network, says.
fn check_digest(name: &str, path: &Path, digest: &str, wanted: Option<&String>) -> Result<()> {
    let error = |wanted: &str, hint: &str| Error::Artifact {
        what: path.display().to_string(),
        message: format!("its SHA-256 is {digest}, expected {wanted}"),
        hint: hint.to_string(),
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
        return Err(error(wanted, "bring the file that the inventory means, or mend `sha256:` there"));
    }
    if name == REFERENCE_STRING && digest != LIVE_REFERENCE_STRING {
        return Err(error(LIVE_REFERENCE_STRING, "bring the live network's reference string"));
    }
    Ok(())
}

/// Reads the stamp of the last build ([`crate::resolve::Cluster::stamp`]); none when there is none that can be read.
///
/// # Errors
/// The file is there and cannot be read.
pub async fn read_stamp(path: &Path, control: &dyn Transport) -> Result<Option<Stamp>> {
    let bytes = control.read(path, 1 << 20).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

pub(super) async fn gather(stamp: &Path, control: &dyn Transport) -> Result<BuildFacts> {
    // `cargo run` in another directory still says where it was started from.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let starts = [std::env::current_dir().ok(), manifest];
    let Some(workspace) = starts.into_iter().flatten().find_map(|start| find_workspace(&start)) else {
        return Ok(BuildFacts::default());
    };
    let mut facts = BuildFacts { workspace: Some(workspace.clone()), ..BuildFacts::default() };
    let stamp = read_stamp(stamp, control).await.ok().flatten().filter(|stamp| stamp.workspace == workspace);
    let Some(stamp) = stamp else {
        facts.due = Some("not built by this tool yet".to_string());
        return Ok(facts);
    };
    let now = of_workspace(&workspace, stamp.executables.clone());
    if now.inputs != stamp.inputs {
        facts.due = Some("sources, toolchain or binaries changed since the last build".to_string());
        return Ok(facts);
    }
    for (name, path) in &stamp.executables {
        match control.digest(path).await? {
            Some(digest) => {
                facts.digests.insert(name.clone(), digest);
                facts.note_need(name, path)?;
            }
            None => facts.due = Some(format!("{} is gone", path.display())),
        }
    }
    facts.executables = stamp.executables;
    Ok(facts)
}

/// The stamp of the workspace as it stands: every source that cargo's dependency files name, and what else decides.
pub fn of_workspace(workspace: &Path, executables: BTreeMap<String, PathBuf>) -> Stamp {
    let mut inputs: BTreeSet<PathBuf> =
        ["Cargo.toml", "Cargo.lock", ".cargo/config.toml"].iter().map(|name| workspace.join(name)).collect();
    for executable in executables.values() {
        inputs.insert(executable.clone());
        let dependencies = std::fs::read_to_string(executable.with_extension("d")).unwrap_or_default();
        inputs.extend(dependency_paths(&dependencies));
        // A crate's manifest decides as much as its sources.
        let manifests: Vec<_> = inputs
            .iter()
            .filter_map(|path| path.ancestors().find(|above| above.ends_with("src"))?.parent())
            .map(|directory| directory.join("Cargo.toml"))
            .collect();
        inputs.extend(manifests);
    }
    let mut hasher = Sha256::new();
    for path in &inputs {
        let state = std::fs::metadata(path).map(|state| (state.size(), state.mtime(), state.mtime_nsec()));
        hasher.update(format!("{}\t{:?}\n", path.display(), state.ok()));
    }
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        hasher.update(format!("{variable}={:?}\n", std::env::var_os(variable)));
    }
    Stamp { workspace: workspace.to_path_buf(), executables, inputs: hex::encode(hasher.finalize()) }
}

/// The sources that a dependency file of cargo (`TARGET: SOURCE SOURCE …`) names.
fn dependency_paths(text: &str) -> Vec<PathBuf> {
    let sources = text.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, sources)| {
        // Blanks in paths are escaped with a backslash.
        let joined = sources.replace("\\ ", "\0");
        joined.split_whitespace().map(|path| PathBuf::from(path.replace('\0', " "))).collect::<Vec<_>>()
    });
    sources.collect()
}

/// The nearest directory above that holds this workspace.
fn find_workspace(start: &Path) -> Option<PathBuf> {
    let is_ours = |directory: &&Path| {
        let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("[workspace]") && directory.join("farmer/farmer/Cargo.toml").is_file()
    };
    start.ancestors().find(is_ours).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependency_files_with_blanks_in_paths() {
        let paths = dependency_paths("/t/release/farmer: /a/src/lib.rs /b\\ c/src/main.rs\n\n");
        assert_eq!(paths, [PathBuf::from("/a/src/lib.rs"), PathBuf::from("/b c/src/main.rs")]);
    }

    #[test]
    fn a_touched_source_is_a_reason_to_build() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let source = directory.path().join("src/main.rs");
        std::fs::create_dir_all(source.parent().expect("has one")).expect("made");
        std::fs::write(&source, "fn main() {}").expect("written");
        let binary = directory.path().join("farmer");
        std::fs::write(&binary, "ELF").expect("written");
        std::fs::write(binary.with_extension("d"), format!("{}: {}\n", binary.display(), source.display()))
            .expect("written");
        let executables = BTreeMap::from([("farmer".to_string(), binary)]);
        let before = of_workspace(directory.path(), executables.clone());
        assert_eq!(before, of_workspace(directory.path(), executables.clone()));
        std::fs::write(&source, "fn main() { }").expect("written");
        assert_ne!(before, of_workspace(directory.path(), executables));
    }
}
