//! Verification of a store, batch by batch: while one is compared with the chain the next is read.

use super::progress::{BadPiece, Progress};
use crate::roles::items::ItemBuffer;
use crate::roles::items::verification::{ItemToVerify, ParityCheck, verify_items};
use archiving::Kzg;
use cluster::transfer::ItemType;
use farming::encoding::PieceInput;
use piece_store::{ItemKind, SlotContents, StoreInspection};
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, PieceIndex, SegmentCommitment, SegmentIndex};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// Pieces of a batch. Two batches are in memory: 134 MB, or 336 MB of pieces with their parity, which are checked in their
/// plain form, too.
pub const BATCH: usize = 64;
/// Readings of a piece that does not fit its hash, in a store that may be at work.
const READINGS: usize = 3;

/// What pieces are compared with beside their hashes.
pub struct Chain {
    /// Reference string.
    pub kzg: Kzg,
    /// For pieces that come with their parity.
    pub parity: ParityCheck,
    /// Commitments of the segments that exist.
    pub commitments: HashMap<SegmentIndex, SegmentCommitment>,
}

/// Verifies one store.
pub struct Verifier<'a> {
    store: &'a StoreInspection,
    chain: Option<&'a Chain>,
}

/// A slot that has been read.
enum Loaded {
    /// In a store at work: what it held is gone.
    Gone,
    Bad(BadPiece),
    Whole {
        slot: u64,
        index: PieceIndex,
        item: PieceInput,
    },
}

impl<'a> Verifier<'a> {
    /// Compares pieces with the hashes stored with them and, if given, with the chain.
    pub fn new(store: &'a StoreInspection, chain: Option<&'a Chain>) -> Self {
        Self { store, chain }
    }

    /// Slots that remain to be verified, ascending: those behind what was verified, and what was bad, which may have been mended.
    pub fn remaining(&self, progress: &Progress) -> Vec<u64> {
        let bad: HashSet<u64> = progress.bad.iter().map(|bad| bad.slot).collect();
        let slots = self.store.slots().map(|(slot, _)| slot);
        slots.filter(|slot| *slot >= progress.next_slot || bad.contains(slot)).collect()
    }

    /// Verifies what remains, on the current rayon pool. `done` is told the progress and the number of slots after each
    /// batch, and may stop.
    pub fn run(
        &self,
        mut progress: Progress,
        mut done: impl FnMut(&Progress, usize) -> ControlFlow<()>,
    ) -> Progress {
        let remaining = self.remaining(&progress);
        // What was bad stays so until it is looked at again, unless it is gone.
        progress.bad.retain(|bad| remaining.binary_search(&bad.slot).is_ok());
        for extent in self.store.broken_extents() {
            let last = extent.slots.end - 1;
            let reason = format!("nothing up to slot {last} can be used: {}", extent.error);
            // In a full store the place tells which pieces are lost.
            let piece = self.store.is_full().then_some(extent.slots.start);
            progress.add_bad(BadPiece { slot: extent.slots.start, piece, reason });
        }
        let mut batches = remaining.chunks(BATCH);
        let mut current = batches.next().map(|slots| (slots, self.load(slots)));
        while let Some((slots, loaded)) = current {
            let ((good, bad), next) =
                rayon::join(|| self.check(loaded), || batches.next().map(|slots| (slots, self.load(slots))));
            progress.good += good;
            progress.bad.retain(|bad| slots.binary_search(&bad.slot).is_err());
            bad.into_iter().for_each(|bad| progress.add_bad(bad));
            let behind = slots.last().map_or(0, |last| last + 1);
            progress.next_slot = progress.next_slot.max(behind);
            if done(&progress, slots.len()).is_break() {
                break;
            }
            current = next;
        }
        progress
    }

    fn load(&self, slots: &[u64]) -> Vec<Loaded> {
        slots.par_iter().map(|slot| self.load_one(*slot)).collect()
    }

    fn load_one(&self, slot: u64) -> Loaded {
        let bad = |piece: Option<PieceIndex>, reason: String| {
            Loaded::Bad(BadPiece { slot, piece: piece.map(|index| index.0), reason })
        };
        let contents = self.store.slot(slot);
        let (index, hash) = match contents {
            SlotContents::Free => return Loaded::Gone,
            SlotContents::Damaged { index } => {
                return bad(index, "its entry in the store's table is damaged".into());
            }
            SlotContents::Piece { index, hash } => (index, hash),
        };
        let mut item = ItemBuffer::zeroed(match self.store.items() {
            ItemKind::Piece => ItemType::Piece,
            ItemKind::SplitParityPiece => ItemType::SplitParityPiece,
        });
        let mut found = Blake3Hash::default();
        for _ in 0..READINGS {
            if let Err(error) = self.store.read(slot, item.as_bytes_mut()) {
                return bad(Some(index), format!("it cannot be read: {error}"));
            }
            found = blake3_hash(item.as_bytes_mut());
            if found == hash {
                return Loaded::Whole { slot, index, item: item.into_input() };
            }
            // A cache at work may have replaced it meanwhile.
            if self.store.slot_now(slot).is_ok_and(|now| now != contents) {
                return Loaded::Gone;
            }
        }
        bad(Some(index), format!("its bytes changed: their hash is {found}, {hash} was stored with it"))
    }

