//! Machines: an address, an sshd, and processes, a /var/lib and a /mnt that nobody else has.

use crate::namespaces::{Network, ran_inside};
use crate::support::{self, Kept, workspace};
use provision::apply::{self, Connection, FORKS, Options, Report};
use provision::events::Event;
use provision::resolve::{Cluster, Overrides};
use provision::status::Status;
use provision::transport::{Program, Ssh, Transport};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOSTS: u8 = 7;
const BINARIES: [&str; 2] = ["autonomys-farmer", "autonomys-dev-node"];
/// What a machine has of its own before its sshd starts.
const MACHINE: &str = "for d in /var/lib /mnt; do mount -t tmpfs tmpfs $d || exit; done
for n in 0n1 0n2 1n1 1n2; do mkdir -p /mnt/nvme$n/farm; done; exec \"$@\"";

/// The seven machines, bare but for sshd, and the inventory that names them.
pub struct Fleet {
    pub network: Network,
    pub directory: tempfile::TempDir,
    pub inventory: PathBuf,
    binaries: PathBuf,
    sshd: Vec<Child>,
}

/// Runs the test inside namespaces; false when this is inside already. sshd gives rights away to users that a user namespace
/// of one user does not have, so this takes root.
pub fn is_outside(name: &str) -> bool {
    let is_root =
        Path::new("/proc/self").metadata().is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    assert!(is_root, "{name} needs root; `cargo xtask test` leaves it out for others, and says so");
    ran_inside(name, &[])
}

impl Fleet {
    pub async fn new() -> Self {
        let tools = support::tools().await;
        let network = Network::new(HOSTS);
        std::fs::create_dir_all("/run/sshd").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        keygen(&at("user_key"));
        let mut keys = Vec::new();
        let mut sshd = Vec::new();
        for host in 1..=HOSTS {
            let key = at(&format!("host_key_{host}"));
            keygen(&key);
            keys.push(public(&key));
            let config = at(&format!("sshd_config_{host}"));
            let text = format!(
                "ListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
                 PermitRootLogin yes\nSetEnv PATH={}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n",
                Network::address(host),
                key.display(),
                at("user_key.pub").display(),
                tools.display(),
            );
            std::fs::write(&config, text).unwrap();
            sshd.push(start(&network, host, &config, &at(&format!("sshd_{host}.log"))));
        }
        let inventory = at("inventory.yaml");
        std::fs::write(&inventory, inventory_text(&at("user_key"), &keys)).unwrap();
        let binaries = at("binaries");
        std::fs::create_dir(&binaries).unwrap();
        for name in BINARIES {
            std::fs::copy(support::stub(), binaries.join(name)).unwrap();
        }
        let fleet = Self { network, directory, inventory, binaries, sshd };
        fleet.wait();
        fleet
    }

    /// With the real binaries instead of stubs, and one cache of the development string for all: each host would make its own.
    pub fn with_real_binaries(mut self) -> Self {
        self.binaries = Path::new(env!("CARGO_BIN_EXE_provision")).parent().unwrap().to_path_buf();
        for name in BINARIES {
            let path = self.binaries.join(name);
            assert!(
                path.exists(),
                "there is no {}: cargo build --release --workspace --bins",
                path.display()
            );
        }
        let cache = format!("  dev_srs_cache: {}\n\ngroups:", env!("CARGO_TARGET_TMPDIR"));
        self.edit("\ngroups:", &cache);
        self
    }

