//! Being a member of the cluster.

use super::tls::load_tls;
use crate::roles::{Error, RoleContext};
use crate::status::BUILD;
use cluster::membership::HeldItems;
use cluster::transfer::Credentials;
use cluster::{ClusterClient, MemberInfo, Members, Membership};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long leaving may take: others know at once then, else after 6 seconds.
const LEAVE_DEADLINE: Duration = Duration::from_millis(500);

impl RoleContext {
    /// What peers prove to each other: the secret of the file, or the one that the cluster keeps on its NATS, for which
    /// this waits; and a certificate, where the command line names one.
    ///
    /// # Errors
    /// When a file cannot be used; on shutdown.
    pub async fn credentials(&self, client: &ClusterClient) -> Result<Credentials, Error> {
        let tls = load_tls(&self.shared.nats.tls)?;
        let secret = match self.shared.nats.secret()? {
            Some(secret) => secret,
            None => self.unless_stopped(client.shared_secret()).await?,
        };
        Ok(Credentials { secret, tls })
    }

    /// Joins the cluster with what is known of this member by now: digest, chain and address are to be set before.
    /// `capacity_bytes` is 0 for roles that hold no share of the pieces.
    ///
    /// Returns at once: a role works without JetStream too. Where the cluster turns out to have another reference string
    /// or chain, the role is shut down and ends with [`Error::Config`].
    pub fn join(&self, client: &ClusterClient, capacity_bytes: u64) -> watch::Receiver<Arc<Members>> {
        self.join_holding(client, capacity_bytes, HeldItems::default())
    }

    /// [`Self::join`] of a cache, which says what it holds.
    pub fn join_holding(
        &self,
        client: &ClusterClient,
        capacity_bytes: u64,
        holds: HeldItems,
    ) -> watch::Receiver<Arc<Members>> {
        let about = *self.about.lock();
        let membership = Arc::new(Membership::join(
            client,
            MemberInfo {
                role: self.role,
                instance: self.instance,
                address: about.address,
                capacity_bytes,
                build: BUILD.into(),
                srs_digest: about.srs_digest,
                genesis: about.genesis,
                holds,
            },
        ));
        let members = membership.watch();
        let (watched, shutdown) = (Arc::clone(&membership), self.shutdown.clone());
        let verdict = Arc::clone(&self.shared.verdict);
        let watcher = tokio::spawn(async move {
            let error = watched.refused().await;
            // The first one stands.
            let _ = verdict.set(Error::Config(error.to_string()));
            shutdown.trigger();
        });
        *self.joined.lock() = Some(Joined { membership, watcher });
        members
    }

    /// Leaves the cluster, if it was joined: others know it at once.
    pub async fn leave(&self) {
        let Some(Joined { membership, watcher }) = self.joined.lock().take() else { return };
        watcher.abort();
        // Its share of the membership is dropped with it.
        let _ = watcher.await;
        if let Some(membership) = Arc::into_inner(membership) {
            membership.leave(LEAVE_DEADLINE).await;
        }
    }
}

/// A membership and the task that waits for its refusal.
pub(super) struct Joined {
    membership: Arc<Membership>,
    watcher: JoinHandle<()>,
}
