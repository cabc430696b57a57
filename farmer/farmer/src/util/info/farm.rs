//! What a farm is and holds.

use super::Chain;
use crate::roles::Error;
use crate::util::farms::{self, OpenedFarm};
use crate::util::output::bytes;
use farming::expiry::{Expiry, ExpiryStatus, deciding_segment, sector_expiry};
use farming::plot::{METADATA_FILE, PLOT_FILE};
use primitives::{HistorySize, SectorGeometry, SegmentIndex};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How many sectors stand where between plotting and expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Expiries {
    expired: u64,
    about_to_expire: u64,
    /// Their expiry is known and not near.
    later: u64,
    /// The segment that decides is not there yet.
    undecided: u64,
    /// The first segment with which one expires that has not.
    next: Option<SegmentIndex>,
}

impl Expiries {
    fn add(&mut self, expiry: Expiry, newest: SegmentIndex) {
        match (expiry.status(newest), expiry) {
            (ExpiryStatus::Expired, _) => self.expired += 1,
            (ExpiryStatus::AboutToExpire, _) => self.about_to_expire += 1,
            (ExpiryStatus::Fresh, Expiry::Undecided { .. }) => self.undecided += 1,
            (ExpiryStatus::Fresh, _) => self.later += 1,
        }
        if let Expiry::At(segment) = expiry
            && segment > newest
        {
            self.next = Some(self.next.map_or(segment, |next| next.min(segment)));
        }
    }
}

/// A farm that was looked at.
pub(super) struct FarmInfo {
    opened: OpenedFarm,
    disk_bytes: u64,
    expiries: Option<Expiries>,
}

impl FarmInfo {
    pub(super) fn look_at(path: &Path) -> Result<Self, Error> {
        let opened = farms::look_at(path)?;
        let on_disk = |name| std::fs::metadata(path.join(name)).map_or(0, |file| file.blocks() * 512);
        let disk_bytes = on_disk(PLOT_FILE) + on_disk(METADATA_FILE);
        Ok(Self { opened, disk_bytes, expiries: None })
    }

    /// The segments whose commitments decide when its sectors expire.
    pub(super) fn deciding_segments(&self, lifetime: HistorySize) -> BTreeSet<SegmentIndex> {
        let sectors = self.opened.farm.sectors();
        let deciding = |history_size| deciding_segment(history_size, lifetime);
        sectors.iter().flatten().filter_map(|sector| deciding(sector.history_size)).collect()
    }

    pub(super) fn decide_expiry(&mut self, chain: &Chain) {
        let farm = &self.opened.farm;
        if farm.description().genesis_hash() != chain.info.genesis_hash {
            tracing::warn!(farm = %farm.directory().display(), "The cluster is of another chain than this farm");
            return;
        }
        let info = chain.info.protocol_info;
        let mut expiries = Expiries::default();
        for sector in farm.sectors().iter().flatten() {
            let commitment = |segment| chain.commitments.get(&segment).copied();
            let expiry =
                sector_expiry(&sector.sector_id, sector.history_size, info.min_sector_lifetime, commitment);
            expiries.add(expiry, info.history_size.segment_index());
        }
        self.expiries = Some(expiries);
    }

    /// History sizes of the oldest and the newest sector.
    fn history_sizes(&self) -> Option<(HistorySize, HistorySize)> {
        let sectors = self.opened.farm.sectors();
        let sizes = || sectors.iter().flatten().map(|sector| sector.history_size);
        Some((sizes().min()?, sizes().max()?))
    }

    pub(super) fn to_json(&self) -> Value {
        let OpenedFarm { farm, lost, in_use } = &self.opened;
        let geometry = farm.geometry();
        json!({
            "kind": "farm",
            "path": farm.directory(),
            "in_use": in_use,
            "id": farm.id().to_string(),
            "public_key": farm.public_key().to_string(),
            "genesis_hash": farm.description().genesis_hash().to_string(),
            "pieces_in_sector": geometry.pieces_in_sector,
            "sectors": geometry.sectors,
            "sectors_plotted": self.opened.plotted(),
            "sectors_damaged": farms::lost_to_json(lost),
            "sector_bytes": SectorGeometry::new(geometry.pieces_in_sector).sector_size(),
            "allocated_space": farm.description().allocated_space(),
            "disk_bytes": self.disk_bytes,
            "history_sizes": self.history_sizes().map(|(oldest, newest)| {
                json!({ "oldest": oldest.get(), "newest": newest.get() })
            }),
            "expiry": self.expiries.map(|expiries| json!({
                "expired": expiries.expired,
                "about_to_expire": expiries.about_to_expire,
                "later": expiries.later,
                "undecided": expiries.undecided,
                "next_segment": expiries.next.map(|segment| segment.0),
            })),
        })
    }

    pub(super) fn to_text(&self) -> String {
        let OpenedFarm { farm, lost, in_use } = &self.opened;
        let geometry = farm.geometry();
        let mut text = String::new();
        let mut say = |line: String| {
            let _ = writeln!(text, "{line}");
        };
        let in_use = if *in_use { ", in use" } else { "" };
        say(format!("{}: farm {}{in_use}", farm.directory().display(), farm.id()));
        say(format!("  public key {}", farm.public_key()));
        say(format!("  genesis    {}", farm.description().genesis_hash()));
        let sector = SectorGeometry::new(geometry.pieces_in_sector).sector_size() as u64;
        say(format!(
            "  sectors    {} of {} plotted; {} pieces, {} each; {} on the disk",
            self.opened.plotted(),
            geometry.sectors,
            geometry.pieces_in_sector,
            bytes(sector),
            bytes(self.disk_bytes)
        ));
        if let Some((oldest, newest)) = self.history_sizes() {
            say(format!("  plotted    at history sizes {oldest} to {newest}"));
        }
        match &self.expiries {
            Some(Expiries { expired, about_to_expire, later, undecided, next }) => {
                let next =
                    next.map_or("none is decided".to_owned(), |next| format!("the next with segment {next}"));
                say(format!(
                    "  expiry     {expired} expired, {about_to_expire} about to, {later} later, {undecided} undecided; {next}"
                ));
            }
            None => say("  expiry     not known: --nats-server asks the cluster".into()),
        }
        for (sector, reason) in lost {
            say(format!("  damaged    sector {sector}: {reason}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_counted_where_they_stand() {
        let mut expiries = Expiries::default();
        for expiry in [
            Expiry::At(SegmentIndex(4)),
            Expiry::At(SegmentIndex(5)),
            Expiry::At(SegmentIndex(6)),
            Expiry::At(SegmentIndex(9)),
            Expiry::Undecided { needs: SegmentIndex(7) },
            Expiry::Never,
        ] {
            expiries.add(expiry, SegmentIndex(5));
        }
        let next = Some(SegmentIndex(6));
        assert_eq!(expiries, Expiries { expired: 2, about_to_expire: 1, later: 2, undecided: 1, next });
    }
}
