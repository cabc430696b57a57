//! Many records at once.

use super::layout::{EncodedRecord, EncodedSector};
use super::{CpuRecordEncoder, RecordEncoder, RecordEncoderError, SectorPlan};
use crate::sector::{Bitfield, Chunk, zeroed_box};
use parking_lot::Mutex;
use primitives::pieces::Record;
use primitives::sectors::RecordMetadata;
use primitives::{Piece, PieceOffset, RecordCommitment, RecordWitness};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Why a sector could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A record could not be encoded.
    #[error("record {piece_offset}: {source}")]
    Record {
        /// The record.
        piece_offset: PieceOffset,
        /// The cause.
        source: RecordEncoderError,
    },
    /// A piece could not be had.
    #[error("piece for offset {piece_offset}: {source}")]
    Piece {
        /// Where it belongs.
        piece_offset: PieceOffset,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// A piece whose record is already erasure-coded.
#[derive(Clone)]
pub struct SplitParityPiece {
    /// 65,536 chunks: source chunk k at 2k, parity chunk k at 2k + 1.
    pub extended: Box<[Chunk; Record::NUM_S_BUCKETS]>,
    /// Commitment of the record.
    pub commitment: RecordCommitment,
    /// Witness of the record.
    pub witness: RecordWitness,
}

impl SplitParityPiece {
    /// The piece as it was before erasure coding.
    pub fn piece(&self) -> Piece {
        let mut piece = Piece::zeroed();
        for (chunk, source) in piece.record_chunks_mut().iter_mut().zip(self.extended.iter().step_by(2)) {
            *chunk = *source;
        }
        piece.set_commitment(&self.commitment);
        piece.set_witness(&self.witness);
        piece
    }
}

/// A piece in one of the forms in which a cache keeps it.
#[derive(Clone)]
pub enum PieceInput {
    /// As archived.
    Piece(Piece),
    /// Already erasure-coded.
    SplitParity(SplitParityPiece),
}

impl From<Piece> for PieceInput {
    fn from(piece: Piece) -> Self {
        Self::Piece(piece)
    }
}

/// Where the pieces of a sector come from. Pieces are taken as they are: whoever gives them has checked them.
pub trait PieceSource: Sync {
    /// The piece for `piece_offset`; may block until it is there. Called once for each offset, from any thread.
    ///
    /// # Errors
    /// Whatever kept the piece away; ends the encoding.
    fn piece(
        &self,
        piece_offset: PieceOffset,
    ) -> Result<PieceInput, Box<dyn std::error::Error + Send + Sync>>;
}

impl<F> PieceSource for F
where
    F: Fn(PieceOffset) -> Result<PieceInput, Box<dyn std::error::Error + Send + Sync>> + Sync,
{
    fn piece(
        &self,
        piece_offset: PieceOffset,
    ) -> Result<PieceInput, Box<dyn std::error::Error + Send + Sync>> {
        self(piece_offset)
    }
}

/// A record was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodingProgress {
    /// The record.
    pub piece_offset: PieceOffset,
    /// Records encoded so far.
    pub done: u16,
    /// Records in the sector.
    pub total: u16,
}

/// Encodes sectors, one at a time, with as many records in flight as it has encoders.
pub struct SectorEncoder {
    encoders: Vec<Box<dyn RecordEncoder>>,
}

/// What the encoders of one sector share.
struct Job<'a> {
    plan: &'a SectorPlan,
    pieces: &'a dyn PieceSource,
    progress: &'a (dyn Fn(EncodingProgress) + Sync),
    cancel: &'a AtomicBool,
    next: AtomicUsize,
    done: AtomicUsize,
    records: Mutex<Vec<Option<EncodedRecord>>>,
    failure: Mutex<Option<EncodeError>>,
}

