//! `import-node-db`: an archive of a node's database is brought to node hosts and takes the place of the one that is there.
//!
//! The archive is brought whole and checked before anything of it is unpacked: what is packed with gzip or zstd cannot be
//! gone on with in its middle, bytes in a file can; and nothing that is not what it should be is ever unpacked. That costs
//! the archive's size on the disk for as long as the import lasts. It is unpacked beside the live database while the node
//! runs; the node is stopped for two renames (`swap`), and started on what was imported. When its gate does not open, the
//! old database comes back in the same way.
//!
//! Where it stands is written on the host (`replace`) before each of these: a run that was cut off anywhere is taken up
//! by the next one.

mod replace;
mod swap;

use crate::apply::{Connection, Failures, Options, side_by_side};
use crate::error::{Error, Problem, Result};
use crate::events::{Event, Sink};
use crate::facts::HostFacts;
use crate::resolve::{Cluster, Host};
use crate::transfer::{Delivery, Origin, size};
use replace::Ledger;
pub(crate) use replace::{Replacing, What};
use serde::Serialize;
use swap::Places;

/// The command's name.
const COMMAND: &str = "import-node-db";
/// Steps of an import that goes well.
const STEPS: usize = 6;
/// What an archive may bring: the database, and what a node derives from it. All else of a node's directory (its network
/// identity, keys) stays that of the host.
const BROUGHT: [&str; 2] = ["db", "segments"];

/// What is imported.
#[derive(Debug, Clone)]
pub struct Import {
    /// The archive.
    pub origin: Origin,
    /// Its SHA-256 in hex, where that is known.
    pub sha256: Option<String>,
    /// Bytes a second at most, over all hosts together.
    pub rate: Option<u64>,
}

/// What an import replaces on a host.
fn what(cluster: &Cluster, host: &Host) -> What {
    What {
        command: COMMAND,
        steps: STEPS,
        role: cluster.node_role(),
        data: cluster.node_data(host),
        who: "the node",
        thing: "database",
        brought: &BROUGHT,
    }
}

/// What an import did on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The host.
    pub host: String,
    /// The archive.
    pub origin: String,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// What the node's gate said.
    pub ready: String,
}

/// The hosts of these names, or all that have a node.
///
/// # Errors
/// There is no such host, or it has no node.
pub fn node_hosts<'a>(cluster: &'a Cluster, names: &[String]) -> Result<Vec<&'a Host>> {
    let with_node = || cluster.hosts.iter().filter(|host| host.node.is_some());
    let missing: Vec<_> =
        names.iter().filter(|name| with_node().all(|host| host.name.value != **name)).cloned().collect();
    if missing.is_empty() && with_node().next().is_some() {
        return Ok(with_node().filter(|host| names.is_empty() || names.contains(&host.name.value)).collect());
    }
    let known: Vec<_> = with_node().map(|host| host.name.value.as_str()).collect();
    let problem = Problem {
        code: "no-node-host",
        message: match missing.is_empty() {
            true => "no host of the inventory has a node".to_string(),
            false => format!("the inventory has no host with a node that is called {}", missing.join(", ")),
        },
        hint: format!("hosts with a node: {}", known.join(", ")),
    };
    Err(Error::Check { problems: vec![problem] })
}

/// Whether an import was cut off while databases were swapped: the node must not be started then. Pure.
pub fn cut_off(cluster: &Cluster, host: &Host, facts: &HostFacts) -> Option<Problem> {
    let places = Places::of(cluster.node_data(host));
    facts.directories.contains(&places.before).then(|| Problem {
        code: "import-cut-off",
        message: format!(
            "an import of a node database was cut off while the databases were swapped: {} is still there",
            places.before.display()
        ),
        hint: "run the same `provision import-node-db` again: it goes on from there, or puts the old database back"
            .to_string(),
    })
}

