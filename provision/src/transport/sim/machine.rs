//! A host: its files, its processes, what goes wrong with it.

use super::chance::Chance;
use super::files::Files;
use super::supervisord::{self, Now, Supervisord};
use super::{Fault, Happened, Turn};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a binary holds, somewhere, that ends right after its start: a bad build.
pub(super) const BAD_BUILD: &[u8] = b"ends at once";

/// Whom a process serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Service {
    #[default]
    Nobody,
    Nats(Nats),
    Node {
        rpc: SocketAddr,
        follows: Option<SocketAddr>,
    },
    Role {
        role: String,
        status: SocketAddr,
        servers: Vec<SocketAddr>,
    },
}

/// A nats-server as its file configures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nats {
    pub(super) name: String,
    pub(super) listen: SocketAddr,
    pub(super) monitor: SocketAddr,
    /// Where other servers reach it.
    pub(super) cluster: Option<SocketAddr>,
    /// Every server of the cluster, itself included; empty for one that is alone.
    pub(super) routes: Vec<SocketAddr>,
}

/// A process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) parent: u32,
    pub(super) program: String,
    pub(super) executable: PathBuf,
    pub(super) service: Service,
    pub(super) since: Now,
    /// Whether it still serves: not once it was told to end.
    pub(super) serves: bool,
    /// Whether it ends by itself soon after its start.
    fails: bool,
}

impl Process {
    /// Where it listens.
    pub(super) fn listens(&self) -> Vec<SocketAddr> {
        match &self.service {
            Service::Nobody => Vec::new(),
            Service::Nats(nats) => [nats.listen, nats.monitor].into_iter().chain(nats.cluster).collect(),
            Service::Node { rpc, .. } => vec![*rpc],
            Service::Role { status, .. } => vec![*status],
        }
    }
}

/// What the host has, without its supervisord.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) prefix: PathBuf,
    pub(super) files: Files,
    pub(super) processes: BTreeMap<u32, Process>,
    next_pid: u32,
    /// Whose children programs are: supervisord's.
    parent: u32,
    /// Programs that end by themselves.
    pub(super) failing: BTreeSet<String>,
    /// What became of programs, in no order.
    pub(super) happened: Vec<Happened>,
    name: String,
}

/// A lock that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) token: u64,
    session: u64,
    pub(super) holder: String,
}

/// A host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) address: IpAddr,
    pub(super) machine: Machine,
    pub(super) supervisord: Option<Supervisord>,
    /// Programs whose gates do not open.
    pub(super) shut: BTreeSet<String>,
    /// Whether its node has the chain it follows.
    pub(super) synced: bool,
    /// Whether it is out of reach, without power.
    pub(super) lost: bool,
    /// What each call takes longer than usual.
    pub(super) slow: Duration,
    /// Operations so far.
    pub(super) operations: u64,
    /// What is to go wrong, and at which operation.
    pub(super) armed: Vec<(u64, Fault)>,
    pub(super) sessions: BTreeSet<u64>,
    /// Sessions whose next answer is lost.
    pub(super) unanswered: BTreeSet<u64>,
    pub(super) locks: BTreeMap<PathBuf, Held>,
    pub(super) chance: Chance,
}

/// The control machine's end is gone; what it wanted done is not.
pub(super) fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

impl Host {
    pub(super) fn new(name: &str, address: IpAddr, prefix: &Path, chance: Chance) -> Self {
        let machine = Machine {
            prefix: prefix.to_path_buf(),
            files: Files::default(),
            processes: BTreeMap::new(),
            next_pid: 100,
            parent: 1,
            failing: BTreeSet::new(),
            happened: Vec::new(),
            name: name.to_string(),
        };
        Self {
            address,
            machine,
            supervisord: None,
            shut: BTreeSet::new(),
            synced: false,
            lost: false,
            slow: Duration::ZERO,
            operations: 0,
            armed: Vec::new(),
            sessions: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            locks: BTreeMap::new(),
            chance,
        }
    }

