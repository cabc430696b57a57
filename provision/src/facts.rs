//! What a host is like before anything is done: one script, one round trip, one reply; and what supervisord says.

mod build;
mod hardware;
mod reply;

use crate::check;
use crate::error::{Error, Result};
use crate::inventory::Binaries;
use crate::journal::{Journal, LastRun};
use crate::layout::Layout;
use crate::resolve::{Cluster, Host};
use crate::secret::Secret;
use crate::supervisor::{self, ProcessState, Supervisor};
use crate::transport::{Command, Transport};
pub use build::{BINARIES, BuildFacts, Stamp, of_workspace, read_stamp};
pub use hardware::{GpuFacts, Hardware, InterfaceFacts, NumaNode};
use reply::Reply;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SCRIPT: &str = include_str!("facts/facts.sh");
/// Largest configuration that is looked into, in bytes.
const CONFIGURATION_MAX: u64 = 1 << 20;
/// Oldest nats-server that has what the cluster uses of JetStream.
pub const NATS_MIN: (u32, u32) = (2, 10);
/// Oldest Supervisor.
pub const SUPERVISOR_MIN: (u32, u32) = (4, 0);

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// The path.
    pub path: PathBuf,
    /// Its nearest ancestor that exists.
    pub there: PathBuf,
    /// Whether that is a directory.
    pub directory: bool,
    /// Whether we may write to it.
    pub writable: bool,
    /// Bytes free on its file system, the reserved ones left out.
    pub free_bytes: Option<u64>,
    /// Bytes of its file system.
    pub size_bytes: Option<u64>,
    /// Free bytes that are kept for root: ext4's reserve.
    pub reserved_bytes: u64,
    /// Where that file system is mounted.
    pub mount: PathBuf,
    /// "ext4", "xfs", "overlay".
    pub file_system: String,
    /// Whether its disk turns; unknown where the file system is not on one.
    pub rotational: Option<bool>,
    /// Bytes that the path itself takes already.
    pub used_bytes: u64,
}

/// By how much a host's clock is ahead of the control machine's, as far as one round trip can tell, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSkew {
    /// At least.
    pub min_ms: i64,
    /// At most.
    pub max_ms: i64,
}

impl ClockSkew {
    /// From the host's clock and the control machine's before and after it was asked, in milliseconds since 1970.
    fn between(host: u64, before: u64, after: u64) -> Self {
        let minus = |a: u64, b: u64| i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(i64::MAX);
        Self { min_ms: minus(host, after), max_ms: minus(host, before) }
    }

    /// What is certain: milliseconds that the clock is ahead (or behind, below 0); 0 when they may well agree.
    pub fn certain_ms(self) -> i64 {
        if self.min_ms > 0 { self.min_ms } else { self.max_ms.min(0) }
    }
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

/// What a farm says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FarmFacts {
    /// Bytes that it may take: `allocatedSpace`.
    pub allocated_bytes: u64,
    /// Pieces in its sectors.
    pub pieces_in_sector: u16,
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
    /// Its clock, in milliseconds since 1970.
    pub unix_time_ms: u64,
    /// How far that is from ours; known to the control machine alone.
    pub clock_skew: Option<ClockSkew>,
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
    /// What the host is made of.
    pub hardware: Hardware,
    /// Programs of this cluster, whoever started them.
    pub processes: Vec<OwnProcess>,
    /// Wanted ports that are taken.
    pub ports: Vec<TakenPort>,
    /// The prefix first, then every path of data.
    pub paths: Vec<PathFacts>,
    /// What the farms that are there say of themselves.
    pub farms: BTreeMap<PathBuf, FarmFacts>,
    /// SHA-256 of each file below `etc`.
    pub files: BTreeMap<PathBuf, String>,
    /// Links in `bin`.
    pub links: BTreeMap<String, LinkFacts>,
    /// Directories of the prefix, three levels deep.
    pub directories: BTreeSet<PathBuf>,
    /// Fingerprint of the cluster secret; none when it is not there.
    pub secret: Option<String>,
    /// What became of the last run on this host.
    pub last_run: LastRun,
    /// supervisord, when it answers.
    pub supervisor: Option<SupervisorFacts>,
    /// Our binaries on the control machine.
    pub build: BuildFacts,
}

