//! File sets that stood on a host before: what a rollback puts back.
//!
//! All of them lie in one file, so that keeping one is one write that a power cut leaves done or not done.

use crate::derive::Program;
use crate::error::{Error, Problem, Result};
use crate::facts::HostFacts;
use crate::layout::Layout;
use crate::transport::{Command, Transport};
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Version of the file.
const VERSION: u32 = 1;
/// Generations that a host keeps.
pub const GENERATIONS_MAX: usize = 5;
/// Largest configuration file that is kept, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// Largest file of generations that is read, in bytes.
const KEPT_MAX: u64 = 12 << 20;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Contents {
    /// Text.
    Text(String),
    /// Anything else, in hex.
    Hex(String),
}

impl Contents {
    fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Hex(hex::encode(error.as_bytes())), Self::Text)
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::Hex(hex) => hex::decode(hex)
                .map_err(|error| Error::Internal(format!("a kept file cannot be decoded: {error}"))),
        }
    }
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    mode: u32,
    contents: Contents,
}

/// The configuration files and binary links of a host, and the programs that run on them. No data, and not the cluster secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSet {
    /// Files below `etc`.
    pub files: BTreeMap<PathBuf, KeptFile>,
    /// Links in `bin`: name and target.
    pub links: BTreeMap<String, PathBuf>,
    /// Programs in the order of their start; empty where nobody wrote them down.
    #[serde(deserialize_with = "known_programs")]
    pub programs: Vec<Program>,
}

impl FileSet {
    /// Reads what stands on a host. `programs` are those that it is for.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn capture(
        layout: &Layout,
        facts: &HostFacts,
        programs: Vec<Program>,
        transport: &dyn Transport,
    ) -> Result<Self> {
        let secret = layout.secret();
        let paths: Vec<_> = facts.files.keys().filter(|path| **path != secret).collect();
        let modes = modes(&paths, transport).await;
        let reading = paths.into_iter().map(async |path| {
            let bytes = transport.read(path, FILE_MAX).await?;
            // Of a file whose mode nobody knows, others learn nothing.
            let mode = modes.get(path).copied().unwrap_or(0o600);
            Result::Ok(bytes.map(|bytes| (path.clone(), KeptFile { mode, contents: Contents::of(bytes) })))
        });
        let files = try_join_all(reading).await?.into_iter().flatten().collect();
        let links = facts.links.iter().filter(|(_, link)| !link.resolved.as_os_str().is_empty());
        let links = links.map(|(name, link)| (name.clone(), link.target.clone())).collect();
        Ok(Self { files, links, programs })
    }

    /// Whether a host could run on it: there is something to go back to.
    pub fn is_whole(&self, layout: &Layout) -> bool {
        self.files.contains_key(&layout.supervisord_conf())
    }

    /// Puts the set in place: each file and link is old or new at any moment. `there` are files that may be there beside it:
    /// those that configure programs are removed. Returns what was changed.
    ///
    /// # Errors
    /// Something cannot be written, or a binary is gone.
    pub async fn restore<'p>(
        &self,
        there: impl IntoIterator<Item = &'p PathBuf>,
        layout: &Layout,
        transport: &dyn Transport,
    ) -> Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut links = Vec::new();
        // Looked at before anything is touched: nothing is put back by halves.
        for (name, target) in &self.links {
            let Some(wanted) = transport.resolve(target).await? else {
                return Err(Error::Step {
                    step: format!("put {name} back"),
                    message: format!("{} is gone", target.display()),
                    hint: "apply the inventory as it was instead".to_string(),
                });
            };
            let link = layout.bin().join(name);
            if transport.resolve(&link).await?.as_ref() != Some(&wanted) {
                links.push((target, link));
            }
        }
        for (target, link) in links {
            transport.link(target, &link).await?;
            changed.insert(link);
        }
        for (path, file) in &self.files {
            let bytes = file.contents.bytes()?;
            if transport.digest(path).await?.is_none_or(|there| there != digest(&bytes)) {
                transport.write(path, &bytes, file.mode).await?;
                changed.insert(path.clone());
            }
        }
        for path in there.into_iter().filter(|path| configures_program(path, layout)) {
            if !self.files.contains_key(path) && transport.digest(path).await?.is_some() {
                transport.remove_file(path).await?;
                changed.insert(path.clone());
            }
        }
        Ok(changed)
    }

    /// What tells it from another one: files below the prefix and binaries.
    pub fn differences(&self, other: &Self, layout: &Layout) -> Vec<String> {
        let shown = |path: &Path| path.strip_prefix(&layout.prefix).unwrap_or(path).display().to_string();
        let files: BTreeSet<_> = self.files.keys().chain(other.files.keys()).collect();
        let files = files.into_iter().filter(|path| self.files.get(*path) != other.files.get(*path));
        let links: BTreeSet<_> = self.links.keys().chain(other.links.keys()).collect();
        let links = links.into_iter().filter(|name| self.links.get(*name) != other.links.get(*name));
        files.map(|path| shown(path)).chain(links.map(|name| format!("bin/{name}"))).collect()
    }

    fn same_files(&self, other: &Self) -> bool {
        self.files == other.files && self.links == other.links
    }
}

