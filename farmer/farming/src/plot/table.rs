//! What is known of each sector while the farm runs.

use crate::sector::{BucketIndex, BucketSizesError};
use parking_lot::RwLock;
use primitives::sectors::SectorMetadata;
use primitives::{HistorySize, PublicKey, SectorGeometry, SectorId, SectorIndex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A plotted sector: all that an audit has to know of it, some 72 kB.
#[derive(Debug)]
pub struct SectorState {
    /// Index in its farm.
    pub sector_index: SectorIndex,
    /// Identity.
    pub sector_id: SectorId,
    /// History size at which it was plotted.
    pub history_size: HistorySize,
    /// Pieces in it.
    pub pieces_in_sector: u16,
    /// Byte of the plot at which it begins.
    pub plot_offset: u64,
    /// Where its s-buckets are.
    pub buckets: BucketIndex,
    /// Set before the first byte of it is changed.
    stale: AtomicBool,
}

impl SectorState {
    /// State of the sector with this metadata in the farm of `public_key`.
    pub fn new(public_key: &PublicKey, metadata: &SectorMetadata, buckets: BucketIndex) -> Self {
        let sector_size = SectorGeometry::new(metadata.pieces_in_sector).sector_size() as u64;
        Self {
            sector_index: metadata.sector_index,
            sector_id: public_key.sector_id(metadata.sector_index, metadata.history_size),
            history_size: metadata.history_size,
            pieces_in_sector: metadata.pieces_in_sector,
            plot_offset: sector_size * u64::from(metadata.sector_index),
            buckets,
            stale: AtomicBool::new(false),
        }
    }

    /// As [`Self::new`], checking the metadata's bucket sizes.
    ///
    /// # Errors
    /// Sizes that no sector has.
    pub fn from_metadata(
        public_key: &PublicKey,
        metadata: &SectorMetadata,
    ) -> Result<Self, BucketSizesError> {
        let buckets = BucketIndex::new(&metadata.s_bucket_sizes, metadata.pieces_in_sector)?;
        Ok(Self::new(public_key, metadata, buckets))
    }

    /// The metadata from which the state was made.
    pub fn metadata(&self) -> SectorMetadata {
        SectorMetadata {
            sector_index: self.sector_index,
            pieces_in_sector: self.pieces_in_sector,
            s_bucket_sizes: self.buckets.sizes(),
            history_size: self.history_size,
        }
    }

    /// Whether the sector is being overwritten, or was: what has been read of it since may be anything.
    ///
    /// Ask after reading, not before.
    pub fn is_stale(&self) -> bool {
        // Pairs with the release in `mark_stale`: who sees any of the new bytes sees the mark.
        self.stale.load(Ordering::Acquire)
    }

    /// To be called before the first byte is changed.
    pub(super) fn mark_stale(&self) {
        self.stale.store(true, Ordering::SeqCst);
    }
}

/// States of all sectors of a farm at one moment, by sector index; none for what is not plotted.
pub type SectorSnapshot = Arc<Vec<Option<Arc<SectorState>>>>;

/// The states, replaced as a whole so that an audit never waits and never holds anyone up.
#[derive(Debug)]
pub(super) struct SectorTable {
    sectors: RwLock<SectorSnapshot>,
}

impl SectorTable {
    pub(super) fn new(sectors: Vec<Option<Arc<SectorState>>>) -> Self {
        Self { sectors: RwLock::new(Arc::new(sectors)) }
    }

    pub(super) fn snapshot(&self) -> SectorSnapshot {
        self.sectors.read().clone()
    }

    /// Sets a sector's state and returns the former, marked stale.
    pub(super) fn set(
        &self,
        sector_index: SectorIndex,
        state: Option<Arc<SectorState>>,
    ) -> Option<Arc<SectorState>> {
        let mut sectors = self.sectors.write();
        let former = std::mem::replace(&mut Arc::make_mut(&mut sectors)[usize::from(sector_index)], state);
        if let Some(former) = &former {
            former.mark_stale();
        }
        former
    }
}
