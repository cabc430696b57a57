//! Test support: finds and opens the conformance vectors and the reference strings.
//!
//! A missing or malformed file panics: a vector that cannot be read is a failed test, never a skipped one. Only the live
//! reference string, which is not committed, may be absent ([`live_srs`]).

use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Where the vectors are: `AUTONOMYS_VECTORS`, else `testdata/` of this repository.
pub fn directory() -> PathBuf {
    match std::env::var_os("AUTONOMYS_VECTORS") {
        Some(directory) => directory.into(),
        None => testdata(),
    }
}

/// `testdata/` of this repository, where what is not a vector always lies.
fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

/// Parses the vector file `name`, for example `dev/farming/audits.json`, plain or with `.xz` behind its name.
///
/// `T` must refuse unknown fields, so that an entry nobody checks is a failure.
///
/// # Panics
/// When the file is missing, cannot be decompressed, or does not have the schema of `T`.
pub fn load<T: DeserializeOwned>(name: &str) -> T {
    let bytes = read(name);
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("vector file {name}: unknown schema: {error}"))
}

/// Reads a vector file, decompressed.
///
/// # Panics
/// When the file is missing or cannot be decompressed.
pub fn read(name: &str) -> Vec<u8> {
    let plain = directory().join(name);
    if let Ok(bytes) = std::fs::read(&plain) {
        return bytes;
    }
    let compressed = directory().join(format!("{name}.xz"));
    assert!(
        compressed.exists(),
        "vector file {}: there is neither it nor {}",
        plain.display(),
        compressed.display()
    );
    decompressed(&compressed)
}

/// Unpacks the node database `node_db.tar.xz` into `target`.
///
/// # Panics
/// When the archive is missing or damaged, or `target` cannot be written.
pub fn unpack_node_db(target: &Path) {
    unpack(&directory().join("node_db.tar.xz"), target);
}

/// Unpacks `testdata/NAME`, a compressed archive of this project's own making, into `target`.
///
/// # Panics
/// As [`unpack_node_db`].
pub fn unpack_fixture(name: &str, target: &Path) {
    unpack(&testdata().join(name), target);
}

/// Parses `testdata/NAME`, a compressed JSON file of this project's own making.
///
/// # Panics
/// As [`load`].
pub fn load_fixture<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&decompressed(&testdata().join(name)))
        .unwrap_or_else(|error| panic!("{name}: unknown schema: {error}"))
}

fn unpack(archive: &Path, target: &Path) {
    let plain = decompressed(archive);
    tar::Archive::new(plain.as_slice()).unpack(target).expect("the archive unpacks");
}

fn decompressed(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut plain = Vec::new();
    lzma_rs::xz_decompress(&mut std::io::BufReader::new(bytes.as_slice()), &mut plain)
        .unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
    plain
}

/// The live network's reference string, named by `AUTONOMYS_SRS`; without it says loudly that `test` is skipped.
///
/// # Panics
/// When the variable names a file that is not there.
pub fn live_srs(test: &str) -> Option<PathBuf> {
    let Some(path) = std::env::var_os("AUTONOMYS_SRS").map(PathBuf::from) else {
        #[allow(clippy::print_stderr, reason = "a skipped test has to say so")]
        {
            eprintln!("SKIPPED {test}: AUTONOMYS_SRS does not name the live network's reference string");
        }
        return None;
    };
    assert!(path.is_file(), "AUTONOMYS_SRS names {}, which is no file", path.display());
    Some(path)
}

/// The generator of all vectors: the first `length` bytes of the BLAKE3 extendable output of `label`.
pub fn xof(label: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    xof_into(label, &mut bytes);
    bytes
}

/// [`xof`] into a buffer.
pub fn xof_into(label: &str, bytes: &mut [u8]) {
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(bytes);
}

/// Bytes written as hex in a vector file; `Deserialize` decodes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hex(pub Vec<u8>);

impl Hex {
    /// The bytes as an array.
    ///
    /// # Panics
    /// When the length is another.
    pub fn array<const N: usize>(&self) -> [u8; N] {
        self.0
            .as_slice()
            .try_into()
            .unwrap_or_else(|_| panic!("{} bytes of hex where {N} are due", self.0.len()))
    }
}

impl std::ops::Deref for Hex {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> serde::Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A u64 that vector files write as a decimal string, since it may exceed 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal(pub u64);

impl<'de> serde::Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}
