//! What is read from disks.

use crate::packing::{Fields, HOLE, MENDED, mend, unpacked};
use archiving::{Srs, SrsError};
use farmer::export::journal::Journal;
use farmer::roles::plot_server::spool::SpoolHeader;
use farming::identity::{IDENTITY_FILE, Identity};
use farming::plot::{
    DESCRIPTION_FILE, Farm, FarmDescription, FarmId, FarmMode, FarmOptions, METADATA_FILE, SectorState,
};
use farming::sector::ContentsMap;
use node_db::NodeDb;
use parity_scale_codec::{Decode, DecodeAll, Encode};
use piece_store::{Capacity, FullPieceStore, ShardedPieceStore, SlotContents, StoreInspection, StoreOptions};
use primitives::blocks::{BlockHeader, Justification, SignedBlock};
use primitives::farms::{MAX_SECTORS, RESERVED_METADATA};
use primitives::rpc::GenesisHash;
use primitives::sectors::SectorMetadata;
use primitives::{Blake3Checksummed, PublicKey, SegmentHeader};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tempfile::TempDir;

/// An empty directory, in memory where the system has such.
fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        .expect("a temporary directory can be made")
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("a small file can be written");
}

/// A file of `length` bytes, holes but for what stands at its places.
fn write_sparse(path: &Path, length: u64, parts: &[(u64, &[u8])]) {
    let write = || -> std::io::Result<()> {
        let file = File::create(path)?;
        for (place, bytes) in parts {
            file.write_all_at(bytes, *place)?;
        }
        file.set_len(length)
    };
    write().expect("a sparse file can be written");
}

/// Flags of a store's input, beside which stand its manifest (128 bytes), the used part of an extent's header (80) and
/// entries (64 each).
mod store {
    pub(super) const MEND_HEADER: u8 = 2;
    pub(super) const MEND_ENTRIES: u8 = 4;
    pub(super) const FULL_LENGTH: u8 = 8;
    pub(super) const NUMBERED: u8 = 16;
    pub(super) const MANIFEST_CUT: u8 = 32;
}

/// Length of an extent with this manifest, had it few slots.
fn extent_length(manifest: &[u8]) -> u64 {
    let slots = u64::from(u32::from_le_bytes([16, 17, 18, 19].map(|at| manifest[at]))).min(1 << 17);
    let item = if manifest[13] == 0 { 1_048_672 } else { 2_097_248 };
    (4096 + slots * 64).next_multiple_of(4096) + slots * item
}

/// A store with one extent: looked at, then opened.
pub(crate) fn piece_store(input: &[u8]) -> bool {
    let mut fields = Fields(input);
    let flags = fields.u8();
    let mut manifest: [u8; 128] = fields.array();
    let mut header: [u8; 80] = fields.array();
    let mut table = fields.0.to_vec();
    if flags & MENDED != 0 {
        mend(&mut manifest);
    }
    if flags & store::MEND_HEADER != 0 {
        mend(&mut header);
    }
    let number = if flags & store::NUMBERED == 0 {
        0
    } else {
        u32::from_le_bytes([12, 13, 14, 15].map(|at| header[at]))
    };
    if flags & store::MEND_ENTRIES != 0 {
        let slots = u64::from(u32::from_le_bytes([16, 17, 18, 19].map(|at| manifest[at])));
        for (slot, entry) in (u64::from(number).wrapping_mul(slots)..).zip(table.as_chunks_mut::<64>().0) {
            let (body, checksum) = entry.split_at_mut(48);
            let hash = blake3::Hasher::new().update(&slot.to_le_bytes()).update(body).finalize();
            checksum.copy_from_slice(&hash.as_bytes()[..16]);
        }
    }
    let directory = directory();
    let path = directory.path();
    let kept = if flags & store::MANIFEST_CUT == 0 { manifest.len() } else { table.len() % manifest.len() };
    write(&path.join("manifest.bin"), &manifest[..kept]);
    let length =
        if flags & store::FULL_LENGTH == 0 { 4096 + table.len() as u64 } else { extent_length(&manifest) };
    table.truncate(length.saturating_sub(4096) as usize);
    let extent = path.join(format!("extent-{number:08}.bin"));
    write_sparse(&extent, length, &[(0, &header), (4096, &table)]);
    open_store(path)
}