impl HostFacts {
    /// These facts, just received, with what the control machine knows: how far the host's clock is off the own one, which
    /// stood at `asked_ms` when the host was asked, and our binaries.
    #[must_use]
    pub fn seen_from_here(self, asked_ms: u64, binaries: &BuildFacts) -> Self {
        let skew = ClockSkew::between(self.unix_time_ms, asked_ms, now_ms());
        // A host whose clock could not be read says 0.
        let clock_skew = (self.unix_time_ms > 0).then_some(skew);
        Self { build: binaries.clone(), clock_skew, ..self }
    }

    /// What there is of a path that was asked for.
    pub fn path(&self, path: &Path) -> Option<&PathFacts> {
        self.paths.iter().find(|facts| facts.path == path)
    }

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
/// They are there and cannot be read, or are not what the inventory says.
pub async fn binaries(cluster: &Cluster, control: &dyn Transport) -> Result<BuildFacts> {
    let mut facts = match &cluster.binaries {
        Binaries::Build => build::gather(&cluster.stamp, control).await?,
        Binaries::Brought { .. } => BuildFacts::default(),
    };
    for (name, artifact) in cluster.brought() {
        facts.bring(name, artifact, &cluster.artifact_cache, control).await?;
    }
    Ok(facts)
}

/// Gathers the facts of a host, beside what is known of our binaries.
///
/// # Errors
/// The host cannot be asked or gives no sense.
pub async fn gather(host: &Host, transport: &dyn Transport, binaries: &BuildFacts) -> Result<HostFacts> {
    let asked_ms = now_ms();
    let facts = transport.facts(&Question::of(host)).await?;
    Ok(facts.seen_from_here(asked_ms, binaries))
}

/// This machine's clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Collects the facts of a host next to it: what [`Transport::facts`] does where the host is.
///
/// # Errors
/// See [`gather`].
pub async fn collect(question: &Question, transport: &dyn Transport) -> Result<HostFacts> {
    let layout = Layout::new(&question.prefix);
    let facts = ask(question, &layout, transport).await?;
    beside_script(facts, question, transport).await
}

/// Adds to the facts of the script what is asked otherwise.
pub(crate) async fn beside_script(
    mut facts: HostFacts,
    question: &Question,
    transport: &dyn Transport,
) -> Result<HostFacts> {
    let layout = Layout::new(&question.prefix);
    facts.supervisor = ask_supervisor(&question.host, &layout, &facts.processes, transport).await?;
    facts.secret = Secret::fingerprint(&layout.secret(), transport).await;
    mark_passwords(&mut facts, &layout, transport).await;
    // What may not be read counts as not there: that the prefix is unfit is told by the check.
    facts.last_run = Journal::new(&layout, transport).last_run().await.unwrap_or_default();
    Ok(facts)
}

/// The digest of NATS' configuration is that of what was rendered: with marks in the places of the passwords.
async fn mark_passwords(facts: &mut HostFacts, layout: &Layout, transport: &dyn Transport) {
    let path = layout.nats_conf();
    let Some(digest) = facts.files.get_mut(&path) else { return };
    // What may not be read counts as another file.
    let text = transport.read(&path, CONFIGURATION_MAX).await.ok().flatten();
    let Some(text) = text.and_then(|bytes| String::from_utf8(bytes).ok()) else { return };
    let Ok(secret) = Secret::of_host(&layout.secret(), transport).await else { return };
    let marked = secret.mark(&text);
    if marked != text {
        *digest = crate::render::digest(&marked);
    }
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
        .env("FACTS_ROOT", "")
        .stdin(SCRIPT)
        .deadline(Duration::from_secs(60));
    let output = transport.run(&command).await?;
    let failed = |message: String| Error::Facts { host: question.host.clone(), message };
    if !output.success() {
        return Err(failed(format!("the script ended with {}: {}", output.status, output.last_words(3))));
    }
    Ok(Reply::read(&output.stdout).map_err(failed)?.parse(layout))
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_clock_is_off_by_what_the_round_trip_cannot_explain() {
        // Asked at 1,000, answered at 1,400.
        for (host, certain) in [(1000, 0), (1400, 0), (1200, 0), (7000, 5600), (400, -600), (0, -1000)] {
            assert_eq!(ClockSkew::between(host, 1000, 1400).certain_ms(), certain, "{host}");
        }
        assert_eq!(ClockSkew::between(u64::MAX, 0, 0).certain_ms(), i64::MAX);
    }
}
