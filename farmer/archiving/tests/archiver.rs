//! The archiver at the borders of segments, without commitments, and when it is refused or stopped.

#![allow(clippy::unwrap_used, missing_docs)]

use archiving::archiver::{Archiver, ArchiverError, Packer, SegmentItem, SegmentItemError, Watch};
use archiving::reconstruction::BlockReconstructor;
use archiving::{Kzg, Srs};
use primitives::objects::{BlockObject, BlockObjectMapping};
use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};
use primitives::{Blake3Hash, SegmentCommitment, SegmentHeader, SegmentIndex};
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

const SIZE: usize = SegmentIndex::RECORDED_HISTORY_SIZE;

fn header(index: SegmentIndex, last_archived_block: LastArchivedBlock) -> SegmentHeader {
    SegmentHeader::V0 {
        segment_index: index,
        segment_commitment: SegmentCommitment::default(),
        prev_segment_header_hash: Blake3Hash::default(),
        last_archived_block,
    }
}

/// A block whose bytes tell where they belong, without the cost of a hash over all of them.
fn block(number: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let marks = [0, length / 2, length.saturating_sub(8)];
    for (mark, at) in marks.into_iter().enumerate() {
        for (byte, value) in bytes[at..].iter_mut().zip([0xb1, number as u8, mark as u8, 1, 2, 3, 4, 5]) {
            *byte = value;
        }
    }
    bytes
}

/// Objects on all borders of a block.
fn mapping(number: usize, length: usize) -> BlockObjectMapping {
    let mut offsets = vec![0, 1, length / 2, length.saturating_sub(1)];
    offsets.retain(|offset| *offset < length);
    offsets.dedup();
    let object = |offset: usize| BlockObject { hash: Blake3Hash([number as u8; 32]), offset: offset as u32 };
    BlockObjectMapping::V0 { objects: offsets.into_iter().map(object).collect() }
}

/// Packs blocks of these lengths, then checks segments, blocks that come back, mappings, and restarts.
fn check(lengths: &[usize]) {
    let mut packer = Packer::new();
    let mut reconstructor = BlockReconstructor::new();
    let mut restored = Vec::new();
    let mut last_number = 0;
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let mut objects = Vec::new();
    for (number, &length) in lengths.iter().enumerate() {
        packer.push_block(block(number, length), mapping(number, length)).unwrap();
        while let Some(mut segment) = packer.next_segment() {
            objects.append(&mut segment.objects);
            let header = header(segment.segment_index(), segment.last_archived_block());
            assert_eq!(segment.segment_index().0, segments.len() as u64);
            let bytes = segment.into_bytes();
            let items = SegmentItem::decode_segment(&bytes).unwrap();
            assert_eq!(matches!(items[0], SegmentItem::ParentSegmentHeader(_)), !segments.is_empty());
            let contents = reconstructor.add_items(items);
            restored.extend(contents.blocks);
            segments.push(bytes);
            packer.continue_after(header);
            // A packer made from the header goes on with the same bytes.
            let last = header.last_archived_block();
            last_number = last.number as usize;
            let block = block(last.number as usize, lengths[last.number as usize]);
            let again = Packer::with_initial_state(header, &block).unwrap();
            assert_eq!(again.segment_index(), packer.segment_index());
            assert_eq!(again.last_archived_block(), last);
        }
        objects.append(&mut packer.take_queued_objects());
    }
    // Only the segment after the next header tells that the last block is whole.
    assert!(restored.len() >= last_number, "{lengths:?}");
    for (index, (number, bytes)) in restored.iter().enumerate() {
        assert_eq!(*number as usize, index);
        assert!(*bytes == block(index, lengths[index]), "block {index}");
    }
    let expected: usize =
        lengths.iter().enumerate().map(|(number, length)| mapping(number, *length).objects().len()).sum();
    assert_eq!(objects.len(), expected);
    check_objects(lengths, &segments, &objects);
}

