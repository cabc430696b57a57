//! Plot-server, plot-client and proof-server together, over a real NATS server and TCP; sectors of two pieces.

mod roles;

use crate::fixtures::archive;
use crate::proxy::{Fault, FaultyProxy};
use crate::world::{self, Controller, Node, development_kzg, eventually, start_cache};
use cluster::ClusterSecret;
use cluster::testing::NatsServer;
use farmer::roles::piece_source::directory::CacheKind;
use farming::identity::is_reward_signature_valid;
use farming::plot::{Farm, FarmMode, FarmOptions, PLOT_FILE};
use primitives::{Blake3Hash, SectorGeometry, SegmentIndex};
use roles::{Client, ProofServer, Server};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

const PIECES_IN_SECTOR: u16 = 2;
const SECTORS: u16 = 3;
const PLOTTING: Duration = Duration::from_secs(180);
const PROVING: Duration = Duration::from_secs(60);

/// Announces slots until a solution comes; gives the slot that it answers.
async fn next_solution(controllers: &[&Controller], node: &Node, slots: &mut u64) -> u64 {
    let had = node.solutions.lock().len();
    for _ in 0..40 {
        *slots += 1;
        for controller in controllers {
            controller.announce_slot(*slots).await;
            // Connections of their own: what is sent later may come earlier.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Until the slot is worth nothing: what comes later would be taken for an answer to the next.
        for _ in 0..90 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some((_, response)) = node.solutions.lock().get(had) {
                return response.slot_number;
            }
        }
    }
    panic!("no solution in 40 slots");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_farm_is_plotted_farms_is_replotted_and_repaired() {
    let _ = tracing_subscriber::fmt().with_env_filter("info,farmer=debug").with_test_writer().try_init();
    let nats = NatsServer::start();
    let secret = ClusterSecret::from_bytes(b"the secret of a test");
    let (kzg, srs_cache) = development_kzg();
    let node = Node::new(archive(&kzg, 2), PIECES_IN_SECTOR);
    let mut first = Controller::start(&nats, &node).await;
    let second = Controller::start(&nats, &node).await;
    assert_eq!(first.services(), 5);

    // The owner of all pieces lies: the full copy must be asked instead.
    let (liar, lying) = start_cache(&secret, &node, CacheKind::Sharded { capacity: 1000 }, true).await;
    let (honest, full) = start_cache(&secret, &node, CacheKind::Full, false).await;
    let base = tempfile::tempdir().unwrap();
    let proxy = FaultyProxy::start(Fault::CutOnce, 1_300_000).await;
    let server =
        Server::start(&nats, &secret, &srs_cache, base.path(), vec![lying, full], Some(proxy.address()))
            .await;
    proxy.forward_to(server.port());
    let proofs = ProofServer::start(&nats, &srs_cache).await;
    let farm = tempfile::tempdir().unwrap();
    let client = Client::start(&nats, &secret, &srs_cache, &node, farm.path(), SECTORS).await;

    // Plotting: with bad pieces refused, and a connection that breaks in the middle of the first sector.
    eventually("all sectors", PLOTTING, || client.counter("sectors_plotted") == i64::from(SECTORS)).await;
    assert!(liar.counters().pieces_sent.load(std::sync::atomic::Ordering::Relaxed) >= 2);
    assert!(honest.counters().pieces_sent.load(std::sync::atomic::Ordering::Relaxed) >= 2);
    assert_eq!(server.counter("sectors_encoded"), i64::from(SECTORS));
    assert_eq!(server.counter("records_encoded"), i64::from(SECTORS * PIECES_IN_SECTOR));
    eventually("an empty spool", PROVING, || server.counter("spool_sectors") == 0).await;
    let sector = SectorGeometry::new(PIECES_IN_SECTOR).sector_size() as u64;
    let sent = proxy.sent();
    assert!(
        proxy.faults() == 1 && sent < u64::from(SECTORS) * (sector + 200_000) + 1_300_000,
        "not resumed: {sent} bytes"
    );

    // Farming, by the proof-server; the second copy of a slot makes no second solution.
    let mut slots = 0;
    let slot = next_solution(&[&first, &second], &node, &mut slots).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let solutions = std::mem::take(&mut *node.solutions.lock());
    let mut keys: Vec<_> = solutions.iter().map(|(_, response)| response.clone()).collect();
    for (controller, response) in &solutions {
        // To the one whose announcement came first, which on a busy machine may be the second's.
        assert_eq!((*controller, response.slot_number), (solutions[0].0, slot));
        node.verify(&kzg, &world::challenge(slot), response);
    }
    keys.dedup();
    assert_eq!(keys.len(), solutions.len());
    assert!(proofs.counter("proofs_made") >= 1);
    assert!(client.counter("proofs_requested") >= 1 && client.counter("solutions_accepted") >= 1);

    // Without proof-server the plot-client helps itself.
    proofs.stop().await;
    let slot = next_solution(&[&first], &node, &mut slots).await;
    let (_, response) = node.solutions.lock().last().cloned().unwrap();
    node.verify(&kzg, &world::challenge(slot), &response);
    // That one may have been the proof-server's last, which came late.
    eventually("a proof of its own", PROVING, || client.counter("proofs_local") >= 1).await;

    // A controller that is gone: the solution goes to the other one that announced the slot.
    tokio::time::sleep(Duration::from_secs(3)).await;
    first.take_no_solutions().await;
    node.solutions.lock().clear();
    next_solution(&[&first, &second], &node, &mut slots).await;
    assert!(node.solutions.lock().iter().all(|(controller, _)| *controller == second.instance));

    // Reward signatures.
    let public_key = client.public_key();
    let hash = Blake3Hash([42; 32]);
    second.ask_for_signature(public_key, hash).await;
    eventually("a reward signature", Duration::from_secs(2), || !node.signatures.lock().is_empty()).await;
    let signature = node.signatures.lock().pop().unwrap();
    assert_eq!(signature.hash, hash);
    assert!(is_reward_signature_valid(&hash, &signature.signature.unwrap(), &public_key));

    // A new segment: what it decides to be about to expire is plotted anew, at the new history size.
    let before = client.history_sizes();
    assert!(before.iter().all(|size| size.get() == 1));
    *node.history.lock() = world::size(2);
    let header = node.header(SegmentIndex(1)).unwrap();
    let due: Vec<bool> = (0..SECTORS)
        .map(|index| {
            let id = public_key.sector_id(index, world::size(1));
            let at = id.derive_expiration_history_size(
                world::size(1),
                &header.segment_commitment(),
                world::size(1),
            );
            at.unwrap().segment_index() <= SegmentIndex(2)
        })
        .collect();
    second.announce_segment(header).await;
    eventually("replotting", PLOTTING, || {
        client.history_sizes().iter().zip(&due).all(|(size, due)| (size.get() == 2) == *due)
            && client.history_sizes().len() == usize::from(SECTORS)
    })
    .await;
    // It is counted after it is on the disk.
    let replotted = due.iter().filter(|due| **due).count() as i64;
    eventually("the count", PROVING, || client.counter("sectors_replotted") >= replotted).await;
    assert_eq!(client.counter("sectors_replotted"), replotted);

    // A bit flips while nobody looks: the scrub at the start finds it, the sector is plotted anew.
    client.stop().await;
    let plot = std::fs::File::options().read(true).write(true).open(farm.path().join(PLOT_FILE)).unwrap();
    let mut byte = [0];
    plot.read_exact_at(&mut byte, sector + 77_777).unwrap();
    plot.write_all_at(&[byte[0] ^ 1], sector + 77_777).unwrap();
    drop(plot);
    let client = Client::start(&nats, &secret, &srs_cache, &node, farm.path(), SECTORS).await;
    eventually("the damage", PROVING, || client.counter("sectors_lost") == 1).await;
    eventually("the repair", PLOTTING, || client.counter("sectors_stored") == 1).await;
    client.stop().await;
    server.stop().await;
    let (farm, events) = Farm::open(&FarmOptions::existing(farm.path(), FarmMode::ReadOnly)).unwrap();
    assert!(events.is_empty(), "{events:?}");
    let never = std::sync::atomic::AtomicBool::new(false);
    assert!(farm.sectors().iter().all(Option::is_some));
    for index in 0..SECTORS {
        assert!(Arc::clone(&farm).scrub_sector(index, &never).unwrap().is_none());
    }
}