fn open_store(path: &Path) -> bool {
    let seen = StoreInspection::new(path);
    let options = StoreOptions {
        items: seen.as_ref().map_or(StoreOptions::default().items, StoreInspection::items),
        ..StoreOptions::default()
    };
    let Ok(seen) = seen else {
        assert!(FullPieceStore::open(path, &options).is_err(), "opened and not to be looked at");
        assert!(
            ShardedPieceStore::open(path, &options, Capacity::Pieces(9)).is_err(),
            "opened and not looked at"
        );
        return false;
    };
    let pieces = seen.slots().filter(|(_, slot)| matches!(slot, SlotContents::Piece { .. })).count();
    let contents = if seen.is_full() {
        FullPieceStore::open(path, &options).map(|store| store.contents())
    } else {
        ShardedPieceStore::open(path, &options, Capacity::Pieces(1 << 20)).map(|store| store.contents())
    };
    match contents {
        Ok(contents) if seen.is_full() => assert_eq!(contents.len(), pieces, "pieces seen and not found"),
        Ok(contents) => assert!(contents.len() <= pieces, "{} pieces of {pieces} seen", contents.len()),
        Err(_) => {}
    }
    contents_are_whole(&seen)
}

/// Whether every extent could be read.
fn contents_are_whole(seen: &StoreInspection) -> bool {
    seen.extents() > 0 && seen.broken_extents().is_empty()
}

pub(crate) fn spool_header(input: &[u8]) -> bool {
    let bytes = unpacked(input);
    let Ok(header) = SpoolHeader::from_bytes(&bytes) else { return false };
    assert!(header.to_bytes() == bytes, "a header is encoded as it came");
    let manifest = header.manifest();
    assert_eq!(manifest.size_bytes.div_ceil(1 << 20), u64::from(manifest.blocks()));
    true
}

/// Entropy of the identity that a farm gets when its input brings none of its own.
const ENTROPY: [u8; 33] = {
    let mut bytes = [7; 33];
    bytes[0] = 0x80;
    bytes
};

/// Flags of a farm's input, beside [`MENDED`] and [`HOLE`], which are those of the first sector's record.
mod farm_flags {
    /// The input brings the identity.
    pub(super) const OWN_IDENTITY: u8 = 4;
    /// The input brings the description as text; else its numbers alone.
    pub(super) const OWN_DESCRIPTION: u8 = 8;
    /// The metadata file has another length than one sector needs.
    pub(super) const METADATA_CUT: u8 = 16;
}

fn key_of(directory: &Path) -> PublicKey {
    match Identity::open(directory) {
        Ok(Some(identity)) => identity.public_key(),
        _ => PublicKey([0; 32]),
    }
}

/// A farm's directory, opened as it is: flags, header of `metadata.bin`, MiB of `plot.bin`, identity, description, length of
/// `metadata.bin`, then the first sector's record.
pub(crate) fn farm(input: &[u8]) -> bool {
    let mut fields = Fields(input);
    let flags = fields.u8();
    let header: [u8; 3] = fields.array();
    let plot_mib = u64::from(fields.u16());
    let directory = directory();
    let path = directory.path();
    let entropy = if flags & farm_flags::OWN_IDENTITY == 0 {
        &ENTROPY[..]
    } else {
        let length = usize::from(fields.u8());
        fields.bytes(length)
    };
    write(&path.join(IDENTITY_FILE), entropy);
    if flags & farm_flags::OWN_DESCRIPTION == 0 {
        let description = FarmDescription::V0 {
            id: FarmId(ulid(1)),
            genesis_hash: GenesisHash([3; 32]),
            public_key: key_of(path),
            pieces_in_sector: fields.u16(),
            allocated_space: u64::from_le_bytes(fields.array()),
        };
        write(
            &path.join(DESCRIPTION_FILE),
            &serde_json::to_vec(&description).expect("a description is plain JSON"),
        );
    } else {
        let length = usize::from(fields.u16());
        write(&path.join(DESCRIPTION_FILE), fields.bytes(length));
    }
    let mut length = RESERVED_METADATA + SectorMetadata::ENCODED_SIZE as u64;
    if flags & farm_flags::METADATA_CUT != 0 {
        length = u64::from(fields.u32()) % (2 * length);
    }
    let record = unpacked(&[&[flags & (MENDED | HOLE)], fields.0].concat());
    write_sparse(&path.join(METADATA_FILE), length, &[(0, &header), (RESERVED_METADATA, &record)]);
    write_sparse(&path.join("plot.bin"), plot_mib << 20, &[]);
    let Ok((farm, _)) = Farm::open(&FarmOptions::existing(path, FarmMode::Unlocked)) else { return false };
    let sectors = farm.sectors();
    assert_eq!(sectors.len(), usize::from(farm.geometry().sectors));
    assert!(sectors.len() <= usize::from(MAX_SECTORS));
    sectors.iter().flatten().count() > 0
}