    /// Counts an operation; gives what ends the session in the midst of it.
    pub(super) fn due(&mut self, session: u64, now: Now) -> io::Result<Option<Fault>> {
        if !self.sessions.contains(&session) {
            return Err(gone());
        }
        self.operations += 1;
        let (due, later): (Vec<_>, _) =
            std::mem::take(&mut self.armed).into_iter().partition(|(at, _)| *at == self.operations);
        self.armed = later;
        let mut ends = None;
        for (_, fault) in due {
            match fault {
                Fault::Dropped | Fault::Killed | Fault::PowerCut => ends = Some(fault),
                Fault::AnswerLost => {
                    self.unanswered.insert(session);
                }
                Fault::DiskFull { after } => self.machine.files.room = Some(after),
                Fault::Slow { milliseconds } => self.slow = Duration::from_millis(milliseconds),
                Fault::SupervisordHangs => {
                    self.supervisord.iter_mut().for_each(|supervisord| supervisord.hangs = true)
                }
                Fault::SupervisordDies => self.kill_supervisord(now),
            }
        }
        Ok(ends)
    }

    /// Counts an operation that is done as a whole or, when something ends it, not at all.
    pub(super) fn pass(&mut self, session: u64, now: Now) -> io::Result<()> {
        match self.due(session, now)? {
            None => Ok(()),
            Some(fault) => {
                self.strike(fault, session, now);
                Err(gone())
            }
        }
    }

    /// Ends a session, or everything.
    pub(super) fn strike(&mut self, fault: Fault, session: u64, now: Now) {
        if fault != Fault::PowerCut {
            self.hang_up(session);
            return;
        }
        self.lost = true;
        self.sessions.clear();
        self.unanswered.clear();
        self.locks.clear();
        self.supervisord = None;
        let pids: Vec<u32> = self.machine.processes.keys().copied().collect();
        for pid in pids {
            self.machine.end(pid, now);
        }
        self.machine.files.power_cut(&mut self.chance);
    }

    /// What a session holds is given up with it.
    pub(super) fn hang_up(&mut self, session: u64) {
        self.sessions.remove(&session);
        self.unanswered.remove(&session);
        self.locks.retain(|_, held| held.session != session);
    }

    /// `kill -9`: its programs run on without it.
    pub(super) fn kill_supervisord(&mut self, now: Now) {
        if let Some(supervisord) = self.supervisord.take() {
            self.machine.end(supervisord.pid, now);
            self.machine.processes.values_mut().for_each(|process| process.parent = 1);
        }
    }

    pub(super) fn lock(&mut self, path: &Path, held: Held) {
        self.locks.insert(path.to_path_buf(), held);
    }

    /// Lets time pass for supervisord.
    pub(super) fn advance(&mut self, now: Now) {
        let Some(mut supervisord) = self.supervisord.take() else { return };
        supervisord.advance(&mut self.machine, now);
        match supervisord.ends_at.filter(|end| *end <= now) {
            Some(end) => {
                let left = supervisord.known.values().filter_map(|known| known.state.pid());
                for pid in left.chain([supervisord.pid]) {
                    self.machine.end(pid, end);
                }
            }
            None => self.supervisord = Some(supervisord),
        }
    }

    /// Starts supervisord with a configuration file; it prints why it does not start.
    pub(super) fn start_supervisord(&mut self, file: &Path, now: Now) -> Result<(), String> {
        let machine = &mut self.machine;
        let pid = machine.next_pid;
        let started = Supervisord::start(pid, file, &machine.files)?;
        if let Some(running) = &self.supervisord
            && running.socket == started.socket
        {
            return Err("Another program is already listening on a port that one of our HTTP servers is \
                        configured to use."
                .to_string());
        }
        machine.next_pid += 1;
        let process = Process {
            parent: 1,
            program: "supervisord".to_string(),
            executable: PathBuf::from("/usr/bin/python3.11"),
            service: Service::Nobody,
            since: now,
            serves: true,
            fails: false,
        };
        machine.processes.insert(pid, process);
        let pidfile = started.socket.with_file_name("supervisord.pid");
        machine
            .files
            .put(&pidfile, format!("{pid}\n").as_bytes(), 0o644)
            .map_err(|error| error.to_string())?;
        machine.parent = pid;
        self.supervisord = Some(started);
        Ok(())
    }
}

impl Held {
    pub(super) fn new(token: u64, session: u64, holder: &str) -> Self {
        Self { token, session, holder: holder.to_string() }
    }
}

impl Machine {
    fn tell(&mut self, program: &str, turn: Turn, at: Now) {
        self.happened.push(Happened { at, host: self.name.clone(), program: program.to_string(), turn });
    }

    /// A process is no more.
    pub(super) fn end(&mut self, pid: u32, at: Now) {
        if let Some(process) = self.processes.remove(&pid)
            && process.serves
            && process.service != Service::Nobody
        {
            self.tell(&process.program, Turn::Down, at);
        }
    }