/// Brings an archive to hosts, unpacks it there, and has the node of each host, one after the other, go on with it.
///
/// # Errors
/// See [`Error`]. What came stays and is gone on with; a node that is not ready on what was imported has its old database
/// back. After the first host on which the swap fails none is begun on another.
pub async fn import_node_db(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    import: &Import,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Vec<Imported>> {
    sink.event(&Event::RunStarted {
        command: COMMAND.to_string(),
        cluster: cluster.name.clone(),
        hosts: connections.iter().map(|(host, _)| host.name.value.clone()).collect(),
        version: env!("CARGO_PKG_VERSION").to_string(),
    });
    let mut failures = Failures::new(sink, connections.len());
    let connected = failures.keep(connections);
    let at_once = options.forks.min(connected.len()).max(1) as u64;
    let import = &Import { rate: import.rate.map(|rate| (rate / at_once).max(1)), ..import.clone() };
    let bringing = side_by_side(&connected, options.forks, |(host, transport)| async move {
        let brought = async {
            let mut replacing =
                Replacing::begin(what(cluster, host), cluster, host, &**transport, options, sink).await?;
            match bring(&mut replacing, import).await {
                Ok(ledger) => Ok((replacing, ledger)),
                Err(error) => replacing.steps.end(Err(error)).await,
            }
        };
        (*host, brought.await)
    });
    let brought = failures.keep(bringing.await);
    let mut imported = Vec::new();
    let mut broken: Option<String> = None;
    for (host, (mut replacing, ledger)) in brought {
        let result = match &broken {
            Some(other) => Err(not_begun(other)),
            None => take_over(&mut replacing, ledger).await,
        };
        let result = replacing.steps.end(result).await;
        if result.is_err() && broken.is_none() {
            broken = Some(host.name.value.clone());
        }
        imported.extend(failures.keep(vec![(host, result)]).into_iter().map(|(_, imported)| imported));
    }
    failures.verdict()?;
    Ok(imported)
}

fn not_begun(other: &str) -> Error {
    Error::Step {
        step: "swap the databases".to_string(),
        message: format!("not begun, since host {other} failed"),
        hint: format!(
            "this host's node still runs as before, the archive is unpacked there; mend {other}, then run the same \
                       command again"
        ),
    }
}

/// Brings the archive and unpacks it, unless that was done, or an earlier swap has to be finished first.
async fn bring(replacing: &mut Replacing<'_>, import: &Import) -> Result<Ledger> {
    let known = replacing.ledger().await?;
    if let Some(ledger) = known.clone().filter(Ledger::is_swapping) {
        replacing
            .steps
            .note(format!("the import of {} was cut off while the databases were swapped", ledger.origin));
        return Ok(ledger);
    }
    let (archive, unpacked) = (replacing.places.archive(), replacing.places.unpacked());
    let delivery = Delivery {
        origin: import.origin.clone(),
        path: archive.clone(),
        sha256: import.sha256.clone(),
        // While nothing of it is unpacked it must fit once more.
        copies: if known.is_some() { 1 } else { 2 },
        rate: import.rate,
    };
    let (transport, mut meter) = (replacing.transport, replacing.steps.meter("archive"));
    let bringing = async {
        let digest = transport.deliver(&delivery, &mut meter).await?;
        Ok((digest.clone(), format!("sha256 {digest}")))
    };
    let digest = replacing.steps.step("archive", &format!("bring {}", import.origin), bringing).await?;
    if let Some(ledger) = known.filter(|ledger| ledger.digest == digest) {
        return Ok(ledger);
    }
    replacing.forget().await?;
    let (wanted, mut meter) = (BROUGHT.map(str::to_string), replacing.steps.meter("unpack"));
    let unpacking = async {
        let found = transport.unpack(&archive, &unpacked, &wanted, &mut meter).await?;
        Ok(((), format!("{}, {}", crate::error::count(found.files, "file"), size(found.bytes))))
    };
    replacing.steps.step("unpack", "unpack it beside the live database", unpacking).await?;
    replacing.unpacked(import.origin.to_string(), digest).await
}

async fn take_over(replacing: &mut Replacing<'_>, ledger: Ledger) -> Result<Imported> {
    let ready = replacing.take_over(&ledger).await?;
    let host = replacing.host.name.value.clone();
    Ok(Imported { host, origin: ledger.origin, sha256: ledger.digest, ready })
}
