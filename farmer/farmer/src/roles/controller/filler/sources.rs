//! Where the leader takes the pieces of a segment from: the node's memory, other caches, reconstruction from half of them. What is
//! in none of these is archived again ([`super::from_blocks`]).

use super::segment::SegmentPieces;
use super::views::{CacheMember, Views};
use crate::roles::controller::headers::Headers;
use archiving::Kzg;
use archiving::reconstruction::reconstruct_pieces;
use cluster::transfer::{FetchOutcome, ItemType, TransferError, TransferPool};
use futures::stream::{self, StreamExt};
use node::NodeClient;
use parking_lot::Mutex;
use primitives::rpc::GenesisHash;
use primitives::{Piece, PieceIndex, SegmentIndex};
use rayon::ThreadPool;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Pieces asked of the node at once; its client has the same bound.
const NODE_REQUESTS: usize = 10;
/// Pieces of a segment that are enough to reconstruct the others.
pub const ENOUGH_TO_RECONSTRUCT: usize = SegmentIndex::NUM_PIECES / 2;

/// Where the pieces of segments come from.
pub struct Sources {
    /// The node.
    pub node: NodeClient,
    /// Checks what arrives.
    pub kzg: Kzg,
    /// The chain.
    pub genesis: GenesisHash,
    /// Its headers.
    pub headers: Arc<Headers>,
    /// Connections to caches.
    pub pool: TransferPool,
    /// For seconds of computation that nobody waits for.
    pub threads: Arc<ThreadPool>,
}

/// Which sources may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// The node's memory and the caches.
    Quick,
    /// These, and reconstruction from what caches hold of the segment.
    Any,
}

impl Sources {
    /// Collects the `wanted` pieces of a segment from caches and the node's memory; what could not be had is not there,
    /// and the reason is logged. None when there is no such segment.
    pub async fn collect_quick(
        &self,
        segment: SegmentIndex,
        wanted: &BTreeSet<PieceIndex>,
        views: &Mutex<Views>,
    ) -> Option<SegmentPieces> {
        let pieces = SegmentPieces::new(self.headers.get(segment)?);
        let pieces = self.take_from_caches(pieces, wanted, views).await;
        if self.is_in_node_memory(segment) {
            return Some(self.take_from_node(pieces, wanted).await);
        }
        Some(pieces)
    }

    /// Whether the node serves a segment's pieces: it keeps its newest segment in memory, and makes segment 0 anew.
    pub fn is_in_node_memory(&self, segment: SegmentIndex) -> bool {
        segment.0 == 0 || self.headers.count().checked_sub(1) == Some(segment.0)
    }

    /// Makes a segment from half of its pieces, fetched from caches; less where they have less. None when there is no such
    /// segment.
    pub async fn reconstruct(&self, segment: SegmentIndex, views: &Mutex<Views>) -> Option<SegmentPieces> {
        let pieces = SegmentPieces::new(self.headers.get(segment)?);
        let all = segment.piece_indices().collect();
        let pieces = self.take_from_caches(pieces, &all, views).await;
        Some(self.complete(pieces).await)
    }

