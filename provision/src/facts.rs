//! What a host is like before anything is done: one script, one round trip, one JSON reply; and what supervisord says.

mod build;

use crate::check;
use crate::error::{Error, Result};
use crate::inventory::Binaries;
use crate::journal::Journal;
use crate::layout::Layout;
use crate::resolve::{Cluster, FarmSpace, Host};
use crate::secret::Secret;
use crate::supervisor::{self, ProcessState, Supervisor};
use crate::transport::{Command, Transport};
pub use build::{BINARIES, BuildFacts, Stamp, of_workspace, read_stamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SCRIPT: &str = include_str!("facts/facts.sh");
/// Oldest nats-server that has what the cluster uses of JetStream.
pub const NATS_MIN: (u32, u32) = (2, 10);
/// Oldest Supervisor.
pub const SUPERVISOR_MIN: (u32, u32) = (4, 0);

/// The script's reply as it stands on the wire.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    schema: String,
    machine: String,
    uid: String,
    os_release: String,
    libc: String,
    unix_time: String,
    python: String,
    apt_get: String,
    numactl: String,
    tools: String,
    cpus_online: String,
    numa_nodes: String,
    siblings: String,
    gpus: String,
    processes: String,
    ports: String,
    paths: String,
    files: String,
    links: String,
    directories: String,
    used: String,
}

/// A Python of at least 3.9.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// The interpreter, its links resolved.
    pub path: PathBuf,
    /// "3.11.2".
    pub version: String,
    /// Whether it has pip.
    pub pip: bool,
    /// Whether it can make a virtual environment with pip.
    pub ensurepip: bool,
}

/// A tool that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Where.
    pub path: PathBuf,
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
}

/// CPUs of a NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// Its number.
    pub node: u32,
    /// Its CPUs.
    pub cpus: BTreeSet<u32>,
}

/// A running program of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnProcess {
    /// Process id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its executable, links resolved.
    pub executable: PathBuf,
}

/// A port that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenPort {
    /// The port.
    pub port: u16,
    /// Who listens; unknown when it is another user's.
    pub pid: Option<u32>,
    /// Its program.
    pub program: String,
}

/// A path that is wanted and what there is of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// The path.
    pub path: PathBuf,
    /// Its nearest ancestor that exists.
    pub there: PathBuf,
    /// Whether that is a directory.
    pub directory: bool,
    /// Whether we may write to it.
    pub writable: bool,
    /// Bytes free on its file system.
    pub free_bytes: Option<u64>,
    /// Where that file system is mounted.
    pub mount: PathBuf,
    /// "ext2/ext3", "xfs", "overlayfs".
    pub file_system: String,
    /// Bytes that the path itself takes already.
    pub used_bytes: u64,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFacts {
    /// What it says.
    pub target: PathBuf,
    /// Where it leads in the end; empty when it leads nowhere.
    pub resolved: PathBuf,
}

/// A supervised program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// Its state.
    pub state: ProcessState,
    /// Process id when it runs.
    pub pid: Option<u32>,
}

/// What supervisord says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorFacts {
    /// Its process id.
    pub pid: u32,
    /// Its programs.
    pub programs: BTreeMap<String, ProgramFacts>,
    /// Programs whose configuration on disk is not the one that runs: added or changed.
    pub stale: BTreeSet<String>,
    /// Programs that run but are configured no more.
    pub removed: BTreeSet<String>,
    /// Why it cannot read its configuration, when it cannot.
    pub unreadable: Option<String>,
}

/// What is asked of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The host's name, for messages.
    pub host: String,
    /// Directory that holds everything of the cluster there.
    pub prefix: PathBuf,
    /// Ports that are wanted.
    pub ports: Vec<u16>,
    /// Directories that roles keep data in, see [`data_paths`].
    pub paths: Vec<PathBuf>,
}

