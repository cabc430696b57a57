//! An sshd below a temporary directory.

use provision::inventory::{self, Source};
use provision::resolve::{Host, Overrides, Surroundings, resolve};
use provision::transport::{Command, Local, Program, Ssh, Transport};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// An sshd that is stopped, with everything it started, when it goes.
pub(crate) struct Sshd {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) port: u16,
    process: Child,
}

fn sshd_program() -> PathBuf {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd", "/run/current-system/sw/bin/sshd"];
    let found = places.map(PathBuf::from).into_iter().find(|place| place.exists());
    found.expect("these tests need sshd: apt-get install openssh-server")
}

fn run(program: &str, arguments: &[&str]) {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; apt-get install openssh-client"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Sshd {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// With more lines in its configuration; `DIR` stands for its directory.
    pub(crate) fn with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        for key in ["host_key", "user_key"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]);
        }
        std::fs::copy(at("user_key.pub"), at("authorized_keys")).unwrap();
        // sshd insists on this when it runs as root.
        if Path::new("/run").metadata().is_ok_and(|run| !run.permissions().readonly()) {
            let _ = std::fs::create_dir("/run/sshd");
        }
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
                 UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
                 LogLevel VERBOSE\n{}\n",
                at("host_key"),
                at("authorized_keys"),
                more.replace("DIR", &directory.path().display().to_string())
            );
            std::fs::write(at("sshd_config"), config).unwrap();
            let mut process = std::process::Command::new(sshd_program())
                .args(["-D", "-E", &at("sshd.log"), "-f", &at("sshd_config")])
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            let end = Instant::now() + Duration::from_secs(20);
            while process.try_wait().unwrap().is_none() && Instant::now() < end {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { directory, port, process };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("sshd does not start: {}", std::fs::read_to_string(at("sshd.log")).unwrap_or_default())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("sshd.log")).unwrap()
    }

    /// The first two words of its public key.
    pub(crate) fn host_key(&self) -> String {
        let key = std::fs::read_to_string(self.path("host_key.pub")).unwrap();
        key.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// The `ssh:` settings that reach it.
    pub(crate) fn settings(&self) -> String {
        format!(
            "{{port: {}, identity_file: {}, host_keys: [\"{}\"]}}",
            self.port,
            self.path("user_key").display(),
            self.host_key()
        )
    }

    pub(crate) fn host(&self) -> Host {
        host(&self.settings())
    }

    /// The executable under test, kept below this directory instead of where the user's others are.
    pub(crate) fn program(&self) -> Program {
        let program = Program::at(Path::new(env!("CARGO_BIN_EXE_provision"))).unwrap();
        Program { directory: Some(self.path("programs")), ..program }
    }

    pub(crate) async fn connect(&self) -> Ssh {
        match Ssh::connect(&self.host(), &self.program()).await {
            Ok(ssh) => ssh,
            Err(error) => panic!("{}\n{}", provision::output::error_text(&error), self.log()),
        }
    }

    /// Every process below sshd, itself left out: those that serve connections, and what they run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.process.id()];
        let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                Some((pid, stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?))
            })
            .collect();
        let mut index = 0;
        while index < found.len() {
            let above = found[index];
            found.extend(all.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
            index += 1;
        }
        found[1..].to_vec()
    }

    /// `provision remote` processes that this sshd started.
    pub(crate) fn served(&self) -> Vec<u32> {
        let is = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.ends_with(b"provision\0remote\0")
        };
        self.processes().into_iter().filter(is).collect()
    }

    /// Ends every connection at once and without a word, as a reset does.
    pub(crate) fn cut(&self) {
        for pid in self.processes() {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.starts_with("sshd") {
                signal(pid, "-KILL");
            }
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, "-KILL");
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn signal(pid: u32, signal: &str) {
    let _ =
        std::process::Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
}

/// A host with these `ssh:` settings.
pub(crate) fn host(settings: &str) -> Host {
    let text = format!(
        "version: 1\ncluster: test\nreward_address: 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY\n\
         hosts:\n  here:\n    connection: ssh\n    address: 127.0.0.1\n    ssh: {settings}\n    node: {{}}\n    \
         plotter: {{}}\n    storage: {{farms: [{{path: data/farm-0, sectors: 1}}]}}\n"
    );
    let source = Source { name: "test.yaml".into(), text };
    let inventory = inventory::parse(&source).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(|finding| finding.render(&source)).collect::<String>())
    });
    let cluster = resolve(&inventory, &Overrides::default(), &Surroundings::default());
    assert!(provision::check::check(&cluster).is_empty());
    cluster.hosts[0].clone()
}

/// Waits until something holds, half a minute at most.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A command that sleeps long, and whether it does so somewhere.
pub(crate) fn sleeper(number: u32) -> (Command, impl Fn() -> bool) {
    let seconds = format!("3{:07}.{number}", std::process::id());
    let words = format!("sleep\0{seconds}\0");
    let runs = move || {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .any(|line| line == words.as_bytes())
    };
    (
        Command::new("sh")
            .args(["-c", &format!("sleep {seconds} & wait")])
            .deadline(Duration::from_secs(600)),
        runs,
    )
}

/// Both ways to this machine.
pub(crate) fn here() -> &'static dyn Transport {
    &Local
}
