//! As many batches in flight as a card has memory for.

use super::{CudaDevice, CudaOptions};
use crate::check::try_out;
use crate::{DeviceEncoders, KernelError, RecordPipeline, Sizes};

/// Records of a batch: so many fill the multiprocessors of a large card, whose single records end in idle tails.
const BATCH_RECORDS: usize = 8;
/// Batches in flight at most: one that is computed, one that comes, one that goes.
const BATCHES_MAX: usize = 3;
/// Part of a card's free memory, in percent, that may be taken.
const MEMORY_PERCENT: usize = 80;

/// Batches in flight, and records in each, that fit into so much free memory.
fn fitting(free_bytes: usize, wanted_records: Option<usize>) -> (usize, usize) {
    let room = free_bytes / 100 * MEMORY_PERCENT / Sizes::NETWORK.record_bytes();
    let records = wanted_records.unwrap_or(BATCHES_MAX * BATCH_RECORDS).min(room).max(1);
    let batches = records.div_ceil(BATCH_RECORDS).min(BATCHES_MAX);
    (batches, records / batches)
}

impl CudaDevice {
    /// Opens a card and starts its encoders, with `records` in flight (`GPU_CONCURRENCY`), by default 24, and not more than free
    /// memory has room for. When memory runs out all the same, batches are halved; one record is the smallest. A first record is
    /// compared with the CPU's.
    ///
    /// # Errors
    /// As [`Self::open`] and [`try_out`], and [`KernelError::OutOfMemory`] when not even one record fits.
    pub fn encoders(options: &CudaOptions, records: Option<usize>) -> Result<DeviceEncoders, KernelError> {
        let device = Self::open(options)?;
        let (free, _) = device.memory()?;
        let (batches, mut room) = fitting(free, records);
        loop {
            match pipelines(&device, batches, room) {
                Err(KernelError::OutOfMemory { .. }) if room > 1 => {
                    room /= 2;
                    tracing::warn!(device = device.context().name, room, "Memory is short: smaller batches");
                }
                pipelines => {
                    let encoders = DeviceEncoders::start(pipelines?)?;
                    try_out(&encoders, "kernels at the start")?;
                    return Ok(encoders);
                }
            }
        }
    }
}

fn pipelines(
    device: &CudaDevice,
    batches: usize,
    room: usize,
) -> Result<Vec<RecordPipeline<CudaDevice>>, KernelError> {
    (0..batches).map(|_| RecordPipeline::new(device.another_stream()?, room)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fit_into_the_memory_of_the_card() {
        let gib = 1 << 30;
        for (free, wanted, expected) in [
            (140 * gib, None, (3, 8)),
            (4 * gib, None, (3, 7)),
            (2 * gib, None, (2, 5)),
            (gib, None, (1, 5)),
            (0, None, (1, 1)),
            (140 * gib, Some(64), (3, 21)),
            (10 * gib, Some(14), (2, 7)),
            (gib, Some(100), (1, 5)),
            (140 * gib, Some(0), (1, 1)),
        ] {
            assert_eq!(fitting(free, wanted), expected, "{free} bytes free, {wanted:?} wanted");
        }
    }

    #[test]
    fn a_record_in_flight_takes_what_the_documentation_says() {
        assert_eq!(Sizes::NETWORK.record_bytes() / 1_000_000, 158);
    }
}