impl Question {
    /// What a plan for `host` needs to know.
    pub fn of(host: &Host) -> Self {
        Self {
            host: host.name.value.clone(),
            prefix: host.prefix.clone(),
            ports: check::ports(host).iter().map(|used| used.port).collect(),
            paths: data_paths(host),
        }
    }
}

/// Facts of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// "x86_64".
    pub machine: String,
    /// User id.
    pub uid: u32,
    /// "debian".
    pub os_id: String,
    /// "Debian GNU/Linux 12 (bookworm)".
    pub os_name: String,
    /// "glibc 2.36".
    pub libc: String,
    /// Its clock, in seconds since 1970.
    pub unix_time: u64,
    /// Python.
    pub python: Option<Python>,
    /// `apt-get`.
    pub apt_get: Option<PathBuf>,
    /// numactl.
    pub numactl: Option<PathBuf>,
    /// Tools on PATH.
    pub path_tools: BTreeMap<String, Tool>,
    /// Tools that we installed.
    pub prefix_tools: BTreeMap<String, Tool>,
    /// CPUs that are on-line.
    pub cpus_online: BTreeSet<u32>,
    /// NUMA nodes.
    pub numa_nodes: Vec<NumaNode>,
    /// SMT siblings of each CPU.
    pub siblings: BTreeMap<u32, BTreeSet<u32>>,
    /// Indices of NVIDIA GPUs.
    pub gpus: BTreeSet<u16>,
    /// Programs of this cluster, whoever started them.
    pub processes: Vec<OwnProcess>,
    /// Wanted ports that are taken.
    pub ports: Vec<TakenPort>,
    /// The prefix first, then every path of data.
    pub paths: Vec<PathFacts>,
    /// SHA-256 of each file below `etc`.
    pub files: BTreeMap<PathBuf, String>,
    /// Links in `bin`.
    pub links: BTreeMap<String, LinkFacts>,
    /// Directories of the prefix, three levels deep.
    pub directories: BTreeSet<PathBuf>,
    /// Fingerprint of the cluster secret; none when it is not there.
    pub secret: Option<String>,
    /// Where the last run on this host was cut off, if it was.
    pub interrupted: Option<String>,
    /// supervisord, when it answers.
    pub supervisor: Option<SupervisorFacts>,
    /// Our binaries on the control machine.
    pub build: BuildFacts,
}

impl HostFacts {
    /// Whether a process descends from supervisord.
    pub fn supervised(&self, process: &OwnProcess) -> bool {
        let Some(supervisor) = &self.supervisor else { return false };
        let mut parent = process.parent;
        // Bounded: a chain of parents cannot be longer than the processes there are.
        for _ in 0..=self.processes.len() {
            if parent == supervisor.pid {
                return true;
            }
            match self.processes.iter().find(|other| other.pid == parent) {
                Some(above) => parent = above.parent,
                None => return false,
            }
        }
        false
    }

    /// Programs of this cluster that no supervisord of ours looks after.
    pub fn orphans(&self) -> Vec<&OwnProcess> {
        let supervisor = self.supervisor.as_ref().map(|supervisor| supervisor.pid);
        self.processes
            .iter()
            .filter(|process| Some(process.pid) != supervisor && !self.supervised(process))
            .collect()
    }
}

/// What the control machine knows of our binaries.
///
/// # Errors
/// They are there and cannot be read.
pub async fn binaries(cluster: &Cluster, control: &dyn Transport) -> Result<BuildFacts> {
    match &cluster.binaries {
        Binaries::Build => build::gather(&cluster.stamp, control).await,
        Binaries::Files { farmer, dev_node } => build::given(&farmer.value, &dev_node.value, control).await,
    }
}

/// Gathers the facts of a host, beside what is known of our binaries.
///
/// # Errors
/// The host cannot be asked or gives no sense.
pub async fn gather(host: &Host, transport: &dyn Transport, binaries: &BuildFacts) -> Result<HostFacts> {
    let facts = transport.facts(&Question::of(host)).await?;
    Ok(HostFacts { build: binaries.clone(), ..facts })
}

