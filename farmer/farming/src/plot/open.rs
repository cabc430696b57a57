//! Opening, making, growing and shrinking of farms.

use super::description::{self, FarmLock};
use super::metadata::{MetadataFile, NoSector};
use super::table::SectorTable;
use super::{
    Farm, FarmDescription, FarmError, FarmEvent, FarmId, LostSector, METADATA_FILE, PLOT_FILE, SectorState,
    io_at, sync_directory,
};
use crate::identity::{IDENTITY_FILE, Identity};
use crate::io::PlotReader;
use parking_lot::Mutex;
use primitives::farms::{FarmGeometry, MAX_SECTORS};
use primitives::rpc::GenesisHash;
use primitives::{SectorGeometry, SectorIndex};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, statvfs};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How large a farm shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarmSpace {
    /// So many sectors.
    Sectors(u16),
    /// As many sectors as fit so many bytes by the reference's formula.
    Size(u64),
    /// As it is.
    Existing,
}

/// What may be done to a farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarmMode {
    /// Everything; makes it if there is none.
    Create,
    /// Everything; it has to exist.
    ReadWrite,
    /// Nothing is changed. Farms of metadata version 1 can be opened, too.
    ReadOnly,
    /// As [`Self::ReadOnly`], without the lock: somebody else may have the farm open and change it meanwhile.
    Unlocked,
}

impl FarmMode {
    fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Unlocked)
    }
}

/// Which farm to open, and how.
#[derive(Debug, Clone)]
pub struct FarmOptions {
    /// Its directory.
    pub directory: PathBuf,
    /// The chain to be farmed; none skips the check (utilities that know no node).
    pub genesis_hash: Option<GenesisHash>,
    /// The protocol's largest number of pieces in a sector; none skips the check.
    pub max_pieces_in_sector: Option<u16>,
    /// Pieces in the sectors of a new farm.
    pub pieces_in_sector: u16,
    /// Its size.
    pub space: FarmSpace,
    /// Whether sectors may be lost by making it smaller.
    pub allow_shrink: bool,
    /// What may be done to it.
    pub mode: FarmMode,
}

impl FarmOptions {
    /// Opens an existing farm as it is, without questions about its chain.
    pub fn existing(directory: &Path, mode: FarmMode) -> Self {
        Self {
            directory: directory.to_owned(),
            genesis_hash: None,
            max_pieces_in_sector: None,
            pieces_in_sector: 0,
            space: FarmSpace::Existing,
            allow_shrink: false,
            mode,
        }
    }
}

/// Geometry that the options ask of a farm with `pieces_in_sector` pieces in a sector.
fn requested_geometry(
    options: &FarmOptions,
    pieces_in_sector: u16,
    existing: Option<FarmGeometry>,
) -> Result<FarmGeometry, FarmError> {
    let sectors = match (options.space, existing) {
        (FarmSpace::Sectors(sectors), _) => sectors,
        (FarmSpace::Size(size), _) => {
            let geometry = FarmGeometry::for_allocated_space(pieces_in_sector, size);
            if geometry.sectors == 0 {
                let smallest = FarmGeometry { pieces_in_sector, sectors: 1 }.allocated_space();
                return Err(FarmError::SpaceTooSmall { allocated: size, pieces_in_sector, smallest });
            }
            geometry.sectors
        }
        (FarmSpace::Existing, Some(existing)) => existing.sectors,
        (FarmSpace::Existing, None) => {
            return Err(FarmError::NotAFarm { directory: options.directory.clone() });
        }
    };
    if sectors == 0 || sectors > MAX_SECTORS {
        return Err(FarmError::SectorCount { requested: u64::from(sectors) });
    }
    Ok(FarmGeometry { pieces_in_sector, sectors })
}

fn check_pieces(options: &FarmOptions, found: u16) -> Result<(), FarmError> {
    match options.max_pieces_in_sector {
        Some(max) if found > max => {
            Err(FarmError::TooManyPieces { directory: options.directory.clone(), found, max })
        }
        _ => Ok(()),
    }
}

