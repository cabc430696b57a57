//! Figures as JSON and as tables.

use crate::chart::{Chart, Line};
use crate::floor::floor;
use crate::footprint::{Growth, Memory};
use crate::machine::{Machine, Rates};
use crate::paths::PathFigures;
use crate::run::{Figure, simd};
use crate::scaling::Scaling;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// All that a run found out.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rates: Rates,
    pub(crate) figures: Vec<Figure>,
    pub(crate) memory: Option<Memory>,
    pub(crate) paths: Option<Vec<PathFigures>>,
    pub(crate) scaling: Option<Scaling>,
}

/// One object, keyed by case.
pub(crate) fn json(figures: &[Figure], rates: &Rates) -> Value {
    let figure = |figure: &Figure| {
        let value = json!({
            "cpu_s": figure.cost.cpu_s,
            "wall_s": figure.cost.wall_s,
            "reference_cpu_s": figure.case.reference_cpu_s(),
            "floor_s": floor(figure.case, rates),
            "runs": figure.runs,
            "simd": simd(),
        });
        (figure.case.key().to_owned(), value)
    };
    Value::Object(figures.iter().map(figure).collect::<Map<_, _>>())
}

/// Seconds to three places that count, in a unit that suits them.
pub(crate) fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        1.0.. => (seconds, "s"),
        1e-3.. => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    };
    // Before rounding, so that 9.996 becomes 10.0 and not 10.00.
    let places = match value {
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    let text = format!("{value:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {unit}")
}

/// A quotient to two places that count.
fn ratio(ratio: f64) -> String {
    if ratio < 9.95 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

/// A whole number with its thousands apart.
fn thousands(number: usize) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", thousands(number / 1000), number % 1000)
    }
}

/// A table in Markdown, its columns straight.
fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count(), 3]).max().expect("there is a header")
    });
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        for (cell, width) in cells.iter().zip(widths) {
            write!(text, "| {cell:width$} ").expect("a string can be written");
        }
        text.push_str("|\n");
    };
    line(header);
    let rules: [String; N] = std::array::from_fn(|column| "-".repeat(widths[column]));
    line(std::array::from_fn(|column| rules[column].as_str()));
    for row in rows {
        line(std::array::from_fn(|column| row[column].as_str()));
    }
    text
}

