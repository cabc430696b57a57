//! Roles whose wall clock is wrong. A library that is loaded before the C library's shifts what a process sees; it reads by
//! how much from a file, so that a clock jumps while the process runs.

use crate::fleet::Fleet;
use crate::{AFTER_HANG, Drills, measure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Five minutes.
const OFF_S: i64 = 300;
/// How long the clocks are off.
const WRONG: Duration = Duration::from_secs(15);
/// Names the file with the seconds that a clock is off.
const VARIABLE: &str = "AUTONOMYS_DRILLS_CLOCK";

/// Clocks that can be set, one a host.
pub struct Clocks {
    library: PathBuf,
    directory: PathBuf,
}

impl Clocks {
    /// Builds the library in `directory`, with the C compiler that the workspace needs anyway.
    pub fn new(directory: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drills/clock.c");
        let library = directory.join("clock.so");
        let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source);
        let status = command.status().expect("the C compiler runs");
        assert!(status.success(), "{command:?}: {status}");
        Self { library, directory: directory.to_owned() }
    }

    fn file(&self, host: u8) -> PathBuf {
        self.directory.join(format!("clock-{host}"))
    }

    /// Has a process of `host` see the clock of that host.
    pub fn give(&self, host: u8, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env(VARIABLE, self.file(host));
    }

    /// From now on the clock of `host` is off by so much.
    pub fn set(&self, host: u8, seconds: i64) {
        // In one step: a file half written would be another time.
        let new = self.file(host).with_extension("new");
        std::fs::write(&new, seconds.to_string()).unwrap();
        std::fs::rename(new, self.file(host)).unwrap();
    }
}

/// The clocks of a controller's, the plotter's and the plot-client's host jump, one of them the other way.
fn jump(fleet: &mut Fleet) -> String {
    for (host, seconds) in [(2, OFF_S), (4, -OFF_S), (6, OFF_S)] {
        fleet.clocks.set(host, seconds);
    }
    sleep(WRONG);
    let now = measure::now();
    let newest = measure::slots(&fleet.log("plot-client-6")).into_values().next_back().expect("a slot");
    let ahead = (newest - now).rem_euclid(measure::DAY_S);
    assert!((OFF_S as f64 / 2.0..=OFF_S as f64).contains(&ahead), "the clock is off by {ahead} s");
    [2, 4, 6].into_iter().for_each(|host| fleet.clocks.set(host, 0));
    format!(
        "the clocks of 192.168.1.2 (controller) and .6 (plot-client) five minutes ahead, of .4 (caches, plot-server) five \
         minutes behind, for {} s",
        WRONG.as_secs()
    )
}

pub fn all(drills: &mut Drills) {
    drills.drill_with_clocks_off("clock_off", AFTER_HANG, OFF_S, jump);
}
