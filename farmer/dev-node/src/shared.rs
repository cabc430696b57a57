//! What all tasks share.

use crate::Error;
use crate::acknowledgements::Acknowledgements;
use crate::chain::Chain;
use crate::config::Config;
use crate::follow::Following;
use crate::rewards::Rewards;
use crate::segments::SegmentFiles;
use crate::slots::Slots;
use crate::solution_range::voting_solution_range;
use crate::stats::{DevStats, Stats};
use archiving::Kzg;
use node::NodeClient;
use parking_lot::Mutex;
use primitives::SegmentHeader;
use primitives::rpc::ObjectMappingResponse;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Announcements that a slow subscriber may lag behind.
const ANNOUNCEMENTS: usize = 256;

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) chain: Arc<Chain>,
    /// The node that is followed, if any.
    pub(crate) following: Option<Following>,
    pub(crate) kzg: Kzg,
    pub(crate) stats: Stats,
    pub(crate) slots: Slots,
    pub(crate) rewards: Rewards,
    pub(crate) segment_files: SegmentFiles,
    pub(crate) acknowledgements: Arc<Acknowledgements>,
    pub(crate) segment_headers: broadcast::Sender<SegmentHeader>,
    pub(crate) object_mappings: broadcast::Sender<ObjectMappingResponse>,
    /// Whether the chain has archived ahead as far as it should, and slots come.
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) shutdown: CancellationToken,
    failure: Mutex<Option<Error>>,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        chain: Chain,
        following: Option<Following>,
        kzg: Kzg,
        segment_files: SegmentFiles,
    ) -> Self {
        Self {
            config,
            chain: Arc::new(chain),
            following,
            kzg,
            stats: Stats::default(),
            slots: Slots::default(),
            rewards: Rewards::default(),
            segment_files,
            acknowledgements: Arc::default(),
            segment_headers: broadcast::channel(ANNOUNCEMENTS).0,
            object_mappings: broadcast::channel(ANNOUNCEMENTS).0,
            ready: watch::channel(false).0,
            shutdown: CancellationToken::new(),
            failure: Mutex::new(None),
        }
    }

    /// The node to which solutions and signatures are passed on, while one is followed.
    pub(crate) fn followed(&self) -> Option<&NodeClient> {
        self.following.as_ref()?.client()
    }

    /// Stops everything because of `error`; the first one is kept.
    pub(crate) fn fail(&self, error: Error) {
        tracing::error!(%error, "The development chain stops");
        self.failure.lock().get_or_insert(error);
        self.shutdown.cancel();
    }

    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }

    /// Statistics with what the chain itself knows.
    pub(crate) fn dev_stats(&self) -> DevStats {
        let range = self.chain.era().solution_range;
        let mut stats = DevStats {
            insecure: true,
            genesis_hash: self.chain.genesis_hash(),
            syncing: !*self.ready.borrow(),
            best_block: self.chain.best().number,
            solution_range: range,
            voting_solution_range: voting_solution_range(range),
            ..self.stats.snapshot()
        };
        stats.segments.archived = self.chain.history_size().map_or(0, |size| size.get());
        stats
    }
}
