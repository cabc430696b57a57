//! Those entries of `helpers.json` that are this crate's; the others belong to `primitives`.

use ::vectors::{Hex, load, xof};
use archiving::archiver::SegmentItem;
use parity_scale_codec::{Decode, Encode};
use primitives::SegmentHeader;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    parent_segment_header_item: Hex,
    segment_headers: Vec<Header>,
    segment_items: Vec<Item>,
}

#[derive(Deserialize)]
struct Header {
    scale: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    encoded_blake3: Hex,
    encoded_first_bytes: Hex,
    encoded_len: usize,
    item: String,
    label: String,
    len: usize,
}

#[test]
fn vectors_segment_items() {
    let file: File = load("helpers.json");
    assert!(!file.segment_items.is_empty());
    for Item { encoded_blake3, encoded_first_bytes, encoded_len, item, label, len } in &file.segment_items {
        let bytes = xof(label, *len);
        let value = match item.as_str() {
            "Block" => SegmentItem::Block(bytes),
            "BlockStart" => SegmentItem::BlockStart(bytes),
            "BlockContinuation" => SegmentItem::BlockContinuation(bytes),
            other => panic!("{label}: unknown item {other}"),
        };
        let encoded = value.encode();
        assert_eq!(encoded.len(), *encoded_len, "{label}");
        assert!(encoded.starts_with(encoded_first_bytes), "{label}");
        assert_eq!(*blake3::hash(&encoded).as_bytes(), encoded_blake3.array(), "{label}");
        assert_eq!(SegmentItem::decode(&mut encoded.as_slice()).unwrap(), value, "{label}");
    }
}

#[test]
fn vectors_parent_segment_header_item() {
    let file: File = load("helpers.json");
    let bytes = &file.parent_segment_header_item;
    let item = SegmentItem::decode(&mut &bytes[..]).unwrap();
    assert_eq!(item.encode(), bytes.0);
    let SegmentItem::ParentSegmentHeader(header) = item else { panic!("{item:?}") };
    let headers: Vec<SegmentHeader> =
        file.segment_headers.iter().map(|header| Decode::decode(&mut &header.scale[..]).unwrap()).collect();
    assert!(headers.contains(&header));
}
