//! Reference strings from files: whole, damaged, strange, missing.

#![allow(clippy::unwrap_used, missing_docs)]

use archiving::{Srs, SrsError, SrsKind};
use std::fs;
use std::path::Path;

fn damaged(whole: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    change(&mut bytes);
    bytes
}

fn cached(directory: &Path) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "one file and no temporary ones: {files:?}");
    files[0].clone()
}

#[test]
fn development_string_is_cached_and_remade_when_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("not/there/yet");
    let srs = Srs::development(&cache).unwrap();
    assert_eq!(srs.kind(), SrsKind::Development);
    assert_eq!(srs.digest(), SrsKind::Development.digest());
    assert_eq!(srs.kind().to_string(), "development (INSECURE)");
    let path = cached(&cache);
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len(), Srs::SIZE);
    assert_eq!(*blake3::hash(&whole).as_bytes(), SrsKind::Development.digest().0);
    // An undamaged file is used as it is.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    Srs::development(&cache).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);

    let one_bit = damaged(&whole, |bytes| bytes[Srs::SIZE / 2] ^= 0x10);
    for bytes in [one_bit, whole[..Srs::SIZE - 1].to_vec(), Vec::new()] {
        fs::write(&path, bytes).unwrap();
        assert_eq!(Srs::development(&cache).unwrap().kind(), SrsKind::Development);
        assert_eq!(fs::read(cached(&cache)).unwrap(), whole);
    }
    assert_eq!(Srs::load(&path).unwrap().kind(), SrsKind::Development);
}

#[test]
fn a_cache_that_cannot_be_written_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "in the way").unwrap();
    assert_eq!(Srs::development(&file.join("cache")).unwrap().kind(), SrsKind::Development);
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

#[test]
fn what_is_no_known_string_is_refused_with_what_was_found() {
    let directory = tempfile::tempdir().unwrap();
    Srs::development(directory.path()).unwrap();
    let whole = fs::read(cached(directory.path())).unwrap();
    let path = directory.path().join("string.bin");
    let load = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Srs::load(&path).unwrap_err()
    };
    for (position, bit) in [(0, 1), (Srs::SIZE / 3, 0x80), (Srs::SIZE - 1, 1)] {
        let bytes = damaged(&whole, |bytes| bytes[position] ^= bit);
        let error = load(&bytes);
        assert!(matches!(error, SrsError::Digest { .. }), "{error}");
        let text = error.to_string();
        let found = blake3::hash(&bytes).to_string();
        for part in [path.to_str().unwrap(), "371d6714018a5978", "7d1a8a991e958771", &found, "--srs"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
    for bytes in [&whole[..100], &[], &damaged(&whole, |bytes| bytes.push(0))] {
        let error = load(bytes);
        assert!(matches!(error, SrsError::Size { found, .. } if found == bytes.len() as u64), "{error}");
        assert!(error.to_string().contains("expected 1579104 bytes"), "{error}");
    }
    let missing = Srs::load(&directory.path().join("missing")).unwrap_err();
    assert!(matches!(missing, SrsError::Read { .. }), "{missing}");
    assert!(Srs::load(directory.path()).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn live_string_loads() {
    let Some(path) = vectors::live_srs("live_string_loads") else { return };
    assert_eq!(Srs::load(&path).unwrap().kind(), SrsKind::Live);
    assert_eq!(SrsKind::Live.to_string(), "live");
}
