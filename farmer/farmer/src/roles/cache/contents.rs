//! The pieces of a cache as the rest of the process sees them: found, stored, counted.

use crate::roles::cache::store::Store;
use crate::roles::items;
use crate::roles::piece_bitmap::PieceBitmap;
use crate::status::Status;
use bytes::Bytes;
use cluster::contract::{CacheState, CacheStatus, Contents, clip};
use cluster::transfer::{
    FileRegion, ItemType, Payload, PieceSource, PutOutcome, SourceError, StoredFile, StoredPiece,
};
use parking_lot::{Mutex, RwLock};
use piece_store::{ItemKind, PieceRef, Put, StoreError};
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, PieceIndex};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Names pieces that need not be kept when there is no room for others.
pub type Surplus = Box<dyn Fn(&PieceBitmap) -> Option<PieceIndex> + Send + Sync>;

/// A store with what is known of it in memory.
pub struct CacheContents {
    store: Store,
    held: RwLock<PieceBitmap>,
    state: Mutex<CacheState>,
    surplus: Surplus,
    metrics: Metrics,
}

pub(crate) struct Metrics {
    cached: Gauge,
    served: Counter,
    bytes_served: Counter,
    stored: Counter,
    bytes_stored: Counter,
    damaged: Counter,
    evicted: Counter,
}

impl Metrics {
    pub(crate) fn new(status: &Status) -> Self {
        Self {
            cached: status.gauge("pieces_cached", "Pieces held"),
            served: status.counter("pieces_served", "Pieces served to others"),
            bytes_served: status.counter("bytes_served", "Bytes of pieces served to others"),
            stored: status.counter("pieces_stored", "Pieces taken and stored"),
            bytes_stored: status.counter("bytes_stored", "Bytes of pieces taken and stored"),
            damaged: status.counter("pieces_damaged", "Damaged pieces found and removed"),
            evicted: status
                .counter("pieces_evicted", "Pieces removed to make room for those of this cache's share"),
        }
    }
}

impl CacheContents {
    /// Takes a store over; blocks while its tables are read. `surplus` names a piece that may be removed when there is no
    /// room for another.
    pub fn new(store: Store, status: &Status, surplus: Surplus) -> Self {
        let held = store.contents();
        let metrics = Metrics::new(status);
        metrics.cached.set(held.len().cast_signed());
        Self { store, held: RwLock::new(held), state: Mutex::new(CacheState::Ready), surplus, metrics }
    }

    /// The store itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// In which form it holds pieces.
    pub fn items(&self) -> ItemType {
        match self.store.items() {
            ItemKind::Piece => ItemType::Piece,
            ItemKind::SplitParityPiece => ItemType::SplitParityPiece,
        }
    }

    /// Pieces held.
    pub fn len(&self) -> u64 {
        self.held.read().len()
    }

    /// Pieces stored since the start.
    pub fn pieces_stored(&self) -> u64 {
        self.metrics.stored.get()
    }

    /// Whether no piece is held.
    pub fn is_empty(&self) -> bool {
        self.held.read().is_empty()
    }

    /// Answers which pieces are held, from `from` on.
    pub fn contents(&self, from: PieceIndex) -> Contents {
        Contents::collect(from, self.held.read().iter())
    }

    /// Says what it is doing.
    pub fn set_state(&self, state: CacheState) {
        *self.state.lock() = state;
    }

    /// How it is.
    pub fn status(&self) -> CacheStatus {
        CacheStatus {
            state: self.state.lock().clone(),
            pieces: self.len(),
            capacity_pieces: self.store.capacity_pieces(),
            damaged_pieces: self.metrics.damaged.get(),
        }
    }

    /// Removes a piece that turned out to be damaged: it will be sent again.
    pub fn remove_damaged(&self, index: PieceIndex) {
        tracing::warn!(%index, "A stored piece is damaged; removed, it will be sent again");
        if self.remove(index) {
            self.metrics.damaged.inc();
        }
    }

    /// Removes a piece; false when it could not be.
    fn remove(&self, index: PieceIndex) -> bool {
        match self.store.remove(index) {
            Ok(_) => {
                let mut held = self.held.write();
                held.remove(index);
                self.metrics.cached.set(held.len().cast_signed());
                true
            }
            Err(error) => {
                tracing::error!(%error, %index, "A piece could not be removed");
                false
            }
        }
    }

    /// Makes room for one piece by removing one that others hold; false when there is none.
    fn make_room(&self) -> bool {
        let surplus = (self.surplus)(&self.held.read());
        let removed = surplus.is_some_and(|index| self.remove(index));
        if removed {
            self.metrics.evicted.inc();
        }
        removed
    }

