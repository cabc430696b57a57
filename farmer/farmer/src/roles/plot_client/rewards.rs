//! Reward signatures: a node waits half a second for one.

use super::handle::FarmHandle;
use super::metrics::Metrics;
use cluster::ClusterClient;
use cluster::client::Broadcasts;
use cluster::contract::{RewardSignatureOutcome, RewardSignatureSubmission, RewardSigningBroadcast};
use primitives::RewardSignatureResponse;
use std::sync::Arc;

/// Signs what the farms are asked to sign until the connection is closed.
pub async fn run(
    client: ClusterClient,
    handles: Vec<Arc<FarmHandle>>,
    metrics: Metrics,
    mut requests: Broadcasts<RewardSigningBroadcast>,
) {
    while let Some(RewardSigningBroadcast { controller, info }) = requests.next().await {
        let Some(handle) = handles.iter().find(|handle| handle.public_key() == info.public_key) else {
            continue;
        };
        let signature = handle.farm.identity().sign_reward_hash(&info.hash);
        let response = RewardSignatureResponse { hash: info.hash, signature: Some(signature) };
        let (client, metrics) = (client.clone(), metrics.clone());
        tokio::spawn(async move {
            match client.request_instance(controller, &RewardSignatureSubmission { response }).await {
                Ok(RewardSignatureOutcome::Accepted) => {
                    metrics.reward_signatures.inc();
                    tracing::info!(hash = %info.hash, "Reward signature accepted");
                }
                Ok(RewardSignatureOutcome::Rejected { reason }) => {
                    tracing::warn!(hash = %info.hash, "Reward signature rejected: {reason}");
                }
                Err(error) => tracing::warn!(hash = %info.hash, "Reward signature not delivered: {error}"),
            }
        });
    }
}
