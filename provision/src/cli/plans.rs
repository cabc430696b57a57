//! `plan`, `apply` and `drift`.

use super::{Run, Target, hosts, load, load_with_source, options, overrides};
use crate::apply::{self, Options};
use crate::error::{Error, ExitCode, Result};
use crate::events::Event;
use crate::output::Output;
use crate::plan::saved::{self, SavedPlan};
use crate::plan::{self, Plan};
use crate::resolve::Overrides;
use crate::transport::{Local, Transport, file_error};
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a plan is shown and kept.
#[derive(Debug, Clone, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    target: Target,
    /// Show what changes in files, too
    #[arg(long)]
    diff: bool,
    /// Print the steps and what waits for what as a graph in Graphviz's language (DOT)
    #[arg(long, conflicts_with = "diff")]
    graph: bool,
    /// Keep the plan in this file: `apply FILE` does exactly that, as long as nothing has changed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Shows what `apply` would do, and keeps it.
pub(super) async fn plan(args: &PlanArgs, output: &Output) -> Result<()> {
    let target = &args.target;
    if let Some(out) = &args.out {
        check_place(out)?;
    }
    let cluster = load(target, output)?;
    let connections = apply::connect_to(hosts(&cluster, target)?, target.forks).await;
    let options = Options { forks: target.forks, diff: args.diff, ..Options::default() };
    let planned = apply::plan_only(&cluster, connections, &options).await?;
    if let Some(out) = &args.out {
        if planned.iter().any(|planned| planned.facts.build.due.is_some()) {
            let message = "a build is due: what it gives is decided when the plan is applied; `--binaries DIR` decides it now";
            output.sink().event(&Event::Warning { host: None, message: message.to_string() });
        }
        let inventory = super::absolute(&target.inventory)?;
        let saved = apply::to_save(&cluster, &inventory, &overrides(target)?, &planned)?;
        Local.write(out, saved.encode()?.as_bytes(), 0o600).await?;
    }
    if args.graph {
        let plans: Vec<Plan> = planned.into_iter().map(|planned| planned.plan).collect();
        let graph = plan::graph(&plans);
        output.result(&serde_json::json!({ "graph": graph }), &graph);
    } else {
        output.plans(&planned, args.diff);
    }
    Ok(())
}

/// Refuses to put a plan in the place of anything but an older plan.
fn check_place(out: &Path) -> Result<()> {
    match read(out)? {
        Some(bytes) if !bytes.is_empty() && !SavedPlan::is_in(&bytes, out).unwrap_or(false) => {
            Err(Error::Usage {
                message: format!("--out {}: there is a file that is no plan", out.display()),
                hint: "name another file, or remove this one first".to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// As much of a file as tells what it is; none when it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(saved::FILE_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("cannot read", path)(error)),
    }
}

/// Brings every host to where the inventory wants it, or executes a saved plan.
pub(super) async fn apply(target: &Target, run: &Run, diff: bool, output: &Output) -> Result<()> {
    let path = &target.inventory;
    // What cannot be read is an inventory that cannot be read.
    let bytes = read(path).ok().flatten().unwrap_or_default();
    let options = Options { diff, ..options(target, run) };
    if !SavedPlan::is_in(&bytes, path)? {
        let cluster = load(target, output)?;
        let connections = apply::connect_to(hosts(&cluster, target)?, target.forks).await;
        apply::apply(&cluster, connections, &options, output.sink()).await?;
        return Ok(());
    }
    let saved = SavedPlan::decode(&bytes, path)?;
    check_flags(target, &saved)?;
    let (cluster, _) = load_with_source(&saved.inventory, &saved.overrides, output)?;
    // Told again with all hosts; here it keeps a host from being missed below.
    saved.check_inventory(&cluster)?;
    let hosts = cluster.hosts.iter().filter(|host| saved.host(&host.name.value).is_some());
    let connections = apply::connect_to(hosts, target.forks).await;
    let inventory = saved.inventory.display().to_string();
    let options = Options { saved: Some(Arc::new(saved)), inventory, ..options };
    apply::apply(&cluster, connections, &options, output.sink()).await?;
    Ok(())
}

/// What decides a plan is decided when it is made.
fn check_flags(target: &Target, saved: &SavedPlan) -> Result<()> {
    let given = overrides(target)?;
    let Overrides { prefix, port_offset, dev_srs_cache, binaries } = &saved.overrides;
    let other = [
        ("--prefix (or PROVISION_PREFIX)", given.prefix.is_some() && given.prefix != *prefix),
        ("--port-offset", given.port_offset.is_some() && given.port_offset != *port_offset),
        ("--dev-srs-cache", given.dev_srs_cache.is_some() && given.dev_srs_cache != *dev_srs_cache),
        ("--binaries", given.binaries.is_some() && given.binaries != *binaries),
        ("--limit", !target.limit.is_empty()),
    ];
    match other.into_iter().find(|(_, differs)| *differs) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::Usage {
            message: format!(
                "{flag} cannot be given with a saved plan: it was decided when the plan was made"
            ),
            hint: "leave it out, or plan again with it".to_string(),
        }),
    }
}

/// Says what on the hosts is not as the inventory wants it.
pub(super) async fn drift(target: &Target, diff: bool, output: &Output) -> Result<ExitCode> {
    let cluster = load(target, output)?;
    let connections = apply::connect_to(hosts(&cluster, target)?, target.forks).await;
    let options = Options { forks: target.forks, diff, ..Options::default() };
    let drift = apply::drift(&cluster, connections, &options).await?;
    output.drift(&drift);
    // A host that cannot be asked may differ, too; what was found counts first.
    Ok(match (drift.is_found(), drift.is_whole()) {
        (true, _) => ExitCode::Drift,
        (false, false) => ExitCode::Host,
        (false, true) => ExitCode::Ok,
    })
}