    /// The number of good pieces, and the bad ones.
    fn check(&self, loaded: Vec<Loaded>) -> (u64, Vec<BadPiece>) {
        let mut bad = Vec::new();
        let mut whole = Vec::new();
        for loaded in loaded {
            match loaded {
                Loaded::Gone => {}
                Loaded::Bad(piece) => bad.push(piece),
                Loaded::Whole { slot, index, item } => whole.push((slot, index, item)),
            }
        }
        let Some(Chain { kzg, parity, commitments }) = self.chain else { return (whole.len() as u64, bad) };
        let mut to_verify = Vec::new();
        let mut slots = Vec::new();
        for (slot, index, item) in &whole {
            let segment = index.segment_index();
            match commitments.get(&segment) {
                Some(commitment) => {
                    to_verify.push(ItemToVerify { index: *index, item, segment_commitment: *commitment });
                    slots.push(*slot);
                }
                None => bad.push(BadPiece {
                    slot: *slot,
                    piece: Some(index.0),
                    reason: format!("the chain has no segment {segment}, as far as it is known here"),
                }),
            }
        }
        let mut good = 0;
        let verdicts = verify_items(kzg, parity, &to_verify);
        for ((slot, ItemToVerify { index, .. }), verdict) in slots.into_iter().zip(&to_verify).zip(verdicts) {
            match verdict {
                Ok(()) => good += 1,
                Err(error) => {
                    let reason = format!("it does not belong to the chain's history: {error}");
                    bad.push(BadPiece { slot, piece: Some(index.0), reason });
                }
            }
        }
        bad.sort_by_key(|bad| bad.slot);
        (good, bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use piece_store::{Capacity, FullPieceStore, ShardedPieceStore, StoreOptions};
    use primitives::Piece;

    const OPTIONS: StoreOptions = StoreOptions { items: ItemKind::Piece, chain: None, slots_per_extent: 128 };

    fn item(number: u64) -> Vec<u8> {
        vec![number as u8; Piece::SIZE]
    }

    fn flip(path: &std::path::Path, offset: u64) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
    }

    fn go_on(_: &Progress, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Verifies hashes in two runs of which the first is stopped after its first batch.
    #[test]
    fn an_interrupted_run_is_taken_up_and_bad_pieces_are_looked_at_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let store = FullPieceStore::open(path, &OPTIONS).unwrap();
        (0..100).for_each(|index| assert!(store.put(PieceIndex(index), &item(index)).is_ok()));
        drop(store);
        let extent = path.join("extent-00000000.bin");
        let data = std::fs::metadata(&extent).unwrap().len() - 128 * Piece::SIZE as u64;
        let at = |slot: u64| data + slot * Piece::SIZE as u64 + 1000;
        flip(&extent, at(3));
        flip(&extent, at(5));
        flip(&extent, at(90));
        let inspection = StoreInspection::new(path).unwrap();
        let verifier = Verifier::new(&inspection, None);
        let progress = verifier.run(Progress::new(String::new(), true), |_, _| ControlFlow::Break(()));
        assert_eq!((progress.next_slot, progress.good), (BATCH as u64, BATCH as u64 - 2));
        let pieces = |progress: &Progress| progress.bad.iter().map(|bad| bad.piece).collect::<Vec<_>>();
        assert_eq!(pieces(&progress), [Some(3), Some(5)]);
        assert!(progress.bad[0].reason.contains("its bytes changed"), "{:?}", progress.bad);

        // One of them is mended meanwhile; what was good is not read again.
        flip(&extent, at(5));
        flip(&extent, at(20));
        assert_eq!(verifier.remaining(&progress).len(), 100 - BATCH + 2);
        let progress = verifier.run(progress, go_on);
        assert_eq!((progress.next_slot, progress.good), (100, 98));
        assert_eq!(pieces(&progress), [Some(3), Some(90)]);
    }

    #[test]
    fn a_sharded_store_names_pieces_by_their_index_and_broken_extents_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let options = StoreOptions { slots_per_extent: 4, ..OPTIONS };
        let store = ShardedPieceStore::open(path, &options, Capacity::Pieces(8)).unwrap();
        (0..8).for_each(|index| assert!(store.put(PieceIndex(1000 + index), &item(index)).is_ok()));
        drop(store);
        let extent = path.join("extent-00000000.bin");
        let data = std::fs::metadata(&extent).unwrap().len() - 4 * Piece::SIZE as u64;
        flip(&extent, data + 2 * Piece::SIZE as u64);
        let second = std::fs::File::options().write(true).open(path.join("extent-00000001.bin")).unwrap();
        second.set_len(100).unwrap();
        let inspection = StoreInspection::new(path).unwrap();
        let progress = Verifier::new(&inspection, None).run(Progress::new(String::new(), true), go_on);
        assert_eq!(progress.good, 3);
        let bad: Vec<_> = progress.bad.iter().map(|bad| (bad.slot, bad.piece)).collect();
        assert_eq!(bad, [(4, None), (2, Some(1002))]);
        assert!(progress.bad[0].reason.contains("extent-00000001.bin"), "{:?}", progress.bad);
    }
}
