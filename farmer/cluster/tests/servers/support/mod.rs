//! Sources and sinks in memory, and a connection below the client.

use bytes::Bytes;
use cluster::ClusterSecret;
use cluster::contract::{LeaseKey, PlotProgress};
use cluster::transfer::*;
use parking_lot::Mutex;
use primitives::hashes::blake3_hash;
use primitives::{Blake3Hash, HistorySize, Piece, PieceIndex, PublicKey};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn piece(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; Piece::SIZE];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Seven whole blocks and a part of one.
pub(crate) fn sector(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 7 * SECTOR_BLOCK_SIZE + 12_345];
    blake3::Hasher::new().update(b"sector").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn key(sector_index: u16) -> LeaseKey {
    LeaseKey { public_key: PublicKey([5; 32]), sector_index, history_size: HistorySize::ONE }
}

/// The bytes in a file of their own, `offset` bytes from its beginning and not at its end.
pub(crate) fn in_file(bytes: &[u8], offset: u64) -> FileRegion {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.set_len(offset + bytes.len() as u64 + 1000).unwrap();
    FileRegion::new(Arc::new(file), offset, bytes.len())
}

#[derive(Default)]
pub(crate) struct MemoryPieces {
    pieces: Mutex<HashMap<PieceIndex, StoredPiece>>,
    capacity: Option<usize>,
    delay: Mutex<Duration>,
}

impl MemoryPieces {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { capacity: Some(capacity), ..Self::default() }
    }

    pub(crate) fn insert(&self, index: PieceIndex, bytes: Vec<u8>) {
        let hash = blake3_hash(&bytes);
        // Half of them out of files, from somewhere in the middle.
        let bytes = match index.0 % 2 {
            0 => bytes.into(),
            _ => Payload::File(in_file(&bytes, 123)),
        };
        self.pieces.lock().insert(index, StoredPiece { bytes, hash });
    }

    pub(crate) fn insert_region(&self, index: PieceIndex, region: FileRegion) {
        let hash = Blake3Hash::default();
        self.pieces.lock().insert(index, StoredPiece { bytes: Payload::File(region), hash });
    }

    /// Many pieces with the same bytes, as a mapping would share them.
    pub(crate) fn insert_shared(&self, index: PieceIndex, bytes: &[u8]) {
        let mut pieces = self.pieces.lock();
        let stored = match pieces.values().next() {
            Some(stored) => stored.clone(),
            None => StoredPiece { bytes: bytes.to_vec().into(), hash: blake3_hash(bytes) },
        };
        pieces.insert(index, stored);
    }

    pub(crate) fn damage(&self, index: PieceIndex) {
        let mut pieces = self.pieces.lock();
        let stored = pieces.get_mut(&index).unwrap();
        let mut bytes = stored.bytes.read().unwrap().to_vec();
        bytes[77_777] ^= 1;
        stored.bytes = bytes.into();
    }

    pub(crate) fn remove(&self, index: PieceIndex) {
        self.pieces.lock().remove(&index);
    }

    pub(crate) fn len(&self) -> usize {
        self.pieces.lock().len()
    }

    pub(crate) fn slow(&self, delay: Duration) {
        *self.delay.lock() = delay;
    }
}

impl PieceSource for MemoryPieces {
    fn get(&self, item: ItemType, index: PieceIndex) -> Result<Option<StoredPiece>, SourceError> {
        std::thread::sleep(*self.delay.lock());
        Ok(match item {
            ItemType::Piece => self.pieces.lock().get(&index).cloned(),
            ItemType::SplitParityPiece => None,
        })
    }

    fn put(&self, _: ItemType, index: PieceIndex, bytes: Bytes, hash: Blake3Hash) -> PutOutcome {
        let mut pieces = self.pieces.lock();
        if pieces.contains_key(&index) {
            return PutOutcome::AlreadyThere;
        }
        if self.capacity.is_some_and(|capacity| pieces.len() >= capacity) {
            return PutOutcome::Full;
        }
        pieces.insert(index, StoredPiece { bytes: bytes.into(), hash });
        PutOutcome::Stored
    }
}

enum Spooled {
    Making(PlotProgress),
    Ready(Bytes, Arc<SectorManifest>),
}

