//! A role's metrics: what it counts, under which names it shows that, and the reference of all of them in the book.

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::sync::Arc;

#[cfg(test)]
mod reference;

/// Metrics that mean what one of the network's reference farmer means, with its name: what watches that goes on working.
const NAMES_OF_REFERENCE: [(&str, &str); 7] = [
    ("audit_seconds", "subspace_farmer_farm_auditing_time_seconds"),
    ("pieces_cached", "subspace_farmer_farmer_cache_piece_cache_capacity_used_Pieces"),
    ("sector_downloading_seconds", "subspace_farmer_plotter_sector_downloading_time_seconds"),
    ("sector_encoding_seconds", "subspace_farmer_plotter_sector_encoding_time_seconds"),
    ("sectors_encoded", "subspace_farmer_plotter_sector_encoded_counter_sectors"),
    ("sectors_failed", "subspace_farmer_plotter_sector_plotting_error_counter_sectors"),
    ("slots_skipped", "subspace_farmer_farm_skipped_slots"),
];

/// End of the names of histograms.
const SECONDS: &str = "_seconds";

/// The name in OpenMetrics of the metric that `/status` calls `name`, without the suffixes of its type.
fn exposed_name(name: &str) -> String {
    let reference = NAMES_OF_REFERENCE.iter().find(|(ours, _)| *ours == name);
    reference.map_or_else(|| format!("autonomys_{name}"), |(_, reference)| (*reference).to_owned())
}

type Label = [(&'static str, String); 1];

/// Counts events by a label, for example rejections by reason.
#[derive(Clone)]
pub struct LabelledCounter {
    label: &'static str,
    family: Family<Label, Counter>,
    seen: Arc<RwLock<BTreeMap<String, Counter>>>,
}

impl LabelledCounter {
    /// Counts one event.
    ///
    /// `value` must come from a closed set of names: each is kept for ever.
    pub fn inc(&self, value: &str) {
        self.inc_by(value, 1);
    }

    /// Counts some events, as [`Self::inc`] does one.
    pub fn inc_by(&self, value: &str, events: u64) {
        if let Some(counter) = self.seen.read().get(value) {
            counter.inc_by(events);
            return;
        }
        let counter = self.family.get_or_create(&[(self.label, value.to_owned())]).clone();
        counter.inc_by(events);
        self.seen.write().insert(value.to_owned(), counter);
    }
}

/// A metric that `/status` shows.
enum Count {
    Counter(Counter),
    Labelled(LabelledCounter),
    Gauge(Gauge),
}

/// The metrics of one role.
#[derive(Default)]
pub(crate) struct Metrics {
    registry: Registry,
    counts: Vec<(&'static str, Count)>,
}

impl Metrics {
    pub(crate) fn counter(&mut self, name: &'static str, help: &str) -> Counter {
        let counter = Counter::default();
        self.registry.register(exposed_name(name), help, counter.clone());
        self.counts.push((name, Count::Counter(counter.clone())));
        counter
    }

    pub(crate) fn labelled_counter(
        &mut self,
        name: &'static str,
        label: &'static str,
        help: &str,
    ) -> LabelledCounter {
        let counter = LabelledCounter { label, family: Family::default(), seen: Arc::default() };
        self.registry.register(exposed_name(name), help, counter.family.clone());
        self.counts.push((name, Count::Labelled(counter.clone())));
        counter
    }

    pub(crate) fn gauge(&mut self, name: &'static str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.registry.register(exposed_name(name), help, gauge.clone());
        self.counts.push((name, Count::Gauge(gauge.clone())));
        gauge
    }

    pub(crate) fn histogram_seconds(&mut self, name: &'static str, help: &str) -> Histogram {
        let histogram = Histogram::new(exponential_buckets(0.0001, 2.0, 23));
        let exposed = exposed_name(name);
        let stem = exposed.strip_suffix(SECONDS).expect("a histogram of seconds is called one");
        self.registry.register_with_unit(stem, help, Unit::Seconds, histogram.clone());
        histogram
    }

    /// Counters and gauges by name; those with a label as `name{label}`.
    pub(crate) fn counts(&self) -> BTreeMap<String, i64> {
        let mut counts = BTreeMap::new();
        for (name, count) in &self.counts {
            match count {
                Count::Counter(counter) => {
                    counts.insert((*name).to_owned(), counter.get().cast_signed());
                }
                Count::Gauge(gauge) => {
                    counts.insert((*name).to_owned(), gauge.get());
                }
                Count::Labelled(counter) => {
                    counts.extend(
                        counter.seen.read().iter().map(|(value, counter)| {
                            (format!("{name}{{{value}}}"), counter.get().cast_signed())
                        }),
                    )
                }
            }
        }
        counts
    }

    /// Has [`Self::text`] show also what has no value of its label yet.
    #[cfg(test)]
    pub(crate) fn show_labels(&self) {
        for (_, count) in &self.counts {
            if let Count::Labelled(counter) = count {
                counter.inc_by("", 0);
            }
        }
    }

    /// Every metric in the form of OpenMetrics.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string does not fail");
        text
    }
}
