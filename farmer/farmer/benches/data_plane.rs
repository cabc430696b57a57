//! What moving pieces costs: beside a bare sendfile loop and beside NATS request and reply in the same run, from stores of
//! 1 to 100 GB, with and without parity, from several caches, and what a cache weighs. Prints the tables of `docs/benchmarks.md`.
//!
//! `cargo bench -p farmer --bench data_plane`; `-- rivals` (or `sizes`, `items`, `caches`, `weight`) for some of them, `-- --quick` shows
//! only that it works.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, unreachable_pub, missing_docs)]

#[path = "data_plane/items.rs"]
mod items;
#[path = "../../cluster/tests/reference/mod.rs"]
#[allow(dead_code, reason = "only its streams are measured")]
mod reference;
#[path = "data_plane/rivals.rs"]
mod rivals;
#[path = "../tests/roles_support/mod.rs"]
mod roles_support;
#[path = "data_plane/store.rs"]
mod store;

use archiving::SrsKind;
use cluster::ClusterSecret;
use cluster::contract::InstanceId;
use cluster::testing::NatsServer;
use cluster::transfer::{Connection, ItemType};
use piece_store::ItemKind;
use primitives::rpc::GenesisHash;
use primitives::{Piece, PieceIndex};
use roles_support::{RoleProcess, fake_controller, free_address};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use store::Buffers;
use tokio::runtime::{Builder, Runtime};

const LONG: Duration = Duration::from_secs(120);

/// Buffers in turns where pieces are kept, as a plot-server does: more than the processor's caches hold.
const KEPT: usize = 64;

/// How much is measured.
struct Plan {
    /// Pieces of one measurement.
    pieces: usize,
    /// Measurements of each kind, in turns.
    rounds: usize,
    /// Sizes of stores, GB.
    stores_gb: [u64; 3],
}

fn main() {
    let (flags, parts): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let is_quick = flags.iter().any(|flag| flag == "--quick");
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let plan = if is_quick {
        Plan { pieces: 128, rounds: 2, stores_gb: [1, 2, 3] }
    } else {
        Plan { pieces: 1024, rounds: 9, stores_gb: [1, 10, 100] }
    };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let nats = NatsServer::start();
    let bench = Bench {
        plan,
        serving: serving(1),
        fetching: fetching(),
        secret: ClusterSecret::from_bytes(b"of the benchmark, and of no cluster"),
    };

    let all = bench.plan.stores_gb;
    let needed = if wants("sizes") || wants("weight") { &all[..] } else { &all[..1] };
    let paths = all.map(|gb| directory.path().join(gb.to_string()));
    for (path, gb) in paths.iter().zip(needed) {
        store::make(path, gb * 1_000_000_000 / Piece::SIZE as u64, ItemKind::Piece);
    }
    if wants("rivals") {
        for lanes in [1, 2] {
            bench.rivals(&nats, &paths[0], lanes);
        }
    }
    if wants("sizes") {
        bench.sizes(&paths);
    }
    if wants("items") {
        bench.items(&paths[0], &directory.path().join("split"));
    }
    if wants("caches") {
        bench.caches(&paths[0]);
    }
    if wants("weight") {
        bench.weight(&nats, directory.path(), &paths[2]);
    }
}

/// Each end has one thread, as in the loop that the transfer is compared with.
struct Bench {
    plan: Plan,
    serving: Runtime,
    fetching: Runtime,
    secret: ClusterSecret,
}

fn serving(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}

