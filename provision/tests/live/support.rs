//! A cluster of stubs below a temporary prefix, with ports of its own.

use provision::apply::{self, Options, Report};
use provision::events::{Event, Sink};
use provision::layout::Layout;
use provision::resolve::{Cluster, Overrides};
use provision::status::Status;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A cluster that is stopped when it goes.
pub(crate) struct Fixture {
    /// Holds the prefix.
    pub(crate) directory: tempfile::TempDir,
    pub(crate) prefix: PathBuf,
    pub(crate) inventory: PathBuf,
    pub(crate) port_offset: u16,
    binaries: PathBuf,
}

/// Keeps events.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) Mutex<Vec<Event>>);

impl Sink for Kept {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// nats-server and Supervisor, where `cargo xtask test` puts them too.
pub(crate) async fn tools() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools");
    provision::packages::install_tools_async(&directory, &provision::events::Silent).await.unwrap();
    directory.join("bin")
}

/// Compiles the stub once a source; tests run in parallel processes, so it is put in place whole.
pub(crate) fn stub() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub/role.rs");
    let changed = std::fs::metadata(&source).unwrap().modified().unwrap();
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("provision-stub-role");
    if std::fs::metadata(&built).and_then(|state| state.modified()).is_ok_and(|at| at >= changed) {
        return built;
    }
    let own = built.with_extension(std::process::id().to_string());
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "-o"])
        .arg(&own)
        .arg(&source)
        .status()
        .expect("rustc runs");
    assert!(status.success());
    std::fs::rename(&own, &built).unwrap();
    built
}

/// An offset at which every port of the inventory is free.
fn free_offset() -> u16 {
    let seed = std::process::id().wrapping_mul(7919)
        ^ std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let ports = [4222, 8222, 9860, 9861, 9862, 9863, 9864, 9866, 9944, 9950, 9951, 9966];
    (0..200_u32)
        .map(|attempt| 11_000 + (seed.wrapping_add(attempt * 613) % 40_000) as u16)
        .find(|offset| ports.iter().all(|port| TcpListener::bind(("127.0.0.1", port + offset)).is_ok()))
        .expect("some ports are free")
}

impl Fixture {
    /// Nothing installed but the tools; nothing runs.
    pub(crate) async fn new() -> Self {
        Self::below("cluster").await
    }

    /// The same with a prefix of this name.
    pub(crate) async fn below(name: &str) -> Self {
        let tools = tools().await;
        let directory = tempfile::tempdir().unwrap();
        let prefix = directory.path().join(name);
        let binaries = directory.path().join("binaries");
        std::fs::create_dir(&binaries).unwrap();
        for name in ["autonomys-farmer", "autonomys-dev-node"] {
            std::fs::copy(stub(), binaries.join(name)).unwrap();
        }
        // The tools of the test run are taken instead of being installed once more.
        std::fs::create_dir_all(prefix.join("bin")).unwrap();
        for tool in ["nats-server", "supervisord", "supervisorctl"] {
            std::os::unix::fs::symlink(tools.join(tool), prefix.join("bin").join(tool)).unwrap();
        }
        let inventory = directory.path().join("inventory.yaml");
        std::fs::copy(workspace().join("inventories/local.yaml"), &inventory).unwrap();
        Self { prefix, inventory, port_offset: free_offset(), binaries, directory }
    }