/// Programs as this version knows them; none when another version wrote them down otherwise: the files are what counts.
fn known_programs<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<Program>, D::Error> {
    let programs = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(programs).unwrap_or_default())
}

fn configures_program(path: &Path, layout: &Layout) -> bool {
    path.parent() == Some(&layout.etc().join("supervisor.d"))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The modes of files, of those that can be asked.
async fn modes(paths: &[&PathBuf], transport: &dyn Transport) -> BTreeMap<PathBuf, u32> {
    if paths.is_empty() {
        return BTreeMap::new();
    }
    let command = Command::new("stat").args(["-c", "%a %n", "--"]).args(paths);
    let Ok(output) = transport.run(&command).await else { return BTreeMap::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(mode, path)| Some((path.into(), u32::from_str_radix(mode, 8).ok()?))).collect()
}

/// A file set as it was before a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The run that replaced it, by the moment of its beginning: `20261121-054200`. The same on every host of the run, and later
    /// ones sort behind earlier ones.
    pub name: String,
    /// What replaced it: `apply`.
    pub command: String,
    /// What stood there.
    pub set: FileSet,
}

/// What a host keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    /// The newest generation that is kept no more.
    forgotten: Option<String>,
    /// Programs of what is in place, or is being put there.
    #[serde(deserialize_with = "known_programs")]
    programs: Vec<Program>,
    /// Oldest first.
    generations: Vec<Generation>,
}

impl Kept {
    fn path(layout: &Layout) -> PathBuf {
        layout.state().join("previous.json")
    }

