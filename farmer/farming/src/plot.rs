//! Farms on disk, in the reference's own format (farming §8).
//!
//! A farm is a directory of four files: `identity.bin`, `single_disk_farm.json`, `metadata.bin` and `plot.bin`. An
//! exclusive lock on the second keeps everyone else out, the reference included. Both data files are allocated as a whole
//! before the farm exists, so that a full disk is found then and not in the middle of a sector.
//!
//! What is on the disk after a crash: before the first byte of a sector is overwritten its metadata is replaced by a
//! dummy, and only after the last byte is safe the new metadata follows, then the count in the header. A crash therefore
//! leaves the old sector, a dummy, or the new sector; a dummy is plotted anew.

mod description;
mod farm;
mod metadata;
mod open;
mod table;
mod writer;

pub use description::{DESCRIPTION_FILE, FarmDescription, FarmId};
pub use farm::Farm;
pub use metadata::METADATA_FILE;
pub use open::{FarmMode, FarmOptions, FarmSpace};
pub use table::{SectorSnapshot, SectorState};
pub use writer::SectorWriter;

use crate::identity::IdentityError;
use crate::sector::{BucketSizesError, ContentsMapError};
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PublicKey, SectorIndex};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file of sectors.
pub const PLOT_FILE: &str = "plot.bin";

/// Why a farm could not be opened, made, changed or written.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// The disk or the filesystem failed, or refused.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The farm's identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No farm is there, and none was to be made.
    #[error("{directory} is no farm: it has no {DESCRIPTION_FILE}")]
    NotAFarm {
        /// The directory.
        directory: PathBuf,
    },
    /// A farm without one of its files.
    #[error(
        "{path} is missing although the farm has {what}; restore it, or remove the farm's directory to begin anew"
    )]
    MissingFile {
        /// The file.
        path: PathBuf,
        /// What shows that it should be there.
        what: String,
    },
    /// Another process farms it.
    #[error("{path} is locked: another farmer has this farm open")]
    Locked {
        /// The locked file.
        path: PathBuf,
    },
    /// The description cannot be understood.
    #[error("{path}: expected a farm's description of version 0: {reason}")]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A farm of another chain.
    #[error("{directory} is a farm of the chain with genesis {found}, the node's genesis is {expected}")]
    WrongGenesis {
        /// The directory.
        directory: PathBuf,
        /// Genesis of the chain that is to be farmed.
        expected: GenesisHash,
        /// Genesis that the farm was made for.
        found: GenesisHash,
    },
    /// Identity and description do not belong together.
    #[error("{directory}: identity.bin has public key {identity}, the farm was plotted for {description}")]
    PublicKeyMismatch {
        /// The directory.
        directory: PathBuf,
        /// Key in the identity.
        identity: PublicKey,
        /// Key in the description.
        description: PublicKey,
    },
    /// Sectors larger than the protocol allows.
    #[error("{directory} has {found} pieces in a sector, the protocol allows at most {max}")]
    TooManyPieces {
        /// The directory.
        directory: PathBuf,
        /// Pieces in the farm's sectors.
        found: u16,
        /// The protocol's largest number.
        max: u16,
    },
    /// A farm cannot have no sector, nor more than 65,534.
    #[error("a farm has 1 to {} sectors, {requested} were asked for", primitives::farms::MAX_SECTORS)]
    SectorCount {
        /// Sectors asked for.
        requested: u64,
    },
    /// The space does not hold a single sector.
    #[error(
        "{allocated} bytes hold no sector of {pieces_in_sector} pieces; the smallest farm takes {smallest} bytes"
    )]
    SpaceTooSmall {
        /// Bytes given.
        allocated: u64,
        /// Pieces in a sector.
        pieces_in_sector: u16,
        /// Bytes for one sector.
        smallest: u64,
    },
    /// The disk has not enough room.
    #[error(
        "{directory}: {sectors} sectors need {needed} more bytes, the disk has {available} free: \
         at most {fitting} sectors fit"
    )]
    DiskTooSmall {
        /// The directory.
        directory: PathBuf,
        /// Sectors asked for.
        sectors: u16,
        /// Bytes that would have to be added.
        needed: u64,
        /// Bytes free.
        available: u64,
        /// Sectors that fit.
        fitting: u16,
    },
    /// Fewer sectors than the farm has, without leave to shrink it.
    #[error(
        "{directory} has {current} sectors, {requested} were asked for: give --allow-shrink to lose the others"
    )]
    ShrinkRefused {
        /// The directory.
        directory: PathBuf,
        /// Sectors now.
        current: u16,
        /// Sectors asked for.
        requested: u16,
    },
    /// Metadata of a version that this program does not write, and therefore does not touch.
    #[error(
        "{path} has version {found}, this program farms version 0{}; the file was not changed",
        if *found == 1 { " (version 1 belongs to farms with the newer proof-of-space tables)" } else { "" }
    )]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// The farm was opened for reading.
    #[error("{directory} was opened read-only")]
    ReadOnly {
        /// The directory.
        directory: PathBuf,
    },
    /// No such sector in the farm.
    #[error("no sector {sector_index} in a farm of {sectors} sectors")]
    NoSector {
        /// The sector asked for.
        sector_index: SectorIndex,
        /// Sectors in the farm.
        sectors: u16,
    },
    /// The sector is being written by someone else.
    #[error("sector {sector_index} is already being written")]
    SectorBusy {
        /// The sector.
        sector_index: SectorIndex,
    },
    /// What was to be stored is no sound sector.
    #[error("sector {sector_index} was not stored: {reason}")]
    UnsoundSector {
        /// The sector.
        sector_index: SectorIndex,
        /// What is wrong with it.
        reason: UnsoundSector,
    },
}

