//! `sharded-cache-benchmark` against caches at work, and what they hold looked at meanwhile.

use super::{CHAIN, PIECES, directory, full_store, sharded_store, util, util_json};
use crate::roles_support::{RoleProcess, free_address};
use crate::world::Controller;
use cluster::testing::NatsServer;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn start(directory: &Path, nats: &str, name: &str, role: &str) -> RoleProcess {
    let size = if role == "sharded-cache" { ",size=300MB" } else { "" };
    let path = format!("path={}{size}", directory.join(name).display());
    let listen = free_address().to_string();
    RoleProcess::start(directory, name, nats, &[role, &path, "--listen", &listen])
}

/// Pieces that came from the giver with this in its name.
fn from(value: &Value, name: &str) -> u64 {
    let shares = value["shares"].as_array().unwrap();
    let of = shares.iter().filter(|share| share["from"].as_str().unwrap().contains(name));
    of.map(|share| share["pieces"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pieces_come_from_owners_then_copies_and_what_nobody_has_is_said() {
    let nats = NatsServer::start();
    let _controller = Controller::start(&nats, &CHAIN).await;
    let (home, url) = (directory(), nats.url());
    full_store(&home.path().join("full"));
    sharded_store(&home.path().join("holds"));
    let mut full = start(home.path(), &url, "full", "full-piece-sharded-cache");
    let mut holds = start(home.path(), &url, "holds", "sharded-cache");
    let mut empty = start(home.path(), &url, "empty", "sharded-cache");
    [&mut full, &mut holds, &mut empty].into_iter().for_each(|cache| cache.wait_until_ready(SOON));
    let names = [&full, &holds, &empty].map(|cache| cache.instance().to_string());

    let benchmark = ["sharded-cache-benchmark", "--nats-servers", &url, "--sectors", "6", "--epoch", "2"];
    let (value, code, output) = util_json(&benchmark);
    assert_eq!(code, 0, "{output:?}");
    let pieces = value["pieces"].as_u64().unwrap();
    let epochs = value["epochs"].as_array().unwrap();
    assert_eq!(epochs.iter().map(|epoch| epoch["pieces"].as_u64().unwrap()).sum::<u64>(), pieces);
    assert!(epochs.len() == 2 && pieces > 72 && pieces <= 144, "{value}");
    let [from_full, from_holds, from_empty] = names.clone().map(|name| from(&value, &name));
    // The owner that holds its share gives it; the other's share is in the full copy. What two sectors want at once is given once.
    let shared = value["shared"].as_u64().unwrap();
    assert_eq!((from_full + from_holds + shared, from_empty), (pieces, 0), "{value}");
    assert!(from_full > 0 && from_holds > 0, "{value}");
    assert_eq!((&value["misses"], &value["retries"]), (&from_full.into(), &from_full.into()), "{value}");
    assert_eq!((&value["failed"], &value["rejected"]), (&0.into(), &0.into()), "{value}");
    assert_eq!(value["checked_against"], "chain");
    let latency = |name: &str| value["latency_ms"][name].as_f64().unwrap();
    assert!(latency("p50") > 0.0 && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
    for figure in ["pieces_per_second", "gigabytes_per_second", "seconds"] {
        assert!(value[figure].as_f64().unwrap() > 0.0, "{figure}: {value}");
    }

    // The line of the guides, with fewer sectors: no reference string.
    let line =
        [&benchmark[..3], &["--sectors", "2", "--epoch", "1", "--cache-item-type", "split-parity-piece"]];
    let output = util(&line.concat()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("pieces/s") && said.contains("compared with their hashes only"), "{said}");

    // What caches hold is verified and told while they serve it.
    let stores = ["full", "holds"].map(|name| home.path().join(name).to_str().unwrap().to_owned());
    let (value, code, output) = util_json(&["verify-piece", "--nats-server", &url, &stores[0], &stores[1]]);
    assert_eq!(code, 0, "{output:?}");
    for store in value["stores"].as_array().unwrap() {
        assert_eq!((&store["in_use"], &store["good"]), (&true.into(), &PIECES.into()), "{store}");
    }
    let (value, ..) = util_json(&["info", &stores[1]]);
    let store = &value["found"][0];
    assert_eq!((&store["in_use"], &store["store"]), (&true.into(), &"sharded".into()), "{store}");
    assert_eq!((&store["pieces"], &store["segments_complete"]), (&PIECES.into(), &1.into()), "{store}");

    // Two die; what is left holds nothing.
    full.kill();
    holds.kill();
    let (value, code, output) =
        util_json(&["sharded-cache-benchmark", "--nats-server", &url, "--sectors", "1"]);
    assert_eq!((code, &value["pieces"]), (69, &0.into()), "{output:?}");
    assert!(value["failed"].as_u64().unwrap() > 6, "{value}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not be had"), "{output:?}");
    empty.terminate();
    let (_, code, output) = util_json(&["sharded-cache-benchmark", "--nats-server", &url]);
    assert_eq!(code, 69, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no cache of cluster default answers"));
}
