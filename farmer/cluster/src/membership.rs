//! Who is in the cluster: heartbeats on JetStream, read by everyone (design §4).
//!
//! A member writes its key every 2 seconds; whoever reads counts it dead 6 seconds after the last change it has seen, by
//! its own monotonic clock, as long as the reader sees anything at all: while JetStream is gone the clock stands still
//! and the list freezes (`view`). A member that is not heard is asked over core NATS before it is given up: JetStream that
//! takes no writes for a while empties no list. Joining also compares reference string and chain with the cluster's.

mod held_items;
mod view;

pub use held_items::HeldItems;

use crate::backoff::Backoff;
use crate::client::ClusterClient;
use crate::client::skew::Skews;
use crate::contract::{Envelope, InstanceId, Payload, Role, StatusRequest, TcpAddress};
use crate::error::ClientError;
use crate::identity::{self, Claim, IdentityError};
use crate::kv::{Bucket, Outage};
use crate::sharding::{Shard, ShardMap};
use async_nats::jetstream::kv::{Operation, Watch};
use futures::StreamExt;
use parity_scale_codec::{Decode, Encode};
use parking_lot::Mutex;
use primitives::Blake3Hash;
use primitives::rpc::GenesisHash;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use view::View;

/// How often a member says that it is there.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// After how long without a heartbeat a member counts as dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(6);
/// A second heartbeat follows the first: a reader lists a member when it has seen it change.
const CONFIRMATION_DELAY: Duration = Duration::from_millis(300);
/// A watch without any event for so long is made anew.
const WATCH_TIMEOUT: Duration = Duration::from_secs(8);
/// How often dead members are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// What a member says of itself. The form of the fields up to `build` is the same in every version, so that a member that speaks
/// another one can be named (`introduced`).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MemberInfo {
    /// Its role.
    pub role: Role,
    /// Its identity.
    pub instance: InstanceId,
    /// Where it takes TCP connections.
    pub address: Option<TcpAddress>,
    /// How much it can hold, in bytes; 0 for roles that hold nothing.
    pub capacity_bytes: u64,
    /// Version and commit of its binary.
    pub build: String,
    /// Digest of its reference string, for roles that use one.
    pub srs_digest: Option<Blake3Hash>,
    /// Its chain, once known.
    pub genesis: Option<GenesisHash>,
    /// In which form it holds pieces, if it is a cache. Has to be the last field.
    pub holds: HeldItems,
}

impl Payload for MemberInfo {
    const MAX_BYTES: usize = 2048;

    fn check(&self) -> Result<(), &'static str> {
        crate::contract::check_text(&self.build)
    }
}

impl MemberInfo {
    fn key(&self) -> String {
        format!("{}.{}", self.role, self.instance)
    }
}

/// The members that are alive, sorted by role and identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members(Vec<MemberInfo>);

impl Members {
    /// All of them.
    pub fn all(&self) -> &[MemberInfo] {
        &self.0
    }

    /// Those of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &MemberInfo> {
        self.0.iter().filter(move |member| member.role == role)
    }

    /// A member by identity.
    pub fn get(&self, instance: InstanceId) -> Option<&MemberInfo> {
        self.0.iter().find(|member| member.instance == instance)
    }

    /// Placement of pieces on the live sharded caches.
    pub fn shard_map(&self) -> ShardMap {
        ShardMap::new(
            self.of(Role::ShardedCache)
                .map(|member| Shard { member: member.instance, capacity: member.capacity_bytes }),
        )
    }
}

/// Who wrote a heartbeat of any version, with its build; the key where even that cannot be read.
fn introduced(key: &str, heartbeat: &[u8]) -> String {
    type Introduction = (Role, InstanceId, Option<TcpAddress>, u64, String);
    let introduction = heartbeat.get(1..).and_then(|mut fields| Introduction::decode(&mut fields).ok());
    match introduction.filter(|(.., build)| crate::contract::check_text(build).is_ok()) {
        Some((role, instance, _, _, build)) => format!("{role} {instance} {}", build.escape_debug()),
        None => key.to_owned(),
    }
}

struct Shared {
    client: ClusterClient,
    /// None for an observer.
    own: Option<Mutex<MemberInfo>>,
    changed: Notify,
    members: watch::Sender<Arc<Members>>,
    verdict: watch::Sender<Option<IdentityError>>,
    skews: Skews,
}

