//! Mappings from objects in blocks to their place in the archived history (archival §2.5).

use crate::{Blake3Hash, PieceIndex};
use parity_scale_codec::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// An object inside one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct BlockObject {
    /// Hash of the object.
    pub hash: Blake3Hash,
    /// Offset in the encoded block, bytes.
    pub offset: u32,
}

/// All objects of one block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BlockObjectMapping {
    /// Version 0.
    #[codec(index = 0)]
    #[serde(rename_all = "camelCase")]
    V0 {
        /// The objects.
        objects: Vec<BlockObject>,
    },
}

impl Default for BlockObjectMapping {
    fn default() -> Self {
        Self::V0 { objects: Vec::new() }
    }
}

impl BlockObjectMapping {
    /// The objects, whatever the version.
    pub fn objects(&self) -> &[BlockObject] {
        let Self::V0 { objects } = self;
        objects
    }

    /// The objects, to be changed.
    pub fn objects_mut(&mut self) -> &mut Vec<BlockObject> {
        let Self::V0 { objects } = self;
        objects
    }
}

/// An object in the archived history. Its JSON form is the array `[hash, pieceIndex, offset]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(from = "(Blake3Hash, PieceIndex, u32)", into = "(Blake3Hash, PieceIndex, u32)")]
pub struct GlobalObject {
    /// Hash of the object.
    pub hash: Blake3Hash,
    /// Source piece in which it starts.
    pub piece_index: PieceIndex,
    /// Offset in that piece's raw record, bytes.
    pub offset: u32,
}

impl From<(Blake3Hash, PieceIndex, u32)> for GlobalObject {
    fn from((hash, piece_index, offset): (Blake3Hash, PieceIndex, u32)) -> Self {
        Self { hash, piece_index, offset }
    }
}

impl From<GlobalObject> for (Blake3Hash, PieceIndex, u32) {
    fn from(object: GlobalObject) -> Self {
        (object.hash, object.piece_index, object.offset)
    }
}

/// A list of objects in the archived history.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GlobalObjectMapping {
    /// Version 0.
    #[codec(index = 0)]
    #[serde(rename_all = "camelCase")]
    V0 {
        /// The objects.
        objects: Vec<GlobalObject>,
    },
}
