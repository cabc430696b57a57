//! Pieces and sectors over TCP, with peers that are wrong, slow, lying or gone.

mod tls;

use crate::support::{self, MemoryPieces, MemorySectors, Sink, key, piece, sector};
use cluster::ClusterSecret;
use cluster::contract::InstanceId;
use cluster::testing::{get_piece, get_pieces};
use cluster::transfer::*;
use primitives::hashes::blake3_hash;
use primitives::{Piece, PieceIndex};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(30);

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes(b"the secret of these tests")
}

fn indices(range: Range<u64>) -> Vec<PieceIndex> {
    range.map(PieceIndex).collect()
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn serve(pieces: &Arc<MemoryPieces>, sectors: &Arc<MemorySectors>) -> TransferServer {
    serve_at(loopback(), pieces, sectors).await
}

async fn serve_at(
    address: SocketAddr,
    pieces: &Arc<MemoryPieces>,
    sectors: &Arc<MemorySectors>,
) -> TransferServer {
    let options = ServerOptions {
        pieces: Some(Arc::clone(pieces) as Arc<dyn PieceSource>),
        sectors: Some(Arc::clone(sectors) as Arc<dyn SectorSource>),
        ..ServerOptions::new(secret(), InstanceId::generate())
    };
    TransferServer::start(address, options).await.unwrap()
}

async fn connect(server: &TransferServer) -> Connection {
    Connection::open(server.address(), &secret(), InstanceId::generate()).await.unwrap()
}

#[tokio::test]
async fn pieces_are_fetched_in_order_whatever_is_missing() {
    let pieces = Arc::new(MemoryPieces::default());
    for index in (0..100).step_by(3) {
        pieces.insert(PieceIndex(index), piece(index));
    }
    let server = serve(&pieces, &Arc::default()).await;
    let mut connection = connect(&server).await;
    connection.ping().await.unwrap();
    let (got, result) = get_pieces(&mut connection, ItemType::Piece, &indices(0..100)).await;
    result.unwrap();
    assert_eq!(got.len(), 100);
    for (index, (outcome, bytes)) in got {
        if index.0.is_multiple_of(3) {
            let expected = piece(index.0);
            assert_eq!(outcome, FetchOutcome::Found(blake3_hash(&expected)));
            assert!(bytes == expected[..], "{index}");
        } else {
            assert_eq!(outcome, FetchOutcome::Missing);
        }
    }
    assert_eq!(server.counters().pieces_sent.load(Ordering::Relaxed), 34);
    assert_eq!(server.counters().pieces_missing.load(Ordering::Relaxed), 66);
    // Items of the other type are not pieces.
    assert!(get_piece(&mut connection, ItemType::SplitParityPiece, PieceIndex(0)).await.unwrap().is_none());
    let mut buffer = vec![0; ItemType::SplitParityPiece.size()];
    let wrong = connection.fetch_pieces(ItemType::Piece, &[PieceIndex(0)]).next(&mut buffer).await;
    assert!(matches!(wrong, Err(TransferError::Usage(_))) && !connection.is_broken());
    let (got, result) = get_pieces(&mut connection, ItemType::Piece, &[]).await;
    assert!(got.is_empty() && result.is_ok() && !connection.is_broken());
}

#[tokio::test]
async fn a_fetch_that_is_given_up_breaks_its_connection() {
    let pieces = Arc::new(MemoryPieces::default());
    (0..3).for_each(|index| pieces.insert(PieceIndex(index), piece(index)));
    let server = serve(&pieces, &Arc::default()).await;
    let mut connection = connect(&server).await;
    let (all, mut buffer) = (indices(0..3), vec![0; Piece::SIZE]);
    let mut fetch = connection.fetch_pieces(ItemType::Piece, &all);
    let (index, outcome) = fetch.next(&mut buffer).await.unwrap().unwrap();
    assert_eq!((index, outcome), (PieceIndex(0), FetchOutcome::Found(blake3_hash(&piece(0)))));
    drop(fetch);
    assert!(connection.is_broken());
    assert!(matches!(connection.ping().await, Err(TransferError::Broken { .. })));
    let error = get_piece(&mut connection, ItemType::Piece, PieceIndex(1)).await.unwrap_err();
    assert!(matches!(error, TransferError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn a_lying_peer_is_found_out_and_the_rest_stands() {
    let pieces = Arc::new(MemoryPieces::default());
    for index in 0..3 {
        pieces.insert(PieceIndex(index), piece(index));
    }
    pieces.damage(PieceIndex(1));
    let server = serve(&pieces, &Arc::default()).await;
    let mut connection = connect(&server).await;
    let (got, result) = get_pieces(&mut connection, ItemType::Piece, &indices(0..3)).await;
    result.unwrap();
    assert!(matches!(got[&PieceIndex(0)].0, FetchOutcome::Found(_)));
    assert_eq!(got[&PieceIndex(1)].0, FetchOutcome::Damaged);
    assert!(matches!(got[&PieceIndex(2)].0, FetchOutcome::Found(_)));
}

#[tokio::test]
async fn a_file_that_lost_its_end_ends_the_connection_and_nothing_else() {
    let pieces = Arc::new(MemoryPieces::default());
    pieces.insert(PieceIndex(1), piece(1));
    let file = tempfile::tempfile().unwrap();
    file.set_len(Piece::SIZE as u64 / 2).unwrap();
    pieces.insert_region(PieceIndex(2), FileRegion::new(Arc::new(file), 0, Piece::SIZE));
    let server = serve(&pieces, &Arc::default()).await;
    let mut connection = connect(&server).await;
    let asked = indices(1..3);
    let getting = timeout(SOON, get_pieces(&mut connection, ItemType::Piece, &asked));
    let (got, result) = getting.await.unwrap();
    let error = result.unwrap_err();
    assert!(matches!(error, TransferError::Io { .. }) && connection.is_broken(), "{error}");
    assert!(matches!(got[&PieceIndex(1)].0, FetchOutcome::Found(_)));
    assert_eq!(got.len(), 1, "half a piece is none");
    connect(&server).await.ping().await.unwrap();
}

#[tokio::test]
async fn puts_are_checked_fenced_and_bounded() {
    let pieces = Arc::new(MemoryPieces::with_capacity(6));
    let server = serve(&pieces, &Arc::default()).await;
    let mut connection = connect(&server).await;
    let data: Vec<_> = (0..8).map(piece).collect();
    let to_put = |index: u64| PieceToPut {
        index: PieceIndex(index),
        bytes: &data[index as usize],
        hash: blake3_hash(&data[index as usize]),
    };
    let six: Vec<_> = (0..6).map(to_put).collect();
    let outcomes = connection.put_pieces(ItemType::Piece, 7, &six).await.unwrap();
    assert_eq!(outcomes, vec![PutOutcome::Stored; 6]);
    let damaged = PieceToPut { hash: blake3_hash(b"else"), ..to_put(7) };
    let outcomes = connection.put_pieces(ItemType::Piece, 7, &[to_put(0), damaged, to_put(6)]).await.unwrap();
    assert_eq!(outcomes, [PutOutcome::AlreadyThere, PutOutcome::Damaged, PutOutcome::Full]);
    assert_eq!(pieces.len(), 6);

    // A new leader has come: the old one is told.
    let mut new_leader = connect(&server).await;
    assert_eq!(
        new_leader.put_pieces(ItemType::Piece, 9, &[to_put(0)]).await.unwrap(),
        [PutOutcome::AlreadyThere]
    );
    pieces.remove(PieceIndex(0));
    assert_eq!(
        connection.put_pieces(ItemType::Piece, 7, &[to_put(0)]).await.unwrap(),
        [PutOutcome::StaleFence { highest: 9 }]
    );
    assert_eq!(pieces.len(), 5);
    let got = get_piece(&mut connection, ItemType::Piece, PieceIndex(5)).await.unwrap();
    assert!(got.unwrap() == piece(5)[..]);
    assert_eq!(server.counters().pieces_stored.load(Ordering::Relaxed), 6);
    assert_eq!(server.counters().pieces_damaged.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_sector_is_waited_for_fetched_and_acknowledged() {
    let sectors = Arc::new(MemorySectors::default());
    let server = serve(&Arc::default(), &sectors).await;
    let mut connection = connect(&server).await;
    let mut fetch = SectorFetch::new(key(1));
    let mut sink = Sink::default();
    let unknown = connection.fetch_sector(&mut fetch, &mut sink).await.unwrap_err();
    assert!(matches!(unknown, TransferError::UnknownSector { .. }) && !unknown.is_transient());
    assert!(!connection.is_broken());

    sectors.making(key(1), 3);
    let making = Arc::clone(&sectors);
    let finish = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        making.ready(key(1), sector(1));
    });
    timeout(SOON, connection.fetch_sector(&mut fetch, &mut sink)).await.unwrap().unwrap();
    finish.await.unwrap();
    assert!(fetch.is_complete());
    assert_eq!(sink.sector, sector(1));
    assert_eq!(sink.metadata, b"metadata of a sector");
    assert!(sink.progress_seen > 0);

    connection.acknowledge_sector(&key(1)).await.unwrap();
    connection.acknowledge_sector(&key(1)).await.unwrap();
    assert!(sectors.is_empty());

    sectors.failed(key(2), "no pieces");
    let failed = connection.fetch_sector(&mut SectorFetch::new(key(2)), &mut sink).await.unwrap_err();
    assert!(matches!(&failed, TransferError::SectorFailed { reason, .. } if reason == "no pieces"));
    connection.ping().await.unwrap();
}

#[tokio::test]
async fn a_broken_transfer_of_a_sector_is_resumed_at_its_block() {
    let sectors = Arc::new(MemorySectors::default());
    sectors.ready(key(1), sector(1));
    let server = serve(&Arc::default(), &sectors).await;
    let mut fetch = SectorFetch::new(key(1));
    let mut sink = Sink::default();
    // The disk of the plot-client fails at block 2, and the connection is useless after that.
    sink.fail_at = Some(2);
    let mut connection = connect(&server).await;
    let error = connection.fetch_sector(&mut fetch, &mut sink).await.unwrap_err();
    assert!(matches!(error, TransferError::Sink(_)), "{error}");
    assert_eq!(fetch.next_block(), 2);
    assert!(matches!(connection.ping().await, Err(TransferError::Broken { .. })));

    // The server breaks at block 4.
    sink.fail_at = None;
    sectors.fail_block(Some(4));
    let error = connect(&server).await.fetch_sector(&mut fetch, &mut sink).await.unwrap_err();
    assert!(matches!(error, TransferError::Refused { .. }) && error.is_transient(), "{error}");
    assert_eq!(fetch.next_block(), 4);

    // The server is killed in the middle, and another process has the same spool.
    sectors.fail_block(None);
    let address = server.address();
    sectors.slow(Duration::from_millis(150));
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(220)).await;
        drop(server);
    });
    let mut connection = Connection::open(address, &secret(), InstanceId::generate()).await.unwrap();
    connection.fetch_sector(&mut fetch, &mut sink).await.unwrap_err();
    killer.await.unwrap();
    let at = fetch.next_block();
    assert!((4..8).contains(&at), "{at}");
    sectors.slow(Duration::ZERO);
    let server = serve_at(address, &Arc::default(), &sectors).await;
    sectors.reset_served();
    connect(&server).await.fetch_sector(&mut fetch, &mut sink).await.unwrap();
    assert!(fetch.is_complete());
    assert_eq!(sink.sector, sector(1));
    // The killed server may have been reading ahead: its last read counts as well, so each block counts once.
    let served = sectors.served().into_iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(served, (at..8).collect(), "only what was missing is sent");
}

#[tokio::test]
async fn a_sector_that_lies_or_changes_is_not_stored() {
    let sectors = Arc::new(MemorySectors::default());
    sectors.ready(key(1), sector(1));
    sectors.damage_block(Some(3));
    let server = serve(&Arc::default(), &sectors).await;
    let mut fetch = SectorFetch::new(key(1));
    let mut sink = Sink::default();
    let error = connect(&server).await.fetch_sector(&mut fetch, &mut sink).await.unwrap_err();
    assert!(matches!(error, TransferError::DamagedBlock { block: 3, .. }), "{error}");
    assert_eq!((fetch.next_block(), sink.blocks), (3, 3), "the damaged block reached nobody");

    sectors.damage_block(None);
    sectors.ready(key(1), sector(2));
    let error = connect(&server).await.fetch_sector(&mut fetch, &mut sink).await.unwrap_err();
    assert!(matches!(error, TransferError::SectorChanged { .. }) && error.is_transient(), "{error}");
    assert_eq!(fetch.next_block(), 0);
    connect(&server).await.fetch_sector(&mut fetch, &mut sink).await.unwrap();
    assert_eq!(sink.sector, sector(2));
}

#[tokio::test]
async fn only_who_knows_the_secret_is_served() {
    let pieces = Arc::new(MemoryPieces::default());
    let server = serve(&pieces, &Arc::default()).await;
    let wrong = ClusterSecret::from_bytes(b"another secret");
    let error = Connection::open(server.address(), &wrong, InstanceId::generate()).await.unwrap_err();
    assert!(matches!(error, TransferError::WrongSecret { .. }) && !error.is_transient());
    assert!(error.to_string().contains("--cluster-secret-file"), "{error}");

    // A client that sends anything else than a proof gets nothing: after the hellos 32 bytes decide.
    let address = server.address();
    let blocking = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut hello = [0; 64];
        hello[..10].copy_from_slice(b"AUTXFER\0\x01\0");
        stream.write_all(&hello).unwrap();
        let mut answer = [0; 96];
        stream.read_exact(&mut answer).unwrap();
        // The server's own proof, reflected.
        stream.write_all(&answer[64..]).unwrap();
        let mut verdict = Vec::new();
        stream.read_to_end(&mut verdict).unwrap();
        assert_eq!(verdict, [0], "refused and closed");

        // Another version is told ours; what is no peer is told nothing.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        hello[8] = 9;
        stream.write_all(&hello).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!((answer.len(), &answer[..10]), (64, &b"AUTXFER\0\x01\0"[..]));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&[b'G'; 64]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty());
    });
    blocking.await.unwrap();
    assert!(server.counters().refused_connections.load(Ordering::Relaxed) >= 4);
    connect(&server).await.ping().await.unwrap();
}

