//! Farms on disk: made, reopened, resized, refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use farming::identity::Identity;
use farming::plot::{Farm, FarmError, FarmEvent, FarmMode, FarmOptions, FarmSpace, UnsoundSector};
use parity_scale_codec::Encode;
use primitives::farms::FarmGeometry;
use primitives::rpc::GenesisHash;
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Checksummed, PublicKey, SectorGeometry};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use support::{fake_sector, farm_options, store};

/// One piece in a sector: about a megabyte.
const PIECES: u16 = 1;

fn sector_size() -> usize {
    SectorGeometry::new(PIECES).sector_size()
}

fn open(options: &FarmOptions) -> Arc<Farm> {
    Farm::open(options).unwrap().0
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    entries.map(|entry| (name(&entry), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_new_farm_is_the_references_directory() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(&directory.path().join("deep/er"), PIECES, 3);
    let (farm, events) = Farm::open(&options).unwrap();
    assert_eq!(events, [FarmEvent::Created { sectors: 3 }]);
    assert_eq!(farm.sectors_to_plot(), [0, 1, 2]);
    let geometry = FarmGeometry { pieces_in_sector: PIECES, sectors: 3 };
    assert_eq!(farm.geometry(), geometry);

    let files = files(&options.directory);
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["identity.bin", "metadata.bin", "plot.bin", "single_disk_farm.json"]);
    assert_eq!(files["identity.bin"].len(), 33);
    assert_eq!(files["metadata.bin"].len() as u64, geometry.metadata_file_size());
    assert_eq!(files["metadata.bin"][..3], [0, 0, 0]);
    assert_eq!(files["plot.bin"].len() as u64, geometry.plot_file_size());
    let description: serde_json::Value = serde_json::from_slice(&files["single_disk_farm.json"]).unwrap();
    let expected = serde_json::json!({"v0": {
        "id": farm.id().to_string(),
        "genesisHash": support::GENESIS.to_string(),
        "publicKey": farm.public_key().to_string(),
        "piecesInSector": PIECES,
        "allocatedSpace": geometry.allocated_space(),
    }});
    assert_eq!(description, expected);
    for name in ["plot.bin", "metadata.bin"] {
        let metadata = std::fs::metadata(options.directory.join(name)).unwrap();
        assert!(metadata.blocks() * 512 >= metadata.len(), "{name} is allocated");
    }
    let identity = std::fs::metadata(options.directory.join("identity.bin")).unwrap();
    assert_eq!(identity.permissions().mode() & 0o777, 0o600);
}

#[test]
fn sectors_survive_a_restart_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 3);
    let farm = open(&options);
    let id = farm.id();
    // Finished out of order: those in between become dummies first.
    let late = fake_sector(farm.public_key(), 2, PIECES, 4);
    store(&farm, &late);
    assert_eq!(farm.sectors_to_plot(), [0, 1]);
    let early = fake_sector(farm.public_key(), 0, PIECES, 5);
    store(&farm, &early);
    drop(farm);

    let (farm, events) = Farm::open(&options).unwrap();
    assert_eq!(events, []);
    assert_eq!(farm.id(), id);
    assert_eq!(farm.sectors_to_plot(), [1]);
    let sectors = farm.sectors();
    assert_eq!(sectors[0].as_ref().unwrap().metadata(), *early.metadata());
    assert_eq!(sectors[2].as_ref().unwrap().metadata(), *late.metadata());
    assert_eq!(sectors[2].as_ref().unwrap().sector_id, late.plan().sector_id());
    let files = files(directory.path());
    let plot = &files["plot.bin"];
    assert!(plot[..sector_size()] == early.to_bytes());
    assert!(plot[2 * sector_size()..][..sector_size()] == late.to_bytes());
    let metadata = &files["metadata.bin"];
    assert_eq!(metadata[..3], [0, 3, 0]);
    let record = |sector: usize| &metadata[(1 << 20) + sector * 131_116..][..131_116];
    assert!(record(0) == Blake3Checksummed(early.metadata().clone()).encode());
    assert!(record(1) == Blake3Checksummed(SectorMetadata::dummy(1, PIECES)).encode());
    assert!(record(2) == Blake3Checksummed(late.metadata().clone()).encode());
}