    /// Takes from the node's memory what it has.
    async fn take_from_node(&self, pieces: SegmentPieces, wanted: &BTreeSet<PieceIndex>) -> SegmentPieces {
        let missing = pieces.missing(wanted);
        let Some(&first) = missing.first() else { return pieces };
        // One piece tells whether it has the segment at all.
        let mut fetched = Vec::with_capacity(missing.len());
        match self.node.piece(first).await {
            Ok(Some(piece)) => fetched.push((first, piece)),
            Ok(None) => return pieces,
            Err(error) => {
                tracing::warn!(%error, segment = pieces.index().0, "The node gives no pieces");
                return pieces;
            }
        }
        let mut asking = stream::iter(missing[1..].iter().copied())
            .map(|index| async move { (index, self.node.piece(index).await) })
            .buffer_unordered(NODE_REQUESTS);
        while let Some((index, piece)) = asking.next().await {
            match piece {
                Ok(Some(piece)) => fetched.push((index, piece)),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, %index, "The node does not give a piece"),
            }
        }
        drop(asking);
        let (pieces, bad) = self.check(pieces, fetched).await;
        if !bad.is_empty() {
            tracing::error!(
                pieces = ?bad,
                reference_string = %self.kzg.srs_kind(),
                "The node gave pieces that do not belong to their segment; is this the chain's reference string?"
            );
        }
        pieces
    }

    /// Fetches from caches what some of them have.
    async fn take_from_caches(
        &self,
        mut pieces: SegmentPieces,
        wanted: &BTreeSet<PieceIndex>,
        views: &Mutex<Views>,
    ) -> SegmentPieces {
        // A cache that fails or lies is not asked for the same piece again: at most one round for each holder.
        let mut tried: BTreeSet<(PieceIndex, SocketAddr)> = BTreeSet::new();
        loop {
            let mut by_cache: BTreeMap<SocketAddr, (CacheMember, Vec<PieceIndex>)> = BTreeMap::new();
            for index in pieces.missing(wanted) {
                let views = views.lock();
                let holder = views.holders(index).find(|holder| !tried.contains(&(index, holder.address)));
                if let Some(holder) = holder {
                    tried.insert((index, holder.address));
                    by_cache.entry(holder.address).or_insert_with(|| (holder, Vec::new())).1.push(index);
                }
            }
            if by_cache.is_empty() {
                return pieces;
            }
            for (cache, indices) in by_cache.into_values() {
                pieces = self.take_from_cache(pieces, cache, &indices, views).await;
            }
        }
    }

    async fn take_from_cache(
        &self,
        pieces: SegmentPieces,
        cache: CacheMember,
        indices: &[PieceIndex],
        views: &Mutex<Views>,
    ) -> SegmentPieces {
        let fetched = match self.fetch(cache.address, indices).await {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(%error, cache = %cache.instance, "A cache gives no pieces");
                return pieces;
            }
        };
        for index in indices.iter().filter(|index| !fetched.iter().any(|(fetched, _)| fetched == *index)) {
            views.lock().lacks(cache.instance, *index);
        }
        let (pieces, bad) = self.check(pieces, fetched).await;
        for index in bad {
            tracing::error!(cache = %cache.instance, %index, "A cache holds a piece that does not belong to the history");
        }
        pieces
    }

    /// What the cache gives before it fails, if it gives anything.
    async fn fetch(
        &self,
        address: SocketAddr,
        indices: &[PieceIndex],
    ) -> Result<Vec<(PieceIndex, Piece)>, TransferError> {
        let mut connection = self.pool.get(address).await?;
        let mut pieces = connection.fetch_pieces(ItemType::Piece, indices);
        let mut fetched = Vec::new();
        let mut buffer = Piece::zeroed();
        loop {
            match pieces.next(buffer.as_bytes_mut()).await {
                Ok(Some((index, FetchOutcome::Found(_)))) => {
                    fetched.push((index, std::mem::replace(&mut buffer, Piece::zeroed())));
                }
                Ok(Some(_)) => {}
                Err(error) if fetched.is_empty() => return Err(error),
                Ok(None) | Err(_) => return Ok(fetched),
            }
        }
    }

    async fn complete(&self, pieces: SegmentPieces) -> SegmentPieces {
        if pieces.len() < ENOUGH_TO_RECONSTRUCT {
            return pieces;
        }
        tracing::info!(
            segment = pieces.index().0,
            from = pieces.len(),
            "Reconstructs the segment from the pieces there are"
        );
        let (kzg, threads) = (self.kzg.clone(), Arc::clone(&self.threads));
        let working = tokio::task::spawn_blocking(move || {
            let indices = pieces.index().piece_indices();
            let present: Vec<Option<Piece>> =
                indices.map(|index| Some(pieces.get(index)?.piece.clone())).collect();
            let mut pieces = pieces;
            match threads.install(|| reconstruct_pieces(&kzg, &present)) {
                Ok(restored) => pieces.add_archived(restored),
                Err(error) => {
                    tracing::error!(%error, segment = pieces.index().0, "The segment cannot be reconstructed")
                }
            }
            pieces
        });
        working.await.expect("reconstruction does not panic")
    }

    async fn check(
        &self,
        mut pieces: SegmentPieces,
        fetched: Vec<(PieceIndex, Piece)>,
    ) -> (SegmentPieces, Vec<PieceIndex>) {
        if fetched.is_empty() {
            return (pieces, Vec::new());
        }
        let kzg = self.kzg.clone();
        let checking = tokio::task::spawn_blocking(move || {
            let bad = pieces.check_and_add(&kzg, fetched);
            (pieces, bad)
        });
        checking.await.expect("verification does not panic")
    }
}
