//! One leader among several candidates: a key on JetStream, taken and renewed by compare-and-set, with a fencing number
//! on what it guards (design §4).
//!
//! The leader renews every 2 seconds and trusts its lease for 4 seconds after it sent the last renewal that succeeded; a
//! candidate takes the lease when it has seen it unchanged for 6 seconds, without a failed read in between. Both by
//! their own monotonic clocks, so that between the two there are 2 seconds; and should a leader sleep through them, what
//! it sends carries a fencing number that receivers know to be old.

use crate::client::ClusterClient;
use crate::contract::{Envelope, InstanceId, Payload};
use crate::error::ClientError;
use crate::kv::{Bucket, Cas, Outage};
use parity_scale_codec::{Decode, Encode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How often a leader renews and a candidate looks.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// How long a leader trusts a renewal, from when it was sent.
const TRUSTED_FOR: Duration = Duration::from_secs(4);
/// After how long without a change a candidate takes the lease.
const DEAD_AFTER: Duration = Duration::from_secs(6);

/// What the key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct LeaseValue {
    /// None: given back.
    pub(crate) holder: Option<InstanceId>,
    pub(crate) fence: u64,
    /// Makes every renewal a change.
    pub(crate) beat: u64,
}

impl Payload for LeaseValue {
    const MAX_BYTES: usize = 64;
}

/// Being the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// Larger than that of every leader before; goes with everything the leader tells others to do.
    pub fence: u64,
    /// Until when it may be trusted without another renewal.
    pub valid_until: Instant,
}

impl Leadership {
    /// Whether it may still be trusted.
    pub fn is_valid(&self) -> bool {
        Instant::now() < self.valid_until
    }
}

/// Standing for a lease, holding it whenever possible; gives nothing back when dropped, see [`Self::release`].
#[derive(Debug)]
pub struct Lease {
    leadership: watch::Receiver<Option<Leadership>>,
    floor: Arc<AtomicU64>,
    bucket: Bucket,
    key: String,
    instance: InstanceId,
    task: JoinHandle<()>,
}

impl Lease {
    /// Stands for the lease `name` (letters, digits and `-`).
    pub fn campaign(client: &ClusterClient, name: &str, instance: InstanceId) -> Self {
        let bucket = Bucket::state(client);
        let key = format!("lease.{name}");
        let (sender, leadership) = watch::channel(None);
        let floor = Arc::new(AtomicU64::new(0));
        let candidate = Candidate {
            bucket: bucket.clone(),
            key: key.clone(),
            instance,
            floor: Arc::clone(&floor),
            leadership: sender,
            state: State::Following(None),
            beat: rand::random(),
        };
        let task = tokio::spawn(candidate.run());
        Self { leadership, floor, bucket, key, instance, task }
    }

    /// The leadership, if this candidate has it and may trust it now; ask again before every act.
    pub fn leadership(&self) -> Option<Leadership> {
        self.leadership.borrow().filter(Leadership::is_valid)
    }

    /// Follows the leadership; a value that was seen may have run out since, see [`Leadership::is_valid`].
    pub fn watch(&self) -> watch::Receiver<Option<Leadership>> {
        self.leadership.clone()
    }

    /// A receiver has seen the fencing number `highest`, which is above this leader's: the next lease that this candidate
    /// holds is above it. (A leader that was replaced loses its lease anyway; this heals a JetStream store that was
    /// lost and began to count anew.)
    pub fn fence_seen(&self, highest: u64) {
        self.floor.fetch_max(highest, Ordering::AcqRel);
    }

