//! A real NATS server for tests: started on a free loopback port with a store of its own, killed when dropped.
//!
//! The binary is taken from `NATS_SERVER`, else from `target/tools/bin/nats-server`, else from `PATH`; without one
//! every test that needs it fails and says what to do.

use crate::client::{ClusterClient, NatsOptions};
use crate::contract::ClusterName;
use crate::secret::ClusterSecret;
use crate::transfer::{Connection, FetchOutcome, ItemType, TransferError};
use primitives::PieceIndex;
use primitives::cluster_secret::NatsUser;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A NATS server with JetStream.
#[derive(Debug)]
pub struct NatsServer {
    child: Option<Child>,
    port: u16,
    directory: TempDir,
}

/// The binary to be used.
///
/// # Panics
/// When there is none.
pub fn nats_server_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("NATS_SERVER").map(PathBuf::from) {
        assert!(path.is_file(), "NATS_SERVER names {}, which is no file", path.display());
        return path;
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/nats-server");
    if tool.is_file() {
        return tool;
    }
    std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|directory| directory.join("nats-server"))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "there is no nats-server: run `cargo xtask tools`, or set NATS_SERVER to one of version 2.10 or newer"
            )
        })
}

/// A loopback address that nobody listens on, for a server that is about to be started.
///
/// The port lies below the range that the system takes ports of outgoing connections from, so none of those can take it
/// before the server does; processes start at different ones.
///
/// # Panics
/// When no port is free.
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    let start = PORTS_PER_PROCESS * (std::process::id() % u32::from(span / PORTS_PER_PROCESS)) as u16;
    let candidates = std::iter::repeat_with(|| TAKEN.fetch_add(1, Ordering::Relaxed));
    candidates
        .take(PORTS.len())
        .map(|taken| PORTS.start + (start + taken % span) % span)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a loopback port is free")
}

/// Below `net.ipv4.ip_local_port_range`, as Linux has it by default, and above what known servers listen on.
const PORTS: Range<u16> = 12_000..32_000;
/// Far more than one test needs.
const PORTS_PER_PROCESS: u16 = 64;

fn free_port() -> u16 {
    free_address().port()
}

impl NatsServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When there is no binary, or it does not come up.
    pub fn start() -> Self {
        Self::start_with_max_payload(3_000_000)
    }

    /// [`Self::start`] with another `max_payload` in bytes.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn start_with_max_payload(max_payload: usize) -> Self {
        Self::start_with(max_payload, "")
    }

    /// [`Self::start`] with a password that follows from a secret.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn start_with_password(secret: &ClusterSecret) -> Self {
        let (user, password) = (NatsUser::Client.name(), secret.nats_password());
        Self::start_with(3_000_000, &format!("authorization {{ user: {user}, password: \"{password}\" }}\n"))
    }

    fn start_with(max_payload: usize, more: &str) -> Self {
        // Between finding a free port and using it another process may take it.
        for attempt in 0.. {
            let mut server = Self::prepare(free_port(), max_payload, more);
            if server.try_restart() {
                return server;
            }
            assert!(attempt < 3, "nats-server does not come up: {}", server.log());
        }
        unreachable!("the loop ends by return or panic")
    }

    /// Starts three servers that form one NATS cluster.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn start_three() -> [Self; 3] {
        let routes = [free_port(), free_port(), free_port()];
        let urls = routes.map(|port| format!("nats://127.0.0.1:{port}")).join(", ");
        routes.map(|route| {
            let cluster =
                format!("cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{urls}] }}\n");
            let mut server = Self::prepare(free_port(), 3_000_000, &cluster);
            assert!(server.try_restart(), "nats-server does not come up: {}", server.log());
            server
        })
    }

    /// Writes the configuration of a server into a directory of its own.
    fn prepare(port: u16, max_payload: usize, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let configuration = format!(
            "server_name: test-{port}\nhost: 127.0.0.1\nport: {port}\nmax_payload: {max_payload}\n\
             jetstream {{ store_dir: {:?}, max_memory_store: 64MB, max_file_store: 1GB }}\n{more}",
            directory.path().join("jetstream"),
        );
        fs::write(directory.path().join("nats.conf"), configuration).expect("the directory can be written");
        Self { child: None, port, directory }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("nats.log")).unwrap_or_default()
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Address of the server.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Kills the server as `kill -9` does; its store stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts the server again on the same port with the same store.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        assert!(self.try_restart(), "nats-server does not come up again: {}", self.log());
    }

    fn try_restart(&mut self) -> bool {
        self.kill();
        let binary = nats_server_binary();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("nats.log"))
            .expect("the directory can be written");
        let child = Command::new(&binary)
            .arg("-c")
            .arg(self.directory.path().join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", binary.display()));
        self.child = Some(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if self.answers() {
                return true;
            }
            let child = self.child.as_mut().expect("it was just started");
            if !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// A server that is up greets with `INFO`.
    fn answers(&self) -> bool {
        let greet = || -> std::io::Result<[u8; 4]> {
            let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting)?;
            Ok(greeting)
        };
        greet().is_ok_and(|greeting| &greeting == b"INFO")
    }

    /// Connects to the cluster `default` on this server.
    ///
    /// # Panics
    /// When that fails.
    pub async fn client(&self) -> ClusterClient {
        ClusterClient::connect(&self.options()).await.expect("the test's NATS server takes connections")
    }

    /// Options of [`Self::client`].
    pub fn options(&self) -> NatsOptions {
        NatsOptions {
            servers: vec![self.url()],
            cluster: ClusterName::default(),
            name: "test".to_owned(),
            secret: None,
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks for pieces; gives what came, also when that fails in the middle.
pub async fn get_pieces(
    connection: &mut Connection,
    item: ItemType,
    indices: &[PieceIndex],
) -> (BTreeMap<PieceIndex, (FetchOutcome, Vec<u8>)>, Result<(), TransferError>) {
    let mut got = BTreeMap::new();
    let mut pieces = connection.fetch_pieces(item, indices);
    loop {
        let mut buffer = vec![0; item.size()];
        match pieces.next(&mut buffer).await {
            Ok(Some((index, outcome))) => _ = got.insert(index, (outcome, buffer)),
            Ok(None) => return (got, Ok(())),
            Err(error) => return (got, Err(error)),
        }
    }
}

/// Asks for one piece; gives its bytes if the peer has it.
///
/// # Errors
/// When the connection breaks or the peer refuses.
///
/// # Panics
/// When the peer sends a damaged piece.
pub async fn get_piece(
    connection: &mut Connection,
    item: ItemType,
    index: PieceIndex,
) -> Result<Option<Vec<u8>>, TransferError> {
    let (mut got, result) = get_pieces(connection, item, &[index]).await;
    result?;
    match got.remove(&index).expect("every piece is answered") {
        (FetchOutcome::Found(_), bytes) => Ok(Some(bytes)),
        (FetchOutcome::Missing, _) => Ok(None),
        (FetchOutcome::Damaged, _) => panic!("piece {index} came damaged"),
    }
}

/// An authenticated transfer connection without the client on it, for tests of what peers must not do.
///
/// # Panics
/// When the server does not take it.
pub async fn raw_transfer_connection(address: SocketAddr, secret: &ClusterSecret) -> TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    let instance = crate::contract::InstanceId::generate();
    crate::transfer::handshake::as_client(&mut stream, address, secret, instance)
        .await
        .expect("the server takes the handshake");
    let stream = stream.into_std().expect("the stream is registered");
    stream.set_nonblocking(false).expect("the stream is open");
    stream
}
