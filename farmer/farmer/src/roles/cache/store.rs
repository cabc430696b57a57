//! The pieces of a cache: one full store, or several sharded ones that look like one.

use crate::cli::CachePath;
use crate::roles::Error;
use crate::roles::piece_bitmap::PieceBitmap;
use piece_store::{
    Capacity, FullPieceStore, ItemKind, PieceRef, Put, ShardedPieceStore, StoreError, StoreOptions, Usage,
};
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PieceIndex};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a disk that a cache without `size=` leaves free for others.
const DISK_RESERVE_BYTES: u64 = 1 << 30;

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { action, path, source } => Self::Io { action, path, source },
            StoreError::DiskFull { .. } => Self::Unavailable(error.to_string()),
            StoreError::WrongItems { found, .. } => Self::Config(format!(
                "{error}; start it with --cache-item-type {found}, or give another directory, which is filled anew"
            )),
            _ => Self::Config(error.to_string()),
        }
    }
}

/// The stores of one cache. Cheap to clone. Its methods block on the disk.
#[derive(Debug, Clone)]
pub enum Store {
    /// Every piece at its index.
    Full(FullPieceStore),
    /// Whatever is put into them, at least one.
    Sharded(Vec<ShardedPieceStore>),
}

impl Store {
    /// Opens the store of a full-piece cache, or makes it to hold `items`.
    ///
    /// # Errors
    /// Those of the store, also when it holds other items.
    pub fn open_full(path: &CachePath, items: ItemKind) -> Result<Self, Error> {
        if let Some(size) = path.size {
            tracing::warn!(
                path = %path.path.display(),
                size_bytes = size,
                "A full-piece cache holds every piece and grows with history: size= is not used"
            );
        }
        Ok(Self::Full(FullPieceStore::open(&path.path, &StoreOptions { items, ..StoreOptions::default() })?))
    }

    /// Opens the stores of a sharded cache, or makes them to hold `items`.
    ///
    /// # Errors
    /// Those of the stores, also when one holds other items, and when several without a size share a disk.
    pub fn open_sharded(paths: &[CachePath], items: ItemKind) -> Result<Self, Error> {
        let options = StoreOptions { items, ..StoreOptions::default() };
        let mut unlimited = HashMap::new();
        let mut stores = Vec::new();
        for CachePath { path, size } in paths {
            std::fs::create_dir_all(path).map_err(|error| Error::io("create", path, error))?;
            let capacity = match size {
                Some(bytes) => Capacity::Bytes(*bytes),
                None => {
                    let device =
                        std::fs::metadata(path).map_err(|error| Error::io("look at", path, error))?.dev();
                    if let Some(other) = unlimited.insert(device, path.as_path()) {
                        return Err(same_disk(other, path));
                    }
                    Capacity::Disk { reserve_bytes: DISK_RESERVE_BYTES }
                }
            };
            stores.push(ShardedPieceStore::open(path, &options, capacity)?);
        }
        Ok(Self::Sharded(stores))
    }

    /// In which form it holds pieces.
    pub fn items(&self) -> ItemKind {
        match self {
            Self::Full(store) => store.items(),
            Self::Sharded(stores) => stores.first().map_or(ItemKind::Piece, ShardedPieceStore::items),
        }
    }

    /// Binds the stores to a chain; refuses those of another.
    ///
    /// # Errors
    /// [`StoreError::WrongChain`]; I/O errors.
    pub fn bind_chain(&self, chain: GenesisHash) -> Result<(), StoreError> {
        match self {
            Self::Full(store) => store.bind_chain(chain),
            Self::Sharded(stores) => stores.iter().try_for_each(|store| store.bind_chain(chain)),
        }
    }

    /// Whether the machine went down while a store was open: a reason to verify everything.
    pub fn opened_after_power_loss(&self) -> bool {
        match self {
            Self::Full(store) => store.opened_after_power_loss(),
            Self::Sharded(stores) => stores.iter().any(ShardedPieceStore::opened_after_power_loss),
        }
    }

    /// A piece, read in place.
    pub fn get(&self, index: PieceIndex) -> Option<PieceRef> {
        match self {
            Self::Full(store) => store.get(index),
            Self::Sharded(stores) => stores.iter().find_map(|store| store.get(index)),
        }
    }

    /// Stores an item whose BLAKE3 has just been computed or checked. Sharded stores take it in order of free room; one that fails
    /// is passed over.
    ///
    /// # Errors
    /// The last store's.
    pub fn put_hashed(&self, index: PieceIndex, item: &[u8], hash: Blake3Hash) -> Result<Put, StoreError> {
        let stores = match self {
            Self::Full(store) => return store.put_hashed(index, item, hash),
            Self::Sharded(stores) => stores,
        };
        if stores.iter().any(|store| store.contains(index)) {
            return Ok(Put::AlreadyThere);
        }
        let mut by_room: Vec<_> = stores.iter().map(|store| (free_pieces(store), store)).collect();
        by_room.sort_by_key(|(free, _)| std::cmp::Reverse(*free));
        let mut result = Err(StoreError::Full { capacity: self.capacity_pieces().unwrap_or_default() });
        for (_, store) in by_room {
            result = store.put_hashed(index, item, hash);
            match &result {
                Ok(_) | Err(StoreError::Busy { .. }) => break,
                Err(StoreError::Full { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, %index, "A store of this cache fails; trying its others")
                }
            }
        }
        result
    }

