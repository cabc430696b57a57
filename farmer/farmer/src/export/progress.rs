//! How far an export is: a bar on a terminal, lines in a log otherwise; and whether it is to stop.

use archiving::archiver::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use primitives::{Piece, SegmentIndex};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Bytes of the two pieces that each record commitment stands for.
const BYTES_PER_RECORD: u64 = 2 * Piece::SIZE as u64;
/// Bytes of a segment's pieces.
const BYTES_PER_SEGMENT: u64 = (SegmentIndex::NUM_PIECES * Piece::SIZE) as u64;
const TEMPLATE: &str =
    "{elapsed_precise} {wide_bar} {bytes}/{total_bytes} ({bytes_per_sec}, {eta} left) {msg}";
const TEMPLATE_WITHOUT_END: &str = "{elapsed_precise} {spinner} {bytes} ({bytes_per_sec}) {msg}";

/// Progress of an export, shared by its threads.
#[derive(Debug)]
pub struct Progress {
    stop: CancellationToken,
    bar: Option<ProgressBar>,
    started: Instant,
    /// Segments to archive, where that is known.
    wanted: Option<u64>,
    stored: AtomicU64,
}

impl Progress {
    /// Begins to count `wanted` segments. `stop` ends the export.
    pub fn new(wanted: Option<u64>, stop: CancellationToken) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let length = wanted.map(|segments| segments * BYTES_PER_SEGMENT);
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            let template = if wanted.is_some() { TEMPLATE } else { TEMPLATE_WITHOUT_END };
            bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { stop, bar, started: Instant::now(), wanted, stored: AtomicU64::new(0) }
    }

    /// Whether the export is to stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Segments archived and stored.
    pub fn segments_stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A segment has been archived and stored.
    pub fn stored(&self, segment: SegmentIndex) {
        let stored = self.stored.fetch_add(1, Ordering::Relaxed) + 1;
        let elapsed = self.elapsed();
        let per_minute = format!("{:.1}", 60.0 * stored as f64 / elapsed.as_secs_f64().max(0.001));
        if let Some(bar) = &self.bar {
            bar.set_message(format!("segment {segment} stored, {per_minute} segments/min"));
            return;
        }
        match self.wanted {
            Some(wanted) => {
                let left = elapsed.mul_f64(wanted.saturating_sub(stored) as f64 / stored as f64);
                tracing::info!(
                    segment = segment.0, stored, wanted, segments_per_minute = %per_minute,
                    seconds_left = left.as_secs(), "Stored a segment"
                );
            }
            None => {
                tracing::info!(segment = segment.0, stored, segments_per_minute = %per_minute, "Stored a segment");
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Progress {
    fn is_cancelled(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn record_committed(&self, _: SegmentIndex) {
        if let Some(bar) = &self.bar {
            bar.inc(BYTES_PER_RECORD);
        }
    }
}