#[test]
fn one_farmer_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 1);
    let farm = open(&options);
    for mode in [FarmMode::Create, FarmMode::ReadWrite, FarmMode::ReadOnly] {
        let options = FarmOptions { mode, ..options.clone() };
        assert!(matches!(Farm::open(&options), Err(FarmError::Locked { .. })));
    }
    // Other processes see the lock where the reference has it.
    let taken = || {
        let mut command = std::process::Command::new("flock");
        let command = command.args(["--nonblock", "--exclusive"]);
        let file = directory.path().join("single_disk_farm.json");
        command.arg(file).arg("true").status().unwrap().success()
    };
    assert!(!taken(), "the lock must keep others out");
    // Also after a resize, which replaces the file.
    drop(farm);
    assert!(taken());
    let farm = open(&FarmOptions { space: FarmSpace::Sectors(2), ..options.clone() });
    assert!(!taken());
    drop(farm);
    // Readers do not exclude each other, only a farmer.
    let reader = open(&FarmOptions::existing(directory.path(), FarmMode::ReadOnly));
    let another = open(&FarmOptions::existing(directory.path(), FarmMode::ReadOnly));
    assert!(matches!(Farm::open(&options), Err(FarmError::Locked { .. })));
    drop((reader, another));
    // Who takes no lock keeps nobody out and is kept out by nobody, and changes nothing.
    let farmer = open(&FarmOptions::existing(directory.path(), FarmMode::ReadWrite));
    let before = files(directory.path());
    let onlooker = open(&FarmOptions::existing(directory.path(), FarmMode::Unlocked));
    assert_eq!(onlooker.id(), farmer.id());
    assert!(matches!(onlooker.write_sector(0), Err(FarmError::ReadOnly { .. })));
    drop(farmer);
    assert!(taken());
    drop((onlooker, open(&FarmOptions::existing(directory.path(), FarmMode::ReadWrite))));
    assert!(files(directory.path()) == before);
}

#[test]
fn another_process_held_off_and_let_in() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 1);
    drop(open(&options));
    let file = directory.path().join("single_disk_farm.json");
    let mut holder = std::process::Command::new("flock")
        .args(["--exclusive", "--no-fork"])
        .arg(&file)
        .args(["sh", "-c", "echo locked; exec sleep 60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "locked\n");
    let error = Farm::open(&options).unwrap_err();
    assert_eq!(error.to_string(), format!("{} is locked: another farmer has this farm open", file.display()));
    holder.kill().unwrap();
    holder.wait().unwrap();
    drop(open(&options));
}

#[test]
fn growing_keeps_sectors_and_shrinking_needs_leave() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 2);
    let farm = open(&options);
    let key = farm.public_key();
    let sectors: Vec<_> = (0..4).map(|index| fake_sector(key, index, PIECES, 4)).collect();
    store(&farm, &sectors[0]);
    store(&farm, &sectors[1]);
    let description = farm.description().clone();
    drop(farm);

    let (farm, events) =
        Farm::open(&FarmOptions { space: FarmSpace::Sectors(4), ..options.clone() }).unwrap();
    assert_eq!(events, [FarmEvent::Grown { from: 2, to: 4 }]);
    assert_eq!(farm.sectors_to_plot(), [2, 3]);
    assert_eq!(farm.id(), description.id());
    store(&farm, &sectors[2]);
    store(&farm, &sectors[3]);
    let grown = FarmGeometry { pieces_in_sector: PIECES, sectors: 4 };
    assert_eq!(farm.description().allocated_space(), grown.allocated_space());
    drop(farm);
    let before = files(directory.path());
    assert_eq!(before["plot.bin"].len() as u64, grown.plot_file_size());

    let error = Farm::open(&options).unwrap_err();
    assert!(matches!(error, FarmError::ShrinkRefused { current: 4, requested: 2, .. }), "{error}");
    assert!(error.to_string().contains("--allow-shrink"));
    assert!(files(directory.path()) == before, "a refusal changes nothing");

    let shrink = FarmOptions { allow_shrink: true, space: FarmSpace::Sectors(3), ..options.clone() };
    let (farm, events) = Farm::open(&shrink).unwrap();
    assert_eq!(events, [FarmEvent::Shrunk { from: 4, to: 3 }]);
    assert_eq!(farm.sectors_to_plot(), [] as [u16; 0]);
    drop(farm);
    let after = files(directory.path());
    assert_eq!(after["metadata.bin"][..3], [0, 3, 0]);
    let shrunk = FarmGeometry { pieces_in_sector: PIECES, sectors: 3 };
    assert_eq!(after["plot.bin"].len() as u64, shrunk.plot_file_size());
    assert_eq!(after["metadata.bin"].len() as u64, shrunk.metadata_file_size());
    assert!(after["plot.bin"][..3 * sector_size()] == before["plot.bin"][..3 * sector_size()]);
    // Grown again, the lost sector is not there.
    let farm = open(&FarmOptions { space: FarmSpace::Sectors(4), ..options });
    assert_eq!(farm.sectors_to_plot(), [3]);
}

