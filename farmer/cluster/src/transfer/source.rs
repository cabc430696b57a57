//! What a server serves from, and stores into.

use super::frame::{ItemType, PutOutcome, SectorManifest};
use super::payload::Payload;
use crate::contract::{LeaseKey, PlotProgress};
use bytes::Bytes;
use primitives::{Blake3Hash, PieceIndex};
use std::sync::Arc;

/// A source could not do what was asked; the text goes to the peer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

impl SourceError {
    /// Makes the text of an error.
    pub fn new(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// A piece and the hash that was stored with it.
#[derive(Debug, Clone)]
pub struct StoredPiece {
    /// The bytes; sent from where they lie.
    pub bytes: Payload,
    /// BLAKE3 of the bytes, as stored when they were written.
    pub hash: Blake3Hash,
}

/// Where a server finds and keeps pieces. Called on threads that may block; what is returned is in memory or in the page
/// cache already ([`FileRegion::load`](super::FileRegion::load)).
pub trait PieceSource: Send + Sync + 'static {
    /// The piece, if it is there.
    ///
    /// # Errors
    /// When it is there but cannot be read: the peer is told that it is missing, the log says why.
    fn get(&self, item: ItemType, index: PieceIndex) -> Result<Option<StoredPiece>, SourceError>;

    /// Stores a piece whose hash the server has just checked.
    ///
    /// Gives [`PutOutcome::Stored`], [`PutOutcome::AlreadyThere`], [`PutOutcome::Full`] or [`PutOutcome::Failed`].
    fn put(&self, item: ItemType, index: PieceIndex, bytes: Bytes, hash: Blake3Hash) -> PutOutcome;
}

/// How far a sector is.
#[derive(Debug, Clone)]
pub enum SectorState {
    /// The server knows nothing of it.
    Unknown,
    /// It is being made, or could not be.
    Making(PlotProgress),
    /// It is in the spool.
    Ready(Arc<SectorManifest>),
}

/// Where a server finds finished sectors. Called on threads that may block.
pub trait SectorSource: Send + Sync + 'static {
    /// How far the sector is; asking renews its lease.
    fn state(&self, key: &LeaseKey) -> SectorState;

    /// One block: 1 MiB, the last one less.
    ///
    /// # Errors
    /// When it cannot be read.
    fn block(&self, key: &LeaseKey, block: u32) -> Result<Payload, SourceError>;

    /// The plot-client has stored the sector: it may be deleted. A sector that is not known is acknowledged already.
    ///
    /// # Errors
    /// When it cannot be deleted.
    fn acknowledge(&self, key: &LeaseKey) -> Result<(), SourceError>;
}
