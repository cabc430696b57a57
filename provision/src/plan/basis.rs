//! What a plan was made from, so that it can be told whether that still holds. Pure.

use crate::error::Result;
use crate::facts::HostFacts;
use crate::layout::Layout;
use crate::redact;
use crate::resolve::{Cluster, Host};
use crate::supervisor::ProcessState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Things that a plan depends on, each by a name for people, with its value or a digest of it.
///
/// Of a host's facts: packages, Python, CPUs, GPUs, directories, links, the digests of managed files, what supervisord
/// runs and from which executable, our binaries. Not: the clock, free and used space, process ids of what is
/// supervised, who listens on ports, whether paths are writable; these are looked at again before anything is done.
/// Of the inventory: everything but comments, order, groups and tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Basis(pub BTreeMap<String, String>);

impl Basis {
    /// Of a host's facts.
    pub fn of_facts(host: &Host, facts: &HostFacts) -> Self {
        let mut basis = Self::default();
        basis.of_machine(facts);
        basis.of_files(&Layout::of(host), facts);
        basis.of_programs(facts);
        basis
    }

    /// Of an inventory.
    ///
    /// # Errors
    /// A value cannot be serialised: a mistake of ours.
    pub fn of_inventory(cluster: &Cluster) -> Result<Self> {
        let mut basis = Self::default();
        let value = serde_json::to_value(cluster);
        let value = value.map_err(|error| crate::Error::Internal(format!("an inventory: {error}")))?;
        for (key, value) in value.as_object().into_iter().flatten() {
            match key.as_str() {
                "hosts" => {}
                // Where our own notes lie follows from the rest.
                "stamp" => {}
                _ => basis.add(format!("`{key}`"), digest(value)),
            }
        }
        for host in value["hosts"].as_array().into_iter().flatten() {
            let name = host["name"].as_str().unwrap_or_default();
            for (key, value) in host.as_object().into_iter().flatten() {
                if !["name", "groups", "tags"].contains(&key.as_str()) {
                    basis.add(format!("`{key}` of host {name}"), digest(value));
                }
            }
        }
        Ok(basis)
    }

    fn add(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.insert(name.into(), value.to_string());
    }

    fn of_machine(&mut self, facts: &HostFacts) {
        self.add("the machine", format!("{}, {}, {}", facts.machine, facts.os_name, facts.libc));
        self.add("the user id", facts.uid);
        let python = facts.python.as_ref().map(|python| {
            format!("{} {} {} {}", python.path.display(), python.version, python.pip, python.ensurepip)
        });
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        for (name, value) in
            [("Python", python), ("apt-get", path(&facts.apt_get)), ("numactl", path(&facts.numactl))]
        {
            value.into_iter().for_each(|value| self.add(name, value));
        }
        for (place, tools) in [("PATH", &facts.path_tools), ("the prefix", &facts.prefix_tools)] {
            for (name, tool) in tools {
                let (major, minor, patch) = tool.version;
                let value = format!("{major}.{minor}.{patch} at {}", tool.path.display());
                self.add(format!("{name} on {place}"), value);
            }
        }
        let hardware = serde_json::to_value(&facts.hardware).unwrap_or_default();
        for (key, value) in hardware.as_object().into_iter().flatten() {
            // Links come and go; what is left of memory differs by cgroup.
            if !["interfaces", "memory_bytes"].contains(&key.as_str()) {
                self.add(format!("the hardware ({key})"), digest(value));
            }
        }
        for (path, farm) in &facts.farms {
            let value = format!("{} bytes, {} pieces", farm.allocated_bytes, farm.pieces_in_sector);
            self.add(format!("the farm {}", path.display()), value);
        }
    }

    fn of_files(&mut self, layout: &Layout, facts: &HostFacts) {
        let below = |path: &Path| path.strip_prefix(&layout.prefix).unwrap_or(path).display().to_string();
        for (path, digest) in facts.files.iter().filter(|(path, _)| !redact::is_secret_file(path)) {
            self.add(format!("the file {}", below(path)), digest);
        }
        for (name, link) in &facts.links {
            let leads = format!("{} ({})", link.target.display(), link.resolved.display());
            self.add(format!("the link bin/{name}"), leads);
        }
        // These two are made for the lock.
        let made = [layout.prefix.clone(), layout.state()];
        for path in facts.directories.iter().filter(|path| !made.contains(path)) {
            self.add(format!("the directory {}", below(path)), "there");
        }
        // Its fingerprint would let a weak one be guessed.
        if facts.secret.is_some() {
            self.add("the cluster secret", "there");
        }
        let build = &facts.build;
        for (name, digest) in &build.digests {
            self.add(format!("our {name}"), digest);
        }
        if let Some(due) = &build.due {
            self.add("the build", due);
        }
    }

    fn of_programs(&mut self, facts: &HostFacts) {
        let orphans: Vec<_> = facts.orphans().iter().map(|process| process.pid.to_string()).collect();
        if !orphans.is_empty() {
            self.add("processes without supervisord", orphans.join(", "));
        }
        let Some(supervisor) = &facts.supervisor else { return };
        self.add("supervisord", "runs");
        for (name, program) in &supervisor.programs {
            let runs = matches!(program.state, ProcessState::Running | ProcessState::Starting);
            let process = facts.processes.iter().find(|process| Some(process.pid) == program.pid);
            self.add(format!("the program {name}"), if runs { "runs" } else { "does not run" });
            if let Some(process) = process {
                self.add(format!("the executable of {name}"), process.executable.display());
            }
        }
        for name in &supervisor.stale {
            self.add(format!("the configuration of {name}"), "not loaded");
        }
        for name in &supervisor.removed {
            self.add(format!("the configuration of {name}"), "gone");
        }
    }

    /// What is different now, for people; digests are only said to have changed.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let differences = names.into_iter().filter_map(|name| match (self.0.get(name), now.0.get(name)) {
            (Some(before), Some(after)) if before == after => None,
            (Some(before), Some(after)) if is_digest(before) && is_digest(after) => {
                Some(format!("{name} changed"))
            }
            (Some(before), Some(after)) => Some(format!("{name}: was \"{before}\", is \"{after}\"")),
            (Some(_), None) => Some(format!("{name} is gone")),
            (None, _) => Some(format!("{name} is new")),
        });
        differences.collect()
    }

    /// SHA-256 over all of it, in hex.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, value) in &self.0 {
            hasher.update(format!("{}:{name}{}:{value}", name.len(), value.len()));
        }
        hex::encode(hasher.finalize())
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn digest(value: &Value) -> String {
    // Maps are sorted by their keys.
    hex::encode(Sha256::digest(value.to_string()))
}