#[test]
fn allocated_space_of_the_reference_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 2);
    drop(open(&options));
    let path = directory.path().join("single_disk_farm.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let geometry = FarmGeometry { pieces_in_sector: PIECES, sectors: 2 };
    // A value that an operator of the reference gave, with the same number of sectors.
    let theirs = geometry.allocated_space() - 100_000;
    let text = text.replace(&geometry.allocated_space().to_string(), &theirs.to_string());
    std::fs::write(&path, &text).unwrap();
    for space in [
        FarmSpace::Sectors(2),
        FarmSpace::Size(theirs),
        FarmSpace::Size(geometry.allocated_space()),
        FarmSpace::Existing,
    ] {
        let (farm, events) = Farm::open(&FarmOptions { space, ..options.clone() }).unwrap();
        assert_eq!(events, []);
        assert_eq!(farm.geometry(), geometry);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{space:?}");
    }
}

/// Opens, and checks that failing changed nothing.
fn refuse(options: &FarmOptions) -> FarmError {
    let before = files(&options.directory);
    let error = Farm::open(options).unwrap_err();
    assert!(files(&options.directory) == before, "a refusal changes nothing: {error}");
    error
}

#[test]
fn wrong_chain_key_or_size_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), 2, 1);
    let farm = open(&options);
    let key = farm.public_key();
    drop(farm);
    let other = GenesisHash([1; 32]);
    let error = refuse(&FarmOptions { genesis_hash: Some(other), ..options.clone() });
    assert!(
        matches!(error, FarmError::WrongGenesis { expected, found, .. }
            if (expected, found) == (other, support::GENESIS)),
        "{error}"
    );
    let error = refuse(&FarmOptions { max_pieces_in_sector: Some(1), ..options.clone() });
    assert!(matches!(error, FarmError::TooManyPieces { found: 2, max: 1, .. }), "{error}");
    for sectors in [0, 65_535] {
        let error = refuse(&FarmOptions { space: FarmSpace::Sectors(sectors), ..options.clone() });
        assert!(matches!(error, FarmError::SectorCount { .. }), "{error}");
    }
    let error = refuse(&FarmOptions { space: FarmSpace::Size(1_000_000), ..options.clone() });
    assert!(matches!(error, FarmError::SpaceTooSmall { allocated: 1_000_000, .. }), "{error}");

    std::fs::remove_file(directory.path().join("identity.bin")).unwrap();
    let error = refuse(&options);
    assert!(matches!(error, FarmError::MissingFile { .. }), "{error}");
    Identity::create(directory.path()).unwrap();
    let error = refuse(&options);
    assert!(
        matches!(error, FarmError::PublicKeyMismatch { description, .. } if description == key),
        "{error}"
    );
}

