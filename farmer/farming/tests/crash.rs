//! What is found after a crash, a damaged disk or a kill: the old sector, a dummy, or the new sector, never half of one.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use farming::plot::{Farm, FarmEvent, FarmMode, FarmOptions, LostSector};
use parity_scale_codec::Encode;
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Checksummed, Blake3Hash, SectorGeometry};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use support::{fake_sector, farm_options, store};

const PIECES: u16 = 2;
const SECTORS: u16 = 3;
const RECORD: u64 = SectorMetadata::ENCODED_SIZE as u64;

fn geometry() -> SectorGeometry {
    SectorGeometry::new(PIECES)
}

/// A farm with all sectors plotted at history size 4.
fn plotted(directory: &Path) -> Arc<Farm> {
    let (farm, _) = Farm::open(&farm_options(directory, PIECES, SECTORS)).unwrap();
    for sector_index in 0..SECTORS {
        store(&farm, &fake_sector(farm.public_key(), sector_index, PIECES, 4));
    }
    farm
}

/// Opens what a crash at this moment would leave: a copy of the files as they are.
fn after_crash(directory: &Path) -> (tempfile::TempDir, Arc<Farm>, Vec<FarmEvent>) {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let (farm, events) = Farm::open(&farm_options(copy.path(), PIECES, SECTORS)).unwrap();
    (copy, farm, events)
}

fn scrub(farm: &Farm) -> Vec<FarmEvent> {
    (0..SECTORS).filter_map(|sector| farm.scrub_sector(sector, &AtomicBool::new(false)).unwrap()).collect()
}

fn damage(path: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
}

fn lost(event: &FarmEvent) -> (u16, &LostSector) {
    match event {
        FarmEvent::SectorLost { sector_index, reason } => (*sector_index, reason),
        other => panic!("{other}"),
    }
}

#[test]
fn a_crash_in_mid_write_leaves_a_dummy() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    let new = fake_sector(farm.public_key(), 1, PIECES, 9);
    let bytes = new.to_bytes();
    let check_dummy = |moment: &str| {
        let (_copy, farm, events) = after_crash(directory.path());
        assert_eq!(events, [], "{moment}");
        assert_eq!(farm.sectors_to_plot(), [1], "{moment}");
        assert_eq!(scrub(&farm), [], "{moment}");
    };
    let mut writer = farm.write_sector(1).unwrap();
    check_dummy("before the first byte");
    for (part, chunk) in bytes.chunks(bytes.len() / 3 + 1).enumerate() {
        writer.write_all(chunk).unwrap();
        check_dummy(&format!("after part {part}"));
    }
    assert!(farm.sectors()[1].is_none(), "an audit passes it over");
    writer.finish(new.metadata()).unwrap();
    let (_copy, farm, events) = after_crash(directory.path());
    assert_eq!((events, farm.sectors_to_plot(), scrub(&farm)), (vec![], vec![], vec![]));
    assert_eq!(farm.sectors()[1].as_ref().unwrap().history_size, support::history(9));
}

#[test]
fn a_crash_between_metadata_and_count_leaves_the_sector_unplotted() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    let header = directory.path().join("metadata.bin");
    drop(farm);
    // The last record is whole, the header has not been written.
    let file = std::fs::OpenOptions::new().write(true).open(header).unwrap();
    file.write_all_at(&[0, 2, 0], 0).unwrap();
    let (_copy, farm, events) = after_crash(directory.path());
    assert_eq!((events, farm.sectors_to_plot()), (vec![], vec![2]));
}

#[test]
fn torn_metadata_are_found_and_become_a_dummy_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    let new = Blake3Checksummed(fake_sector(farm.public_key(), 1, PIECES, 9).metadata().clone()).encode();
    drop(farm);
    let path = directory.path().join("metadata.bin");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let start = (1 << 20) + RECORD;
    // All of it but half of the checksum.
    file.write_all_at(&new[..new.len() - 16], start).unwrap();
    let options = farm_options(directory.path(), PIECES, SECTORS);
    // A reader says so and changes nothing.
    for _ in 0..2 {
        let options = FarmOptions { mode: FarmMode::ReadOnly, ..options.clone() };
        let (_farm, events) = Farm::open(&options).unwrap();
        assert!(matches!(lost(&events[0]), (1, LostSector::Metadata(reason)) if reason.contains("checksum")));
        assert_eq!(events.len(), 1);
    }
    let (farm, events) = Farm::open(&options).unwrap();
    assert!(matches!(lost(&events[0]), (1, LostSector::Metadata(_))));
    assert_eq!(farm.sectors_to_plot(), [1]);
    drop(farm);
    let mut record = vec![0; RECORD as usize];
    std::fs::File::open(&path).unwrap().read_exact_at(&mut record, start).unwrap();
    assert!(record == Blake3Checksummed(SectorMetadata::dummy(1, PIECES)).encode());
    let (farm, events) = Farm::open(&options).unwrap();
    assert_eq!((events, farm.sectors_to_plot()), (vec![], vec![1]));
}

