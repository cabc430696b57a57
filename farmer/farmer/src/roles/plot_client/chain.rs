//! What the plot-client knows of the chain as time goes by: the protocol's parameters, the newest segment.

use cluster::contract::{FarmerAppInfoRequest, SegmentHeaderBroadcast, SegmentHeadersRequest};
use cluster::{Backoff, ClientError, ClusterClient};
use primitives::rpc::MAX_SEGMENT_HEADERS_PER_REQUEST;
use primitives::{FarmerProtocolInfo, HistorySize, SegmentCommitment, SegmentIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

/// How often the history's size is asked for, should an announcement have been lost.
const REFRESH: Duration = Duration::from_secs(60);
/// How often a controller is asked again whose node does not know the newest segment yet.
const CATCH_UP: Duration = Duration::from_millis(500);
/// Waits between attempts to reach a controller.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Follows the chain.
#[derive(Debug)]
pub struct ChainFeed {
    client: ClusterClient,
    newest: watch::Sender<SegmentIndex>,
}

impl ChainFeed {
    /// Begins with a history of this size.
    pub fn new(client: ClusterClient, history_size: HistorySize) -> Self {
        Self { client, newest: watch::Sender::new(history_size.segment_index()) }
    }

    /// The newest segment, from now on.
    pub fn newest(&self) -> watch::Receiver<SegmentIndex> {
        self.newest.subscribe()
    }

    fn saw(&self, segment: SegmentIndex) {
        self.newest.send_if_modified(|newest| {
            let newer = segment > *newest;
            if newer {
                tracing::info!(%segment, "A segment was archived");
                *newest = segment;
            }
            newer
        });
    }

    /// Listens to announced segments, and asks now and then; never ends.
    pub async fn follow(&self) {
        loop {
            let Ok(mut headers) = self.client.listen::<SegmentHeaderBroadcast>().await else {
                tokio::time::sleep(REFRESH).await;
                continue;
            };
            loop {
                match tokio::time::timeout(REFRESH, headers.next()).await {
                    Ok(Some(broadcast)) => self.saw(broadcast.header.segment_index()),
                    Ok(None) => break,
                    Err(_) => match self.ask().await {
                        Ok(_) => {}
                        Err(error) => tracing::debug!("No controller tells the history's size: {error}"),
                    },
                }
            }
        }
    }

    async fn ask(&self) -> Result<FarmerProtocolInfo, ClientError> {
        let info = self.client.request(&FarmerAppInfoRequest).await?.protocol_info;
        self.saw(info.history_size.segment_index());
        Ok(info)
    }

    /// The protocol's parameters at a history size that is up to date and, if given, above `above`; waits for them.
    pub async fn protocol_info(&self, above: Option<HistorySize>) -> FarmerProtocolInfo {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match self.ask().await {
                Ok(info) => {
                    let newest = HistorySize::from(*self.newest.borrow());
                    if info.history_size >= newest && above.is_none_or(|above| info.history_size > above) {
                        return info;
                    }
                    tokio::time::sleep(CATCH_UP).await;
                }
                Err(error) => {
                    tracing::debug!("No controller tells the protocol's parameters: {error}");
                    backoff.wait().await;
                }
            }
        }
    }

    /// The commitments of `segments`, as far as a controller knows them.
    ///
    /// # Errors
    /// When none answers.
    pub async fn commitments(
        &self,
        segments: &BTreeSet<SegmentIndex>,
    ) -> Result<BTreeMap<SegmentIndex, SegmentCommitment>, ClientError> {
        let indices: Vec<SegmentIndex> = segments.iter().copied().collect();
        let mut commitments = BTreeMap::new();
        for indices in indices.chunks(MAX_SEGMENT_HEADERS_PER_REQUEST) {
            let headers = self.client.request(&SegmentHeadersRequest { indices: indices.to_vec() }).await?;
            for (index, header) in indices.iter().zip(headers) {
                if let Some(header) = header.filter(|header| header.segment_index() == *index) {
                    commitments.insert(*index, header.segment_commitment());
                }
            }
        }
        Ok(commitments)
    }
}
