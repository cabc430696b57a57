//! The inventory's JSON Schema, for editors: told by the very readers that read inventories, so that the two cannot
//! differ. What only they know is what a key is for; that is [`MEANINGS`].

use super::read::Findings;
use super::tree::Node;
use serde_json::{Map, Value, json};
use std::cell::RefCell;

/// What the readers said so far.
#[derive(Debug, Default)]
pub(super) struct Description {
    /// Maps that are being described, the innermost last.
    open: RefCell<Vec<Object>>,
    /// What was described last.
    last: RefCell<Option<Value>>,
    /// Every map by name.
    definitions: RefCell<Map<String, Value>>,
}

#[derive(Debug)]
struct Object {
    name: String,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Description {
    /// A reader said what it accepts; that of a map is one way among those said before it was opened.
    pub(super) fn say(&self, schema: Value) {
        self.last.replace(Some(schema));
    }

    /// Changes what was said last.
    pub(super) fn wrap(&self, change: impl FnOnce(Value) -> Value) {
        let last = self.last.take().unwrap_or(Value::Bool(true));
        self.say(change(last));
    }

    /// A map begins; `what` is its name in messages ("a farm", "`nats:`").
    pub(super) fn open(&self, what: &str) {
        let article = ["a ", "an ", "the "].into_iter().find_map(|article| what.strip_prefix(article));
        let name = article.unwrap_or(what).trim_matches(['`', ':']).replace(' ', "-");
        let object = Object { name: name.clone(), properties: Map::new(), required: Vec::new() };
        // What a map's reader accepts instead of the map.
        let instead = self.last.take();
        self.open.borrow_mut().push(object);
        if let Some(instead) = instead {
            self.definitions.borrow_mut().insert(format!("{name} instead"), instead);
        }
    }

    /// The key of the innermost map takes what was said last.
    pub(super) fn key(&self, key: &'static str) {
        let mut schema = self.last.take().unwrap_or(Value::Bool(true));
        if let Some(object) = self.open.borrow_mut().last_mut() {
            if let (Some(meaning), Some(fields)) = (meaning(&object.name, key), schema.as_object_mut()) {
                fields.insert("description".to_string(), meaning.into());
            }
            object.properties.insert(key.to_string(), schema);
        }
    }

    /// Keys that the innermost map must have.
    pub(super) fn require(&self, keys: &[&'static str]) {
        if let Some(object) = self.open.borrow_mut().last_mut() {
            object.required.extend(keys);
        }
    }

    /// The innermost map is complete.
    pub(super) fn close(&self) {
        let Some(object) = self.open.borrow_mut().pop() else { return };
        let mut definitions = self.definitions.borrow_mut();
        let mut schema =
            json!({"type": "object", "properties": object.properties, "additionalProperties": false});
        match object.required.is_empty() {
            false => schema["required"] = json!(object.required),
            // What has only defaults may be left empty.
            true => schema["type"] = json!(["object", "null"]),
        }
        let reference = json!({"$ref": format!("#/$defs/{}", object.name)});
        let instead = definitions.remove(&format!("{} instead", object.name));
        definitions.insert(object.name, schema);
        self.say(match instead {
            Some(instead) => json!({"anyOf": [instead, reference]}),
            None => reference,
        });
    }
}

/// The JSON Schema (2020-12) of an inventory.
pub fn schema() -> Value {
    let findings = Findings::describing();
    super::read_inventory(&Node::nothing(), &findings);
    let description = findings.description().expect("it was made to describe");
    let mut definitions = description.definitions.take();
    let mut root = definitions.remove("inventory").unwrap_or_default();
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Inventory of a farming cluster");
    root["type"] = json!("object");
    root["$defs"] = Value::Object(definitions);
    root
}

fn meaning(map: &str, key: &str) -> Option<&'static str> {
    let map = if matches!(map, "defaults" | "group") { "host" } else { map };
    MEANINGS.iter().find(|(of, name, _)| *of == map && *name == key).map(|(.., meaning)| *meaning)
}

/// What each key is for: map, key, meaning.
const MEANINGS: &[(&str, &str, &str)] = &[
    ("inventory", "version", "Version of this format: 1."),
    (
        "inventory",
        "cluster",
        "Name of the cluster; part of every NATS subject and of the default directories.",
    ),
    ("inventory", "reward_address", "SS58 address that gets the farm's rewards."),
    ("inventory", "secret", "Where the secret comes from by which members of the cluster know each other."),
    (
        "inventory",
        "nats_servers",
        "Every NATS server as clients reach it. Follows from the hosts; checked when given.",
    ),
    ("inventory", "dev_chain", "The development chain that stands in for the network."),
    ("inventory", "network", "The network that is farmed for, instead of a development chain."),
    ("inventory", "binaries", "Where our binaries come from: `build`, or files of the control machine."),
    ("inventory", "defaults", "Settings of every host, unless its groups or the host itself say otherwise."),
    ("inventory", "groups", "Settings by group; a host names its groups."),
    ("inventory", "monitoring", "What Prometheus is told of beside the roles."),
    ("inventory", "hosts", "The hosts by name, or several by range: `storage-[1..24]`."),
    ("secret", "file", "File of the control machine whose first line is the secret."),
    ("secret", "env", "Environment variable of the control machine that holds the secret."),
    ("secret", "command", "Program and arguments that print the secret on the control machine."),
    ("binaries", "farmer", "`autonomys-farmer`."),
    ("binaries", "dev_node", "`autonomys-dev-node`, for a development chain."),
    ("artifact", "path", "File of the control machine."),
    ("artifact", "url", "Where the control machine fetches it; needs `sha256`."),
    ("artifact", "sha256", "SHA-256 of the file, 64 hexadecimal digits."),
    (
        "network",
        "chain",
        "`--chain` of the node: `mainnet`, or the path of a chain specification on the hosts.",
    ),
    ("network", "node", "The node's executable."),
    ("network", "arguments", "More arguments of the node."),
    (
        "network",
        "reference_string",
        "The live network's `eth-public-parameters.bin`; its digest is checked. `development` for a chain of development nodes.",
    ),
    ("dev_chain", "seed", "Text from which the chain is made; another makes another chain."),
    ("dev_chain", "pieces_in_sector", "Pieces in a sector (live network: 1000)."),
    ("dev_chain", "slot_ms", "Milliseconds of a slot."),
    ("dev_chain", "block_bytes", "Bytes of a block's body."),
    ("dev_chain", "archive_ahead", "Segments archived before the first slot."),
    ("dev_chain", "confirmation_depth", "Blocks on top of one that is archived."),
    ("dev_chain", "recent_segments", "Segments that count as recent in a sector's pieces."),
    ("dev_chain", "min_sector_lifetime", "Segments after which a sector may expire."),
    ("dev_chain", "slots_per_block", "Slots per block on average."),
    ("host", "groups", "Groups that the host is in; of two, the later wins."),
    ("host", "tags", "Words by which the host can be chosen on the command line."),
    ("host", "connection", "How the host is reached; `local` is this machine. Default: `ssh`."),
    ("host", "ssh", "How to log in over SSH; what is absent is left to `ssh` and your configuration of it."),
    (
        "host",
        "address",
        "IP address in the cluster; for hosts by range a range of as many: `192.168.1.[11..34]`.",
    ),
    (
        "host",
        "prefix",
        "Directory that holds everything we install there. Default: /var/lib/autonomys/CLUSTER.",
    ),
    ("host", "port_offset", "Added to every port of the host: for a second cluster on one machine."),
    ("host", "dev_srs_cache", "Directory of the development reference string. Default: data/dev-srs."),
    ("host", "node", "Makes it a node host: nats-server, node, controller, proof-server."),
    ("host", "plotter", "Makes it a plotter: both caches and the plot-servers."),
    ("host", "storage", "Makes it a storage host: one plot-client for all its farms."),
    ("ssh", "user", "User name there."),
    ("ssh", "port", "sshd's port."),
    ("ssh", "identity_file", "Private key on the control machine."),
    ("ssh", "jump", "Host to go through: `[USER@]HOST[:PORT]`."),
    ("ssh", "sudo", "Whether to become root there with `sudo -n`."),
    (
        "ssh",
        "host_keys",
        "The host's public keys; no others are accepted. Without them your known_hosts decides.",
    ),
    ("node", "nats", "The host's nats-server."),
    ("node", "rpc_port", "Port of the node's RPC. Default: 9944."),
    ("node", "controller", "The controller."),
    ("node", "proof_server", "The proof-server."),
    ("nats", "server_name", "The server's name, its own in the cluster. Default: CLUSTER-HOST."),
    ("nats", "port", "Port for clients. Default: 4222."),
    ("nats", "monitor_port", "Port for health checks on the host itself. Default: 8222."),
    ("nats", "cluster_port", "Port for the other nats-servers. Default: 4248."),
    ("nats", "routes", "The other nats-servers. Follows from the hosts; checked when given."),
    ("nats", "max_payload", "Largest message. Default: 3MB."),
    (
        "nats",
        "tls",
        "Certificate, key and authority, files of the hosts: then nobody talks to NATS in the clear.",
    ),
    ("tls", "cert", "The host's certificate, a file there."),
    ("tls", "key", "Its key, a file there."),
    ("tls", "ca", "The authority that signed the certificates of all hosts, a file there."),
    ("monitoring", "node_exporter_port", "Port of Prometheus's node_exporter, where every host runs one."),
    (
        "monitoring",
        "sector_days_per_solution",
        "A plotted sector brings one solution in so many days. Default: what sectors brought within the last week.",
    ),
    ("controller", "metrics_port", "Port of metrics and readiness on the host itself. Default: 9860."),
    ("controller", "node_rpc_url", "The node that it asks. Default: the one on the same host."),
    ("proof-server", "metrics_port", "Port of metrics and readiness on the host itself. Default: 9861."),
    ("proof-server", "gpu", "CUDA_VISIBLE_DEVICES: the GPU's number."),
    ("plotter", "sharded_cache", "The sharded piece cache."),
    ("plotter", "full_piece_cache", "The full copy of all pieces."),
    ("plotter", "plot_servers", "One per GPU; one on the CPUs when absent."),
    ("cache", "cpus", "CPUs to run on, such as `0-23,96-119`. Default: those that plot-servers leave."),
    ("cache", "port", "TCP port that serves pieces. Default: 9950, of the full copy 9951."),
    (
        "cache",
        "metrics_port",
        "Port of metrics and readiness on the host itself. Default: 9862, of the full copy 9863.",
    ),
    ("cache", "path", "Directory of the store, below the prefix when relative."),
    ("cache", "size", "Bytes at most; at least 1TiB on the live network."),
    ("plot-server", "name", "Name of its program and log. Default: autonomys-plot-server-N."),
    ("plot-server", "port", "TCP port that serves sectors. Default: from 9966 up."),
    (
        "plot-server",
        "metrics_port",
        "Port of metrics and readiness on the host itself. Default: from 9866 up.",
    ),
    ("plot-server", "gpu", "CUDA_VISIBLE_DEVICES: the GPU's number. Default: that of its place in the list."),
    ("plot-server", "gpu_concurrency", "GPU_CONCURRENCY: records at once. Default: by the card's memory."),
    ("plot-server", "cpus", "CPUs to run on, such as `0-23,96-119`. Default: cores of its GPU's NUMA node."),
    ("plot-server", "path", "Directory of the spool, below the prefix when relative."),
    ("storage", "metrics_port", "Port of metrics and readiness on the host itself. Default: 9864."),
    ("storage", "new_segment_delay_max_s", "Longest wait in seconds before a new segment is used."),
    ("storage", "farms", "The farms, one a disk."),
    ("farm", "path", "Directory, or several by range: `/mnt/nvme[0..7]n1/farm`."),
    ("farm", "sectors", "Sectors to plot, at most 65534; `max`: as many as the disk holds."),
    ("farm", "size", "Bytes to plot instead of a number of sectors: `7.2TB`."),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every map's keys that have no meaning.
    fn without_meaning(schema: &Value) -> Vec<String> {
        let maps = schema["$defs"].as_object().expect("definitions").iter();
        maps.chain([(&"inventory".to_string(), schema)])
            .flat_map(|(name, map)| {
                let keys = map["properties"].as_object().expect("a map").iter();
                keys.filter(|(_, of)| of["description"].as_str().is_none())
                    .map(|(key, _)| format!("{name}.{key}"))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn every_key_has_a_meaning_and_every_meaning_a_key() {
        let schema = schema();
        assert_eq!(without_meaning(&schema), Vec::<String>::new());
        for (map, key, _) in MEANINGS {
            let of = if *map == "inventory" { &schema } else { &schema["$defs"][*map] };
            assert!(of["properties"].get(*key).is_some(), "no reader asks for {map}.{key}");
        }
    }
}
