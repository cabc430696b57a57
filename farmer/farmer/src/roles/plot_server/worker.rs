//! Makes sectors: several workers, each of which fetches the pieces of one sector, waits for the encoder and for room in
//! the spool, and encodes. So the next sector's pieces arrive while this one is encoded, and a sector whose pieces nobody
//! has holds up no other.

use super::backend::Encoding;
use super::desk::{Desk, Work};
use super::leases::{Failure, SectorRequest};
use super::spool::{BLOCK_SIZE, PartialSector, SpoolError, SpooledSector};
use crate::roles::piece_source::{Collection, PieceSources};
use crate::shutdown::Shutdown;
use farming::encoding::{EncodeError, EncodedSector, PieceInput, SectorEncoder, SectorPlan};
use parking_lot::Mutex;
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, PieceIndex, PieceOffset};
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Sectors whose pieces are in memory at once: one encoding, one next, one that waits for missing pieces.
pub const WORKERS: usize = 3;
/// How often a worker looks whether there is something to do, should it miss a notification.
const POLL: Duration = Duration::from_millis(500);

/// What workers share.
pub struct Workshop {
    /// The desk.
    pub desk: Arc<Desk>,
    /// Where pieces come from.
    pub pieces: PieceSources,
    /// The encoder, lent to one worker at a time.
    pub encoder: tokio::sync::Mutex<Option<SectorEncoder>>,
    /// What the encoder encodes on.
    pub encoding: Encoding,
    /// Threads of the encoder.
    pub pool: Arc<rayon::ThreadPool>,
    /// The shutdown.
    pub shutdown: Shutdown,
}

impl Workshop {
    /// One worker; ends with the shutdown.
    pub async fn work(self: Arc<Self>) {
        while !self.shutdown.is_triggered() {
            match self.desk.start_download() {
                Some((request, work)) => self.make(request, work).await,
                None => self.wait().await,
            }
        }
    }

    async fn wait(&self) {
        tokio::select! {
            () = self.shutdown.triggered() => {}
            () = self.desk.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }

    async fn make(self: &Arc<Self>, request: SectorRequest, work: Arc<Work>) {
        let key = request.key;
        let plan = SectorPlan::new(
            key.public_key,
            key.sector_index,
            request.pieces_in_sector,
            request.protocol_info,
        );
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return self.desk.fail(&key, Failure::Other(error.to_string())),
        };
        let Some(pieces) = self.download(&plan, &work).await else { return };
        let Some(mut encoder) = work.cancelled.run_until_cancelled(self.encoder.lock()).await else { return };
        if !self.wait_for_room(&request, &work).await {
            return;
        }
        let Some(taken) = encoder.take() else {
            return self.desk.fail(&key, Failure::Other("the encoder was lost in an earlier failure".into()));
        };
        let shop = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || {
            let mut taken = taken;
            let result = shop.encode(&mut taken, &plan, request, pieces, &work);
            (taken, result)
        });
        match made.await {
            Ok((taken, result)) => {
                *encoder = Some(taken);
                self.report(request, result);
            }
            Err(error) => {
                *encoder = Some(self.encoding.sector_encoder());
                self.desk.fail(&key, Failure::Other(format!("the encoder failed: {error}")));
            }
        }
    }

    fn report(&self, request: SectorRequest, result: Result<Arc<SpooledSector>, MakeError>) {
        let key = request.key;
        match result {
            Ok(sector) => self.desk.finish(sector),
            Err(MakeError::Encode(EncodeError::Cancelled)) => {
                tracing::info!(sector_index = key.sector_index, "Encoding stopped");
                self.desk.cancel(&key);
            }
            Err(error) => {
                tracing::error!(farm = %key.public_key, sector_index = key.sector_index, "A sector was not made: {error}");
                let failure = match error {
                    MakeError::Spool(error @ SpoolError::NoSpace { .. }) => {
                        Failure::NoSpace(error.to_string())
                    }
                    error => Failure::Other(error.to_string()),
                };
                self.desk.fail(&key, failure);
            }
        }
    }

    /// The pieces of a sector by offset; none when the lease was given up.
    async fn download(&self, plan: &SectorPlan, work: &Work) -> Option<Pieces> {
        let indices = plan.piece_indexes();
        let collection = Collection::new(indices.iter().copied().collect());
        let started = Instant::now();
        let watch = async {
            loop {
                tokio::time::sleep(POLL).await;
                work.pieces.store(collection.len() as u16, Ordering::Relaxed);
            }
        };
        let complete = tokio::select! {
            complete = self.pieces.collect(&collection, &work.cancelled) => complete,
            () = watch => false,
        };
        if !complete {
            return None;
        }
        work.pieces.store(plan.pieces_in_sector(), Ordering::Relaxed);
        let metrics = self.desk.metrics();
        metrics.pieces_downloaded.inc_by(collection.len() as u64);
        metrics.downloading_seconds.observe(started.elapsed().as_secs_f64());
        Some(Pieces::new(indices, collection.into_pieces()))
    }

    /// False when the lease was given up.
    async fn wait_for_room(&self, request: &SectorRequest, work: &Work) -> bool {
        let mut said = false;
        loop {
            match self.desk.start_encoding(&request.key) {
                Some(true) => return true,
                Some(false) if !work.cancelled.is_cancelled() && !self.shutdown.is_triggered() => {}
                Some(false) | None => return false,
            }
            if !said {
                tracing::info!("The spool is full: waiting for plot-clients to fetch their sectors");
                said = true;
            }
            self.wait().await;
        }
    }

    fn encode(
        &self,
        encoder: &mut SectorEncoder,
        plan: &SectorPlan,
        request: SectorRequest,
        pieces: Pieces,
        work: &Work,
    ) -> Result<Arc<SpooledSector>, MakeError> {
        // First of all the room: a full disk is to be found before anything is encoded.
        let partial = self.desk.spool().create(request)?;
        let started = Instant::now();
        let progress = |progress: farming::encoding::EncodingProgress| {
            work.records.store(progress.done, Ordering::Relaxed);
            self.desk.metrics().records_encoded.inc();
        };
        let source = |offset| Ok(pieces.take(offset));
        let encoded = self.pool.install(|| encoder.encode(plan, &source, &progress, &work.stop_encoding));
        self.encoding.count();
        let encoded = encoded?;
        let sector = self.pool.install(|| self.store(partial, &encoded))?;
        let seconds = started.elapsed().as_secs_f64();
        self.desk.metrics().encoding_seconds.observe(seconds);
        tracing::info!(
            farm = %request.key.public_key,
            sector_index = request.key.sector_index,
            history_size = %request.key.history_size,
            seconds,
            "Encoded a sector"
        );
        Ok(sector)
    }

    fn store(
        &self,
        mut partial: PartialSector,
        encoded: &EncodedSector,
    ) -> Result<Arc<SpooledSector>, MakeError> {
        let block_hashes = write_blocks(&mut partial, encoded).map_err(|source| partial.error(source))?;
        Ok(self.desk.spool().finish(partial, encoded.metadata().clone(), block_hashes)?)
    }
}