    /// Stops standing, and gives the lease back if it is held, so that another takes it at once.
    pub async fn release(self, deadline: Duration) {
        self.task.abort();
        let give_back = async {
            let Some(entry) = self.bucket.entry(&self.key).await? else { return Ok(()) };
            let Ok(value) = LeaseValue::open(&entry.value) else { return Ok(()) };
            if value.holder == Some(self.instance) {
                let value = LeaseValue { holder: None, ..value };
                self.bucket.update(&self.key, sealed(value), entry.revision).await?;
            }
            Ok::<_, ClientError>(())
        };
        match timeout(deadline, give_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a lease was not given back"),
            Err(_) => tracing::debug!("a lease was not given back in time"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn sealed(value: LeaseValue) -> bytes::Bytes {
    value.seal().expect("a lease is within its bounds")
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Someone else leads; the revision last seen and since when, without a failed read in between.
    Following(Option<(u64, Instant)>),
    /// This candidate leads.
    Leading { revision: u64, leadership: Leadership },
}

struct Candidate {
    bucket: Bucket,
    key: String,
    instance: InstanceId,
    floor: Arc<AtomicU64>,
    leadership: watch::Sender<Option<Leadership>>,
    state: State,
    beat: u64,
}

impl Candidate {
    async fn run(mut self) {
        let mut outage = Outage::default();
        loop {
            let result = match self.state {
                State::Following(seen) => self.follow(seen).await,
                State::Leading { revision, leadership } => self.renew(revision, leadership).await,
            };
            match result {
                Ok(()) => outage.succeeded("leadership"),
                Err(error) => {
                    outage.failed("leadership", &error);
                    if let State::Following(seen) = &mut self.state {
                        // What happened meanwhile is not known: the six seconds begin anew.
                        *seen = None;
                    }
                }
            }
            if let State::Leading { leadership, .. } = self.state
                && !leadership.is_valid()
            {
                tracing::warn!(lease = self.key, "the lease could not be renewed in time and is given up");
                self.step_down();
            }
            sleep(RENEW_INTERVAL).await;
        }
    }

    fn step_down(&mut self) {
        self.state = State::Following(None);
        self.leadership.send_replace(None);
    }

    fn next_beat(&mut self) -> u64 {
        self.beat = self.beat.wrapping_add(1);
        self.beat
    }

    fn value(&mut self, fence: u64) -> LeaseValue {
        LeaseValue { holder: Some(self.instance), fence, beat: self.next_beat() }
    }

    fn lead(&mut self, revision: u64, fence: u64, sent: Instant) {
        let leadership = Leadership { fence, valid_until: sent + TRUSTED_FOR };
        if matches!(self.state, State::Following(_)) {
            tracing::info!(lease = self.key, fence, "this instance leads");
        }
        self.state = State::Leading { revision, leadership };
        self.leadership.send_replace(Some(leadership));
    }

    async fn follow(&mut self, seen: Option<(u64, Instant)>) -> Result<(), ClientError> {
        let entry = self.bucket.entry(&self.key).await?;
        let sent = Instant::now();
        let floor = self.floor.load(Ordering::Acquire);
        let Some(entry) = entry else {
            let fence = floor + 1;
            let value = self.value(fence);
            if let Cas::Written(revision) = self.bucket.create(&self.key, sealed(value)).await? {
                self.lead(revision, fence, sent);
            }
            return Ok(());
        };
        let value = LeaseValue::open(&entry.value)
            .map_err(|error| ClientError::nats(format!("reading the lease {}", self.key), error))?;
        let is_vacant = value.holder.is_none() || value.holder == Some(self.instance);
        let is_dead = match seen {
            Some((revision, since)) if revision == entry.revision => since.elapsed() >= DEAD_AFTER,
            _ => {
                self.state = State::Following(Some((entry.revision, Instant::now())));
                false
            }
        };
        if is_vacant || is_dead {
            let fence = value.fence.max(floor) + 1;
            let value = self.value(fence);
            match self.bucket.update(&self.key, sealed(value), entry.revision).await? {
                Cas::Written(revision) => self.lead(revision, fence, sent),
                Cas::Conflict => self.state = State::Following(None),
            }
        }
        Ok(())
    }

    async fn renew(&mut self, revision: u64, leadership: Leadership) -> Result<(), ClientError> {
        let sent = Instant::now();
        let floor = self.floor.load(Ordering::Acquire);
        let fence = if floor > leadership.fence { floor + 1 } else { leadership.fence };
        let value = self.value(fence);
        match self.bucket.update(&self.key, sealed(value), revision).await? {
            Cas::Written(revision) => self.lead(revision, fence, sent),
            Cas::Conflict => {
                // A renewal that timed out may have been written after all; anything else is another leader. Either
                // way the lease is won anew, with a new fencing number.
                tracing::info!(lease = self.key, "the lease was taken by another instance");
                self.step_down();
            }
        }
        Ok(())
    }
}
