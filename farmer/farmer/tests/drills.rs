//! Failure drills: a small fleet on the guides' seven hosts, with three NATS servers, in network namespaces of its own, and
//! what becomes of slots, sectors and pieces while a part of it is killed, hangs, or is cut off.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, unreachable_pub)]

#[path = "drills/bulk.rs"]
mod bulk;
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

use fleet::Fleet;
use measure::Row;
use std::time::{Duration, Instant};

/// Slots that may be missed after a crash of anything single.
const AFTER_CRASH: usize = 2;
/// Slots that may be missed after a hang or a cut.
const AFTER_HANG: usize = 5;

/// Slots are looked at for so long at least.
const SPAN: Duration = Duration::from_secs(8);

/// The fleet and what was measured.
struct Drills {
    fleet: Fleet,
    rows: Vec<Row>,
    failed: Vec<String>,
}

impl Drills {
    /// Measures `disturb`, which gives what it did and leaves everything running; at most `missed` slots may be lost.
    fn drill(&mut self, drill: &'static str, missed: usize, disturb: impl FnOnce(&mut Fleet) -> String) {
        eprintln!("{drill} …");
        let fleet = &mut self.fleet;
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
        let taken = measure::slots(&fleet.log("plot-client-6"));
        let mut slots = measure::compare(&announced, &taken, from, measure::now());
        slots.missed += usize::try_from(fleet.counter("plot-client-6", "slots_skipped") - skipped).unwrap();
        let after = (fleet.counter("plot-client-6", "sectors_plotted"), fleet.pieces());
        let solutions = fleet.counter("plot-client-6", "solutions_accepted") - accepted;
        let kept = format!("{} sectors, {} + {} pieces", after.0, after.1[0], after.1[1]);
        let row = Row { drill, done, slots, whole_again_s, solutions, kept };
        row.write();
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
        self.rows.push(row);
    }
}

/// The memory that each unit may have gained over all drills, MiB: a plot-client that had to prove by itself keeps a table.
const GROWTH_MIB: u64 = 512;

/// Runs drills on a fleet of their own.
fn run(name: &str, all: impl FnOnce(&mut Drills)) {
    if namespaces::ran_inside(name) {
        return;
    }
    let started = Instant::now();
    let fleet = Fleet::start();
    eprintln!("the fleet is up after {:.0} s", started.elapsed().as_secs_f64());
    let resident = fleet.resident_mib();
    let mut drills = Drills { fleet, rows: Vec::new(), failed: Vec::new() };
    all(&mut drills);
    let Drills { mut fleet, mut failed, rows } = drills;
    for (name, mib) in fleet.resident_mib() {
        let Some(before) = resident.get(&name) else { continue };
        eprintln!("{name}: {before} -> {mib} MiB");
        if mib > before + GROWTH_MIB {
            failed.push(format!("{name} grew from {before} to {mib} MiB"));
        }
    }
    failed.extend(fleet.ended().into_iter().map(|name| format!("{name} ended")));
    eprintln!("{} drills, {:.0} s in all", rows.len(), started.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn drill_nats_and_nodes() {
    run("drill_nats_and_nodes", |drills| {
        drills.drill("nothing", AFTER_CRASH, |_| "nothing".to_owned());
        single::all(drills);
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
