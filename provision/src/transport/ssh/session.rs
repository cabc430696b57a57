//! Opens the SSH connection and starts our executable behind it.

use super::Program;
use super::channel::{Channel, NoGreeting, Words, last_words};
use crate::artifacts;
use crate::error::{Error, Result};
use crate::resolve::{Host, SshAccess};
use crate::transport::file_error;
use crate::transport::local::digest_of;
use crate::transport::wire::Hello;
use openssh::{ControlPersist, KnownHosts, SessionBuilder};
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long the connection may take, greeting of the other sshd included.
const CONNECT: Duration = Duration::from_secs(10);
/// What `ssh` may take with everything: jump hosts, keys on a slow machine.
const CONNECT_WHOLE: Duration = Duration::from_secs(60);
/// A dead network is noticed after three of these.
const ALIVE: Duration = Duration::from_secs(5);
/// Tries when sshd has too many connections at the moment (MaxStartups).
const TRIES: u32 = 6;
/// Pause after the first try; doubled after each.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a left-over connection of a killed run lives, in seconds.
const PERSIST_SECONDS: usize = 60;
/// How long the host may take to start our executable.
const START: Duration = Duration::from_secs(60);
/// How long the upload of our executable may take.
const UPLOAD: Duration = Duration::from_secs(1800);
/// What a login shell may print before our first line, in bytes.
const NOISE_MAX: u64 = 64 << 10;

/// Says whether our executable is there, and becomes it if so. `$1`: its digest; `$2`: its directory, or nothing.
/// None of these scripts has a single quote in it.
const START_SCRIPT: &str = r#"
d=${2:-/var/lib/autonomys/provision}
[ -n "$2" ] || [ "$(id -u)" = 0 ] || d=$HOME/.cache/autonomys/provision
if [ -f "$d/$1/provision" ]; then
    echo "provision here $(uname -m)"
    exec "$d/$1/provision" remote
fi
echo "provision absent $(uname -m)"
"#;

/// Takes our executable from standard input, checks that it has SHA-256 `$3`, puts it in place, and removes all but the three
/// newest versions.
const UPLOAD_SCRIPT: &str = r#"
set -eu
d=${2:-/var/lib/autonomys/provision}
[ -n "$2" ] || [ "$(id -u)" = 0 ] || d=$HOME/.cache/autonomys/provision
mkdir -p "$d"
t=$(mktemp -d "$d/upload.XXXXXX")
trap "rm -rf \"$t\"" EXIT
trap "exit 1" HUP INT TERM
cat > "$t/provision"
s=$(sha256sum < "$t/provision")
[ "${s%% *}" = "$3" ] || { echo "it arrived with SHA-256 ${s%% *} instead of $3" >&2; exit 1; }
chmod 755 "$t" "$t/provision"
sync "$t/provision" 2>/dev/null || sync
mkdir -p "$d/$1"
mv -f "$t/provision" "$d/$1/provision"
touch "$d/$1"
rm -rf "$t"
cd "$d"
ls -1t | tail -n +4 | while read -r old; do rm -rf "./$old"; done
"#;

/// An SSH connection, shared by all channels of a host.
pub(super) struct Session {
    name: String,
    access: SshAccess,
    target: String,
    /// Kept as long as the channel: when it goes, `ssh` is told to end.
    process: Option<Child>,
    session: openssh::Session,
    /// Configuration, pinned keys and control socket; removed at the end.
    directory: TempDir,
}

impl Session {
    /// Connects, trying again while sshd has too many connections.
    pub(super) async fn open(host: &Host) -> Result<Self> {
        let directory = private_directory()?;
        write_configuration(host, directory.path())?;
        let target = match host.ssh.port {
            Some(port) => format!("{} port {port}", host.address.value),
            None => host.address.value.to_string(),
        };
        let name = host.name.value.clone();
        let mut pause = PAUSE;
        for attempt in 1.. {
            let text = match connect(&name, directory.path()).await {
                Ok(session) => {
                    let access = host.ssh.clone();
                    return Ok(Self { name, access, target, process: None, session, directory });
                }
                Err(text) => text,
            };
            if attempt == TRIES || !is_crowded(&text) {
                let (message, hint) = explain(&text, &name, &target, &host.ssh);
                return Err(Error::Connection { host: name, message, hint });
            }
            tokio::time::sleep(pause.mul_f64(0.5 + spread())).await;
            pause *= 2;
        }
        unreachable!("the last try returns")
    }

