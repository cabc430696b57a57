//! Stands in for the node: answers the cluster's questions about the chain.

use crate::roles::Error;
use crate::roles::RoleContext;
use crate::roles::controller::headers::Headers;
use crate::roles::controller::solutions::Submissions;
use archiving::{Kzg, PieceToVerify, verify_pieces_together};
use cluster::ClusterClient;
use cluster::contract::{
    FarmerAppInfoRequest, PieceRequest, Refusal, RewardSignatureSubmission, SegmentHeadersRequest,
    SolutionSubmission,
};
use node::NodeClient;
use primitives::{FarmerAppInfo, Piece, PieceIndex, SegmentHeader};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long what the node said of the chain is good for.
const INFO_LIFETIME: Duration = Duration::from_secs(1);
/// How often the node is asked for headers that it did not have.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Requests of one kind in hand at once.
const CONCURRENCY: usize = 32;
/// Pieces in hand at once: each is 1 MB and costs half a second of CPU to verify.
const PIECE_CONCURRENCY: usize = 4;

/// The node, as the cluster sees it.
pub struct Proxy {
    node: NodeClient,
    kzg: Kzg,
    headers: Arc<Headers>,
    submissions: Submissions,
    info: Mutex<Option<(Instant, FarmerAppInfo)>>,
    refreshed: Mutex<Option<Instant>>,
}

impl Proxy {
    /// A proxy of `node`.
    pub fn new(node: NodeClient, kzg: Kzg, headers: Arc<Headers>, submissions: Submissions) -> Self {
        Self { node, kzg, headers, submissions, info: Mutex::default(), refreshed: Mutex::default() }
    }

    /// What the node says of the chain, at most a second old.
    ///
    /// # Errors
    /// Those of the node.
    pub async fn info(&self) -> Result<FarmerAppInfo, node::Error> {
        // Held while the node is asked: who comes meanwhile gets the same answer.
        let mut info = self.info.lock().await;
        if let Some((asked, info)) = &*info
            && asked.elapsed() < INFO_LIFETIME
        {
            return Ok(info.clone());
        }
        let fresh = self.node.farmer_app_info().await?;
        *info = Some((Instant::now(), fresh.clone()));
        Ok(fresh)
    }

    /// Headers in the order asked for; the node is asked for those that are not here, at most once a second.
    pub async fn segment_headers(&self, request: SegmentHeadersRequest) -> Vec<Option<SegmentHeader>> {
        let count = self.headers.count();
        if request.indices.iter().any(|index| index.0 >= count) {
            let mut refreshed = self.refreshed.lock().await;
            if refreshed.is_none_or(|last| last.elapsed() >= REFRESH_INTERVAL) {
                *refreshed = Some(Instant::now());
                if let Err(error) = self.headers.refresh(&self.node).await {
                    tracing::debug!(%error, "Segment headers could not be refreshed");
                }
            }
        }
        request.indices.into_iter().map(|index| self.headers.get(index)).collect()
    }

    /// A piece that the node still has, verified.
    ///
    /// # Errors
    /// Those of the node, and when its piece is not that of the chain.
    pub async fn piece(&self, index: PieceIndex) -> Result<Option<Piece>, Refusal> {
        let Some(header) = self.headers.get(index.segment_index()) else { return Ok(None) };
        let Some(piece) = self.node.piece(index).await.map_err(Refusal::unavailable)? else {
            return Ok(None);
        };
        let kzg = self.kzg.clone();
        let verifying = tokio::task::spawn_blocking(move || {
            let segment_commitment = header.segment_commitment();
            let entry = PieceToVerify { piece: &piece, segment_commitment, position: index.position() };
            verify_pieces_together(&kzg, &[entry]).then_some(piece)
        });
        match verifying.await.map_err(Refusal::failed)? {
            Some(piece) => Ok(Some(piece)),
            None => {
                tracing::error!(%index, "The node gave a piece that does not belong to its segment");
                Err(Refusal::failed(format_args!("the node's piece {index} does not belong to its segment")))
            }
        }
    }

    /// Answers requests for as long as the context lives.
    ///
    /// # Errors
    /// When the connection to NATS is closed.
    pub async fn serve(self: Arc<Self>, client: &ClusterClient, context: &RoleContext) -> Result<(), Error> {
        let instance = context.instance;
        let proxy = Arc::clone(&self);
        let info = client.serve_queue(CONCURRENCY, move |FarmerAppInfoRequest| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.info().await.map_err(Refusal::unavailable) }
        });
        let proxy = Arc::clone(&self);
        let headers = client.serve_queue(CONCURRENCY, move |request: SegmentHeadersRequest| {
            let proxy = Arc::clone(&proxy);
            async move { Ok(proxy.segment_headers(request).await) }
        });
        let proxy = Arc::clone(&self);
        let pieces = client.serve_queue(PIECE_CONCURRENCY, move |request: PieceRequest| {
            let proxy = Arc::clone(&proxy);
            async move { proxy.piece(request.index).await }
        });
        let proxy = Arc::clone(&self);
        let solutions =
            client.serve_instance(instance, CONCURRENCY, move |submission: SolutionSubmission| {
                let proxy = Arc::clone(&proxy);
                async move { proxy.submissions.solution(submission).await }
            });
        let signatures =
            client.serve_instance(instance, CONCURRENCY, move |submission: RewardSignatureSubmission| {
                let proxy = Arc::clone(&self);
                async move { Ok(proxy.submissions.signature(submission).await) }
            });
        context.keep_serving([
            info.await?,
            headers.await?,
            pieces.await?,
            solutions.await?,
            signatures.await?,
        ]);
        Ok(())
    }
}
