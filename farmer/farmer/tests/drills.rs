//! Failure drills: a small fleet on the guides' seven hosts, with three NATS servers, in network namespaces of its own, and
//! what becomes of slots, sectors and pieces while a part of it is killed, hangs, or is cut off.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "drills/benchmark.rs"]
mod benchmark;
#[path = "drills/bulk.rs"]
mod bulk;
#[path = "drills/clock.rs"]
mod clock;
#[path = "drills/fault.rs"]
mod fault;
#[path = "drills/fleet.rs"]
mod fleet;
#[path = "drills/hostile.rs"]
mod hostile;
#[path = "drills/measure.rs"]
mod measure;
#[path = "drills/namespaces.rs"]
mod namespaces;
mod roles_support;
#[path = "drills/single.rs"]
mod single;

use fleet::{Fleet, Footprint};
use measure::Row;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Slots that may be missed after a crash of anything single.
const AFTER_CRASH: usize = 2;
/// Slots that may be missed after a hang or a cut.
const AFTER_HANG: usize = 5;

/// Slots are looked at for so long at least.
const SPAN: Duration = Duration::from_secs(8);

/// Names the drills to run, with commas between them; without it all are run.
const ONLY: &str = "AUTONOMYS_DRILLS_ONLY";

/// The fleet and what was measured.
struct Drills {
    /// From the first drill on.
    fleet: Option<Started>,
    only: Option<Vec<String>>,
    rows: usize,
    failed: Vec<String>,
}

/// A fleet, and what its units took of the system at the beginning.
struct Started {
    fleet: Fleet,
    footprints: BTreeMap<String, Footprint>,
}

impl Started {
    fn now() -> Self {
        let started = Instant::now();
        let fleet = Fleet::start();
        eprintln!("the fleet is up after {:.0} s", started.elapsed().as_secs_f64());
        Self { footprints: fleet.footprints(), fleet }
    }

    /// Units that ended, and those that take much more of the system than at the beginning.
    fn faults(mut self) -> Vec<String> {
        let mut faults: Vec<_> = self.fleet.ended().into_iter().map(|name| format!("{name} ended")).collect();
        for (name, now) in self.fleet.footprints() {
            let Some(before) = self.footprints.get(&name) else { continue };
            eprintln!("{name}: {before:?} -> {now:?}");
            if now.resident_mib > before.resident_mib + GROWTH.resident_mib
                || now.threads > before.threads + GROWTH.threads
                || now.descriptors > before.descriptors + GROWTH.descriptors
            {
                faults.push(format!("{name} grew from {before:?} to {now:?}"));
            }
        }
        faults
    }
}

impl Drills {
    fn wants(&self, drill: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|name| name == drill))
    }

    fn fleet(&mut self) -> &mut Fleet {
        &mut self.fleet.get_or_insert_with(Started::now).fleet
    }

    /// Measures `disturb`, which gives what it did and leaves everything running; at most `missed` slots may be lost.
    fn drill(&mut self, drill: &'static str, missed: usize, disturb: impl FnOnce(&mut Fleet) -> String) {
        self.measure(drill, missed, None, disturb);
    }

    /// [`Self::drill`], in which the plot-client's clock is off by `off_s` part of the time.
    fn drill_with_clocks_off(
        &mut self,
        drill: &'static str,
        missed: usize,
        off_s: i64,
        disturb: impl FnOnce(&mut Fleet) -> String,
    ) {
        self.measure(drill, missed, Some(off_s as f64), disturb);
    }

    fn measure(
        &mut self,
        drill: &'static str,
        missed: usize,
        clock_off_s: Option<f64>,
        disturb: impl FnOnce(&mut Fleet) -> String,
    ) {
        if !self.wants(drill) {
            return;
        }
        let fleet = self.fleet();
        eprintln!("{drill} …");
        let (sectors, pieces) = (fleet.counter("plot-client-6", "sectors_plotted"), fleet.pieces());
        let skipped = fleet.counter("plot-client-6", "slots_skipped");
        let accepted = fleet.counter("plot-client-6", "solutions_accepted");
        let (from, started) = (measure::now(), Instant::now());
        let done = disturb(fleet);
        let disturbed = Instant::now();
        fleet.settle();
        let whole_again_s = disturbed.elapsed().as_secs_f64();
        std::thread::sleep(SPAN.saturating_sub(started.elapsed()));
        let announced = measure::slots(&fleet.log(&format!("node-{}", fleet::SOURCE)));
        let mut taken = measure::slots(&fleet.log("plot-client-6"));
        if let Some(off_s) = clock_off_s {
            taken = measure::on_one_clock(&announced, taken, off_s);
        }
        let mut slots = measure::compare(&announced, &taken, from, measure::now());
        slots.missed += usize::try_from(fleet.counter("plot-client-6", "slots_skipped") - skipped).unwrap();
        let after = (fleet.counter("plot-client-6", "sectors_plotted"), fleet.pieces());
        let solutions = fleet.counter("plot-client-6", "solutions_accepted") - accepted;
        let kept = format!("{} sectors, {} + {} pieces", after.0, after.1[0], after.1[1]);
        Row { drill, done, slots, whole_again_s, solutions, kept }.write();
        self.rows += 1;
        if slots.announced == 0 {
            // As also when the day of the logs' clock changes in a drill.
            self.failed.push(format!("{drill}: no slot was seen, so nothing was measured"));
        }
        if slots.missed > missed {
            self.failed.push(format!("{drill}: {slots:?}, at most {missed} may be missed"));
        }
        if after.0 < sectors || after.1 < pieces {
            self.failed
                .push(format!("{drill}: {sectors} sectors and {pieces:?} pieces before, {after:?} after"));
        }
    }
}

/// What each unit may have gained over all drills. A plot-client that had to prove by itself keeps a table; a role that has
/// been busy keeps connections to others and threads for blocking work.
const GROWTH: Footprint = Footprint { resident_mib: 512, threads: 64, descriptors: 64 };

/// Runs drills on a fleet of their own.
fn run(name: &str, all: impl FnOnce(&mut Drills)) {
    if namespaces::ran_inside(name, namespaces::WITHOUT_ROOT) {
        return;
    }
    let started = Instant::now();
    let only = std::env::var(ONLY).ok();
    let only = only.map(|only| only.split(',').map(str::to_owned).collect());
    let mut drills = Drills { fleet: None, only, rows: 0, failed: Vec::new() };
    all(&mut drills);
    let Drills { fleet, mut failed, rows, .. } = drills;
    failed.extend(fleet.into_iter().flat_map(Started::faults));
    eprintln!("{rows} drills, {:.0} s in all", started.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn drill_nats_and_nodes() {
    run("drill_nats_and_nodes", |drills| {
        drills.drill("nothing", AFTER_CRASH, |_| "nothing".to_owned());
        single::all(drills);
        clock::all(drills);
    });
}

#[test]
fn drill_caches_and_plotting() {
    run("drill_caches_and_plotting", bulk::all);
}

#[test]
fn drill_hostile_peers() {
    run("drill_hostile_peers", hostile::all);
}

#[test]
fn drill_cache_benchmark() {
    run("drill_cache_benchmark", |drills| {
        if drills.wants("cache_benchmark") {
            benchmark::all(drills.fleet());
        }
    });
}
