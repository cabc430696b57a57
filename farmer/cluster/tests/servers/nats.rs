//! Requests, broadcasts and reconnection over a real NATS server.

use cluster::contract::*;
use cluster::testing::NatsServer;
use cluster::{ClientError, ClusterClient, ClusterSecret, ConnectionState, NatsOptions};
use primitives::{Blake3Hash, PieceIndex, SegmentIndex, SlotInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn slot(number: u64) -> SlotBroadcast {
    SlotBroadcast {
        controller: InstanceId::generate(),
        slot: SlotInfo {
            slot_number: number,
            global_challenge: Blake3Hash([number as u8; 32]),
            solution_range: 1,
            voting_solution_range: 2,
        },
    }
}

#[tokio::test]
async fn requests_reach_one_instance_and_broadcasts_all() {
    let server = NatsServer::start();
    let client = server.client().await;
    assert_eq!(client.local_ip().unwrap().to_string(), "127.0.0.1");
    assert_eq!(client.server_count(), 1);

    // Nobody answers yet, and that is known at once.
    let started = Instant::now();
    let error = client.request(&SegmentHeadersRequest { indices: vec![] }).await.unwrap_err();
    assert!(matches!(error, ClientError::NoResponders { .. }) && error.is_not_delivered());
    assert!(started.elapsed() < Duration::from_secs(2));

    let served = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let mut serving = Vec::new();
    for counter in &served {
        let counter = Arc::clone(counter);
        let peer = server.client().await;
        let handler = move |request: SegmentHeadersRequest| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(vec![None; request.indices.len()]) }
        };
        serving.push(peer.serve_queue(4, handler).await.unwrap());
    }
    wait_for_service(&client).await;
    let before: usize = served.iter().map(|counter| counter.load(Ordering::SeqCst)).sum();
    for count in 0..40 {
        let request = SegmentHeadersRequest { indices: vec![SegmentIndex(1); count] };
        assert_eq!(client.request(&request).await.unwrap().len(), count);
    }
    let counts = served.map(|counter| counter.load(Ordering::SeqCst));
    assert_eq!(counts.iter().sum::<usize>() - before, 40, "every request is answered once");
    assert!(counts.iter().all(|&count| count > 0), "both instances take their share: {counts:?}");

    let other =
        ClusterClient::connect(&NatsOptions { cluster: "other".parse().unwrap(), ..server.options() })
            .await
            .unwrap();
    assert!(matches!(
        other.request(&SegmentHeadersRequest { indices: vec![] }).await,
        Err(ClientError::NoResponders { .. })
    ));

    let mut listeners = [client.listen().await.unwrap(), other.listen().await.unwrap()];
    let peer = server.client().await;
    let mut own = peer.listen::<SlotBroadcast>().await.unwrap();
    client.broadcast(&slot(1)).await.unwrap();
    let sent = slot(5);
    // A listener may not be registered at the server yet: slots come every second, and so does this one.
    timeout(SOON, async {
        loop {
            peer.broadcast(&sent).await.unwrap();
            let next = timeout(Duration::from_millis(200), own.next()).await;
            if matches!(next, Ok(Some(heard)) if heard == sent) {
                break;
            }
        }
    })
    .await
    .unwrap();
    let heard = timeout(SOON, async {
        loop {
            let heard: SlotBroadcast = listeners[0].next().await.unwrap();
            if heard == sent {
                break heard;
            }
        }
    });
    assert_eq!(heard.await.unwrap(), sent);
    // Another cluster on the same servers hears nothing.
    assert!(timeout(Duration::from_millis(200), listeners[1].next()).await.is_err());

    for serving in serving {
        serving.drain(SOON).await;
    }
    assert!(matches!(
        client.request(&SegmentHeadersRequest { indices: vec![] }).await,
        Err(ClientError::NoResponders { .. })
    ));
}

