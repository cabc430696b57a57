//! Where a card's kernels come from: the bundle in the program, a bundle in a file, or NVRTC, whose work is kept on disk.

use crate::bundle::{Bundle, BundleError, sources_hash};
use crate::nvrtc::{self, Nvrtc, NvrtcError, Target};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The bundle that was there when the program was built (`KERNELS_BUNDLE`); empty without one.
static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kernels.bundle"));

/// Name of a bundle beside the executable.
const BESIDE: &str = "kernels.bundle";

/// Where to look besides the program itself.
#[derive(Debug, Clone, Default)]
pub struct ImageSources {
    /// A bundle; without, `kernels.bundle` beside the executable, if it is there.
    pub bundle: Option<PathBuf>,
    /// Directory with NVRTC's libraries; without, where the system has them.
    pub nvrtc: Option<PathBuf>,
    /// Where to keep what NVRTC made; without, nothing is kept.
    pub cache: Option<PathBuf>,
}

/// Why there are no kernels for a card.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A bundle that was asked for cannot be read.
    #[error("cannot read the kernels in {path}: {source}")]
    Read {
        /// The bundle.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A bundle that was asked for is none of this program.
    #[error("{path}: {source}")]
    Bundle {
        /// The bundle.
        path: PathBuf,
        /// The cause.
        source: BundleError,
    },
    /// No bundle has it, and it cannot be compiled.
    #[error(
        "no bundle has kernels for compute capability {capability}, and they cannot be compiled: {source}"
    )]
    Compile {
        /// 90 is 9.0.
        capability: u32,
        /// The cause.
        source: NvrtcError,
    },
}

/// The image for a card: machine code, or PTX.
///
/// # Errors
/// [`ImageError`].
pub fn find(sources: &ImageSources, capability: u32) -> Result<Vec<u8>, ImageError> {
    let (beside, asked_for) = match &sources.bundle {
        Some(path) => (Some(path.clone()), true),
        None => (beside_executable(), false),
    };
    let chosen = |bundle: &Bundle| bundle.choose(capability).map(|(_, image)| image.to_vec());
    if !asked_for
        && let Ok(bundle) = Bundle::from_bytes(EMBEDDED)
        && let Some(image) = chosen(&bundle)
    {
        return Ok(image);
    }
    if let Some(path) = beside {
        match read(&path) {
            Ok(bundle) => {
                if let Some(image) = chosen(&bundle) {
                    return Ok(image);
                }
            }
            Err(error) if asked_for => return Err(error),
            Err(error) => tracing::warn!(%error, "A bundle of kernels is of no use; they are compiled"),
        }
    }
    compile(sources, capability).map_err(|source| ImageError::Compile { capability, source })
}

fn beside_executable() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(BESIDE);
    path.exists().then_some(path)
}

/// More bytes than bundles have.
const BUNDLE_MAX: u64 = 64 << 20;

fn read(path: &Path) -> Result<Bundle, ImageError> {
    let failed = |source| ImageError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > BUNDLE_MAX {
        let text = format!("a bundle has at most {BUNDLE_MAX} bytes, this file {length}");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    let bytes = fs::read(path).map_err(failed)?;
    Bundle::from_bytes(&bytes).map_err(|source| ImageError::Bundle { path: path.to_owned(), source })
}

/// The target to compile for: the card's own generation, as far as NVRTC knows it.
fn target(capability: u32) -> Target {
    let fits = |target: &Target| matches!(target, Target::Cubin(built) if *built <= capability && built / 10 == capability / 10);
    Target::ALL.into_iter().filter(fits).max().unwrap_or(Target::Ptx(if capability >= 90 { 90 } else { 75 }))
}

fn compile(sources: &ImageSources, capability: u32) -> Result<Vec<u8>, NvrtcError> {
    let target = target(capability);
    let kept = sources.cache.as_deref().map(|directory| cached_path(directory, target));
    if let Some(path) = &kept
        && let Some(image) = cached(path, target)
    {
        return Ok(image);
    }
    let nvrtc = Nvrtc::load(sources.nvrtc.as_deref())?;
    tracing::info!(architecture = target.architecture(), "Compiling the kernels, once");
    let image = nvrtc.compile(target)?.image;
    if let Some(path) = kept
        && let Err(error) = keep(&path, target, &image)
    {
        tracing::warn!(%error, path = %path.display(), "The compiled kernels are not kept");
    }
    Ok(image)
}

/// By sources, compiler and target: another of any of them is another file.
fn cached_path(directory: &Path, target: Target) -> PathBuf {
    let hash: String = sources_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    directory.join(format!("kernels-{hash}-nvrtc-{}-{}.bundle", nvrtc::VERSION, target.architecture()))
}

fn cached(path: &Path, target: Target) -> Option<Vec<u8>> {
    if !path.exists() {
        return None;
    }
    match read(path) {
        Ok(bundle) => bundle.image(target).map(<[u8]>::to_vec),
        Err(error) => {
            tracing::warn!(%error, "Kernels kept on disk are damaged; they are compiled again");
            None
        }
    }
}

/// Written beside and renamed: whoever reads finds all of it or nothing.
fn keep(path: &Path, target: Target, image: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    fs::write(&partial, Bundle::new(vec![(target, image.to_vec())]).to_bytes())?;
    fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("kernels-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_bundle_that_is_asked_for_is_taken_or_refused() {
        let directory = directory("bundle");
        let path = directory.join("some.bundle");
        let sources =
            ImageSources { bundle: Some(path.clone()), nvrtc: Some(directory.clone()), cache: None };
        assert!(matches!(find(&sources, 90), Err(ImageError::Read { .. })));
        fs::write(&path, b"no bundle").unwrap();
        assert!(matches!(find(&sources, 90), Err(ImageError::Bundle { .. })));
        let images = [(Target::Cubin(90), vec![1, 2]), (Target::Ptx(75), vec![3])];
        fs::write(&path, Bundle::new(images.to_vec()).to_bytes()).unwrap();
        assert_eq!(find(&sources, 90).unwrap(), [1, 2]);
        assert_eq!(find(&sources, 80).unwrap(), [3]);
        // None for this card, and no compiler.
        let error = find(&sources, 70).unwrap_err();
        assert!(matches!(error, ImageError::Compile { capability: 70, source: NvrtcError::Missing { .. } }));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_was_compiled_is_kept_and_damage_is_seen() {
        let directory = directory("cache");
        let path = cached_path(&directory, Target::Cubin(80));
        assert_eq!(cached(&path, Target::Cubin(80)), None);
        keep(&path, Target::Cubin(80), b"image").unwrap();
        assert_eq!(cached(&path, Target::Cubin(80)).as_deref(), Some(&b"image"[..]));
        let mut bytes = fs::read(&path).unwrap();
        bytes[90] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(cached(&path, Target::Cubin(80)), None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn every_card_has_a_target() {
        let cards = [
            (75, Target::Cubin(75)),
            (87, Target::Cubin(86)),
            (90, Target::Cubin(90)),
            (120, Target::Ptx(90)),
        ];
        for (capability, expected) in cards {
            assert_eq!(target(capability), expected, "{capability}");
        }
    }
}