/// What is wrong with a sector that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsoundSector {
    /// Too few bytes, or too many.
    #[error("expected {expected} bytes, found {found}")]
    Size {
        /// Bytes of a sector.
        expected: u64,
        /// Bytes written.
        found: u64,
    },
    /// The sector's own checksum does not match.
    #[error("its checksum is {stored}, its bytes hash to {computed}")]
    Checksum {
        /// In the sector.
        stored: Blake3Hash,
        /// Of the sector.
        computed: Blake3Hash,
    },
    /// The contents map is damaged.
    #[error(transparent)]
    ContentsMap(#[from] ContentsMapError),
    /// The metadata are another sector's.
    #[error("its metadata are those of a sector {sector_index} of {pieces_in_sector} pieces")]
    Metadata {
        /// Sector in the metadata.
        sector_index: SectorIndex,
        /// Pieces in the metadata.
        pieces_in_sector: u16,
    },
    /// S-bucket sizes that no sector has.
    #[error(transparent)]
    BucketSizes(#[from] BucketSizesError),
    /// S-bucket sizes in the metadata are not those of the contents map.
    #[error("the s-bucket sizes in its metadata are not those of its contents map")]
    BucketSizesDiffer,
}

/// Something that was found in a farm, or done to it, of which its operator should know.
///
/// Also logged when it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FarmEvent {
    /// The farm was made.
    Created {
        /// Sectors.
        sectors: u16,
    },
    /// A creation or resize that had been interrupted was completed.
    Completed,
    /// The farm has more sectors than before.
    Grown {
        /// Sectors before.
        from: u16,
        /// Sectors now.
        to: u16,
    },
    /// The farm has fewer sectors than before.
    Shrunk {
        /// Sectors before.
        from: u16,
        /// Sectors now.
        to: u16,
    },
    /// The filesystem cannot allocate in advance: the disk may run full while a sector is written.
    NotPreallocated {
        /// The file.
        path: PathBuf,
    },
    /// The header counts more sectors than the farm has; the count was clipped.
    CountClipped {
        /// Sectors that the header counts.
        found: u16,
        /// Sectors in the farm.
        sectors: u16,
    },
    /// A sector is lost and will be plotted anew.
    SectorLost {
        /// The sector.
        sector_index: SectorIndex,
        /// What was found.
        reason: LostSector,
    },
}

/// Why a sector is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostSector {
    /// Its metadata cannot be decoded, are another sector's, or contradict themselves.
    Metadata(String),
    /// The metadata could not be read.
    MetadataUnreadable(String),
    /// The plot file ends before the sector does.
    PlotTruncated {
        /// Bytes of the file.
        plot_size: u64,
        /// Byte at which the sector ends.
        sector_end: u64,
    },
    /// Its checksum does not match.
    Checksum(String),
    /// It could not be read.
    Unreadable(String),
    /// Its user found it to be of no use.
    Rejected(String),
}

impl fmt::Display for LostSector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(reason) => write!(f, "bad metadata: {reason}"),
            Self::MetadataUnreadable(reason) => write!(f, "metadata unreadable: {reason}"),
            Self::PlotTruncated { plot_size, sector_end } => {
                write!(f, "{PLOT_FILE} ends at byte {plot_size}, the sector at {sector_end}")
            }
            Self::Checksum(reason) => f.write_str(reason),
            Self::Unreadable(reason) => write!(f, "unreadable: {reason}"),
            Self::Rejected(reason) => f.write_str(reason),
        }
    }
}

impl fmt::Display for FarmEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { sectors } => write!(f, "farm of {sectors} sectors created"),
            Self::Completed => f.write_str("an interrupted creation or resize was completed"),
            Self::Grown { from, to } => write!(f, "farm grown from {from} to {to} sectors"),
            Self::Shrunk { from, to } => write!(f, "farm shrunk from {from} to {to} sectors"),
            Self::NotPreallocated { path } => write!(
                f,
                "{}: the filesystem cannot allocate in advance; the disk may run full while a sector is written",
                path.display()
            ),
            Self::CountClipped { found, sectors } => {
                write!(f, "the header counts {found} plotted sectors, the farm has {sectors}: clipped")
            }
            Self::SectorLost { sector_index, reason } => {
                write!(f, "sector {sector_index} is lost and will be plotted anew: {reason}")
            }
        }
    }
}

/// Makes an [`FarmError::Io`] of an error at `path`.
pub(crate) fn io_at<'a>(path: &'a Path, action: &'static str) -> impl Fn(io::Error) -> FarmError + use<'a> {
    move |source| FarmError::Io { path: path.to_owned(), action, source }
}

/// Makes new, renamed and removed names in a directory safe.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