/// An open farm and what was found or done.
type Opened = (Arc<Farm>, Vec<FarmEvent>);

pub(super) fn open(options: &FarmOptions) -> Result<Opened, FarmError> {
    let directory = &options.directory;
    if options.mode == FarmMode::Create {
        std::fs::create_dir_all(directory).map_err(io_at(directory, "create the directory"))?;
    }
    // Twice: somebody else may make the farm between the look and the attempt.
    for _ in 0..2 {
        let operation = match options.mode {
            FarmMode::Create | FarmMode::ReadWrite => Some(FlockOperation::NonBlockingLockExclusive),
            FarmMode::ReadOnly => Some(FlockOperation::NonBlockingLockShared),
            FarmMode::Unlocked => None,
        };
        if let Some((description, lock)) = description::open(directory, operation)? {
            let (farm, events) = Opening { options, events: Vec::new() }.run(description, lock)?;
            log(&farm, &events);
            return Ok((farm, events));
        }
        if options.mode != FarmMode::Create {
            break;
        }
        if let Some((farm, events)) = create(options)? {
            log(&farm, &events);
            return Ok((farm, events));
        }
    }
    Err(FarmError::NotAFarm { directory: directory.clone() })
}

fn log(farm: &Farm, events: &[FarmEvent]) {
    for event in events {
        let directory = farm.directory.display();
        match event {
            FarmEvent::Created { .. } | FarmEvent::Grown { .. } | FarmEvent::Shrunk { .. } => {
                tracing::info!(farm = %farm.id(), %directory, "{event}");
            }
            FarmEvent::SectorLost { sector_index, .. } if farm.read_only => {
                tracing::warn!(farm = %farm.id(), %directory, sector_index, "A sector is damaged; nothing was changed");
            }
            _ => tracing::warn!(farm = %farm.id(), %directory, "{event}"),
        }
    }
}

/// Files made on the way to a new farm, removed again unless it succeeds.
struct Undo {
    paths: Vec<PathBuf>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes a farm; none if somebody else was quicker.
fn create(options: &FarmOptions) -> Result<Option<Opened>, FarmError> {
    let directory = &options.directory;
    // Two of us may try at once; the description's own lock only keeps off who comes later.
    let Some(_creation) = description::lock_creation(directory)? else { return Ok(None) };
    check_pieces(options, options.pieces_in_sector)?;
    if options.pieces_in_sector == 0 {
        return Err(FarmError::SectorCount { requested: 0 });
    }
    let geometry = requested_geometry(options, options.pieces_in_sector, None)?;
    let Some(genesis_hash) = options.genesis_hash else {
        return Err(FarmError::NotAFarm { directory: directory.clone() });
    };
    // Data without a description are somebody's: they are not overwritten.
    for name in [METADATA_FILE, PLOT_FILE] {
        let path = directory.join(name);
        if path.try_exists().map_err(io_at(&path, "examine it"))? {
            let what = format!("a {name}");
            return Err(FarmError::MissingFile { path: directory.join(description::DESCRIPTION_FILE), what });
        }
    }
    check_free_space(directory, geometry)?;
    let mut undo = Undo { paths: Vec::new() };
    let identity = match Identity::open(directory)? {
        Some(identity) => identity,
        None => {
            let identity = Identity::create(directory)?;
            undo.paths.push(directory.join(IDENTITY_FILE));
            identity
        }
    };
    let description = FarmDescription::V0 {
        id: FarmId(ulid::Ulid::new()),
        genesis_hash,
        public_key: identity.public_key(),
        pieces_in_sector: geometry.pieces_in_sector,
        allocated_space: geometry.allocated_space(),
    };
    let Some(lock) = description::create(directory, &description)? else {
        // Somebody who does not know our lock: the winner may use the identity that was made here.
        undo.paths.clear();
        return Ok(None);
    };
    undo.paths.push(directory.join(description::DESCRIPTION_FILE));
    undo.paths.push(directory.join(METADATA_FILE));
    undo.paths.push(directory.join(PLOT_FILE));
    let mut opening = Opening { options, events: Vec::new() };
    opening.events.push(FarmEvent::Created { sectors: geometry.sectors });
    opening.allocate(METADATA_FILE, geometry.metadata_file_size())?;
    opening.allocate(PLOT_FILE, geometry.plot_file_size())?;
    sync_directory(directory).map_err(io_at(directory, "sync it"))?;
    let opened = opening.run(description, lock)?;
    undo.paths.clear();
    Ok(Some(opened))
}

/// Bytes on the disk that a file has already.
fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks().saturating_mul(512))
}

