//! An inventory with nothing left open, as JSON: what `services.autonomys.cluster` of the NixOS modules takes, since Nix reads
//! no YAML. Pure.

use crate::error::{Error, Result};
use crate::resolve::Cluster;
use serde::Serialize;
use serde_json::Value;

/// Version of the document's form; the modules refuse others.
pub const VERSION: u32 = 1;

/// Keys of the cluster that say something of the control machine alone.
const OF_CONTROL_MACHINE: [&str; 3] = ["binaries", "secret", "stamp"];
/// Keys of a host that say how the control machine reaches it.
const OF_TRANSPORT: [&str; 2] = ["connection", "ssh"];

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// Pieces in a sector of the development chain.
    pub pieces_in_sector: u16,
    /// URLs that clients reach NATS at.
    pub nats_servers: Vec<String>,
    /// URLs that the nats-servers reach each other at; none where there is one.
    pub nats_routes: Vec<String>,
    /// The cluster, its hosts' settings without defaults left open. Holds no secret and not where one comes from.
    pub cluster: Value,
}

impl Document {
    /// Of a cluster.
    ///
    /// # Errors
    /// A value cannot be serialised: a mistake of ours.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let value = serde_json::to_value(cluster);
        let mut value = value.map_err(|error| Error::Internal(format!("an inventory: {error}")))?;
        remove(&mut value, &OF_CONTROL_MACHINE);
        if let Some(network) = value.get_mut("network") {
            remove(network, &["node"]);
            // Which string it is, not where the control machine has it.
            if let Some(string) = network.get_mut("reference_string").filter(|string| string.is_object()) {
                *string = Value::from("live");
            }
        }
        for host in value["hosts"].as_array_mut().into_iter().flatten() {
            remove(host, &OF_TRANSPORT);
        }
        Ok(Self {
            version: VERSION,
            pieces_in_sector: cluster.pieces_in_sector(),
            nats_servers: cluster.nats_servers(),
            nats_routes: cluster.nats_routes(),
            cluster: value,
        })
    }
}

fn remove(value: &mut Value, keys: &[&str]) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !keys.contains(&key.as_str()));
    }
}
