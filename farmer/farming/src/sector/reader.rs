//! Reading of parts of one sector.

use super::{Chunk, ContentsMap, ContentsMapError, StoredChunks, zeroed_box};
use crate::io::ReadAt;
use parity_scale_codec::Decode;
use parking_lot::Mutex;
use primitives::pieces::Record;
use primitives::sectors::RecordMetadata;
use primitives::{Blake3Hash, PieceOffset, SBucket, ScalarBytes, SectorGeometry};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Chunks this near to each other are read together: a disk gives whole pages anyway.
const GAP_MAX: u64 = 4096;
/// Most bytes of one such common read.
const RUN_BYTES_MAX: u64 = 256 * 1024;
/// Reads in flight for one record: what an SSD needs to show its speed; they wait, they do not compute.
const READERS_MAX: usize = 32;
/// Reads for which another thread pays off.
const RUNS_PER_READER: usize = 64;
/// Bytes read at once where a whole sector is read.
const BLOCK_SIZE: usize = 4 * 1024 * 1024;

/// How the chunks of one record, which are strewn over the sector, are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordChunksMode {
    /// Each by itself, many at a time: for disks with fast random access.
    #[default]
    ConcurrentChunks,
    /// The whole sector from front to end: for disks that seek slowly.
    WholeSector,
}

impl std::str::FromStr for RecordChunksMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ConcurrentChunks" => Ok(Self::ConcurrentChunks),
            "WholeSector" => Ok(Self::WholeSector),
            _ => Err(format!("expected ConcurrentChunks or WholeSector, found {text:?}")),
        }
    }
}

impl std::fmt::Display for RecordChunksMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ConcurrentChunks => "ConcurrentChunks",
            Self::WholeSector => "WholeSector",
        })
    }
}

/// Why a sector could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SectorReadError {
    /// The disk or the filesystem failed.
    #[error("reading {bytes} bytes at byte {offset} of the sector: {source}")]
    Io {
        /// Where in the sector.
        offset: u64,
        /// How many bytes.
        bytes: usize,
        /// The cause.
        source: io::Error,
    },
    /// The contents map is damaged.
    #[error(transparent)]
    ContentsMap(#[from] ContentsMapError),
    /// The sector has no such record.
    #[error("no record {piece_offset} in a sector of {pieces_in_sector} pieces")]
    NoRecord {
        /// The record asked for.
        piece_offset: PieceOffset,
        /// Pieces in the sector.
        pieces_in_sector: u16,
    },
    /// The sector was changed after it had been written.
    #[error("sector checksum mismatch: stored {stored}, computed {computed}")]
    Checksum {
        /// What the sector says.
        stored: Blake3Hash,
        /// What its bytes hash to.
        computed: Blake3Hash,
    },
    /// Contents map and metadata contradict each other.
    #[error("s-bucket {} has {expected} chunks by the sector's metadata, {found} by its contents map", s_bucket.0)]
    BucketSize {
        /// The s-bucket.
        s_bucket: SBucket,
        /// Chunks by the metadata.
        expected: u16,
        /// Chunks by the contents map.
        found: usize,
    },
    /// The sector was being overwritten while it was read.
    #[error("the sector was replaced meanwhile")]
    Replaced,
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl SectorReadError {
    /// Whether the sector's bytes are wrong, as opposed to unreadable.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::ContentsMap(_) | Self::Checksum { .. } | Self::BucketSize { .. })
    }
}

/// Neighbouring chunks of one record, read together.
#[derive(Debug)]
struct Run {
    /// First byte in the sector.
    start: u64,
    /// Byte behind the last.
    end: u64,
    /// The record's chunks in it, as places among its 32,768.
    chunks: std::ops::Range<usize>,
}

/// One sector in a plot.
#[derive(Debug, Clone, Copy)]
pub struct SectorReader<'a, R: ReadAt + ?Sized> {
    plot: &'a R,
    /// Byte at which the sector begins in the plot.
    base: u64,
    geometry: SectorGeometry,
}

impl<'a, R: ReadAt + ?Sized> SectorReader<'a, R> {
    /// The sector of `pieces_in_sector` pieces that begins at byte `base` of `plot`.
    pub fn new(plot: &'a R, base: u64, pieces_in_sector: u16) -> Self {
        Self { plot, base, geometry: SectorGeometry::new(pieces_in_sector) }
    }

