//! Checks pieces against the commitments of their segments: a cache may be damaged or lie, and a sector of bad pieces
//! would cost its plotting time and earn nothing for as long as it lives.

use super::collect::{Arrival, Check};
use archiving::Kzg;
use archiving::verification::{InvalidPiece, PieceToVerify, verify_pieces};
use async_trait::async_trait;
use cluster::ClusterClient;
use cluster::contract::SegmentHeadersRequest;
use parking_lot::Mutex;
use primitives::rpc::MAX_SEGMENT_HEADERS_PER_REQUEST;
use primitives::{SegmentCommitment, SegmentIndex};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Commitments of segments, asked of controllers once each.
#[derive(Debug)]
pub struct SegmentCommitments {
    client: ClusterClient,
    known: Mutex<HashMap<SegmentIndex, SegmentCommitment>>,
}

impl SegmentCommitments {
    /// Knows none yet.
    pub fn new(client: ClusterClient) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The commitments of `segments`, as far as they exist and a controller answers.
    pub async fn get(&self, segments: &BTreeSet<SegmentIndex>) -> HashMap<SegmentIndex, SegmentCommitment> {
        let unknown: Vec<SegmentIndex> = {
            let known = self.known.lock();
            segments.iter().filter(|segment| !known.contains_key(segment)).copied().collect()
        };
        for indices in unknown.chunks(MAX_SEGMENT_HEADERS_PER_REQUEST) {
            match self.client.request(&SegmentHeadersRequest { indices: indices.to_vec() }).await {
                Ok(headers) => {
                    let mut known = self.known.lock();
                    for (index, header) in indices.iter().zip(headers) {
                        if let Some(header) = header.filter(|header| header.segment_index() == *index) {
                            known.insert(*index, header.segment_commitment());
                        }
                    }
                }
                Err(error) => tracing::warn!("No segment headers: {error}"),
            }
        }
        let known = self.known.lock();
        segments.iter().filter_map(|segment| Some((*segment, *known.get(segment)?))).collect()
    }
}

/// Checks pieces together, which costs about a second of CPU for 256 of them; only where there are bad ones among them it
/// costs more, to find out which.
pub struct PieceCheck {
    kzg: Kzg,
    commitments: Arc<SegmentCommitments>,
    pool: Arc<rayon::ThreadPool>,
}

impl PieceCheck {
    /// Checks under this reference string in this pool.
    pub fn new(kzg: Kzg, commitments: Arc<SegmentCommitments>, pool: Arc<rayon::ThreadPool>) -> Self {
        Self { kzg, commitments, pool }
    }
}

#[async_trait]
impl Check for PieceCheck {
    async fn check(&self, arrivals: Vec<Arrival>) -> Result<Vec<Arrival>, Vec<Arrival>> {
        let segments: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.index.segment_index()).collect();
        let commitments = self.commitments.get(&segments).await;
        if commitments.len() < segments.len() {
            tracing::warn!("Pieces cannot be checked before a controller tells their segments' commitments");
            return Err(arrivals);
        }
        let (kzg, pool) = (self.kzg.clone(), Arc::clone(&self.pool));
        let checked =
            tokio::task::spawn_blocking(move || pool.install(|| sort_out(&kzg, &commitments, arrivals)));
        // Pieces lost in a defect are fetched again.
        Ok(checked.await.unwrap_or_default())
    }
}

/// The good ones among `arrivals`.
fn sort_out(
    kzg: &Kzg,
    commitments: &HashMap<SegmentIndex, SegmentCommitment>,
    arrivals: Vec<Arrival>,
) -> Vec<Arrival> {
    let pieces: Vec<_> = arrivals
        .iter()
        .map(|Arrival { index, piece, .. }| PieceToVerify {
            piece,
            segment_commitment: commitments[&index.segment_index()],
            position: index.position(),
        })
        .collect();
    let verdicts = verify_pieces(kzg, &pieces);
    drop(pieces);
    let good = |(arrival, verdict): (Arrival, Result<(), InvalidPiece>)| {
        let Arrival { index, from, .. } = &arrival;
        match verdict {
            Ok(()) => Some(arrival),
            Err(reason) => {
                tracing::error!(%index, %from, "A piece does not belong to the history and is not used: {reason}");
                None
            }
        }
    };
    arrivals.into_iter().zip(verdicts).filter_map(good).collect()
}
