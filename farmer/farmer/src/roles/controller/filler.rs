//! Keeps the caches filled while this controller leads: every cache holds what it should, and a new segment is stored
//! before it is acknowledged.
//!
//! Three lanes, so that minutes spent on old history hold nothing else up: one for the newest segments, from the node's memory;
//! one for what caches hold of everything else; one for what is in neither and has to be archived again ([`from_blocks`]).

pub mod from_blocks;
pub mod push;
pub mod segment;
pub mod sources;
pub mod views;

pub use push::Superseded;
pub use sources::{Effort, Sources};
pub use views::CacheMember;

use crate::roles::controller::relay::Relay;
use crate::status::Status;
use cluster::contract::{ReinitializeBroadcast, Role};
use cluster::{MemberInfo, Members};
use from_blocks::Backlog;
use futures::future::join_all;
use parking_lot::Mutex;
use primitives::{Piece, PieceIndex, SegmentIndex};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use segment::SegmentPieces;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use views::{Lack, Views, ask_contents};

/// How often caches are asked what they hold.
const ASK_INTERVAL: Duration = Duration::from_secs(30);
/// How soon everything is looked at again when nothing happened.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long a new leader waits for caches before it acknowledges segments that no cache holds.
const GRACE: Duration = Duration::from_secs(10);
/// How long a reinitialised cache takes at least before it knows what is damaged.
const REINITIALIZED: Duration = Duration::from_secs(1);
/// Pieces on their way at once: the memory that filling takes, a megabyte each.
const PIECES_AT_ONCE: usize = 64;
/// First and longest wait before a segment is tried again that could not be had.
const RETRY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));

/// What the filler counts.
#[derive(Clone)]
pub struct FillerMetrics {
    caches: Gauge,
    missing: Gauge,
    without_place: Gauge,
    pushed: Counter,
    from_blocks: from_blocks::Metrics,
}

impl FillerMetrics {
    /// Registers them.
    pub fn new(status: &Status) -> Self {
        Self {
            caches: status.gauge("caches", "Live caches, as the leading controller sees them"),
            missing: status.gauge("pieces_missing", "Pieces that caches still lack, all together"),
            without_place: status
                .gauge("pieces_without_place", "Pieces that have no place: the caches are too small"),
            pushed: status.counter("pieces_pushed", "Pieces sent into caches"),
            from_blocks: from_blocks::Metrics::new(status),
        }
    }

    /// What a controller shows that does not lead.
    pub fn clear(&self) {
        self.caches.set(0);
        self.missing.set(0);
        self.without_place.set(0);
        self.from_blocks.clear();
    }
}

/// Keeps the caches filled.
pub struct Filler {
    relay: Arc<Relay>,
    sources: Arc<Sources>,
    members: watch::Receiver<Arc<Members>>,
    /// Fencing number of the lease.
    fence: u64,
    metrics: FillerMetrics,
    views: Mutex<Views>,
    /// Changes when there may be something to do.
    changes: watch::Sender<()>,
    /// Segments that could not be had, until when they are left alone, and how long the next time.
    deferred: Mutex<HashMap<SegmentIndex, (Instant, Duration)>>,
    /// Segments to be archived again.
    backlog: Mutex<Backlog>,
    /// Segments before this one are no longer new.
    first_new: AtomicU64,
    started: Instant,
}

impl Filler {
    /// A filler for the time of one lease.
    pub fn new(
        relay: Arc<Relay>,
        sources: Arc<Sources>,
        members: watch::Receiver<Arc<Members>>,
        fence: u64,
        metrics: FillerMetrics,
    ) -> Self {
        // Its predecessor may not have come to say that the newest segment is stored.
        let first_new = sources.headers.count().saturating_sub(1);
        Self {
            relay,
            sources,
            members,
            fence,
            metrics,
            views: Mutex::default(),
            changes: watch::channel(()).0,
            deferred: Mutex::default(),
            backlog: Mutex::default(),
            first_new: AtomicU64::new(first_new),
            started: Instant::now(),
        }
    }

    /// Fills until another controller leads. Dropping the future stops everything.
    pub async fn run(&self) -> Superseded {
        tokio::select! {
            superseded = self.new_segments() => superseded,
            superseded = self.old_segments() => superseded,
            superseded = self.segments_from_blocks() => superseded,
            () = self.keep_views() => unreachable!("views are kept for ever"),
            () = self.listen_for_reinitialization() => unreachable!("listening does not end"),
        }
    }