#[test]
fn what_is_no_farm_is_not_made_one() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [FarmMode::ReadWrite, FarmMode::ReadOnly] {
        let error = refuse(&FarmOptions { mode, ..farm_options(directory.path(), PIECES, 1) });
        assert!(matches!(error, FarmError::NotAFarm { .. }), "{error}");
    }
    // Somebody's data without a description are not overwritten.
    std::fs::write(directory.path().join("plot.bin"), b"precious").unwrap();
    let error = refuse(&farm_options(directory.path(), PIECES, 1));
    assert!(matches!(error, FarmError::MissingFile { .. }), "{error}");
    // A directory that cannot be made, since a file is in the way.
    let options = farm_options(&directory.path().join("plot.bin/farm"), PIECES, 1);
    let error = Farm::open(&options).unwrap_err();
    assert!(matches!(&error, FarmError::Io { action: "create the directory", .. }), "{error}");
    assert!(error.to_string().contains("plot.bin/farm"), "{error}");
}

#[test]
fn a_disk_too_small_is_found_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let farm = directory.path().join("farm");
    // 63 TiB.
    let error = Farm::open(&farm_options(&farm, 1000, 65_534)).unwrap_err();
    let FarmError::DiskTooSmall { sectors: 65_534, needed, available, fitting, .. } = error else {
        panic!("{error}");
    };
    assert!(needed > 60 << 40 && available < needed);
    let space = |sectors| FarmGeometry { pieces_in_sector: 1000, sectors }.disk_space();
    assert!(space(fitting) <= available || fitting == 0);
    assert!(space(fitting + 1) > available);
    assert_eq!(files(&farm), BTreeMap::new());
    // The same when an existing farm is to grow.
    drop(open(&farm_options(&farm, PIECES, 1)));
    let options = FarmOptions { space: FarmSpace::Size(1 << 46), ..farm_options(&farm, PIECES, 1) };
    let error = refuse(&options);
    assert!(matches!(error, FarmError::DiskTooSmall { .. }), "{error}");
    drop(open(&farm_options(&farm, PIECES, 1)));
}

/// Runs one test of this file again as a process whose files may not grow beyond `blocks` of 1024 bytes.
fn run_with_file_size_limit(test: &str, directory: &Path, blocks: u32) {
    let shell = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact {test} --ignored");
    let output = std::process::Command::new("bash")
        .args(["-c", &shell])
        .arg(std::env::current_exe().unwrap())
        .env("FARM_DIRECTORY", directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_allocation_that_fails_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    run_with_file_size_limit("limited_to_small_files", directory.path(), 2048);
}

/// Runs in [`an_allocation_that_fails_leaves_nothing_behind`] only: room for metadata, not for three sectors.
#[test]
#[ignore = "needs a limit on file sizes, set by another test"]
fn limited_to_small_files() {
    let directory = std::env::var_os("FARM_DIRECTORY").unwrap();
    let directory = Path::new(&directory).join("farm");
    let options = farm_options(&directory, PIECES, 3);
    let error = Farm::open(&options).unwrap_err();
    assert!(matches!(&error, FarmError::Io { action: "allocate its space", .. }), "{error}");
    assert!(error.to_string().contains("plot.bin"), "{error}");
    assert_eq!(files(&directory), BTreeMap::new());
    // One sector fits; growing fails and the farm stays as it was.
    let small = farm_options(&directory, PIECES, 1);
    let farm = open(&small);
    store(&farm, &fake_sector(farm.public_key(), 0, PIECES, 3));
    drop(farm);
    let error = refuse(&options);
    assert!(matches!(error, FarmError::Io { .. }), "{error}");
    let (farm, events) = Farm::open(&small).unwrap();
    assert_eq!((farm.sectors_to_plot(), events), (vec![], vec![]));
}

#[test]
fn unsound_sectors_are_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 2);
    let farm = open(&options);
    let sector = fake_sector(farm.public_key(), 0, PIECES, 4);
    let bytes = sector.to_bytes();
    let attempt = |bytes: &[u8], metadata: &SectorMetadata| {
        let mut writer = farm.write_sector(0).unwrap();
        assert_eq!(farm.sectors_to_plot(), [1], "what is being written is not to be plotted twice");
        assert!(matches!(farm.write_sector(0), Err(FarmError::SectorBusy { sector_index: 0 })));
        // In odd parts, as from a network.
        for part in bytes.chunks(77_777) {
            writer.write_all(part).unwrap();
        }
        let error = writer.finish(metadata).unwrap_err();
        assert_eq!(farm.sectors_to_plot(), [0, 1]);
        match error {
            FarmError::UnsoundSector { sector_index: 0, reason } => reason,
            other => panic!("{other}"),
        }
    };
    let short = attempt(&bytes[..bytes.len() - 1], sector.metadata());
    assert!(matches!(short, UnsoundSector::Size { .. }));
    for position in [0, 8192, 9000, bytes.len() - 100, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x10;
        assert!(matches!(attempt(&damaged, sector.metadata()), UnsoundSector::Checksum { .. }), "{position}");
    }
    let mut metadata = sector.metadata().clone();
    metadata.sector_index = 1;
    assert!(matches!(attempt(&bytes, &metadata), UnsoundSector::Metadata { sector_index: 1, .. }));
    let mut metadata = sector.metadata().clone();
    metadata.s_bucket_sizes.swap(0, 1);
    assert_eq!(attempt(&bytes, &metadata), UnsoundSector::BucketSizesDiffer);
    let mut writer = farm.write_sector(0).unwrap();
    writer.write_all(&bytes).unwrap();
    assert!(writer.write_all(&[0]).is_err(), "nothing is written into the next sector");
    assert!(matches!(farm.write_sector(2), Err(FarmError::NoSector { sector_index: 2, sectors: 2 })));
    drop(writer);
    store(&farm, &sector);
    assert_eq!(farm.sectors_to_plot(), [1]);
}