    /// Replaces text in the inventory.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.inventory).unwrap();
        assert!(text.contains(from), "{from:?} is not in the inventory");
        std::fs::write(&self.inventory, text.replace(from, to)).unwrap();
    }

    /// Puts the stub beside the binaries under another name.
    pub(crate) fn add_stub(&self, name: &str) -> PathBuf {
        let path = self.binaries.join(name);
        std::fs::copy(stub(), &path).unwrap();
        path
    }

    /// Puts a script beside the binaries.
    pub(crate) fn add_binary(&self, name: &str, script: &str) {
        let path = self.binaries.join(name);
        std::fs::write(&path, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    }

    /// Replaces a binary by another one that does the same.
    pub(crate) fn rebuild(&self, name: &str) {
        let path = self.binaries.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"another build");
        // In place it would be busy or half written; builds replace, too.
        std::fs::remove_file(&path).unwrap();
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(&bytes).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    }

    /// Replaces a binary by one that ends at once.
    pub(crate) fn spoil(&self, name: &str) {
        let path = self.binaries.join(name);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "#!/bin/sh\necho this build is broken\nexit 7\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    }

    /// Replaces a binary by one that works.
    pub(crate) fn mend(&self, name: &str) {
        let path = self.binaries.join(name);
        std::fs::remove_file(&path).unwrap();
        std::fs::copy(stub(), path).unwrap();
    }

    pub(crate) fn cluster(&self) -> Cluster {
        let overrides = Overrides {
            prefix: Some(self.prefix.clone()),
            port_offset: Some(self.port_offset),
            dev_srs_cache: None,
            binaries: Some((
                self.binaries.join("autonomys-farmer"),
                self.binaries.join("autonomys-dev-node"),
            )),
        };
        apply::load(&self.inventory, &overrides).unwrap().0
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.prefix)
    }

    pub(crate) async fn apply(&self) -> provision::Result<Report> {
        let cluster = self.cluster();
        apply::apply(&cluster, apply::connect(&cluster, 1).await, &Options::default(), &Kept::default()).await
    }

    /// Applies what is to fail: with little patience.
    pub(crate) async fn apply_in_vain(&self) -> (provision::Error, Vec<Event>) {
        let (cluster, sink) = (self.cluster(), Kept::default());
        let options = Options { patience: 0.1, ..Options::default() };
        let connections = apply::connect(&cluster, 1).await;
        let error = apply::apply(&cluster, connections, &options, &sink).await.unwrap_err();
        (error, sink.0.into_inner().unwrap())
    }

    pub(crate) async fn status(&self) -> Status {
        let cluster = self.cluster();
        provision::status::status(&cluster, &apply::connect(&cluster, 1).await, 1).await
    }

    /// Process ids by program.
    pub(crate) async fn pids(&self) -> BTreeMap<String, u32> {
        self.pids_of(&self.cluster()).await
    }

    /// The same of a cluster that is not quite the inventory's.
    pub(crate) async fn pids_of(&self, cluster: &Cluster) -> BTreeMap<String, u32> {
        let hosts = provision::status::status(cluster, &apply::connect(cluster, 1).await, 1).await.hosts;
        hosts
            .into_iter()
            .flat_map(|host| host.roles)
            .filter_map(|role| Some((role.program, role.pid?)))
            .collect()
    }

    /// Programs whose process id is another one than in `before`.
    pub(crate) async fn restarted_since(&self, before: &BTreeMap<String, u32>) -> Vec<String> {
        let now = self.pids().await;
        now.into_iter().filter(|(name, pid)| before.get(name) != Some(pid)).map(|(name, _)| name).collect()
    }

    /// Every process that bears this cluster's mark.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let marker = self.layout().marker();
        let entries = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        entries
            .filter_map(|name| name.parse().ok())
            .filter(|pid: &u32| {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
            })
            .collect()
    }

    /// The command line on this cluster.
    pub(crate) fn provision(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provision"));
        command.args(arguments).arg(&self.inventory).arg("--prefix").arg(&self.prefix);
        command.arg("--port-offset").arg(self.port_offset.to_string()).arg("--binaries").arg(&self.binaries);
        command
    }
}

/// A file that is served over HTTP, by ranges, for as long as the test lasts.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) sha256: String,
    /// How often it was asked for.
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Served {
    pub(crate) fn begin(bytes: Vec<u8>) -> Self {
        use sha2::Digest;
        let sha256 = hex::encode(sha2::Sha256::digest(&bytes));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/autonomys-node", listener.local_addr().unwrap());
        let asked = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let head: Vec<_> = BufReader::new(&stream)
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let range = head
                    .iter()
                    .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_string));
                let range = range.expect("provision asks for ranges");
                let (from, to) = range.split_once('-').unwrap();
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                let mut out = &stream;
                let _ = write!(
                    out,
                    "HTTP/1.1 206 x\r\nContent-Range: bytes {from}-{to}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    bytes.len(),
                    to - from + 1
                );
                let _ = out.write_all(&bytes[from..=to]);
            }
        });
        Self { url, sha256, asked }
    }
}

pub(crate) fn signal(pid: u32, signal: &str) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // supervisord first: it would start the others again.
        for _ in 0..3 {
            for pid in self.processes() {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        }
        let _ = std::fs::remove_dir_all(self.layout().run());
    }
}