    /// Starts `program` on the host and greets it; brings it there first when it is not.
    pub(super) async fn start(mut self, program: &Program) -> Result<(Channel, Self)> {
        let mut uploaded = false;
        loop {
            let mut process = self.spawn(START_SCRIPT, program, "")?;
            let (stdin, stdout, stderr) = pipes(&mut process)?;
            let words = Words::of(stderr);
            let mut stdout = BufReader::new(stdout);
            let line = tokio::time::timeout(START, first_line(&mut stdout)).await;
            let line = line.unwrap_or_else(|_| Ok(String::new())).unwrap_or_default();
            match line.strip_prefix("provision ").and_then(|rest| rest.split_once(' ')) {
                Some(("here", machine)) => {
                    let opened = Channel::open(&self.name, stdout, stdin, words).await;
                    let channel = opened.map_err(|error| self.not_started(error, machine))?;
                    self.process = Some(process);
                    return Ok((channel, self));
                }
                Some(("absent", _)) if !uploaded => {
                    drop((stdin, process));
                    self.upload(program).await?;
                    uploaded = true;
                }
                Some(_) => {
                    let message = "our executable was brought to the host and is not there".to_string();
                    return Err(self.failed(message, "is its directory on a disk of the host?".to_string()));
                }
                None => {
                    drop(stdin);
                    let words = words.until_end().await;
                    return Err(self.no_shell(&words));
                }
            }
        }
    }