#[test]
fn foreign_and_impossible_metadata_are_found() {
    let directory = tempfile::tempdir().unwrap();
    drop(plotted(directory.path()));
    let path = directory.path().join("metadata.bin");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let record = |sector: u64| (1 << 20) + sector * RECORD;
    // The record of sector 0 in the place of sector 1, and sizes that no sector has in sector 2.
    let mut bytes = vec![0; RECORD as usize];
    file.read_exact_at(&mut bytes, record(0)).unwrap();
    file.write_all_at(&bytes, record(1)).unwrap();
    let mut metadata = SectorMetadata::dummy(2, PIECES);
    metadata.s_bucket_sizes[77] = 2;
    file.write_all_at(&Blake3Checksummed(metadata).encode(), record(2)).unwrap();
    let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
    let reasons: Vec<_> = events.iter().map(|event| event.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "sector 1 is lost and will be plotted anew: bad metadata: \
             they are those of a sector 0 of 2 pieces",
            "sector 2 is lost and will be plotted anew: bad metadata: \
             the s-buckets hold 2 chunks, 65536 are due",
        ]
    );
    assert_eq!(farm.sectors_to_plot(), [1, 2]);
}

#[test]
fn a_flipped_bit_anywhere_in_a_sector_is_found_by_a_scrub() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    assert_eq!(scrub(&farm), []);
    let sector = fake_sector(farm.public_key(), 1, PIECES, 4);
    let (map, metadata) = (geometry().contents_map_size(), geometry().record_metadata_offset());
    let size = geometry().sector_size();
    for offset in [0, map - 33, map - 1, map, metadata - 1, metadata, size - 33, size - 32, size - 1] {
        damage(farm.plot().path(), (size + offset) as u64);
        let events = scrub(&farm);
        assert_eq!(events.len(), 1, "byte {offset}");
        assert!(matches!(lost(&events[0]), (1, LostSector::Checksum(_))), "byte {offset}: {events:?}");
        assert_eq!(farm.sectors_to_plot(), [1]);
        assert!(farm.sectors()[1].is_none());
        // Plotted anew, all is well.
        store(&farm, &sector);
        assert_eq!(scrub(&farm), []);
    }
    damage(farm.plot().path(), size as u64);
    assert_eq!(scrub(&farm).len(), 1);
    drop(farm);
    let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
    assert_eq!((events, farm.sectors_to_plot()), (vec![], vec![1]), "the dummy is on the disk");
}

#[test]
fn a_flipped_bit_anywhere_in_metadata_is_found_on_opening() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    let sector = fake_sector(farm.public_key(), 1, PIECES, 4);
    drop(farm);
    for offset in [0, 2, 4, 70_000, RECORD - 33, RECORD - 1] {
        damage(&directory.path().join("metadata.bin"), (1 << 20) + RECORD + offset);
        let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
        assert_eq!(events.len(), 1, "byte {offset}");
        assert!(matches!(lost(&events[0]), (1, LostSector::Metadata(_))), "{events:?}");
        store(&farm, &sector);
    }
    // A count beyond the farm is clipped.
    damage(&directory.path().join("metadata.bin"), 1);
    let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
    assert_eq!(events, [FarmEvent::CountClipped { found: 3 ^ 0x40, sectors: 3 }]);
    assert_eq!(farm.sectors_to_plot(), [] as [u16; 0]);
}

#[test]
fn a_truncated_plot_file_loses_the_sectors_behind_its_end_only() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    let path = farm.plot().path().to_owned();
    let full = std::fs::metadata(&path).unwrap().len();
    drop(farm);
    let size = geometry().sector_size() as u64;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(size + size / 2).unwrap();
    let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
    let expected = [1, 2].map(|sector_index| FarmEvent::SectorLost {
        sector_index,
        reason: LostSector::PlotTruncated {
            plot_size: size + size / 2,
            sector_end: size * (u64::from(sector_index) + 1),
        },
    });
    assert_eq!(events, expected);
    assert_eq!(farm.sectors_to_plot(), [1, 2]);
    assert_eq!(scrub(&farm), []);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), full, "and it is whole again");
    drop(farm);
    let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
    assert_eq!((events, farm.sectors_to_plot()), (vec![], vec![1, 2]));
}

