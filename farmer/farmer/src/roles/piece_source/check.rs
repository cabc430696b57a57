//! Checks pieces against the commitments of their segments: a cache may be damaged or lie, and a sector of bad pieces
//! would cost its plotting time and earn nothing for as long as it lives.

use super::collection::Arrival;
use super::sources::Check;
use crate::roles::items::verification::{ItemToVerify, ParityCheck, verify_items};
use archiving::Kzg;
use async_trait::async_trait;
use cluster::ClusterClient;
use cluster::contract::SegmentHeadersRequest;
use farming::encoding::PieceInput;
use parking_lot::Mutex;
use primitives::rpc::MAX_SEGMENT_HEADERS_PER_REQUEST;
use primitives::{SegmentCommitment, SegmentIndex};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Pieces checked together where some come with their parity: for as long there is their plain form, too, a megabyte each.
const SPLIT_CHECKED_AT_ONCE: usize = 256;

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
    parity: Arc<ParityCheck>,
    commitments: Arc<SegmentCommitments>,
    pool: Arc<rayon::ThreadPool>,
}

impl PieceCheck {
    /// Checks under this reference string in this pool.
    pub fn new(kzg: Kzg, commitments: Arc<SegmentCommitments>, pool: Arc<rayon::ThreadPool>) -> Self {
        Self { kzg, parity: Arc::default(), commitments, pool }
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
        let (kzg, parity, pool) = (self.kzg.clone(), Arc::clone(&self.parity), Arc::clone(&self.pool));
        let checked = tokio::task::spawn_blocking(move || {
            pool.install(|| sort_out(&kzg, &parity, &commitments, arrivals))
        });
        // Pieces lost in a defect are fetched again.
        Ok(checked.await.unwrap_or_default())
    }
}

/// The good ones among `arrivals`.
fn sort_out(
    kzg: &Kzg,
    parity: &ParityCheck,
    commitments: &HashMap<SegmentIndex, SegmentCommitment>,
    arrivals: Vec<Arrival>,
) -> Vec<Arrival> {
    let any_split = arrivals.iter().any(|arrival| matches!(arrival.piece, PieceInput::SplitParity(_)));
    let at_once = if any_split { SPLIT_CHECKED_AT_ONCE } else { arrivals.len() };
    let mut good = Vec::with_capacity(arrivals.len());
    let mut arrivals = arrivals.into_iter().peekable();
    while arrivals.peek().is_some() {
        let part: Vec<Arrival> = arrivals.by_ref().take(at_once).collect();
        let to_verify = part.iter().map(|Arrival { index, piece, .. }| ItemToVerify {
            index: *index,
            item: piece,
            segment_commitment: commitments[&index.segment_index()],
        });
        let verdicts = verify_items(kzg, parity, &to_verify.collect::<Vec<_>>());
        for (arrival, verdict) in part.into_iter().zip(verdicts) {
            let Arrival { index, from, .. } = &arrival;
            match verdict {
                Ok(()) => good.push(arrival),
                Err(reason) => {
                    tracing::error!(%index, %from, "A piece does not belong to the history and is not used: {reason}");
                }
            }
        }
    }
    good
}
