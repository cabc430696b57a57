//! The cluster's roles in one binary, `autonomys-farmer`, and the piece exporter beside it, `autonomys-export-piece`.
//!
//! `cli` says what may be asked, `roles` does it, one module a role. What all roles share stands beside them: logging,
//! shutdown, the status every role answers with, its metrics. `export` is all of the exporter.

pub mod cli;
pub mod export;
pub mod logging;
pub mod metrics;
mod nats;
#[cfg(not(test))]
pub mod program;
pub mod roles;
pub mod shutdown;
pub mod status;
pub mod util;