#[test]
fn truncated_metadata_lose_the_records_behind_their_end_only() {
    let directory = tempfile::tempdir().unwrap();
    drop(plotted(directory.path()));
    let path = directory.path().join("metadata.bin");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((1 << 20) + RECORD + 5).unwrap();
    let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
    assert!(matches!(lost(&events[0]), (1, LostSector::MetadataUnreadable(_))));
    assert!(matches!(lost(&events[1]), (2, LostSector::MetadataUnreadable(_))));
    assert_eq!((events.len(), farm.sectors_to_plot()), (2, vec![1, 2]));
}

#[test]
fn a_lost_plot_file_is_not_silently_replaced() {
    let directory = tempfile::tempdir().unwrap();
    drop(plotted(directory.path()));
    let options = farm_options(directory.path(), PIECES, SECTORS);
    let plot = directory.path().join("plot.bin");
    std::fs::rename(&plot, directory.path().join("elsewhere")).unwrap();
    let error = Farm::open(&options).unwrap_err();
    assert!(
        error.to_string().contains("plot.bin is missing although the farm has 3 plotted sectors"),
        "{error}"
    );
    assert!(!plot.exists());
    std::fs::rename(directory.path().join("elsewhere"), &plot).unwrap();
    let metadata = directory.path().join("metadata.bin");
    std::fs::remove_file(&metadata).unwrap();
    let error = Farm::open(&options).unwrap_err();
    assert!(error.to_string().contains("metadata.bin is missing although"), "{error}");
    assert!(!metadata.exists());
}

#[test]
fn an_interrupted_creation_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, SECTORS);
    drop(Farm::open(&options).unwrap());
    std::fs::remove_file(directory.path().join("plot.bin")).unwrap();
    let (farm, events) = Farm::open(&options).unwrap();
    assert_eq!((events, farm.sectors_to_plot()), (vec![FarmEvent::Completed], vec![0, 1, 2]));
    drop(farm);
    for name in ["plot.bin", "metadata.bin"] {
        std::fs::remove_file(directory.path().join(name)).unwrap();
    }
    let (farm, events) = Farm::open(&options).unwrap();
    assert_eq!(events, [FarmEvent::Completed]);
    store(&farm, &fake_sector(farm.public_key(), 0, PIECES, 4));
    drop(farm);
    // Allocation was interrupted: the file is too short, and no sector is lost.
    let plot = directory.path().join("plot.bin");
    let file = std::fs::OpenOptions::new().write(true).open(&plot).unwrap();
    file.set_len(geometry().sector_size() as u64 + 4096).unwrap();
    let (farm, events) = Farm::open(&options).unwrap();
    assert_eq!((events, farm.sectors_to_plot()), (vec![], vec![1, 2]));
    assert!(std::fs::metadata(&plot).unwrap().len() >= 3 * geometry().sector_size() as u64);
}

#[test]
fn audits_go_on_beside_an_unreadable_sector() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    // The key is random: some slot sets each sector a challenge at an s-bucket with chunks.
    let challenge = (0u64..)
        .map(|slot| Blake3Hash(*blake3::hash(&slot.to_le_bytes()).as_bytes()))
        .find(|challenge| farm.audit(challenge, u64::MAX, None).candidates.len() == usize::from(SECTORS))
        .unwrap();
    let all = farm.audit(&challenge, u64::MAX, None);
    let found = |sectors: &[farming::audit::SectorCandidates]| {
        let mut indexes: Vec<_> = sectors.iter().map(|sector| sector.sector.sector_index).collect();
        indexes.sort_unstable();
        indexes
    };
    assert_eq!((found(&all.candidates), all.errors.len()), (vec![0, 1, 2], 0));
    assert!(all.candidates.is_sorted_by_key(|sector| sector.best_distance()));
    for sector in &all.candidates {
        assert!(sector.chunks.is_sorted());
    }
    assert_eq!(farm.audit(&challenge, 1, None).candidates.len(), 0, "an empty range");

    let size = geometry().sector_size() as u64;
    let file = std::fs::OpenOptions::new().write(true).open(farm.plot().path()).unwrap();
    file.set_len(2 * size).unwrap();
    let some = farm.audit(&challenge, u64::MAX, None);
    assert_eq!(found(&some.candidates), [0, 1]);
    assert_eq!(some.errors.len(), 1);
    let message = some.errors[0].to_string();
    assert!(message.contains("plot.bin: cannot audit sector 2: "), "{message}");
    // A scrub of it makes it a dummy.
    let events = scrub(&farm);
    assert!(matches!(lost(&events[0]), (2, LostSector::Unreadable(_))), "{events:?}");
    assert_eq!(farm.audit(&challenge, u64::MAX, None).errors.len(), 0);

    // What is being written is passed over, by a snapshot taken before as well.
    let before = farm.sectors();
    let writer = farm.write_sector(0).unwrap();
    assert_eq!(found(&farm.audit(&challenge, u64::MAX, None).candidates), [1]);
    let path = farm.plot().path();
    let stale = farming::audit::audit_plot(farm.plot(), path, &before, &challenge, u64::MAX, None);
    assert_eq!(found(&stale.candidates), [1]);
    drop(writer);
    let event = farm.reject_sector(1, "its solutions are refused".to_owned()).unwrap();
    assert_eq!(lost(&event).0, 1);
    assert_eq!(farm.sectors_to_plot(), [0, 1, 2]);
}

