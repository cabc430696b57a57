//! From winning chunks to solutions (farming §6).
//!
//! What a plot knows and what a prover computes are apart: [`ProofInput`] carries everything from the one to the other,
//! so that the same code proves on the plot's own host and on a proof-server.

mod input;
mod prover;

pub use input::ProofInput;
pub use prover::{CpuProver, ProveError, Prover};

use crate::audit::SectorCandidates;
use crate::io::ReadAt;
use crate::plot::SectorState;
use crate::sector::{ContentsMap, RecordChunksMode, SectorReadError, SectorReader};
use primitives::{Blake3Hash, PieceOffset, PublicKey, SBucket, SectorIndex, SlotNumber, SolutionRange};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A sector whose winning chunks could not be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot prove with sector {sector_index}: {source}")]
pub struct SectorProvingError {
    /// The plot file.
    pub path: PathBuf,
    /// The sector.
    pub sector_index: SectorIndex,
    /// The cause; if [`SectorReadError::is_corruption`], the sector ought to be plotted anew.
    pub source: SectorReadError,
}

/// A winning chunk that is encoded: there is a proof for it.
#[derive(Debug, Clone)]
pub struct ProvableChunk {
    /// The sector.
    pub sector: Arc<SectorState>,
    /// Its contents map.
    pub contents: Arc<ContentsMap>,
    /// The audited s-bucket.
    pub s_bucket: SBucket,
    /// The record whose chunk it is.
    pub piece_offset: PieceOffset,
    /// Distance from the global challenge.
    pub distance: SolutionRange,
}

/// The slot to be answered, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofTarget {
    /// Number of the slot.
    pub slot_number: SlotNumber,
    /// Its global challenge.
    pub global_challenge: Blake3Hash,
    /// The farm's key.
    pub public_key: PublicKey,
    /// Who is paid.
    pub reward_address: PublicKey,
}

/// The chunks of a sector that can win, the nearest first: only encoded ones can.
///
/// Reads and checks the sector's contents map.
///
/// # Errors
/// [`SectorReadError`]; [`SectorReadError::Replaced`] if the sector is being overwritten.
pub fn provable_chunks<R: ReadAt + ?Sized>(
    plot: &R,
    candidates: &SectorCandidates,
) -> Result<Vec<ProvableChunk>, SectorReadError> {
    let sector = &candidates.sector;
    let reader = SectorReader::new(plot, sector.plot_offset, sector.pieces_in_sector);
    let contents = reader.read_contents_map();
    // Before any complaint about what was read.
    if sector.is_stale() {
        return Err(SectorReadError::Replaced);
    }
    let contents = Arc::new(contents?);
    let s_bucket = candidates.s_bucket;
    let records: Vec<_> = contents.s_bucket_records(s_bucket).collect();
    let expected = sector.buckets.range(s_bucket).chunks;
    if records.len() != usize::from(expected) {
        return Err(SectorReadError::BucketSize { s_bucket, expected, found: records.len() });
    }
    let provable = candidates.chunks.iter().filter_map(|chunk| {
        let (piece_offset, encoded) = records[usize::from(chunk.chunk_offset)];
        encoded.then(|| ProvableChunk {
            sector: Arc::clone(sector),
            contents: Arc::clone(&contents),
            s_bucket,
            piece_offset,
            distance: chunk.distance,
        })
    });
    Ok(provable.collect())
}

/// [`provable_chunks`] of several sectors of one plot, the nearest chunk of all first, with what failed beside it.
///
/// `path` is for errors. A sector that is being overwritten is passed over.
pub fn provable_chunks_of_plot<R: ReadAt + ?Sized>(
    plot: &R,
    path: &Path,
    candidates: &[SectorCandidates],
) -> (Vec<ProvableChunk>, Vec<SectorProvingError>) {
    let mut provable = Vec::new();
    let mut errors = Vec::new();
    for candidates in candidates {
        match provable_chunks(plot, candidates) {
            Ok(chunks) => provable.extend(chunks),
            Err(SectorReadError::Replaced) => {}
            Err(source) => errors.push(SectorProvingError {
                path: path.to_owned(),
                sector_index: candidates.sector.sector_index,
                source,
            }),
        }
    }
    provable.sort_by_key(|chunk| (chunk.distance, chunk.sector.sector_index, chunk.piece_offset));
    (provable, errors)
}

/// Reads all that a prover needs for one chunk: some megabyte, strewn over the sector.
///
/// # Errors
/// [`SectorReadError`]; [`SectorReadError::Replaced`] if the sector is being overwritten.
pub fn prepare_proof_request<R: ReadAt + ?Sized>(
    plot: &R,
    chunk: &ProvableChunk,
    target: &ProofTarget,
    mode: RecordChunksMode,
) -> Result<ProofInput, SectorReadError> {
    let sector = &chunk.sector;
    let reader = SectorReader::new(plot, sector.plot_offset, sector.pieces_in_sector);
    let no_record = || SectorReadError::NoRecord {
        piece_offset: chunk.piece_offset,
        pieces_in_sector: sector.pieces_in_sector,
    };
    let contents = chunk.contents.record(chunk.piece_offset).ok_or_else(no_record)?;
    let chunks = reader.read_record_chunks(&chunk.contents, chunk.piece_offset, mode);
    let metadata = reader.read_record_metadata(chunk.piece_offset);
    if sector.is_stale() {
        return Err(SectorReadError::Replaced);
    }
    Ok(ProofInput {
        slot_number: target.slot_number,
        global_challenge: target.global_challenge,
        public_key: target.public_key,
        reward_address: target.reward_address,
        sector_index: sector.sector_index,
        history_size: sector.history_size,
        pieces_in_sector: sector.pieces_in_sector,
        piece_offset: chunk.piece_offset,
        s_bucket: chunk.s_bucket,
        chunk_index: contents.chunk_index(chunk.s_bucket).ok_or_else(no_record)? as u16,
        contents: Box::new(*contents.bitfield()),
        chunks: chunks?,
        metadata: metadata?,
    })
}
