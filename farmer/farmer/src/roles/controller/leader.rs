//! One of the cluster's controllers leads: it alone fills the caches.

use crate::roles::controller::filler::{Filler, FillerMetrics, Sources, Superseded};
use crate::roles::controller::relay::Relay;
use crate::status::Status;
use cluster::contract::InstanceId;
use cluster::{ClusterClient, Leadership, Lease, Members};
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Name of the lease.
const LEASE: &str = "cache-leader";
/// How long a leader rests that was told of a newer one, or whose filler died.
const REST: Duration = Duration::from_secs(2);
/// How long giving the lease back may take.
const RELEASE_DEADLINE: Duration = Duration::from_millis(500);

/// Stands for leadership and fills the caches while it has it.
pub struct Leader {
    lease: Lease,
    relay: Arc<Relay>,
    members: watch::Receiver<Arc<Members>>,
    metrics: FillerMetrics,
    leads: Gauge,
}

/// Registers whether this controller leads.
pub(super) fn leads(status: &Status) -> Gauge {
    status.gauge("leads", "1 while this controller leads: it keeps the caches filled")
}

/// Stops a task when dropped.
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Leader {
    /// Stands for leadership from now on.
    pub fn new(
        client: &ClusterClient,
        instance: InstanceId,
        relay: Arc<Relay>,
        members: watch::Receiver<Arc<Members>>,
        status: &Status,
    ) -> Self {
        Self {
            lease: Lease::campaign(client, LEASE, instance),
            relay,
            members,
            metrics: FillerMetrics::new(status),
            leads: leads(status),
        }
    }

    /// Leads whenever it may. Dropping the future stops the work.
    pub async fn lead(&self, sources: Arc<Sources>) {
        let mut leadership = self.lease.watch();
        loop {
            let Ok(current) =
                leadership.wait_for(|current| current.is_some_and(|current| current.is_valid())).await
            else {
                return;
            };
            let Some(Leadership { fence, .. }) = *current else { continue };
            drop(current);
            self.leads.set(1);
            self.lead_once(fence, &sources).await;
            self.leads.set(0);
            self.metrics.clear();
        }
    }

    /// Fills under one fencing number until it is lost.
    async fn lead_once(&self, fence: u64, sources: &Arc<Sources>) {
        let relay = Arc::clone(&self.relay);
        let filler =
            Filler::new(relay, Arc::clone(sources), self.members.clone(), fence, self.metrics.clone());
        // In a task of its own, so that a defect in it is seen and overcome.
        let mut filling = tokio::spawn(async move { filler.run().await });
        let _stops_with_this = Abort(filling.abort_handle());
        tokio::select! {
            ended = &mut filling => {
                match ended {
                    Ok(superseded @ Superseded { highest }) => {
                        tracing::warn!("{superseded}");
                        self.lease.fence_seen(highest);
                    }
                    Err(error) => tracing::error!(%error, "Filling the caches broke off; beginning again"),
                }
                sleep(REST).await;
            }
            () = self.lost(fence) => {
                tracing::warn!("This controller no longer leads; filling the caches is left to another");
            }
        }
    }

    /// Ends when the leadership with this fencing number may be trusted no longer.
    async fn lost(&self, fence: u64) {
        let mut leadership = self.lease.watch();
        loop {
            let valid_until = match *leadership.borrow_and_update() {
                Some(current) if current.fence == fence && current.is_valid() => current.valid_until,
                _ => return,
            };
            tokio::select! {
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = sleep_until(Instant::from_std(valid_until)) => {}
            }
        }
    }

    /// Gives the leadership back, so that another has it at once.
    pub async fn release(self) {
        self.lease.release(RELEASE_DEADLINE).await;
    }
}
