//! Packs blocks into segments: which bytes go where. Knows nothing of polynomials, so it can be checked without a
//! reference string; only the parent header, which the caller hands back, carries a commitment.

use super::encoding;
use super::items::SegmentItem;
use super::{ArchivedSegment, ArchiverError, Watch};
use crate::kzg::Kzg;
use parity_scale_codec::Encode;
use primitives::objects::{BlockObject, BlockObjectMapping, GlobalObject};
use primitives::pieces::Record;
use primitives::segments::{ArchivedBlockProgress, LastArchivedBlock};
use primitives::{Blake3Hash, PieceIndex, SegmentHeader, SegmentIndex};
use std::collections::VecDeque;

/// Bytes of recorded history in a segment.
const SEGMENT_SIZE: usize = SegmentIndex::RECORDED_HISTORY_SIZE;
/// Index of the only version of a segment, one byte before the items.
const SEGMENT_VERSION: u8 = 0;
/// State before the first block.
const NOTHING_ARCHIVED: LastArchivedBlock =
    LastArchivedBlock { number: 0, archived_progress: ArchivedBlockProgress::Partial(0) };

#[derive(Debug, Clone)]
struct Queued {
    item: SegmentItem,
    /// Objects of the item that have not been reported, by offset in its data.
    objects: Vec<BlockObject>,
}

impl From<SegmentItem> for Queued {
    fn from(item: SegmentItem) -> Self {
        Self { item, objects: Vec::new() }
    }
}

/// Queue of blocks on their way into segments.
#[derive(Debug, Clone)]
pub struct Packer {
    queue: VecDeque<Queued>,
    /// Encoded bytes of all items in the queue.
    queued_length: usize,
    segment_index: SegmentIndex,
    previous_header_hash: Blake3Hash,
    last_archived_block: LastArchivedBlock,
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packer {
    /// A packer that has seen no block.
    pub fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            queued_length: 0,
            segment_index: SegmentIndex(0),
            previous_header_hash: Blake3Hash::default(),
            last_archived_block: NOTHING_ARCHIVED,
        }
    }

    /// A packer that goes on after the segment of `header`; `encoded_block` is the last block in it.
    ///
    /// # Errors
    /// When the block is not longer than what the header says is archived of it.
    pub fn with_initial_state(header: SegmentHeader, encoded_block: &[u8]) -> Result<Self, ArchiverError> {
        let mut packer = Self::new();
        packer.segment_index = header.segment_index();
        packer.last_archived_block = header.last_archived_block();
        packer.continue_after(header);
        let last = header.last_archived_block();
        if let Some(archived) = last.archived_progress.partial() {
            let rest = encoded_block.get(archived as usize..).filter(|rest| !rest.is_empty());
            let rest = rest.ok_or(ArchiverError::LastBlockTooShort {
                number: last.number,
                archived,
                found: encoded_block.len(),
            })?;
            packer.push_back(SegmentItem::BlockContinuation(rest.to_vec()).into());
        }
        Ok(packer)
    }

    /// The last block of the newest segment.
    pub fn last_archived_block(&self) -> LastArchivedBlock {
        self.last_archived_block
    }

    /// Index of the segment that is being filled.
    pub fn segment_index(&self) -> SegmentIndex {
        self.segment_index
    }

    /// Queues the next block.
    ///
    /// # Errors
    /// When the block has 2^32 bytes or more.
    pub fn push_block(&mut self, bytes: Vec<u8>, mapping: BlockObjectMapping) -> Result<(), ArchiverError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(ArchiverError::BlockTooLarge(bytes.len()));
        }
        let BlockObjectMapping::V0 { objects } = mapping;
        self.push_back(Queued { item: SegmentItem::Block(bytes), objects });
        Ok(())
    }

    fn push_back(&mut self, queued: Queued) {
        self.queued_length += queued.item.encoded_length();
        self.queue.push_back(queued);
    }

    fn push_front(&mut self, queued: Queued) {
        self.queued_length += queued.item.encoded_length();
        self.queue.push_front(queued);
    }

    fn pop_front(&mut self) -> Queued {
        let queued = self.queue.pop_front().expect("the queue is long enough for a segment");
        self.queued_length -= queued.item.encoded_length();
        queued
    }

    /// Takes the next full segment out of the queue; none while it is not full.
    ///
    /// [`Self::continue_after`] must be called with the segment's header before the next segment is taken.
    pub fn next_segment(&mut self) -> Option<RawSegment> {
        if 1 + self.queued_length < SEGMENT_SIZE - 2 {
            return None;
        }
        let mut length = 1;
        let mut items: Vec<Queued> = Vec::new();
        let mut last = self.last_archived_block;
        while length < SEGMENT_SIZE - 2 {
            let queued = self.pop_front();
            let over = (length + queued.item.encoded_length()).saturating_sub(SEGMENT_SIZE);
            if over > queued.item.data_length() {
                // Not even its prefix fits.
                self.push_front(queued);
                break;
            }
            length += queued.item.encoded_length();
            advance(&mut last, &queued.item);
            items.push(queued);
        }
        let over = length.saturating_sub(SEGMENT_SIZE);
        if over > 0 {
            let cut = items.last_mut().expect("a segment over its size has an item");
            let tail = split(cut, over, &mut last);
            self.push_front(tail);
        } else {
            last.archived_progress = ArchivedBlockProgress::Complete;
        }
        self.last_archived_block = last;
        let objects = take_objects(items.iter_mut(), self.segment_index);
        Some(RawSegment {
            index: self.segment_index,
            previous_header_hash: self.previous_header_hash,
            last_archived_block: last,
            objects,
            items: items.into_iter().map(|queued| queued.item).collect(),
        })
    }

    /// Goes on to the segment after that of `header`.
    pub fn continue_after(&mut self, header: SegmentHeader) {
        self.segment_index = SegmentIndex(header.segment_index().0 + 1);
        self.previous_header_hash = header.hash();
        self.push_front(SegmentItem::ParentSegmentHeader(header).into());
    }

    /// Objects of queued items that have not been reported, where they will be in the segment being filled.
    pub fn take_queued_objects(&mut self) -> Vec<GlobalObject> {
        // Only what came with the last call can be unreported: without objects at the end there are none.
        if self.queue.back().is_none_or(|queued| queued.objects.is_empty()) {
            return Vec::new();
        }
        take_objects(self.queue.iter_mut(), self.segment_index)
    }
}