/// Collects the facts of a host next to it: what [`Transport::facts`] does where the host is.
///
/// # Errors
/// See [`gather`].
pub async fn collect(question: &Question, transport: &dyn Transport) -> Result<HostFacts> {
    let layout = Layout::new(&question.prefix);
    let mut facts = ask(question, &layout, transport).await?;
    facts.supervisor = ask_supervisor(&question.host, &layout, &facts.processes, transport).await?;
    facts.secret = Secret::fingerprint(&layout.secret(), transport).await;
    // What may not be read counts as not there: that the prefix is unfit is told by the check.
    facts.interrupted = Journal::new(&layout, transport).interrupted().await.ok().flatten();
    Ok(facts)
}

/// Gathers what the installation of packages below `directory` needs to know.
pub(crate) async fn gather_tools(directory: &Path, transport: &dyn Transport) -> Result<HostFacts> {
    let question = Question {
        host: "this machine".to_string(),
        prefix: directory.to_path_buf(),
        ports: Vec::new(),
        paths: Vec::new(),
    };
    ask(&question, &Layout::new(directory), transport).await
}

async fn ask(question: &Question, layout: &Layout, transport: &dyn Transport) -> Result<HostFacts> {
    let ports: Vec<_> = question.ports.iter().map(u16::to_string).collect();
    let paths: Vec<_> = question.paths.iter().map(|path| path.display().to_string()).collect();
    let command = Command::new("sh")
        .arg("-s")
        .env("PREFIX", &layout.prefix)
        .env("MARKER", layout.marker())
        .env("PORTS", ports.join(" "))
        .env("PATHS", paths.join(" "))
        .stdin(SCRIPT)
        .deadline(Duration::from_secs(60));
    let output = transport.run(&command).await?;
    let failed = |message: String| Error::Facts { host: question.host.clone(), message };
    if !output.success() {
        return Err(failed(format!("the script ended with {}: {}", output.status, output.last_words(3))));
    }
    let reply: Reply = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    if reply.schema != "1" {
        return Err(failed(format!("schema {} instead of 1", reply.schema)));
    }
    Ok(reply.parse(layout))
}

/// Directories in which roles keep data, farms last.
pub fn data_paths(host: &Host) -> Vec<PathBuf> {
    let plotter = host.plotter.iter().flat_map(|plotter| {
        let caches = [&plotter.sharded_cache.path.value, &plotter.full_piece_cache.path.value];
        caches.into_iter().chain(plotter.plot_servers.iter().map(|server| &server.path.value))
    });
    let farms = host.storage.iter().flat_map(|storage| storage.farms.iter().map(|farm| &farm.path.value));
    plotter.chain(farms).cloned().collect()
}

/// Bytes that a farm's files will take.
pub fn farm_bytes(space: FarmSpace, pieces_in_sector: u16) -> u64 {
    match space {
        FarmSpace::Sectors(sectors) => {
            primitives::farms::FarmGeometry { pieces_in_sector, sectors }.disk_space()
        }
        FarmSpace::Bytes(bytes) => bytes,
    }
}

/// What supervisord says; none when there is none.
async fn ask_supervisor(
    host: &str,
    layout: &Layout,
    processes: &[OwnProcess],
    transport: &dyn Transport,
) -> Result<Option<SupervisorFacts>> {
    let supervisor = Supervisor::new(transport, layout.socket());
    // A file that may not be read is not ours; that the prefix is unfit is told by the check.
    let pidfile =
        transport.read(&layout.run().join("supervisord.pid"), 64).await.ok().flatten().unwrap_or_default();
    let pid: Option<u32> = String::from_utf8_lossy(&pidfile).trim().parse().ok();
    let runs = pid.filter(|pid| processes.iter().any(|process| process.pid == *pid));
    if let Ok(facts) = describe(&supervisor).await {
        return Ok(Some(facts));
    }
    // It runs and does not answer: a loaded machine gets more time, but its programs are not taken for orphans.
    let Some(pid) = runs else { return Ok(None) };
    tokio::time::sleep(Duration::from_secs(2)).await;
    let error = match describe(&supervisor).await {
        Ok(facts) => return Ok(Some(facts)),
        Err(error) => error,
    };
    let message = format!(
        "supervisord runs as process {pid} but does not answer ({error}); if it stays so: kill -9 {pid}"
    );
    Err(Error::Facts { host: host.to_string(), message })
}