#[test]
fn other_versions_are_read_or_refused_but_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 1);
    let farm = open(&options);
    let sector = fake_sector(farm.public_key(), 0, PIECES, 4);
    store(&farm, &sector);
    drop(farm);
    let path = directory.path().join("metadata.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    // Version 1 as the newer reference writes it: count, then the history size up to which the old tables hold.
    bytes[..12].copy_from_slice(&[1, 1, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0]);
    std::fs::write(&path, &bytes).unwrap();
    let error = refuse(&options);
    assert!(matches!(error, FarmError::UnsupportedVersion { found: 1, .. }), "{error}");
    assert!(error.to_string().contains("newer proof-of-space tables"), "{error}");

    let before = files(directory.path());
    let (farm, events) = Farm::open(&FarmOptions::existing(directory.path(), FarmMode::ReadOnly)).unwrap();
    assert_eq!(events, []);
    assert_eq!(farm.sectors()[0].as_ref().unwrap().metadata(), *sector.metadata());
    assert_eq!(farm.scrub_sector(0, &false.into()).unwrap(), None);
    assert!(matches!(farm.write_sector(0), Err(FarmError::ReadOnly { .. })));
    assert!(matches!(farm.reject_sector(0, String::new()), Err(FarmError::ReadOnly { .. })));
    drop(farm);
    assert!(files(directory.path()) == before);

    bytes[0] = 2;
    std::fs::write(&path, &bytes).unwrap();
    for mode in [FarmMode::Create, FarmMode::ReadWrite, FarmMode::ReadOnly] {
        let error = refuse(&FarmOptions { mode, ..options.clone() });
        assert!(matches!(error, FarmError::UnsupportedVersion { found: 2, .. }), "{error}");
    }
}

#[test]
fn a_farm_made_by_two_at_once_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = farm_options(directory.path(), PIECES, 1);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Farm::open(&options))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let made: Vec<PublicKey> = results.iter().flatten().map(|(farm, _)| farm.public_key()).collect();
    assert_eq!(made.len(), 1, "{results:?}");
    drop(results);
    assert_eq!(open(&options).public_key(), made[0]);
    assert_eq!(files(directory.path()).len(), 4);
}
