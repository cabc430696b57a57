//! Inventories of any shape, runs on the simulated fleet, and what is compared.

use primitives::cluster_secret::{self, NatsUser};
use proptest::prelude::*;
use provision::apply::{self, Options, Report};
use provision::derive::{self, Role};
use provision::error::{Error, Result};
use provision::events::{Event, Sink};
use provision::facts::HostFacts;
use provision::inventory::{self, Source};
use provision::resolve::{Cluster, Overrides, Surroundings, resolve};
use provision::transport::sim::{Fleet, Happened, Left, STARTUP, Turn};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

pub const PREFIX: &str = "/var/lib/autonomys/simulated";

/// Runs to the end in virtual time: an hour of waiting takes none.
pub fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(work)
}

/// Cases of a property.
pub fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}

/// How many hosts of each kind, how many plot-servers a plotter, and how many hosts are worked on at once.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub nodes: u8,
    pub plotters: u8,
    pub storages: u8,
    pub plot_servers: u8,
    pub forks: usize,
}

impl Shape {
    /// The guides' seven hosts.
    pub const GUIDE: Self = Self { nodes: 3, plotters: 2, storages: 2, plot_servers: 2, forks: 16 };

    pub fn any() -> impl Strategy<Value = Self> {
        (prop_oneof![Just(1_u8), Just(3)], 1_u8..3, 1_u8..3, 1_u8..3, 1_usize..9).prop_map(
            |(nodes, plotters, storages, plot_servers, forks)| Self {
                nodes,
                plotters,
                storages,
                plot_servers,
                forks,
            },
        )
    }

    pub fn options(self) -> Options {
        Options { forks: self.forks, ..Options::default() }
    }

    /// Entries of `hosts:`, in order.
    pub fn hosts(self) -> Vec<String> {
        let mut hosts = Vec::new();
        let mut add = |kind: &str, number: u8, settings: &str| {
            let address = hosts.len() + 1;
            hosts.push(format!("  {kind}-{number}: {{address: 10.0.0.{address}, {settings}}}\n"));
        };
        (1..=self.nodes).for_each(|number| add("node", number, "node: {nats: {max_payload: 3MB}}"));
        let servers = vec!["{}"; self.plot_servers.into()].join(", ");
        (1..=self.plotters)
            .for_each(|number| add("plotter", number, &format!("plotter: {{plot_servers: [{servers}]}}")));
        let farms = "storage: {farms: [{path: /mnt/a, sectors: 1}, {path: /mnt/b, sectors: 1}]}";
        (1..=self.storages).for_each(|number| add("storage", number, farms));
        hosts
    }

    pub fn inventory(self) -> String {
        inventory_of(&self.hosts())
    }
}

pub fn inventory_of(hosts: &[String]) -> String {
    format!(
        "version: 1\ncluster: simulated\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
         secret: generate\ndefaults: {{prefix: {PREFIX}}}\nhosts:\n{}",
        hosts.concat()
    )
}

/// The control machine: where our binaries are.
pub struct Control {
    pub directory: tempfile::TempDir,
}

impl Control {
    pub fn new() -> Self {
        let control = Self { directory: tempfile::tempdir().unwrap() };
        control.build("autonomys-farmer", "farmer 1");
        control.build("autonomys-dev-node", "dev-node 1");
        control
    }

    pub fn build(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    pub fn cluster(&self, text: &str) -> Cluster {
        let source = Source { name: "test.yaml".into(), text: text.into() };
        let parsed = inventory::parse(&source).unwrap_or_else(|findings| {
            panic!("{}", findings.iter().map(|finding| finding.render(&source)).collect::<String>())
        });
        let binary = |name: &str| self.directory.path().join(name);
        let overrides = Overrides {
            binaries: Some((binary("autonomys-farmer"), binary("autonomys-dev-node"))),
            ..Overrides::default()
        };
        let cluster = resolve(&parsed, &overrides, &Surroundings::default());
        let findings = provision::check::check(&cluster);
        assert!(
            findings.is_empty(),
            "{}",
            findings.iter().map(|found| found.render(&source)).collect::<String>()
        );
        cluster
    }
}

/// Keeps events.
#[derive(Default)]
pub struct Kept(pub Mutex<Vec<Event>>);

impl Sink for Kept {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Kept {
    /// Everything that was told, in every form.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().iter().fold(String::new(), |mut text, event| {
            let _ = writeln!(text, "{}\n{event:?}", serde_json::to_string(event).unwrap());
            text
        })
    }
}

/// Applies, and keeps what is told.
pub async fn apply(fleet: &Fleet, cluster: &Cluster, options: &Options) -> (Result<Report>, Kept) {
    let kept = Kept::default();
    let result = apply::apply(cluster, fleet.connect(cluster), options, &kept).await;
    (result, kept)
}

/// Applies; fails with everything that is known when the run does.
pub async fn applied(fleet: &Fleet, cluster: &Cluster, options: &Options) -> Report {
    let (result, kept) = apply(fleet, cluster, options).await;
    result.unwrap_or_else(|error| panic!("{}\n{}", told(&error), kept.text()))
}

/// All that a user may see of an error.
pub fn told(error: &Error) -> String {
    let hosts = match error {
        Error::Hosts { failures, .. } => {
            failures.iter().map(|failure| format!("{}: {}\n", failure.host, told(&failure.error))).collect()
        }
        _ => String::new(),
    };
    let shown = provision::output::error_text(error);
    format!("{error}\n{error:?}\n{:?}\n{:?}\n{shown}\n{hosts}", error.hint(), error.log())
}

