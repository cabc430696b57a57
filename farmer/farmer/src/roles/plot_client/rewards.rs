//! Reward signatures: a node waits half a second for one.
//!
//! The same block or vote may be asked for by several controllers, whose nodes show it to each other. It is signed once, and
//! that one signature goes to each of them.

use super::handle::FarmHandle;
use super::metrics::Metrics;
use cluster::ClusterClient;
use cluster::client::Broadcasts;
use cluster::contract::{RewardSignatureOutcome, RewardSignatureSubmission, RewardSigningBroadcast};
use primitives::{Blake3Hash, PublicKey, RewardSignatureResponse, Signature};
use std::collections::VecDeque;
use std::sync::Arc;

/// Signatures that are remembered: a node asks for ten in a slot at most.
const REMEMBERED: usize = 256;

/// The newest signatures.
#[derive(Default)]
struct Signatures(VecDeque<(PublicKey, Blake3Hash, Signature)>);

impl Signatures {
    /// The signature of a farm over a hash, made unless it was before.
    fn get(&mut self, handle: &FarmHandle, hash: &Blake3Hash) -> Signature {
        let key = handle.public_key();
        if let Some((.., known)) = self.0.iter().find(|(farm, signed, _)| *farm == key && signed == hash) {
            return *known;
        }
        let signature = handle.farm.identity().sign_reward_hash(hash);
        self.0.push_back((key, *hash, signature));
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
        signature
    }
}

/// Signs what the farms are asked to sign until the connection is closed.
pub async fn run(
    client: ClusterClient,
    handles: Vec<Arc<FarmHandle>>,
    metrics: Metrics,
    mut requests: Broadcasts<RewardSigningBroadcast>,
) {
    let mut signatures = Signatures::default();
    while let Some(RewardSigningBroadcast { controller, info }) = requests.next().await {
        let Some(handle) = handles.iter().find(|handle| handle.public_key() == info.public_key) else {
            continue;
        };
        let signature = signatures.get(handle, &info.hash);
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
