//! Messages to caches; both kinds answer the same ones.

use super::{Broadcast, InstanceRequest, Payload, Request, check_text};
use parity_scale_codec::{Decode, Encode};
use primitives::PieceIndex;
use std::time::Duration;

/// Most bytes of the bitmap in one [`Contents`]: 8,388,608 pieces, 8 TiB of history.
pub const MAX_CONTENTS_BYTES: usize = 1024 * 1024;

/// A set of pieces as a bitmap: bit `i % 8` of byte `i / 8`, least significant first, stands for piece `first + i`.
#[derive(Clone, PartialEq, Eq, Encode, Decode, Default)]
pub struct PieceSet {
    first: PieceIndex,
    bits: Vec<u8>,
}

impl PieceSet {
    /// An empty set that begins at `first`.
    pub fn starting_at(first: PieceIndex) -> Self {
        Self { first, bits: Vec::new() }
    }

    /// The first piece that the set can hold.
    pub fn first(&self) -> PieceIndex {
        self.first
    }

    /// Adds a piece; false, and nothing added, when it lies outside of what one set can hold.
    pub fn insert(&mut self, index: PieceIndex) -> bool {
        let Some(bit) = index.0.checked_sub(self.first.0) else { return false };
        let byte = (bit / 8) as usize;
        if bit / 8 >= MAX_CONTENTS_BYTES as u64 {
            return false;
        }
        if byte >= self.bits.len() {
            self.bits.resize(byte + 1, 0);
        }
        self.bits[byte] |= 1 << (bit % 8);
        true
    }

    /// Whether the piece is in the set.
    pub fn contains(&self, index: PieceIndex) -> bool {
        index.0.checked_sub(self.first.0).is_some_and(|bit| {
            usize::try_from(bit / 8)
                .ok()
                .and_then(|byte| self.bits.get(byte))
                .is_some_and(|byte| byte & (1 << (bit % 8)) != 0)
        })
    }

    /// Number of pieces.
    pub fn len(&self) -> u64 {
        self.bits.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }

    /// Whether there is no piece.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|&byte| byte == 0)
    }

    /// The pieces, ascending.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> {
        let first = self.first.0;
        // No bit is set beyond the last piece index: `insert` and the check of `Contents` see to that.
        (0_u64..).zip(&self.bits).flat_map(move |(place, &byte)| {
            let set = (0..8).filter(move |bit| byte & (1 << bit) != 0);
            set.map(move |bit| PieceIndex(first + 8 * place + bit))
        })
    }
}

impl std::fmt::Debug for PieceSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PieceSet").field("first", &self.first).field("pieces", &self.len()).finish()
    }
}

/// Asks which pieces a cache holds, from a piece on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ContentsRequest {
    /// First piece that is asked about.
    pub from: PieceIndex,
}

impl Payload for ContentsRequest {
    const MAX_BYTES: usize = 8;
}

impl Request for ContentsRequest {
    type Reply = Contents;
    const SUBJECT: &'static str = "cache.contents";
    const DEADLINE: Duration = Duration::from_secs(10);
}

impl InstanceRequest for ContentsRequest {}

/// What a cache holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Contents {
    /// Pieces held, beginning at the one that was asked for.
    pub pieces: PieceSet,
    /// Where to ask on, when the cache holds pieces beyond this set.
    pub next: Option<PieceIndex>,
}

impl Contents {
    /// Makes the answer to a request of all `held` pieces, ascending.
    pub fn collect(from: PieceIndex, held: impl IntoIterator<Item = PieceIndex>) -> Self {
        let mut pieces = PieceSet::starting_at(from);
        let mut next = None;
        for index in held {
            if index >= from && !pieces.insert(index) {
                next = Some(index);
                break;
            }
        }
        Self { pieces, next }
    }
}

impl Payload for Contents {
    const MAX_BYTES: usize = MAX_CONTENTS_BYTES + 64;

    fn check(&self) -> Result<(), &'static str> {
        if self.pieces.bits.len() > MAX_CONTENTS_BYTES {
            return Err("a bitmap of more than 1 MiB");
        }
        if self.pieces.first.0.checked_add(self.pieces.bits.len() as u64 * 8).is_none() {
            return Err("a bitmap that goes beyond the last piece index");
        }
        if self.next.is_some_and(|next| next <= self.pieces.first) {
            return Err("contents that go on before they begin");
        }
        Ok(())
    }
}

/// Asks a cache how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct CacheStatusRequest;

impl Payload for CacheStatusRequest {
    const MAX_BYTES: usize = 0;
}

impl Request for CacheStatusRequest {
    type Reply = CacheStatus;
    const SUBJECT: &'static str = "cache.status";
    const DEADLINE: Duration = Duration::from_secs(5);
}

impl InstanceRequest for CacheStatusRequest {}

/// What a cache is doing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CacheState {
    /// It serves and takes pieces.
    #[codec(index = 0)]
    Ready,
    /// It verifies what it holds; it serves meanwhile.
    #[codec(index = 1)]
    Verifying {
        /// Pieces verified.
        done: u64,
        /// Pieces to verify.
        of: u64,
    },
    /// It takes no pieces: its disk is full or fails.
    #[codec(index = 2)]
    ReadOnly {
        /// Why.
        reason: String,
    },
}

/// How a cache is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CacheStatus {
    /// What it is doing.
    pub state: CacheState,
    /// Pieces held.
    pub pieces: u64,
    /// Most pieces it may hold; none: as many as the disk takes.
    pub capacity_pieces: Option<u64>,
    /// Damaged pieces removed since it started.
    pub damaged_pieces: u64,
}

impl Payload for CacheStatus {
    const MAX_BYTES: usize = 2048;

    fn check(&self) -> Result<(), &'static str> {
        match &self.state {
            CacheState::ReadOnly { reason } => check_text(reason),
            CacheState::Ready | CacheState::Verifying { .. } => Ok(()),
        }
    }
}

/// Tells every cache to announce itself anew, verify what it holds and be filled again; nothing valid is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ReinitializeBroadcast {
    /// How long to wait first.
    pub delay_ms: u32,
}

impl Payload for ReinitializeBroadcast {
    const MAX_BYTES: usize = 4;
}

impl Broadcast for ReinitializeBroadcast {
    const SUBJECT: &'static str = "cache.reinitialize";
}
