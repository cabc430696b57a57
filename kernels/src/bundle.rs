//! Compiled kernels of all targets in one file.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `AUTOKRNL` |
//! | 4 | version of this layout, 1 |
//! | 4 | number of images, n |
//! | 32 | BLAKE3 of the sources ([`sources_hash`]) |
//! | 12 n | kind (0 cubin, 1 PTX), compute capability, length of each image; 4 bytes each |
//! | … | the images, one behind the other |
//! | 32 | BLAKE3 of everything before |
//!
//! Numbers are little-endian.

use crate::nvrtc::Target;
use crate::sources;

const MAGIC: &[u8; 8] = b"AUTOKRNL";
const VERSION: u32 = 1;
const HEADER: usize = 48;
const DIGEST: usize = 32;
/// More images than there will be targets.
const IMAGES_MAX: usize = 64;

/// Why a file is no bundle for this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a bundle, or damaged.
    #[error("expected a bundle of kernels, found {0}; `cargo xtask kernels` makes one")]
    Malformed(String),
    /// A bundle of another version of this program.
    #[error(
        "the bundle was made from other sources than this program's (BLAKE3 {found}, expected {expected}): take the one of \
         this version, or make it by `cargo xtask kernels`"
    )]
    OtherSources {
        /// Of the bundle's sources.
        found: String,
        /// Of this program's.
        expected: String,
    },
}

/// Images by target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle {
    images: Vec<(Target, Vec<u8>)>,
}