async fn describe(supervisor: &Supervisor<'_>) -> Result<SupervisorFacts> {
    let mut facts = SupervisorFacts { pid: supervisor.pid().await?, ..SupervisorFacts::default() };
    for program in supervisor.programs().await? {
        let pid = (program.pid != 0).then_some(program.pid);
        facts.programs.insert(program.name, ProgramFacts { state: program.state, pid });
    }
    match supervisor.reload().await {
        Ok(supervisor::Reload { added, changed, removed }) => {
            facts.stale = added.into_iter().chain(changed).collect();
            facts.removed = removed.into_iter().collect();
        }
        Err(error) => facts.unreadable = Some(error.to_string()),
    }
    Ok(facts)
}

impl Reply {
    fn parse(self, layout: &Layout) -> HostFacts {
        let release: BTreeMap<_, _> =
            self.os_release.lines().filter_map(|line| line.split_once('=')).collect();
        let release = |key| release.get(key).map_or("", |value: &&str| value.trim_matches('"')).to_string();
        let some_path = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from);
        let (path_tools, prefix_tools) = parse_tools(&self.tools, layout);
        let used: BTreeMap<_, _> = self.used.lines().filter_map(|line| line.split_once('\t')).collect();
        let used: BTreeMap<_, u64> = used
            .into_iter()
            .filter_map(|(kib, path)| Some((path, kib.parse::<u64>().ok()? * 1024)))
            .collect();
        HostFacts {
            machine: self.machine.trim().to_string(),
            uid: self.uid.trim().parse().unwrap_or(u32::MAX),
            os_id: release("ID"),
            os_name: release("PRETTY_NAME"),
            libc: self.libc.trim().to_string(),
            unix_time: self.unix_time.trim().parse().unwrap_or(0),
            python: parse_python(&self.python),
            apt_get: some_path(&self.apt_get),
            numactl: some_path(&self.numactl),
            path_tools,
            prefix_tools,
            cpus_online: parse_cpus(self.cpus_online.trim()),
            numa_nodes: rows(&self.numa_nodes)
                .filter_map(|row| {
                    Some(NumaNode { node: row.first()?.parse().ok()?, cpus: parse_cpus(row.get(1)?) })
                })
                .collect(),
            siblings: rows(&self.siblings)
                .filter_map(|row| Some((row.first()?.parse().ok()?, parse_cpus(row.get(1)?))))
                .collect(),
            gpus: self
                .gpus
                .lines()
                .filter_map(|line| line.trim().strip_prefix("/dev/nvidia")?.parse().ok())
                .collect(),
            processes: rows(&self.processes).filter_map(|row| parse_process(&row)).collect(),
            ports: rows(&self.ports).filter_map(|row| parse_port(&row)).collect(),
            paths: rows(&self.paths).filter_map(|row| parse_path(&row, &used)).collect(),
            files: self
                .files
                .lines()
                .filter_map(|line| line.split_once("  "))
                .map(|(digest, path)| (PathBuf::from(path), digest.to_string()))
                .collect(),
            links: rows(&self.links)
                .filter_map(|row| {
                    let [name, target, resolved] = row[..] else { return None };
                    Some((name.to_string(), LinkFacts { target: target.into(), resolved: resolved.into() }))
                })
                .collect(),
            directories: self.directories.lines().map(PathBuf::from).collect(),
            secret: None,
            interrupted: None,
            supervisor: None,
            build: BuildFacts::default(),
        }
    }
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.split('\t').collect())
}

