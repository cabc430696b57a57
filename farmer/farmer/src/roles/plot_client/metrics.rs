//! What a plot-client counts.

use crate::metrics::LabelledCounter;
use crate::status::Status;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Counters of a plot-client.
#[derive(Clone)]
pub struct Metrics {
    /// Slots, each once.
    pub slots_seen: Counter,
    /// Audits that were left out because the farm was still at an earlier one, by farm.
    pub slots_skipped: LabelledCounter,
    /// Sectors that an audit did not reach in time, by farm.
    pub sectors_left_out: LabelledCounter,
    /// Audits of a farm for a slot.
    pub audits: Counter,
    /// Sectors that could not be read by an audit.
    pub audit_errors: Counter,
    /// Winning chunks that are encoded.
    pub candidates: Counter,
    /// Proofs asked of proof-servers.
    pub proofs_requested: Counter,
    /// Proofs asked of another proof-server because the first was late, hung or busy.
    pub proofs_asked_again: Counter,
    /// Proofs made on this host.
    pub proofs_local: Counter,
    /// Proofs that were not there in time.
    pub proofs_late: Counter,
    /// Proofs that failed, by reason.
    pub proofs_failed: LabelledCounter,
    /// Solutions handed to a controller.
    pub solutions_sent: Counter,
    /// Solutions that the node took.
    pub solutions_accepted: Counter,
    /// Solutions that came to nothing, by reason.
    pub solutions_rejected: LabelledCounter,
    /// Reward signatures given.
    pub reward_signatures: Counter,
    /// Sectors plotted in all farms.
    pub sectors_plotted: Gauge,
    /// Sectors of all farms.
    pub sectors_total: Gauge,
    /// Sectors stored since the start.
    pub sectors_stored: Counter,
    /// Of those, sectors plotted anew at expiry.
    pub sectors_replotted: Counter,
    /// Sectors that have expired or do with the next segment, and are not plotted anew yet.
    pub sectors_expiring: Gauge,
    /// Sectors found damaged.
    pub sectors_lost: Counter,
    /// Sectors whose checksum was compared.
    pub sectors_scrubbed: Counter,
    /// Seconds of an audit.
    pub audit_seconds: Histogram,
    /// Seconds from a slot to its solution.
    pub solution_seconds: Histogram,
}

impl Metrics {
    /// Registers them.
    pub fn new(status: &Status) -> Self {
        Self {
            slots_seen: status.counter("slots_seen", "Slots, each once"),
            slots_skipped: status.labelled_counter(
                "slots_skipped",
                "farm_id",
                "Audits left out because an earlier one was running",
            ),
            sectors_left_out: status.labelled_counter(
                "sectors_left_out",
                "farm_id",
                "Sectors that an audit did not reach in time",
            ),
            audits: status.counter("audits", "Audits of a farm for a slot"),
            audit_errors: status.counter("audit_errors", "Sectors that an audit could not read"),
            candidates: status.counter("candidates", "Winning chunks that are encoded"),
            proofs_requested: status.counter("proofs_requested", "Proofs asked of proof-servers"),
            proofs_asked_again: status.counter(
                "proofs_asked_again",
                "Proofs asked of another proof-server because the first was late, hung or busy",
            ),
            proofs_local: status.counter("proofs_local", "Proofs made on this host"),
            proofs_late: status.counter("proofs_late", "Proofs that were not there in time"),
            proofs_failed: status.labelled_counter("proofs_failed", "reason", "Proofs that failed"),
            solutions_sent: status.counter("solutions_sent", "Solutions handed to a controller"),
            solutions_accepted: status.counter("solutions_accepted", "Solutions that the node took"),
            solutions_rejected: status.labelled_counter(
                "solutions_rejected",
                "reason",
                "Solutions that came to nothing",
            ),
            reward_signatures: status.counter("reward_signatures", "Reward signatures given"),
            sectors_plotted: status.gauge("sectors_plotted", "Sectors plotted in all farms"),
            sectors_total: status.gauge("sectors_total", "Sectors of all farms"),
            sectors_stored: status.counter("sectors_stored", "Sectors stored since the start"),
            sectors_replotted: status.counter("sectors_replotted", "Sectors plotted anew at expiry"),
            sectors_expiring: status.gauge(
                "sectors_expiring",
                "Sectors that have expired or do with the next segment, still to be plotted anew",
            ),
            sectors_lost: status.counter("sectors_lost", "Sectors found damaged"),
            sectors_scrubbed: status.counter("sectors_scrubbed", "Sectors whose checksum was compared"),
            audit_seconds: status.histogram_seconds("audit_seconds", "Time of an audit"),
            solution_seconds: status
                .histogram_seconds("solution_seconds", "Time from a slot to its solution"),
        }
    }
}
