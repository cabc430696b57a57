//! Shutdown as a type: one token that every task of a role watches.

use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells tasks to end. Clones watch the same event.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that SIGTERM or SIGINT asks for; a second signal ends the process at once.
    ///
    /// # Panics
    /// Outside a tokio runtime, or when the process may not handle signals.
    pub fn on_signals() -> Self {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate()).expect("a process may handle SIGTERM");
        let mut interrupt = signal(SignalKind::interrupt()).expect("a process may handle SIGINT");
        let token = shutdown.0.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if token.is_cancelled() {
                    tracing::warn!("{name} again: leaving at once");
                    std::process::exit(130);
                }
                tracing::info!("{name}: shutting down");
                token.cancel();
            }
        });
        shutdown
    }

    /// Asks for the shutdown.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether it was asked for.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes when the shutdown is asked for.
    pub async fn triggered(&self) {
        self.0.cancelled().await;
    }

    /// The future's result, or none when the shutdown comes first.
    pub async fn unless_triggered<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.run_until_cancelled(future).await
    }

    /// The token itself, for libraries that take one.
    pub fn token(&self) -> &CancellationToken {
        &self.0
    }
}
