//! The kernels on the CPU shim, each against its twin: small K with every use of shared memory checked and threads in several
//! orders, one record of the network's K whole.
#![allow(clippy::unwrap_used)]

#[path = "shim/chunks.rs"]
mod chunks;
#[path = "shim/faults.rs"]
mod faults;
#[path = "shim/oracle.rs"]
mod oracle;
#[path = "shim/record.rs"]
mod record;
#[path = "shim/tables.rs"]
mod tables;

use kernels::RecordPipeline;
use kernels::shim::ShimDevice;
use primitives::sectors::PosSeed;

/// The small K.
const SMALL_K: u32 = 16;

/// Orders of threads: the plainest, and some others.
const SCHEDULES: [u64; 3] = [0, 1, 0x5eed];

fn pos_seed(label: &str) -> PosSeed {
    PosSeed(vectors::xof(label, 32).try_into().unwrap())
}

fn small(schedule: u64, room: usize) -> RecordPipeline<ShimDevice> {
    RecordPipeline::new(ShimDevice::new(SMALL_K, schedule), room).unwrap()
}