    fn stored(&self, index: PieceIndex, bytes: usize) {
        let mut held = self.held.write();
        held.insert(index);
        self.metrics.cached.set(held.len().cast_signed());
        drop(held);
        self.metrics.stored.inc();
        self.metrics.bytes_stored.inc_by(bytes as u64);
        // A disk that takes pieces again has room again.
        let mut state = self.state.lock();
        if matches!(*state, CacheState::ReadOnly { .. }) {
            *state = CacheState::Ready;
        }
    }

    fn fails(&self, error: &StoreError) {
        let mut state = self.state.lock();
        if !matches!(*state, CacheState::ReadOnly { .. }) {
            tracing::error!(%error, "This cache takes no pieces now");
            *state = CacheState::ReadOnly { reason: clip(error.to_string()) };
        }
    }
}

/// Its slot is not written to while it is sent.
struct PinnedPiece(PieceRef);

impl StoredFile for PinnedPiece {
    fn file(&self) -> &File {
        self.0.file_region().0
    }
}

impl PieceSource for CacheContents {
    /// The form that is held is sent from where it lies. Plain pieces are also made out of split-parity ones; not the other way
    /// round, which would cost the cache what it is to save others.
    fn get(&self, item: ItemType, index: PieceIndex) -> Result<Option<StoredPiece>, SourceError> {
        if item != self.items() && item != ItemType::Piece {
            return Ok(None);
        }
        let Some(piece) = self.store.get(index) else { return Ok(None) };
        let (hash, length, (_, offset)) = (piece.hash(), piece.len(), piece.file_region());
        let region = FileRegion::new(Arc::new(PinnedPiece(piece)), offset, length);
        // A bad disk is an error here; while the piece is sent it would end the connection.
        let loaded = if item == self.items() {
            region.load().map(|()| StoredPiece { bytes: Payload::File(region), hash })
        } else {
            Payload::File(region).read().and_then(|bytes| take_apart(&bytes, hash))
        };
        let found = loaded.map_err(|error| {
            tracing::error!(%error, %index, "A stored piece cannot be read");
            self.remove_damaged(index);
            SourceError::new(error)
        })?;
        self.metrics.served.inc();
        self.metrics.bytes_served.inc_by(found.bytes.len() as u64);
        Ok(Some(found))
    }

    /// Takes plain pieces; a cache of split-parity pieces codes them itself, so that whoever fills caches need not know.
    fn put(&self, item: ItemType, index: PieceIndex, bytes: Bytes, hash: Blake3Hash) -> PutOutcome {
        if item != ItemType::Piece {
            return PutOutcome::Failed("caches take plain pieces and code them themselves".into());
        }
        if self.items() == ItemType::Piece {
            return self.keep(index, &bytes, hash);
        }
        if self.held.read().contains(index) {
            return PutOutcome::AlreadyThere;
        }
        match items::extend(&bytes) {
            Some(item) => self.keep(index, &item, blake3_hash(&item)),
            None => PutOutcome::Failed("a chunk of the record is no scalar: this is no piece".into()),
        }
    }
}

/// The plain piece of a stored split-parity piece, which has to have its hash: damage would get a good hash otherwise.
fn take_apart(bytes: &[u8], hash: Blake3Hash) -> io::Result<StoredPiece> {
    if blake3_hash(bytes) != hash {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes changed on the disk"));
    }
    let piece = items::plain(bytes);
    let hash = blake3_hash(piece.as_bytes());
    Ok(StoredPiece { bytes: piece.into_vec().into(), hash })
}