/// A disk of which each read takes its time.
struct SlowDisk<'a>(&'a farming::io::PlotReader);

impl SlowDisk<'_> {
    const READ: Duration = Duration::from_millis(20);
}

impl farming::io::ReadAt for SlowDisk<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        std::thread::sleep(Self::READ);
        self.0.read_exact_at(buffer, offset)
    }
}

#[test]
fn audits_of_a_slow_disk_end_in_time_and_say_what_they_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let farm = plotted(directory.path());
    let sectors: Vec<_> = farm.sectors().iter().cycle().take(300).cloned().collect();
    let audit = |challenge: &Blake3Hash, time: Duration| {
        let until = Some(Instant::now() + time);
        let path = farm.plot().path();
        farming::audit::audit_plot(&SlowDisk(farm.plot()), path, &sectors, challenge, u64::MAX, until)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let challenge = (0u64..)
        .map(|slot| Blake3Hash(*blake3::hash(&slot.to_le_bytes()).as_bytes()))
        .find(|challenge| farm.audit(challenge, u64::MAX, None).candidates.len() == usize::from(SECTORS))
        .unwrap();
    let reads = 5;
    let outcome = pool.install(|| audit(&challenge, SlowDisk::READ * reads));
    assert_eq!(outcome.audited + outcome.left_out, 300);
    // The one that is begun in the last moment is finished.
    assert!(outcome.audited <= reads as usize + 1, "{}", outcome.audited);
    assert_eq!(outcome.candidates.len(), outcome.audited, "what is reached is audited as ever");

    let outcome = pool.install(|| audit(&challenge, Duration::from_secs(3600)));
    assert_eq!((outcome.audited, outcome.left_out), (300, 0));
}

/// Writes sectors for ever; killed by [`kill_nine_leaves_whole_sectors_only`].
#[test]
#[ignore = "runs until it is killed, by another test"]
fn write_until_killed() {
    let directory = std::env::var_os("FARM_DIRECTORY").unwrap();
    let (farm, events) = Farm::open(&farm_options(Path::new(&directory), PIECES, SECTORS)).unwrap();
    assert!(events.iter().all(|event| matches!(event, FarmEvent::Created { .. })), "{events:?}");
    assert_eq!(scrub(&farm), [], "every sector that counts is whole");
    let sectors: Vec<Vec<_>> = (4..6)
        .map(|history_size| {
            let sector = |index| fake_sector(farm.public_key(), index, PIECES, history_size);
            (0..SECTORS).map(sector).map(|sector| (sector.to_bytes(), sector.metadata().clone())).collect()
        })
        .collect();
    println!("writing");
    for (bytes, metadata) in sectors.iter().cycle().flatten() {
        let mut writer = farm.write_sector(metadata.sector_index).unwrap();
        for part in bytes.chunks(50_000) {
            writer.write_all(part).unwrap();
        }
        writer.finish(metadata).unwrap();
    }
}

#[test]
fn kill_nine_leaves_whole_sectors_only() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..12u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_until_killed", "--ignored", "--nocapture"])
            .env("FARM_DIRECTORY", directory.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("writing") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut output, &mut line).unwrap();
            assert!(read > 0, "round {round}: the writer failed: {:?}", child.wait());
        }
        std::thread::sleep(Duration::from_millis(1 + round * 7 % 40));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (farm, events) = Farm::open(&farm_options(directory.path(), PIECES, SECTORS)).unwrap();
    assert_eq!((events, scrub(&farm)), (vec![], vec![]));
}
