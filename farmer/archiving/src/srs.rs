//! The structured reference string: powers of a secret in G1 and G2 (archival §4).

use crate::bls::{G1, G1Affine, G2Affine};
use crate::scalar::Scalar;
use primitives::Blake3Hash;
use primitives::hashes::blake3_hash;
use rayon::prelude::*;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, io};

/// Label whose BLAKE3 extendable output is the development string's secret, for all to see.
const DEVELOPMENT_LABEL: &[u8] = b"autonomys-dev-srs-v1";
/// BLAKE3 of the live network's file.
const LIVE_DIGEST: Blake3Hash = digest("371d6714018a597851825456a2a2e70b43a9e29e3db43bcc5628b61989fde35b");
/// BLAKE3 of the development file.
const DEVELOPMENT_DIGEST: Blake3Hash =
    digest("7d1a8a991e9587710d677191d2ff325507f84ca42b10f00e336d6742a223bdc8");

const fn digest(hex: &str) -> Blake3Hash {
    const fn digit(character: u8) -> u8 {
        match character {
            b'0'..=b'9' => character - b'0',
            _ => character - b'a' + 10,
        }
    }
    let hex = hex.as_bytes();
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]);
        i += 1;
    }
    Blake3Hash(bytes)
}

/// Which of the two known strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrsKind {
    /// The live network's, from the Ethereum KZG ceremony.
    Live,
    /// The development chain's. **Insecure**: its secret is public, anyone can forge proofs.
    Development,
}

impl SrsKind {
    /// The string whose file has this BLAKE3 digest.
    pub fn from_digest(digest: Blake3Hash) -> Option<Self> {
        [Self::Live, Self::Development].into_iter().find(|kind| kind.digest() == digest)
    }

    /// BLAKE3 of the string's file.
    pub const fn digest(self) -> Blake3Hash {
        match self {
            Self::Live => LIVE_DIGEST,
            Self::Development => DEVELOPMENT_DIGEST,
        }
    }
}

impl fmt::Display for SrsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Development => "development (INSECURE)",
        })
    }
}

/// Why a reference string could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SrsError {
    /// The file cannot be read.
    #[error("reference string {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file has the wrong size.
    #[error(
        "reference string {}: expected {} bytes, found {found}; fetch it again or name the right file with --srs",
        path.display(), Srs::SIZE
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
    },
    /// The file is not one of the two known strings.
    #[error(
        "reference string {}: BLAKE3 expected {LIVE_DIGEST} (live) or {DEVELOPMENT_DIGEST} (development), found {found}; \
         fetch it again or name the right file with --srs", path.display()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: Blake3Hash,
    },
    /// There is neither `XDG_CACHE_HOME` nor `HOME`.
    #[error("no cache directory: neither XDG_CACHE_HOME nor HOME names an absolute directory")]
    NoCacheDirectory,
}

struct Inner {
    kind: SrsKind,
    g1: Vec<G1Affine>,
    g2: [G2Affine; 2],
}

/// A reference string: 32,768 powers in G1, and of the 65 in G2 the two that are used. Clones share it.
#[derive(Clone)]
pub struct Srs(Arc<Inner>);

impl fmt::Debug for Srs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Srs").field(&self.kind()).finish()
    }
}

impl Srs {
    /// Points in G1.
    pub const NUM_G1: usize = 1 << 15;
    /// Points in G2.
    pub const NUM_G2: usize = 65;
    /// Bytes of the file.
    pub const SIZE: usize = Self::NUM_G1 * 48 + Self::NUM_G2 * 96;

