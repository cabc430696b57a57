//! Random bytes, thousands of connections, and caches that lie.

use crate::bulk::plot_anew;
use crate::fleet::Fleet;
use crate::namespaces::Network;
use crate::{AFTER_CRASH, AFTER_HANG, Drills};
use bytes::Bytes;
use cluster::contract::{InstanceId, Role, TcpAddress};
use cluster::transfer::{
    ItemType, PieceSource, PutOutcome, ServerOptions, SourceError, StoredPiece, TransferServer,
};
use cluster::{MemberInfo, Membership};
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, Piece, PieceIndex};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Every port of the fleet that listens.
const PORTS: [(u8, u16); 21] = [
    (1, 4222),
    (1, 4248),
    (1, 8222),
    (1, 9860),
    (1, 9944),
    (2, 4222),
    (2, 4248),
    (2, 8222),
    (2, 9860),
    (2, 9944),
    (3, 9860),
    (3, 9861),
    (3, 9944),
    (4, 9862),
    (4, 9863),
    (4, 9864),
    (4, 9950),
    (4, 9951),
    (4, 9966),
    (6, 9866),
    (3, 4222),
];
/// The roles' own ports: pieces, sectors, status.
const CROWDED: [(u8, u16); 4] = [(4, 9950), (4, 9951), (4, 9966), (6, 9866)];
const CONNECTIONS: usize = 10_000;
/// Connect at the same time.
const CALLERS: usize = 100;
/// How long one port is crowded at most.
const CROWDING: Duration = Duration::from_secs(12);
const SECOND: Duration = Duration::from_secs(1);

pub fn all(drills: &mut Drills) {
    drills.drill("random_bytes", AFTER_CRASH, |_| random_bytes());
    drills.drill("ten_thousand_connections", AFTER_CRASH, |_| {
        let taken: Vec<_> = CROWDED.into_iter().map(crowd).collect();
        format!("up to 10,000 connections to each of the ports 9950, 9951, 9966, 9866; taken: {taken:?}")
    });
    for lie in [Lie::WrongPieces, Lie::Garbage, Lie::HalfFrames, Lie::Nothing] {
        drills.drill(lie.name(), AFTER_HANG, |fleet| lying_cache(fleet, lie));
    }
}

fn address((host, port): (u8, u16)) -> SocketAddr {
    (Network::address(host), port).into()
}

fn random_bytes() -> String {
    for round in 0..3 {
        for port in PORTS {
            let mut stream = TcpStream::connect_timeout(&address(port), SECOND)
                .unwrap_or_else(|error| panic!("{port:?} is closed: {error}"));
            let bytes = vectors::xof(&format!("drills/{round}/{port:?}"), 64 * 1024);
            stream.set_write_timeout(Some(SECOND)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            // It may close at the first byte.
            let _ = stream.write_all(&bytes).and_then(|()| stream.read(&mut [0; 1024]));
        }
    }
    format!("3 × 64 KiB of random bytes to each of {} ports", PORTS.len())
}

/// Connects ten thousand times, many at once; gives how many connections were open in the end.
fn crowd(port: (u8, u16)) -> usize {
    let until = Instant::now() + CROWDING;
    let connect = move || {
        let (mut open, mut tried) = (Vec::new(), 0);
        while tried < CONNECTIONS / CALLERS && Instant::now() < until {
            open.extend(TcpStream::connect_timeout(&address(port), SECOND).ok());
            tried += 1;
        }
        open
    };
    let callers: Vec<_> = (0..CALLERS).map(|_| std::thread::spawn(connect)).collect();
    let open: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    std::thread::sleep(SECOND);
    open.iter().map(Vec::len).sum()
}

/// How a cache lies.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Pieces with a hash that fits, of another history.
    WrongPieces,
    /// Random bytes to whoever connects.
    Garbage,
    /// The beginning of a frame.
    HalfFrames,
    /// Not a byte.
    Nothing,
}

impl Lie {
    fn name(self) -> &'static str {
        match self {
            Self::WrongPieces => "cache_wrong_pieces",
            Self::Garbage => "cache_garbage",
            Self::HalfFrames => "cache_half_frames",
            Self::Nothing => "cache_silent",
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Garbage => vectors::xof("drills/garbage", 256 * 1024),
            Self::HalfFrames => vec![1, 0, 0],
            Self::WrongPieces | Self::Nothing => Vec::new(),
        }
    }
}

/// Counts how often it was asked.
struct WrongPieces(Arc<AtomicUsize>);

impl PieceSource for WrongPieces {
    fn get(&self, _: ItemType, index: PieceIndex) -> Result<Option<StoredPiece>, SourceError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let bytes = vectors::xof(&format!("drills/{index}"), Piece::SIZE);
        let hash = blake3_hash(&bytes);
        Ok(Some(StoredPiece { bytes: bytes.into(), hash }))
    }

    fn put(&self, _: ItemType, _: PieceIndex, _: Bytes, _: Blake3Hash) -> PutOutcome {
        PutOutcome::Full
    }
}

/// Answers every connection with these bytes and holds it; counts them.
fn talk(listener: TcpListener, bytes: Vec<u8>, asked: Arc<AtomicUsize>) {
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            asked.fetch_add(1, Ordering::Relaxed);
            // The other end may be gone already.
            let _ = stream.write_all(&bytes);
            held.push(stream);
        }
    });
}

/// A cache that lies joins with room for the whole history, and a farm is plotted meanwhile.
fn lying_cache(fleet: &mut Fleet, lie: Lie) -> String {
    let runtime = fleet.runtime();
    let asked = Arc::new(AtomicUsize::new(0));
    let joined = runtime.block_on(async {
        let client = fleet.client().await;
        let secret = client.shared_secret().await;
        let (address, instance) = (SocketAddr::from((Network::address(254), 0)), InstanceId::generate());
        let (address, server) = if matches!(lie, Lie::WrongPieces) {
            let mut options = ServerOptions::new(secret, instance);
            options.pieces = Some(Arc::new(WrongPieces(Arc::clone(&asked))));
            let server = TransferServer::start(address, options).await.unwrap();
            (server.address(), Some(server))
        } else {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            talk(listener, lie.bytes(), Arc::clone(&asked));
            (address, None)
        };
        let info = MemberInfo {
            role: Role::ShardedCache,
            instance,
            address: Some(TcpAddress(address)),
            capacity_bytes: 400 * Piece::SIZE as u64,
            build: "lies".into(),
            srs_digest: None,
            genesis: None,
            holds: Default::default(),
        };
        (Membership::join(&client, info), server)
    });
    std::thread::sleep(3 * SECOND);
    plot_anew(fleet);
    fleet.wait_for_farms();
    runtime.block_on(async {
        let (membership, server) = joined;
        membership.leave(SECOND).await;
        drop(server);
    });
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked > 0, "nobody asked the cache that lies");
    let answer = match lie {
        Lie::WrongPieces => "wrong pieces",
        Lie::Garbage => "garbage",
        Lie::HalfFrames => "the beginning of a frame",
        Lie::Nothing => "nothing",
    };
    format!("a sharded cache that answers with {answer} while a farm is plotted; asked {asked} times")
}
