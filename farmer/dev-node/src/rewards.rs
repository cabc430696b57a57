//! Asking farms to sign what they won (farming §7).

use crate::stats::Stats;
use farming::identity::is_reward_signature_valid;
use parking_lot::Mutex;
use primitives::{Blake3Hash, PublicKey, RewardSignatureResponse, RewardSigningInfo, Signature};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

/// Announcements that a slow subscriber may lag behind.
const ANNOUNCEMENTS: usize = 64;
/// Answers to one announcement that are looked at: several farmers may answer, most of them without a signature.
const ANSWERS: usize = 16;

/// What is to be signed and waits for it.
#[derive(Debug)]
pub(crate) struct Rewards {
    announcements: broadcast::Sender<RewardSigningInfo>,
    waiting: Mutex<HashMap<Blake3Hash, mpsc::Sender<Signature>>>,
}

impl Default for Rewards {
    fn default() -> Self {
        Self { announcements: broadcast::channel(ANNOUNCEMENTS).0, waiting: Mutex::default() }
    }
}

impl Rewards {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<RewardSigningInfo> {
        self.announcements.subscribe()
    }

    /// Announces what the node that is followed wants signed.
    pub(crate) fn relay(&self, info: RewardSigningInfo) {
        // Without subscribers nobody listens, which is fine.
        let _ = self.announcements.send(info);
    }

    /// Announces `hash` and waits for a valid signature of `public_key`.
    pub(crate) async fn ask(
        &self,
        hash: Blake3Hash,
        public_key: PublicKey,
        timeout: Duration,
        stats: &Stats,
    ) -> Option<Signature> {
        let deadline = Instant::now() + timeout;
        let (sender, mut answers) = mpsc::channel(ANSWERS);
        self.waiting.lock().insert(hash, sender);
        stats.count(|stats| stats.rewards.asked += 1);
        // Without subscribers there is nobody to sign; the wait then ends with its timeout, as in a node.
        let _ = self.announcements.send(RewardSigningInfo { hash, public_key });
        let mut signed = None;
        while let Ok(Some(signature)) = tokio::time::timeout_at(deadline, answers.recv()).await {
            if is_reward_signature_valid(&hash, &signature, &public_key) {
                signed = Some(signature);
                break;
            }
            tracing::warn!(%public_key, "A reward signature does not verify");
            stats.count(|stats| stats.rewards.invalid += 1);
        }
        self.waiting.lock().remove(&hash);
        if signed.is_some() {
            stats.count(|stats| stats.rewards.signed += 1);
        } else {
            tracing::warn!(%public_key, %hash, "No valid reward signature within {} ms", timeout.as_millis());
        }
        signed
    }

    /// Takes an answer; one that nobody waits for is dropped.
    pub(crate) fn answer(&self, response: RewardSignatureResponse) {
        let waiting = self.waiting.lock().get(&response.hash).cloned();
        if let (Some(waiting), Some(signature)) = (waiting, response.signature) {
            // More answers than are looked at are dropped.
            let _ = waiting.try_send(signature);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farming::identity::Identity;
    use std::sync::Arc;

    fn identity(seed: u8) -> Identity {
        Identity::from_entropy(&[seed; 32]).expect("32 bytes of entropy")
    }

    #[tokio::test]
    async fn the_first_valid_signature_counts() {
        let (rewards, stats) = (Arc::new(Rewards::default()), Stats::default());
        let (farm, stranger) = (identity(1), identity(2));
        let public_key = farm.public_key();
        let mut announced = rewards.subscribe();
        let answering = tokio::spawn({
            let rewards = Arc::clone(&rewards);
            async move {
                let info = announced.recv().await.expect("announced");
                let hash = info.hash;
                rewards.answer(RewardSignatureResponse {
                    hash: Blake3Hash([9; 32]),
                    signature: Some(farm.sign_reward_hash(&hash)),
                });
                rewards.answer(RewardSignatureResponse { hash, signature: None });
                rewards.answer(RewardSignatureResponse {
                    hash,
                    signature: Some(stranger.sign_reward_hash(&hash)),
                });
                let right = farm.sign_reward_hash(&hash);
                rewards.answer(RewardSignatureResponse { hash, signature: Some(right) });
                right
            }
        });
        let hash = Blake3Hash([3; 32]);
        let signed = rewards.ask(hash, public_key, Duration::from_secs(20), &stats).await;
        assert_eq!(signed, Some(answering.await.expect("no panic")));
        let counted = stats.snapshot().rewards;
        assert_eq!((counted.asked, counted.signed, counted.invalid), (1, 1, 1));
    }

    #[tokio::test]
    async fn no_signature_in_time_is_none() {
        let (rewards, stats) = (Rewards::default(), Stats::default());
        let key = identity(1).public_key();
        let signed = rewards.ask(Blake3Hash([3; 32]), key, Duration::from_millis(20), &stats).await;
        assert_eq!(signed, None);
        assert!(rewards.waiting.lock().is_empty());
        assert_eq!(stats.snapshot().rewards.signed, 0);
    }
}
