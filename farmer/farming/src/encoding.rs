//! Plotting of a sector from pieces in memory (farming §4).
//!
//! Each record is encoded by itself, by whichever encoder is free, in any order. A record's stored chunks replace its
//! source chunks in the piece's own memory, and the sector is laid out while it is written to its sink: of 1,000 pieces
//! there is one gigabyte in memory at any time, not two or three.

mod layout;
mod plan;
mod record;
mod sector;

pub use layout::EncodedSector;
pub use plan::{PlanError, SectorPlan};
pub use record::{CpuRecordEncoder, RecordEncoder, RecordEncoderError, encode_chunks};
pub use sector::{EncodeError, EncodingProgress, PieceInput, PieceSource, SectorEncoder, SplitParityPiece};
