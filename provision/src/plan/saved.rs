//! Plans in a file: what `plan --out` writes and `apply` takes. Pure.
//!
//! Two lines: a header with version and checksum, and the body as JSON. What is executed is never taken from the file:
//! a plan is a function of inventory and facts, so it is made again and has to be the saved one. A file that was
//! tampered with can therefore keep a run from being done, and do no more; and no secret has to stand in it.

use super::{Action, Basis, Plan};
use crate::error::{Error, Result};
use crate::resolve::{Cluster, Overrides};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Version of the file's format.
pub const SAVED_VERSION: u64 = 1;
/// Largest file that is read, in bytes.
pub const FILE_MAX: u64 = 64 << 20;
/// Most hosts in a file.
const HOSTS_MAX: usize = 10_000;
/// Most things that a host's plan depends on.
const BASIS_MAX: usize = 100_000;
/// Longest name or value among them, in bytes.
const TEXT_MAX: usize = 64 << 10;
/// Longest header, in bytes.
const HEADER_MAX: usize = 256;
/// Most differences that are told of a host.
const TOLD_MAX: usize = 20;
/// How every file begins.
const MAGIC: &str = "{\"provision_plan\":";

/// A plan of a cluster's hosts, and what it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// Version of the tool that made it.
    pub made_by: String,
    /// Name of the cluster.
    pub cluster: String,
    /// The inventory's file.
    pub inventory: PathBuf,
    /// What the command line put over it.
    pub overrides: Overrides,
    /// Digests of what the inventory says.
    pub basis: Basis,
    /// The hosts that it is for, in the order of the inventory.
    pub hosts: Vec<SavedHost>,
}

/// The plan of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedHost {
    /// Its name.
    pub host: String,
    /// Digest of the plan: see [`Plan::digest`].
    pub digest: String,
    /// Digest of the basis.
    pub basis_digest: String,
    /// The facts that it was made from.
    pub basis: Basis,
    /// The plan itself, as `plan --json` shows it.
    pub plan: Value,
}

#[derive(Serialize, Deserialize)]
struct Header {
    provision_plan: u64,
    sha256: String,
}

impl SavedHost {
    /// Of a host's plan.
    ///
    /// # Errors
    /// It cannot be serialised: a mistake of ours.
    pub fn new(plan: &Plan, basis: Basis) -> Result<Self> {
        Ok(Self {
            host: plan.host.clone(),
            digest: plan.digest()?,
            basis_digest: basis.digest(),
            basis,
            plan: json(plan)?,
        })
    }

    /// What keeps the plan from being executed: what is different from when it was made.
    ///
    /// # Errors
    /// The plan of now cannot be serialised: a mistake of ours.
    pub fn differences(&self, plan: &Plan, basis: &Basis) -> Result<Vec<String>> {
        let mut differences = self.basis.differences(basis);
        if !differences.is_empty() {
            let more = differences.len().saturating_sub(TOLD_MAX);
            differences.truncate(TOLD_MAX);
            if more > 0 {
                differences.push(format!("{more} more"));
            }
        } else if self.digest != plan.digest()? {
            // Nothing that is known to matter is different, and yet other steps come out: another build of this tool.
            let steps = |plan: &Value| -> BTreeSet<String> {
                let steps = plan["steps"].as_array().into_iter().flatten();
                steps.filter_map(|step| Some(step.get("id")?.as_str()?.to_string())).collect()
            };
            let (before, now) = (steps(&self.plan), steps(&json(plan)?));
            let gone = before.difference(&now).map(|step| format!("step {step} is not wanted any more"));
            let new = now.difference(&before).map(|step| format!("step {step} is wanted, too"));
            differences.extend(gone.chain(new).take(TOLD_MAX));
            if differences.is_empty() {
                differences.push("other files or programs come out of it".to_string());
            }
        }
        Ok(differences)
    }
}

impl SavedPlan {
    /// The host of this name; none when the plan is not for it.
    pub fn host(&self, name: &str) -> Option<&SavedHost> {
        self.hosts.iter().find(|host| host.host == name)
    }