/// Being a member, or looking on; ends when dropped (others notice after 6 seconds, after [`Self::leave`] at once).
pub struct Membership {
    shared: Arc<Shared>,
    members: watch::Receiver<Arc<Members>>,
    tasks: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("members", &self.members.borrow().0.len()).finish_non_exhaustive()
    }
}

impl Membership {
    /// Joins the cluster: heartbeats begin, and the list of members fills.
    ///
    /// Returns at once, since a role works without JetStream too; select on [`Self::refused`] to learn that this member
    /// does not belong to the cluster.
    pub fn join(client: &ClusterClient, info: MemberInfo) -> Self {
        let mut membership = Self::start(client, Some(info));
        membership.tasks.push(tokio::spawn(beat(Arc::clone(&membership.shared))));
        membership
    }

    /// Looks on without being a member.
    pub fn observe(client: &ClusterClient) -> Self {
        Self::start(client, None)
    }

    fn start(client: &ClusterClient, own: Option<MemberInfo>) -> Self {
        let (sender, members) = watch::channel(Arc::default());
        let shared = Arc::new(Shared {
            client: client.clone(),
            own: own.map(Mutex::new),
            changed: Notify::new(),
            members: sender,
            verdict: watch::channel(None).0,
            skews: Skews::default(),
        });
        let tasks = vec![tokio::spawn(follow(Arc::clone(&shared)))];
        Self { shared, members, tasks }
    }

    /// The members alive now, this one included once it has seen itself.
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.borrow())
    }

    /// Follows the list.
    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// Changes what this member says of itself; said at once.
    pub fn update(&self, change: impl FnOnce(&mut MemberInfo)) {
        if let Some(own) = &self.shared.own {
            change(&mut own.lock());
            self.shared.changed.notify_one();
        }
    }

    /// Ends when the cluster's reference string or chain turns out to be another than this member's: it must not work.
    pub async fn refused(&self) -> IdentityError {
        let mut verdict = self.shared.verdict.subscribe();
        let refused = verdict.wait_for(Option::is_some).await;
        let refused = refused.expect("the sender lives in the membership").clone();
        refused.expect("it was just waited for")
    }

    /// Leaves: others know it at once, if JetStream takes it within `deadline`.
    pub async fn leave(mut self, deadline: Duration) {
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        if let Some(own) = &self.shared.own {
            let key = own.lock().key();
            let bucket = Bucket::members(&self.shared.client);
            match timeout(deadline, bucket.delete(&key)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "leaving was not noted"),
                Err(_) => tracing::debug!("leaving was not noted in time"),
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Writes heartbeats, and compares identities whenever they change.
async fn beat(shared: Arc<Shared>) {
    let Some(own) = &shared.own else { return };
    let members = Bucket::members(&shared.client);
    let state = Bucket::state(&shared.client);
    let mut outage = Outage::default();
    let mut agreed: Option<(Option<Blake3Hash>, Option<GenesisHash>)> = None;
    let mut beats = 0u64;
    loop {
        let info = own.lock().clone();
        let brought = (info.srs_digest, info.genesis);
        let result = async {
            if agreed != Some(brought) {
                let claim = Claim {
                    role: info.role,
                    instance: info.instance,
                    srs_digest: info.srs_digest,
                    genesis: info.genesis,
                };
                match identity::compare(&state, shared.client.cluster().as_str(), &claim).await? {
                    Ok(()) => agreed = Some(brought),
                    Err(refusal) => {
                        shared.verdict.send_replace(Some(refusal));
                        return Ok(false);
                    }
                }
            }
            let value = info.seal().map_err(|error| ClientError::nats("a heartbeat", error))?;
            members.put(&info.key(), value).await?;
            Ok(true)
        };
        match result.await {
            // Who does not belong here does not beat.
            Ok(false) => return,
            Ok(true) => outage.succeeded("membership"),
            Err(error) => outage.failed("membership", &error),
        }
        beats = beats.saturating_add(1);
        let pause = if beats == 1 { CONFIRMATION_DELAY } else { HEARTBEAT_INTERVAL };
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.changed.notified() => {}
        }
    }
}

/// Keeps the list: watches the bucket, again and again.
async fn follow(shared: Arc<Shared>) {
    let bucket = Bucket::members(&shared.client);
    let mut view = View::default();
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));
    let mut outage = Outage::default();
    loop {
        shared.client.wait_connected().await;
        match bucket.watch_all().await {
            Ok(watch) => {
                outage.succeeded("the list of members");
                backoff.reset();
                if let Err(error) = follow_watch(&shared, &bucket, watch, &mut view).await {
                    tracing::debug!(%error, "the watch of members ended");
                }
            }
            Err(error) => outage.failed("the list of members", &error),
        }
        backoff.wait().await;
    }
}

