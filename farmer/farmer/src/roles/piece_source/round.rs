//! One round over all sources: who has been asked for what in it, and what is late.

use super::collection::Collection;
use super::hedging::Hedging;
use cluster::contract::InstanceId;
use parking_lot::Mutex;
use primitives::PieceIndex;
use std::collections::{BTreeSet, HashSet};
use tokio::sync::Notify;

/// Nobody has been asked for anything yet.
#[derive(Default)]
pub struct Round {
    asked: Mutex<HashSet<(InstanceId, PieceIndex)>>,
    late: Mutex<BTreeSet<PieceIndex>>,
    became_late: Notify,
}

impl Round {
    pub(super) fn ask(&self, cache: InstanceId, index: PieceIndex) -> bool {
        self.asked.lock().insert((cache, index))
    }

    pub(super) fn add_late(&self, pieces: &[PieceIndex]) {
        self.late.lock().extend(pieces);
        self.became_late.notify_waiters();
    }

    /// Waits for pieces that are late and takes as many as may be hedged.
    pub(super) async fn next_hedge(
        &self,
        collection: &Collection,
        hedging: &Hedging,
    ) -> BTreeSet<PieceIndex> {
        loop {
            let mut changed = std::pin::pin!(self.became_late.notified());
            changed.as_mut().enable();
            let hedged = {
                let mut late = self.late.lock();
                *late = collection.missing_of(&late);
                let granted = hedging.grant(late.len());
                let rest = late.iter().nth(granted).copied();
                let rest = rest.map_or_else(BTreeSet::new, |rest| late.split_off(&rest));
                std::mem::replace(&mut *late, rest)
            };
            if !hedged.is_empty() {
                return hedged;
            }
            changed.await;
        }
    }
}