/// Checks that the mapped places hold the byte that the block has there, where the segment is finished.
fn check_objects(lengths: &[usize], segments: &[Vec<u8>], objects: &[primitives::objects::GlobalObject]) {
    let expected: Vec<(usize, u32)> = lengths
        .iter()
        .enumerate()
        .flat_map(|(number, length)| {
            mapping(number, *length)
                .objects()
                .iter()
                .map(|object| (number, object.offset))
                .collect::<Vec<_>>()
        })
        .collect();
    for (object, (number, offset)) in objects.iter().zip(expected) {
        assert_eq!(object.hash.0[0] as usize, number);
        assert!(object.piece_index.is_source());
        let Some(segment) = segments.get(object.piece_index.segment_index().0 as usize) else { continue };
        let at = object.piece_index.position() / 2 * primitives::pieces::Record::RAW_SIZE;
        let byte = segment[at + object.offset as usize];
        assert_eq!(byte, block(number, lengths[number])[offset as usize], "{lengths:?} {number} {offset}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn blocks_come_back_whatever_the_border(
        left in 0..12usize,
        next in prop_oneof![0..100usize, 16_370..16_400usize, 60_000..70_000usize],
        after in 0..200usize,
    ) {
        // The first block leaves that many bytes; its prefix takes 5, the version 1.
        check(&[SIZE - 6 - left, next, after, SIZE, 3]);
    }
}

#[test]
fn borders_one_by_one() {
    // What the prefix of the next block shrinks to depends on how much of it fits.
    for left in [0, 1, 2, 3, 4, 5, 6, 65, 66, 67, 68] {
        check(&[SIZE - 6 - left, 20_000, 0, 1]);
    }
    check(&[SIZE - 5]);
    check(&[2 * SIZE + 17, 5, SIZE - 100, 200]);
    check(&[0, 0, SIZE, 0]);
}

#[test]
fn restart_needs_the_block_that_was_archived() {
    let last = |archived_progress| LastArchivedBlock { number: 7, archived_progress };
    let partial = header(SegmentIndex(4), last(ArchivedBlockProgress::Partial(100)));
    for length in [0, 99, 100] {
        let error = Packer::with_initial_state(partial, &vec![0; length]).unwrap_err();
        assert_eq!(error, ArchiverError::LastBlockTooShort { number: 7, archived: 100, found: length });
        assert!(error.to_string().contains("not the one that was archived"), "{error}");
    }
    let packer = Packer::with_initial_state(partial, &[0; 101]).unwrap();
    assert_eq!(packer.segment_index(), SegmentIndex(5));
    let complete = header(SegmentIndex(4), last(ArchivedBlockProgress::Complete));
    assert!(Packer::with_initial_state(complete, &[]).is_ok());
}

#[test]
fn segments_that_are_none_are_refused() {
    assert_eq!(SegmentItem::decode_segment(&[]), Err(SegmentItemError::Version(None)));
    assert_eq!(SegmentItem::decode_segment(&[1, 0]), Err(SegmentItemError::Version(Some(1))));
    assert_eq!(SegmentItem::decode_segment(&[0; 10]), Ok(Vec::new()));
    for bytes in [&[0, 0, 9][..], &[0, 1, 8, 1], &[0, 1, 0xff, 0xff, 0xff, 0xff, 0xff], &[0, 4, 0]] {
        let error = SegmentItem::decode_segment(bytes).unwrap_err();
        let at = if bytes[1] == 0 { 2 } else { 1 };
        assert!(matches!(error, SegmentItemError::Item { offset, .. } if offset == at), "{error}");
    }
}

#[test]
fn a_reconstructor_may_begin_anywhere_and_skip() {
    let segment = |index: u64, number, archived_progress, items: Vec<SegmentItem>| {
        let last = LastArchivedBlock { number, archived_progress };
        let mut all = vec![SegmentItem::ParentSegmentHeader(header(SegmentIndex(index), last))];
        all.extend(items);
        all
    };
    let start = |byte| SegmentItem::BlockStart(vec![byte]);
    let more = |byte| SegmentItem::BlockContinuation(vec![byte]);
    let whole = |byte| SegmentItem::Block(vec![byte]);
    let partial = ArchivedBlockProgress::Partial(1);
    let mut reconstructor = BlockReconstructor::new();
    // Block 7 started before the beginning.
    let contents = reconstructor.add_items(segment(3, 7, partial, vec![more(1), whole(8), start(9)]));
    assert_eq!(contents.blocks, [(8, vec![8])]);
    // A segment of nothing but a continuation, then its end exactly at the end of the next one.
    assert_eq!(reconstructor.add_items(segment(4, 9, partial, vec![more(2)])).blocks, []);
    assert_eq!(reconstructor.add_items(segment(5, 9, partial, vec![more(3)])).blocks, []);
    let complete = segment(6, 9, ArchivedBlockProgress::Complete, vec![whole(10), start(11)]);
    assert_eq!(reconstructor.add_items(complete).blocks, [(9, vec![9, 2, 3]), (10, vec![10])]);
    // Segment 8 is left out: block 11 cannot be completed.
    let after_gap = segment(8, 20, partial, vec![more(4), whole(21)]);
    assert_eq!(reconstructor.add_items(after_gap).blocks, [(21, vec![21])]);
    // The end of a segment at the end of a block: the header says so, and nothing is emitted twice.
    let complete = segment(9, 21, ArchivedBlockProgress::Complete, vec![whole(22)]);
    assert_eq!(reconstructor.add_items(complete).blocks, [(22, vec![22])]);
}

/// Cancels after so many records.
struct CancelAfter(usize, AtomicUsize);

impl Watch for CancelAfter {
    fn is_cancelled(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }

    fn record_committed(&self, segment: SegmentIndex) {
        assert_eq!(segment, SegmentIndex(0));
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_watch_stops_the_archiver() {
    let kzg = Kzg::new(Srs::development(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap());
    for after in [0, 3] {
        let mut archiver = Archiver::new(kzg.clone());
        assert!(archiver.add_block(vec![1; 10], BlockObjectMapping::default()).unwrap().segments.is_empty());
        assert_eq!(archiver.last_archived_block(), None);
        let watch = CancelAfter(after, AtomicUsize::new(0));
        let stopped = archiver.add_block_watched(vec![0; SIZE], BlockObjectMapping::default(), &watch);
        assert_eq!(stopped.unwrap_err(), ArchiverError::Cancelled);
        assert!(watch.1.into_inner() < 128);
        let later = archiver.add_block(Vec::new(), BlockObjectMapping::default());
        assert_eq!(later.unwrap_err(), ArchiverError::Cancelled);
    }
}