    fn service(&self, command: &[String]) -> Service {
        let name = |word: &str| Path::new(word).file_name().map(|name| name.to_string_lossy().into_owned());
        let value = |flag: &str| {
            let at = command.iter().position(|word| word == flag)?;
            command.get(at + 1).cloned()
        };
        match command.first().and_then(|word| name(word)).as_deref() {
            Some("nats-server") => {
                value("-c").and_then(|file| nats(&self.files.text(Path::new(&file)))).map(Service::Nats)
            }
            Some("autonomys-dev-node") => value("--rpc-listen-on").and_then(|rpc| {
                let follows = value("--follow").and_then(|url| address(&url));
                Some(Service::Node { rpc: rpc.parse().ok()?, follows })
            }),
            Some("autonomys-farmer") => value("--prometheus-listen-on").and_then(|status| {
                let flags = command.windows(2).filter(|pair| pair[0] == "--nats-server");
                let servers = flags.filter_map(|pair| address(&pair[1])).collect();
                let roles = crate::derive::Role::ALL.map(crate::derive::Role::name);
                let role = command.iter().find(|word| roles.contains(&word.as_str()))?.clone();
                Some(Service::Role { role, status: status.parse().ok()?, servers })
            }),
            _ => None,
        }
        .unwrap_or_default()
    }
}

impl supervisord::Machine for Machine {
    fn files(&self) -> &Files {
        &self.files
    }

    fn spawn(&mut self, name: &str, command: &[String], now: Now) -> u32 {
        let pid = self.next_pid;
        self.next_pid += 1;
        let service = self.service(command);
        let program = Path::new(command.first().map_or("", String::as_str));
        let bad = self
            .files
            .read(program)
            .is_none_or(|(bytes, _)| bytes.windows(BAD_BUILD.len()).any(|window| window == BAD_BUILD));
        let fails = bad || service == Service::Nobody || self.failing.contains(name);
        let log = self.prefix.join("log").join(format!("{name}.log"));
        let said = if fails { "it ends: something is wrong\n" } else { "it starts\n" };
        // A log that does not fit is lost.
        let _ = self.files.append(&log, 0o644).and_then(|file| self.files.write(file, said.as_bytes()));
        if !fails {
            self.tell(name, Turn::Up, now);
        }
        let process = Process {
            parent: self.parent,
            program: name.to_string(),
            executable: self.files.resolve(program).unwrap_or_default(),
            service: if fails { Service::Nobody } else { service },
            since: now,
            serves: !fails,
            fails,
        };
        self.processes.insert(pid, process);
        pid
    }

    fn terminated(&mut self, pid: u32, now: Now) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if std::mem::take(&mut process.serves) {
            let program = process.program.clone();
            self.tell(&program, Turn::Down, now);
        }
    }

    fn ended(&mut self, pid: u32, now: Now) {
        self.end(pid, now);
    }

    fn fails(&self, pid: u32) -> bool {
        self.processes.get(&pid).is_none_or(|process| process.fails)
    }
}

/// The address in a URL.
fn address(url: &str) -> Option<SocketAddr> {
    url.rsplit(['/', '@']).next()?.parse().ok()
}

/// What a nats-server reads in its file.
fn nats(text: &str) -> Option<Nats> {
    let quoted = |line: &str| Some(line.split('"').nth(1)?.to_string());
    let (mut name, mut listen, mut monitor, mut cluster, mut routes) = (None, None, None, None, Vec::new());
    // A password that was not filled in is everybody's.
    if primitives::cluster_secret::is_marked(text) {
        return None;
    }
    // Blocks that are open, the innermost last.
    let mut blocks: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        let word = line.split([':', ' ', '{']).next().unwrap_or_default();
        if line.ends_with('{') {
            blocks.push(word);
            continue;
        }
        match (blocks.last().copied().unwrap_or_default(), word) {
            (_, "}") => {
                blocks.pop();
            }
            ("", "server_name") => name = quoted(line),
            ("", "listen") => listen = quoted(line),
            ("", "http") => monitor = quoted(line),
            ("cluster", "listen") => cluster = quoted(line),
            ("cluster", _) if line.starts_with("\"nats://") => routes.extend(quoted(line)),
            _ => {}
        }
    }
    Some(Nats {
        name: name?,
        listen: listen?.parse().ok()?,
        monitor: monitor?.parse().ok()?,
        cluster: cluster.and_then(|at| at.parse().ok()),
        routes: routes.iter().filter_map(|url| address(url)).collect(),
    })
}
