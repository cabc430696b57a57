//! What a sector is to contain: pure derivations from who farms it and from the protocol.

use primitives::sectors::PosSeed;
use primitives::{
    FarmerProtocolInfo, PieceIndex, PieceOffset, PublicKey, SectorGeometry, SectorId, SectorIndex,
};

/// A sector that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No pieces, or more than the protocol allows.
    #[error("a sector has 1 to {max} pieces, {found} were asked for")]
    Pieces {
        /// Pieces asked for.
        found: u16,
        /// The protocol's largest number.
        max: u16,
    },
}

/// A sector to be plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectorPlan {
    public_key: PublicKey,
    sector_index: SectorIndex,
    pieces_in_sector: u16,
    protocol_info: FarmerProtocolInfo,
    sector_id: SectorId,
}

impl SectorPlan {
    /// Plans a sector at the protocol info's history size.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(
        public_key: PublicKey,
        sector_index: SectorIndex,
        pieces_in_sector: u16,
        protocol_info: FarmerProtocolInfo,
    ) -> Result<Self, PlanError> {
        let max = protocol_info.max_pieces_in_sector;
        if pieces_in_sector == 0 || pieces_in_sector > max {
            return Err(PlanError::Pieces { found: pieces_in_sector, max });
        }
        let sector_id = public_key.sector_id(sector_index, protocol_info.history_size);
        Ok(Self { public_key, sector_index, pieces_in_sector, protocol_info, sector_id })
    }

    /// The farm's key.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Index of the sector in its farm.
    pub fn sector_index(&self) -> SectorIndex {
        self.sector_index
    }

    /// Identity of the sector.
    pub fn sector_id(&self) -> SectorId {
        self.sector_id
    }

    /// Pieces in the sector.
    pub fn pieces_in_sector(&self) -> u16 {
        self.pieces_in_sector
    }

    /// The protocol at the time of planning.
    pub fn protocol_info(&self) -> &FarmerProtocolInfo {
        &self.protocol_info
    }

    /// Geometry of the sector.
    pub fn geometry(&self) -> SectorGeometry {
        SectorGeometry::new(self.pieces_in_sector)
    }

    /// The piece that belongs at an offset.
    pub fn piece_index(&self, piece_offset: PieceOffset) -> PieceIndex {
        let info = &self.protocol_info;
        self.sector_id.derive_piece_index(
            piece_offset,
            info.history_size,
            info.max_pieces_in_sector,
            info.recent_segments,
            info.recent_history_fraction,
        )
    }

    /// The pieces of the sector in order of offset; one may stand at several.
    pub fn piece_indexes(&self) -> Vec<PieceIndex> {
        (0..self.pieces_in_sector).map(|offset| self.piece_index(PieceOffset(offset))).collect()
    }

    /// Seed of the table of the record at an offset.
    pub fn evaluation_seed(&self, piece_offset: PieceOffset) -> PosSeed {
        self.sector_id.derive_evaluation_seed(piece_offset)
    }
}