impl CacheContents {
    /// Stores an item in the form in which this cache holds them, and makes room for it if need be.
    fn keep(&self, index: PieceIndex, bytes: &[u8], hash: Blake3Hash) -> PutOutcome {
        let mut result = self.store.put_hashed(index, bytes, hash);
        if matches!(result, Err(StoreError::Full { .. })) && self.make_room() {
            result = self.store.put_hashed(index, bytes, hash);
        }
        match result {
            Ok(Put::Stored) => {
                self.stored(index, bytes.len());
                PutOutcome::Stored
            }
            Ok(Put::AlreadyThere) => PutOutcome::AlreadyThere,
            Err(StoreError::Full { .. }) => PutOutcome::Full,
            Err(error @ StoreError::Busy { .. }) => PutOutcome::Failed(error.to_string()),
            Err(error) => {
                self.fails(&error);
                match error {
                    StoreError::DiskFull { .. } => PutOutcome::Full,
                    error => PutOutcome::Failed(error.to_string()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::CachePath;
    use primitives::Piece;

    fn piece(number: u8) -> (Bytes, Blake3Hash) {
        let bytes = vec![number; Piece::SIZE];
        let hash = blake3_hash(&bytes);
        (bytes.into(), hash)
    }

    #[test]
    fn pieces_are_served_counted_and_make_room_for_the_own_share() {
        let directory = tempfile::tempdir().unwrap();
        let path = CachePath { path: directory.path().to_owned(), size: Some(4 * Piece::SIZE as u64) };
        let status = Status::new("sharded-cache", "one".into());
        let store = Store::open_sharded(std::slice::from_ref(&path), ItemKind::Piece).unwrap();
        let capacity = store.capacity_pieces().unwrap();
        // Piece 1 is not of this cache's share.
        let surplus: Surplus = Box::new(|held| held.iter().find(|index| index.0 == 1));
        let cache = CacheContents::new(store, &status, surplus);
        for index in 0..capacity {
            let (bytes, hash) = piece(index as u8);
            assert_eq!(cache.put(ItemType::Piece, PieceIndex(index), bytes, hash), PutOutcome::Stored);
        }
        let (bytes, hash) = piece(50);
        assert_eq!(cache.put(ItemType::Piece, PieceIndex(50), bytes.clone(), hash), PutOutcome::Stored);
        assert_eq!(cache.put(ItemType::Piece, PieceIndex(51), bytes.clone(), hash), PutOutcome::Full);
        assert_eq!(cache.put(ItemType::Piece, PieceIndex(50), bytes.clone(), hash), PutOutcome::AlreadyThere);
        assert_eq!(cache.len(), capacity);
        let found = cache.get(ItemType::Piece, PieceIndex(50)).unwrap().unwrap();
        assert_eq!((found.bytes.read().unwrap(), found.hash), (bytes, hash));
        assert!(cache.get(ItemType::Piece, PieceIndex(1)).unwrap().is_none());
        assert!(cache.get(ItemType::SplitParityPiece, PieceIndex(50)).unwrap().is_none());
        let contents = cache.contents(PieceIndex(2));
        assert!(contents.pieces.contains(PieceIndex(50)) && contents.next.is_none());
        assert!(!contents.pieces.contains(PieceIndex(0)));
        let counters = status.report().counters;
        assert_eq!(counters["pieces_cached"], capacity.cast_signed());
        assert_eq!(counters["pieces_evicted"], 1);
        assert_eq!(counters["pieces_served"], 1);
        assert_eq!(counters["bytes_served"], Piece::SIZE as i64);
    }

    #[test]
    fn a_cache_of_split_parity_pieces_codes_what_it_takes_and_gives_both_forms() {
        let directory = tempfile::tempdir().unwrap();
        let path = CachePath { path: directory.path().to_owned(), size: None };
        let status = Status::new("full-piece-sharded-cache", "one".into());
        let store = Store::open_full(&path, ItemKind::SplitParityPiece).unwrap();
        let cache = CacheContents::new(store, &status, Box::new(|_| None));
        let (index, plain) = (PieceIndex(3), ItemType::Piece);
        let (bytes, hash) = piece(9);
        assert_eq!(cache.put(plain, index, bytes.clone(), hash), PutOutcome::Stored);
        assert_eq!(cache.put(plain, index, bytes.clone(), hash), PutOutcome::AlreadyThere);
        let found = cache.get(plain, index).unwrap().unwrap();
        assert_eq!((found.bytes.read().unwrap(), found.hash), (bytes.clone(), hash));
        let found = cache.get(ItemType::SplitParityPiece, index).unwrap().unwrap();
        let item = items::extend(&bytes).unwrap();
        assert_eq!((found.bytes.read().unwrap(), found.hash), (item.clone().into(), blake3_hash(&item)));
        // What is no piece, and what is in the other form already.
        let (bytes, hash) = piece(255);
        assert!(matches!(cache.put(plain, PieceIndex(4), bytes, hash), PutOutcome::Failed(_)));
        let hash = blake3_hash(&item);
        let outcome = cache.put(ItemType::SplitParityPiece, PieceIndex(4), item.into(), hash);
        assert!(matches!(outcome, PutOutcome::Failed(_)));
        // A bit that flips does not get a good hash.
        let stored = cache.store().get(index).unwrap();
        let (_, offset) = stored.file_region();
        let extent = directory.path().join("extent-00000000.bin");
        let file = File::options().write(true).open(extent).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[10], offset + 777).unwrap();
        drop(stored);
        assert!(cache.get(plain, index).is_err() && cache.is_empty());
        assert_eq!(status.report().counters["pieces_damaged"], 1);
    }
}
