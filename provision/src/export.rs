//! `export-piece`: the history's pieces are made from a node's blocks on its host, verified, and handed to the plotters'
//! full-piece caches as a whole.
//!
//! Everything goes on where it was cut off: the exporter after its last whole segment, the verification after what it has
//! seen, the way to a plotter after the last byte there. A cache that is being filled is not touched; its old store comes
//! back when it is not ready on the new one.

mod push;

use crate::apply::{self, Failures, Options};
use crate::derive::{Gate, Role};
use crate::error::{Error, Problem, Result};
use crate::events::{Event, Sink};
use crate::facts;
use crate::gates;
use crate::import::{Replacing, What};
use crate::inventory::Binaries;
use crate::layout::Layout;
use crate::resolve::{Cluster, Host};
use crate::steps::Steps;
use crate::transfer::{Origin, size};
use crate::transport::{self, Command, Local, Transport};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The command's name.
const COMMAND: &str = "export-piece";
/// Cargo package and binary of the exporter.
const EXPORTER: (&str, &str) = ("farmer", "autonomys-export-piece");
/// A whole history takes days.
const DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a cache is given to be filled, in seconds.
const FILL_SECONDS: u64 = 600;
/// A cache whose pieces have not become more for so long is not being filled.
const QUIET: Duration = Duration::from_secs(5);

/// What an export did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Host of the node.
    pub host: String,
    /// The store on it.
    pub store: PathBuf,
    /// Plotters whose full-piece caches serve it now.
    pub plotters: Vec<String>,
}

/// Hosts with a full-piece cache, all or those of these names.
///
/// # Errors
/// There is no such host.
pub fn receivers<'a>(cluster: &'a Cluster, names: &[String]) -> Result<Vec<&'a Host>> {
    let plotters = || cluster.hosts.iter().filter(|host| host.plotter.is_some());
    match names.iter().find(|name| plotters().all(|host| host.name.value != **name)) {
        None => Ok(plotters().filter(|host| names.is_empty() || names.contains(&host.name.value)).collect()),
        Some(name) => {
            let known: Vec<_> = plotters().map(|host| host.name.value.as_str()).collect();
            let problem = Problem {
                code: "no-plotter",
                message: format!("the inventory has no plotter that is called {name}"),
                hint: format!("plotters: {}", known.join(", ")),
            };
            Err(Error::Check { problems: vec![problem] })
        }
    }
}

