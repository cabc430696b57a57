//! Pieces that no cache has: recovered from others of their segment, or asked of a controller.

use super::collection::{Collection, Fetch};
use super::sources::{PieceSources, Source};
use crate::roles::items;
use archiving::Kzg;
use archiving::reconstruction::reconstruct_pieces;
use async_trait::async_trait;
use cluster::ClusterClient;
use cluster::contract::PieceRequest;
use futures::StreamExt;
use primitives::{Piece, PieceIndex, SegmentIndex};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Segments recovered for one sector before others are asked: each takes about a minute of two cores.
const SEGMENTS_MAX: usize = 4;
/// Pieces of a segment that are needed, any of them.
const NEEDED: usize = SegmentIndex::NUM_RAW_RECORDS;
/// Pieces asked of controllers at once; each is two megabytes of the node's JSON.
const REQUESTS_IN_FLIGHT: usize = 4;
/// Pieces asked of controllers in one round.
const REQUESTS_MAX: usize = 256;

/// Recovers missing pieces from any 128 others of their segments, one segment at a time.
pub struct Reconstruction {
    /// Where the others come from, as plain pieces. It shares no requests with those that wait for this.
    pub others: PieceSources,
    /// For commitments and witnesses.
    pub kzg: Kzg,
    /// Where it is computed.
    pub pool: Arc<rayon::ThreadPool>,
    /// Lets one segment pass at a time.
    pub turn: tokio::sync::Mutex<()>,
}

impl Reconstruction {
    /// At least 128 good pieces of a segment.
    async fn gather(
        &self,
        segment: SegmentIndex,
        missing: &BTreeSet<PieceIndex>,
    ) -> Option<Vec<Option<Piece>>> {
        let others = segment.piece_indices_source_first().filter(|index| !missing.contains(index));
        let others: Vec<_> = others.collect();
        let mut places: Vec<Option<Piece>> = (0..SegmentIndex::NUM_PIECES).map(|_| None).collect();
        let mut found = 0;
        // No more than are needed, unless some of those are missing.
        let (first, rest) = others.split_at(NEEDED.min(others.len()));
        for part in [first, rest] {
            let collection = Collection::new(part.iter().copied().collect());
            self.others.ask_around(&collection).await;
            for (index, piece) in collection.into_pieces() {
                places[index.position()] = Some(items::into_piece(piece));
                found += 1;
            }
            if found >= NEEDED {
                return Some(places);
            }
        }
        tracing::debug!(%segment, found, "Too few pieces of a segment to recover it");
        None
    }
}

#[async_trait]
impl Source for Reconstruction {
    fn name(&self) -> &'static str {
        "reconstruction"
    }

    async fn fetch(&self, fetch: &Fetch<'_>) {
        let _turn = self.turn.lock().await;
        let missing = fetch.missing();
        let segments: BTreeSet<_> = missing.iter().map(|index| index.segment_index()).collect();
        let from: Arc<str> = "reconstruction".into();
        for segment in segments.into_iter().take(SEGMENTS_MAX) {
            let begun = Instant::now();
            let Some(places) = self.gather(segment, &missing).await else { continue };
            tracing::info!(%segment, "Recovering missing pieces of a segment from others");
            let (kzg, pool) = (self.kzg.clone(), Arc::clone(&self.pool));
            let recovery =
                tokio::task::spawn_blocking(move || pool.install(|| reconstruct_pieces(&kzg, &places)));
            match recovery.await {
                Ok(Ok(pieces)) => {
                    for (index, piece) in segment.piece_indices().zip(pieces) {
                        fetch.put(index, piece, &from, begun);
                    }
                }
                Ok(Err(error)) => tracing::error!(%segment, "A segment cannot be recovered: {error}"),
                Err(error) => tracing::error!(%segment, %error, "A recovery failed"),
            }
        }
    }
}

/// Asks controllers, whose nodes have the newest segment.
pub struct Controllers {
    /// The cluster.
    pub client: ClusterClient,
}

#[async_trait]
impl Source for Controllers {
    fn name(&self) -> &'static str {
        "controllers"
    }

    fn is_quick(&self) -> bool {
        true
    }

    async fn fetch(&self, fetch: &Fetch<'_>) {
        let from: Arc<str> = "a controller".into();
        let from = &from;
        let missing: Vec<_> = fetch.missing().into_iter().take(REQUESTS_MAX).collect();
        let requests = missing.into_iter().map(|index| async move {
            let asked = Instant::now();
            match self.client.request(&PieceRequest { index }).await {
                Ok(Some(piece)) => fetch.put(index, piece, from, asked),
                Ok(None) => {}
                Err(error) => tracing::debug!(%index, "No piece from a controller: {error}"),
            }
        });
        futures::stream::iter(requests)
            .buffer_unordered(REQUESTS_IN_FLIGHT)
            .for_each(|()| std::future::ready(()))
            .await;
    }
}