#[derive(Default)]
pub(crate) struct MemorySectors {
    sectors: Mutex<HashMap<LeaseKey, Spooled>>,
    served: Mutex<Vec<u32>>,
    failing: Mutex<Option<u32>>,
    damaged: Mutex<Option<u32>>,
    delay: Mutex<Duration>,
}

impl MemorySectors {
    pub(crate) fn making(&self, key: LeaseKey, done: u16) {
        let progress = PlotProgress::Downloading { done, of: 10 };
        self.sectors.lock().insert(key, Spooled::Making(progress));
    }

    pub(crate) fn failed(&self, key: LeaseKey, reason: &str) {
        let progress = PlotProgress::Failed { reason: reason.to_owned() };
        self.sectors.lock().insert(key, Spooled::Making(progress));
    }

    pub(crate) fn ready(&self, key: LeaseKey, bytes: Vec<u8>) {
        let manifest = SectorManifest {
            size_bytes: bytes.len() as u64,
            metadata: b"metadata of a sector".to_vec(),
            block_hashes: bytes.chunks(SECTOR_BLOCK_SIZE).map(blake3_hash).collect(),
        };
        self.sectors.lock().insert(key, Spooled::Ready(bytes.into(), Arc::new(manifest)));
    }

    pub(crate) fn fail_block(&self, block: Option<u32>) {
        *self.failing.lock() = block;
    }

    pub(crate) fn damage_block(&self, block: Option<u32>) {
        *self.damaged.lock() = block;
    }

    pub(crate) fn slow(&self, delay: Duration) {
        *self.delay.lock() = delay;
    }

    pub(crate) fn served(&self) -> Vec<u32> {
        self.served.lock().clone()
    }

    pub(crate) fn reset_served(&self) {
        self.served.lock().clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sectors.lock().is_empty()
    }
}

impl SectorSource for MemorySectors {
    fn state(&self, key: &LeaseKey) -> SectorState {
        match self.sectors.lock().get(key) {
            None => SectorState::Unknown,
            Some(Spooled::Making(progress)) => SectorState::Making(progress.clone()),
            Some(Spooled::Ready(_, manifest)) => SectorState::Ready(Arc::clone(manifest)),
        }
    }

    fn block(&self, key: &LeaseKey, block: u32) -> Result<Payload, SourceError> {
        std::thread::sleep(*self.delay.lock());
        if *self.failing.lock() == Some(block) {
            return Err(SourceError::new("the disk of the spool failed"));
        }
        self.served.lock().push(block);
        let sectors = self.sectors.lock();
        let Some(Spooled::Ready(bytes, manifest)) = sectors.get(key) else {
            return Err(SourceError::new("not in the spool"));
        };
        let start = block as usize * SECTOR_BLOCK_SIZE;
        let bytes = bytes.slice(start..start + manifest.block_size(block));
        if *self.damaged.lock() == Some(block) {
            let mut bytes = bytes.to_vec();
            bytes[9] ^= 4;
            return Ok(bytes.into());
        }
        Ok(bytes.into())
    }

    fn acknowledge(&self, key: &LeaseKey) -> Result<(), SourceError> {
        self.sectors.lock().remove(key);
        Ok(())
    }
}

#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) sector: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) blocks: u32,
    pub(crate) progress_seen: u32,
    pub(crate) fail_at: Option<u32>,
    buffer: Vec<u8>,
}

impl SectorSink for Sink {
    fn progress(&mut self, progress: &PlotProgress) {
        assert!(!matches!(progress, PlotProgress::Ready { .. }));
        self.progress_seen += 1;
    }

    async fn begin(&mut self, manifest: &SectorManifest) -> Result<(), String> {
        self.sector.clear();
        self.blocks = 0;
        self.metadata.clone_from(&manifest.metadata);
        Ok(())
    }

    fn buffer(&mut self, size: usize) -> &mut [u8] {
        self.buffer.resize(size, 0);
        &mut self.buffer
    }

    async fn block(&mut self, block: u32) -> Result<(), String> {
        if self.fail_at == Some(block) {
            return Err("the disk is full".to_owned());
        }
        assert_eq!(block, self.blocks);
        self.sector.extend_from_slice(&self.buffer);
        self.blocks += 1;
        Ok(())
    }
}

/// An authenticated socket without the client on it: what follows the handshake is the test's affair.
pub(crate) async fn raw_connection(address: SocketAddr, secret: &ClusterSecret) -> std::net::TcpStream {
    cluster::testing::raw_transfer_connection(address, secret).await
}
