//! Disks that are full: that of a plot-server's spool, and that of a farm.

use super::{LONG, SOON, Test, spool_files};
use crate::roles_support::small_disk::SmallDisk;
use crate::world::eventually;
use cluster::contract::{Lease, OfferRequest, PlotProgress};
use cluster::transfer::Connection;
use farming::plot::{Farm, FarmMode, FarmOptions, PLOT_FILE};
use primitives::{PublicKey, SectorGeometry, ss58};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// What a filesystem allocates at once.
const PAGE: u64 = 4096;

fn sector_size(pieces: u16) -> u64 {
    SectorGeometry::new(pieces).sector_size() as u64
}

/// Asks about a sector until it is finished, or why it is not.
async fn outcome(test: &Test, lease: &Lease) -> PlotProgress {
    let started = Instant::now();
    loop {
        match test.progress(lease.server, lease.key).await {
            Some(end @ (PlotProgress::Ready { .. } | PlotProgress::Failed { .. })) => return end,
            other => assert!(started.elapsed() < LONG, "waited {LONG:?}, {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_a_spool_costs_only_the_sector_that_does_not_fit() {
    let test = Test::start().await;
    let disk = SmallDisk::mount(16);
    let start = || {
        test.start_server_with(disk.path(), |arguments| {
            disk.start_role(test.directory.path(), "plot-server", &test.nats.url(), arguments)
        })
    };
    let mut server = start();

    // Room for a sector of two pieces and its header.
    disk.fill_but(sector_size(2).next_multiple_of(PAGE) + 64 * PAGE);
    let small = test.lease(&test.offer(0, 2)).await;
    assert_eq!(outcome(&test, &small).await, PlotProgress::Ready { size_bytes: sector_size(2) });
    let large: OfferRequest = test.offer(1, 3);
    let lease = test.lease(&large).await;
    let PlotProgress::Failed { reason } = outcome(&test, &lease).await else { panic!("it fits") };
    let spool = disk.path().join("spool");
    for said in [reason.as_str(), &server.log()] {
        assert!(said.contains("no room for a sector"), "{said}");
        assert!(said.contains(spool.to_str().unwrap()), "{said}");
        assert!(said.contains("free space there or lower --spool-sectors"), "{said}");
    }
    assert_eq!(spool_files(&disk.reach("")), ["header", "sector"]);
    server.wait_until_ready(SOON);

    // The finished one is there over a kill, although the disk is full.
    server.kill();
    disk.fill_but(0);
    let mut server = start();
    let small = test.lease(&test.offer(0, 2)).await;
    assert_eq!(test.fetch(&small).await.len() as u64, sector_size(2));
    assert_eq!(server.counter("records_encoded"), 0);

    disk.make_room();
    let lease = test.lease(&large).await;
    assert_eq!(outcome(&test, &lease).await, PlotProgress::Ready { size_bytes: sector_size(3) });
    for lease in [small, lease] {
        assert!(!test.fetch(&lease).await.is_empty());
        let mut connection = Connection::open(lease.address.0, &test.secret, lease.server).await.unwrap();
        connection.acknowledge_sector(&lease.key).await.unwrap();
    }
    assert!(spool_files(&disk.reach("")).is_empty());
    server.wait_until_ready(SOON);
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_of_a_farm_pauses_its_plotting_and_loses_nothing() {
    const SECTORS: u16 = 3;
    let test = Test::start().await;
    let disk = SmallDisk::mount(32);
    let path = format!("path={},sectors={SECTORS}", disk.path().display());
    let reward_address = ss58::encode(ss58::AUTONOMYS_PREFIX, &PublicKey([5; 32]));
    let arguments =
        ["plot-client", "--reward-address", &reward_address, "--max-pieces-in-sector", "2", &path];
    let start = || {
        let mut client = disk.start_role(test.directory.path(), "plot-client", &test.nats.url(), &arguments);
        client.wait_until_ready(SOON);
        client
    };
    let client = start();

    // As on a filesystem that cannot allocate in advance: only the first sector has its room.
    let plot = File::options().write(true).open(disk.reach(PLOT_FILE)).unwrap();
    let first = sector_size(2).next_multiple_of(PAGE);
    let rest = plot.metadata().unwrap().len() - first;
    fallocate(&plot, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, first, rest).unwrap();
    disk.fill_but(0);
    let server = test.start_server(&test.directory.path().join("base"));
    let plot_path = disk.path().join(PLOT_FILE);
    let refusal = format!("{}: cannot write a sector to it: No space left on device", plot_path.display());
    let refusals = |log: String| log.matches(&refusal).count();
    eventually("the first sector and no other", LONG, || {
        client.counter("sectors_stored") == 1 && refusals(client.log()) >= 2
    })
    .await;
    assert!(client.log().contains("free space on that disk"), "{}", client.log());
    assert_eq!(server.counter("spool_sectors"), 2);

    // Killed and started on the full disk, it has what it had, and finds in the spool what it could not store.
    client.kill();
    let mut client = start();
    assert_eq!(client.counter("sectors_plotted"), 1);
    eventually("two refusals again", LONG, || refusals(client.log()) >= 4).await;
    client.wait_until_ready(SOON);

    disk.make_room();
    eventually("all sectors", LONG, || client.counter("sectors_plotted") == i64::from(SECTORS)).await;
    eventually("an empty spool", LONG, || server.counter("spool_sectors") == 0).await;
    assert_eq!(server.counter("sectors_encoded"), i64::from(SECTORS));
    assert_eq!(client.counter("sectors_lost"), 0);
    client.terminate();
    server.terminate();
    let (farm, events) = Farm::open(&FarmOptions::existing(&disk.reach(""), FarmMode::ReadOnly)).unwrap();
    assert!(events.is_empty(), "{events:?}");
    assert!(farm.sectors().iter().all(Option::is_some));
    for index in 0..SECTORS {
        assert!(Arc::clone(&farm).scrub_sector(index, &AtomicBool::new(false)).unwrap().is_none());
    }
}
