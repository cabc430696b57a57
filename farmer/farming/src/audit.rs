//! Auditing: which chunks of a plot win a slot (farming §5).

mod hashing;

use crate::io::ReadAt;
use crate::plot::SectorState;
use primitives::{Blake3Hash, SBucket, SectorGeometry, SectorIndex, SolutionRange};
use rayon::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Sectors that a thread takes at a time at least: an audit of one takes some 40 µs.
const SECTORS_PER_TASK: usize = 8;

/// A chunk that wins, encoded or not: only the contents map knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkCandidate {
    /// Distance from the global challenge.
    pub distance: SolutionRange,
    /// Place in its s-bucket.
    pub chunk_offset: u16,
}

/// A sector that has winning chunks.
#[derive(Debug, Clone)]
pub struct SectorCandidates {
    /// The sector.
    pub sector: Arc<SectorState>,
    /// The audited s-bucket.
    pub s_bucket: SBucket,
    /// The chunks, the nearest first; at least one.
    pub chunks: Vec<ChunkCandidate>,
}

impl SectorCandidates {
    /// Distance of the nearest chunk.
    pub fn best_distance(&self) -> SolutionRange {
        self.chunks.first().map_or(SolutionRange::MAX, |chunk| chunk.distance)
    }
}

/// A sector that could not be audited.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot audit sector {sector_index}: {source}")]
pub struct AuditError {
    /// The plot file.
    pub path: PathBuf,
    /// The sector.
    pub sector_index: SectorIndex,
    /// The cause.
    pub source: io::Error,
}

/// What an audit found; an unreadable sector does not keep the others from winning.
#[derive(Debug, Default)]
pub struct AuditOutcome {
    /// Sectors with winning chunks, the one with the nearest chunk first.
    pub candidates: Vec<SectorCandidates>,
    /// Sectors that could not be read.
    pub errors: Vec<AuditError>,
    /// Sectors that were audited.
    pub audited: usize,
    /// Sectors that were left out, because time was up.
    pub left_out: usize,
}

impl AuditOutcome {
    fn append(mut self, mut other: Self) -> Self {
        self.candidates.append(&mut other.candidates);
        self.errors.append(&mut other.errors);
        Self { audited: self.audited + other.audited, left_out: self.left_out + other.left_out, ..self }
    }
}

/// Memory of an auditing thread: some 40 kB for sectors of 1,000 pieces.
#[derive(Debug, Default)]
pub struct AuditScratch {
    bytes: Vec<u8>,
    heads: Vec<u64>,
}

/// Audits one sector with a single read of its audited s-bucket; none if no chunk wins.
///
/// `solution_range` is the whole range; a chunk wins within half of it on either side. `scratch` serves
/// from sector to sector.
///
/// # Errors
/// Whatever reading fails with.
pub fn audit_sector<R: ReadAt + ?Sized>(
    plot: &R,
    sector: &Arc<SectorState>,
    global_challenge: &Blake3Hash,
    solution_range: SolutionRange,
    scratch: &mut AuditScratch,
) -> io::Result<Option<SectorCandidates>> {
    let challenge = sector.sector_id.derive_sector_slot_challenge(global_challenge);
    let s_bucket = challenge.s_bucket_audit_index();
    let range = sector.buckets.range(s_bucket);
    if range.chunks == 0 || sector.is_stale() {
        return Ok(None);
    }
    let size = usize::from(range.chunks) * 32;
    if scratch.bytes.len() < size {
        scratch.bytes.resize(size, 0);
    }
    let contents_map_size = SectorGeometry::new(sector.pieces_in_sector).contents_map_size() as u64;
    let offset = sector.plot_offset + contents_map_size + u64::from(range.first_chunk) * 32;
    plot.read_exact_at(&mut scratch.bytes[..size], offset)?;
    let chunks = scratch.bytes[..size].as_chunks::<32>().0;
    scratch.heads.clear();
    hashing::extend_heads(&challenge.0, chunks, &mut scratch.heads);
    let center = u64::from_le_bytes(global_challenge.0[..8].try_into().expect("8 of 32 bytes"));
    let mut chunks = Vec::new();
    for (chunk_offset, audited) in scratch.heads.iter().enumerate() {
        let distance = center.wrapping_sub(*audited).min(audited.wrapping_sub(center));
        if distance <= solution_range / 2 {
            chunks.push(ChunkCandidate { distance, chunk_offset: chunk_offset as u16 });
        }
    }
    // Bytes that were being replaced while they were read are nobody's.
    if chunks.is_empty() || sector.is_stale() {
        return Ok(None);
    }
    chunks.sort_unstable();
    Ok(Some(SectorCandidates { sector: Arc::clone(sector), s_bucket, chunks }))
}

/// Audits all sectors of a plot, in parallel on the current rayon pool.
///
/// Sectors that are not plotted (none) are skipped, as are those that are written meanwhile. `path` is for errors. No
/// sector is begun after `until`: what a slow disk finds later than that could not be proved in time anyway.
pub fn audit_plot<R: ReadAt + ?Sized>(
    plot: &R,
    path: &Path,
    sectors: &[Option<Arc<SectorState>>],
    global_challenge: &Blake3Hash,
    solution_range: SolutionRange,
    until: Option<Instant>,
) -> AuditOutcome {
    let in_time = || until.is_none_or(|until| Instant::now() < until);
    let mut outcome = sectors
        .par_iter()
        .with_min_len(SECTORS_PER_TASK)
        .flatten()
        .map_init(AuditScratch::default, |scratch, sector| {
            let audited =
                in_time().then(|| audit_sector(plot, sector, global_challenge, solution_range, scratch));
            (sector.sector_index, audited)
        })
        .fold(AuditOutcome::default, |mut outcome, (sector_index, audited)| {
            outcome.audited += usize::from(matches!(audited, Some(Ok(_))));
            match audited {
                Some(Ok(candidates)) => outcome.candidates.extend(candidates),
                Some(Err(source)) => {
                    outcome.errors.push(AuditError { path: path.to_owned(), sector_index, source });
                }
                None => outcome.left_out += 1,
            }
            outcome
        })
        .reduce(AuditOutcome::default, AuditOutcome::append);
    outcome.candidates.sort_by_key(|sector| (sector.best_distance(), sector.sector.sector_index));
    outcome.errors.sort_by_key(|error| error.sector_index);
    outcome
}
