//! One inventory turns bare hosts into a farm, and keeps them so.
//!
//! ```text
//! inventory.yaml → parse (spans) → resolve (groups, defaults) → check (cross-host rules) ┐
//! hosts ← facts (one script, one reply)                                                  ├→ plan (pure) → apply → gates
//! templates ← derive (affinity, programs)                                                ┘
//! ```
//!
//! Invariants: `inventory`, `resolve`, `check`, `limits`, `derive`, `document`, `explain`, `render`, `topology`, `plan` and `drift` do no I/O. Only `transport` runs commands
//! and touches a host. Only `output` prints. A [`secret::Secret`] can be neither printed nor serialised.

pub mod apply;
pub mod artifacts;
pub mod check;
pub mod cli;
pub mod derive;
pub mod doctor;
pub mod document;
pub mod drift;
pub mod error;
pub mod events;
pub mod explain;
pub mod export;
pub mod facts;
pub mod gates;
pub mod generations;
pub mod import;
pub mod inventory;
pub mod journal;
pub mod layout;
pub mod limits;
pub mod lock;
pub mod logs;
pub mod manual;
pub mod monitoring;
pub mod output;
pub mod packages;
pub mod plan;
pub mod redact;
pub mod render;
pub mod resolve;
pub mod secret;
pub mod status;
mod steps;
pub mod supervisor;
pub mod topology;
pub mod transfer;
pub mod transport;
pub mod trust;
mod unpack;

pub use error::{Error, ExitCode, Result};
