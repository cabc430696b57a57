//! Bytes of the manifest, of extent headers and of entries. All integers little-endian.

use crate::error::StoreError;
use crate::options::{ItemKind, MAX_SLOTS_PER_EXTENT};
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PieceIndex};
use std::path::Path;

/// Version of every file of a store.
pub(crate) const VERSION: u32 = 1;
/// Bytes of an extent before its table.
pub(crate) const HEADER_SIZE: u64 = 4096;
/// Bytes of an entry of the table; entries never cross a page or a disk sector.
pub(crate) const ENTRY_SIZE: usize = 64;
/// Bytes of the manifest.
pub(crate) const MANIFEST_SIZE: usize = 128;

const MANIFEST_MAGIC: [u8; 8] = *b"AUTSTORE";
const EXTENT_MAGIC: [u8; 8] = *b"AUTEXTNT";
/// Bytes of an extent header that carry information, checksum included.
const EXTENT_HEADER_USED: usize = 80;
const CHECKSUM: usize = 32;

/// How slots are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// Slot = piece index.
    Full,
    /// Slots are given out as pieces come.
    Sharded,
}

impl StoreKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Sharded => "sharded",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::Sharded => 1,
        }
    }
}

/// What a store says of itself: 8 magic ‖ 4 version ‖ 1 kind ‖ 1 items ‖ 2 zero ‖ 4 slots per extent ‖ 4 zero ‖ 16 store
/// id ‖ 32 genesis or zeroes ‖ zeroes ‖ 32 BLAKE3 of all before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) kind: StoreKind,
    pub(crate) items: ItemKind,
    pub(crate) slots_per_extent: u32,
    pub(crate) store_id: [u8; 16],
    pub(crate) chain: Option<GenesisHash>,
}

fn seal(bytes: &mut [u8]) {
    let (body, checksum) = bytes.split_at_mut(bytes.len() - CHECKSUM);
    checksum.copy_from_slice(blake3::hash(body).as_bytes());
}

fn is_sealed(bytes: &[u8]) -> bool {
    let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    blake3::hash(body).as_bytes() == checksum
}

fn check_magic(bytes: &[u8], magic: &[u8; 8], expected: &'static str, path: &Path) -> Result<(), StoreError> {
    if bytes[..8] != *magic {
        let found = bytes[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(StoreError::WrongMagic { path: path.to_owned(), expected, found });
    }
    let found = u32_at(bytes, 8);
    if found != VERSION {
        return Err(StoreError::UnsupportedVersion { path: path.to_owned(), found, supported: VERSION });
    }
    Ok(())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..][..4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..][..8].try_into().expect("8 bytes"))
}

impl Manifest {
    pub(crate) fn encode(&self) -> [u8; MANIFEST_SIZE] {
        let mut bytes = [0; MANIFEST_SIZE];
        bytes[..8].copy_from_slice(&MANIFEST_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12] = self.kind.code();
        bytes[13] = self.items.code();
        bytes[16..20].copy_from_slice(&self.slots_per_extent.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.store_id);
        bytes[40..72].copy_from_slice(&self.chain.unwrap_or_default().0);
        seal(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Self, StoreError> {
        let damaged = |what| StoreError::Damaged { path: path.to_owned(), what };
        if bytes.len() != MANIFEST_SIZE {
            return Err(StoreError::WrongLength {
                path: path.to_owned(),
                expected: MANIFEST_SIZE as u64,
                found: bytes.len() as u64,
            });
        }
        check_magic(bytes, &MANIFEST_MAGIC, "manifest", path)?;
        if !is_sealed(bytes) {
            return Err(damaged("the manifest's checksum does not match"));
        }
        let kind = match bytes[12] {
            0 => StoreKind::Full,
            1 => StoreKind::Sharded,
            _ => return Err(damaged("unknown kind of store")),
        };
        let items = ItemKind::from_code(bytes[13]).ok_or_else(|| damaged("unknown kind of items"))?;
        let slots_per_extent = u32_at(bytes, 16);
        if slots_per_extent == 0 || slots_per_extent > MAX_SLOTS_PER_EXTENT {
            return Err(damaged("impossible number of slots in an extent"));
        }
        let chain = GenesisHash(bytes[40..72].try_into().expect("32 bytes"));
        Ok(Self {
            kind,
            items,
            slots_per_extent,
            store_id: bytes[24..40].try_into().expect("16 bytes"),
            chain: (chain != GenesisHash::default()).then_some(chain),
        })
    }
}

/// Where things stand in an extent; all in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtentGeometry {
    pub(crate) slots: u32,
    pub(crate) item_size: usize,
}

impl ExtentGeometry {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self { slots: manifest.slots_per_extent, item_size: manifest.items.size() }
    }

