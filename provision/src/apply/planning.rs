//! Planning without doing: what `plan`, `check` and `drift` begin with. Touches nothing and takes no lock.

use super::fleet::{Connection, Failures, side_by_side};
use super::{Options, examine};
use crate::drift::{self, Drift, HostDrift};
use crate::error::{Error, Result};
use crate::events::Silent;
use crate::facts::{self, BuildFacts, HostFacts};
use crate::inventory::Diagnostic;
use crate::plan::saved::{SavedHost, SavedPlan};
use crate::plan::{self, Basis, Plan, Texts};
use crate::resolve::{Cluster, Host, Overrides};
use crate::transport::{Local, Transport};
use std::path::Path;

/// Largest file whose old text is shown, in bytes.
const TEXT_MAX: u64 = 1 << 20;

/// A host's plan, and what it was made from.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// What should not be, and does not keep it from being executed.
    pub warnings: Vec<Diagnostic>,
    /// What the host is like.
    pub facts: HostFacts,
    /// What stands in the files that are replaced, where [`Options::diff`] asks for it.
    pub texts: Texts,
}

/// Plans every host; fails when one cannot be planned.
pub(super) async fn plan_only(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
) -> Result<Vec<Planned>> {
    let mut failures = Failures::new(&Silent, connections.len());
    let binaries = facts::binaries(cluster, &Local).await?;
    let connected = failures.keep(connections);
    let planning = side_by_side(connected, options.forks, |(host, transport)| {
        let binaries = &binaries;
        async move {
            let planned = async {
                let (facts, warnings) = examine(cluster, host, &*transport, binaries).await?;
                planned(cluster, host, facts, warnings, &*transport, options).await
            };
            (host, planned.await)
        }
    });
    let mut planned = failures.keep(planning.await);
    failures.verdict()?;
    let hosts: Vec<_> = planned.iter().map(|(host, planned)| (*host, &planned.facts)).collect();
    let mixed = plan::mixed_versions(&hosts);
    // Said with the first host, though it is of all.
    if let Some((host, planned)) = planned.first_mut() {
        let span = host.name.span;
        planned
            .warnings
            .extend(mixed.into_iter().map(|told| Diagnostic::warning("mixed-versions", span, told)));
    }
    Ok(planned.into_iter().map(|(_, planned)| planned).collect())
}

async fn planned(
    cluster: &Cluster,
    host: &Host,
    facts: HostFacts,
    warnings: Vec<Diagnostic>,
    transport: &dyn Transport,
    options: &Options,
) -> Result<Planned> {
    let plan = plan::plan(cluster, host, &facts)?;
    let texts = if options.diff { texts(&plan, transport).await } else { Texts::new() };
    Ok(Planned { plan, warnings, facts, texts })
}

/// Reads the files that a plan replaces, all in one round trip.
pub(super) async fn texts(plan: &Plan, transport: &dyn Transport) -> Texts {
    let reading = plan::replaced(plan).into_iter().map(|path| async move {
        let text = match transport.read(&path, TEXT_MAX).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err("it is gone".to_string()),
            Err(error) => Err(error.to_string()),
        };
        (path, text)
    });
    futures::future::join_all(reading).await.into_iter().collect()
}

/// What on the hosts is not as the inventory wants it. A host that cannot be asked, or planned for, is told as such.
///
/// # Errors
/// Our binaries cannot be read.
pub async fn drift(cluster: &Cluster, connections: Vec<Connection<'_>>, options: &Options) -> Result<Drift> {
    let binaries = facts::binaries(cluster, &Local).await?;
    let looking = side_by_side(connections, options.forks, |(host, connection)| {
        let binaries = &binaries;
        async move {
            let found = async {
                let transport = connection?;
                of_host(cluster, host, &*transport, binaries, options).await
            };
            found.await.unwrap_or_else(|error: Error| HostDrift {
                host: host.name.value.clone(),
                error: Some(error.to_string()),
                differences: Vec::new(),
                diff: None,
            })
        }
    });
    let hosts = looking.await;
    Ok(Drift { version: drift::DRIFT_VERSION, cluster: cluster.name.clone(), hosts })
}

async fn of_host(
    cluster: &Cluster,
    host: &Host,
    transport: &dyn Transport,
    binaries: &BuildFacts,
    options: &Options,
) -> Result<HostDrift> {
    let facts = facts::gather(host, transport, binaries).await?;
    let planned = planned(cluster, host, facts, Vec::new(), transport, options).await?;
    Ok(HostDrift {
        host: planned.plan.host.clone(),
        error: None,
        differences: drift::differences(&planned.plan, &planned.facts),
        diff: options.diff.then(|| plan::diff(&planned.plan, &planned.texts)),
    })
}

/// What `plan --out` writes: the plans, and what they were made from.
///
/// # Errors
/// A plan cannot be serialised: a mistake of ours.
pub fn to_save(
    cluster: &Cluster,
    inventory: &Path,
    overrides: &Overrides,
    planned: &[Planned],
) -> Result<SavedPlan> {
    let hosts = planned.iter().map(|Planned { plan, facts, .. }| {
        let host = cluster.hosts.iter().find(|host| host.name.value == plan.host);
        let host = host.expect("a plan is a host's of the cluster");
        SavedHost::new(plan, Basis::of_facts(host, facts))
    });
    Ok(SavedPlan {
        made_by: env!("CARGO_PKG_VERSION").to_string(),
        cluster: cluster.name.clone(),
        inventory: inventory.to_path_buf(),
        overrides: overrides.clone(),
        basis: Basis::of_inventory(cluster)?,
        hosts: hosts.collect::<Result<_>>()?,
    })
}

/// Whether a host and its plan are still what a saved plan was made for.
pub(super) fn check_saved(saved: &SavedPlan, host: &Host, facts: &HostFacts, plan: &Plan) -> Result<()> {
    let name = &host.name.value;
    let differences = match saved.host(name) {
        Some(saved) => saved.differences(plan, &Basis::of_facts(host, facts))?,
        None => vec!["the plan is not for it".to_string()],
    };
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Error::Stale { what: format!("host {name}"), differences }),
    }
}
