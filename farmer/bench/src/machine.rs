//! What this machine is, and the rates that bound every case on it.

use crate::measure::cpu_seconds;
use anyhow::{Context, Result};
use archiving::inspect::{self, PointAdditions};
use archiving::{Commitment, Scalar, fft};
use chacha20::ChaCha8;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use proof_of_space::Simd;
use proof_of_space::inspect::hash_blocks;
use std::fs::read_to_string;
use std::hint::black_box;
use std::process::Command;

/// What a reader has to know to compare figures.
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) system: String,
    pub(crate) rustc: String,
    /// Year, month, day.
    pub(crate) date: String,
    /// Runnable processes of the minute before the first case: above zero, others had a share of the machine.
    pub(crate) load: f64,
}

impl Machine {
    pub(crate) fn describe() -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let of_processor = |key| field("/proc/cpuinfo", key);
        let mut processor = of_processor("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        // Clouds hide names, but not these numbers.
        if let (Some(family), Some(model)) = (of_processor("cpu family"), of_processor("model")) {
            processor += &format!(" (family {family}, model {model})");
        }
        let load = read_to_string("/proc/loadavg")?;
        Ok(Self {
            processor,
            cores,
            memory_gib: kibibytes("/proc/meminfo", "MemTotal")? / f64::from(1 << 20),
            system: field("/etc/os-release", "PRETTY_NAME")
                .unwrap_or_else(|| std::env::consts::OS.to_owned()),
            rustc: output("rustc", &["--version"]).unwrap_or_else(|| "rustc unknown".to_owned()),
            date: output("date", &["--utc", "+%Y-%m-%d"]).unwrap_or_default(),
            load: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .context("/proc/loadavg has no load")?,
        })
    }
}

/// The value of `key` in a file of lines `key: value` or `key=value`.
fn field(path: &str, key: &str) -> Option<String> {
    let text = read_to_string(path).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once([':', '=']));
    pairs.find_map(|(name, value)| (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned()))
}

/// A number of kB in such a file.
pub(crate) fn kibibytes(path: &str, key: &str) -> Result<f64> {
    let value = field(path, key).with_context(|| format!("{path} has no {key}"))?;
    value
        .trim_end_matches(" kB")
        .parse()
        .with_context(|| format!("{path}: {key} is {value}, not a number of kB"))
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What one thread can do in a second of its CPU, each measured alone, with data that stays in its caches unless said
/// otherwise.
pub(crate) struct Rates {
    /// Bytes read and written by a copy between buffers far larger than the last cache.
    pub(crate) memory_bytes: f64,
    /// Bytes read and written by a copy inside the second-level cache.
    pub(crate) cache_bytes: f64,
    /// BLAKE3 compressions, as many at once as there are lanes.
    pub(crate) hashes: f64,
    /// ChaCha8 blocks of 64 bytes.
    pub(crate) keystream_blocks: f64,
    /// Cycles of the clock.
    pub(crate) cycles: f64,
    /// Butterflies of a transform over the scalar field: a product, a sum and a difference.
    pub(crate) butterflies: f64,
    /// Affine additions of points of G1 that share their inversions.
    pub(crate) additions: f64,
    /// Points of G1 decompressed and checked for their group.
    pub(crate) points: f64,
}

impl Rates {
    pub(crate) fn measure(quick: bool) -> Self {
        eprintln!("measuring this machine's memory, hashes and arithmetic");
        let seconds = if quick { 0.05 } else { 0.3 };
        let simd = Simd::best();
        Self {
            memory_bytes: copy(seconds, 256 << 20),
            cache_bytes: copy(seconds, 128 << 10),
            hashes: fastest(seconds, 1 << 16, || hash_blocks(simd, 1 << 16)),
            keystream_blocks: keystream(seconds),
            cycles: cycles(seconds),
            butterflies: butterflies(seconds),
            additions: additions(seconds),
            points: points(seconds),
        }
    }
}

/// Units a second at the fastest of some calls in `seconds`, each of which does `units`: others' disturbances are no limit
/// of the machine.
fn fastest<T>(seconds: f64, units: usize, mut work: impl FnMut() -> T) -> f64 {
    let begin = cpu_seconds();
    let (mut now, mut best) = (begin, 0.0);
    while now - begin < seconds || best == 0.0 {
        black_box(work());
        let end = cpu_seconds();
        best = f64::max(best, units as f64 / (end - now));
        now = end;
    }
    best
}

fn copy(seconds: f64, size: usize) -> f64 {
    let (source, mut target) = (vec![1u8; size], vec![2u8; size]);
    // Enough for the clock to see.
    let times = (1 << 24) / size.min(1 << 24);
    fastest(seconds, 2 * size * times, || {
        for _ in 0..times {
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
        }
    })
}

fn keystream(seconds: f64) -> f64 {
    let mut cipher = ChaCha8::new(&[7; 32].into(), &[0; 12].into());
    // As the first pass does: some kilobytes at a time.
    let mut bytes = [0; 5120];
    fastest(seconds, 80 * 200, || {
        // A keystream has an end.
        cipher = ChaCha8::new(&[7; 32].into(), &[0; 12].into());
        (0..200).for_each(|_| cipher.apply_keystream(black_box(&mut bytes)));
    })
}

fn cycles(seconds: f64) -> f64 {
    let steps = 1 << 18;
    fastest(seconds, 6 * steps, || {
        // Each step is six operations of one cycle, none of which can begin before the one before it.
        let step = |mut x: u64, _| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^ (x << 17)
        };
        (0..steps).fold(black_box(88_172_645_463_325_252), step)
    })
}

fn butterflies(seconds: f64) -> f64 {
    const LOG: usize = 9;
    let mut values: Vec<Scalar> = (0..1 << LOG).map(|i| Scalar::from(i).pow(3)).collect();
    let units = (100 * LOG) << (LOG - 1);
    fastest(seconds, units, || {
        (0..100).for_each(|_| fft::fft(black_box(&mut values)).expect("a power of two"));
    })
}

fn additions(seconds: f64) -> f64 {
    let points = PointAdditions::new();
    fastest(seconds, PointAdditions::COUNT, || points.run())
}

fn points(seconds: f64) -> f64 {
    let bytes = inspect::generator();
    fastest(seconds, 50, || {
        for _ in 0..50 {
            black_box(Commitment::from_bytes_strict(black_box(&bytes)))
                .expect("the generator is a point of the group");
        }
    })
}