    /// Waits for every sshd.
    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        for host in 1..=HOSTS {
            let address = (Network::address(host), 22).into();
            while std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
                let log = std::fs::read_to_string(self.directory.path().join(format!("sshd_{host}.log")));
                assert!(Instant::now() < end, "sshd {host} does not start: {}", log.unwrap_or_default());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Replaces text in the inventory.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.inventory).unwrap();
        assert!(text.contains(from), "{from:?} is not in the inventory");
        std::fs::write(&self.inventory, text.replace(from, to)).unwrap();
    }

    pub fn cluster(&self) -> Cluster {
        let binaries = BINARIES.map(|name| self.binaries.join(name));
        let overrides = Overrides { binaries: Some(binaries.into()), ..Overrides::default() };
        match apply::load(&self.inventory, &overrides) {
            Ok((cluster, _, findings)) => {
                assert!(findings.is_empty(), "{findings:?}");
                cluster
            }
            Err(error) => panic!("{}", provision::output::error_text(&error)),
        }
    }

    /// As [`apply::connect`], but with the executable under test in the place of the running one.
    pub async fn connect<'a>(&self, cluster: &'a Cluster) -> Vec<Connection<'a>> {
        let program = Program::at(Path::new(env!("CARGO_BIN_EXE_provision"))).unwrap();
        let program = &program;
        let connect = |host| async move {
            let ssh = Ssh::connect(host, program).await;
            (host, ssh.map(|ssh| Arc::new(ssh) as Arc<dyn Transport>))
        };
        apply::side_by_side(&cluster.hosts, FORKS, connect).await
    }

    /// Applies; gives what was told, too.
    pub async fn apply(&self) -> (provision::Result<Report>, Vec<Event>) {
        let (cluster, told) = (self.cluster(), Kept::default());
        let report = apply::apply(&cluster, self.connect(&cluster).await, &Options::default(), &told).await;
        (report, told.0.into_inner().unwrap())
    }

    pub async fn status(&self) -> Status {
        let cluster = self.cluster();
        provision::status::status(&cluster, &self.connect(&cluster).await, FORKS).await
    }

    /// Process ids by host and program.
    pub async fn pids(&self) -> Vec<(String, String, u32)> {
        let hosts = self.status().await.hosts;
        let of_host = |host: provision::status::HostStatus| {
            let name = host.host;
            host.roles.into_iter().filter_map(move |role| Some((name.clone(), role.program, role.pid?)))
        };
        hosts.into_iter().flat_map(of_host).collect()
    }

    /// Runs the command line to its end; gives what it says, to both streams, and says it, too.
    pub fn provision(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provision"));
        command.args(arguments).arg(&self.inventory).arg("--binaries").arg(&self.binaries);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        eprintln!("$ provision {}\n{err}{out}", arguments.join(" "));
        assert!(output.status.success(), "{}", output.status);
        // A result in JSON stands alone.
        if arguments.contains(&"--json") { out } else { err + &out }
    }

    /// What a host has in a file.
    pub fn read(&self, host: u8, path: &str) -> Vec<u8> {
        self.run_on(host, &["cat", path])
    }

    /// Runs a program with the files of a host; gives what it prints.
    pub fn run_on(&self, host: u8, program: &[&str]) -> Vec<u8> {
        let pid = self.sshd[usize::from(host) - 1].id().to_string();
        let output = Command::new("nsenter").args(["-t", &pid, "-m"]).args(program).output().unwrap();
        assert!(output.status.success(), "{program:?} on host {host}: {output:?}");
        output.stdout
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for sshd in &mut self.sshd {
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
    }
}

/// The guides' inventory with the keys of these machines.
fn inventory_text(user_key: &Path, host_keys: &[String]) -> String {
    let text = std::fs::read_to_string(workspace().join("inventories/guide.yaml")).unwrap();
    let user = format!("ssh: {{user: root, identity_file: {}}}", user_key.display());
    assert!(text.contains("ssh: {user: root}"));
    let mut text = text.replace("ssh: {user: root}", &user);
    for (host, key) in (1..).zip(host_keys) {
        let address = format!("address: {}}}", Network::address(host));
        assert!(text.contains(&address), "{address}");
        let with_key = format!("address: {}, ssh: {{host_keys: [\"{key}\"]}}}}", Network::address(host));
        text = text.replace(&address, &with_key);
    }
    text
}

fn start(network: &Network, host: u8, config: &Path, log: &Path) -> Child {
    let mut command = network.command(host, Path::new("unshare"));
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", MACHINE, "sh", "/usr/sbin/sshd", "-D", "-E"]).arg(log);
    command.arg("-f").arg(config).stdin(Stdio::null());
    command.spawn().expect("nsenter, of util-linux, runs")
}

fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(status.expect("ssh-keygen, of openssh-client, runs").success());
}

fn public(key: &Path) -> String {
    let text = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
