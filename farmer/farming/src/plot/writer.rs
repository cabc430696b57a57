//! Writing of one sector.

use super::{Farm, FarmError, SectorState, UnsoundSector, io_at};
use crate::sector::{BucketIndex, ContentsMap};
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Hash, SectorGeometry, SectorIndex};
use rustix::fs::{Advice, fadvise};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Takes a sector's bytes from front to back, checks them as they pass, and makes the sector count.
///
/// Dropped without [`Self::finish`], the sector stays what it was made by [`Farm::write_sector`]: not plotted.
#[derive(Debug)]
pub struct SectorWriter {
    farm: Arc<Farm>,
    sector_index: SectorIndex,
    geometry: SectorGeometry,
    /// Bytes written so far.
    written: u64,
    /// BLAKE3 of all but the checksum at the end.
    hasher: blake3::Hasher,
    /// The contents map as it passed by.
    contents_map: Vec<u8>,
    /// The checksum as it passed by.
    checksum: Vec<u8>,
}

impl Drop for SectorWriter {
    fn drop(&mut self) {
        self.farm.writing.lock().remove(&self.sector_index);
    }
}

impl SectorWriter {
    pub(super) fn new(farm: Arc<Farm>, sector_index: SectorIndex) -> Self {
        let geometry = SectorGeometry::new(farm.geometry.pieces_in_sector);
        Self {
            farm,
            sector_index,
            geometry,
            written: 0,
            hasher: blake3::Hasher::new(),
            contents_map: Vec::with_capacity(geometry.contents_map_size()),
            checksum: Vec::with_capacity(Blake3Hash::SIZE),
        }
    }

    /// The sector.
    pub fn sector_index(&self) -> SectorIndex {
        self.sector_index
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    fn sector_size(&self) -> u64 {
        self.geometry.sector_size() as u64
    }

    fn plot_offset(&self) -> u64 {
        self.sector_size() * u64::from(self.sector_index)
    }

    /// Notes what of `bytes`, the next of the sector, is needed to check it.
    fn observe(&mut self, bytes: &[u8]) {
        let missing = self.geometry.contents_map_size() - self.contents_map.len();
        self.contents_map.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        let hashed_end = self.sector_size() - Blake3Hash::SIZE as u64;
        let hashed = hashed_end.saturating_sub(self.written).min(bytes.len() as u64) as usize;
        self.hasher.update(&bytes[..hashed]);
        self.checksum.extend_from_slice(&bytes[hashed..]);
        self.written += bytes.len() as u64;
    }

    /// Checks that the sector is whole and that `metadata` are its own.
    fn check(&self, metadata: &SectorMetadata) -> Result<BucketIndex, UnsoundSector> {
        if self.written != self.sector_size() {
            return Err(UnsoundSector::Size { expected: self.sector_size(), found: self.written });
        }
        let stored = Blake3Hash(self.checksum.as_slice().try_into().expect("the sector is complete"));
        let computed = Blake3Hash(*self.hasher.finalize().as_bytes());
        if stored != computed {
            return Err(UnsoundSector::Checksum { stored, computed });
        }
        let pieces_in_sector = self.geometry.pieces_in_sector;
        if (metadata.sector_index, metadata.pieces_in_sector) != (self.sector_index, pieces_in_sector) {
            return Err(UnsoundSector::Metadata {
                sector_index: metadata.sector_index,
                pieces_in_sector: metadata.pieces_in_sector,
            });
        }
        let contents = ContentsMap::from_bytes(&self.contents_map, pieces_in_sector)?;
        if contents.s_bucket_sizes() != metadata.s_bucket_sizes {
            return Err(UnsoundSector::BucketSizesDiffer);
        }
        Ok(BucketIndex::new(&metadata.s_bucket_sizes, pieces_in_sector)?)
    }

    /// Checks the sector, makes its bytes safe, then its metadata, then the count; from then on it is audited.
    ///
    /// # Errors
    /// [`FarmError::UnsoundSector`], [`FarmError::Io`]; the sector is not plotted then.
    pub fn finish(self, metadata: &SectorMetadata) -> Result<Arc<SectorState>, FarmError> {
        let buckets = self
            .check(metadata)
            .map_err(|reason| FarmError::UnsoundSector { sector_index: self.sector_index, reason })?;
        let farm = &self.farm;
        farm.plot.sync_data().map_err(io_at(farm.reader.path(), "sync it"))?;
        // The next to read these bytes is an audit, past the page cache. Only advice: its failure means nothing.
        let _ =
            fadvise(&farm.plot, self.plot_offset(), NonZeroU64::new(self.sector_size()), Advice::DontNeed);
        let state = Arc::new(SectorState::new(&farm.public_key(), metadata, buckets));
        let mut file = farm.metadata.lock();
        file.write_plotted(metadata)?;
        farm.table.set(self.sector_index, Some(Arc::clone(&state)));
        Ok(state)
    }
}

impl Write for SectorWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.sector_size() {
            let message = format!("a sector has {} bytes, more were written", self.sector_size());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.farm.plot.write_all_at(bytes, self.plot_offset() + self.written)?;
        self.observe(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
