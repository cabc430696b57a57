//! The archiver's thread: takes blocks in their order, makes segments, announces them.
//!
//! Archiving runs in a rayon pool of its own whose threads have the lowest priority, so that slots keep their time on
//! a machine that has nothing to spare.

use crate::Error;
use crate::acknowledgements::Outcome;
use crate::chain::NewBlock;
use crate::shared::Shared;
use archiving::archiver::{ArchivedBlocks, ArchivedSegment, Archiver, ArchiverError, Watch};
use primitives::objects::GlobalObjectMapping;
use primitives::rpc::ObjectMappingResponse;
use primitives::{BlockNumber, SegmentHeader, SegmentIndex};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a wait looks whether the process is stopping.
const POLL: Duration = Duration::from_millis(100);
/// Niceness of the archiving threads.
const LOWEST_PRIORITY: i32 = 19;
/// A block deeper than the archiver's next one is not made ahead of it.
const AHEAD_OF_ARCHIVER: u32 = 1;

/// Makes the pool for archiving: a thread for each core.
fn pool() -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new()
        .thread_name(|index| format!("archiving-{index}"))
        .start_handler(|_| {
            // Linux counts niceness by thread. A thread that stays at the normal priority is slower company for slots,
            // nothing worse.
            if let Err(error) = rustix::process::nice(LOWEST_PRIORITY) {
                tracing::debug!(%error, "An archiving thread keeps its priority");
            }
        })
        .build()
        .map_err(|error| Error::Start { what: "the archiving threads", reason: error.to_string() })
}

/// Starts the archiver's thread; it ends with the process's shutdown, promptly.
pub(crate) fn start(shared: Arc<Shared>) -> Result<std::thread::JoinHandle<()>, Error> {
    let pool = pool()?;
    std::thread::Builder::new()
        .name("archiver".to_owned())
        .spawn(move || {
            let thread = Thread { shared: &shared, pool };
            // Nothing is used after a panic: the chain stops.
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread.run())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => shared.fail(error),
                Err(_) => {
                    let reason = "it panicked".to_owned();
                    shared.fail(Error::Stopped { what: "the archiver", reason });
                }
            }
        })
        .map_err(|error| Error::Start { what: "the archiver's thread", reason: error.to_string() })
}

struct Thread<'a> {
    shared: &'a Arc<Shared>,
    pool: rayon::ThreadPool,
}

impl Watch for Shared {
    fn is_cancelled(&self) -> bool {
        self.shutdown.is_cancelled()
    }
}

