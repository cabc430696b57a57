//! The cases of archiving. There is one place for each: the benches beside this file and the driver (`bench`) both take
//! them from here.

use archiving::archiver::{ArchivedSegment, Archiver};
use archiving::{Kzg, PieceToVerify, Scalar, Srs};
use primitives::objects::BlockObjectMapping;
use primitives::{Piece, SegmentIndex};
use std::path::{Path, PathBuf};

/// The reference string's file: `AUTONOMYS_SRS`, else the development string's in `cache`, which costs the same.
pub(crate) fn string(cache: &Path) -> PathBuf {
    std::env::var_os("AUTONOMYS_SRS").map_or_else(
        || {
            Srs::development(cache).expect("the development string can be made");
            cache.join("development-srs-v1.bin")
        },
        PathBuf::from,
    )
}

/// A record's 32,768 source chunks: BLAKE3-XOF("bench/record/0").
pub(crate) fn record() -> Vec<Scalar> {
    let bytes = vectors::xof("bench/record/0", 31 * 32_768);
    bytes.as_chunks().0.iter().map(Scalar::from_safe_bytes).collect()
}

/// A block that fills one segment: BLAKE3-XOF("bench/segment").
pub(crate) fn block() -> Vec<u8> {
    vectors::xof("bench/segment", SegmentIndex::RECORDED_HISTORY_SIZE)
}

/// Archives [`block`].
pub(crate) fn archive(kzg: &Kzg, block: Vec<u8>) -> ArchivedSegment {
    let mut archiver = Archiver::new(kzg.clone());
    let mut archived =
        archiver.add_block(block, BlockObjectMapping::default()).expect("a block of fair size");
    archived.segments.pop().expect("the block fills a segment")
}

/// 1,000 pieces to be checked in one batch: those of the segment, over and over.
pub(crate) fn thousand_pieces(segment: &ArchivedSegment) -> Vec<PieceToVerify<'_>> {
    let segment_commitment = segment.header.segment_commitment();
    let piece = |index: usize| {
        let position = index % SegmentIndex::NUM_PIECES;
        PieceToVerify { piece: &segment.pieces[position], segment_commitment, position }
    };
    (0..1000).map(piece).collect()
}

/// The segment's 128 parity pieces, the others missing.
pub(crate) fn parity(segment: &ArchivedSegment) -> Vec<Option<Piece>> {
    let pieces = segment.pieces.iter().enumerate();
    pieces.map(|(index, piece)| (index % 2 == 1).then(|| piece.clone())).collect()
}