#[tokio::test]
async fn a_client_does_not_trust_a_server_without_the_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let impostor = std::thread::spawn(move || {
        for version in [1u8, 7] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 64];
            stream.read_exact(&mut hello).unwrap();
            hello[8] = version;
            stream.write_all(&hello).unwrap();
            stream.write_all(&[0; 32]).unwrap();
            // The client must not give its own proof away.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty());
        }
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        stream.write_all(&[0; 64]).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let open = || async { Connection::open(address, &secret(), InstanceId::generate()).await.unwrap_err() };
    assert!(matches!(open().await, TransferError::WrongSecret { .. }));
    assert!(matches!(open().await, TransferError::Version { found: 7, expected: 1, .. }));
    assert!(matches!(open().await, TransferError::NotAPeer { .. }));
    impostor.join().unwrap();
}

#[tokio::test]
async fn connections_are_bounded_and_a_taken_port_is_named() {
    let options =
        ServerOptions { max_connections_per_peer: 2, ..ServerOptions::new(secret(), InstanceId::generate()) };
    let server = TransferServer::start(loopback(), options).await.unwrap();
    let first = connect(&server).await;
    let _second = connect(&server).await;
    let error = Connection::open(server.address(), &secret(), InstanceId::generate()).await.unwrap_err();
    assert!(matches!(error, TransferError::Unavailable { .. }) && error.is_transient(), "{error}");
    drop(first);
    timeout(SOON, async {
        while Connection::open(server.address(), &secret(), InstanceId::generate()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();

    let taken = TransferServer::start(server.address(), ServerOptions::new(secret(), InstanceId::generate()));
    let error = taken.await.unwrap_err().to_string();
    assert!(error.contains(&server.address().to_string()), "{error}");
    // A server without sources says so.
    let server = TransferServer::start(loopback(), ServerOptions::new(secret(), InstanceId::generate()))
        .await
        .unwrap();
    let error = get_piece(&mut connect(&server).await, ItemType::Piece, PieceIndex(0)).await.unwrap_err();
    assert!(error.to_string().contains("serves no pieces"), "{error}");
}

#[tokio::test]
async fn draining_finishes_what_is_in_hand() {
    let pieces = Arc::new(MemoryPieces::default());
    for index in 0..32 {
        pieces.insert(PieceIndex(index), piece(index));
    }
    pieces.slow(Duration::from_millis(30));
    let sectors = Arc::new(MemorySectors::default());
    sectors.making(key(1), 3);
    let server = serve(&pieces, &sectors).await;
    let mut getting = connect(&server).await;
    let mut waiting = connect(&server).await;
    let get = tokio::spawn(async move {
        let (got, result) = get_pieces(&mut getting, ItemType::Piece, &indices(0..32)).await;
        (result.is_ok(), got.len())
    });
    let wait = tokio::spawn(async move {
        waiting.fetch_sector(&mut SectorFetch::new(key(1)), &mut Sink::default()).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    server.drain(SOON).await;
    assert!(started.elapsed() < Duration::from_secs(10), "it waited for a sector that is not even made");
    let (complete, answered) = get.await.unwrap();
    assert!(complete && answered == 32, "{answered} of 32");
    let error = wait.await.unwrap().unwrap_err();
    assert!(matches!(error, TransferError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_violation_is_answered_and_ends_the_connection() {
    let server = serve(&Arc::default(), &Arc::default()).await;
    let frames: [(&str, Vec<u8>); 5] = [
        ("unknown kind", vec![0, 0, 0, 0, 0x77, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("at most", vec![0xff, 0xff, 0xff, 0x7f, 0x02, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("reserved", vec![0, 0, 0, 0, 0x05, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("malformed get", vec![1, 0, 0, 0, 0x01, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]),
        ("from a client", vec![0, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (expected, frame) in frames {
        let mut stream = support::raw_connection(server.address(), &secret()).await;
        let answer = tokio::task::spawn_blocking(move || {
            stream.write_all(&frame).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        });
        let answer = timeout(SOON, answer).await.unwrap().unwrap();
        assert_eq!(answer[4], 0x88, "an error frame");
        let text = String::from_utf8_lossy(&answer[16..]).into_owned();
        assert!(text.contains(expected), "{expected}: {text}");
    }
    connect(&server).await.ping().await.unwrap();
}

#[tokio::test]
async fn a_slow_peer_is_cut_off_and_holds_nobody_up() {
    let pieces = Arc::new(MemoryPieces::default());
    for index in 0..256 {
        pieces.insert_shared(PieceIndex(index), &piece(7));
    }
    let server = serve(&pieces, &Arc::default()).await;
    // Asks for 256 MiB and reads nothing.
    let mut slow = support::raw_connection(server.address(), &secret()).await;
    let mut frame = vec![0; 16];
    frame[4] = 0x01;
    frame[8] = 1;
    frame.push(0);
    frame.extend_from_slice(&[0x01, 0x04]);
    for index in 0..256u64 {
        frame.extend_from_slice(&index.to_le_bytes());
    }
    let length = (frame.len() - 16) as u32;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    slow.write_all(&frame).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let queued = server.counters().pieces_sent.load(Ordering::Relaxed);
    assert!(queued < 40, "{queued} pieces stand in the queue of a peer that reads nothing");

    let mut quick = connect(&server).await;
    let getting = get_piece(&mut quick, ItemType::Piece, PieceIndex(3));
    assert!(timeout(Duration::from_secs(5), getting).await.unwrap().unwrap().is_some());

    // After its time is over the server closes the connection: what it had not read by then never comes.
    tokio::time::sleep(Duration::from_secs(21)).await;
    let read = tokio::task::spawn_blocking(move || {
        slow.set_read_timeout(Some(SOON)).unwrap();
        let mut all = Vec::new();
        let _ = slow.read_to_end(&mut all);
        all.len()
    });
    let read = timeout(SOON, read).await.unwrap().unwrap();
    assert!(read < 40 * Piece::SIZE, "{read} bytes");
}

#[tokio::test]
async fn a_pool_reuses_what_works_and_replaces_what_does_not() {
    let pieces = Arc::new(MemoryPieces::default());
    pieces.insert(PieceIndex(1), piece(1));
    let server = serve(&pieces, &Arc::default()).await;
    let address = server.address();
    let pool = TransferPool::with_limit(secret(), InstanceId::generate(), 2);
    let get = || async {
        let mut connection = pool.get(address).await?;
        get_piece(&mut connection, ItemType::Piece, PieceIndex(1)).await
    };
    for _ in 0..3 {
        assert!(get().await.unwrap().is_some());
    }
    let (one, two) = (pool.get(address).await.unwrap(), pool.get(address).await.unwrap());
    assert!(timeout(Duration::from_millis(200), pool.get(address)).await.is_err(), "two at once");
    drop((one, two));
    drop(server);
    assert!(get().await.is_err());
    let _server = serve_at(address, &pieces, &Arc::default()).await;
    assert!(get().await.unwrap().is_some(), "a stale connection is replaced");
}
