//! What a store is told when it is opened.

use primitives::rpc::GenesisHash;
use primitives::{Piece, RecordCommitment, RecordWitness};
use std::fmt;

/// What a slot of a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A piece: 1,048,672 bytes.
    Piece,
    /// A piece whose record is already erasure-coded to 65,536 chunks: 2,097,248 bytes (design §4).
    SplitParityPiece,
}

impl ItemKind {
    /// Bytes of an item.
    pub const fn size(self) -> usize {
        match self {
            Self::Piece => Piece::SIZE,
            Self::SplitParityPiece => {
                2 * primitives::pieces::Record::SIZE + RecordCommitment::SIZE + RecordWitness::SIZE
            }
        }
    }

    /// Its name, as the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Piece => "piece",
            Self::SplitParityPiece => "split-parity-piece",
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Piece => 0,
            Self::SplitParityPiece => 1,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Piece),
            1 => Some(Self::SplitParityPiece),
            _ => None,
        }
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Slots in an extent file, unless told otherwise: about 4 GiB of pieces.
pub(crate) const DEFAULT_SLOTS_PER_EXTENT: u32 = 4096;
/// Largest number of slots in an extent.
pub(crate) const MAX_SLOTS_PER_EXTENT: u32 = 1 << 16;

/// How to open a store; what an existing store says of itself must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// What the slots hold.
    pub items: ItemKind,
    /// The chain whose pieces these are; a store bound to another one is refused. None: not known yet, see
    /// [`crate::FullPieceStore::bind_chain`].
    pub chain: Option<GenesisHash>,
    /// Slots in an extent file of a new store, 1 to 65,536; an existing store keeps what it was made with.
    pub slots_per_extent: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { items: ItemKind::Piece, chain: None, slots_per_extent: DEFAULT_SLOTS_PER_EXTENT }
    }
}

/// How much a sharded store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// So many pieces.
    Pieces(u64),
    /// So many bytes of disk, the store's own tables included.
    Bytes(u64),
    /// What is free on the disk now and what the store already uses, less `reserve_bytes`.
    Disk {
        /// Bytes left free for others.
        reserve_bytes: u64,
    },
}