/// The hosts on which a run failed, and why.
pub fn failed(error: &Error) -> BTreeMap<String, &Error> {
    match error {
        Error::Hosts { failures, .. } => {
            failures.iter().map(|failure| (failure.host.clone(), &failure.error)).collect()
        }
        other => panic!("no failure of hosts: {other}"),
    }
}

pub fn names(cluster: &Cluster) -> Vec<String> {
    cluster.hosts.iter().map(|host| host.name.value.clone()).collect()
}

pub fn secret_path() -> PathBuf {
    Path::new(PREFIX).join("etc/cluster-secret")
}

/// What has to be the same however a host got there: everything but logs, process ids and the journal. Of the secret, which
/// chance gives, only its form; of binaries, those in use, since a run that goes on where another was cut off keeps fewer old ones.
pub fn essence(mut left: Left) -> Left {
    let state = Path::new(PREFIX).join("state");
    let (logs, run) = (Path::new(PREFIX).join("log"), Path::new(PREFIX).join("run"));
    left.files
        .retain(|path, _| !path.starts_with(&state) && !path.starts_with(&logs) && !path.starts_with(&run));
    let artifacts = Path::new(PREFIX).join("artifacts");
    let in_use: BTreeSet<_> = left.links.values().cloned().collect();
    left.files.retain(|path, _| !path.starts_with(&artifacts) || in_use.contains(path));
    if let Some((_, bytes)) = left.files.get_mut(&secret_path()) {
        let key = cluster_secret::key(bytes);
        *bytes = bytes.len().to_string().into_bytes();
        // What follows from it counts as right or wrong alone.
        if let Some((_, text)) = left.files.get_mut(&Path::new(PREFIX).join("etc/nats-server.conf")) {
            let passwords = NatsUser::ALL.map(|user| (user.password(&key), user.name()));
            let told = passwords
                .iter()
                .fold(String::from_utf8_lossy(text).into_owned(), |text, (password, user)| {
                    text.replace(password, &format!("password of {user}"))
                });
            *text = told.into_bytes();
        }
    }
    left
}

pub fn all_left(fleet: &Fleet, cluster: &Cluster) -> BTreeMap<String, Left> {
    names(cluster).into_iter().map(|name| (name.clone(), essence(fleet.left(&name)))).collect()
}

/// Says in what two hosts differ.
pub fn differences(expected: &BTreeMap<String, Left>, found: &BTreeMap<String, Left>) -> String {
    let mut text = String::new();
    for (host, expected) in expected {
        let found = &found[host];
        for path in expected.files.keys().chain(found.files.keys()) {
            let (expected, found) = (expected.files.get(path), found.files.get(path));
            if expected != found {
                let shown = |side: Option<&(u32, Vec<u8>)>| {
                    side.map_or("absent".into(), |(mode, bytes)| {
                        format!("{mode:o} {}", String::from_utf8_lossy(bytes))
                    })
                };
                let _ = writeln!(text, "{host} {}: {} | {}", path.display(), shown(expected), shown(found));
            }
        }
        if expected.links != found.links {
            let _ = writeln!(text, "{host} links: {:?} | {:?}", expected.links, found.links);
        }
        if expected.serving != found.serving {
            let _ = writeln!(text, "{host} serving: {:?} | {:?}", expected.serving, found.serving);
        }
        if expected.supervisord != found.supervisord {
            let _ = writeln!(
                text,
                "{host} supervisord runs {:?} | {:?}",
                expected.supervisord, found.supervisord
            );
        }
    }
    text
}

/// When a program was not ready, from its end to its next start and what that takes; for ever if it was not started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    pub role: Role,
    pub host: String,
    pub program: String,
    pub from: Duration,
    pub until: Duration,
}

/// Every outage that began at `since` or later.
pub fn outages(fleet: &Fleet, cluster: &Cluster, since: Duration) -> Vec<Outage> {
    let mut roles = BTreeMap::new();
    for host in &cluster.hosts {
        for program in derive::programs(cluster, host, &HostFacts::default()).0 {
            roles.insert((host.name.value.clone(), program.name), program.role);
        }
    }
    let history = fleet.history();
    let begun = history
        .iter()
        .enumerate()
        .filter(|(_, happened)| happened.turn == Turn::Down && happened.at >= since);
    let outages = begun.map(|(index, Happened { at, host, program, .. })| {
        let again = history[index..]
            .iter()
            .find(|later| later.turn == Turn::Up && later.host == *host && later.program == *program);
        Outage {
            role: roles[&(host.clone(), program.clone())],
            host: host.clone(),
            program: program.clone(),
            from: *at,
            until: again.map_or(Duration::MAX, |again| again.at + STARTUP),
        }
    });
    outages.collect()
}

/// Two outages of one role that overlap; none when there was never more than one program of a role down. Programs of one host
/// do not count when its supervisord went down with all of them.
pub fn overlap(outages: &[Outage], whole_hosts: bool) -> Option<(&Outage, &Outage)> {
    let pairs = outages
        .iter()
        .enumerate()
        .flat_map(|(index, one)| outages[index + 1..].iter().map(move |other| (one, other)));
    pairs.into_iter().find(|(one, other)| {
        one.role == other.role
            && !(whole_hosts && one.host == other.host)
            && one.from < other.until
            && other.from < one.until
    })
}
