//! Failure drills: a small fleet on the guides' seven hosts, with three NATS servers, in network namespaces of its own, and
//! what becomes of slots, sectors and pieces while a part of it is killed, hangs, or is cut off.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, missing_docs, unreachable_pub)]

#[path = "drills/fleet.rs"]
mod fleet;
#[path = "drills/measure.rs"]
mod measure;
#[path = "drills/namespaces.rs"]
mod namespaces;
mod roles_support;
#[path = "drills/single.rs"]
mod single;

use fleet::Fleet;
use measure::{LINE, Row};
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
        println!("{LINE}{}", row.markdown());
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

/// The memory that each unit may have gained over all drills, MiB.
const GROWTH_MIB: u64 = 256;

#[test]
fn drill_fleet() {
    if namespaces::ran_inside("drill_fleet") {
        return;
    }
    let started = Instant::now();
    let fleet = Fleet::start();
    eprintln!("the fleet is up after {:.0} s", started.elapsed().as_secs_f64());
    let resident = fleet.resident_mib();
    let mut drills = Drills { fleet, rows: Vec::new(), failed: Vec::new() };
    drills.drill("nothing", AFTER_CRASH, |_| {
        std::thread::sleep(Duration::from_secs(8));
        "nothing, for 8 s".to_owned()
    });
    single::all(&mut drills);
    let Drills { mut fleet, failed, rows } = drills;
    for (name, mib) in fleet.resident_mib() {
        eprintln!("{name}: {:?} -> {mib} MiB", resident.get(&name));
    }
    eprintln!("{} drills, {:.0} s in all", rows.len(), started.elapsed().as_secs_f64());
    let grown = |(name, mib): (String, u64)| {
        let before = *resident.get(&name)?;
        (mib > before + GROWTH_MIB).then(|| format!("{name} grew from {before} to {mib} MiB"))
    };
    let grown: Vec<_> = fleet.resident_mib().into_iter().filter_map(grown).collect();
    let ended = fleet.ended();
    assert!(failed.is_empty() && grown.is_empty() && ended.is_empty(), "{failed:#?}\n{grown:#?}\n{ended:?}");
}