/// Exports on the host `source` and hands what it made to the receivers' caches.
///
/// # Errors
/// See [`Error`]; what was done stays and is gone on with. A plotter that fails keeps its old store and none of the others.
pub async fn export_piece(
    cluster: &Cluster,
    source: &Host,
    receivers: Vec<&Host>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<Exported> {
    let name = |host: &Host| host.name.value.clone();
    let mut hosts = vec![name(source)];
    hosts.extend(receivers.iter().map(|host| name(host)).filter(|receiver| *receiver != name(source)));
    let of = hosts.len();
    let (command, version) = (COMMAND.to_string(), env!("CARGO_PKG_VERSION").to_string());
    sink.event(&Event::RunStarted { command, cluster: cluster.name.clone(), hosts, version });
    let transport = transport::connect(source).await?;
    let store = export(cluster, source, &*transport, sink).await?;
    let mut failures = Failures::new(sink, of);
    let mut plotters = Vec::new();
    for receiver in receivers {
        let handing = async {
            // The same connection where it is the same host: that has given the export's lock up by then.
            let to = match name(receiver) == name(source) {
                true => Arc::clone(&transport),
                false => transport::connect(receiver).await?,
            };
            hand_over(cluster, (source, &*transport), &store, receiver, &*to, options, sink).await
        };
        let handed = failures.keep(vec![(receiver, handing.await)]);
        plotters.extend(handed.into_iter().map(|(host, ())| name(host)));
    }
    failures.verdict()?;
    Ok(Exported { host: name(source), store, plotters })
}

/// Where the exporter is on this machine; it is built when we are in the workspace.
async fn exporter(cluster: &Cluster, progress: &(dyn Fn(&str) + Sync)) -> Result<PathBuf> {
    let path = match &cluster.binaries {
        Binaries::Brought { farmer, .. } => match &farmer.origin.value {
            Origin::File(path) => path.with_file_name(EXPORTER.1),
            // What is fetched comes alone.
            Origin::Url(_) => return Err(absent(Path::new(EXPORTER.1))),
        },
        Binaries::Build => {
            let workspace = facts::binaries(cluster, &Local).await?.workspace;
            let workspace = workspace.ok_or_else(|| absent(Path::new(EXPORTER.1)))?;
            let mut built = apply::build_binaries(&workspace, &[EXPORTER], progress).await?;
            built.executables.remove(EXPORTER.1).ok_or_else(|| absent(Path::new(EXPORTER.1)))?
        }
    };
    if path.is_file() { Ok(path) } else { Err(absent(&path)) }
}

fn absent(path: &Path) -> Error {
    Error::Artifact {
        what: path.display().to_string(),
        message: "the exporter is not there".to_string(),
        hint: "it lies beside autonomys-farmer; `cargo build --release -p farmer --bin autonomys-export-piece` makes it"
            .to_string(),
    }
}

/// Makes the store on the node's host, or goes on with it, and verifies it.
async fn export(
    cluster: &Cluster,
    host: &Host,
    transport: &dyn Transport,
    sink: &dyn Sink,
) -> Result<PathBuf> {
    let layout = Layout::of(host);
    let Some(node) = &host.node else { return Err(Error::Internal("an export needs a node".to_string())) };
    if transport.resolve(&layout.bin().join("autonomys-farmer")).await?.is_none() {
        return Err(Error::NotRunning { prefix: layout.prefix });
    }
    let _lock = transport.lock(&layout.lock(), &apply::holder(COMMAND)).await?;
    let mut steps = Steps::begin(COMMAND, 3, &host.name.value, &layout, transport, sink).await?;
    let store = layout.data().join("exported-pieces");
    let url = format!("ws://{}", std::net::SocketAddr::new(host.address.value, node.rpc_port.value));
    let chain = |command: Command| command.args(["--node-url", &url]).args(cluster.reference_string(host));
    let working = async {
        let told = steps.progress("exporter");
        let told = std::sync::Mutex::new(told);
        let progress =
            |message: &str| (told.lock().unwrap_or_else(std::sync::PoisonError::into_inner))(message);
        let bringing = async {
            let source = exporter(cluster, &progress).await?;
            let place = |digest: &str| layout.tool(digest, EXPORTER.1);
            let digest = transport.install(&source, &place).await?;
            Ok((place(&digest), format!("sha256 {}", &digest[..16])))
        };
        let program = steps.step("exporter", "bring the exporter", bringing).await?;
        let command = chain(Command::new(program)).arg("--output").arg(&store);
        run(
            &mut steps,
            "export",
            &format!("export all pieces of the history from {url}"),
            command,
            transport,
        )
        .await?;
        let command = Command::new(layout.bin().join("autonomys-farmer")).args(["util", "verify-piece"]);
        let command = chain(command).arg(&store);
        run(&mut steps, "verify", "compare every piece with the chain", command, transport).await
    };
    let worked = working.await;
    steps.end(worked).await?;
    Ok(store)
}

/// Runs a long command as a step, telling what it says.
async fn run(
    steps: &mut Steps<'_>,
    id: &str,
    title: &str,
    command: Command,
    transport: &dyn Transport,
) -> Result<()> {
    let command = command.service().env("RUST_LOG", "info").deadline(DEADLINE);
    let mut told = steps.progress(id);
    let working = async {
        let output = transport.run_lines(&command, &mut |_, line| told(line)).await?;
        if output.success() {
            return Ok(((), output.last_words(1)));
        }
        Err(Error::Step {
            step: title.to_string(),
            message: format!("{}: {}", output.status, output.last_words(5)),
            hint: "what was exported stays; mend what it says and run the same command again to go on"
                .to_string(),
        })
    };
    steps.step(id, title, working).await
}

/// Brings the store to a plotter and has its full-piece cache go on with it.
async fn hand_over(
    cluster: &Cluster,
    (from_host, from): (&Host, &dyn Transport),
    store: &Path,
    host: &Host,
    transport: &dyn Transport,
    options: &Options,
    sink: &dyn Sink,
) -> Result<()> {
    let Some(plotter) = &host.plotter else { return Err(Error::Internal("no plotter".to_string())) };
    let what = What {
        command: COMMAND,
        steps: 6,
        role: Role::FullPieceShardedCache,
        data: plotter.full_piece_cache.path.value.clone(),
        who: "the full-piece cache",
        thing: "store",
        brought: &["*"],
    };
    let mut replacing = Replacing::begin(what, cluster, host, transport, options, sink).await?;
    let working = async {
        let ledger = match replacing.ledger().await? {
            // Cut off in the middle of a swap: that is finished first.
            Some(ledger) if ledger.is_swapping() => ledger,
            _ => {
                replacing.forget().await?;
                let (into, mut meter) = (replacing.places.unpacked(), replacing.steps.meter("push"));
                let pushing = async {
                    let pushed = match from_host.name.value == host.name.value {
                        true => push::copy(from, store, &into).await?,
                        false => push::push(from, store, transport, &into, &mut meter).await?,
                    };
                    Ok((
                        pushed.digest,
                        format!("{}, {}", crate::error::count(pushed.files, "file"), size(pushed.bytes)),
                    ))
                };
                let title = format!("bring the store of {}", from_host.name.value);
                let digest = replacing.steps.step("push", &title, pushing).await?;
                replacing.unpacked(format!("{}:{}", from_host.name.value, store.display()), digest).await?
            }
        };
        if let Gate::Role { address } = replacing.program.gate {
            let deadline = options.patient(FILL_SECONDS);
            let waiting = async { quiet(address, transport, deadline).await.map(|()| ((), String::new())) };
            replacing.steps.step("quiet", "wait until the cache is not being filled", waiting).await?;
        }
        replacing.take_over(&ledger).await
    };
    let worked = working.await;
    replacing.steps.end(worked).await.map(drop)
}

/// Waits until a cache's pieces do not become more; one that does not answer is not filled.
async fn quiet(address: std::net::SocketAddr, transport: &dyn Transport, deadline: Duration) -> Result<()> {
    let pieces = async || {
        let status = gates::role_status(address, transport).await.ok()?;
        Some(gates::number(&status, "/counters/pieces_cached"))
    };
    let end = Instant::now() + deadline;
    let mut before = pieces().await;
    while before.is_some() {
        tokio::time::sleep(QUIET).await;
        let now = pieces().await;
        if now == before {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(Error::Step {
                step: "wait until the cache is not being filled".to_string(),
                message: format!("it still is after {} s", deadline.as_secs()),
                hint: "the store lies beside its own; run the same command again when `provision status` shows it full"
                    .to_string(),
            });
        }
        before = now;
    }
    Ok(())
}
