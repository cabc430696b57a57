//! How many sectors a disk holds. Pure.

use super::placement::Chosen;
use crate::facts::{HostFacts, PathFacts};
use crate::resolve::{Cluster, Farm, FarmSpace, Host};
use primitives::farms::{FarmGeometry, MAX_SECTORS};
use std::path::Path;

/// Bytes that the prefix needs beside the farms: binaries, logs, the chain, the caches of a young one.
pub const PREFIX_BYTES_MIN: u64 = 3 << 30;
/// Bytes that a farm leaves free of a disk that it may fill: what the file system itself needs for 8 TB of extents, and
/// room to write the farm's small files anew.
const LEFT_FREE: u64 = 64 << 20;

/// Bytes that the files of a farm take; none when its disk decides.
pub fn farm_bytes(space: FarmSpace, pieces_in_sector: u16) -> Option<u64> {
    match space {
        FarmSpace::Sectors(sectors) => Some(FarmGeometry { pieces_in_sector, sectors }.disk_space()),
        FarmSpace::Bytes(bytes) => Some(bytes),
        FarmSpace::Max => None,
    }
}

/// The most sectors of which the files fit `bytes`.
pub fn sectors_in(bytes: u64, pieces_in_sector: u16) -> u16 {
    let fits = |sectors: u16| FarmGeometry { pieces_in_sector, sectors }.disk_space() <= bytes;
    let (mut low, mut high) = (0, MAX_SECTORS);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

/// Bytes of a disk that its farms may take, the reserve of its file system left out: what is free, and what they have.
pub fn bytes_for_farms<'a>(mount: &Path, host: &Host, facts: &'a HostFacts) -> Option<u64> {
    let on_mount = |path: &&'a PathFacts| path.mount == mount;
    let free = facts.paths.iter().find(on_mount)?.free_bytes?;
    let farms = host.storage.iter().flat_map(|storage| &storage.farms);
    let used =
        farms.filter_map(|farm| facts.path(&farm.path.value)).filter(on_mount).map(|path| path.used_bytes);
    Some(free.saturating_add(used.sum()))
}

/// The sectors of each farm that takes what its disk holds ([`FarmSpace::Max`]); nothing is chosen for the others.
///
/// A farm that is there keeps the size that it has: what is free now says less about its disk than it did.
pub fn fitting(cluster: &Cluster, host: &Host, facts: &HostFacts) -> Vec<Chosen<u16>> {
    let pieces = cluster.pieces_in_sector();
    let farms = || host.storage.iter().flat_map(|storage| &storage.farms);
    farms()
        .map(|farm| {
            if farm.space.value != FarmSpace::Max {
                return Chosen::by_hand_none(farm.space.span);
            }
            if let Some(sectors) = existing(farm, pieces, facts) {
                return Chosen::of_host(Some(sectors), "the farm that is there has so many");
            }
            of_disk(farm, farms(), pieces, host, facts)
        })
        .collect()
}

fn existing(farm: &Farm, pieces_in_sector: u16, facts: &HostFacts) -> Option<u16> {
    let there =
        facts.farms.get(&farm.path.value).filter(|there| there.pieces_in_sector == pieces_in_sector)?;
    Some(FarmGeometry::for_allocated_space(pieces_in_sector, there.allocated_bytes).sectors)
}

fn of_disk<'a>(
    farm: &Farm,
    farms: impl Iterator<Item = &'a Farm>,
    pieces: u16,
    host: &Host,
    facts: &HostFacts,
) -> Chosen<u16> {
    let path = facts.path(&farm.path.value);
    let Some((path, bytes)) = path.and_then(|path| Some((path, bytes_for_farms(&path.mount, host, facts)?)))
    else {
        return Chosen::of_host(None, "the size of its disk is not known");
    };
    let prefix_here = facts.path(&host.prefix).is_some_and(|prefix| prefix.mount == path.mount);
    let (mut fixed, mut sharing) = (if prefix_here { PREFIX_BYTES_MIN } else { 0 }, 0);
    for other in farms {
        if facts.path(&other.path.value).is_none_or(|other| other.mount != path.mount) {
            continue;
        }
        let there = existing(other, pieces, facts).map(FarmSpace::Sectors);
        let space = if other.space.value == FarmSpace::Max { there } else { Some(other.space.value) };
        match space.and_then(|space| farm_bytes(space, pieces)) {
            Some(bytes) => fixed += bytes,
            None => sharing += 1,
        }
    }
    let share = bytes.saturating_sub(fixed) / sharing.max(1);
    let sectors = sectors_in(share.saturating_sub(LEFT_FREE), pieces);
    let mut why = format!("{} has room for {}", path.mount.display(), gigabytes(bytes));
    if path.reserved_bytes > 0 {
        why += &format!(" beside {} reserved for root", gigabytes(path.reserved_bytes));
    }
    if fixed > 0 {
        why += &format!(", {} are taken", gigabytes(fixed));
    }
    if sharing > 1 {
        why += &format!(", {sharing} farms divide the rest");
    }
    let space = |sectors| FarmGeometry { pieces_in_sector: pieces, sectors }.disk_space();
    let each = space(1) - space(0);
    why +=
        &format!("; {} a sector of {}", megabytes(each), crate::error::count(usize::from(pieces), "piece"));
    Chosen::of_host(Some(sectors).filter(|sectors| *sectors > 0), why)
}

/// "7,600.0 GB".
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests;