    /// A script of ours as a channel of its own.
    fn spawn(&self, script: &str, program: &Program, more: &str) -> Result<Child> {
        let sudo = if self.access.sudo { "sudo -n " } else { "" };
        let directory = program.directory.as_deref().map_or("", |directory| directory.to_str().unwrap_or(""));
        let line = format!("exec {sudo}sh -c '{script}' sh '{}' '{directory}' '{more}'", program.digest);
        // As the crate does it, but in a process group of its own: Ctrl-C is for us, who then end it in order.
        let spawned = Command::new("ssh")
            .arg("-F")
            .arg(self.directory.path().join("config"))
            .arg("-S")
            .arg(self.session.control_socket())
            // Port 9: never a connection of its own if the shared one is gone.
            .args(["-o", "BatchMode=yes", "-T", "-p", "9", "none", "--"])
            .arg(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        spawned.map_err(|error| self.failed(format!("ssh: {error}"), INSTALL_SSH.to_string()))
    }

    async fn upload(&self, program: &Program) -> Result<()> {
        let (path, digest) = (program.path.clone(), program.digest.clone());
        let read = tokio::task::spawn_blocking(move || -> Result<_> {
            let slim = artifacts::slim(&path, &digest);
            let sent = digest_of(slim.path())?;
            Ok((slim, sent))
        });
        let (slim, sent) = read.await.map_err(|error| Error::Internal(error.to_string()))??;
        let opened = tokio::fs::File::open(slim.path()).await;
        let mut file = opened.map_err(file_error("cannot read", slim.path()))?;
        let mut process = self.spawn(UPLOAD_SCRIPT, program, &sent.unwrap_or_default())?;
        let (mut stdin, _stdout, stderr) = pipes(&mut process)?;
        let words = Words::of(stderr);
        let send = async {
            // A host that fails says why on its standard error.
            let _ = tokio::io::copy(&mut file, &mut stdin).await;
            let _ = stdin.shutdown().await;
            drop(stdin);
            process.wait().await
        };
        match tokio::time::timeout(UPLOAD, send).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            ended => {
                let words = words.until_end().await;
                let why = match ended {
                    Ok(Ok(status)) if words.is_empty() => status.to_string(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("it took more than {} s", UPLOAD.as_secs()),
                    Ok(Ok(_)) => words,
                };
                let message = format!("our executable cannot be brought to the host: {why}");
                let hint = "make room and let the user write there, or become root with `ssh: {sudo: true}`";
                Err(self.failed(message, hint.to_string()))
            }
        }
    }

    fn failed(&self, message: String, hint: String) -> Error {
        Error::Connection { host: self.name.clone(), message, hint }
    }

    /// The script did not even begin.
    fn no_shell(&self, words: &str) -> Error {
        if self.access.sudo {
            let user = self.access.user.as_deref().unwrap_or("USER");
            let hint = if words.contains("password") || words.contains("tty") {
                format!(
                    "let the user become root without a password: on the host, as root, \
                     `echo '{user} ALL=(root) NOPASSWD: ALL' > /etc/sudoers.d/provision`; or connect as root"
                )
            } else {
                format!("on {} see `sudo -n true`, or connect as root", self.target)
            };
            return self.failed(format!("cannot become root with sudo: {}", or_nothing(words)), hint);
        }
        let hint = format!("see whether `ssh {} true` works", self.target.replace(" port ", " -p "));
        self.failed(format!("the login shell does not run our commands: {}", or_nothing(words)), hint)
    }

    /// Our executable is there but does not greet.
    fn not_started(&self, error: NoGreeting, machine: &str) -> Error {
        let (why, words) = match error {
            NoGreeting::Version(other) => return self.other_version(&other),
            NoGreeting::Silent { why, words } => (why, words),
        };
        let said = if words.is_empty() { why } else { words };
        let own = std::env::consts::ARCH;
        let hint = if said.contains("GLIBC_") {
            "the host's C library is older than the one provision was built with: build provision on the oldest \
             system among your hosts"
                .to_string()
        } else if machine != own {
            format!(
                "the host is {machine} and this provision is for {own}: run one that was built for {machine}"
            )
        } else {
            "the host must run programs of this machine: the same architecture, glibc, and a disk that is not \
             mounted `noexec`"
                .to_string()
        };
        self.failed(format!("our executable does not start there: {said}"), hint)
    }

    fn other_version(&self, other: &Hello) -> Error {
        let own = Hello::own();
        let message = format!(
            "provision {} speaks protocol {}, the one on the host ({}) speaks {}",
            own.build, own.protocol, other.build, other.protocol
        );
        self.failed(
            message,
            "remove its directory on the host; the next run brings this one there".to_string(),
        )
    }
}

const INSTALL_SSH: &str = "install OpenSSH's client: apt-get install openssh-client";

fn or_nothing(words: &str) -> &str {
    if words.is_empty() { "it ended without a word" } else { words }
}

fn pipes(process: &mut Child) -> Result<(ChildStdin, ChildStdout, tokio::process::ChildStderr)> {
    match (process.stdin.take(), process.stdout.take(), process.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok((stdin, stdout, stderr)),
        _ => Err(Error::Internal("ssh was started without pipes".to_string())),
    }
}

/// The first line of ours, past whatever a login shell prints; empty at the end.
async fn first_line(stdout: &mut BufReader<ChildStdout>) -> std::io::Result<String> {
    let mut left = NOISE_MAX;
    loop {
        let mut line = Vec::new();
        let read = (&mut *stdout).take(left).read_until(b'\n', &mut line).await?;
        left -= read as u64;
        let line = String::from_utf8_lossy(&line);
        if read == 0 || line.starts_with("provision ") {
            return Ok(line.trim_end().to_string());
        }
    }
}

/// A directory of this run alone, whose sockets' paths are short enough for the kernel.
pub(super) fn private_directory() -> Result<TempDir> {
    let usual = std::env::temp_dir();
    let parent = if usual.as_os_str().len() <= 40 { usual.as_path() } else { Path::new("/tmp") };
    let made = tempfile::Builder::new().prefix("provision-").tempdir_in(parent);
    made.map_err(file_error("cannot make a directory in", parent))
}

/// Writes what `ssh` is to do. Jump hosts are reached with the same file, so strict checking holds for them, too.
pub(super) fn write_configuration(host: &Host, directory: &Path) -> Result<()> {
    let known_hosts = directory.join("known_hosts");
    let keys: String = host.ssh.host_keys.iter().map(|key| format!("* {key}\n")).collect();
    let config = directory.join("config");
    std::fs::write(&known_hosts, keys).map_err(file_error("cannot write", &known_hosts))?;
    std::fs::write(&config, configuration(host, &known_hosts)).map_err(file_error("cannot write", &config))
}

fn configuration(host: &Host, known_hosts: &Path) -> String {
    let ssh = &host.ssh;
    let mut text = format!("Host {}\n  HostName {}\n", host.name.value, host.address.value);
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "  {key} {value}");
    };
    if let Some(user) = &ssh.user {
        line("User", user);
    }
    if let Some(port) = &ssh.port {
        line("Port", port);
    }
    if let Some(file) = &ssh.identity_file {
        line("IdentityFile", &file.display());
        line("IdentitiesOnly", &"yes");
    }
    if let Some(jump) = &ssh.jump {
        line("ProxyJump", jump);
    }
    if !ssh.host_keys.is_empty() {
        line("UserKnownHostsFile", &known_hosts.display());
        line("GlobalKnownHostsFile", &"/dev/null");
        line("UpdateHostKeys", &"no");
    }
    let (connect, alive) = (CONNECT.as_secs(), ALIVE.as_secs());
    // The first value wins: the user's own files fill in what the inventory leaves open, and ours what they do. AES-GCM
    // is what processors have instructions for: large files go over a line several times as fast as with ChaCha20.
    let _ = write!(
        text,
        "Host *\n  BatchMode yes\n  StrictHostKeyChecking yes\n  ConnectTimeout {connect}\n  \
         ServerAliveInterval {alive}\n  ServerAliveCountMax 3\n  Include ~/.ssh/config\n  Include /etc/ssh/ssh_config\n  \
         Ciphers ^aes128-gcm@openssh.com\n"
    );
    text
}

