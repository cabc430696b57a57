//! What a drill cost: slots from the logs of the chain's node and of a plot-client, the rest from counters.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds of a day.
pub const DAY_S: f64 = 86_400.0;
/// After this a slot is worth nothing.
const FARMING_TIMEOUT_S: f64 = 4.0;
/// The newest slots may still be on their way.
const ON_THE_WAY: Duration = Duration::from_millis(1500);

/// Slots by number, with the second of the day at which the log names each first.
pub type Slots = BTreeMap<u64, f64>;

/// Seconds of the day of a log line's time, `…T17:45:19.123456Z`.
fn seconds_of_day(line: &str) -> Option<f64> {
    let time = line.split_whitespace().next()?.split_once('T')?.1.strip_suffix('Z')?;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// The second of the day.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() % DAY_S
}

/// Slots that a log names.
pub fn slots(log: &str) -> Slots {
    let mut slots = Slots::new();
    for line in log.lines() {
        let Some((before, after)) = line.split_once(": Slot slot=") else { continue };
        let number: String = after.chars().take_while(char::is_ascii_digit).collect();
        if let (Some(at), Ok(number)) = (seconds_of_day(before), number.parse()) {
            slots.entry(number).or_insert(at);
        }
    }
    slots
}

/// The times of slots taken by a clock that was off by `off_s`, or twice that, part of the time, on the clock that they were
/// announced by. A slot is taken within less than half of `off_s`.
pub fn on_one_clock(announced: &Slots, mut taken: Slots, off_s: f64) -> Slots {
    for (slot, at) in &mut taken {
        if let Some(announced) = announced.get(slot) {
            *at -= ((*at - announced) / off_s).round() * off_s;
        }
    }
    taken
}

/// Slots of a span of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlotsTaken {
    pub announced: usize,
    /// Announced, but not taken, or later than a solution could be.
    pub missed: usize,
    /// Longest time without a slot, seconds.
    pub longest_gap_s: f64,
}

/// Compares what a node announced between `from` and `to`, seconds of the day, with what a plot-client took.
pub fn compare(announced: &Slots, taken: &Slots, from: f64, to: f64) -> SlotsTaken {
    let to = to - ON_THE_WAY.as_secs_f64();
    let within: Vec<_> = announced.iter().filter(|(_, at)| (from..to).contains(*at)).collect();
    let in_time = |slot: &u64, at: f64| taken.get(slot).is_some_and(|taken| taken - at < FARMING_TIMEOUT_S);
    let missed = within.iter().filter(|(slot, at)| !in_time(slot, **at)).count();
    let mut times: Vec<_> = taken.values().copied().filter(|at| (from..to).contains(at)).collect();
    times.push(from);
    times.push(to);
    times.sort_by(f64::total_cmp);
    let longest_gap_s = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    SlotsTaken { announced: within.len(), missed, longest_gap_s }
}

/// A row of the table.
pub struct Row {
    pub drill: &'static str,
    /// What was done, and for how long.
    pub done: String,
    pub slots: SlotsTaken,
    /// Seconds from the end of the disturbance until everything was at work and a solution accepted.
    pub whole_again_s: f64,
    pub solutions: i64,
    /// Sectors and pieces before and after.
    pub kept: String,
}

/// Names the directory in which `cargo xtask drills` wants a file of rows for each table.
const ROWS: &str = "AUTONOMYS_DRILLS_ROWS";
/// The drills' table.
const DRILL_ROWS: &str = "drills";
/// The table of the caches' benchmark.
pub const BENCHMARK_ROWS: &str = "benchmark";

/// Says a row of a table, and writes it where it is wanted.
pub fn write_row(table: &str, row: &str) {
    eprintln!("{row}");
    if let Some(directory) = std::env::var_os(ROWS) {
        let path = PathBuf::from(directory).join(table);
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{row}").unwrap();
    }
}

impl Row {
    /// Says the row, and writes it where it is wanted.
    pub fn write(&self) {
        write_row(DRILL_ROWS, &self.markdown());
    }

    fn markdown(&self) -> String {
        let SlotsTaken { announced, missed, longest_gap_s } = self.slots;
        format!(
            "| `{}` | {} | {missed} of {announced} | {longest_gap_s:.1} | {:.0} | {} | {} |",
            self.drill, self.done, self.whole_again_s, self.solutions, self.kept
        )
    }
}

#[test]
fn slots_are_compared_by_number_and_lateness() {
    let log = |slots: &[(u64, u32)]| {
        slots.iter().fold(String::new(), |log, (slot, second)| {
            log + &format!(
                "2026-01-01T00:00:{second:02}.000000Z DEBUG dev_node::slots: Slot slot={slot} range=5\n"
            )
        })
    };
    let announced = slots(&log(&[(101, 1), (102, 2), (103, 3), (104, 4), (105, 5), (106, 30)]));
    let taken = slots(&log(&[(101, 1), (102, 2), (104, 9), (105, 9), (105, 10)]));
    let found = compare(&announced, &taken, 0.0, 20.0);
    let off = taken.iter().map(|(slot, at)| (*slot, if *slot > 102 { at + 300.0 } else { *at })).collect();
    assert_eq!(on_one_clock(&announced, off, 300.0), taken);
    assert_eq!(found, SlotsTaken { announced: 5, missed: 3, longest_gap_s: 9.5 });
}