impl Report {
    /// Everything, for a terminal.
    pub(crate) fn text(&self) -> String {
        let sections = [Some(self.cases()), self.memory(), self.path_table(), self.scaling_tables()];
        sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    /// The machine and the cases.
    pub(crate) fn cases(&self) -> String {
        let Machine { processor, cores, memory_gib, system, rustc, date, load } = &self.machine;
        let path = simd();
        let mut text = format!(
            "{processor}, {cores} cores, {memory_gib:.0} GiB, {system}, {rustc}, {date}, code path {path}, load {load:.1} at the \
             beginning.\n\n"
        );
        let row = |figure: &Figure| {
            let (cost, goal) = (figure.cost, figure.case.goal());
            let met = cost.cpu_s <= goal.cpu_s && goal.wall_s.is_none_or(|wall_s| cost.wall_s <= wall_s);
            let limit = match goal.wall_s {
                None => seconds(goal.cpu_s),
                Some(wall_s) => format!("{}, wall {}", seconds(goal.cpu_s), seconds(wall_s)),
            };
            let floor = floor(figure.case, &self.rates);
            [
                format!("`{}`", figure.case.key()),
                figure.case.description().to_owned(),
                seconds(cost.cpu_s),
                seconds(cost.wall_s),
                seconds(figure.case.reference_cpu_s()),
                ratio(figure.case.reference_cpu_s() / cost.cpu_s),
                format!("{limit}: {}", if met { "met" } else { "MISSED" }),
                floor.map_or_else(|| "–".to_owned(), seconds),
                floor.map_or_else(|| "–".to_owned(), |floor| ratio(cost.cpu_s / floor)),
            ]
        };
        let header = [
            "case",
            "what",
            "CPU",
            "wall",
            "reference CPU",
            "times faster",
            "goal",
            "floor",
            "times the floor",
        ];
        text += &table(header, &self.figures.iter().map(row).collect::<Vec<_>>());
        text + &self.rates()
    }

    /// What the floors were computed from.
    fn rates(&self) -> String {
        let rates = &self.rates;
        format!(
            "\nOne core here: {:.1} GB/s copied in memory, {:.0} GB/s in the second-level cache (read and written bytes), \
             {:.1} million BLAKE3 compressions, {:.1} million ChaCha8 blocks, {:.2} GHz, {:.0} million butterflies of the scalar \
             field, {:.2} million affine additions in G1, {:.0} points of G1 decompressed and checked a second.\n",
            rates.memory_bytes / 1e9,
            rates.cache_bytes / 1e9,
            rates.hashes / 1e6,
            rates.keystream_blocks / 1e6,
            rates.cycles / 1e9,
            rates.butterflies / 1e6,
            rates.additions / 1e6,
            rates.points,
        )
    }

    /// Memory, where it was measured.
    pub(crate) fn memory(&self) -> Option<String> {
        let Memory { table, commitment } = self.memory.as_ref()?;
        let mb = |bytes: f64| format!("{:.1} MB ({:.1} MiB)", bytes / 1e6, bytes / f64::from(1 << 20));
        let Growth { first, later, .. } = table;
        let met = if *later <= 64e6 { "met" } else { "MISSED" };
        Some(format!(
            "One table in flight takes {} of a process, after eight tables {} (goal 64 MB, allocated once: {met}). Precomputed \
             multiples for commitments take {}; they and eight commitments on all cores at most {}.\n",
            mb(*first),
            mb(*later),
            mb(commitment.first_resident),
            mb(commitment.later),
        ))
    }

    /// CPU time of each case on each code path, where it was measured.
    pub(crate) fn path_table(&self) -> Option<String> {
        let paths = self.paths.as_ref()?;
        let on = |figure: &Figure, name: &str| {
            if name == simd() {
                return seconds(figure.cost.cpu_s);
            }
            let path = paths.iter().find(|path| path.path == name);
            let found = path.and_then(|path| path.cpu_s.iter().find(|(case, _)| *case == figure.case));
            found.map_or_else(|| "–".to_owned(), |(_, cpu_s)| seconds(*cpu_s))
        };
        let row = |figure: &Figure| {
            let key = format!("`{}`", figure.case.key());
            let reference = seconds(figure.case.reference_cpu_s());
            [key, on(figure, "scalar"), on(figure, "avx2"), on(figure, "avx512"), reference]
        };
        let rows: Vec<_> = self.figures.iter().map(row).collect();
        Some(table(["CPU time", "`scalar`", "`avx2`", "`avx512`", "reference"], &rows))
    }

    /// How costs grow, where it was measured.
    pub(crate) fn scaling_tables(&self) -> Option<String> {
        let Scaling { tables, audits } = self.scaling.as_ref()?;
        let tables = tables.iter().map(|at_once| {
            let per_second = format!("{:.1}", 1.0 / at_once.cost.wall_s);
            [
                at_once.threads.to_string(),
                seconds(at_once.cost.cpu_s),
                seconds(at_once.cost.wall_s),
                per_second,
            ]
        });
        let audits = audits.iter().map(|audit| {
            let sectors = audit.sectors as f64;
            [
                thousands(audit.sectors),
                seconds(audit.slot.cpu_s),
                seconds(audit.slot.wall_s),
                seconds(audit.slot.cpu_s / sectors),
                format!("{:.2}", audit.reads),
                format!(
                    "{:.1} kB{}",
                    audit.bytes / 1e3,
                    if audit.direct { ", direct" } else { ", page cache" }
                ),
            ]
        });
        let tables_header = ["tables at once", "CPU a table", "wall a table", "tables a second"];
        let audits_header =
            ["sectors", "CPU a slot", "wall a slot", "CPU a sector", "reads a sector", "bytes read a sector"];
        let tables = table(tables_header, &tables.collect::<Vec<_>>());
        Some(tables + "\n" + &table(audits_header, &audits.collect::<Vec<_>>()))
    }
}

impl Scaling {
    /// Charts by name of their files.
    pub(crate) fn charts(&self) -> [(&'static str, Chart); 2] {
        let tables = Chart {
            title: "One K=20 table, when so many are made at once",
            places_name: "tables at once, each on a thread of its own",
            places: self.tables.iter().map(|at_once| at_once.threads.to_string()).collect(),
            lines: vec![
                Line { name: "CPU", seconds: self.tables.iter().map(|at_once| at_once.cost.cpu_s).collect() },
                Line {
                    name: "wall, by number of tables",
                    seconds: self.tables.iter().map(|at_once| at_once.cost.wall_s).collect(),
                },
            ],
        };
        let audits = Chart {
            title: "One slot audited, all cores, sparse plots on disk",
            places_name: "sectors of 1,000 pieces",
            places: self.audits.iter().map(|audit| thousands(audit.sectors)).collect(),
            lines: vec![
                Line { name: "CPU", seconds: self.audits.iter().map(|audit| audit.slot.cpu_s).collect() },
                Line { name: "wall", seconds: self.audits.iter().map(|audit| audit.slot.wall_s).collect() },
            ],
        };
        [("benchmarks-tables.svg", tables), ("benchmarks-audit.svg", audits)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_three_places_that_count() {
        let expected = [
            (58.1, "58.1 s"),
            (1.0, "1 s"),
            (0.9996, "1000 ms"),
            (0.1234, "123 ms"),
            (0.03, "30 ms"),
            (8e-6, "8 µs"),
            (9.217e-6, "9.22 µs"),
            (100.0, "100 s"),
        ];
        for (value, text) in expected {
            assert_eq!(seconds(value), text);
        }
        assert_eq!(
            [1.0, 123.0, 1234.0, 60_000.0].map(|n| thousands(n as usize)),
            ["1", "123", "1,234", "60,000"]
        );
    }

    #[test]
    fn tables_are_straight() {
        let rows = [["table".to_owned(), "9 µs".to_owned()], ["x".to_owned(), "–".to_owned()]];
        let text = table(["case", "CPU"], &rows);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [16, 16, 16, 16], "{text}");
    }
}
