//! What a plot-server counts.

use crate::roles::piece_source::FetchMetrics;
use crate::status::Status;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// What a GPU did, and what it did not.
#[derive(Clone)]
pub struct DeviceMetrics {
    /// Records encoded on the GPU.
    pub encoded: Counter,
    /// Records that the CPU encoded for it.
    pub left_to_cpu: Counter,
    /// Failures of the GPU.
    pub failures: Counter,
}

/// Counters of a plot-server.
#[derive(Clone)]
pub struct Metrics {
    /// Sectors encoded and spooled.
    pub sectors_encoded: Counter,
    /// Sectors that could not be made.
    pub sectors_failed: Counter,
    /// Sectors that plot-clients have stored.
    pub sectors_delivered: Counter,
    /// Records encoded.
    pub records_encoded: Counter,
    /// Of them, what the GPU did.
    pub device: DeviceMetrics,
    /// Pieces fetched.
    pub pieces_downloaded: Counter,
    /// How they were fetched.
    pub fetching: FetchMetrics,
    /// Sectors in the spool.
    pub spool_sectors: Gauge,
    /// Seconds from the first record of a sector to the last.
    pub encoding_seconds: Histogram,
    /// Seconds from the first piece of a sector to the last.
    pub downloading_seconds: Histogram,
}

impl Metrics {
    /// Registers them.
    pub fn new(status: &Status) -> Self {
        Self {
            sectors_encoded: status.counter("sectors_encoded", "Sectors encoded and spooled"),
            sectors_failed: status.counter("sectors_failed", "Sectors that could not be made"),
            sectors_delivered: status.counter("sectors_delivered", "Sectors that plot-clients have stored"),
            records_encoded: status.counter("records_encoded", "Records encoded"),
            device: DeviceMetrics {
                encoded: status.counter("gpu_records", "Records encoded on the GPU"),
                left_to_cpu: status.counter(
                    "gpu_records_left_to_cpu",
                    "Records meant for the GPU that the CPU encoded: they did not fit its buffers, or it had failed",
                ),
                failures: status.counter("gpu_errors", "Failures of the GPU; a batch's worker ends with one"),
            },
            pieces_downloaded: status.counter("pieces_downloaded", "Pieces fetched"),
            fetching: FetchMetrics::new(status),
            spool_sectors: status.gauge("spool_sectors", "Finished sectors in the spool"),
            encoding_seconds: status.histogram_seconds("sector_encoding_seconds", "Time to encode a sector"),
            downloading_seconds: status
                .histogram_seconds("sector_downloading_seconds", "Time to fetch the pieces of a sector"),
        }
    }
}
