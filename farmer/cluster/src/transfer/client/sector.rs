//! Fetching a sector, block by block, and resuming.

use super::Connection;
use crate::contract::{LeaseKey, PlotProgress};
use crate::transfer::error::TransferError;
use crate::transfer::frame::{BLOCK_PREFIX, FetchSector, Header, Kind, SectorManifest, decode};
use parity_scale_codec::Encode;

/// Where a sector goes while it is fetched.
pub trait SectorSink: Send {
    /// The sector is not finished yet; this is how far it is.
    fn progress(&mut self, progress: &PlotProgress) {
        let _ = progress;
    }

    /// The sector is finished and this is what it consists of; its blocks follow, from block 0.
    ///
    /// # Errors
    /// When it cannot be taken, for example for want of room.
    fn begin(&mut self, manifest: &SectorManifest) -> impl Future<Output = Result<(), String>> + Send;

    /// Where the next block's `size` bytes are to be put.
    fn buffer(&mut self, size: usize) -> &mut [u8];

    /// The buffer holds the block, and its hash has been checked.
    ///
    /// # Errors
    /// When it cannot be stored.
    fn block(&mut self, block: u32) -> impl Future<Output = Result<(), String>> + Send;
}

/// How far the fetching of a sector is; kept between attempts, so that the next one goes on where the last one ended.
#[derive(Debug, Clone)]
pub struct SectorFetch {
    key: LeaseKey,
    manifest: Option<SectorManifest>,
    next_block: u32,
}

impl SectorFetch {
    /// Nothing is fetched yet.
    pub fn new(key: LeaseKey) -> Self {
        Self { key, manifest: None, next_block: 0 }
    }

    /// The sector.
    pub fn key(&self) -> &LeaseKey {
        &self.key
    }

    /// What it consists of, once known.
    pub fn manifest(&self) -> Option<&SectorManifest> {
        self.manifest.as_ref()
    }

    /// The first block that is not fetched.
    pub fn next_block(&self) -> u32 {
        self.next_block
    }

    /// Whether every block is fetched.
    pub fn is_complete(&self) -> bool {
        self.manifest.as_ref().is_some_and(|manifest| self.next_block == manifest.blocks())
    }
}

impl Connection {
    /// Fetches a sector into `sink`, waiting while it is made; goes on at the block at which an earlier attempt ended.
    ///
    /// # Errors
    /// When the connection breaks, a block is damaged, the sector is not known, could not be made or was made anew, or
    /// the sink refuses. `fetch` says how far it came.
    pub async fn fetch_sector<S: SectorSink>(
        &mut self,
        fetch: &mut SectorFetch,
        sink: &mut S,
    ) -> Result<(), TransferError> {
        self.begin()?;
        let request = FetchSector { key: fetch.key, from_block: fetch.next_block };
        let id = self.send(Kind::FetchSector, &request.encode(), &[]).await?;
        let manifest = self.wait_for_manifest(id, sink).await?;
        match &fetch.manifest {
            None => {
                sink.begin(&manifest).await.map_err(TransferError::Sink)?;
                fetch.manifest = Some(manifest.clone());
            }
            Some(known) if *known == manifest => {}
            Some(_) => {
                *fetch = SectorFetch::new(fetch.key);
                return Err(TransferError::SectorChanged { peer: self.peer });
            }
        }
        while fetch.next_block < manifest.blocks() {
            let header = self.read_header("a block of a sector").await?;
            self.read_block(header, id, &manifest, fetch.next_block, sink).await?;
            fetch.next_block += 1;
        }
        let header = self.read_header("the end of a sector").await?;
        self.expect(header, id, Kind::Done).await?;
        self.finish();
        Ok(())
    }

    async fn wait_for_manifest<S: SectorSink>(
        &mut self,
        id: u64,
        sink: &mut S,
    ) -> Result<SectorManifest, TransferError> {
        loop {
            let header = self.read_header("progress of a sector").await?;
            if header.id == id && header.kind == Kind::Progress {
                let payload = self.read_small(header).await?;
                let progress: PlotProgress =
                    decode(&payload, "progress").map_err(|what| self.protocol(what))?;
                sink.progress(&progress);
                if let PlotProgress::Failed { reason } = progress {
                    self.finish();
                    return Err(TransferError::SectorFailed { peer: self.peer, reason });
                }
                continue;
            }
            if header.id == id && header.kind == Kind::Error {
                let error = self.unexpected(header).await;
                if matches!(error, TransferError::UnknownSector { .. }) {
                    self.finish();
                }
                return Err(error);
            }
            self.expect(header, id, Kind::Manifest).await?;
            let payload = self.read_small(header).await?;
            let manifest: SectorManifest =
                decode(&payload, "manifest").map_err(|what| self.protocol(what))?;
            manifest.check().map_err(|what| self.protocol(what))?;
            return Ok(manifest);
        }
    }

    async fn read_block<S: SectorSink>(
        &mut self,
        header: Header,
        id: u64,
        manifest: &SectorManifest,
        block: u32,
        sink: &mut S,
    ) -> Result<(), TransferError> {
        let size = manifest.block_size(block);
        self.expect(header, id, Kind::Block).await?;
        let mut number = [0; BLOCK_PREFIX];
        if header.length != BLOCK_PREFIX + size {
            return Err(self.protocol(format!("a block of {} bytes", header.length)));
        }
        self.read_exact(&mut number, "a block of a sector").await?;
        if u32::from_le_bytes(number) != block {
            return Err(self.protocol("another block than the one that was due"));
        }
        let buffer = sink.buffer(size);
        if buffer.len() != size {
            return Err(TransferError::Usage("the sink's buffer does not have the size of the block"));
        }
        if self.read_hashed(buffer, "a block of a sector").await? != manifest.block_hashes[block as usize] {
            return Err(TransferError::DamagedBlock { peer: self.peer, block });
        }
        sink.block(block).await.map_err(TransferError::Sink)
    }

    /// Tells the server that the sector is stored: it may forget it. Saying so again is no error.
    ///
    /// # Errors
    /// When the connection breaks or the server fails.
    pub async fn acknowledge_sector(&mut self, key: &LeaseKey) -> Result<(), TransferError> {
        self.begin()?;
        let id = self.send(Kind::AckSector, &key.encode(), &[]).await?;
        let header = self.read_header("an acknowledgement").await?;
        self.expect(header, id, Kind::Done).await?;
        self.finish();
        Ok(())
    }
}
