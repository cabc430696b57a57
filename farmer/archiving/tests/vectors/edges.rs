//! Segments whose last item only just fits, or only just does not.

use super::chain::{Global, check_header, check_raw, hash_of_pieces, objects_of};
use ::vectors::{Hex, load, xof};
use archiving::Kzg;
use archiving::archiver::{Archiver, Packer};
use parity_scale_codec::Decode;
use primitives::objects::{BlockObject, BlockObjectMapping};
use primitives::{Blake3Hash, SegmentHeader, SegmentIndex};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    block_bytes: String,
    cases: Vec<Case>,
    note: String,
    recorded_history_segment_size: usize,
    set: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    all_pieces_concat_blake3: Hex,
    block_labels: Vec<String>,
    block_lens: Vec<usize>,
    block_objects: String,
    global_objects_per_block: Vec<Vec<Global>>,
    header_hash: Hex,
    header_json: serde_json::Value,
    header_scale: Hex,
    name: String,
    produced_at_block: usize,
    raw_segment_blake3: Hex,
    raw_segment_first_64: Hex,
    raw_segment_last_64: Hex,
}

fn file() -> File {
    let file: File = load("archive_edges.json");
    assert_eq!(
        file.block_bytes,
        "g = xof(block_label, 264); len <= 264: g[..len]; else zero bytes except first 64 = g[..64] and last 200 = \
         g[64..264]"
    );
    assert_eq!(
        file.note,
        "blocks are given in order to a fresh Archiver::add_block(.., incremental=false); no genesis treatment"
    );
    assert_eq!(file.set, "shared");
    assert_eq!(file.recorded_history_segment_size, SegmentIndex::RECORDED_HISTORY_SIZE);
    assert!(!file.cases.is_empty());
    file
}

impl Case {
    fn block(&self, index: usize) -> (Vec<u8>, BlockObjectMapping) {
        assert_eq!(
            self.block_objects,
            "for blocks longer than 50 bytes: one object, offset len-40, hash xof(set/edge/NAME/obj/K,32)"
        );
        let length = self.block_lens[index];
        let generated = xof(&self.block_labels[index], 264);
        let bytes = if length <= 264 {
            generated[..length].to_vec()
        } else {
            let mut bytes = vec![0; length];
            bytes[..64].copy_from_slice(&generated[..64]);
            bytes[length - 200..].copy_from_slice(&generated[64..]);
            bytes
        };
        let hash = || xof(&format!("shared/edge/{}/obj/{index}", self.name), 32).try_into().unwrap();
        let object =
            (length > 50).then(|| BlockObject { hash: Blake3Hash(hash()), offset: length as u32 - 40 });
        (bytes, BlockObjectMapping::V0 { objects: object.into_iter().collect() })
    }

    /// Everything that does not depend on the reference string.
    fn check_packing(&self) {
        let mut packer = Packer::new();
        let header = SegmentHeader::decode(&mut &self.header_scale[..]).unwrap();
        assert_eq!(self.block_labels.len(), self.block_lens.len());
        assert_eq!(self.global_objects_per_block.len(), self.block_lens.len());
        for (index, expected) in self.global_objects_per_block.iter().enumerate() {
            let (bytes, mapping) = self.block(index);
            packer.push_block(bytes, mapping).unwrap();
            let mut objects = Vec::new();
            let segment = packer.next_segment();
            assert_eq!(segment.is_some(), index == self.produced_at_block, "{}", self.name);
            if let Some(mut segment) = segment {
                objects.append(&mut segment.objects);
                assert_eq!(segment.segment_index(), header.segment_index());
                assert_eq!(segment.last_archived_block(), header.last_archived_block(), "{}", self.name);
                let bytes = segment.into_bytes();
                check_raw(
                    &bytes,
                    &self.raw_segment_blake3,
                    &self.raw_segment_first_64,
                    &self.raw_segment_last_64,
                );
                packer.continue_after(header);
                assert!(packer.next_segment().is_none());
            }
            objects.append(&mut packer.take_queued_objects());
            assert_eq!(objects, objects_of(expected), "{}", self.name);
        }
    }

    fn check_archiving(&self, kzg: &Kzg) {
        let mut archiver = Archiver::new(kzg.clone());
        for (index, expected) in self.global_objects_per_block.iter().enumerate() {
            let (bytes, mapping) = self.block(index);
            let archived = archiver.add_block(bytes, mapping).unwrap();
            assert_eq!(archived.objects, objects_of(expected), "{}", self.name);
            assert_eq!(
                archived.segments.len(),
                usize::from(index == self.produced_at_block),
                "{}",
                self.name
            );
            for segment in archived.segments {
                check_header(&segment.header, &self.header_scale, &self.header_json, &self.header_hash);
                assert_eq!(hash_of_pieces(&segment.pieces), self.all_pieces_concat_blake3.array());
            }
        }
    }
}

#[test]
fn vectors_archive_edges_packing() {
    file().cases.iter().for_each(Case::check_packing);
}

#[test]
fn vectors_live_archive_edges() {
    let Some(kzg) = super::live("vectors_live_archive_edges") else { return };
    file().cases.iter().for_each(|case| case.check_archiving(&kzg));
}
