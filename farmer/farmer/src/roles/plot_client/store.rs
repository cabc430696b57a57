//! Takes a sector from the network into the farm: block by block, each checked before it is written.

use cluster::contract::{LeaseKey, PlotProgress};
use cluster::transfer::{SectorManifest, SectorSink};
use farming::plot::{Farm, FarmError, SectorWriter};
use parity_scale_codec::DecodeAll;
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Checksummed, SectorGeometry};
use std::io::{self, Write};
use std::sync::Arc;

/// Why a sector could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What came is not the sector that was wanted, or no sound one.
    #[error("{0}")]
    Unsound(String),
    /// The farm's disk.
    #[error("{0}")]
    Disk(String),
}

/// What to do about a disk that has no room for a sector although the farm was allocated as a whole.
const MAKE_ROOM: &str = "free space on that disk, and the sector is stored at the next attempt";

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<FarmError> for StoreError {
    fn from(error: FarmError) -> Self {
        match error {
            FarmError::UnsoundSector { .. } => Self::Unsound(error.to_string()),
            FarmError::Io { ref source, .. } if is_full(source) => {
                Self::Disk(format!("{error}; {MAKE_ROOM}"))
            }
            error => Self::Disk(error.to_string()),
        }
    }
}

/// Stores one sector; lives as long as the sector is fetched, over all its connections.
pub struct SectorStore {
    farm: Arc<Farm>,
    key: LeaseKey,
    metadata: Option<SectorMetadata>,
    writer: Option<SectorWriter>,
    buffer: Vec<u8>,
    error: Option<StoreError>,
    /// How far the plot-server was when it last said so.
    progress: Option<PlotProgress>,
}

impl SectorStore {
    /// Nothing has come yet; the farm is not touched before the sector is finished and its first block is due.
    pub fn new(farm: Arc<Farm>, key: LeaseKey) -> Self {
        Self { farm, key, metadata: None, writer: None, buffer: Vec::new(), error: None, progress: None }
    }

    /// Forgets what has come: the sector was made anew.
    pub fn reset(&mut self) {
        self.writer = None;
        self.metadata = None;
    }

    /// Why the last block was refused.
    pub fn take_error(&mut self) -> Option<StoreError> {
        self.error.take()
    }

    /// Checks the whole sector and makes it count.
    ///
    /// # Errors
    /// When it is not sound, or the disk fails; the sector is not plotted then.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        let incomplete = || StoreError::Unsound("the sector is not complete".into());
        let writer = self.writer.take().ok_or_else(incomplete)?;
        let metadata = self.metadata.take().ok_or_else(incomplete)?;
        blocking(move || Ok(writer.finish(&metadata).map(drop)?)).await
    }

    /// The metadata, if they are those of the wanted sector.
    fn check(&self, manifest: &SectorManifest) -> Result<SectorMetadata, StoreError> {
        let unsound = |what: String| StoreError::Unsound(what);
        let geometry = self.farm.geometry();
        let size = SectorGeometry::new(geometry.pieces_in_sector).sector_size() as u64;
        if manifest.size_bytes != size {
            return Err(unsound(format!("a sector of {} bytes, {size} are due", manifest.size_bytes)));
        }
        let Blake3Checksummed(metadata) =
            Blake3Checksummed::<SectorMetadata>::decode_all(&mut &*manifest.metadata)
                .map_err(|error| unsound(format!("its metadata: {error}")))?;
        let same = metadata.sector_index == self.key.sector_index
            && metadata.history_size == self.key.history_size
            && metadata.pieces_in_sector == geometry.pieces_in_sector;
        if same { Ok(metadata) } else { Err(unsound("its metadata are another sector's".into())) }
    }

    fn refuse(&mut self, error: StoreError) -> String {
        let text = error.to_string();
        self.error = Some(error);
        text
    }

    async fn start(&mut self, manifest: &SectorManifest) -> Result<(), StoreError> {
        self.metadata = Some(self.check(manifest)?);
        let (farm, sector_index) = (Arc::clone(&self.farm), self.key.sector_index);
        self.writer = Some(blocking(move || Ok(farm.write_sector(sector_index)?)).await?);
        Ok(())
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        let mut writer = self.writer.take().ok_or_else(|| StoreError::Unsound("a block too many".into()))?;
        let buffer = std::mem::take(&mut self.buffer);
        let path = self.farm.plot().path().to_owned();
        let written = blocking(move || {
            writer.write_all(&buffer).map_err(|source| FarmError::Io {
                path,
                action: "write a sector to it",
                source,
            })?;
            Ok((writer, buffer))
        });
        let (writer, buffer) = written.await?;
        self.writer = Some(writer);
        self.buffer = buffer;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Disk(error.to_string())))
}

impl SectorSink for SectorStore {
    fn progress(&mut self, progress: &PlotProgress) {
        if self.progress.as_ref() != Some(progress) {
            tracing::debug!(sector_index = self.key.sector_index, ?progress, "Progress");
            self.progress = Some(progress.clone());
        }
    }

    async fn begin(&mut self, manifest: &SectorManifest) -> Result<(), String> {
        self.start(manifest).await.map_err(|error| self.refuse(error))
    }

    fn buffer(&mut self, size: usize) -> &mut [u8] {
        self.buffer.resize(size, 0);
        &mut self.buffer
    }

    async fn block(&mut self, _block: u32) -> Result<(), String> {
        self.write().await.map_err(|error| self.refuse(error))
    }
}
