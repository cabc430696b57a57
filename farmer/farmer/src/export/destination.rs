//! Where the pieces go: a full-piece store with a journal of its segments.

use crate::export::ExportError;
use crate::export::journal::Journal;
use archiving::archiver::ArchivedSegment;
use archiving::{Kzg, PieceToVerify, verify_pieces};
use parking_lot::Mutex;
use piece_store::{FullPieceStore, Put, StoreError, StoreOptions, Verdict};
use primitives::hashes::blake3_hash;
use primitives::rpc::GenesisHash;
use primitives::{Piece, PieceIndex, SegmentHeader, SegmentIndex};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The store. Its methods block on the disk.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    store: FullPieceStore,
    journal: Mutex<Journal>,
    kzg: Kzg,
}

impl Destination {
    /// Opens the store of a chain, or makes it.
    ///
    /// # Errors
    /// Those of the store: in use, another chain's, damaged.
    pub fn open(path: &Path, genesis: GenesisHash, kzg: Kzg) -> Result<Self, ExportError> {
        let options = StoreOptions { chain: Some(genesis), ..StoreOptions::default() };
        let store = FullPieceStore::open(path, &options)?;
        let journal = Mutex::new(Journal::open(path)?);
        Ok(Self { path: path.to_owned(), store, journal, kzg })
    }

    /// Directory of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the machine went down during an earlier export: what was written may be lost.
    pub fn opened_after_power_loss(&self) -> bool {
        self.store.opened_after_power_loss()
    }

    /// Header of a segment that an export has stored.
    pub fn header(&self, index: SegmentIndex) -> Option<SegmentHeader> {
        self.journal.lock().get(index)
    }

    /// The newest segment that an export has stored: the one that it goes on from.
    pub fn newest(&self) -> Option<SegmentIndex> {
        self.journal.lock().newest()
    }

    /// Pieces in the store.
    pub fn pieces(&self) -> u64 {
        self.store.usage().pieces
    }

    /// Whether all pieces of a segment are there. Those of a segment that is not in the journal, or is to be checked
    /// `thoroughly`, are verified against its header, a second or two of CPU; bad ones are removed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn holds(&self, header: &SegmentHeader, thoroughly: bool) -> Result<bool, ExportError> {
        let index = header.segment_index();
        if !index.piece_indices().all(|piece| self.store.contains(piece)) {
            return Ok(false);
        }
        let is_noted = self.header(index) == Some(*header);
        if is_noted && !thoroughly {
            return Ok(true);
        }
        let bad = self.bad_pieces(header);
        if bad.is_empty() {
            if !is_noted {
                self.store.flush()?;
                self.journal.lock().add(*header)?;
            }
            return Ok(true);
        }
        tracing::warn!(
            segment = index.0,
            pieces = bad.len(),
            "Stored pieces are damaged or not the chain's; the segment is archived again"
        );
        for piece in bad {
            self.store.remove(piece)?;
        }
        Ok(false)
    }

    /// Pieces of a segment whose bytes changed on the disk, or which do not belong to it.
    fn bad_pieces(&self, header: &SegmentHeader) -> Vec<PieceIndex> {
        let indices: Vec<_> = header.segment_index().piece_indices().collect();
        let read = |index: &PieceIndex| -> Option<Piece> {
            // Through the file first: a bad disk is a verdict then, and no signal.
            let valid = self.store.verify(*index) == Verdict::Valid;
            valid.then(|| Piece::try_from(self.store.get(*index)?.to_vec()).ok())?
        };
        let pieces: Vec<_> = indices.par_iter().map(read).collect();
        let there =
            || indices.iter().zip(&pieces).filter_map(|(index, piece)| Some((*index, piece.as_ref()?)));
        let segment_commitment = header.segment_commitment();
        let entries: Vec<_> = there()
            .map(|(index, piece)| PieceToVerify { piece, segment_commitment, position: index.position() })
            .collect();
        let verdicts = verify_pieces(&self.kzg, &entries);
        let foreign = there().zip(verdicts).filter(|(_, verdict)| verdict.is_err());
        let mut bad: Vec<_> = foreign.map(|((index, _), _)| index).collect();
        let damaged = indices.iter().zip(&pieces).filter(|(_, piece)| piece.is_none());
        bad.extend(damaged.map(|(index, _)| *index));
        bad
    }

    /// Stores a segment; when this returns it is on the disk and noted in the journal.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn put(&self, segment: &ArchivedSegment) -> Result<(), ExportError> {
        let first = segment.header.segment_index().first_piece_index().0;
        segment.pieces.par_iter().enumerate().try_for_each(|(position, piece)| {
            self.put_piece(PieceIndex(first + position as u64), piece.as_bytes())
        })?;
        self.store.flush()?;
        self.journal.lock().add(segment.header)
    }

    /// Stores a piece in place of any other.
    fn put_piece(&self, index: PieceIndex, bytes: &[u8]) -> Result<(), StoreError> {
        let hash = blake3_hash(bytes);
        if self.store.put_hashed(index, bytes, hash)? == Put::AlreadyThere
            && self.store.hash(index) != Some(hash)
        {
            self.store.remove(index)?;
            self.store.put_hashed(index, bytes, hash)?;
        }
        Ok(())
    }
}