async fn wait_for_service(client: &ClusterClient) {
    timeout(SOON, async {
        while client.request(&SegmentHeadersRequest { indices: vec![] }).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn instances_are_addressed_and_members_identify() {
    let server = NatsServer::start();
    let client = server.client().await;
    let mut serving = Vec::new();
    let ids = [InstanceId::generate(), InstanceId::generate()];
    for (n, id) in ids.into_iter().enumerate() {
        let peer = server.client().await;
        let contents = move |request: ContentsRequest| async move {
            Ok(Contents::collect(request.from, [PieceIndex(n as u64 + 10)]))
        };
        serving.push(peer.serve_instance(id, 2, contents).await.unwrap());
        let identify = move |request: IdentifyRequest| async move {
            let role = if n == 0 { Role::ShardedCache } else { Role::FullPieceShardedCache };
            request.role.is_none_or(|asked| asked == role).then(|| MemberStatus {
                role,
                instance: id,
                build: "test".into(),
                state: MemberState::Ready,
                uptime_s: n as u64,
                srs_digest: None,
                genesis: None,
                address: None,
                counters: vec![Counter { name: "pieces".into(), value: 7 }],
            })
        };
        serving.push(peer.serve_scatter(identify).await.unwrap());
    }
    for (n, id) in ids.into_iter().enumerate() {
        let contents = client.request_instance(id, &ContentsRequest { from: PieceIndex(3) }).await.unwrap();
        assert_eq!(contents.pieces.iter().collect::<Vec<_>>(), [PieceIndex(n as u64 + 10)]);
    }
    let error = client
        .request_instance(InstanceId::generate(), &ContentsRequest { from: PieceIndex(0) })
        .await
        .unwrap_err();
    assert!(error.is_not_delivered(), "{error}");

    let window = Duration::from_millis(500);
    let members = client.scatter(&IdentifyRequest { role: None }, window).await.unwrap();
    assert_eq!(members.len(), 2);
    let caches = client.scatter(&IdentifyRequest { role: Some(Role::ShardedCache) }, window).await.unwrap();
    assert_eq!(caches.iter().map(|member| member.instance).collect::<Vec<_>>(), [ids[0]]);
    drop(serving);
}

fn prove_request(id: u64, bytes: usize) -> ProveRequest {
    ProveRequest { asker: InstanceId::generate(), id, distance: 0, input: vec![1; bytes] }
}

#[tokio::test]
async fn handlers_that_refuse_hang_or_get_garbage_give_typed_errors() {
    let server = NatsServer::start();
    let client = server.client().await;
    let peer = server.client().await;
    let _prove = peer
        .serve_queue(1, |request: ProveRequest| async move {
            if request.id == 0 {
                std::future::pending::<()>().await;
            }
            if request.id == 1 {
                return Err(Refusal::unavailable("no table"));
            }
            Ok(Err(ProveError::Busy))
        })
        .await
        .unwrap();
    let ask = |id, within| {
        let client = client.clone();
        async move { client.request_within(&prove_request(id, 1_060_000), within).await }
    };
    timeout(SOON, async {
        while ask(5, SOON).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(ask(5, SOON).await.unwrap(), Err(ProveError::Busy));
    let refused = ask(1, SOON).await.unwrap_err();
    assert!(refused.is_transient() && !refused.is_not_delivered(), "{refused}");
    let silence = ask(0, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(silence, ClientError::TimedOut { .. }));
    assert!(!silence.is_not_delivered(), "silence proves nothing");

    // The service gives a hanging handler up after the message's own deadline and goes on.
    assert_eq!(ask(5, SOON).await.unwrap(), Err(ProveError::Busy));

    let raw = async_nats::connect(server.url()).await.unwrap();
    let subject = "autonomys.v1.default.proof-server.prove";
    let version = raw.request(subject, vec![9, 1, 2].into()).await.unwrap();
    assert_eq!(&version.payload[..], [0, 0, 9, 2], "refusal: version, found 9, expected 2");
    let oversized = raw.request(subject, vec![2; 1_400_000].into()).await.unwrap();
    assert_eq!(oversized.payload[..2], [0, 1], "refusal: malformed");
    assert!(String::from_utf8_lossy(&oversized.payload).contains("1399999 bytes"));
    assert_eq!(raw.request(subject, "".into()).await.unwrap().payload[..2], [0, 1]);
    // Still alive after all of it.
    assert_eq!(ask(5, SOON).await.unwrap(), Err(ProveError::Busy));
}

#[tokio::test]
async fn a_client_survives_the_death_of_its_server() {
    let mut server = NatsServer::start();
    let client = server.client().await;
    let peer = server.client().await;
    let _serving = peer
        .serve_queue(1, |request: SegmentHeadersRequest| async move { Ok(vec![None; request.indices.len()]) })
        .await
        .unwrap();
    let mut slots = peer.listen::<SlotBroadcast>().await.unwrap();
    wait_for_service(&client).await;
    server.kill();
    let mut state = client.watch_state();
    timeout(SOON, state.wait_for(|state| *state == ConnectionState::Disconnected)).await.unwrap().unwrap();
    let error = client.request(&SegmentHeadersRequest { indices: vec![] }).await.unwrap_err();
    assert!(matches!(error, ClientError::Disconnected { .. }) && error.is_not_delivered());
    assert!(client.broadcast(&slot(1)).await.is_err());

    server.restart();
    timeout(SOON, client.wait_connected()).await.unwrap();
    wait_for_service(&client).await;
    client.broadcast(&slot(2)).await.unwrap();
    assert_eq!(timeout(SOON, slots.next()).await.unwrap().unwrap().slot.slot_number, 2);
}

#[tokio::test]
async fn connecting_waits_for_a_server() {
    let mut server = NatsServer::start();
    server.kill();
    let options = server.options();
    let connecting = tokio::spawn(async move { ClusterClient::connect(&options).await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!connecting.is_finished());
    server.restart();
    let client = timeout(SOON, connecting).await.unwrap().unwrap().unwrap();
    assert_eq!(client.state(), ConnectionState::Connected);
}

#[tokio::test]
async fn a_server_with_a_small_max_payload_is_refused() {
    let server = NatsServer::start_with_max_payload(1_048_576);
    let error = ClusterClient::connect(&server.options()).await.unwrap_err();
    assert!(matches!(error, ClientError::MaxPayload { found: 1_048_576, .. }), "{error}");
    assert!(error.to_string().contains("max_payload: 3MB"), "{error}");
}

#[tokio::test]
async fn a_flood_of_requests_is_refused_and_not_kept() {
    let server = NatsServer::start();
    let client = server.client().await;
    let peer = server.client().await;
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&open);
    let serving = peer
        .serve_queue(2, move |_: ProveRequest| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(Err(ProveError::TooLate))
            }
        })
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // 2 in hand, 25 of 1.3 MB waiting; what comes after that is refused at once.
    let mut asking = Vec::new();
    for _ in 0..40 {
        let client = client.clone();
        asking.push(tokio::spawn(async move { client.request(&prove_request(1, 1000)).await }));
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    let refused = asking.iter().filter(|asking| asking.is_finished()).count();
    open.add_permits(100);
    let mut answered = 0;
    for asking in asking {
        match timeout(SOON, asking).await.unwrap().unwrap() {
            Ok(reply) => {
                assert_eq!(reply, Err(ProveError::TooLate));
                answered += 1;
            }
            Err(error) => assert!(
                matches!(error, ClientError::Refused { refusal: Refusal::Busy, .. })
                    && error.is_not_delivered()
                    && error.is_transient(),
                "{error}"
            ),
        }
    }
    assert_eq!((refused, answered), (13, 27));
    serving.drain(SOON).await;
}

/// Messages of a build to come, under the subjects of today's.
mod newer {
    use super::*;
    use parity_scale_codec::{Decode, Encode};

    #[derive(Debug, Encode, Decode)]
    pub(super) struct Slot(pub(super) u64);

    impl Payload for Slot {
        const VERSION: u8 = 2;
        const MAX_BYTES: usize = 8;
    }

    impl Broadcast for Slot {
        const SUBJECT: &'static str = SlotBroadcast::SUBJECT;
    }

    #[derive(Debug, Encode, Decode)]
    pub(super) struct Headers;

    impl Payload for Headers {
        const VERSION: u8 = 3;
        const MAX_BYTES: usize = 0;
    }

    impl Request for Headers {
        type Reply = Slot;
        const SUBJECT: &'static str = SegmentHeadersRequest::SUBJECT;
        const DEADLINE: Duration = SOON;
    }

    impl QueueRequest for Headers {}

    /// Today's request, and an answer of a build to come.
    #[derive(Debug, Encode, Decode)]
    pub(super) struct Piece(pub(super) PieceIndex);

    impl Payload for Piece {
        const MAX_BYTES: usize = 8;
    }

    impl Request for Piece {
        type Reply = Slot;
        const SUBJECT: &'static str = PieceRequest::SUBJECT;
        const DEADLINE: Duration = SOON;
    }

    impl QueueRequest for Piece {}
}

#[tokio::test]
async fn builds_that_do_not_understand_each_other_are_named() {
    let server = NatsServer::start();
    let named = |name: &str| NatsOptions { name: name.to_owned(), ..server.options() };
    let old = ClusterClient::connect(&named("controller 01A 1.0.0")).await.unwrap();
    let new = ClusterClient::connect(&named("plot-client 01B 2.0.0")).await.unwrap();
    let names = |error: &ClientError, words: [&str; 2]| {
        assert!(matches!(error, ClientError::Skew { .. }) && !error.is_transient(), "{error}");
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)) && text.contains("the same build"), "{text}");
    };

    let _headers = old.serve_queue(1, |_: SegmentHeadersRequest| async { Ok(Vec::new()) }).await.unwrap();
    wait_for_service(&new).await;
    let error = new.request(&newer::Headers).await.unwrap_err();
    names(&error, ["controller 01A 1.0.0 speaks version 1", "plot-client 01B 2.0.0 version 3"]);
    assert!(error.is_not_delivered(), "another controller may understand it");

    let _pieces = new.serve_queue(1, |_: newer::Piece| async { Ok(newer::Slot(1)) }).await.unwrap();
    let asking = async {
        loop {
            match old.request(&PieceRequest { index: PieceIndex(1) }).await.unwrap_err() {
                ClientError::NoResponders { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
                error => break error,
            }
        }
    };
    let error = timeout(SOON, asking).await.unwrap();
    names(&error, ["plot-client 01B 2.0.0 speaks version 2", "controller 01A 1.0.0 version 1"]);
    assert!(!error.is_not_delivered(), "it was answered");

    // What cannot be read is left out, and what can be is not.
    let mut slots = old.listen::<SlotBroadcast>().await.unwrap();
    let telling = async {
        loop {
            new.broadcast(&newer::Slot(1)).await.unwrap();
            new.broadcast(&slot(8)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let heard = tokio::select! {
        heard = slots.next() => heard,
        () = telling => None,
    };
    assert_eq!(heard.unwrap().slot.slot_number, 8);
}

#[tokio::test]
async fn only_members_who_know_the_secret_get_in() {
    let secret = ClusterSecret::from_bytes(b"correct horse battery");
    let server = NatsServer::start_with_password(&secret);
    let connect = async |secret: Option<ClusterSecret>| {
        let options = NatsOptions { secret, ..server.options() };
        timeout(Duration::from_secs(3), ClusterClient::connect(&options)).await
    };
    let client = connect(Some(secret)).await.expect("let in at once").unwrap();
    client.shared_secret().await;
    for other in [None, Some(ClusterSecret::from_bytes(b"another horse battery"))] {
        assert!(connect(other).await.is_err(), "it waits for a server that lets it in");
    }
    // A server that asks for no password does not mind one.
    let open = NatsServer::start();
    let options =
        NatsOptions { secret: Some(ClusterSecret::from_bytes(b"any secret at all")), ..open.options() };
    ClusterClient::connect(&options).await.unwrap();
}
