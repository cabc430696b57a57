//! `util sharded-cache-benchmark` on hosts of the fleet: over the network between them, and beside the caches.

use crate::fleet::{Fleet, LONG};
use crate::measure::{BENCHMARK_ROWS, write_row};
use serde_json::Value;
use std::time::{Duration, Instant};

const SECOND_CACHE: &str = "sharded-cache-5";
const SPLIT_CACHE: &str = "sharded-cache-7";
const SIZE: [&str; 4] = ["--sectors", "64", "--epoch", "4"];
/// 4 pieces in a sector.
const FETCHED: u64 = 1024;
/// No cache that is being filled takes so long over one piece.
const QUIET: Duration = Duration::from_secs(6);

/// Measures each arrangement of caches from hosts that a plot-server could be on, and says so in rows of its table.
pub fn all(fleet: &mut Fleet) {
    let caches = "sharded cache on .4, full copy on .4";
    one(fleet, caches, 4, &[]);
    one(fleet, caches, 5, &[]);
    one(fleet, caches, 4, &["--priority-cache"]);
    fleet.add_cache(SECOND_CACHE, 5, &[]);
    wait_until_filled(fleet, SECOND_CACHE);
    let caches = "sharded caches on .4 and .5, full copy on .4";
    one(fleet, caches, 6, &[]);
    one(fleet, caches, 5, &["--priority-cache"]);
    fleet.remove("sharded-cache-4");
    fleet.remove("full-cache");
    fleet.add_cache(SPLIT_CACHE, 7, &["--cache-item-type", "split-parity-piece"]);
    wait_until_filled(fleet, SPLIT_CACHE);
    let split = ["--cache-item-type", "split-parity-piece"];
    one(fleet, "sharded caches: of pieces on .5, of split-parity pieces on .7", 6, &split);
}

/// Waits until a cache that joined has its share: some pieces, and no more for a while.
fn wait_until_filled(fleet: &mut Fleet, name: &str) {
    let mut last = (0, Instant::now());
    fleet.wait("its share of the pieces", LONG, |fleet| {
        let held = fleet.counter(name, "pieces_cached");
        if held != last.0 {
            last = (held, Instant::now());
        }
        held > 0 && last.1.elapsed() > QUIET
    });
}

/// One run of the benchmark on a host, and its row.
fn one(fleet: &Fleet, caches: &str, host: u8, arguments: &[&str]) {
    let report = fleet.utility(host, &[&["sharded-cache-benchmark"], &SIZE[..], arguments].concat());
    // A sector may want a piece twice.
    assert!((FETCHED * 9 / 10..=FETCHED).contains(&report["pieces"].as_u64().unwrap()), "{report:#}");
    assert_eq!((&report["failed"], &report["rejected"]), (&0.into(), &0.into()), "{report:#}");
    assert_eq!(report["checked_against"], "chain", "{report:#}");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("a number: {value}"));
    let shares = report["shares"].as_array().unwrap().iter().map(|share| {
        let from = share["from"].as_str().unwrap();
        let from = from.split_once(" at ").map_or(from, |(_, address)| address);
        format!("{from} {:.0} %", number(&share["share"]) * 100.0)
    });
    let shares: Vec<_> = shares.collect();
    write_row(
        BENCHMARK_ROWS,
        &format!(
            "| {caches}; from .{host} {} | {:.0} | {:.3} | {:.1} | {:.1} | {} | {} | {} | {} |",
            arguments.join(" "),
            number(&report["pieces_per_second"]),
            number(&report["gigabytes_per_second"]),
            number(&report["latency_ms"]["p50"]),
            number(&report["latency_ms"]["p99"]),
            shares.join(", "),
            report["misses"],
            report["retries"],
            report["hedged"],
        ),
    );
}
