//! Stopping: role by role over all hosts, in the reverse order of the start.

use super::fleet::{Connection, Failures, side_by_side};
use super::{Options, holder, programs};
use crate::derive::{self, Program, Role};
use crate::error::{Error, Result};
use crate::events::{Event, Sink};
use crate::facts::{self, BuildFacts, HostFacts};
use crate::layout::Layout;
use crate::resolve::{Cluster, Host};
use crate::supervisor::Supervisor;
use crate::transport::{Lock, Transport};
use std::sync::Arc;
use std::time::Duration;

/// How long supervisord may take to end once its programs have.
const SUPERVISORD: Duration = Duration::from_secs(30);

/// A host whose programs are stopped.
struct Stopping<'a> {
    host: &'a Host,
    transport: Arc<dyn Transport>,
    layout: Layout,
    /// What the inventory knows of.
    known: Vec<Program>,
    /// Names of the programs that run.
    running: Vec<String>,
    /// Whether supervisord runs.
    supervised: bool,
    stopped: usize,
    _lock: Box<dyn Lock>,
}

/// Stops everything that runs on hosts that are connected.
pub(super) async fn stop(
    cluster: &Cluster,
    connections: Vec<Connection<'_>>,
    options: &Options,
    sink: &dyn Sink,
) -> Result<usize> {
    let mut failures = Failures::new(sink, connections.len());
    let connected = failures.keep(connections);
    let finding = side_by_side(connected, options.forks, |(host, transport)| async move {
        (host, Stopping::find(cluster, host, transport, &options.roles).await)
    });
    let mut hosts = failures.keep(finding.await);
    if failures.forbid() {
        return Err(failures.verdict().expect_err("there is one"));
    }
    // What no inventory knows is stopped before what it may need.
    for role in [None].into_iter().chain(Role::ALL.into_iter().rev().map(Some)) {
        let working = side_by_side(hosts, options.forks, |(host, mut stopping)| async move {
            let done = stopping.role(role, sink).await;
            (host, done.map(|()| stopping))
        });
        hosts = failures.keep(working.await);
    }
    let ending = side_by_side(hosts, options.forks, |(host, stopping)| async move {
        // What is not meant runs on, and supervisord with it.
        let ended = if options.roles.is_empty() { stopping.end().await } else { Ok(()) };
        (host, ended.map(|()| stopping.stopped))
    });
    let stopped = failures.keep(ending.await).into_iter().map(|(_, stopped)| stopped).sum();
    failures.verdict()?;
    Ok(stopped)
}

impl<'a> Stopping<'a> {
    /// Finds what runs and is meant by `roles`, which are all when there are none.
    async fn find(
        cluster: &Cluster,
        host: &'a Host,
        transport: Arc<dyn Transport>,
        roles: &[String],
    ) -> Result<Self> {
        let layout = Layout::of(host);
        if transport.resolve(&layout.state()).await?.is_none() {
            return Err(Error::NotRunning { prefix: layout.prefix });
        }
        let lock = transport.lock(&layout.lock(), &holder("stop")).await?;
        let (known, _) = derive::programs(cluster, host, &HostFacts::default());
        let supervisor = Supervisor::new(&*transport, layout.socket());
        let (mut running, mut stopped) = (Vec::new(), 0);
        let supervised = supervisor.pid().await.is_ok();
        if supervised {
            let programs = supervisor.programs().await?.into_iter().filter(|program| program.pid != 0);
            running = programs.map(|program| program.name).collect();
            if !roles.is_empty() {
                let meant = known.iter().filter(|program| program.is_meant(roles));
                let meant: Vec<&String> = meant.map(|program| &program.name).collect();
                running.retain(|name| meant.contains(&name));
            }
        } else if !roles.is_empty() {
            // Which of the processes is which role's is not known without it.
            return Err(Error::Step {
                step: format!("stop {}", roles.join(", ")),
                message: "supervisord does not run, and nothing else knows what runs".to_string(),
                hint: "`apply` heals it; `stop` without roles stops everything that is left".to_string(),
            });
        } else {
            let facts = facts::gather(host, &*transport, &BuildFacts::default()).await?;
            let orphans: Vec<u32> = facts.orphans().iter().map(|process| process.pid).collect();
            programs::stop_orphans(&orphans, &layout, &*transport).await?;
            stopped = orphans.len();
        }
        Ok(Self { host, transport, layout, known, running, supervised, stopped, _lock: lock })
    }

    fn known(&self, name: &str) -> Option<&Program> {
        self.known.iter().find(|program| program.name == name)
    }

    /// Stops the programs of a role, or those that the inventory does not know.
    async fn role(&mut self, role: Option<Role>, sink: &dyn Sink) -> Result<()> {
        let supervisor = Supervisor::new(&*self.transport, self.layout.socket());
        for name in &self.running {
            let known = self.known(name);
            if known.map(|program| program.role) != role {
                continue;
            }
            let seconds = known.map_or(30, |program| program.stop_seconds);
            supervisor.stop(name, Duration::from_secs(u64::from(seconds) + 15)).await?;
            self.stopped += 1;
            let host = Some(self.host.name.value.clone());
            sink.event(&Event::Note { host, message: format!("{name} stopped") });
        }
        Ok(())
    }

    async fn end(&self) -> Result<()> {
        if self.supervised {
            Supervisor::new(&*self.transport, self.layout.socket()).shutdown(SUPERVISORD).await?;
        }
        Ok(())
    }
}
