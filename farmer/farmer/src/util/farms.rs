//! Opening of farms by utilities.

use crate::roles::Error;
use farming::plot::{Farm, FarmError, FarmEvent, FarmMode, FarmOptions, LostSector};
use primitives::SectorIndex;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

impl From<FarmError> for Error {
    fn from(error: FarmError) -> Self {
        match error {
            FarmError::Io { path, action, source } => Self::Io { action, path, source },
            _ => Self::Config(error.to_string()),
        }
    }
}

/// A farm that a utility has opened.
pub struct OpenedFarm {
    /// The farm.
    pub farm: Arc<Farm>,
    /// Sectors that were found to be lost on opening.
    pub lost: Vec<(SectorIndex, LostSector)>,
    /// Whether a plot-client, or another program, farms it: it may change while it is looked at.
    pub in_use: bool,
}

impl OpenedFarm {
    fn new(opened: (Arc<Farm>, Vec<FarmEvent>), in_use: bool) -> Self {
        let (farm, events) = opened;
        let lost = events.into_iter().filter_map(|event| match event {
            FarmEvent::SectorLost { sector_index, reason } => Some((sector_index, reason)),
            _ => None,
        });
        Self { lost: lost.collect(), farm, in_use }
    }

    /// Sectors that are plotted.
    pub fn plotted(&self) -> usize {
        self.farm.sectors().iter().flatten().count()
    }
}

/// Opens a farm to look at, also while it is in use.
///
/// # Errors
/// When there is no farm, or it cannot be read.
pub fn look_at(path: &Path) -> Result<OpenedFarm, Error> {
    match Farm::open(&FarmOptions::existing(path, FarmMode::ReadOnly)) {
        Err(FarmError::Locked { .. }) => {
            tracing::info!(farm = %path.display(), "The farm is in use: it is looked at while its plot-client works");
            let opened = Farm::open(&FarmOptions::existing(path, FarmMode::Unlocked))?;
            Ok(OpenedFarm::new(opened, true))
        }
        opened => Ok(OpenedFarm::new(opened?, false)),
    }
}

/// Opens a farm that nobody may change meanwhile; `repair` allows changes.
///
/// # Errors
/// [`Error::Unavailable`] while it is in use; when there is no farm, or it cannot be read.
pub fn take(path: &Path, repair: bool) -> Result<OpenedFarm, Error> {
    let mode = if repair { FarmMode::ReadWrite } else { FarmMode::ReadOnly };
    match Farm::open(&FarmOptions::existing(path, mode)) {
        Err(FarmError::Locked { .. }) => Err(Error::Unavailable(format!(
            "{} is in use: its plot-client scrubs it by itself (sectors_scrubbed and sectors_lost in its status); stop it to \
             scrub the farm from here",
            path.display()
        ))),
        opened => Ok(OpenedFarm::new(opened?, false)),
    }
}

/// Damaged sectors for JSON.
pub fn lost_to_json(lost: &[(SectorIndex, LostSector)]) -> Value {
    lost.iter().map(|(sector, reason)| json!({ "sector": sector, "reason": reason.to_string() })).collect()
}
