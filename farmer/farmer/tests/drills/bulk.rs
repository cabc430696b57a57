//! Caches in mid-fill, plot-servers in mid-sector and in mid-transfer, plot-clients in mid-write.

use crate::Drills;
use crate::fault::Fault::{self, Cut, Hung, Killed, Restarted};
use crate::fleet::{Fleet, LONG, PIECES};

/// Sectors of a farm that is plotted during a drill.
const FARM_SECTORS: u16 = 5;
const CACHE: &str = "sharded-cache-5";
const FULL_CACHE: &str = "full-cache";
const PLOT_SERVER: &str = "plot-server";
const FARM: &str = "plot-client-7";
const FARM_HOST: u8 = 7;
/// When so much of a sector of 4 MiB has been sent, it is neither at its beginning nor at its end.
const INTO_TRANSFER_BYTES: u64 = 2 << 20;

pub fn all(drills: &mut Drills) {
    filling(drills);
    plotting(drills);
    sending(drills);
    storing(drills);
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

/// Takes away what a cache holds, and starts it again; makes the second sharded cache if there is none.
fn empty_cache(fleet: &mut Fleet, name: &str) {
    if fleet.is_running(name) {
        fleet.terminate(name);
        std::fs::remove_dir_all(fleet.path(name)).unwrap();
        fleet.restart(name);
    } else {
        fleet.add_cache(name, 5, &[]);
    }
}

fn filling(drills: &mut Drills) {
    for (drill, name, fault) in [
        ("cache_killed_filling", CACHE, Killed),
        ("cache_hangs_filling", CACHE, Hung),
        ("cache_cut_filling", CACHE, Cut),
        ("cache_restarted_filling", CACHE, Restarted),
        ("full_cache_killed_filling", FULL_CACHE, Killed),
        ("full_cache_hangs_filling", FULL_CACHE, Hung),
        ("full_cache_cut_filling", FULL_CACHE, Cut),
        ("full_cache_restarted_filling", FULL_CACHE, Restarted),
    ] {
        drills.drill(drill, fault.may_miss(), |fleet| {
            empty_cache(fleet, name);
            let held = in_mid_fill(fleet, name);
            let what = match (name, fault) {
                (FULL_CACHE, Cut) => "the plotter's host 192.168.1.4, its full copy filling anew",
                (FULL_CACHE, _) => "the full copy, filling anew",
                _ => "a second sharded cache, filling anew",
            };
            fault.strike(fleet, &[name], &format!("{what}, at {held} of {PIECES} pieces"))
        });
    }
}

/// Has a new farm plotted; gives back when its first sector is there and others are on their way.
pub fn plot_anew(fleet: &mut Fleet) {
    if fleet.is_running(FARM) {
        fleet.terminate(FARM);
        std::fs::remove_dir_all(fleet.path(FARM)).unwrap();
        fleet.restart(FARM);
    } else {
        fleet.add_farm(FARM, FARM_HOST, FARM_SECTORS);
    }
    fleet.wait("a sector of the new farm", LONG, |fleet| fleet.counter(FARM, "sectors_plotted") > 0);
    let plotted = fleet.counter(FARM, "sectors_plotted");
    assert!(plotted < i64::from(FARM_SECTORS), "the farm was plotted at once");
}

fn plotting(drills: &mut Drills) {
    for (drill, fault) in [
        ("plot_server_killed_plotting", Killed),
        ("plot_server_hangs_plotting", Hung),
        ("plot_server_cut_plotting", Cut),
        ("plot_server_restarted_plotting", Restarted),
    ] {
        let what = match fault {
            Cut => "the plotter's host 192.168.1.4, its plot-server in mid-sector",
            _ => "the plot-server in mid-sector",
        };
        drills.drill(drill, fault.may_miss(), |fleet| {
            plot_anew(fleet);
            fault.strike(fleet, &[PLOT_SERVER], what)
        });
    }
}

/// Strikes while a sector is on its way over a slow link.
fn in_mid_transfer(fleet: &mut Fleet, fault: Fault, name: &str, what: &str) -> String {
    fleet.network.slow_down(FARM_HOST);
    plot_anew(fleet);
    let mut stored = (0, 0);
    fleet.wait("a sector on its way", LONG, |fleet| {
        let (plotted, received) = (fleet.counter(FARM, "sectors_plotted"), fleet.network.received(FARM_HOST));
        assert!(plotted < i64::from(FARM_SECTORS), "every sector came at once");
        if plotted != stored.0 {
            stored = (plotted, received);
        }
        fleet.counter(PLOT_SERVER, "spool_sectors") > 0 && received > stored.1 + INTO_TRANSFER_BYTES
    });
    let done = fault.strike(fleet, &[name], what);
    fleet.network.speed_up(FARM_HOST);
    done
}

fn sending(drills: &mut Drills) {
    for (drill, fault) in [
        ("plot_server_killed_sending", Killed),
        ("plot_server_hangs_sending", Hung),
        ("plot_server_restarted_sending", Restarted),
    ] {
        drills.drill(drill, fault.may_miss(), |fleet| {
            in_mid_transfer(fleet, fault, PLOT_SERVER, "the plot-server in mid-transfer")
        });
    }
    drills.drill("transfer_cut", Cut.may_miss(), |fleet| {
        in_mid_transfer(fleet, Cut, FARM, "the host that a sector is sent to, in mid-transfer")
    });
}

/// Another plot-client is struck while it writes what comes; the sectors that it had are found again.
fn storing(drills: &mut Drills) {
    for (drill, fault) in [
        ("plot_client_killed_storing", Killed),
        ("plot_client_hangs_storing", Hung),
        ("plot_client_restarted_storing", Restarted),
    ] {
        drills.drill(drill, fault.may_miss(), |fleet| {
            let done = in_mid_transfer(fleet, fault, FARM, "another plot-client in mid-write");
            fleet.wait("the farm is open", LONG, |fleet| fleet.counter(FARM, "sectors_total") > 0);
            assert!(fleet.counter(FARM, "sectors_plotted") > 0, "the acknowledged sector is gone");
            done
        });
    }
}