fn ulid(number: u128) -> ulid::Ulid {
    ulid::Ulid(number)
}

pub(crate) fn farm_identity(bytes: &[u8]) -> bool {
    let directory = directory();
    write(&directory.path().join(IDENTITY_FILE), bytes);
    let Ok(identity) = Identity::open(directory.path()) else { return false };
    let shown = format!("{:?}", identity.expect("the file is there"));
    assert!(shown.contains("public_key"), "{shown}");
    true
}

pub(crate) fn sector_metadata(input: &[u8]) -> bool {
    let bytes = unpacked(input);
    let Ok(sealed) = Blake3Checksummed::<SectorMetadata>::decode_all(&mut &bytes[..]) else { return false };
    assert_eq!(bytes.len(), SectorMetadata::ENCODED_SIZE);
    assert!(sealed.encode() == bytes, "metadata are encoded as they came");
    let metadata = sealed.0;
    if let Ok(state) = SectorState::from_metadata(&PublicKey([1; 32]), &metadata) {
        assert!(state.metadata() == metadata, "a sector's state keeps its metadata");
    }
    true
}

pub(crate) fn contents_map(input: &[u8]) -> bool {
    let bytes = unpacked(input);
    let pieces = (bytes.len() / 8192) as u16;
    let Ok(map) = ContentsMap::from_bytes(&bytes, pieces) else { return false };
    assert!(map.to_bytes() == bytes, "a contents map is encoded as it came");
    for record in map.records() {
        assert!(record.s_buckets().count() == 32_768, "a record has 32,768 chunks");
    }
    true
}

/// The first byte says whether the file is brought to its due length. None is ever taken: it is as good as taken when its
/// length was right and its digest was asked.
pub(crate) fn reference_string(input: &[u8]) -> bool {
    let mut fields = Fields(input);
    let length = if fields.u8() & 1 == 0 { fields.0.len() } else { Srs::SIZE };
    let directory = directory();
    let path = directory.path().join("srs.bin");
    write_sparse(&path, length as u64, &[(0, &fields.0[..length.min(fields.0.len())])]);
    let error = Srs::load(&path).err();
    matches!(error, Some(SrsError::Digest { .. }))
}

pub(crate) fn export_journal(input: &[u8]) -> bool {
    let directory = directory();
    write(&directory.path().join("segment-headers.bin"), &unpacked(input));
    let journal = Journal::open(directory.path()).expect("a damaged journal is as good as none");
    let newest = journal.newest();
    if let Some(newest) = newest {
        assert_eq!(journal.get(newest).map(|header| header.segment_index()), Some(newest));
    }
    newest.is_some()
}

fn value<T: Decode + Encode>(bytes: &[u8]) -> Option<T> {
    let value = T::decode_all(&mut &*bytes).ok()?;
    assert_eq!(value.encode(), bytes, "a value is encoded as it was stored");
    Some(value)
}

/// A value of the node's database: the first byte names the column.
pub(crate) fn node_db_value(input: &[u8]) -> bool {
    let Some((&column, bytes)) = input.split_first() else { return false };
    match column {
        4 => value::<BlockHeader>(bytes).is_some(),
        5 => value::<Vec<Vec<u8>>>(bytes).is_some(),
        6 => value::<Vec<Justification>>(bytes).is_some(),
        8 => value::<Vec<SegmentHeader>>(bytes).is_some(),
        0 => match value::<SignedBlock>(bytes) {
            // Genesis would be extended to 128 MB.
            Some(block) if block.header.number > 0 => block.encode_for_archiving().len() <= bytes.len(),
            block => block.is_some(),
        },
        _ => false,
    }
}

/// `metadata` of the database that the seed of the log comes from: keys are salted.
const DATABASE_METADATA: &[u8] = include_bytes!("../corpus/node_db_metadata/seed-metadata");

pub(crate) fn node_db_metadata(bytes: &[u8]) -> bool {
    let directory = directory();
    write(&directory.path().join("metadata"), bytes);
    // Without its tables it is no node's database, but its columns were understood.
    match NodeDb::open_unchanged(directory.path()) {
        Ok(_) => true,
        Err(error) => error.to_string().contains("type"),
    }
}

/// A database of nothing but a log, which is replayed into its tables.
pub(crate) fn node_db_log(bytes: &[u8]) -> bool {
    let directory = directory();
    write(&directory.path().join("metadata"), DATABASE_METADATA);
    write(&directory.path().join("log0"), bytes);
    NodeDb::open_read_only(directory.path()).is_ok()
}
