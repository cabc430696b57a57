//! What utilities print: results on standard output, progress on a terminal.

use crate::roles::Error;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// Prints a result.
///
/// # Errors
/// When standard output is closed.
pub fn print(text: &str) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{}", text.trim_end())
        .map_err(|error| Error::io("write to", "standard output".as_ref(), error))
}

/// Prints JSON if asked to, else the text.
///
/// # Errors
/// When standard output is closed.
pub fn print_either(json: bool, value: &Value, text: &str) -> Result<(), Error> {
    if json { print(&value.to_string()) } else { print(text) }
}

/// A bar on standard error, where that is a terminal; else nothing.
pub fn progress_bar(length: u64, unit: &str) -> ProgressBar {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left {{msg}}");
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// So many bytes in words: `1.05 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{value:.2} {unit}") }
}

/// A rate; 0 where no time has passed.
pub fn per_second(count: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count / time.as_secs_f64() }
}

/// Rounded to three digits behind the point, for JSON.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_048_672), "1.05 MB");
        assert_eq!(bytes(u64::MAX), "18.45 EB");
        assert!(per_second(5.0, Duration::ZERO) < f64::EPSILON);
        assert!((per_second(5.0, Duration::from_millis(500)) - 10.0).abs() < 1e-9);
        assert!((rounded(1.234_56) - 1.235).abs() < 1e-9);
    }
}