/// Connects once; the error is what `ssh` said.
async fn connect(name: &str, directory: &Path) -> std::result::Result<openssh::Session, String> {
    let mut builder = SessionBuilder::default();
    builder
        .known_hosts_check(KnownHosts::Strict)
        .connect_timeout(CONNECT)
        .server_alive_interval(ALIVE)
        .control_directory(directory)
        .control_persist(
            NonZeroUsize::new(PERSIST_SECONDS).map_or(ControlPersist::Forever, ControlPersist::IdleFor),
        )
        .config_file(directory.join("config"));
    match tokio::time::timeout(CONNECT_WHOLE, builder.connect(name)).await {
        Err(_) => Err(format!("no connection within {} s", CONNECT_WHOLE.as_secs())),
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(match std::error::Error::source(&error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        }),
    }
}

/// Whether sshd turned the connection away before it looked at it.
fn is_crowded(text: &str) -> bool {
    text.contains("kex_exchange_identification")
        || text.contains("Connection reset by")
        || text.contains("MaxStartups")
}

/// A number from 0 to 1 that differs between runs and hosts.
fn spread() -> f64 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    f64::from((nanos ^ std::process::id()) % 1000) / 1000.0
}

/// What `ssh` meant, and what to do.
pub(super) fn explain(text: &str, name: &str, target: &str, access: &SshAccess) -> (String, String) {
    let last = last_words(text.as_bytes());
    let last = last.strip_prefix("ssh: ").unwrap_or(&last).to_string();
    if text.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
        || text.contains("Host key verification failed")
    {
        let pinned = !access.host_keys.is_empty();
        let message = match (pinned, text.contains("HAS CHANGED")) {
            (true, _) => format!("the host key of {target} is not the one in the inventory"),
            (false, true) => format!("the host key of {target} is not the one in your known_hosts"),
            (false, false) => format!("the host key of {target} (or of its jump host) is not known"),
        };
        let hint = format!(
            "`provision trust INVENTORY` shows it and writes it down; or read it on the host itself (`cat \
             /etc/ssh/ssh_host_ed25519_key.pub`) and write it under host `{name}`: `ssh: {{host_keys: [\"ssh-ed25519 \
             AAAA…\"]}}`; if nobody reinstalled the host, somebody may be \
             in between"
        );
        return (message, hint);
    }
    if text.contains("Permission denied (") {
        let user = access.user.as_deref().unwrap_or("your user name");
        let hint = format!(
            "put your public key into `~/.ssh/authorized_keys` of {user} there, or name another user or key with \
             `ssh: {{user: NAME, identity_file: PATH}}`"
        );
        return (format!("{target} does not let us in: {last}"), hint);
    }
    if text.contains("No such file or directory") && text.contains("os error") {
        return ("there is no `ssh` on PATH".to_string(), INSTALL_SSH.to_string());
    }
    let hint = match &access.jump {
        // What went wrong with the first `ssh` is not told to the second.
        Some(jump) => format!(
            "see whether `ssh {jump} true` works without a question: its key must be in your known_hosts; and whether \
             {target} can be reached from there"
        ),
        None => format!(
            "is the host up, and does its sshd listen there? `address:` and `ssh: {{port: N}}` of host `{name}` say \
             where"
        ),
    };
    (format!("cannot connect to {target}: {last}"), hint)
}
