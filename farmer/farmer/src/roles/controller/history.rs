//! Old segments, archived again from the node's blocks: what no cache holds and the node's RPC no longer serves
//! (design §4, where history comes from).

use crate::export::rearchive::{HistoryError, Order, Rearchiver};
use crate::export::source::Source;
use crate::roles::controller::headers::Headers;
use archiving::Kzg;
use archiving::archiver::{ArchivedSegment, Watch};
use node::{NodeClient, Options};
use primitives::rpc::GenesisHash;
use primitives::{SegmentHeader, SegmentIndex};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// Niceness of threads for work that has time.
const LOWEST_PRIORITY: i32 = 19;

/// Threads for work that has time, one for each core: slots, solutions and the other programs of the host go first.
///
/// # Errors
/// When the system gives no threads.
pub fn patient_threads() -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .thread_name(|index| format!("history-{index}"))
        .start_handler(|_| {
            // Linux counts niceness by thread. A thread that stays at the normal priority is slower company, nothing worse.
            if let Err(error) = rustix::process::nice(LOWEST_PRIORITY) {
                tracing::debug!(%error, "A thread of the history keeps its priority");
            }
        })
        .build()
}

/// Archives old segments again. It goes on from where it stands as long as segments are asked for in order.
pub struct History {
    node_url: String,
    genesis: GenesisHash,
    kzg: Kzg,
    headers: Arc<Headers>,
    threads: Arc<ThreadPool>,
    rearchiver: Option<Rearchiver>,
}

/// Stops the archiver when the token is cancelled.
struct Cancel(CancellationToken);

impl Watch for Cancel {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// A segment and what archiving it takes.
struct Wanted {
    segment: SegmentIndex,
    before: Option<SegmentHeader>,
    expected: SegmentHeader,
    /// The last archived segment: blocks are read ahead up to its end.
    newest: SegmentHeader,
}

impl History {
    /// The history of a chain as the node at `node_url` has it; the archiver works on `threads`.
    pub fn new(
        node_url: String,
        genesis: GenesisHash,
        kzg: Kzg,
        headers: Arc<Headers>,
        threads: Arc<ThreadPool>,
    ) -> Self {
        Self { node_url, genesis, kzg, headers, threads, rearchiver: None }
    }

    /// Archives a segment again, checked against its header: ten seconds of CPU or more and hundreds of megabytes. None when
    /// the chain has no such segment any more. Dropping the future stops the work within a second.
    ///
    /// # Errors
    /// See [`HistoryError`].
    pub async fn segment(&mut self, segment: SegmentIndex) -> Result<Option<ArchivedSegment>, HistoryError> {
        let Some(wanted) = self.wanted(segment) else { return Ok(None) };
        // Taken, not borrowed: when the future is dropped half-way the archiver is lost and the next call starts anew.
        let mut rearchiver = match self.rearchiver.take() {
            Some(rearchiver) => rearchiver,
            None => self.rearchiver()?,
        };
        let last_block = wanted.newest.last_archived_block().number;
        let stop = CancellationToken::new();
        let _stops_when_dropped = stop.clone().drop_guard();
        let threads = Arc::clone(&self.threads);
        let working = tokio::task::spawn_blocking(move || {
            let watch = Cancel(stop.clone());
            let Wanted { segment, before, expected, .. } = wanted;
            let order =
                Order { segment, before, expected: Some(expected), last_block, watch: &watch, stop: &stop };
            let archived = threads.install(|| rearchiver.segment(&order));
            (rearchiver, archived)
        });
        let (rearchiver, archived) =
            working.await.map_err(|error| HistoryError::Internal(format!("the archiver failed: {error}")))?;
        self.rearchiver = Some(rearchiver);
        let unfilled = || HistoryError::Unfilled {
            source_name: format!("the node at {}", self.node_url),
            segment,
            last_block,
        };
        archived?.ok_or_else(unfilled).map(Some)
    }

    fn wanted(&self, segment: SegmentIndex) -> Option<Wanted> {
        let before = match segment.0.checked_sub(1).map(SegmentIndex) {
            Some(before) => Some(self.headers.get(before)?),
            None => None,
        };
        let expected = self.headers.get(segment)?;
        let newest = self.headers.get(SegmentIndex(self.headers.count().checked_sub(1)?))?;
        Some(Wanted { segment, before, expected, newest })
    }

    /// On a connection of its own: a block has up to 10 MB of JSON, and slots must not wait behind it.
    fn rearchiver(&self) -> Result<Rearchiver, HistoryError> {
        let options = Options { expected_genesis: Some(self.genesis), ..Options::default() };
        let node = NodeClient::new(&self.node_url, options)?;
        Ok(Rearchiver::new(Source::Node(node), self.kzg.clone(), Handle::current()))
    }

    /// Forgets the archiver and its connection: up to 130 MB of blocks.
    pub fn rest(&mut self) {
        self.rearchiver = None;
    }
}