    /// Removes a piece; false when it was not there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn remove(&self, index: PieceIndex) -> Result<bool, StoreError> {
        match self {
            Self::Full(store) => store.remove(index),
            Self::Sharded(stores) => {
                stores.iter().try_fold(false, |removed, store| Ok(store.remove(index)? || removed))
            }
        }
    }

    /// The pieces held.
    pub fn contents(&self) -> PieceBitmap {
        let mut set = PieceBitmap::default();
        match self {
            Self::Full(store) => store.contents().into_iter().for_each(|index| set.insert(index)),
            Self::Sharded(stores) => {
                stores.iter().flat_map(ShardedPieceStore::contents).for_each(|index| set.insert(index));
            }
        }
        set
    }

    /// Verifies every piece against the hash stored with it, until `go_on` says no; gives the damaged ones.
    pub fn verify_all(&self, mut go_on: impl FnMut() -> bool) -> Vec<PieceIndex> {
        match self {
            Self::Full(store) => store.verify_all(|_, _| go_on()),
            Self::Sharded(stores) => {
                stores.iter().flat_map(|store| store.verify_all(|_, _| go_on())).collect()
            }
        }
    }

    /// Most pieces that it may hold; none for a full store, which grows with history.
    pub fn capacity_pieces(&self) -> Option<u64> {
        match self {
            Self::Full(_) => None,
            Self::Sharded(stores) => {
                Some(stores.iter().filter_map(|store| store.usage().capacity_pieces).sum())
            }
        }
    }

    /// Forces everything that was written to the disk.
    ///
    /// # Errors
    /// When a disk fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        match self {
            Self::Full(store) => store.flush(),
            Self::Sharded(stores) => stores.iter().try_for_each(ShardedPieceStore::flush),
        }
    }
}

fn free_pieces(store: &ShardedPieceStore) -> u64 {
    let Usage { pieces, capacity_pieces, .. } = store.usage();
    capacity_pieces.unwrap_or(u64::MAX).saturating_sub(pieces)
}

fn same_disk(one: &Path, other: &Path) -> Error {
    Error::Config(format!(
        "{} and {} are on one disk: say with size= how much of it each may take",
        one.display(),
        other.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::Piece;
    use primitives::hashes::blake3_hash;

    fn piece(number: u8) -> (Vec<u8>, Blake3Hash) {
        let bytes = vec![number; Piece::SIZE];
        let hash = blake3_hash(&bytes);
        (bytes, hash)
    }

    fn cache_path(path: &Path, size: Option<u64>) -> CachePath {
        CachePath { path: path.to_owned(), size }
    }

    #[test]
    fn several_sharded_stores_look_like_one() {
        let directory = tempfile::tempdir().unwrap();
        let size = Some(4 * Piece::SIZE as u64);
        let paths =
            [cache_path(&directory.path().join("a"), size), cache_path(&directory.path().join("b"), size)];
        let store = Store::open_sharded(&paths, ItemKind::Piece).unwrap();
        let capacity = store.capacity_pieces().unwrap();
        assert!((4..8).contains(&capacity), "{capacity}");
        for index in 0..capacity {
            let (bytes, hash) = piece(index as u8);
            assert_eq!(store.put_hashed(PieceIndex(index), &bytes, hash).unwrap(), Put::Stored);
            assert_eq!(store.put_hashed(PieceIndex(index), &bytes, hash).unwrap(), Put::AlreadyThere);
        }
        let (bytes, hash) = piece(99);
        let error = store.put_hashed(PieceIndex(99), &bytes, hash).unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert_eq!(store.contents(), PieceBitmap::below(capacity));
        drop(store);

        let store = Store::open_sharded(&paths, ItemKind::Piece).unwrap();
        assert_eq!(store.contents(), PieceBitmap::below(capacity));
        assert_eq!(&store.get(PieceIndex(1)).unwrap()[..], piece(1).0);
        assert!(store.verify_all(|| true).is_empty());
        assert!(store.remove(PieceIndex(1)).unwrap() && !store.remove(PieceIndex(1)).unwrap());
        assert!(store.get(PieceIndex(1)).is_none());
        store.bind_chain(GenesisHash([1; 32])).unwrap();
        let error = store.bind_chain(GenesisHash([2; 32])).unwrap_err();
        assert!(matches!(error, StoreError::WrongChain { .. }), "{error}");
    }

    #[test]
    fn two_unlimited_stores_on_one_disk_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let paths =
            [cache_path(&directory.path().join("a"), None), cache_path(&directory.path().join("b"), None)];
        let error = Store::open_sharded(&paths, ItemKind::Piece).unwrap_err();
        assert!(error.to_string().contains("size="), "{error}");
        assert_eq!(error.exit_code(), 78);
    }

    #[test]
    fn stores_of_the_other_form_are_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = cache_path(directory.path(), Some(4 * Piece::SIZE as u64));
        let store = Store::open_sharded(std::slice::from_ref(&path), ItemKind::SplitParityPiece).unwrap();
        assert_eq!((store.items(), store.capacity_pieces()), (ItemKind::SplitParityPiece, Some(1)));
        drop(store);
        let error = Store::open_sharded(&[path], ItemKind::Piece).unwrap_err();
        assert!(error.to_string().contains("--cache-item-type split-parity-piece"), "{error}");
        assert_eq!(error.exit_code(), 78);
    }
}
