//! Membership, leases, identity and the shared secret on a real JetStream, which dies and comes back.

use cluster::contract::{InstanceId, MemberState, MemberStatus, Role, StatusRequest};
use cluster::testing::NatsServer;
use cluster::{ClusterClient, IdentityError, Lease, MemberInfo, Members, Membership, NatsOptions};
use primitives::rpc::GenesisHash;
use primitives::{Blake3Hash, PieceIndex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(30);

fn info(role: Role) -> MemberInfo {
    MemberInfo {
        role,
        instance: InstanceId::generate(),
        address: Some("127.0.0.1:9950".parse::<std::net::SocketAddr>().unwrap().into()),
        capacity_bytes: 1000,
        build: "test".into(),
        srs_digest: None,
        genesis: None,
        holds: Default::default(),
    }
}

async fn until(members: &mut watch::Receiver<Arc<Members>>, mut holds: impl FnMut(&Members) -> bool) {
    timeout(SOON, members.wait_for(|members| holds(members))).await.unwrap().unwrap();
}

fn ids(members: &Members) -> Vec<InstanceId> {
    let mut ids: Vec<_> = members.all().iter().map(|member| member.instance).collect();
    ids.sort_unstable();
    ids
}

/// JetStream takes nothing from a member, or not for a while: heartbeats stop, and it still answers.
#[tokio::test]
async fn who_answers_is_not_given_up() {
    let server = NatsServer::start();
    let (mute, other) = (info(Role::ShardedCache), info(Role::Controller));
    let client = server.client().await;
    let status = MemberStatus {
        role: mute.role,
        instance: mute.instance,
        build: "test".into(),
        state: MemberState::Ready,
        uptime_s: 1,
        srs_digest: None,
        genesis: None,
        address: None,
        counters: Vec::new(),
    };
    let answer = move |StatusRequest| std::future::ready(Ok(status.clone()));
    let answering = client.serve_instance(mute.instance, 1, answer).await.unwrap();
    let heartbeats = Membership::join(&client, mute.clone());
    let _other = Membership::join(&server.client().await, other.clone());
    let observer = Membership::observe(&server.client().await);
    let mut members = observer.watch();
    until(&mut members, |members| members.all().len() == 2).await;

    drop(heartbeats);
    let is_gone = |members: &Members| members.get(mute.instance).is_none();
    let given_up =
        timeout(Duration::from_secs(12), members.wait_for(|members| is_gone(members))).await.is_ok();
    assert!(!given_up, "it answers");
    drop(answering);
    until(&mut members, is_gone).await;
    assert_eq!(ids(&observer.members()), [other.instance]);
}

#[tokio::test]
async fn members_are_seen_change_leave_and_die() {
    let server = NatsServer::start();
    let infos = [info(Role::ShardedCache), info(Role::ShardedCache), info(Role::Controller)];
    let mut joined = Vec::new();
    for info in &infos {
        joined.push(Membership::join(&server.client().await, info.clone()));
    }
    let observer = Membership::observe(&server.client().await);
    for membership in joined.iter().chain([&observer]) {
        until(&mut membership.watch(), |members| members.all().len() == 3).await;
    }
    let seen = observer.members();
    assert_eq!(seen.of(Role::ShardedCache).count(), 2);
    assert_eq!(seen.get(infos[2].instance).unwrap(), &infos[2]);
    let map = seen.shard_map();
    assert_eq!(map.shards().len(), 2);
    assert!(infos[..2].iter().any(|info| Some(info.instance) == map.owner(PieceIndex(3))));

    joined[0].update(|info| info.capacity_bytes = 7777);
    until(&mut observer.watch(), |members| {
        members.get(infos[0].instance).is_some_and(|member| member.capacity_bytes == 7777)
    })
    .await;

    joined.remove(0).leave(SOON).await;
    let started = Instant::now();
    until(&mut observer.watch(), |members| members.get(infos[0].instance).is_none()).await;
    assert!(started.elapsed() < Duration::from_secs(3), "leaving is noticed at once");

    // Killed: no word of farewell.
    let started = Instant::now();
    drop(joined.remove(0));
    until(&mut observer.watch(), |members| members.get(infos[1].instance).is_none()).await;
    let noticed = started.elapsed();
    assert!(noticed > Duration::from_secs(3) && noticed < Duration::from_secs(9), "{noticed:?}");
    assert_eq!(ids(&observer.members()), [infos[2].instance]);
}

#[tokio::test]
async fn an_outage_freezes_the_list_and_ends() {
    let mut server = NatsServer::start();
    let infos = [info(Role::ShardedCache), info(Role::PlotServer)];
    let mut joined = Vec::new();
    for info in &infos {
        joined.push(Membership::join(&server.client().await, info.clone()));
    }
    let lease = Lease::campaign(&server.client().await, "cache-leader", infos[0].instance);
    for membership in &joined {
        until(&mut membership.watch(), |members| members.all().len() == 2).await;
    }
    timeout(SOON, lease.watch().wait_for(Option::is_some)).await.unwrap().unwrap();
    let before = lease.leadership().unwrap().fence;

    server.kill();
    let watches: Vec<_> = joined.iter().map(Membership::watch).collect();
    // Longer than it takes to die: nobody does, but the leader trusts its lease no longer.
    sleep(Duration::from_secs(9)).await;
    assert!(lease.leadership().is_none());
    for mut watch in watches {
        assert_eq!(watch.borrow_and_update().all().len(), 2);
    }

    server.restart();
    let late = info(Role::ProofServer);
    let late_membership = Membership::join(&server.client().await, late.clone());
    for membership in joined.iter().chain([&late_membership]) {
        until(&mut membership.watch(), |members| members.all().len() == 3).await;
    }
    timeout(
        SOON,
        lease.watch().wait_for(|leadership| leadership.is_some_and(|leadership| leadership.is_valid())),
    )
    .await
    .unwrap()
    .unwrap();
    assert!(lease.leadership().unwrap().fence > before);
    // And the dead are noticed again.
    drop(joined.remove(1));
    until(&mut late_membership.watch(), |members| members.all().len() == 2).await;
}

#[tokio::test]
async fn there_is_one_leader_and_its_fence_grows() {
    let server = NatsServer::start();
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(Lease::campaign(&server.client().await, "cache-leader", InstanceId::generate()));
    }
    let leaders = |leases: &[Lease]| {
        leases
            .iter()
            .filter_map(|lease| lease.leadership().map(|leadership| leadership.fence))
            .collect::<Vec<_>>()
    };
    let mut last_fence = 0;
    let wait = async |leases: &[Lease], last_fence: u64| {
        timeout(SOON, async {
            loop {
                let fences = leaders(leases);
                assert!(fences.len() <= 1, "two leaders at once: {fences:?}");
                if fences.first().is_some_and(|&fence| fence > last_fence) {
                    return fences[0];
                }
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap()
    };
    last_fence = wait(&leases, last_fence).await;

    // A receiver knows a higher number than anyone here: the leader rises above it.
    leases.iter().find(|lease| lease.leadership().is_some()).unwrap().fence_seen(500);
    last_fence = wait(&leases, last_fence.max(500)).await;
    assert_eq!(last_fence, 501);

    // Given back: another takes it quickly, with a higher number.
    let leader = leases.iter().position(|lease| lease.leadership().is_some()).unwrap();
    let started = Instant::now();
    leases.remove(leader).release(SOON).await;
    last_fence = wait(&leases, last_fence).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    // Killed: the other takes it after six seconds.
    let leader = leases.iter().position(|lease| lease.leadership().is_some()).unwrap();
    let started = Instant::now();
    drop(leases.remove(leader));
    let fence = wait(&leases, last_fence).await;
    assert!(fence > last_fence);
    assert!(started.elapsed() > Duration::from_secs(4), "{:?}", started.elapsed());
    // It keeps it.
    sleep(Duration::from_secs(7)).await;
    assert_eq!(leaders(&leases), [fence]);
}

#[tokio::test]
async fn another_string_or_chain_is_refused() {
    let server = NatsServer::start();
    let first = MemberInfo { srs_digest: Some(Blake3Hash([1; 32])), ..info(Role::ProofServer) };
    let first = Membership::join(&server.client().await, first);
    until(&mut first.watch(), |members| members.all().len() == 1).await;

    let other = MemberInfo { srs_digest: Some(Blake3Hash([2; 32])), ..info(Role::PlotServer) };
    let other_id = other.instance;
    let other = Membership::join(&server.client().await, other);
    let error = timeout(SOON, other.refused()).await.unwrap();
    assert!(matches!(error, IdentityError::Srs { .. }));
    let text = error.to_string();
    assert!(text.contains("this plot-server has 02020202") && text.contains("--srs"), "{text}");

    // A cache learns its chain only later.
    let cache = Membership::join(&server.client().await, info(Role::ShardedCache));
    until(&mut cache.watch(), |members| members.all().len() == 2).await;
    cache.update(|info| info.genesis = Some(GenesisHash([7; 32])));
    until(&mut first.watch(), |members| {
        members.of(Role::ShardedCache).any(|member| member.genesis == Some(GenesisHash([7; 32])))
    })
    .await;
    let controller = MemberInfo {
        srs_digest: Some(Blake3Hash([1; 32])),
        genesis: Some(GenesisHash([8; 32])),
        ..info(Role::Controller)
    };
    let controller = Membership::join(&server.client().await, controller);
    let error = timeout(SOON, controller.refused()).await.unwrap();
    assert!(
        matches!(&error, IdentityError::Genesis { theirs, .. } if *theirs == GenesisHash([7; 32])),
        "{error}"
    );
    sleep(Duration::from_secs(1)).await;
    assert!(first.members().get(other_id).is_none(), "who is refused never appears");
    // Another cluster on the same servers is another matter.
    let options = NatsOptions { cluster: "two".parse().unwrap(), ..server.options() };
    let client = ClusterClient::connect(&options).await.unwrap();
    let two = MemberInfo { srs_digest: Some(Blake3Hash([2; 32])), ..info(Role::PlotServer) };
    let two = Membership::join(&client, two);
    until(&mut two.watch(), |members| members.all().len() == 1).await;
}

#[tokio::test]
async fn all_who_ask_get_one_secret() {
    let mut server = NatsServer::start();
    let mut asking = Vec::new();
    for _ in 0..8 {
        let client = server.client().await;
        asking.push(tokio::spawn(async move { client.shared_secret().await }));
    }
    let mut secrets = Vec::new();
    for asking in asking {
        secrets.push(timeout(SOON, asking).await.unwrap().unwrap());
    }
    assert!(secrets.windows(2).all(|pair| pair[0] == pair[1]));
    server.restart();
    let client = server.client().await;
    assert_eq!(timeout(SOON, client.shared_secret()).await.unwrap(), secrets[0]);
}

#[tokio::test]
async fn three_servers_lose_one_and_then_their_quorum() {
    let mut servers = NatsServer::start_three();
    let options =
        NatsOptions { servers: servers.iter().map(NatsServer::url).collect(), ..servers[0].options() };
    let client = ClusterClient::connect(&options).await.unwrap();
    timeout(SOON, async {
        while client.server_count() < 3 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    let first = Membership::join(&client, info(Role::ShardedCache));
    let second = Membership::join(&ClusterClient::connect(&options).await.unwrap(), info(Role::Controller));
    let lease = Lease::campaign(&client, "cache-leader", InstanceId::generate());
    for membership in [&first, &second] {
        until(&mut membership.watch(), |members| members.all().len() == 2).await;
    }
    timeout(SOON, lease.watch().wait_for(Option::is_some)).await.unwrap().unwrap();

    let raw = async_nats::connect(servers[1].url()).await.unwrap();
    let store = async_nats::jetstream::new(raw).get_key_value("autonomys-default-members").await.unwrap();
    let status = store.status().await.unwrap();
    assert_eq!(status.info.config.num_replicas, 3);

    servers[0].kill();
    let third = Membership::join(&ClusterClient::connect(&options).await.unwrap(), info(Role::PlotClient));
    for membership in [&first, &second, &third] {
        until(&mut membership.watch(), |members| members.all().len() == 3).await;
    }
    timeout(
        SOON,
        lease.watch().wait_for(|leadership| leadership.is_some_and(|leadership| leadership.is_valid())),
    )
    .await
    .unwrap()
    .unwrap();

    // One server is no quorum: JetStream stands still, core NATS goes on.
    servers[1].kill();
    timeout(SOON, client.wait_connected()).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert!(lease.leadership().is_none());
    assert_eq!(first.members().all().len(), 3, "the list is frozen");
    let peer = ClusterClient::connect(&options).await.unwrap();
    let _serving = peer
        .serve_queue(1, |_: cluster::contract::SegmentHeadersRequest| async move { Ok(vec![]) })
        .await
        .unwrap();
    timeout(SOON, async {
        while client.request(&cluster::contract::SegmentHeadersRequest { indices: vec![] }).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();

    servers[0].restart();
    servers[1].restart();
    timeout(
        SOON,
        lease.watch().wait_for(|leadership| leadership.is_some_and(|leadership| leadership.is_valid())),
    )
    .await
    .unwrap()
    .unwrap();
    third.leave(SOON).await;
    until(&mut first.watch(), |members| members.all().len() == 2).await;
}
