//! supervisord as `provision` meets it: Supervisor 4's states and faults, without its processes.

use super::files::{Entry, Files};
use super::xml;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a program that fails runs before it ends.
const FAILS_AFTER: Duration = Duration::from_millis(300);
/// How long a program takes to end after its TERM.
const ENDS_AFTER: Duration = Duration::from_millis(500);

/// Time since the fleet began.
pub(super) type Now = Duration;

/// A program as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configured {
    pub(super) command: Vec<String>,
    environment: String,
    directory: PathBuf,
    log: PathBuf,
    start_seconds: u64,
    start_retries: u32,
    stop_seconds: u64,
}

/// What became of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    Stopped,
    Starting { pid: u32, since: Now },
    Running { pid: u32, since: Now },
    Backoff { until: Now },
    Stopping { pid: u32, until: Now },
    Fatal,
}

impl State {
    /// Supervisor's number and name of it.
    fn code(&self) -> (i64, &'static str) {
        match self {
            Self::Stopped => (0, "STOPPED"),
            Self::Starting { .. } => (10, "STARTING"),
            Self::Running { .. } => (20, "RUNNING"),
            Self::Backoff { .. } => (30, "BACKOFF"),
            Self::Stopping { .. } => (40, "STOPPING"),
            Self::Fatal => (200, "FATAL"),
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Starting { pid, .. } | Self::Running { pid, .. } | Self::Stopping { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

/// A program that supervisord knows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) configured: Configured,
    pub(super) state: State,
    tries: u32,
    error: String,
}

/// What supervisord needs of the machine around it.
pub(super) trait Machine {
    fn files(&self) -> &Files;
    /// Starts a program; gives its process id.
    fn spawn(&mut self, name: &str, command: &[String], now: Now) -> u32;
    /// A process is told to end: from now on it serves nobody.
    fn terminated(&mut self, pid: u32, now: Now);
    /// A process has ended.
    fn ended(&mut self, pid: u32, now: Now);
    /// Whether a process ends by itself soon after its start.
    fn fails(&self, pid: u32) -> bool;
}

/// A supervisord.
#[derive(Debug)]
pub(super) struct Supervisord {
    pub(super) pid: u32,
    pub(super) socket: PathBuf,
    /// Its own file as it read it at its start.
    pub(super) own_file: String,
    programs_file_directory: PathBuf,
    /// The programs as last read from disk.
    read: BTreeMap<String, Configured>,
    pub(super) known: BTreeMap<String, Known>,
    /// Whether it is stopped (SIGSTOP) and answers nobody.
    pub(super) hangs: bool,
    /// When it will have ended, after a shutdown.
    pub(super) ends_at: Option<Now>,
}

/// A request that was refused: Supervisor's fault code and text.
type Refused = (i64, String);

impl Supervisord {
    /// Starts from a configuration file.
    ///
    /// # Errors
    /// What it would print.
    pub(super) fn start(pid: u32, file: &Path, files: &Files) -> Result<Self, String> {
        let (bytes, _) =
            files.read(file).ok_or_else(|| format!("could not find config file {}", file.display()))?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?;
        let sections = sections(&text);
        let value = |section: &str, key: &str| {
            let found = sections.iter().find(|(name, _)| name == section).and_then(|(_, keys)| keys.get(key));
            found.cloned().ok_or_else(|| format!("no {key} in section {section}"))
        };
        let socket = PathBuf::from(value("unix_http_server", "file")?);
        let directory = Path::new(&value("include", "files")?).parent().unwrap_or(file).to_path_buf();
        let socket_directory = socket.parent().unwrap_or(Path::new("/"));
        if !files.is_directory(socket_directory) {
            return Err(format!("the directory {} does not exist", socket_directory.display()));
        }
        let mut started = Self {
            pid,
            socket,
            own_file: text,
            programs_file_directory: directory,
            read: BTreeMap::new(),
            known: BTreeMap::new(),
            hangs: false,
            ends_at: None,
        };
        started.read = started.reread(files)?;
        // None starts by itself: `autostart=false`.
        for (name, configured) in started.read.clone() {
            started.known.insert(name, Known::new(configured));
        }
        Ok(started)
    }

    /// Reads every program's file; one bad file refuses all of it.
    fn reread(&self, files: &Files) -> Result<BTreeMap<String, Configured>, String> {
        let mut programs = BTreeMap::new();
        let included = files.below(&self.programs_file_directory).filter(|(path, entry)| {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            matches!(entry, Entry::File(_)) && path.extension().is_some_and(|end| end == "conf") && !hidden
        });
        for (path, _) in included {
            let (bytes, _) = files.read(path).unwrap_or_default();
            let text = std::str::from_utf8(bytes).map_err(|error| format!("{}: {error}", path.display()))?;
            for (section, keys) in sections(text) {
                let Some(name) = section.strip_prefix("program:") else { continue };
                let configured = Configured::read(&keys, files).map_err(|error| {
                    format!("{error} in section {section:?} (file: {:?})", path.display())
                })?;
                // A second definition of a name is accepted silently.
                programs.insert(name.to_string(), configured);
            }
        }
        Ok(programs)
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, machine: &mut dyn Machine, now: Now) {
        for (name, known) in &mut self.known {
            // Each turn is a change of state; of those there are few between two questions.
            for _ in 0..64 {
                if !known.step(name, machine, now) {
                    break;
                }
            }
        }
    }

    /// Answers a request of XML-RPC; none for what Supervisor answers with a status of 500.
    pub(super) fn answer(&mut self, body: &str, machine: &mut dyn Machine, now: Now) -> Option<String> {
        let (method, parameters) = xml::call(body)?;
        let name = parameters.first().map(String::as_str).unwrap_or_default();
        let done = match method.as_str() {
            "supervisor.getPID" => Ok(xml::int(i64::from(self.pid))),
            "supervisor.getAllProcessInfo" => {
                Ok(xml::array(self.known.iter().map(|(name, known)| known.info(name, now))))
            }
            "supervisor.getProcessInfo" => self.find(name).map(|known| known.info(name, now)),
            "supervisor.reloadConfig" => self.reload(machine.files()),
            "supervisor.addProcessGroup" => self.add(name),
            "supervisor.removeProcessGroup" => self.remove(name),
            "supervisor.startProcess" => {
                let known = self.known.get_mut(name).ok_or_else(|| bad_name(name));
                match known {
                    // An assertion of its own fails.
                    Ok(known) if matches!(known.state, State::Stopping { .. }) => return None,
                    known => known.and_then(|known| known.start(name, machine, now)),
                }
            }
            "supervisor.stopProcess" => self.find(name).and_then(|known| known.stop(name, machine, now)),
            "supervisor.shutdown" => {
                for (name, known) in &mut self.known {
                    let _ = known.stop(name, machine, now);
                }
                self.ends_at = Some(now + ENDS_AFTER);
                Ok(xml::boolean(true))
            }
            other => Err((1, format!("UNKNOWN_METHOD: {other}"))),
        };
        Some(match done {
            Ok(value) => xml::reply(&value),
            Err((code, text)) => xml::fault(code, &text),
        })
    }

    fn find(&mut self, name: &str) -> Result<&mut Known, Refused> {
        self.known.get_mut(name).ok_or_else(|| bad_name(name))
    }

    fn reload(&mut self, files: &Files) -> Result<String, Refused> {
        self.read = self.reread(files).map_err(|error| (92, format!("CANT_REREAD: {error}")))?;
        let added = self.read.keys().filter(|name| !self.known.contains_key(*name));
        let changed = self.read.iter().filter_map(|(name, configured)| {
            self.known.get(name).is_some_and(|known| known.configured != *configured).then_some(name)
        });
        let removed = self.known.keys().filter(|name| !self.read.contains_key(*name));
        let list = |names: &mut dyn Iterator<Item = &String>| xml::array(names.map(|name| xml::string(name)));
        let lists =
            [list(&mut added.into_iter()), list(&mut changed.into_iter()), list(&mut removed.into_iter())];
        Ok(xml::array([xml::array(lists)]))
    }

    fn add(&mut self, name: &str) -> Result<String, Refused> {
        if self.known.contains_key(name) {
            return Err((90, format!("ALREADY_ADDED: {name}")));
        }
        let configured = self.read.get(name).cloned().ok_or_else(|| bad_name(name))?;
        self.known.insert(name.to_string(), Known::new(configured));
        Ok(xml::boolean(true))
    }

    fn remove(&mut self, name: &str) -> Result<String, Refused> {
        if self.find(name)?.state.pid().is_some() {
            return Err((91, format!("STILL_RUNNING: {name}")));
        }
        self.known.remove(name);
        Ok(xml::boolean(true))
    }
}

fn bad_name(name: &str) -> Refused {
    (10, format!("BAD_NAME: {name}"))
}

impl Known {
    fn new(configured: Configured) -> Self {
        Self { configured, state: State::Stopped, tries: 0, error: String::new() }
    }

    fn info(&self, name: &str, now: Now) -> String {
        let start = match self.state {
            State::Starting { since, .. } | State::Running { since, .. } => since,
            _ => Duration::ZERO,
        };
        let (code, state) = self.state.code();
        let seconds = |at: Now| i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        xml::fields(&[
            ("name", xml::string(name)),
            ("group", xml::string(name)),
            ("statename", xml::string(state)),
            ("state", xml::int(code)),
            ("pid", xml::int(i64::from(self.state.pid().unwrap_or(0)))),
            ("start", xml::int(seconds(start))),
            ("now", xml::int(seconds(now))),
            ("spawnerr", xml::string(&self.error)),
        ])
    }

    fn spawn(&mut self, name: &str, machine: &mut dyn Machine, now: Now) {
        let pid = machine.spawn(name, &self.configured.command, now);
        self.error.clear();
        self.state = State::Starting { pid, since: now };
    }

    fn start(&mut self, name: &str, machine: &mut dyn Machine, now: Now) -> Result<String, Refused> {
        let program = self.configured.command.first().cloned().unwrap_or_default();
        if machine.files().read(Path::new(&program)).is_none() {
            return Err((20, format!("NO_FILE: can't find command '{program}'")));
        }
        if matches!(self.state, State::Starting { .. } | State::Running { .. } | State::Backoff { .. }) {
            return Err((60, format!("ALREADY_STARTED: {name}")));
        }
        self.tries = 0;
        self.spawn(name, machine, now);
        Ok(xml::boolean(true))
    }

    fn stop(&mut self, name: &str, machine: &mut dyn Machine, now: Now) -> Result<String, Refused> {
        match self.state {
            State::Starting { pid, .. } | State::Running { pid, .. } => {
                machine.terminated(pid, now);
                let patience = Duration::from_secs(self.configured.stop_seconds);
                self.state = State::Stopping { pid, until: now + ENDS_AFTER.min(patience) };
            }
            State::Backoff { .. } => self.state = State::Stopped,
            _ => return Err((70, format!("NOT_RUNNING: {name}"))),
        }
        Ok(xml::boolean(true))
    }

    /// Makes the next change of state that is due; whether there was one.
    fn step(&mut self, name: &str, machine: &mut dyn Machine, now: Now) -> bool {
        match self.state {
            State::Starting { pid, since } if machine.fails(pid) => {
                let at = since + FAILS_AFTER;
                if at > now {
                    return false;
                }
                machine.ended(pid, at);
                self.tries += 1;
                self.error = "Exited too quickly (process log may have details)".to_string();
                self.state = match self.tries > self.configured.start_retries {
                    true => State::Fatal,
                    false => State::Backoff { until: at + Duration::from_secs(u64::from(self.tries)) },
                };
                true
            }
            State::Starting { pid, since } => {
                let up = since + Duration::from_secs(self.configured.start_seconds) <= now;
                if up {
                    self.state = State::Running { pid, since };
                }
                up
            }
            State::Backoff { until } if until <= now => {
                self.spawn(name, machine, until);
                true
            }
            State::Stopping { pid, until } if until <= now => {
                machine.ended(pid, until);
                self.state = State::Stopped;
                true
            }
            _ => false,
        }
    }
}

impl Configured {
    fn read(keys: &BTreeMap<String, String>, files: &Files) -> Result<Self, String> {
        let value = |key: &str| keys.get(key).map(|text| expanded(text)).transpose();
        let required =
            |key: &str| value(key)?.ok_or_else(|| format!("program section does not specify a {key}"));
        let number = |key: &str, default: u64| match value(key)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{key}={text:?} is no number")),
        };
        let log = PathBuf::from(required("stdout_logfile")?);
        let directory = log.parent().unwrap_or(Path::new("/"));
        if !files.is_directory(directory) {
            return Err(format!("the directory named as part of the path {} does not exist", log.display()));
        }
        Ok(Self {
            command: words(&required("command")?)?,
            environment: value("environment")?.unwrap_or_default(),
            directory: value("directory")?.unwrap_or_default().into(),
            log,
            start_seconds: number("startsecs", 1)?,
            start_retries: u32::try_from(number("startretries", 3)?).unwrap_or(u32::MAX),
            stop_seconds: number("stopwaitsecs", 10)?,
        })
    }
}

/// Sections of a configuration file with their keys.
fn sections(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with([';', '#'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            found.push((name.to_string(), BTreeMap::new()));
        } else if let (Some((_, keys)), Some((key, value))) = (found.last_mut(), line.split_once('=')) {
            keys.insert(key.trim().to_string(), value.trim().to_string());
        }
    }
    found
}

/// `%%` is a per cent sign; any other is a mistake here, where no expansion is used.
fn expanded(text: &str) -> Result<String, String> {
    let plain = text.replace("%%", "");
    match plain.contains('%') {
        true => Err(format!("Format string {text:?} is badly formatted")),
        false => Ok(text.replace("%%", "%")),
    }
}

/// The words of a command, as shlex has them.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let (mut word, mut begun, mut quote) = (String::new(), false, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                begun = true;
            }
            (None, c) if c.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, c) => word.push(c),
        }
    }
    if quote.is_some() {
        return Err("No closing quotation".to_string());
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    if words.is_empty() { Err("command is empty".to_string()) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_commands() {
        assert_eq!(words("a 'b c'  '' d'\"'e").expect("fine"), ["a", "b c", "", "d\"e"]);
        assert!(words("'a").is_err());
        assert!(words(" ").is_err());
        assert_eq!(expanded("a%%b").expect("fine"), "a%b");
        assert!(expanded("a%b").is_err());
    }
}