/// Members that are asked whether they live.
#[derive(Default)]
struct Asked {
    keys: HashSet<String>,
    answers: JoinSet<(String, bool)>,
}

impl Asked {
    /// Asks those who are not being asked.
    fn ask(&mut self, client: &ClusterClient, silent: Vec<(String, InstanceId)>) {
        for (key, instance) in silent {
            if !self.keys.insert(key.clone()) {
                continue;
            }
            let client = client.clone();
            self.answers.spawn(async move {
                let answer = client.request_instance(instance, &StatusRequest).await;
                // Whatever it answers, it lives; where nothing came of the question, nothing is known.
                let lives = !matches!(
                    answer,
                    Err(ClientError::NoResponders { .. }
                        | ClientError::TimedOut { .. }
                        | ClientError::Disconnected { .. }
                        | ClientError::Nats { .. })
                );
                (key, lives)
            });
        }
    }

    /// The next who was asked: its key if it lives. None while nobody is asked.
    async fn next(&mut self) -> Option<Option<String>> {
        // A task that panicked has no key to give back; its member is not asked again by this watch.
        let (key, lives) = self.answers.join_next().await?.ok()?;
        self.keys.remove(&key);
        Some(lives.then_some(key))
    }
}

async fn follow_watch(
    shared: &Shared,
    bucket: &Bucket,
    mut watch: Watch,
    view: &mut View,
) -> Result<(), ClientError> {
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_event = Instant::now();
    let mut last_probe = Instant::now();
    let mut asked = Asked::default();
    loop {
        tokio::select! {
            Some(answered) = asked.next() => {
                if let Some(key) = answered {
                    view.answered(&key, Instant::now());
                }
            }
            entry = watch.next() => {
                let entry = entry
                    .ok_or_else(|| ClientError::nats("watching members", "the watch ended"))?
                    .map_err(|error| ClientError::nats("watching members", error))?;
                last_event = Instant::now();
                match entry.operation {
                    Operation::Delete | Operation::Purge => view.left(&entry.key, last_event),
                    Operation::Put => match MemberInfo::open(&entry.value) {
                        Ok(info) => view.beat(&entry.key, info, entry.revision, last_event),
                        Err(error) => {
                            let member = introduced(&entry.key, &entry.value);
                            match shared.client.skew("the list of members", member, &error) {
                                Some(skew) => shared.skews.warn(skew),
                                None => {
                                    tracing::warn!(member = entry.key, %error, "a member's heartbeat cannot be read");
                                }
                            }
                        }
                    },
                }
            }
            _ = sweep.tick() => {
                if shared.own.is_none() && last_probe.elapsed() >= HEARTBEAT_INTERVAL {
                    // An observer has no heartbeat of its own to tell silence from an outage.
                    last_probe = Instant::now();
                    bucket.entry("probe").await?;
                    last_event = Instant::now();
                    view.alive(last_event);
                }
            }
        }
        asked.ask(&shared.client, view.silent(Instant::now()));
        let live = view.live(Instant::now());
        shared.members.send_if_modified(|members| {
            let changed = members.0 != live;
            if changed {
                *members = Arc::new(Members(live));
            }
            changed
        });
        if last_event.elapsed() >= WATCH_TIMEOUT {
            return Err(ClientError::nats("watching members", "no event for too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_any_version_is_introduced_with_its_build() {
        let instance = InstanceId(ulid::Ulid(7));
        let fields = (Role::PlotServer, instance, None::<TcpAddress>, 5_u64, "2.0.0 (\u{1b})");
        // What comes behind is for those who speak that version.
        let heartbeat = [&[9][..], &fields.encode(), &[1, 2, 3]].concat();
        assert_eq!(introduced("key", &heartbeat), format!("plot-server {instance} 2.0.0 (\\u{{1b}})"));
        for end in [0, 1, 5, 30] {
            assert_eq!(introduced("key", &heartbeat[..end]), "key");
        }
    }
}