fn fetching() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn gb_per_s(pieces: usize, time: Duration) -> f64 {
    (pieces * Piece::SIZE) as f64 / time.as_secs_f64() / 1e9
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// CPU time of this process.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Indices spread over a store, each once, in no order that a read-ahead would guess.
fn spread(total: u64, count: usize) -> Vec<PieceIndex> {
    // A step without a common divisor visits each index once.
    let gcd = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = (total * 618 / 1000..).find(|step| gcd(*step, total) == 1).unwrap();
    (0..count as u64).map(|number| PieceIndex(number * step % total)).collect()
}

impl Bench {
    async fn connect(&self, address: SocketAddr) -> Connection {
        Connection::open(address, &self.secret, InstanceId::generate()).await.unwrap()
    }

    /// The same number of pieces from stores of different sizes.
    fn sizes(&self, paths: &[std::path::PathBuf; 3]) {
        println!("| store | µs a piece | GB/s |\n|---|---|---|");
        for (path, gb) in paths.iter().zip(self.plan.stores_gb) {
            let total = gb * 1_000_000_000 / Piece::SIZE as u64;
            let indices = spread(total, self.plan.pieces.min(total as usize));
            let server =
                self.serving.block_on(store::serve(&store::open(path, ItemKind::Piece), &self.secret));
            let time = self.fetching.block_on(async {
                let mut connection = self.connect(server.address()).await;
                let mut buffers = Buffers::new(ItemType::Piece, KEPT);
                let mut times = Vec::new();
                for _ in 0..=self.plan.rounds {
                    times.push(buffers.fetch(&mut connection, &indices).await);
                }
                median(times.split_off(1))
            });
            self.serving.block_on(server.drain(LONG));
            let each = time.as_secs_f64() * 1e6 / indices.len() as f64;
            println!("| {gb} GB | {each:.0} | {:.2} |", gb_per_s(indices.len(), time));
        }
        println!();
    }

    /// A sector's 1,000 pieces from several caches at once, each on a connection of its own.
    fn caches(&self, path: &Path) {
        println!("| caches | 1,000 pieces take | GB/s |\n|---|---|---|");
        let indices = spread(950, self.plan.pieces.min(950));
        for caches in [1, 2, 4] {
            // One store cannot be opened twice, and where the bytes lie does not matter: servers share it.
            let server =
                self.serving.block_on(store::serve(&store::open(path, ItemKind::Piece), &self.secret));
            let time = self.fetching.block_on(async {
                let mut ends = Vec::new();
                for _ in 0..caches {
                    ends.push((self.connect(server.address()).await, Buffers::new(ItemType::Piece, KEPT)));
                }
                let mut times = Vec::new();
                for _ in 0..=self.plan.rounds {
                    let begin = Instant::now();
                    let share = indices.len().div_ceil(caches);
                    let fetching = ends
                        .iter_mut()
                        .zip(indices.chunks(share))
                        .map(|((connection, buffers), share)| buffers.fetch(connection, share));
                    futures::future::join_all(fetching).await;
                    times.push(begin.elapsed());
                }
                median(times.split_off(1))
            });
            self.serving.block_on(server.drain(LONG));
            let all = time.as_secs_f64() * 1000.0 / indices.len() as f64;
            println!("| {caches} | {all:.2} s | {:.2} |", gb_per_s(indices.len(), time));
        }
        println!();
    }

    /// Resident memory of a cache's process after it has served pieces from all over a large store.
    fn weight(&self, nats: &NatsServer, directory: &Path, path: &Path) {
        let gb = self.plan.stores_gb[2];
        let indices = spread(gb * 1_000_000_000 / Piece::SIZE as u64, 4 * self.plan.pieces);
        let client = self.serving.block_on(nats.client());
        let digest = SrsKind::Development.digest();
        let _controller = self.serving.block_on(fake_controller(&client, GenesisHash([7; 32]), digest));
        let secret = directory.join("secret");
        std::fs::write(&secret, "5b".repeat(32)).unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let address = free_address();
        let (listen, secret_text) = (address.to_string(), secret.display().to_string());
        let path = format!("path={}", path.display());
        let arguments = [
            "--cluster-secret-file",
            &secret_text,
            "full-piece-sharded-cache",
            "--tmp",
            &path,
            "--listen",
            &listen,
        ];
        let mut cache = RoleProcess::start(directory, "cache", &nats.url(), &arguments);
        cache.wait_until_ready(LONG);
        let resident = |name: &str| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", cache.id())).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
                / 1_000_000
        };
        let before = resident("VmRSS");
        let secret = ClusterSecret::from_file(&secret).unwrap();
        self.fetching.block_on(async {
            let mut connection = Connection::open(address, &secret, InstanceId::generate()).await.unwrap();
            Buffers::new(ItemType::Piece, KEPT).fetch(&mut connection, &indices).await;
        });
        println!(
            "A cache of {gb} GB: {before} MB resident when ready, {} MB after {} pieces of it were served, {} MB at most.",
            resident("VmRSS"),
            indices.len(),
            resident("VmHWM")
        );
        cache.terminate();
    }
}
