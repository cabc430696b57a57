//! `info`, `scrub` and `benchmark` on a farm of two provable sectors, at rest and in use.

use super::{CHAIN, directory, flip, piece, util, util_json};
use crate::world::Controller;
use cluster::testing::NatsServer;
use farming::encoding::{PieceInput, SectorEncoder, SectorPlan};
use farming::plot::{Farm, FarmMode, FarmOptions, FarmSpace};
use primitives::{PieceOffset, SectorGeometry};
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const PIECES_IN_SECTOR: u16 = 2;
const SECTORS: u16 = 3;

/// A farm of three sectors, the first two of them plotted.
fn plot(path: &Path) -> Arc<Farm> {
    let info = CHAIN.info();
    let (farm, _) = Farm::open(&FarmOptions {
        directory: path.to_owned(),
        genesis_hash: Some(info.genesis_hash),
        max_pieces_in_sector: Some(info.protocol_info.max_pieces_in_sector),
        pieces_in_sector: PIECES_IN_SECTOR,
        space: FarmSpace::Sectors(SECTORS),
        allow_shrink: false,
        mode: FarmMode::Create,
    })
    .unwrap();
    let mut encoder = SectorEncoder::cpu(2);
    for sector_index in 0..2 {
        let plan =
            SectorPlan::new(farm.public_key(), sector_index, PIECES_IN_SECTOR, info.protocol_info).unwrap();
        let source = |offset: PieceOffset| Ok(PieceInput::Piece(piece(plan.piece_index(offset).0).clone()));
        let encoded = encoder.encode(&plan, &source, &|_| {}, &AtomicBool::new(false)).unwrap();
        let mut writer = farm.write_sector(sector_index).unwrap();
        encoded.write_to(&mut writer).unwrap();
        writer.flush().unwrap();
        writer.finish(encoded.metadata()).unwrap();
    }
    farm
}

fn contents(path: &Path) -> Vec<(std::ffi::OsString, blake3::Hash)> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let hash = |path: std::path::PathBuf| blake3::hash(&std::fs::read(path).unwrap());
    let mut files: Vec<_> = entries.map(|entry| (entry.file_name(), hash(entry.path()))).collect();
    files.sort_by(|one, other| one.0.cmp(&other.0));
    files
}

fn farm_of(value: &Value) -> &Value {
    &value["farms"][0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farm_is_told_measured_scrubbed_and_repaired() {
    let nats = NatsServer::start();
    let _controller = Controller::start(&nats, &CHAIN).await;
    let (home, url) = (directory(), nats.url());
    let path = home.path().join("farm");
    let farm = plot(&path);
    let text = path.to_str().unwrap();

    // In use: looked at and measured, not scrubbed.
    let (value, code, output) = util_json(&["info", "--nats-server", &url, text]);
    assert_eq!(code, 0, "{output:?}");
    let found = &value["found"][0];
    assert_eq!((&found["kind"], &found["in_use"]), (&"farm".into(), &true.into()), "{found}");
    assert_eq!(found["public_key"], farm.public_key().to_string());
    assert_eq!((&found["sectors"], &found["sectors_plotted"]), (&SECTORS.into(), &2.into()), "{found}");
    // A sector's expiry is decided by the segment after the only one.
    assert_eq!(
        (&found["expiry"]["undecided"], &found["expiry"]["expired"]),
        (&2.into(), &0.into()),
        "{found}"
    );
    for arguments in [&["scrub", text][..], &["scrub", "--repair", text]] {
        let (_, code, output) = util_json(arguments);
        assert_eq!(code, 69, "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("is in use"), "{output:?}");
    }
    measure(text, true);
    drop(farm);
    measure(text, false);

    let (value, code, output) = util_json(&["scrub", text]);
    assert_eq!((code, &farm_of(&value)["sectors_scrubbed"]), (0, &2.into()), "{output:?}");
    damage_and_repair(&path);
}

/// Audits and proves; that it is fast enough is not asserted, only that status and figures agree.
fn measure(farm: &str, in_use: bool) {
    let (value, code, output) = util_json(&["benchmark", "audit", "--audits", "3", farm]);
    let audited = farm_of(&value);
    assert_eq!((&audited["audits"], &audited["in_use"]), (&3.into(), &in_use.into()), "{output:?}");
    assert_eq!((&audited["sectors_plotted"], &audited["sectors_unreadable"]), (&2.into(), &0.into()));
    assert!(audited["audits_per_second"].as_f64().unwrap() > 0.0, "{audited}");
    let fast = audited["fast_enough"].as_bool().unwrap();
    assert_eq!(fast, audited["seconds"]["max"].as_f64().unwrap() < 1.0, "{audited}");
    assert_eq!(code, if fast { 0 } else { 69 }, "{output:?}");

    let (value, code, output) = util_json(&["benchmark", "prove", "--proofs", "2", farm]);
    let proved = farm_of(&value);
    assert_eq!((&proved["proofs"], &proved["bad_sectors"]), (&2.into(), &Value::Array(vec![])), "{output:?}");
    let mean = |what: &str| proved[what]["mean"].as_f64().unwrap();
    assert!(mean("prove_seconds") > 0.0 && mean("total_seconds") >= mean("prove_seconds"), "{proved}");
    let fast = proved["fast_enough"].as_bool().unwrap();
    assert_eq!(fast, proved["total_seconds"]["max"].as_f64().unwrap() < 4.0, "{proved}");
    assert_eq!(code, if fast { 0 } else { 69 }, "{output:?}");
}

/// A flipped bit is named by its sector; looking changes nothing, repairing marks the sector.
fn damage_and_repair(path: &Path) {
    let text = path.to_str().unwrap();
    let sector_size = SectorGeometry::new(PIECES_IN_SECTOR).sector_size() as u64;
    flip(&path.join("plot.bin"), sector_size + sector_size / 2);
    let before = contents(path);
    let (value, code, output) = util_json(&["scrub", text]);
    assert_eq!(code, 65, "{output:?}");
    let damaged = |value: &Value| {
        let damaged = farm_of(value)["damaged"].as_array().unwrap();
        damaged.iter().map(|sector| sector["sector"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(damaged(&value), [1]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--repair") && !said.contains("will be plotted anew"), "{said}");
    assert!(contents(path) == before, "a look changed the farm");

    let output = util(&["scrub", "--repair", text]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("sector 1:") && said.contains("marked as not plotted"), "{said}");
    let (value, ..) = util_json(&["info", text]);
    let found = &value["found"][0];
    assert_eq!((&found["sectors_plotted"], &found["expiry"]), (&1.into(), &Value::Null), "{found}");
    let (value, code, _) = util_json(&["scrub", text]);
    assert_eq!((code, damaged(&value)), (0, vec![]));

    // Metadata that cannot be decoded are damage, too: of sector 0, behind the reserved megabyte.
    flip(&path.join("metadata.bin"), (1 << 20) + 500);
    let (value, code, _) = util_json(&["scrub", text]);
    assert_eq!((code, damaged(&value)), (65, vec![0]));
    let (_, code, output) = util_json(&["benchmark", "audit", text]);
    assert_eq!(code, 78);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no plotted sector"), "{output:?}");
    let (_, code, output) = util_json(&["info", path.parent().unwrap().to_str().unwrap()]);
    assert_eq!(code, 78);
    assert!(String::from_utf8_lossy(&output.stderr).contains("neither a farm"), "{output:?}");
}
