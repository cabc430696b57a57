//! The utilities.

use crate::cli::UtilArguments;
use crate::roles::Error;
use crate::shutdown::Shutdown;

/// Runs one utility.
///
/// # Errors
/// When it fails.
pub async fn run(_arguments: UtilArguments, _shutdown: Shutdown) -> Result<(), Error> {
    Ok(())
}
