//! What a drill does to units of the fleet, after which they are at work again.

use crate::fleet::Fleet;
use crate::{AFTER_CRASH, AFTER_HANG};
use std::thread::sleep;
use std::time::Duration;

/// How long something hangs or is cut off.
const HANG: Duration = Duration::from_secs(15);
/// How long something that was killed is down.
const DOWN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// kill -9, and started again later.
    Killed,
    /// SIGSTOP, and SIGCONT later.
    Hung,
    /// The links of the hosts down, with all that runs there, and up later.
    Cut,
    /// SIGTERM, and started again at once.
    Restarted,
}

impl Fault {
    /// Slots that may be missed.
    pub fn may_miss(self) -> usize {
        match self {
            Self::Killed | Self::Restarted => AFTER_CRASH,
            Self::Hung | Self::Cut => AFTER_HANG,
        }
    }

    /// Does it to all of the units at once; says what was done to `what`.
    pub fn strike(self, fleet: &mut Fleet, units: &[&str], what: &str) -> String {
        match self {
            Self::Killed => {
                units.iter().for_each(|name| fleet.kill(name));
                sleep(DOWN);
                units.iter().for_each(|name| fleet.restart(name));
                format!("{what}: killed, started again after {} s", DOWN.as_secs())
            }
            Self::Hung => {
                units.iter().for_each(|name| fleet.suspend(name));
                sleep(HANG);
                units.iter().for_each(|name| fleet.resume(name));
                format!("{what}: hung for {} s", HANG.as_secs())
            }
            Self::Cut => {
                let hosts: Vec<_> = units.iter().map(|name| fleet.host(name)).collect();
                hosts.iter().for_each(|host| fleet.network.cut(*host));
                sleep(HANG);
                hosts.iter().for_each(|host| fleet.network.mend(*host));
                format!("{what}: cut off for {} s", HANG.as_secs())
            }
            Self::Restarted => {
                units.iter().for_each(|name| fleet.terminate(name));
                units.iter().for_each(|name| fleet.restart(name));
                format!("{what}: stopped and started again at once")
            }
        }
    }
}
