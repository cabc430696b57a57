//! What a role says of itself: its state, its counters, its metrics; over HTTP here, over NATS by the roles.

use crate::metrics::{LabelledCounter, Metrics};
use crate::shutdown::Shutdown;
use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Json, Router, routing::get};
use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Version of the build: of the package, and what distinguishes builds of it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// State of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not at work: waits for something, which it names.
    Waiting(String),
    /// At work.
    Ready,
    /// On its way out.
    Stopping,
}

/// One report of a role's status; the body of `/status`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Role.
    pub role: &'static str,
    /// Instance.
    pub instance: String,
    /// Build.
    pub version: &'static str,
    /// `waiting`, `ready` or `stopping`.
    pub state: &'static str,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Counters and gauges by name; those with a label as `name{label}`.
    pub counters: BTreeMap<String, i64>,
}

struct Inner {
    role: &'static str,
    instance: String,
    started: Instant,
    state: RwLock<State>,
    metrics: RwLock<Metrics>,
}

/// Status of one role; clones share it.
#[derive(Clone)]
pub struct Status(Arc<Inner>);

impl Status {
    /// Status of `role`, waiting.
    pub fn new(role: &'static str, instance: String) -> Self {
        Self(Arc::new(Inner {
            role,
            instance,
            started: Instant::now(),
            state: RwLock::new(State::Waiting("start".into())),
            metrics: RwLock::default(),
        }))
    }

    /// Sets the state, and logs when it changes.
    pub fn set(&self, state: State) {
        let mut current = self.0.state.write();
        if *current != state {
            match &state {
                State::Waiting(what) => tracing::info!("Waiting for {what}"),
                State::Ready => tracing::info!(role = self.0.role, "Ready"),
                State::Stopping => tracing::debug!("Stopping"),
            }
            *current = state;
        }
    }

    /// Whether the role is at work.
    pub fn is_ready(&self) -> bool {
        *self.0.state.read() == State::Ready
    }

    /// Registers a counter: `name` is a plural noun, without `_total`.
    pub fn counter(&self, name: &'static str, help: &str) -> Counter {
        self.0.metrics.write().counter(name, help)
    }

    /// Registers a counter with one label.
    pub fn labelled_counter(&self, name: &'static str, label: &'static str, help: &str) -> LabelledCounter {
        self.0.metrics.write().labelled_counter(name, label, help)
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &'static str, help: &str) -> Gauge {
        self.0.metrics.write().gauge(name, help)
    }

    /// Registers a histogram of seconds, from a tenth of a millisecond to about seven minutes; `name` ends in `_seconds`.
    pub fn histogram_seconds(&self, name: &'static str, help: &str) -> Histogram {
        self.0.metrics.write().histogram_seconds(name, help)
    }

    /// The report as it stands.
    pub fn report(&self) -> Report {
        let (state, waiting_for) = match &*self.0.state.read() {
            State::Waiting(what) => ("waiting", Some(what.clone())),
            State::Ready => ("ready", None),
            State::Stopping => ("stopping", None),
        };
        Report {
            role: self.0.role,
            instance: self.0.instance.clone(),
            version: BUILD,
            state,
            waiting_for,
            uptime_s: self.0.started.elapsed().as_secs(),
            counters: self.0.metrics.read().counts(),
        }
    }

    /// Every metric of this role, those with a label that has no value yet among them.
    #[cfg(test)]
    pub(crate) fn all_metrics_text(&self) -> String {
        self.0.metrics.read().show_labels();
        self.metrics_text()
    }

    /// Every metric of this role in the form of OpenMetrics.
    fn metrics_text(&self) -> String {
        self.0.metrics.read().text()
    }

    /// Binds `address` and serves `/ready`, `/status` and `/metrics` there until the shutdown.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn serve(&self, address: SocketAddr, shutdown: Shutdown) -> std::io::Result<()> {
        let router = Router::new()
            .route("/ready", get(ready))
            .route("/status", get(|Shared(status): Shared<Self>| async move { Json(status.report()) }))
            .route("/metrics", get(metrics))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind(address).await?;
        tokio::spawn(async move {
            let stop = async move { shutdown.triggered().await };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop).await {
                tracing::warn!(%error, "The status server stopped");
            }
        });
        Ok(())
    }
}

async fn ready(Shared(status): Shared<Status>) -> impl IntoResponse {
    let code = if status.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(status.report()))
}

async fn metrics(Shared(status): Shared<Status>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], status.metrics_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_and_metrics_show_what_was_counted() {
        let status = Status::new("controller", "one".into());
        let slots = status.counter("slots_seen", "Slots seen");
        let rejected = status.labelled_counter("solutions_rejected", "reason", "Solutions rejected");
        status.gauge("pieces_cached", "Pieces held").set(7);
        slots.inc();
        rejected.inc("InvalidPiece");
        rejected.inc("InvalidPiece");
        assert_eq!(status.report().state, "waiting");
        status.set(State::Ready);

        let report = status.report();
        assert_eq!(report.state, "ready");
        assert_eq!(report.counters["slots_seen"], 1);
        assert_eq!(report.counters["pieces_cached"], 7);
        assert_eq!(report.counters["solutions_rejected{InvalidPiece}"], 2);
        let text = status.metrics_text();
        assert!(text.contains("autonomys_slots_seen_total 1"), "{text}");
        assert!(text.contains("autonomys_solutions_rejected_total{reason=\"InvalidPiece\"} 2"), "{text}");
    }
}