impl SectorEncoder {
    /// Encodes with these encoders, one record in each at a time.
    ///
    /// # Panics
    /// Without an encoder.
    pub fn new(encoders: Vec<Box<dyn RecordEncoder>>) -> Self {
        assert!(!encoders.is_empty(), "a sector encoder has at least one record encoder");
        Self { encoders }
    }

    /// Encodes on the CPU, `records_in_flight` records at a time: one for each thread of the pool is best.
    pub fn cpu(records_in_flight: usize) -> Self {
        let encoder = |_| Box::new(CpuRecordEncoder::new()) as Box<dyn RecordEncoder>;
        Self::new((0..records_in_flight.max(1)).map(encoder).collect())
    }

    /// Encodes a sector on the current rayon pool. The result does not depend on the number of encoders.
    ///
    /// `progress` is called after each record, from any thread; `cancel` is looked at before each.
    ///
    /// # Errors
    /// The first [`EncodeError`] met.
    pub fn encode(
        &mut self,
        plan: &SectorPlan,
        pieces: &dyn PieceSource,
        progress: &(dyn Fn(EncodingProgress) + Sync),
        cancel: &AtomicBool,
    ) -> Result<EncodedSector, EncodeError> {
        let total = usize::from(plan.pieces_in_sector());
        let job = Job {
            plan,
            pieces,
            progress,
            cancel,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            records: Mutex::new((0..total).map(|_| None).collect()),
            failure: Mutex::new(None),
        };
        rayon::scope(|scope| {
            for encoder in self.encoders.iter_mut().take(total) {
                let job = &job;
                scope.spawn(move |_| job.work(encoder.as_mut()));
            }
        });
        if let Some(failure) = job.failure.into_inner() {
            return Err(failure);
        }
        let records = job.records.into_inner().into_iter();
        Ok(EncodedSector::new(
            plan,
            records.map(|record| record.expect("no failure: all are encoded")).collect(),
        ))
    }
}

impl Job<'_> {
    fn work(&self, encoder: &mut dyn RecordEncoder) {
        let total = self.plan.pieces_in_sector();
        loop {
            let offset = self.next.fetch_add(1, Ordering::Relaxed);
            if offset >= usize::from(total) {
                return;
            }
            let piece_offset = PieceOffset(offset as u16);
            match self.encode(encoder, piece_offset) {
                Ok(record) => {
                    self.records.lock()[offset] = Some(record);
                    let done = self.done.fetch_add(1, Ordering::Relaxed) as u16 + 1;
                    (self.progress)(EncodingProgress { piece_offset, done, total });
                }
                Err(error) => {
                    // The others stop at their next record.
                    self.next.store(usize::from(total), Ordering::Relaxed);
                    self.failure.lock().get_or_insert(error);
                    return;
                }
            }
        }
    }

    fn encode(
        &self,
        encoder: &mut dyn RecordEncoder,
        piece_offset: PieceOffset,
    ) -> Result<EncodedRecord, EncodeError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(EncodeError::Cancelled);
        }
        let input =
            self.pieces.piece(piece_offset).map_err(|source| EncodeError::Piece { piece_offset, source })?;
        let seed = self.plan.evaluation_seed(piece_offset);
        let mut contents: Box<Bitfield> = zeroed_box();
        let (mut piece, extended) = match input {
            PieceInput::Piece(piece) => (piece, None),
            PieceInput::SplitParity(split) => (split.piece(), Some(split.extended)),
        };
        let metadata = RecordMetadata::of_piece(&piece);
        let chunks: &mut [Chunk; Record::NUM_CHUNKS] =
            piece.record_chunks_mut().try_into().expect("a record has 32,768 chunks");
        match extended {
            None => encoder.encode_record(&seed, chunks, &mut contents),
            Some(extended) => encoder.encode_extended_record(&seed, &extended, chunks, &mut contents),
        }
        .map_err(|source| EncodeError::Record { piece_offset, source })?;
        Ok(EncodedRecord::new(piece, contents, metadata))
    }
}