    /// Loads a string from its file. Its digest decides which of the two known strings it is; a damaged file or any
    /// other string is refused.
    ///
    /// # Errors
    /// When the file cannot be read, or is neither of the two strings.
    pub fn load(path: &Path) -> Result<Self, SrsError> {
        let read_error = |source| SrsError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(read_error)?;
        let metadata = file.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            let kind = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(read_error(kind));
        }
        if metadata.len() != Self::SIZE as u64 {
            return Err(SrsError::Size { path: path.to_owned(), found: metadata.len() });
        }
        let mut bytes = Vec::with_capacity(Self::SIZE);
        file.take(Self::SIZE as u64).read_to_end(&mut bytes).map_err(read_error)?;
        let found = blake3_hash(&bytes);
        match SrsKind::from_digest(found) {
            Some(kind) => Ok(Self::parse(&bytes, kind)),
            None => Err(SrsError::Digest { path: path.to_owned(), found }),
        }
    }

    /// The development string, from `cache_dir` if it is there undamaged, else generated and stored there.
    ///
    /// A cache that cannot be written costs the next caller the time to generate the string, and is only logged.
    ///
    /// # Errors
    /// None so far; the signature leaves room for caches that must work.
    pub fn development(cache_dir: &Path) -> Result<Self, SrsError> {
        let path = cache_dir.join("development-srs-v1.bin");
        match Self::load(&path) {
            Ok(srs) if srs.kind() == SrsKind::Development => return Ok(srs),
            Ok(_) => tracing::warn!(path = %path.display(), "not the development string; made again"),
            Err(SrsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cached development string is damaged; made again"),
        }
        let (srs, bytes) = Self::generate();
        if let Err(error) = write_atomically(&path, &bytes) {
            tracing::warn!(path = %path.display(), %error, "cannot cache the development string");
        }
        Ok(srs)
    }

    /// `autonomys` in the user's cache directory: `XDG_CACHE_HOME`, else `HOME/.cache`.
    ///
    /// # Errors
    /// When neither variable names an absolute directory.
    pub fn default_cache_dir() -> Result<PathBuf, SrsError> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Ok(base.ok_or(SrsError::NoCacheDirectory)?.join("autonomys"))
    }

    /// Which string this is.
    pub fn kind(&self) -> SrsKind {
        self.0.kind
    }

    /// BLAKE3 of the string's file.
    pub fn digest(&self) -> Blake3Hash {
        self.kind().digest()
    }

    pub(crate) fn g1(&self) -> &[G1Affine] {
        &self.0.g1
    }

    /// The generator of G2 and its product with the secret.
    pub(crate) fn g2(&self) -> [G2Affine; 2] {
        self.0.g2
    }

    /// Parses bytes whose digest is known to be right.
    fn parse(bytes: &[u8], kind: SrsKind) -> Self {
        let (g1, g2) = bytes.split_at(Self::NUM_G1 * 48);
        let valid = "the digest of the string is that of one with valid points";
        let g1 =
            g1.as_chunks().0.par_iter().map(|bytes| G1Affine::from_compressed(bytes).expect(valid)).collect();
        let g2 = g2.as_chunks().0;
        let g2 = [0, 1].map(|power: usize| G2Affine::from_compressed(&g2[power]).expect(valid));
        Self(Arc::new(Inner { kind, g1, g2 }))
    }

    /// Makes the development string and its file.
    pub(crate) fn generate() -> (Self, Vec<u8>) {
        let mut seed = [0; 64];
        blake3::Hasher::new().update(DEVELOPMENT_LABEL).finalize_xof().fill(&mut seed);
        let tau = Scalar::from_bytes_reduced(&seed);
        let g1 = generator_multiples(tau);
        let powers = crate::fft::powers(Scalar::ONE, tau, Self::NUM_G2);
        let generator = G2Affine::generator();
        let g2: Vec<G2Affine> =
            powers.par_iter().map(|power| generator.multiply(&power.to_le_bytes())).collect();
        let mut bytes = Vec::with_capacity(Self::SIZE);
        for point in &g1 {
            bytes.extend_from_slice(&point.to_compressed());
        }
        for point in &g2 {
            bytes.extend_from_slice(&point.to_compressed());
        }
        assert_eq!(
            blake3_hash(&bytes),
            DEVELOPMENT_DIGEST,
            "the development string is made bit for bit as pinned"
        );
        let g2 = [g2[0], g2[1]];
        (Self(Arc::new(Inner { kind: SrsKind::Development, g1, g2 })), bytes)
    }
}

/// `tau^i G1` for all i of a string, with one table of the generator's multiples by each byte of a scalar.
fn generator_multiples(tau: Scalar) -> Vec<G1Affine> {
    let mut window = Vec::with_capacity(32 * 256);
    let mut base = G1::from(G1Affine::generator());
    for _ in 0..32 {
        let affine = base.to_affine();
        let mut multiple = G1::INFINITY;
        for _ in 0..256 {
            window.push(multiple);
            multiple = multiple.add_affine(&affine);
        }
        base = multiple;
    }
    let window = G1::batch_to_affine(&window);
    let powers = crate::fft::powers(Scalar::ONE, tau, Srs::NUM_G1);
    powers
        .par_chunks(1024)
        .flat_map_iter(|powers| {
            let sum = |power: &Scalar| {
                let bytes = power.to_le_bytes();
                let digits = bytes.iter().zip(window.chunks_exact(256));
                digits.fold(G1::INFINITY, |sum, (digit, multiples)| {
                    sum.add_affine(&multiples[usize::from(*digit)])
                })
            };
            G1::batch_to_affine(&powers.iter().map(sum).collect::<Vec<_>>())
        })
        .collect()
}

/// Writes beside `path` and renames, so that no reader sees half a file.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().expect("the cached string is in a directory");
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".development-srs.{}.{:x}.tmp", std::process::id(), unique()));
    let result = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        // The file may not exist; what failed first is what the caller hears.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// A number that no other call of this process gets.
fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
