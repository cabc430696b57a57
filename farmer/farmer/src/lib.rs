//! The cluster's roles in one binary: `autonomys-farmer`.
//!
//! `cli` says what may be asked, `roles` does it, one module a role. What all roles share stands beside them: logging,
//! shutdown, the status every role answers with.

pub mod cli;
pub mod logging;
pub mod roles;
pub mod shutdown;
pub mod status;
pub mod util;
