//! `util scrub`: the checksums of all sectors of farms that are not at work.

use crate::cli::ScrubArguments;
use crate::roles::Error;
use crate::util::farms::{self, OpenedFarm};
use crate::util::output;
use farming::plot::{FarmEvent, LostSector};
use indicatif::ProgressBar;
use primitives::{SectorGeometry, SectorIndex};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Scrubs, all farms side by side, and prints what is damaged.
///
/// # Errors
/// [`Error::Damaged`] when something is and was not marked; when a farm is in use, or cannot be read.
pub async fn run(arguments: ScrubArguments) -> Result<(), Error> {
    let cancel = CancelOnDrop::default();
    let (cancelled, json, repair) = (Arc::clone(&cancel.0), arguments.json, arguments.repair);
    let scrubbing = tokio::task::spawn_blocking(move || scrub_all(&arguments, &cancelled));
    let reports = scrubbing.await.map_err(|error| Error::Internal(error.to_string()))??;
    let farms: Vec<_> = reports.iter().map(|report| report.to_json(repair)).collect();
    let text: String = reports.iter().map(|report| report.to_text(repair)).collect();
    output::print_either(json, &json!({ "version": 1, "farms": farms }), &text)?;
    let damaged: usize = reports.iter().map(|report| report.lost.len()).sum();
    if damaged == 0 || repair {
        return Ok(());
    }
    Err(Error::Damaged(format!(
        "{damaged} sectors are damaged: the plot-client finds them too and has them plotted again; --repair marks them now. \
         If it happens again, look at the disk (`smartctl -a`)"
    )))
}

/// Ends the readings with whoever waits for them.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Report {
    opened: OpenedFarm,
    lost: Vec<(SectorIndex, LostSector)>,
    scrubbed: u64,
    time: Duration,
}

fn scrub_all(arguments: &ScrubArguments, cancel: &AtomicBool) -> Result<Vec<Report>, Error> {
    // All are opened before any is read: a farm that is in use is to be known at once.
    let opened = arguments.farms.iter().map(|path| farms::take(path, arguments.repair));
    let opened: Vec<OpenedFarm> = opened.collect::<Result<_, _>>()?;
    let sectors: usize = opened.iter().map(OpenedFarm::plotted).sum();
    let bar = output::progress_bar(sectors as u64, "sectors");
    let reports = std::thread::scope(|scope| {
        let scrub = |opened| scope.spawn(|| scrub(opened, cancel, &bar));
        let threads: Vec<_> = opened.into_iter().map(scrub).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(Error::Internal("a scrub panicked".into())))
        };
        threads.into_iter().map(join).collect()
    });
    bar.finish_and_clear();
    reports
}

fn scrub(mut opened: OpenedFarm, cancel: &AtomicBool, bar: &ProgressBar) -> Result<Report, Error> {
    let started = Instant::now();
    let mut lost = std::mem::take(&mut opened.lost);
    let mut scrubbed = 0;
    for sector in opened.farm.sectors().iter().flatten() {
        if let Some(FarmEvent::SectorLost { sector_index, reason }) =
            opened.farm.scrub_sector(sector.sector_index, cancel)?
        {
            lost.push((sector_index, reason));
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Unavailable("stopped before all sectors were read".into()));
        }
        scrubbed += 1;
        bar.inc(1);
    }
    lost.sort_by_key(|(sector, _)| *sector);
    Ok(Report { opened, lost, scrubbed, time: started.elapsed() })
}

impl Report {
    fn bytes(&self) -> u64 {
        let geometry = SectorGeometry::new(self.opened.farm.geometry().pieces_in_sector);
        self.scrubbed * geometry.sector_size() as u64
    }

    fn to_json(&self, repair: bool) -> Value {
        json!({
            "path": self.opened.farm.directory(),
            "id": self.opened.farm.id().to_string(),
            "sectors_scrubbed": self.scrubbed,
            "bytes": self.bytes(),
            "seconds": output::rounded(self.time.as_secs_f64()),
            "damaged": farms::lost_to_json(&self.lost),
            "repaired": repair,
        })
    }

    fn to_text(&self, repair: bool) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{}: {} sectors read, {} damaged; {} at {}/s",
            self.opened.farm.directory().display(),
            self.scrubbed,
            self.lost.len(),
            output::bytes(self.bytes()),
            output::bytes(output::per_second(self.bytes() as f64, self.time) as u64)
        );
        let done = if repair { "; marked as not plotted" } else { "" };
        for (sector, reason) in &self.lost {
            let _ = writeln!(text, "  sector {sector}: {reason}{done}");
        }
        text
    }
}
