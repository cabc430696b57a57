//! The roles, one module each.

use crate::cli::ClusterArguments;
use crate::shutdown::Shutdown;

/// Why a role ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

impl Error {
    /// Exit status of the process.
    pub fn exit_code(&self) -> u8 {
        1
    }
}

/// Runs one role until the shutdown.
///
/// # Errors
/// When the role cannot go on: see [`Error`].
pub async fn run(_arguments: ClusterArguments, _shutdown: Shutdown) -> Result<(), Error> {
    Ok(())
}