    /// Whether the inventory is still the one that the plan was made from.
    ///
    /// # Errors
    /// [`Error::Stale`]: it is not.
    pub fn check_inventory(&self, cluster: &Cluster) -> Result<()> {
        let mut differences = self.basis.differences(&Basis::of_inventory(cluster)?);
        let gone =
            self.hosts.iter().filter(|saved| cluster.hosts.iter().all(|host| host.name.value != saved.host));
        if differences.is_empty() {
            differences.extend(gone.map(|saved| format!("host {} is gone", saved.host)));
        }
        match differences.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::Stale { what: format!("the inventory {}", self.inventory.display()), differences })
            }
        }
    }

    /// The file's text.
    ///
    /// # Errors
    /// It cannot be serialised: a mistake of ours.
    pub fn encode(&self) -> Result<String> {
        let body = serde_json::to_string(self).map_err(internal)?;
        let header = Header { provision_plan: SAVED_VERSION, sha256: hex::encode(Sha256::digest(&body)) };
        Ok(format!("{}\n{body}\n", serde_json::to_string(&header).map_err(internal)?))
    }

    /// Whether a file holds a plan, or part of one; `path` is for messages.
    ///
    /// # Errors
    /// It holds what `plan --json` prints.
    pub fn is_in(bytes: &[u8], path: &Path) -> Result<bool> {
        // No inventory is a list.
        if bytes.starts_with(b"[{\"version\":") {
            let why = "this is what `plan --json` prints, not a plan that can be applied";
            return Err(refused(path, why, "save one with `provision plan INVENTORY --out FILE`"));
        }
        // A file cut off in its first bytes is no inventory either.
        let begun = MAGIC.as_bytes();
        Ok(bytes.starts_with(begun) || (bytes.len() > 1 && begun.starts_with(bytes)))
    }

    /// Reads a file for which [`Self::is_in`] holds; `path` is for messages.
    ///
    /// # Errors
    /// It is cut off, damaged, of another version, or too large.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let again = "make it again with `provision plan INVENTORY --out FILE`";
        let damaged = |why: &str| refused(path, &format!("the plan is cut off or damaged: {why}"), again);
        if bytes.len() as u64 > FILE_MAX {
            return Err(damaged(&format!("more than {FILE_MAX} bytes")));
        }
        let line = bytes.iter().position(|byte| *byte == b'\n').filter(|at| *at <= HEADER_MAX);
        let (header, body) = bytes.split_at(line.ok_or_else(|| damaged("its first line has no end"))?);
        let version: Value = serde_json::from_slice(header).map_err(|error| damaged(&error.to_string()))?;
        match version["provision_plan"].as_u64() {
            Some(SAVED_VERSION) => {}
            Some(other) => {
                let why = format!("its format has version {other}, this build reads {SAVED_VERSION}");
                return Err(refused(
                    path,
                    &why,
                    "apply it with the build that made it, or plan again with this one",
                ));
            }
            None => return Err(damaged("its first line names no version")),
        }
        let header: Header = serde_json::from_value(version).map_err(|error| damaged(&error.to_string()))?;
        let body = body.strip_prefix(b"\n").unwrap_or_default();
        let body = body.strip_suffix(b"\n").unwrap_or(body);
        if hex::encode(Sha256::digest(body)) != header.sha256 {
            return Err(damaged("its checksum does not match"));
        }
        let plan: Self = serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))?;
        if !plan.is_bounded() {
            return Err(damaged("a part of it is larger than any plan's"));
        }
        Ok(plan)
    }

    fn is_bounded(&self) -> bool {
        let basis = |basis: &Basis| {
            basis.0.len() <= BASIS_MAX
                && basis.0.iter().all(|(name, value)| name.len().max(value.len()) <= TEXT_MAX)
        };
        let texts = [&self.made_by, &self.cluster];
        texts.into_iter().all(|text| text.len() <= HEADER_MAX)
            && self.inventory.as_os_str().len() <= TEXT_MAX
            && self.hosts.len() <= HOSTS_MAX
            && basis(&self.basis)
            && self.hosts.iter().all(|host| host.host.len() <= HEADER_MAX && basis(&host.basis))
    }
}

impl Plan {
    /// SHA-256 over all of it, in hex: also over the texts of files, of which its JSON form does not show the secrets.
    ///
    /// # Errors
    /// It cannot be serialised: a mistake of ours.
    pub fn digest(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        hasher.update(serde_json::to_string(self).map_err(internal)?);
        for step in &self.steps {
            if let Action::WriteFile { file, .. } = &step.action {
                hasher.update(file.digest());
            }
        }
        Ok(hex::encode(hasher.finalize()))
    }
}

fn json(plan: &Plan) -> Result<Value> {
    serde_json::to_value(plan).map_err(internal)
}

fn internal(error: serde_json::Error) -> Error {
    Error::Internal(format!("a plan cannot be serialised: {error}"))
}

fn refused(path: &Path, why: &str, hint: &str) -> Error {
    Error::PlanFile { path: path.to_path_buf(), message: why.to_string(), hint: hint.to_string() }
}
