//! A host as the steps of a run see it: its supervisord, what is told of it, how patient to be.

use super::Options;
use super::executor::Done;
use crate::error::{Error, Result};
use crate::events::{Event, Sink};
use crate::layout::Layout;
use crate::supervisor::Supervisor;
use crate::transport::{Command, Transport};
use std::time::Duration;
use tokio::time::Instant;

/// How long supervisord may take to answer after its start.
const SUPERVISORD_START: Duration = Duration::from_secs(20);

/// A host that is worked on.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    /// Its name.
    pub(super) host: &'a str,
    pub(super) layout: &'a Layout,
    pub(super) transport: &'a dyn Transport,
    pub(super) options: &'a Options,
    pub(super) sink: &'a dyn Sink,
}

impl<'a> Site<'a> {
    /// A deadline, stretched by the caller's patience.
    pub(super) fn patient(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.options.patience.clamp(0.01, 1000.0))
    }

    pub(super) fn supervisor(&self) -> Supervisor<'a> {
        Supervisor::new(self.transport, self.layout.socket())
    }

    /// Tells how far the step with this identity is.
    pub(super) fn progress(&self, step: &str, message: impl Into<String>) {
        let (host, step) = (self.host.to_string(), step.to_string());
        self.sink.event(&Event::StepProgress { host, step, message: message.into() });
    }

    /// Starts supervisord and waits until it answers.
    pub(super) async fn start_supervisor(&self) -> Result<Done> {
        // The short directory for long prefixes is not part of the prefix; both are ours alone.
        self.transport.make_directory(&self.layout.run(), 0o700).await?;
        let supervisord = self.layout.bin().join("supervisord");
        let command = Command::new(&supervisord)
            .arg("-c")
            .arg(self.layout.supervisord_conf())
            .directory(&self.layout.prefix)
            .service()
            .env(crate::layout::MARKER_VARIABLE, &self.layout.prefix)
            .deadline(SUPERVISORD_START);
        let output = self.transport.run(&command).await?;
        if !output.success() {
            return Err(Error::Supervisor(format!("it does not start: {}", output.last_words(5))));
        }
        let end = Instant::now() + SUPERVISORD_START;
        loop {
            match self.supervisor().pid().await {
                Ok(pid) => return Ok(Done::changed(format!("process {pid}"))),
                Err(error @ Error::Connection { .. }) => return Err(error),
                Err(error) if Instant::now() > end => {
                    let log = self.layout.logs().join("supervisord.log");
                    return Err(Error::Supervisor(format!(
                        "started, but {error}; its log: {}",
                        log.display()
                    )));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}
