//! `util info`: what farms and piece stores are and hold; changes nothing and works while they are in use.

mod farm;
mod store;

use crate::cli::{InfoArguments, NatsArguments};
use crate::roles::Error;
use crate::roles::piece_source::SegmentCommitments;
use crate::util::{connect, output};
use cluster::contract::FarmerAppInfoRequest;
use farm::FarmInfo;
use farming::plot::DESCRIPTION_FILE;
use piece_store::StoreInspection;
use primitives::{FarmerAppInfo, SegmentCommitment, SegmentIndex};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// What the cluster knows of the chain: decides when sectors expire.
struct Chain {
    info: FarmerAppInfo,
    commitments: HashMap<SegmentIndex, SegmentCommitment>,
}

/// Something that was looked at.
enum Found {
    Farm(FarmInfo),
    Store(StoreInspection),
}

/// Looks, and prints what it saw.
///
/// # Errors
/// When a path is neither a farm nor a store, or cannot be read.
pub async fn run(nats: &NatsArguments, arguments: InfoArguments) -> Result<(), Error> {
    let paths = arguments.paths;
    let looking = tokio::task::spawn_blocking(move || {
        paths.iter().map(|path| look_at(path)).collect::<Result<Vec<_>, _>>()
    });
    let mut found = looking.await.map_err(|error| Error::Internal(error.to_string()))??;
    let has_farms = found.iter().any(|found| matches!(found, Found::Farm(_)));
    if has_farms && !nats.nats_servers.is_empty() {
        match ask_chain(nats, &found).await {
            Ok(chain) => found.iter_mut().for_each(|found| found.decide_expiry(&chain)),
            Err(error) => tracing::warn!("It is not known when sectors expire: {error}"),
        }
    }
    let value = json!({ "version": 1, "found": found.iter().map(Found::to_json).collect::<Vec<_>>() });
    let text: String = found.iter().map(Found::to_text).collect();
    output::print_either(arguments.json, &value, &text)
}

fn look_at(path: &Path) -> Result<Found, Error> {
    if path.join(DESCRIPTION_FILE).is_file() {
        return Ok(Found::Farm(FarmInfo::look_at(path)?));
    }
    if StoreInspection::is_store(path) {
        return Ok(Found::Store(StoreInspection::new(path)?));
    }
    Err(Error::Config(format!(
        "{} is neither a farm (it has no {DESCRIPTION_FILE}) nor a piece store (it has no manifest.bin)",
        path.display()
    )))
}

/// The chain's parameters, and the commitments that decide about the farms' sectors.
async fn ask_chain(nats: &NatsArguments, found: &[Found]) -> Result<Chain, Error> {
    let client = connect(nats).await?;
    let info = client.request(&FarmerAppInfoRequest).await?;
    let lifetime = info.protocol_info.min_sector_lifetime;
    let newest = info.protocol_info.history_size.segment_index();
    let farms = found.iter().filter_map(|found| match found {
        Found::Farm(farm) => Some(farm),
        Found::Store(_) => None,
    });
    let deciding: BTreeSet<SegmentIndex> = farms
        .flat_map(|farm| farm.deciding_segments(lifetime))
        .filter(|segment| *segment <= newest)
        .collect();
    let commitments = SegmentCommitments::new(client.clone()).get(&deciding).await;
    Ok(Chain { info, commitments })
}

impl Found {
    fn decide_expiry(&mut self, chain: &Chain) {
        if let Self::Farm(farm) = self {
            farm.decide_expiry(chain);
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Farm(farm) => farm.to_json(),
            Self::Store(store) => store::to_json(store),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Farm(farm) => farm.to_text(),
            Self::Store(store) => store::to_text(store),
        }
    }
}