    /// Keeps in view which caches live and what they hold.
    async fn keep_views(&self) {
        let mut members = self.members.clone();
        let mut counts = self.sources.headers.counts();
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let current = cache_members(&members.borrow_and_update());
            let pieces = counts.borrow_and_update().saturating_mul(SegmentIndex::NUM_PIECES as u64);
            // Placement of a long history takes seconds when shards come or go.
            tokio::task::block_in_place(|| self.views.lock().update(&current, pieces));
            self.ask_caches(ASK_INTERVAL).await;
            self.show();
            self.changes.send_replace(());
            tokio::select! {
                _ = members.changed() => {}
                _ = counts.changed() => {}
                _ = tick.tick() => {}
            }
        }
    }

    async fn ask_caches(&self, age: Duration) {
        let due = self.views.lock().due(age);
        let ask = |instance| async move { (instance, ask_contents(&self.relay.client, instance).await) };
        for (instance, held) in join_all(due.into_iter().map(ask)).await {
            self.views.lock().answered(instance, held);
        }
    }

    fn show(&self) {
        let views = self.views.lock();
        self.metrics.caches.set(views.len() as i64);
        self.metrics.missing.set(views.count_lacking().cast_signed());
        let without_place = views.without_place().cast_signed();
        if self.metrics.without_place.get() != without_place && without_place > 0 && !views.is_empty() {
            tracing::warn!(
                pieces = without_place,
                "The caches are too small for the history: its newest pieces have no place in them; add a cache or give \
                 one more room"
            );
        }
        self.metrics.without_place.set(without_place);
        let deferred = self.deferred.lock().values().filter(|(until, _)| *until > Instant::now()).count();
        self.metrics.from_blocks.show(&self.backlog.lock(), deferred);
    }

    /// Asks all caches anew when the cluster is reinitialised.
    async fn listen_for_reinitialization(&self) {
        loop {
            match self.relay.client.listen::<ReinitializeBroadcast>().await {
                Ok(mut told) => {
                    while let Some(ReinitializeBroadcast { delay_ms }) = told.next().await {
                        tokio::time::sleep(Duration::from_millis(delay_ms.into()) + REINITIALIZED).await;
                        tracing::info!("The cluster is reinitialised: asks every cache what it holds");
                        self.deferred.lock().clear();
                        self.backlog.lock().clear();
                        self.ask_caches(Duration::ZERO).await;
                        self.changes.send_replace(());
                    }
                }
                Err(error) => tracing::warn!(%error, "Reinitialisation is not listened for"),
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    /// Stores the newest segments and says so; those that the node no longer has are left to the other lane.
    async fn new_segments(&self) -> Superseded {
        let mut changes = self.changes.subscribe();
        loop {
            loop {
                let count = self.sources.headers.count();
                // The list is shorter when the node's history was replaced.
                let next = self.first_new.load(Ordering::Relaxed).min(count);
                if next == count {
                    break;
                }
                let segment = SegmentIndex(next);
                match self.fill(segment, Effort::Quick).await {
                    // The other lane has it from now on.
                    Ok(missing) if missing > 0 => {
                        self.deferred.lock().entry(segment).or_insert((Instant::now(), Duration::ZERO));
                    }
                    Ok(_) => {}
                    Err(superseded) => return superseded,
                }
                let stored = self.is_stored(segment);
                if stored && let Some(header) = self.sources.headers.get(segment) {
                    self.relay.stored(header).await;
                }
                if !stored && next + 1 == self.sources.headers.count() {
                    break;
                }
                self.first_new.store(next + 1, Ordering::Relaxed);
                self.changes.send_replace(());
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether nothing more is to be done before a segment may be acknowledged.
    fn is_stored(&self, segment: SegmentIndex) -> bool {
        let views = self.views.lock();
        if !views.is_empty() {
            return views.all_asked() && views.is_stored(segment);
        }
        let waited = self.started.elapsed() >= GRACE;
        if waited {
            tracing::warn!(
                segment = segment.0,
                "No cache lives: a segment is acknowledged that nobody stored"
            );
        }
        waited
    }

    /// Fills everything else that is in caches or the node's memory, the oldest first.
    async fn old_segments(&self) -> Superseded {
        let mut changes = self.changes.subscribe();
        loop {
            self.find_lost_segments();
            let segment = self.views.lock().first_lacking(SegmentIndex(0), |segment| {
                self.is_left_alone(segment) || self.backlog.lock().contains(segment)
            });
            let Some(segment) = segment else {
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            };
            match self.fill(segment, Effort::Any).await {
                Ok(0) => {}
                Ok(_) => self.backlog.lock().add(segment, from_blocks::Reason::NotToBeFetched),
                Err(superseded) => return superseded,
            }
            self.show();
            self.changes.send_replace(());
        }
    }

    /// Whether a segment is not the business of the lanes for old ones, now.
    fn is_left_alone(&self, segment: SegmentIndex) -> bool {
        match self.deferred.lock().get(&segment) {
            Some((until, _)) => *until > Instant::now(),
            // The lane for new ones has it, unless it could not have it at once.
            None => segment.0 >= self.first_new.load(Ordering::Relaxed),
        }
    }

    /// Brings to the caches what they lack of a segment; gives the number of pieces that could not be had.
    async fn fill(&self, segment: SegmentIndex, effort: Effort) -> Result<usize, Superseded> {
        let lacking = self.views.lock().lacking(segment);
        if lacking.is_empty() {
            return Ok(0);
        }
        let started = Instant::now();
        let wanted: BTreeSet<PieceIndex> =
            lacking.iter().flat_map(|lack| lack.pieces.iter().copied()).collect();
        let wanted: Vec<PieceIndex> = wanted.into_iter().collect();
        let mut missing = BTreeSet::new();
        for some in wanted.chunks(PIECES_AT_ONCE) {
            let some: BTreeSet<PieceIndex> = some.iter().copied().collect();
            let Some(pieces) = self.sources.collect_quick(segment, &some, &self.views).await else {
                return Ok(0);
            };
            missing.extend(pieces.missing(&some));
            self.push(&pieces, &lacking).await?;
        }
        if effort == Effort::Any && !missing.is_empty() {
            let Some(pieces) = self.sources.reconstruct(segment, &self.views).await else { return Ok(0) };
            missing = pieces.missing(&missing).into_iter().collect();
            self.push(&pieces, &lacking).await?;
        }
        if missing.is_empty() {
            self.deferred.lock().remove(&segment);
            let still_lacking = self.views.lock().still_lacking(&lacking);
            log_filled(segment, &lacking, still_lacking, started);
        }
        Ok(missing.len())
    }

    async fn push(&self, pieces: &SegmentPieces, lacking: &[Lack]) -> Result<(), Superseded> {
        push::push(&self.sources.pool, self.fence, pieces, lacking, &self.views, &self.metrics.pushed).await
    }

    /// Leaves segments alone for a while, longer each time; gives the longest of these times.
    fn defer(&self, segments: impl IntoIterator<Item = SegmentIndex>) -> Duration {
        let now = Instant::now();
        let mut deferred = self.deferred.lock();
        let (first, longest) = RETRY;
        let mut all = Duration::ZERO;
        for segment in segments {
            let before = deferred.get(&segment).map_or(Duration::ZERO, |(_, wait)| *wait);
            let wait = (before * 2).clamp(first, longest);
            deferred.insert(segment, (now + wait, wait));
            all = all.max(wait);
        }
        all
    }
}

/// The caches among the members.
fn cache_members(members: &Members) -> Vec<CacheMember> {
    let cache = |member: &MemberInfo| {
        let capacity_pieces = match member.role {
            Role::FullPieceShardedCache => None,
            Role::ShardedCache => Some(member.capacity_bytes / Piece::SIZE as u64),
            _ => return None,
        };
        Some(CacheMember { instance: member.instance, address: member.address?.0, capacity_pieces })
    };
    members.all().iter().filter_map(cache).collect()
}

fn log_filled(segment: SegmentIndex, lacking: &[Lack], still_lacking: usize, started: Instant) {
    tracing::info!(
        segment = segment.0,
        pieces = lacking.iter().map(|lack| lack.pieces.len()).sum::<usize>() - still_lacking,
        caches = lacking.len(),
        still_lacking,
        seconds = started.elapsed().as_secs_f32(),
        "Brought a segment's pieces to the caches"
    );
}
