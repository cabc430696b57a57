//! `--cache-item-type`: in which form caches hold pieces.

use clap::ValueEnum;
use cluster::transfer::ItemType;
use piece_store::ItemKind;

/// In which form a cache holds pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CacheItemType {
    /// As they were archived: 1,048,672 bytes each.
    Piece,
    /// With their records already erasure-coded: 2,097,248 bytes each.
    SplitParityPiece,
}

impl From<CacheItemType> for ItemKind {
    fn from(item: CacheItemType) -> Self {
        match item {
            CacheItemType::Piece => Self::Piece,
            CacheItemType::SplitParityPiece => Self::SplitParityPiece,
        }
    }
}

impl From<CacheItemType> for ItemType {
    fn from(item: CacheItemType) -> Self {
        match item {
            CacheItemType::Piece => Self::Piece,
            CacheItemType::SplitParityPiece => Self::SplitParityPiece,
        }
    }
}
