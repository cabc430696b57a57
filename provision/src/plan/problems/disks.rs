//! Whether what is to lie on a disk fits it, with the arithmetic.

use crate::derive::farms::{PREFIX_BYTES_MIN, bytes_for_farms, farm_bytes, fitting, gigabytes, sectors_in};
use crate::error::{Problem, count};
use crate::facts::{HostFacts, PathFacts};
use crate::inventory::Diagnostic;
use crate::layout::Layout;
use crate::resolve::{Cluster, Farm, FarmSpace, Host};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn check(
    cluster: &Cluster,
    host: &Host,
    facts: &HostFacts,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Diagnostic>,
) {
    let mut mounts: BTreeMap<&Path, Mount<'_>> = BTreeMap::new();
    for path in &facts.paths {
        let Some(free) = path.free_bytes else { continue };
        mounts.entry(&path.mount).or_insert(Mount { path, free, prefix: 0, farms: Vec::new() });
    }
    let installed = facts.directories.contains(&Layout::of(host).data());
    if let Some(mount) = facts.path(&host.prefix).and_then(|prefix| mounts.get_mut(&*prefix.mount)) {
        mount.prefix = if installed { 0 } else { PREFIX_BYTES_MIN };
    }
    for (farm, fitting) in farms(host).zip(fitting(cluster, host, facts)) {
        file_system(farm, facts, warnings);
        let path = facts.path(&farm.path.value);
        if farm.space.value == FarmSpace::Max && fitting.value.is_none() && path.is_some() {
            problems.push(no_sector(farm, path));
        }
        if let Some(mount) = path.and_then(|path| mounts.get_mut(&*path.mount)) {
            mount.farms.push(farm);
        }
    }
    problems.extend(mounts.into_values().filter_map(|mount| mount.too_small(cluster, host, facts)));
}

fn farms(host: &Host) -> impl Iterator<Item = &Farm> {
    host.storage.iter().flat_map(|storage| &storage.farms)
}

/// A file system and what is to lie on it.
struct Mount<'a> {
    path: &'a PathFacts,
    free: u64,
    /// Bytes that the prefix needs there.
    prefix: u64,
    farms: Vec<&'a Farm>,
}

impl Mount<'_> {
    fn too_small(&self, cluster: &Cluster, host: &Host, facts: &HostFacts) -> Option<Problem> {
        let pieces = cluster.pieces_in_sector();
        let mut needed = self.prefix;
        let mut parts = Vec::new();
        for farm in &self.farms {
            let Some(bytes) = farm_bytes(farm.space.value, pieces) else { continue };
            let used = facts.path(&farm.path.value).map_or(0, |path| path.used_bytes);
            needed = needed.saturating_add(bytes.saturating_sub(used));
            let path = farm.path.value.display();
            let of = match farm.space.value {
                FarmSpace::Sectors(sectors) => {
                    let sectors = count(usize::from(sectors), "sector");
                    format!(" for {sectors} of {}", count(usize::from(pieces), "piece"))
                }
                _ => String::new(),
            };
            let has = if used > 0 { format!(", has {}", gigabytes(used)) } else { String::new() };
            parts.push(format!("{path} needs {}{of}{has}", gigabytes(bytes)));
        }
        if self.prefix > 0 {
            parts.push(format!("{} needs {}", host.prefix.display(), gigabytes(self.prefix)));
        }
        if needed <= self.free {
            return None;
        }
        let mount = self.path.mount.display();
        let size = self.path.size_bytes.map(|size| format!(" of {}", gigabytes(size))).unwrap_or_default();
        let reserve = match self.path.reserved_bytes {
            0 => String::new(),
            reserved => format!(" ({} more are reserved for root)", gigabytes(reserved)),
        };
        let message = format!(
            "{mount}: {}; {}{size} are free{reserve}: {} too few",
            parts.join("; "),
            gigabytes(self.free),
            gigabytes(needed - self.free)
        );
        Some(Problem { code: "disk-too-small", message, hint: self.hint(pieces, host, facts) })
    }

    fn hint(&self, pieces: u16, host: &Host, facts: &HostFacts) -> String {
        let [_] = self.farms[..] else {
            return "fewer `sectors:`, or another disk; `sectors: max` takes what a disk holds".to_string();
        };
        let room = bytes_for_farms(&self.path.mount, host, facts).unwrap_or(0).saturating_sub(self.prefix);
        let most = sectors_in(room, pieces);
        let reserve = match self.path.reserved_bytes {
            0 => "",
            _ => "; `tune2fs -m 0 DEVICE` gives ext4's reserve to the farm",
        };
        format!("at most `sectors: {most}`, or `sectors: max` for what the disk holds{reserve}")
    }
}

fn no_sector(farm: &Farm, path: Option<&PathFacts>) -> Problem {
    let free = path.and_then(|path| path.free_bytes).map(gigabytes);
    Problem {
        code: "disk-too-small",
        message: format!(
            "{}: not one sector fits the {} that are free",
            farm.path.value.display(),
            free.unwrap_or_else(|| "unknown bytes".to_string())
        ),
        hint: "another disk; what else lies on it is not the farm's".to_string(),
    }
}

fn file_system(farm: &Farm, facts: &HostFacts, warnings: &mut Vec<Diagnostic>) {
    let Some(path) = facts.path(&farm.path.value) else { return };
    let shown = path.path.display();
    let message = match path.file_system.as_str() {
        "ext4" | "" => return,
        "tmpfs" => format!("the farm {shown} is on tmpfs: it is lost at a reboot"),
        other => {
            format!("the farm {shown} is on {other}: the guides ask for ext4, and nothing else was tried")
        }
    };
    warnings.push(Diagnostic::warning("file-system", farm.path.span, message));
}