    pub(crate) const fn table_size(self) -> usize {
        self.slots as usize * ENTRY_SIZE
    }

    /// First byte of the data; a multiple of a page.
    pub(crate) const fn data_offset(self) -> u64 {
        (HEADER_SIZE + self.table_size() as u64).next_multiple_of(4096)
    }

    pub(crate) const fn entry_offset(self, slot: u32) -> u64 {
        HEADER_SIZE + slot as u64 * ENTRY_SIZE as u64
    }

    pub(crate) const fn item_offset(self, slot: u32) -> u64 {
        self.data_offset() + slot as u64 * self.item_size as u64
    }

    pub(crate) const fn file_size(self) -> u64 {
        self.data_offset() + self.slots as u64 * self.item_size as u64
    }
}

/// Header of extent `number`: 8 magic ‖ 4 version ‖ 4 number ‖ 4 slots ‖ 1 items ‖ 11 zero ‖ 16 store id ‖ 32 BLAKE3 of
/// all before; zeroes up to 4096.
pub(crate) fn encode_extent_header(manifest: &Manifest, number: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_SIZE as usize];
    bytes[..8].copy_from_slice(&EXTENT_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..20].copy_from_slice(&manifest.slots_per_extent.to_le_bytes());
    bytes[20] = manifest.items.code();
    bytes[32..48].copy_from_slice(&manifest.store_id);
    seal(&mut bytes[..EXTENT_HEADER_USED]);
    bytes
}

/// Checks the header of extent `number` of this store.
pub(crate) fn check_extent_header(
    bytes: &[u8],
    manifest: &Manifest,
    number: u32,
    path: &Path,
) -> Result<(), StoreError> {
    let damaged = |what| StoreError::Damaged { path: path.to_owned(), what };
    check_magic(bytes, &EXTENT_MAGIC, "extent", path)?;
    if !is_sealed(&bytes[..EXTENT_HEADER_USED]) {
        return Err(damaged("the header's checksum does not match"));
    }
    if bytes[32..48] != manifest.store_id {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if u32_at(bytes, 12) != number {
        return Err(damaged("its name does not fit the number in its header"));
    }
    if u32_at(bytes, 16) != manifest.slots_per_extent || bytes[20] != manifest.items.code() {
        return Err(damaged("its header does not agree with the manifest"));
    }
    Ok(())
}

/// What a slot holds: 8 piece index ‖ 8 zero ‖ 32 BLAKE3 of the item ‖ 16 checksum over the slot's number and the 48
/// bytes before. All zeroes: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: PieceIndex,
    pub(crate) hash: Blake3Hash,
}

/// What stands in the table at a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableEntry {
    Free,
    Present(Entry),
    /// Neither zeroes nor a valid entry: bits changed on the disk.
    Damaged,
}

fn entry_checksum(global_slot: u64, body: &[u8]) -> [u8; 16] {
    let hash = blake3::Hasher::new().update(&global_slot.to_le_bytes()).update(body).finalize();
    hash.as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

impl Entry {
    pub(crate) fn encode(&self, global_slot: u64) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[..8].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.hash.0);
        let checksum = entry_checksum(global_slot, &bytes[..48]);
        bytes[48..].copy_from_slice(&checksum);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY_SIZE], global_slot: u64) -> TableEntry {
        if bytes.iter().all(|&byte| byte == 0) {
            return TableEntry::Free;
        }
        if entry_checksum(global_slot, &bytes[..48]) != bytes[48..] {
            return TableEntry::Damaged;
        }
        TableEntry::Present(Self {
            index: PieceIndex(u64_at(bytes, 0)),
            hash: Blake3Hash(bytes[16..48].try_into().expect("32 bytes")),
        })
    }
}
