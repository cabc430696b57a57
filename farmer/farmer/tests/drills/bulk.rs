//! Caches in mid-fill, plot-servers in mid-sector and in mid-transfer, plot-clients in mid-write.

use crate::fleet::{Fleet, LONG, PIECES};
use crate::single::{DOWN, HANG};
use crate::{AFTER_CRASH, AFTER_HANG, Drills};

/// Sectors of a farm that is plotted during a drill.
const FARM_SECTORS: u16 = 5;
const CACHE: &str = "sharded-cache-5";
const FARM: &str = "plot-client-7";

pub fn all(drills: &mut Drills) {
    caches(drills);
    plotting(drills);
}

/// Waits until the cache has some of its pieces and not nearly all.
fn in_mid_fill(fleet: &mut Fleet, name: &str) -> i64 {
    let mut held = 0;
    fleet.wait("some pieces", LONG, |fleet| {
        held = fleet.counter(name, "pieces_cached");
        held > 0
    });
    assert!(held < PIECES, "{name} was filled at once");
    held
}

/// Takes away what the second sharded cache holds, and starts it again.
fn empty_cache(fleet: &mut Fleet) {
    if fleet.is_running(CACHE) {
        fleet.terminate(CACHE);
        std::fs::remove_dir_all(fleet.path(CACHE)).unwrap();
        fleet.restart(CACHE);
    } else {
        fleet.add_cache(CACHE, 5);
    }
}

fn caches(drills: &mut Drills) {
    drills.drill("cache_killed_filling", AFTER_CRASH, |fleet| {
        empty_cache(fleet);
        let held = in_mid_fill(fleet, CACHE);
        fleet.kill(CACHE);
        std::thread::sleep(DOWN);
        fleet.restart(CACHE);
        format!("a second sharded cache killed at {held} pieces, started again after {} s", DOWN.as_secs())
    });
    drills.drill("cache_cut_filling", AFTER_HANG, |fleet| {
        empty_cache(fleet);
        let held = in_mid_fill(fleet, CACHE);
        fleet.network.cut(5);
        std::thread::sleep(HANG);
        fleet.network.mend(5);
        format!("the same, emptied, cut off at {held} pieces for {} s", HANG.as_secs())
    });
    drills.drill("full_cache_hangs_filling", AFTER_HANG, |fleet| {
        fleet.terminate("full-cache");
        std::fs::remove_dir_all(fleet.path("full-cache")).unwrap();
        fleet.restart("full-cache");
        let held = in_mid_fill(fleet, "full-cache");
        fleet.suspend("full-cache");
        std::thread::sleep(HANG);
        fleet.resume("full-cache");
        format!("the full copy, emptied, hung at {held} pieces for {} s", HANG.as_secs())
    });
}

/// Has a new farm plotted; gives back when its first sector is there and others are on their way.
pub fn plot_anew(fleet: &mut Fleet) {
    if fleet.is_running(FARM) {
        fleet.terminate(FARM);
        std::fs::remove_dir_all(fleet.path(FARM)).unwrap();
        fleet.restart(FARM);
    } else {
        fleet.add_farm(FARM, 7, FARM_SECTORS);
    }
    fleet.wait("a sector of the new farm", LONG, |fleet| fleet.counter(FARM, "sectors_plotted") > 0);
    let plotted = fleet.counter(FARM, "sectors_plotted");
    assert!(plotted < i64::from(FARM_SECTORS), "the farm was plotted at once");
}

fn plotting(drills: &mut Drills) {
    drills.drill("plot_server_killed_plotting", AFTER_CRASH, |fleet| {
        plot_anew(fleet);
        fleet.kill("plot-server");
        std::thread::sleep(DOWN);
        fleet.restart("plot-server");
        format!("the plot-server killed in mid-sector, started again after {} s", DOWN.as_secs())
    });
    drills.drill("plot_server_hangs_plotting", AFTER_HANG, |fleet| {
        plot_anew(fleet);
        fleet.suspend("plot-server");
        std::thread::sleep(HANG);
        fleet.resume("plot-server");
        format!("the plot-server hung in mid-sector for {} s", HANG.as_secs())
    });
    drills.drill("transfer_cut", AFTER_HANG, |fleet| {
        plot_anew(fleet);
        fleet.network.cut(7);
        std::thread::sleep(HANG);
        fleet.network.mend(7);
        format!("the host of a farm that is plotted cut off for {} s", HANG.as_secs())
    });
    drills.drill("plot_client_killed_storing", AFTER_CRASH, |fleet| {
        plot_anew(fleet);
        let plotted = fleet.counter(FARM, "sectors_plotted");
        fleet.kill(FARM);
        std::thread::sleep(DOWN);
        fleet.restart(FARM);
        fleet.wait("the farm is open", LONG, |fleet| fleet.counter(FARM, "sectors_total") > 0);
        let found = fleet.counter(FARM, "sectors_plotted");
        assert!(found >= plotted, "{plotted} sectors were acknowledged, {found} are found");
        format!(
            "another plot-client killed while it stores sectors, started again after {} s",
            DOWN.as_secs()
        )
    });
}