impl Thread<'_> {
    fn run(&self) -> Result<(), Error> {
        let Some((mut archiver, mut next)) = self.resume()? else { return Ok(()) };
        let depth = self.shared.chain.parameters().confirmation_depth;
        while !self.shared.shutdown.is_cancelled() {
            let due = if next == 0 { 0 } else { next + depth };
            if !*self.shared.ready.borrow() && !self.go_ahead(due + AHEAD_OF_ARCHIVER)? {
                self.shared.ready.send_replace(true);
            }
            if !self.shared.chain.wait_for_block(due, POLL) {
                continue;
            }
            if !self.archive_block(&mut archiver, next)? {
                break;
            }
            next += 1;
        }
        Ok(())
    }

    /// While segments are to be archived ahead, makes blocks until `number`, or leaves that to the node that is followed;
    /// false when enough is archived.
    fn go_ahead(&self, number: BlockNumber) -> Result<bool, Error> {
        let chain = &self.shared.chain;
        let archived = chain.history_size().map_or(0, |size| size.get()) >= self.shared.config.archive_ahead;
        if let Some(following) = &self.shared.following {
            // Blocks come from there, and slots once there is nothing to catch up with.
            return Ok(!archived || !following.has_caught_up());
        }
        if archived {
            return Ok(false);
        }
        while chain.best().number < number {
            chain.make_block(NewBlock::default())?;
            self.shared.stats.count(|stats| stats.blocks.without_solution += 1);
        }
        Ok(true)
    }

    /// The archiver after the newest segment, and the block that it needs next; none when the process is stopping.
    fn resume(&self) -> Result<Option<(Archiver, BlockNumber)>, Error> {
        let chain = &self.shared.chain;
        let Some(newest) = chain.newest_segment_header() else {
            return Ok(Some((Archiver::new(self.shared.kzg.clone()), 0)));
        };
        self.shared.segment_files.keep_only(newest.segment_index())?;
        let genesis = chain.segment_header(SegmentIndex(0)).expect("there is a newest segment");
        if !self.shared.segment_files.has(&genesis) && !self.restore_genesis(&genesis)? {
            return Ok(None);
        }
        let last = newest.last_archived_block().number;
        let (bytes, _) = chain.block_for_archiving(last)?;
        let archiver = Archiver::with_initial_state(self.shared.kzg.clone(), newest, &bytes)
            .map_err(|error| self.damaged(error.to_string()))?;
        self.shared.stats.count(|stats| stats.segments.newest_block = last);
        Ok(Some((archiver, last + 1)))
    }

    /// Makes the genesis segment's pieces anew; false when the process is stopping.
    fn restore_genesis(&self, header: &SegmentHeader) -> Result<bool, Error> {
        tracing::warn!("The pieces of the genesis segment are not there or damaged; they are made again");
        let mut archiver = Archiver::new(self.shared.kzg.clone());
        let Some(archived) = self.add(&mut archiver, 0)? else { return Ok(false) };
        match archived.segments.first() {
            Some(segment) if segment.header == *header => {
                self.shared.segment_files.store(header, &segment.pieces)?;
                Ok(true)
            }
            _ => Err(self.damaged("the genesis segment made again is another".to_owned())),
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged { path: self.shared.config.data.clone(), reason }
    }

    /// Archives a block and announces what it brought; false when the process is stopping.
    fn archive_block(&self, archiver: &mut Archiver, number: BlockNumber) -> Result<bool, Error> {
        let started = Instant::now();
        let Some(ArchivedBlocks { segments, objects }) = self.add(archiver, number)? else {
            return Ok(false);
        };
        for segment in &segments {
            if !self.publish(segment, started.elapsed())? {
                return Ok(false);
            }
        }
        if !objects.is_empty() {
            let objects = GlobalObjectMapping::V0 { objects };
            // Without subscribers nobody listens, which is fine.
            let _ = self.shared.object_mappings.send(ObjectMappingResponse { block_number: number, objects });
        }
        self.shared.stats.count(|stats| stats.segments.newest_block = number);
        Ok(true)
    }

    /// Adds a block in the pool; none when the process is stopping.
    fn add(&self, archiver: &mut Archiver, number: BlockNumber) -> Result<Option<ArchivedBlocks>, Error> {
        let (bytes, mapping) = self.shared.chain.block_for_archiving(number)?;
        let watch: &Shared = self.shared;
        match self.pool.install(|| archiver.add_block_watched(bytes, mapping, watch)) {
            Ok(archived) => Ok(Some(archived)),
            Err(ArchiverError::Cancelled) => Ok(None),
            Err(error) => Err(self.damaged(error.to_string())),
        }
    }

    /// Stores a segment, announces it and waits for its acknowledgements; false when the process is stopping.
    fn publish(&self, segment: &ArchivedSegment, took: Duration) -> Result<bool, Error> {
        let shared = self.shared;
        let index = segment.header.segment_index();
        // Pieces first: a header that is stored has its pieces.
        shared.segment_files.store(&segment.header, &segment.pieces)?;
        shared.chain.append_segment_header(segment.header)?;
        shared.segment_files.keep_only(index)?;
        shared.stats.count(|stats| stats.segments.archived_now += 1);
        tracing::info!(%index, took_ms = took.as_millis() as u64, "Archived a segment");
        shared.acknowledgements.expect(index);
        let _ = shared.segment_headers.send(segment.header);
        match shared.acknowledgements.wait(shared.config.acknowledgement_timeout) {
            Outcome::Complete => Ok(true),
            Outcome::TimedOut(missing) => {
                tracing::warn!(%index, missing, "Not every subscriber acknowledged the segment in time");
                shared.stats.count(|stats| stats.segments.acknowledgements_missed += missing as u64);
                Ok(true)
            }
            Outcome::Cancelled => Ok(false),
        }
    }
}