/// What archiving a whole item makes of the last archived block.
fn advance(last: &mut LastArchivedBlock, item: &SegmentItem) {
    match item {
        SegmentItem::Block(_) => {
            if *last != NOTHING_ARCHIVED {
                last.number += 1;
            }
            last.archived_progress = ArchivedBlockProgress::Complete;
        }
        SegmentItem::BlockContinuation(bytes) => {
            let archived = last.archived_progress.partial().expect("a continued block is partially archived");
            last.archived_progress = ArchivedBlockProgress::Partial(archived + bytes.len() as u32);
        }
        SegmentItem::Padding | SegmentItem::BlockStart(_) | SegmentItem::ParentSegmentHeader(_) => {}
    }
}

/// Cuts the last `over` bytes off an item's data and returns them as the continuation.
fn split(cut: &mut Queued, over: usize, last: &mut LastArchivedBlock) -> Queued {
    let split_at = cut.item.data_length() - over;
    let tail = match &mut cut.item {
        SegmentItem::Block(bytes) => {
            let tail = bytes.split_off(split_at);
            last.archived_progress = ArchivedBlockProgress::Partial(split_at as u32);
            cut.item = SegmentItem::BlockStart(std::mem::take(bytes));
            tail
        }
        SegmentItem::BlockContinuation(bytes) => {
            let archived = last.archived_progress.partial().expect("a continued block is partially archived");
            last.archived_progress = ArchivedBlockProgress::Partial(archived - over as u32);
            bytes.split_off(split_at)
        }
        SegmentItem::Padding | SegmentItem::BlockStart(_) | SegmentItem::ParentSegmentHeader(_) => {
            unreachable!("only blocks and their continuations are longer than a segment has room")
        }
    };
    let (moved, kept) = cut.objects.iter().partition(|object| object.offset as usize >= split_at);
    cut.objects = kept;
    let mut objects: Vec<BlockObject> = moved;
    objects.iter_mut().for_each(|object| object.offset -= split_at as u32);
    Queued { item: SegmentItem::BlockContinuation(tail), objects }
}

/// Takes the objects of items that stand at the start of a segment.
fn take_objects<'a>(items: impl Iterator<Item = &'a mut Queued>, segment: SegmentIndex) -> Vec<GlobalObject> {
    let mut position = 1;
    let mut taken = Vec::new();
    for Queued { item, objects } in items {
        let data = position + item.prefix_length();
        taken.extend(std::mem::take(objects).into_iter().map(|BlockObject { hash, offset }| {
            let offset = data + offset as usize;
            GlobalObject {
                hash,
                // Source pieces stand at even positions.
                piece_index: PieceIndex(
                    segment.first_piece_index().0 + 2 * (offset / Record::RAW_SIZE) as u64,
                ),
                offset: (offset % Record::RAW_SIZE) as u32,
            }
        }));
        position += item.encoded_length();
    }
    taken
}

/// A full segment before erasure coding.
#[derive(Debug, Clone)]
pub struct RawSegment {
    index: SegmentIndex,
    previous_header_hash: Blake3Hash,
    last_archived_block: LastArchivedBlock,
    /// Objects of the segment's blocks that had not been reported before.
    pub objects: Vec<GlobalObject>,
    items: Vec<SegmentItem>,
}

impl RawSegment {
    /// Index of the segment.
    pub fn segment_index(&self) -> SegmentIndex {
        self.index
    }

    /// The last block in the segment, as its header will say.
    pub fn last_archived_block(&self) -> LastArchivedBlock {
        self.last_archived_block
    }

    /// The items.
    pub fn items(&self) -> &[SegmentItem] {
        &self.items
    }

    /// The segment's 130,023,424 bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_SIZE);
        bytes.push(SEGMENT_VERSION);
        for item in self.items {
            item.encode_to(&mut bytes);
        }
        debug_assert!(bytes.len() <= SEGMENT_SIZE, "items are cut to fit");
        bytes.resize(SEGMENT_SIZE, 0);
        bytes
    }

    /// Erasure-codes and commits: seconds of CPU, in the current rayon pool. None when `watch` cancels.
    pub fn archive(self, kzg: &Kzg, watch: &dyn Watch) -> Option<ArchivedSegment> {
        let Self { index, previous_header_hash, last_archived_block, .. } = self;
        let (pieces, commitment) = encoding::encode_segment(kzg, &self.into_bytes(), index, watch)?;
        let header = SegmentHeader::V0 {
            segment_index: index,
            segment_commitment: commitment.into(),
            prev_segment_header_hash: previous_header_hash,
            last_archived_block,
        };
        Some(ArchivedSegment { header, pieces })
    }
}
