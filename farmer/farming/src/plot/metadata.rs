//! `metadata.bin`: a header, then a record of 131,116 bytes for each sector.

use super::{FarmError, LostSector, SectorState, io_at};
use crate::sector::BucketIndex;
use parity_scale_codec::{Decode, Encode};
use primitives::farms::{FarmGeometry, RESERVED_METADATA};
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Checksummed, PublicKey, SectorIndex};
use rayon::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file.
pub const METADATA_FILE: &str = "metadata.bin";
/// The one version that is farmed and written.
const VERSION: u8 = 0;

/// Why there is no sector where the header counts one.
pub(super) enum NoSector {
    /// A dummy: nothing was lost.
    Dummy,
    /// Something is wrong.
    Lost(LostSector),
}

/// The file and the count in its header.
#[derive(Debug)]
pub(super) struct MetadataFile {
    file: File,
    path: PathBuf,
    /// Sectors with a record: those behind are not plotted.
    count: u16,
}

fn record_offset(sector_index: SectorIndex) -> u64 {
    RESERVED_METADATA + u64::from(sector_index) * SectorMetadata::ENCODED_SIZE as u64
}

impl MetadataFile {
    /// Takes over the open file after a look at its header.
    ///
    /// # Errors
    /// [`FarmError::UnsupportedVersion`] for any version but 0, unless `any_known` allows to read version 1 too.
    pub(super) fn new(file: File, path: &Path, any_known: bool) -> Result<Self, FarmError> {
        let mut header = [0; 3];
        let size = file.metadata().map_err(io_at(path, "examine it"))?.len();
        // A file that was cut off within its header counts no sector.
        if size >= header.len() as u64 {
            file.read_exact_at(&mut header, 0).map_err(io_at(path, "read its header"))?;
        }
        let [version, count @ ..] = header;
        // Version 1 adds a field behind the two that version 0 has (farming §8, coming change).
        if version != VERSION && !(any_known && version == 1) {
            return Err(FarmError::UnsupportedVersion { path: path.to_owned(), found: version });
        }
        Ok(Self { file, path: path.to_owned(), count: u16::from_le_bytes(count) })
    }

    /// Sectors that have a record.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Writes the count, and makes it safe.
    pub(super) fn set_count(&mut self, count: u16) -> Result<(), FarmError> {
        let [low, high] = count.to_le_bytes();
        self.file.write_all_at(&[VERSION, low, high], 0).map_err(io_at(&self.path, "write its header"))?;
        self.sync()?;
        self.count = count;
        Ok(())
    }

    fn sync(&self) -> Result<(), FarmError> {
        self.file.sync_data().map_err(io_at(&self.path, "sync it"))
    }

    fn write_record(&self, metadata: &SectorMetadata) -> Result<(), FarmError> {
        let encoded = Blake3Checksummed(metadata.clone()).encode();
        self.file
            .write_all_at(&encoded, record_offset(metadata.sector_index))
            .map_err(io_at(&self.path, "write a sector's metadata"))
    }

    /// Replaces the record of a counted sector by a dummy, safely; what is not counted needs none.
    pub(super) fn write_dummy(
        &self,
        sector_index: SectorIndex,
        pieces_in_sector: u16,
    ) -> Result<(), FarmError> {
        if sector_index < self.count {
            self.write_record(&SectorMetadata::dummy(sector_index, pieces_in_sector))?;
            self.sync()?;
        }
        Ok(())
    }

    /// Writes the record of a sector whose bytes are safe, then the count.
    ///
    /// Sectors may be finished in any order: those not yet plotted before this one become dummies.
    pub(super) fn write_plotted(&mut self, metadata: &SectorMetadata) -> Result<(), FarmError> {
        for skipped in self.count..metadata.sector_index {
            self.write_record(&SectorMetadata::dummy(skipped, metadata.pieces_in_sector))?;
        }
        self.write_record(metadata)?;
        self.sync()?;
        if metadata.sector_index >= self.count {
            self.set_count(metadata.sector_index + 1)?;
        }
        Ok(())
    }

    /// Reads the states of all counted sectors that the farm has, on all threads of the current pool.
    pub(super) fn read_states(
        &self,
        public_key: &PublicKey,
        geometry: FarmGeometry,
    ) -> Vec<Result<Arc<SectorState>, NoSector>> {
        let FarmGeometry { pieces_in_sector, sectors } = geometry;
        (0..self.count.min(sectors))
            .into_par_iter()
            .map_init(
                || vec![0; SectorMetadata::ENCODED_SIZE],
                |buffer, sector_index| self.read_state(sector_index, public_key, pieces_in_sector, buffer),
            )
            .collect()
    }

    fn read_state(
        &self,
        sector_index: SectorIndex,
        public_key: &PublicKey,
        pieces_in_sector: u16,
        buffer: &mut [u8],
    ) -> Result<Arc<SectorState>, NoSector> {
        let lost = |reason: String| NoSector::Lost(LostSector::Metadata(reason));
        self.file
            .read_exact_at(buffer, record_offset(sector_index))
            .map_err(|error| NoSector::Lost(LostSector::MetadataUnreadable(error.to_string())))?;
        let Blake3Checksummed(metadata) = Blake3Checksummed::<SectorMetadata>::decode(&mut &*buffer)
            .map_err(|error| lost(error.to_string()))?;
        if (metadata.sector_index, metadata.pieces_in_sector) != (sector_index, pieces_in_sector) {
            let found = (metadata.sector_index, metadata.pieces_in_sector);
            return Err(lost(format!("they are those of a sector {} of {} pieces", found.0, found.1)));
        }
        if metadata.is_dummy() {
            return Err(NoSector::Dummy);
        }
        let buckets = BucketIndex::new(&metadata.s_bucket_sizes, pieces_in_sector)
            .map_err(|error| lost(error.to_string()))?;
        Ok(Arc::new(SectorState::new(public_key, &metadata, buckets)))
    }
}
