//! Opening of the farms that the command line names.

use crate::cli::{FarmPath, PlotClientArguments, Space};
use crate::roles::Error;
use farming::plot::{Farm, FarmError, FarmMode, FarmOptions, FarmSpace};
use primitives::FarmerAppInfo;
use std::sync::Arc;

/// What every farm needs to know of its chain and of the command line.
#[derive(Debug, Clone, Copy)]
struct Common {
    genesis_hash: primitives::rpc::GenesisHash,
    max_pieces_in_sector: u16,
    pieces_in_sector: u16,
    allow_shrink: bool,
}

impl Common {
    fn options(&self, path: &FarmPath) -> FarmOptions {
        FarmOptions {
            directory: path.path.clone(),
            genesis_hash: Some(self.genesis_hash),
            max_pieces_in_sector: Some(self.max_pieces_in_sector),
            pieces_in_sector: self.pieces_in_sector,
            space: match path.space {
                Space::Sectors(sectors) => FarmSpace::Sectors(sectors),
                Space::Bytes(bytes) => FarmSpace::Size(bytes),
            },
            allow_shrink: self.allow_shrink,
            mode: FarmMode::Create,
        }
    }
}

/// Opens or makes all farms, side by side: a new one is allocated as a whole, which takes some time.
///
/// A farm that cannot be opened is named in the log and left out.
///
/// # Errors
/// When the arguments contradict the chain, or no farm could be opened.
pub async fn open_farms(
    arguments: &PlotClientArguments,
    info: &FarmerAppInfo,
) -> Result<Vec<Arc<Farm>>, Error> {
    let max_pieces_in_sector = info.protocol_info.max_pieces_in_sector;
    let pieces_in_sector = arguments.max_pieces_in_sector.unwrap_or(max_pieces_in_sector);
    if pieces_in_sector == 0 || pieces_in_sector > max_pieces_in_sector {
        return Err(Error::Config(format!(
            "--max-pieces-in-sector {pieces_in_sector}: the chain allows 1 to {max_pieces_in_sector}"
        )));
    }
    let common = Common {
        genesis_hash: info.genesis_hash,
        max_pieces_in_sector,
        pieces_in_sector,
        allow_shrink: arguments.allow_shrink,
    };
    let opening: Vec<_> = arguments
        .farms
        .iter()
        .map(|path| {
            let path = path.clone();
            tokio::task::spawn_blocking(move || open_farm(&common, &path))
        })
        .collect();
    let mut farms = Vec::new();
    let mut failures = Vec::new();
    for opened in opening {
        match opened.await {
            Ok(Ok(farm)) => farms.push(farm),
            Ok(Err(error)) => failures.push(error.to_string()),
            Err(error) => failures.push(error.to_string()),
        }
    }
    for failure in &failures {
        tracing::error!("A farm is left out: {failure}");
    }
    match failures.into_iter().next() {
        Some(first) if farms.is_empty() => Err(Error::Config(format!("no farm can be opened: {first}"))),
        _ => Ok(farms),
    }
}

fn open_farm(common: &Common, path: &FarmPath) -> Result<Arc<Farm>, FarmError> {
    let (farm, events) = Farm::open(&common.options(path))?;
    for event in events {
        tracing::info!(farm = %farm.id(), directory = %farm.directory().display(), "{event}");
    }
    tracing::info!(
        farm = %farm.id(),
        directory = %farm.directory().display(),
        public_key = %farm.public_key(),
        sectors = farm.geometry().sectors,
        pieces_in_sector = farm.geometry().pieces_in_sector,
        to_plot = farm.sectors_to_plot().len(),
        "Farm opened"
    );
    Ok(farm)
}

/// The reward address, of any Substrate chain's form.
///
/// # Errors
/// When it is no address.
pub fn reward_address(text: &str) -> Result<primitives::PublicKey, Error> {
    let (_, key) = primitives::ss58::decode(text)
        .map_err(|error| Error::Config(format!("--reward-address {text:?} is no SS58 address: {error}")))?;
    Ok(key)
}
