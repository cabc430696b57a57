//! An open farm.

use super::description::FarmLock;
use super::metadata::MetadataFile;
use super::table::SectorTable;
use super::{
    FarmDescription, FarmError, FarmEvent, FarmId, FarmOptions, LostSector, SectorSnapshot, SectorState,
    SectorWriter, open,
};
use crate::audit::{AuditOutcome, audit_plot};
use crate::identity::Identity;
use crate::io::PlotReader;
use crate::sector::SectorReader;
use parking_lot::Mutex;
use primitives::farms::FarmGeometry;
use primitives::{Blake3Hash, PublicKey, SectorIndex, SolutionRange};
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// A farm whose lock is held. All methods may be called from any thread; those that touch the disk block.
#[derive(Debug)]
pub struct Farm {
    pub(super) directory: PathBuf,
    pub(super) description: FarmDescription,
    pub(super) identity: Identity,
    pub(super) geometry: FarmGeometry,
    pub(super) read_only: bool,
    pub(super) reader: PlotReader,
    /// Writes go through the page cache: sectors do not begin at page borders.
    pub(super) plot: File,
    pub(super) metadata: Mutex<MetadataFile>,
    pub(super) table: SectorTable,
    pub(super) writing: Mutex<HashSet<SectorIndex>>,
    pub(super) _lock: FarmLock,
}

impl Farm {
    /// Opens a farm, makes it if asked to, grows or shrinks it to what is asked for.
    ///
    /// Sectors with bad metadata, and those behind the end of a truncated plot file, become dummies; events tell.
    ///
    /// # Errors
    /// See [`FarmError`]. Nothing was changed then, apart from what the event of a later success will say.
    pub fn open(options: &FarmOptions) -> Result<(Arc<Self>, Vec<FarmEvent>), FarmError> {
        open::open(options)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Name of the farm.
    pub fn id(&self) -> FarmId {
        self.description.id()
    }

    /// Contents of `single_disk_farm.json`.
    pub fn description(&self) -> &FarmDescription {
        &self.description
    }

    /// The key that signs for the farm.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The farm's public key.
    pub fn public_key(&self) -> PublicKey {
        self.description.public_key()
    }

    /// Sectors and pieces.
    pub fn geometry(&self) -> FarmGeometry {
        self.geometry
    }

    /// The plot, for reading.
    pub fn plot(&self) -> &PlotReader {
        &self.reader
    }

    /// States of all sectors, now.
    pub fn sectors(&self) -> SectorSnapshot {
        self.table.snapshot()
    }

    /// Sectors that are not plotted and not being written, ascending.
    pub fn sectors_to_plot(&self) -> Vec<SectorIndex> {
        let writing = self.writing.lock();
        let sectors = self.table.snapshot();
        (0..self.geometry.sectors)
            .filter(|index| sectors[usize::from(*index)].is_none() && !writing.contains(index))
            .collect()
    }

    /// A reader of a plotted sector.
    pub fn sector_reader(&self, sector: &SectorState) -> SectorReader<'_, PlotReader> {
        SectorReader::new(&self.reader, sector.plot_offset, sector.pieces_in_sector)
    }

    /// Audits the sectors for a slot, all or those that can be begun before `until`, on the current rayon pool.
    pub fn audit(
        &self,
        global_challenge: &Blake3Hash,
        solution_range: SolutionRange,
        until: Option<Instant>,
    ) -> AuditOutcome {
        audit_plot(&self.reader, self.reader.path(), &self.sectors(), global_challenge, solution_range, until)
    }

    /// Begins to write a sector in the place of whatever is there.
    ///
    /// From now on, and after a crash, the sector counts as not plotted, until [`SectorWriter::finish`].
    ///
    /// # Errors
    /// [`FarmError::ReadOnly`], [`FarmError::NoSector`], [`FarmError::SectorBusy`], [`FarmError::Io`].
    pub fn write_sector(self: &Arc<Self>, sector_index: SectorIndex) -> Result<SectorWriter, FarmError> {
        self.check_writable(sector_index)?;
        if !self.writing.lock().insert(sector_index) {
            return Err(FarmError::SectorBusy { sector_index });
        }
        // From here on dropping the writer ends the modification.
        let writer = SectorWriter::new(Arc::clone(self), sector_index);
        self.forget_sector(sector_index)?;
        Ok(writer)
    }

    /// Reads a whole sector and compares its checksum; a bad or unreadable one becomes a dummy. Returns the event.
    ///
    /// Nothing is done about a sector that is not plotted, or that is written meanwhile.
    ///
    /// # Errors
    /// [`FarmError::Io`] if the dummy cannot be written. A read-only farm is only looked at.
    pub fn scrub_sector(
        &self,
        sector_index: SectorIndex,
        cancel: &AtomicBool,
    ) -> Result<Option<FarmEvent>, FarmError> {
        let sectors = self.table.snapshot();
        let Some(sector) = sectors.get(usize::from(sector_index)).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let reason = match self.sector_reader(sector).verify_checksum(cancel) {
            Ok(()) | Err(crate::sector::SectorReadError::Cancelled) => return Ok(None),
            Err(error) if error.is_corruption() => LostSector::Checksum(error.to_string()),
            Err(error) => LostSector::Unreadable(error.to_string()),
        };
        if sector.is_stale() {
            return Ok(None);
        }
        self.lose_sector(sector_index, reason).map(Some)
    }

    /// Makes a sector a dummy, so that it is plotted anew, because its user found it to be of no use.
    ///
    /// # Errors
    /// [`FarmError::ReadOnly`], [`FarmError::NoSector`], [`FarmError::SectorBusy`], [`FarmError::Io`].
    pub fn reject_sector(&self, sector_index: SectorIndex, reason: String) -> Result<FarmEvent, FarmError> {
        self.check_writable(sector_index)?;
        if self.writing.lock().contains(&sector_index) {
            return Err(FarmError::SectorBusy { sector_index });
        }
        self.lose_sector(sector_index, LostSector::Rejected(reason))
    }

    fn lose_sector(&self, sector_index: SectorIndex, reason: LostSector) -> Result<FarmEvent, FarmError> {
        let directory = self.directory.display();
        let event = FarmEvent::SectorLost { sector_index, reason };
        if self.read_only {
            tracing::warn!(farm = %self.id(), %directory, sector_index, "A sector is damaged; nothing was changed");
        } else {
            tracing::warn!(farm = %self.id(), %directory, "{event}");
            self.forget_sector(sector_index)?;
        }
        Ok(event)
    }

    /// Takes a sector out of the audit and makes its metadata a dummy.
    fn forget_sector(&self, sector_index: SectorIndex) -> Result<(), FarmError> {
        let metadata = self.metadata.lock();
        if self.table.set(sector_index, None).is_some() {
            metadata.write_dummy(sector_index, self.geometry.pieces_in_sector)?;
        }
        Ok(())
    }

    fn check_writable(&self, sector_index: SectorIndex) -> Result<(), FarmError> {
        if self.read_only {
            return Err(FarmError::ReadOnly { directory: self.directory.clone() });
        }
        if sector_index >= self.geometry.sectors {
            return Err(FarmError::NoSector { sector_index, sectors: self.geometry.sectors });
        }
        Ok(())
    }
}