/// BLAKE3 of names and texts of the sources, and of the compiler's version.
pub fn sources_hash() -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let all = [("kernels.cu", sources::MAIN), ("nvrtc", crate::nvrtc::VERSION)];
    for (name, text) in all.iter().chain(sources::INCLUDES) {
        for part in [name, text] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

impl Bundle {
    /// A bundle of these images.
    pub fn new(images: Vec<(Target, Vec<u8>)>) -> Self {
        Self { images }
    }

    /// The targets that it has images for.
    pub fn targets(&self) -> Vec<Target> {
        self.images.iter().map(|(target, _)| *target).collect()
    }

    /// The image for a target.
    pub fn image(&self, target: Target) -> Option<&[u8]> {
        self.images.iter().find(|(built, _)| *built == target).map(|(_, image)| image.as_slice())
    }

    /// The image for a card of this compute capability (90 is 9.0): machine code of its generation, the latest that is not
    /// newer than the card, else the latest PTX that it can take.
    pub fn choose(&self, capability: u32) -> Option<(Target, &[u8])> {
        let rank = |target: Target| match target {
            Target::Cubin(built) if built / 10 == capability / 10 && built <= capability => Some((1, built)),
            Target::Ptx(built) if built <= capability => Some((0, built)),
            _ => None,
        };
        let fitting = self.images.iter().filter_map(|(target, image)| Some((rank(*target)?, *target, image)));
        let best = fitting.max_by_key(|(rank, ..)| *rank)?;
        Some((best.1, best.2))
    }

    /// As a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.images.len() as u32).to_le_bytes());
        bytes.extend(sources_hash());
        for (target, image) in &self.images {
            let (kind, capability) = match target {
                Target::Cubin(capability) => (0_u32, capability),
                Target::Ptx(capability) => (1, capability),
            };
            for number in [kind, *capability, image.len() as u32] {
                bytes.extend(number.to_le_bytes());
            }
        }
        self.images.iter().for_each(|(_, image)| bytes.extend(image));
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let malformed = |what: &str| BundleError::Malformed(what.to_owned());
        if bytes.get(..8) != Some(MAGIC) {
            return Err(malformed("another file"));
        }
        let (body, digest) = bytes
            .split_last_chunk::<DIGEST>()
            .filter(|(body, _)| body.len() >= HEADER)
            .ok_or_else(|| malformed("its beginning alone"))?;
        if blake3::hash(body) != *digest {
            return Err(malformed(
                "one whose checksum is not that of its contents: it is damaged or cut off",
            ));
        }
        let number = |at: usize| {
            let bytes = body.get(at..).and_then(<[u8]>::first_chunk).copied();
            bytes.map(u32::from_le_bytes).ok_or_else(|| malformed("one that ends too soon"))
        };
        let version = number(8)?;
        if version != VERSION {
            return Err(BundleError::Malformed(format!(
                "one of version {version}, this program knows {VERSION}"
            )));
        }
        if body[16..HEADER] != sources_hash() {
            let hex =
                |bytes: &[u8]| bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
            let (found, expected) = (hex(&body[16..HEADER]), hex(&sources_hash()));
            return Err(BundleError::OtherSources { found, expected });
        }
        let count = number(12)? as usize;
        if count > IMAGES_MAX {
            return Err(malformed("one with more images than there are targets"));
        }
        let mut rest = body.get(HEADER + 12 * count..).ok_or_else(|| malformed("one that ends too soon"))?;
        let mut images = Vec::new();
        for index in 0..count {
            let at = HEADER + 12 * index;
            let target = match number(at)? {
                0 => Target::Cubin(number(at + 4)?),
                1 => Target::Ptx(number(at + 4)?),
                _ => return Err(malformed("one with an image of an unknown kind")),
            };
            let image = rest.split_off(..number(at + 8)? as usize);
            images.push((target, image.ok_or_else(|| malformed("one that ends too soon"))?.to_vec()));
        }
        if rest.is_empty() { Ok(Self { images }) } else { Err(malformed("one with more bytes than images")) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn bundle() -> Bundle {
        Bundle::new(Target::ALL.map(|target| (target, target.architecture().into_bytes())).to_vec())
    }

    #[test]
    fn a_bundle_is_what_it_was() {
        for bundle in [bundle(), Bundle::default()] {
            assert_eq!(Bundle::from_bytes(&bundle.to_bytes()), Ok(bundle));
        }
    }

    #[test]
    fn every_card_gets_the_nearest_image() {
        let bundle = bundle();
        let chosen = |capability| bundle.choose(capability).map(|(target, _)| target);
        let cards = [(70, 70), (72, 70), (75, 75), (80, 80), (86, 86), (87, 86), (89, 89), (90, 90)];
        for (capability, built) in cards {
            assert_eq!(chosen(capability), Some(Target::Cubin(built)), "{capability}");
        }
        for newer in [100, 103, 120] {
            assert_eq!(chosen(newer), Some(Target::Ptx(90)));
        }
        for older in [0, 52, 61] {
            assert_eq!(chosen(older), None);
        }
    }

    #[test]
    fn no_damage_goes_unseen() {
        let bytes = bundle().to_bytes();
        for length in 0..bytes.len() {
            assert!(Bundle::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Bundle::from_bytes(&broken).is_err(), "byte {at}");
        }
    }

    /// The bytes with a checksum that fits.
    fn sealed(mut body: Vec<u8>) -> Vec<u8> {
        let digest = blake3::hash(&body);
        body.extend(digest.as_bytes());
        body
    }

    #[test]
    fn lengths_and_counts_are_not_believed() {
        let bytes = bundle().to_bytes();
        let body = &bytes[..bytes.len() - DIGEST];
        for (at, value) in
            [(8, 2), (12, u32::MAX), (12, 7), (12, 9), (48, 2), (56, u32::MAX), (56, 4), (56, 6)]
        {
            let mut broken = body.to_vec();
            broken[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            let error = Bundle::from_bytes(&sealed(broken)).unwrap_err();
            assert!(matches!(error, BundleError::Malformed(_)), "{at} {value}: {error}");
        }
        let mut other = body.to_vec();
        other[20] ^= 1;
        assert!(matches!(Bundle::from_bytes(&sealed(other)), Err(BundleError::OtherSources { .. })));
    }
}
