//! What a piece store is and holds.

use crate::util::output::bytes;
use piece_store::{SlotContents, StoreInspection};
use primitives::{PieceIndex, SegmentIndex};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What the tables of a store say.
struct Contents {
    pieces: u64,
    damaged_entries: u64,
    first: Option<PieceIndex>,
    last: Option<PieceIndex>,
    segments: u64,
    segments_complete: u64,
}

impl Contents {
    fn of(store: &StoreInspection) -> Self {
        let mut segments: BTreeMap<SegmentIndex, u64> = BTreeMap::new();
        let (mut first, mut last, mut damaged_entries) = (None, None, 0);
        for (_, contents) in store.slots() {
            match contents {
                SlotContents::Free => {}
                SlotContents::Damaged { .. } => damaged_entries += 1,
                SlotContents::Piece { index, .. } => {
                    *segments.entry(index.segment_index()).or_default() += 1;
                    first = Some(first.map_or(index, |first: PieceIndex| first.min(index)));
                    last = last.max(Some(index));
                }
            }
        }
        let complete = segments.values().filter(|pieces| **pieces >= SegmentIndex::NUM_PIECES as u64);
        Self {
            pieces: segments.values().sum(),
            damaged_entries,
            first,
            last,
            segments_complete: complete.count() as u64,
            segments: segments.len() as u64,
        }
    }
}

fn kind(store: &StoreInspection) -> &'static str {
    if store.is_full() { "full" } else { "sharded" }
}

pub(super) fn to_json(store: &StoreInspection) -> Value {
    let contents = Contents::of(store);
    let broken = store.broken_extents().iter().map(|extent| {
        json!({ "first_slot": extent.slots.start, "slots": extent.slots.end - extent.slots.start,
                "reason": extent.error.to_string() })
    });
    json!({
        "kind": "store",
        "path": store.path(),
        "in_use": store.in_use(),
        "id": hex::encode(store.id()),
        "store": kind(store),
        "items": store.items().name(),
        "genesis_hash": store.chain().map(|chain| chain.to_string()),
        "extents": store.extents(),
        "slots_per_extent": store.slots_per_extent(),
        "pieces": contents.pieces,
        "bytes": contents.pieces * store.items().size() as u64,
        "disk_bytes": store.disk_bytes(),
        "first_piece": contents.first.map(|index| index.0),
        "last_piece": contents.last.map(|index| index.0),
        "segments": contents.segments,
        "segments_complete": contents.segments_complete,
        "damaged_entries": contents.damaged_entries,
        "broken_extents": broken.collect::<Vec<_>>(),
    })
}

pub(super) fn to_text(store: &StoreInspection) -> String {
    let contents = Contents::of(store);
    let mut text = String::new();
    let mut say = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let in_use = if store.in_use() { ", in use" } else { "" };
    say(format!("{}: {} store {}{in_use}", store.path().display(), kind(store), hex::encode(store.id())));
    let genesis = store.chain().map_or("of no chain yet".to_owned(), |chain| chain.to_string());
    say(format!("  genesis  {genesis}"));
    say(format!(
        "  items    {} of type {}, {}; {} on the disk in {} extents",
        contents.pieces,
        store.items(),
        bytes(contents.pieces * store.items().size() as u64),
        bytes(store.disk_bytes()),
        store.extents()
    ));
    if let (Some(first), Some(last)) = (contents.first, contents.last) {
        say(format!(
            "  pieces   {first} to {last}, of {} segments; {} of them complete",
            contents.segments, contents.segments_complete
        ));
    }
    if contents.damaged_entries > 0 {
        say(format!("  damaged  {} entries: `util verify-piece` names them", contents.damaged_entries));
    }
    for extent in store.broken_extents() {
        say(format!("  damaged  slots {} to {}: {}", extent.slots.start, extent.slots.end - 1, extent.error));
    }
    text
}