fn parse_python(text: &str) -> Option<Python> {
    let mut lines = text.lines();
    Some(Python {
        path: lines.next().filter(|path| path.starts_with('/'))?.into(),
        version: lines.next()?.to_string(),
        pip: lines.next()? == "pip",
        ensurepip: lines.next()? == "ensurepip",
    })
}

type Tools = BTreeMap<String, Tool>;

fn parse_tools(text: &str, layout: &Layout) -> (Tools, Tools) {
    let (mut on_path, mut in_prefix) = (Tools::new(), Tools::new());
    for row in rows(text) {
        let [name, path, version] = row[..] else { continue };
        let path = PathBuf::from(path);
        let tools = if path.starts_with(layout.bin()) { &mut in_prefix } else { &mut on_path };
        tools.insert(name.to_string(), Tool { path, version: parse_version(version) });
    }
    (on_path, in_prefix)
}

/// The first `N.N[.N]` of a text such as "nats-server: v2.14.6".
pub(crate) fn parse_version(text: &str) -> (u32, u32, u32) {
    let word = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    let mut numbers = word.unwrap_or("").split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// A CPU list of the kernel: `0-31,96-127`.
pub(crate) fn parse_cpus(text: &str) -> BTreeSet<u32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last && last < 65_536).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn parse_process(row: &[&str]) -> Option<OwnProcess> {
    let [pid, parent, executable] = row else { return None };
    // A replaced executable is shown as "PATH (deleted)": then it is not the one that lies there.
    Some(OwnProcess {
        pid: pid.parse().ok()?,
        parent: parent.parse().ok()?,
        executable: (*executable).into(),
    })
}

fn parse_port(row: &[&str]) -> Option<TakenPort> {
    let [port, pid, program] = row else { return None };
    Some(TakenPort { port: port.parse().ok()?, pid: pid.parse().ok(), program: (*program).to_string() })
}

fn parse_path(row: &[&str], used: &BTreeMap<&str, u64>) -> Option<PathFacts> {
    let [path, there, kind, writable, free_kib, mount, file_system] = row else { return None };
    Some(PathFacts {
        path: (*path).into(),
        there: (*there).into(),
        directory: *kind == "directory",
        writable: *writable == "yes",
        free_bytes: free_kib.parse::<u64>().ok().map(|kib| kib * 1024),
        mount: (*mount).into(),
        file_system: (*file_system).to_string(),
        used_bytes: used.get(path).copied().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_what_tools_print() {
        assert_eq!(parse_version("nats-server: v2.14.6"), (2, 14, 6));
        assert_eq!(parse_version("4.3.0"), (4, 3, 0));
        assert_eq!(parse_version("nats-server: v2.11.0-RC.2"), (2, 11, 0));
        assert_eq!(parse_version("nonsense"), (0, 0, 0));
    }

    #[test]
    fn cpu_lists_of_the_kernel() {
        assert_eq!(parse_cpus("0-2,8"), BTreeSet::from([0, 1, 2, 8]));
        assert_eq!(parse_cpus(""), BTreeSet::new());
        assert_eq!(parse_cpus("3-1"), BTreeSet::new());
    }

    #[test]
    fn orphans_are_those_without_our_supervisord_above_them() {
        let process = |pid, parent| OwnProcess { pid, parent, executable: PathBuf::from("/x") };
        let mut facts = HostFacts {
            processes: vec![process(11, 10), process(12, 11), process(13, 1)],
            supervisor: Some(SupervisorFacts { pid: 10, ..SupervisorFacts::default() }),
            ..HostFacts::default()
        };
        let pids = |facts: &HostFacts| facts.orphans().iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(&facts), [13]);
        facts.supervisor = None;
        assert_eq!(pids(&facts), [11, 12, 13]);
    }
}