    /// Reads what a host keeps; nothing when it keeps nothing.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub async fn read(layout: &Layout, transport: &dyn Transport) -> Result<Self> {
        let path = Self::path(layout);
        let Some(bytes) = transport.read(&path, KEPT_MAX).await? else { return Ok(Self::default()) };
        let wrong = |message: String| Error::Step {
            step: "read the generations that the host keeps".to_string(),
            message: format!("{}: {message}", path.display()),
            hint: "move this file away and apply again: what was kept in it cannot be put back by `rollback`"
                .to_string(),
        };
        let kept: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match kept.version {
            VERSION => Ok(kept),
            other => Err(wrong(format!("version {other}, this provision knows {VERSION}"))),
        }
    }

    /// Writes it, for us alone: a configuration file may hold what others must not read.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn write(&self, layout: &Layout, transport: &dyn Transport) -> Result<()> {
        let kept = Self { version: VERSION, ..self.clone() };
        let bytes = serde_json::to_vec(&kept).map_err(|error| Error::Internal(error.to_string()))?;
        transport.write(&Self::path(layout), &bytes, 0o600).await
    }

    /// The generations, oldest first.
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// Programs of what is in place.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// Writes down for which programs the files are that are being put in place.
    pub fn set_programs(&mut self, programs: Vec<Program>) {
        self.programs = programs;
    }

    /// Adds what a run replaces. One that differs in nothing from the newest takes its place: nothing happened in between.
    pub fn add(&mut self, generation: Generation) {
        let same = |newest: &mut Generation| newest.set.same_files(&generation.set);
        self.generations.pop_if(same);
        self.generations.push(generation);
        let surplus = self.generations.len().saturating_sub(GENERATIONS_MAX);
        if let Some(last) = self.generations.drain(..surplus).next_back() {
            self.forgotten = Some(last.name);
        }
    }

    /// What stood here before the last run that changed something.
    pub fn newest(&self) -> Option<&FileSet> {
        self.generations.last().map(|generation| &generation.set)
    }

    /// What stood here before a run; none when nothing has changed here since.
    ///
    /// # Errors
    /// The host does not keep it any more.
    pub fn before(&self, run: &str) -> Result<Option<&Generation>> {
        if self.forgotten.as_deref().is_some_and(|forgotten| run <= forgotten) {
            let problem = Problem {
                code: "forgotten",
                message: format!("what stood here before {run} is kept no more"),
                hint: format!("the newest {GENERATIONS_MAX} are: `provision rollback INVENTORY --list`"),
            };
            return Err(Error::Check { problems: vec![problem] });
        }
        Ok(self.generations.iter().find(|generation| generation.name.as_str() >= run))
    }

    /// Directories of artifacts that a generation needs, by name.
    pub fn artifacts(&self, layout: &Layout) -> BTreeSet<String> {
        let below = layout.prefix.join("artifacts");
        let targets = self.generations.iter().flat_map(|generation| generation.set.links.values());
        let named = targets.filter_map(|target| {
            let directory = target.parent().filter(|parent| parent.parent() == Some(&below))?;
            Some(directory.file_name()?.to_string_lossy().into_owned())
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::LinkFacts;
    use crate::transport::Local;

    fn generation(name: &str, contents: &str) -> Generation {
        let file = KeptFile { mode: 0o644, contents: Contents::Text(contents.to_string()) };
        let files = BTreeMap::from([(PathBuf::from("/p/etc/x.conf"), file)]);
        let set = FileSet { files, ..FileSet::default() };
        Generation { name: name.to_string(), command: "apply".to_string(), set }
    }

    #[test]
    fn a_few_are_kept_and_what_was_forgotten_is_said() {
        let mut kept = Kept::default();
        for (name, contents) in [("1", "a"), ("2", "a"), ("3", "b")] {
            kept.add(generation(name, contents));
        }
        // Nothing had changed between 1 and 2: what stood there before either is the same.
        assert_eq!(kept.generations().iter().map(|kept| kept.name.as_str()).collect::<Vec<_>>(), ["2", "3"]);
        for run in ["1", "2"] {
            assert_eq!(kept.before(run).expect("kept").map(|found| found.name.as_str()), Some("2"), "{run}");
        }
        assert_eq!(kept.before("4").expect("nothing since"), None);
        for (name, contents) in [("4", "c"), ("5", "d"), ("6", "e"), ("7", "f")] {
            kept.add(generation(name, contents));
        }
        assert_eq!(kept.generations().len(), GENERATIONS_MAX);
        let error = kept.before("2").expect_err("forgotten");
        assert!(error.to_string().contains("before 2 is kept no more"), "{error}");
        assert_eq!(kept.before("3").expect("kept").map(|found| found.name.as_str()), Some("3"));
    }

    #[tokio::test]
    async fn a_set_is_put_back_byte_for_byte() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::new(directory.path());
        for path in [layout.etc().join("supervisor.d"), layout.bin(), layout.state()] {
            Local.make_directory(&path, 0o755).await.expect("made");
        }
        let (text, bytes) = (layout.supervisord_conf(), layout.nats_conf());
        Local.write(&text, b"old\n", 0o644).await.expect("written");
        Local.write(&bytes, b"\xff\xfe", 0o600).await.expect("written");
        Local.write(&layout.secret(), b"secret of the host", 0o600).await.expect("written");
        let artifact = layout.artifact("0123456789abcdef", "tool");
        Local.make_directory(artifact.parent().expect("parent"), 0o755).await.expect("made");
        Local.write(&artifact, b"old", 0o755).await.expect("written");
        let link = layout.bin().join("tool");
        Local.link(&artifact, &link).await.expect("linked");
        let mut facts = HostFacts::default();
        for path in [&text, &bytes, &layout.secret()] {
            facts.files.insert(path.clone(), String::new());
        }
        let resolved = artifact.clone();
        facts.links.insert("tool".to_string(), LinkFacts { target: artifact.clone(), resolved });
        let set = FileSet::capture(&layout, &facts, Vec::new(), &Local).await.expect("readable");
        let mut kept = Kept::default();
        kept.add(Generation { name: "1".to_string(), command: "apply".to_string(), set });
        kept.write(&layout, &Local).await.expect("written");
        let kept = Kept::read(&layout, &Local).await.expect("readable");
        assert_eq!(kept.artifacts(&layout), BTreeSet::from(["0123456789abcdef".to_string()]));
        let raw = std::fs::read_to_string(Kept::path(&layout)).expect("text");
        assert!(!raw.contains("secret of the host"));
        // Programs that another version wrote down otherwise do not keep the files from being put back.
        let other = raw.replacen("\"programs\":[]", "\"programs\":[{\"name\":7}]", 1);
        assert_ne!(raw, other);
        Local.write(&Kept::path(&layout), other.as_bytes(), 0o600).await.expect("written");
        assert_eq!(Kept::read(&layout, &Local).await.expect("readable").generations(), kept.generations());

        Local.write(&text, b"new\n", 0o600).await.expect("written");
        Local.write(&bytes, b"new", 0o644).await.expect("written");
        Local.link(&text, &link).await.expect("linked");
        let extra = layout.program_conf("new");
        Local.write(&extra, b"", 0o644).await.expect("written");
        let set = &kept.generations()[0].set;
        let there = [extra.clone(), layout.secret()];
        let changed = set.restore(&there, &layout, &Local).await.expect("put back");
        assert_eq!(changed, BTreeSet::from([text.clone(), bytes.clone(), link.clone(), extra.clone()]));
        assert_eq!(std::fs::read(&text).expect("there"), b"old\n");
        assert_eq!(std::fs::read(&bytes).expect("there"), b"\xff\xfe");
        let mode = |path: &Path| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(path).expect("there").permissions().mode() & 0o777
        };
        assert_eq!((mode(&text), mode(&bytes)), (0o644, 0o600));
        assert_eq!(std::fs::read_link(&link).expect("a link"), artifact);
        assert!(!extra.exists() && layout.secret().exists());
        let again = set.restore(&there, &layout, &Local).await.expect("there already");
        assert!(again.is_empty());

        // A binary that is gone: nothing is put back by halves.
        std::fs::remove_file(&artifact).expect("removed");
        Local.write(&text, b"new\n", 0o644).await.expect("written");
        let error = set.restore(&there, &layout, &Local).await.expect_err("gone");
        assert!(error.to_string().contains("is gone"), "{error}");
        assert_eq!(std::fs::read(&text).expect("there"), b"new\n");
    }
}