#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Pieces by offset; each is kept until its last offset has taken it.
struct Pieces {
    indices: Vec<PieceIndex>,
    left: Mutex<HashMap<PieceIndex, (PieceInput, usize)>>,
}

impl Pieces {
    fn new(indices: Vec<PieceIndex>, pieces: HashMap<PieceIndex, PieceInput>) -> Self {
        let mut left: HashMap<_, _> = pieces.into_iter().map(|(index, piece)| (index, (piece, 0))).collect();
        for index in &indices {
            left.get_mut(index).expect("the collection is complete").1 += 1;
        }
        Self { indices, left: Mutex::new(left) }
    }

    fn take(&self, offset: PieceOffset) -> PieceInput {
        let index = self.indices[usize::from(offset.0)];
        let mut left = self.left.lock();
        let (piece, uses) = left.get_mut(&index).expect("each offset takes its piece once");
        *uses -= 1;
        if *uses == 0 { left.remove(&index).expect("it was found above").0 } else { piece.clone() }
    }
}

/// Writes a sector front to back and hashes its blocks as they pass.
fn write_blocks(partial: &mut PartialSector, encoded: &EncodedSector) -> io::Result<Vec<Blake3Hash>> {
    let mut writer = BlockWriter { partial, block: Vec::with_capacity(BLOCK_SIZE), hashes: Vec::new() };
    encoded.write_to(&mut writer)?;
    writer.flush_block()?;
    Ok(writer.hashes)
}

struct BlockWriter<'a> {
    partial: &'a PartialSector,
    block: Vec<u8>,
    hashes: Vec<Blake3Hash>,
}

impl BlockWriter<'_> {
    fn flush_block(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            let offset = self.hashes.len() as u64 * BLOCK_SIZE as u64;
            self.partial.file().write_all_at(&self.block, offset)?;
            self.hashes.push(blake3_hash(&self.block));
            self.block.clear();
        }
        Ok(())
    }
}

impl Write for BlockWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_SIZE - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == BLOCK_SIZE {
            self.flush_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