    /// Fills `buffer` from byte `offset` of the sector on.
    ///
    /// # Errors
    /// [`SectorReadError::Io`].
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), SectorReadError> {
        let bytes = buffer.len();
        self.plot.read_exact_at(buffer, self.base + offset).map_err(|source| SectorReadError::Io {
            offset,
            bytes,
            source,
        })
    }

    /// Reads and checks the contents map.
    ///
    /// # Errors
    /// [`SectorReadError::Io`], [`SectorReadError::ContentsMap`].
    pub fn read_contents_map(&self) -> Result<ContentsMap, SectorReadError> {
        let mut bytes = vec![0; self.geometry.contents_map_size()];
        self.read(&mut bytes, 0)?;
        Ok(ContentsMap::from_bytes(&bytes, self.geometry.pieces_in_sector)?)
    }

    /// Reads a record's commitment, witness and piece checksum.
    ///
    /// # Errors
    /// [`SectorReadError::Io`], [`SectorReadError::NoRecord`].
    pub fn read_record_metadata(&self, piece_offset: PieceOffset) -> Result<RecordMetadata, SectorReadError> {
        if piece_offset.0 >= self.geometry.pieces_in_sector {
            return Err(self.no_record(piece_offset));
        }
        let offset =
            self.geometry.record_metadata_offset() + usize::from(piece_offset.0) * RecordMetadata::SIZE;
        let mut bytes = [0; RecordMetadata::SIZE];
        self.read(&mut bytes, offset as u64)?;
        Ok(RecordMetadata::decode(&mut &bytes[..]).expect("128 bytes of fixed fields"))
    }

    /// Reads all 32,768 chunks that the sector has of one record, in s-bucket order, as they stand there (masked).
    ///
    /// # Errors
    /// [`SectorReadError::Io`], [`SectorReadError::NoRecord`].
    pub fn read_record_chunks(
        &self,
        contents: &ContentsMap,
        piece_offset: PieceOffset,
        mode: RecordChunksMode,
    ) -> Result<StoredChunks, SectorReadError> {
        let locations = contents.chunk_locations(piece_offset).ok_or_else(|| self.no_record(piece_offset))?;
        let base = self.geometry.contents_map_size() as u64;
        let offsets: Vec<u64> =
            locations.iter().map(|(chunk, ..)| base + u64::from(*chunk) * ScalarBytes::SIZE as u64).collect();
        match mode {
            RecordChunksMode::ConcurrentChunks => self.read_chunks_concurrently(&offsets),
            RecordChunksMode::WholeSector => self.read_chunks_in_passing(&offsets),
        }
    }

    fn read_chunks_concurrently(&self, offsets: &[u64]) -> Result<StoredChunks, SectorReadError> {
        let runs = runs(offsets);
        let mut stored = zeroed_box::<Chunk, { Record::NUM_CHUNKS }>();
        let readers = runs.len().div_ceil(RUNS_PER_READER).min(READERS_MAX);
        if readers <= 1 {
            for run in &runs {
                self.read_run(run, offsets, &mut stored[run.chunks.clone()])?;
            }
            return Ok(stored);
        }
        // Runs and their destinations are taken in order from one list by whichever reader is free.
        let mut rest = &mut stored[..];
        let mut jobs = Vec::with_capacity(runs.len());
        for run in &runs {
            let (chunks, behind) = rest.split_at_mut(run.chunks.len());
            jobs.push(Mutex::new(chunks));
            rest = behind;
        }
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(run) = runs.get(index) else { break };
                if let Err(error) = self.read_run(run, offsets, &mut jobs[index].lock()) {
                    next.store(runs.len(), Ordering::Relaxed);
                    failure.lock().get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..readers {
                scope.spawn(work);
            }
            work();
        });
        drop(jobs);
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(stored),
        }
    }

    fn read_run(&self, run: &Run, offsets: &[u64], chunks: &mut [Chunk]) -> Result<(), SectorReadError> {
        let mut buffer = vec![0; (run.end - run.start) as usize];
        self.read(&mut buffer, run.start)?;
        for (chunk, offset) in chunks.iter_mut().zip(&offsets[run.chunks.clone()]) {
            chunk.copy_from_slice(&buffer[(offset - run.start) as usize..][..ScalarBytes::SIZE]);
        }
        Ok(())
    }

    fn read_chunks_in_passing(&self, offsets: &[u64]) -> Result<StoredChunks, SectorReadError> {
        let mut stored = zeroed_box::<Chunk, { Record::NUM_CHUNKS }>();
        let start = self.geometry.contents_map_size();
        let end = self.geometry.record_metadata_offset();
        let mut buffer = vec![0; BLOCK_SIZE.min(end - start)];
        let mut wanted = offsets.iter().zip(stored.iter_mut()).peekable();
        // Blocks are whole numbers of chunks and begin at one, so that none straddles two.
        for block in (start..end).step_by(BLOCK_SIZE) {
            let buffer = &mut buffer[..BLOCK_SIZE.min(end - block)];
            self.read(buffer, block as u64)?;
            let block_end = (block + buffer.len()) as u64;
            while let Some((offset, chunk)) = wanted.next_if(|(offset, _)| **offset < block_end) {
                chunk.copy_from_slice(&buffer[*offset as usize - block..][..ScalarBytes::SIZE]);
            }
        }
        Ok(stored)
    }

    /// Reads the whole sector and compares its checksum: finds a flipped bit anywhere in it.
    ///
    /// # Errors
    /// [`SectorReadError::Io`], [`SectorReadError::Checksum`], [`SectorReadError::Cancelled`].
    pub fn verify_checksum(&self, cancel: &AtomicBool) -> Result<(), SectorReadError> {
        let end = self.geometry.sector_size() - Blake3Hash::SIZE;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; BLOCK_SIZE.min(end)];
        for block in (0..end).step_by(BLOCK_SIZE) {
            if cancel.load(Ordering::Relaxed) {
                return Err(SectorReadError::Cancelled);
            }
            let buffer = &mut buffer[..BLOCK_SIZE.min(end - block)];
            self.read(buffer, block as u64)?;
            hasher.update(buffer);
        }
        let mut stored = [0; Blake3Hash::SIZE];
        self.read(&mut stored, end as u64)?;
        let (stored, computed) = (Blake3Hash(stored), Blake3Hash(*hasher.finalize().as_bytes()));
        if stored == computed { Ok(()) } else { Err(SectorReadError::Checksum { stored, computed }) }
    }

    fn no_record(&self, piece_offset: PieceOffset) -> SectorReadError {
        SectorReadError::NoRecord { piece_offset, pieces_in_sector: self.geometry.pieces_in_sector }
    }
}

/// Groups ascending chunk offsets into common reads.
fn runs(offsets: &[u64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, &offset) in offsets.iter().enumerate() {
        let end = offset + ScalarBytes::SIZE as u64;
        match runs.last_mut() {
            Some(run) if offset <= run.end + GAP_MAX && end - run.start <= RUN_BYTES_MAX => {
                run.end = end;
                run.chunks.end = index + 1;
            }
            _ => runs.push(Run { start: offset, end, chunks: index..index + 1 }),
        }
    }
    runs
}