/// Whether the disk has room for what the farm does not have yet.
fn check_free_space(directory: &Path, geometry: FarmGeometry) -> Result<(), FarmError> {
    let stat = statvfs(directory).map_err(|error| io_at(directory, "examine its disk")(error.into()))?;
    let available = stat.f_bavail.saturating_mul(stat.f_frsize);
    let present = allocated(&directory.join(PLOT_FILE)) + allocated(&directory.join(METADATA_FILE));
    let needed = geometry.disk_space().saturating_sub(present);
    if needed <= available {
        return Ok(());
    }
    let fits = |sectors| {
        let smaller = FarmGeometry { sectors, ..geometry };
        smaller.disk_space().saturating_sub(present) <= available
    };
    let (mut fitting, mut too_many) = (0, geometry.sectors);
    while too_many - fitting > 1 {
        let middle = fitting + (too_many - fitting) / 2;
        if fits(middle) { fitting = middle } else { too_many = middle }
    }
    let directory = directory.to_owned();
    Err(FarmError::DiskTooSmall { directory, sectors: geometry.sectors, needed, available, fitting })
}

struct Opening<'a> {
    options: &'a FarmOptions,
    events: Vec<FarmEvent>,
}

impl Opening<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.options.directory.join(name)
    }

    fn read_only(&self) -> bool {
        self.options.mode.is_read_only()
    }

    fn run(mut self, mut description: FarmDescription, mut lock: FarmLock) -> Result<Opened, FarmError> {
        let identity = self.check_description(&description)?;
        let pieces_in_sector = description.pieces_in_sector();
        let existing = FarmGeometry::for_allocated_space(pieces_in_sector, description.allocated_space());
        let mut geometry = existing;
        if !self.read_only() {
            geometry = requested_geometry(self.options, pieces_in_sector, Some(existing))?;
            self.check_resize(existing, geometry)?;
        }
        self.complete_files(existing)?;

        let metadata_path = self.path(METADATA_FILE);
        let file = self.open_file(&metadata_path)?;
        let mut metadata = MetadataFile::new(file, &metadata_path, self.read_only())?;
        self.resize(existing, geometry, &mut metadata, &mut description, &mut lock)?;
        let sectors = self.load_sectors(&metadata, &description, geometry)?;
        let plot_path = self.path(PLOT_FILE);
        if !self.read_only() {
            // Only now: what a truncated plot file has lost must be known before it is extended.
            self.allocate(METADATA_FILE, geometry.metadata_file_size())?;
            self.allocate(PLOT_FILE, geometry.plot_file_size())?;
        }
        let farm = Farm {
            directory: self.options.directory.clone(),
            description,
            identity,
            geometry,
            read_only: self.read_only(),
            reader: PlotReader::open(&plot_path).map_err(io_at(&plot_path, "open it"))?,
            plot: self.open_file(&plot_path)?,
            metadata: Mutex::new(metadata),
            table: SectorTable::new(sectors),
            writing: Mutex::new(HashSet::new()),
            _lock: lock,
        };
        Ok((Arc::new(farm), self.events))
    }

    fn open_file(&self, path: &Path) -> Result<File, FarmError> {
        let mut options = OpenOptions::new();
        options.read(true).write(!self.read_only()).open(path).map_err(io_at(path, "open it"))
    }

    fn check_description(&self, description: &FarmDescription) -> Result<Identity, FarmError> {
        let directory = self.options.directory.clone();
        let found = description.genesis_hash();
        if let Some(expected) = self.options.genesis_hash
            && expected != found
        {
            return Err(FarmError::WrongGenesis { directory, expected, found });
        }
        let Some(identity) = Identity::open(&directory)? else {
            let what = format!("a {}", description::DESCRIPTION_FILE);
            return Err(FarmError::MissingFile { path: self.path(IDENTITY_FILE), what });
        };
        if identity.public_key() != description.public_key() {
            return Err(FarmError::PublicKeyMismatch {
                directory,
                identity: identity.public_key(),
                description: description.public_key(),
            });
        }
        if description.pieces_in_sector() == 0 {
            let reason = "no pieces in a sector".to_owned();
            return Err(FarmError::Description { path: self.path(description::DESCRIPTION_FILE), reason });
        }
        check_pieces(self.options, description.pieces_in_sector())?;
        Ok(identity)
    }

    fn check_resize(&self, existing: FarmGeometry, requested: FarmGeometry) -> Result<(), FarmError> {
        if requested.sectors < existing.sectors && !self.options.allow_shrink {
            return Err(FarmError::ShrinkRefused {
                directory: self.options.directory.clone(),
                current: existing.sectors,
                requested: requested.sectors,
            });
        }
        if requested.sectors > existing.sectors {
            check_free_space(&self.options.directory, requested)?;
        }
        Ok(())
    }

    /// Makes the files that a creation was interrupted before; refuses to replace files that were lost.
    fn complete_files(&mut self, existing: FarmGeometry) -> Result<(), FarmError> {
        let (metadata, plot) = (self.path(METADATA_FILE), self.path(PLOT_FILE));
        let exists = |path: &Path| path.try_exists().map_err(io_at(path, "examine it"));
        let (has_metadata, has_plot) = (exists(&metadata)?, exists(&plot)?);
        if has_metadata && has_plot {
            return Ok(());
        }
        if self.read_only() || has_plot {
            let path = if has_metadata { plot } else { metadata };
            let what = if has_plot { format!("a {PLOT_FILE}") } else { "a description".to_owned() };
            return Err(FarmError::MissingFile { path, what });
        }
        if has_metadata {
            // Metadata come first: with no sector in them, the plot file was never made.
            let count = MetadataFile::new(self.open_file(&metadata)?, &metadata, false)?.count();
            if count > 0 {
                return Err(FarmError::MissingFile { path: plot, what: format!("{count} plotted sectors") });
            }
        }
        check_free_space(&self.options.directory, existing)?;
        self.allocate(METADATA_FILE, existing.metadata_file_size())?;
        self.allocate(PLOT_FILE, existing.plot_file_size())?;
        self.events.push(FarmEvent::Completed);
        Ok(())
    }

    fn resize(
        &mut self,
        existing: FarmGeometry,
        geometry: FarmGeometry,
        metadata: &mut MetadataFile,
        description: &mut FarmDescription,
        lock: &mut FarmLock,
    ) -> Result<(), FarmError> {
        let (from, to) = (existing.sectors, geometry.sectors);
        if self.read_only() {
            return Ok(());
        }
        if metadata.count() > to {
            if to >= from {
                self.events.push(FarmEvent::CountClipped { found: metadata.count(), sectors: to });
            }
            metadata.set_count(to)?;
        }
        if from == to {
            return Ok(());
        }
        if to > from {
            // Room first, then the promise.
            self.grow(METADATA_FILE, existing.metadata_file_size(), geometry.metadata_file_size())?;
            self.grow(PLOT_FILE, existing.plot_file_size(), geometry.plot_file_size()).inspect_err(|_| {
                // What fails now is not made worse by a file that stays too large.
                let _ = self.truncate(METADATA_FILE, existing.metadata_file_size());
            })?;
        }
        *description = description.with_allocated_space(geometry.allocated_space());
        description::replace(&self.options.directory, description, lock)?;
        if to < from {
            self.truncate(PLOT_FILE, geometry.plot_file_size())?;
            self.truncate(METADATA_FILE, geometry.metadata_file_size())?;
            self.events.push(FarmEvent::Shrunk { from, to });
        } else {
            self.events.push(FarmEvent::Grown { from, to });
        }
        Ok(())
    }

    fn truncate(&self, name: &str, size: u64) -> Result<(), FarmError> {
        let path = self.path(name);
        let file = self.open_file(&path)?;
        if file.metadata().map_err(io_at(&path, "examine it"))?.len() > size {
            file.set_len(size).map_err(io_at(&path, "truncate it"))?;
        }
        Ok(())
    }

    /// Extends a file whose size should be `from`; gives back what it got if that fails.
    ///
    /// A file shorter than `from` was truncated: it is left for [`Self::load_sectors`] to find.
    fn grow(&mut self, name: &str, from: u64, to: u64) -> Result<(), FarmError> {
        let path = self.path(name);
        let before = self.open_file(&path)?.metadata().map_err(io_at(&path, "examine it"))?.len();
        if before < from {
            return Ok(());
        }
        self.allocate(name, to).inspect_err(|_| {
            let _ = self.truncate(name, before);
        })
    }

    /// Makes a file at least `size` bytes large, allocated on the disk.
    fn allocate(&mut self, name: &str, size: u64) -> Result<(), FarmError> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_at(&path, "open it"))?;
        if file.metadata().map_err(io_at(&path, "examine it"))?.len() >= size {
            return Ok(());
        }
        loop {
            match fallocate(&file, FallocateFlags::empty(), 0, size) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    file.set_len(size).map_err(io_at(&path, "extend it"))?;
                    self.events.push(FarmEvent::NotPreallocated { path: path.clone() });
                    break;
                }
                Err(error) => return Err(io_at(&path, "allocate its space")(error.into())),
            }
        }
        file.sync_all().map_err(io_at(&path, "sync it"))
    }

    /// States of the sectors; those that are lost become dummies.
    fn load_sectors(
        &mut self,
        metadata: &MetadataFile,
        description: &FarmDescription,
        geometry: FarmGeometry,
    ) -> Result<Vec<Option<Arc<SectorState>>>, FarmError> {
        let plot_path = self.path(PLOT_FILE);
        let plot_size = std::fs::metadata(&plot_path).map_err(io_at(&plot_path, "examine it"))?.len();
        let pieces_in_sector = geometry.pieces_in_sector;
        let sector_size = SectorGeometry::new(pieces_in_sector).sector_size() as u64;
        let mut sectors = vec![None; usize::from(geometry.sectors)];
        let states = metadata.read_states(&description.public_key(), geometry);
        for (sector_index, (state, slot)) in states.into_iter().zip(&mut sectors).enumerate() {
            let sector_end = (sector_index as u64 + 1) * sector_size;
            let reason = match state {
                Ok(_) if sector_end > plot_size => LostSector::PlotTruncated { plot_size, sector_end },
                Ok(state) => {
                    *slot = Some(state);
                    continue;
                }
                Err(NoSector::Dummy) => continue,
                Err(NoSector::Lost(reason)) => reason,
            };
            let sector_index = sector_index as SectorIndex;
            if !self.read_only() {
                metadata.write_dummy(sector_index, pieces_in_sector)?;
            }
            self.events.push(FarmEvent::SectorLost { sector_index, reason });
        }
        Ok(sectors)
    }
}

impl From<FarmError> for io::Error {
    fn from(error: FarmError) -> Self {
        match error {
            FarmError::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}
