//! Versions and bounds of every message, without a server.
#![allow(clippy::unwrap_used, missing_docs)]

use cluster::contract::envelope::{open_reply, seal_reply};
use cluster::contract::*;
use primitives::rpc::{FarmerProtocolInfo, GenesisHash};
use primitives::*;
use proptest::prelude::*;

fn history(segments: u64) -> HistorySize {
    HistorySize::new(segments).unwrap()
}

fn offer(pieces_in_sector: u16) -> OfferRequest {
    OfferRequest {
        public_key: PublicKey([1; 32]),
        farm_id: FarmId(7),
        sector_index: 3,
        protocol_info: FarmerProtocolInfo {
            history_size: history(9),
            max_pieces_in_sector: 1000,
            recent_segments: history(5),
            recent_history_fraction: (history(1), history(10)),
            min_sector_lifetime: history(4),
        },
        pieces_in_sector,
    }
}

fn status(counters: usize) -> MemberStatus {
    MemberStatus {
        role: Role::PlotClient,
        instance: InstanceId::generate(),
        build: "0.1.0".into(),
        state: MemberState::Waiting { reason: "NATS".into() },
        uptime_s: 12,
        srs_digest: Some(Blake3Hash([3; 32])),
        genesis: Some(GenesisHash([4; 32])),
        address: Some("10.0.0.1:9950".parse::<std::net::SocketAddr>().unwrap().into()),
        counters: (0..counters).map(|n| Counter { name: format!("c{n}"), value: n as u64 }).collect(),
    }
}

#[test]
fn a_message_comes_back_as_it_was() {
    let request = offer(1000);
    assert_eq!(OfferRequest::open(&request.seal().unwrap()).unwrap(), request);
    assert_eq!(request.key().history_size, history(9));
    let status = status(512);
    assert_eq!(MemberStatus::open(&status.seal().unwrap()).unwrap(), status);
    assert_eq!(status.counter("c7"), Some(7));
    assert_eq!(status.counter("nothing"), None);
    let view = NodeViewBroadcast {
        controller: InstanceId::generate(),
        node: "n".repeat(256),
        best_block: u32::MAX,
        settled_block: (u32::MAX, Blake3Hash([1; 32])),
        segment: Some((SegmentIndex(u64::MAX), Blake3Hash([2; 32]))),
        slot: Some((u64::MAX, Blake3Hash([3; 32]))),
    };
    assert_eq!(NodeViewBroadcast::open(&view.seal().unwrap()).unwrap(), view);
    assert!(NodeViewBroadcast { node: "n".repeat(257), ..view }.seal().is_err());
    let wanted = ProofWanted { left_ms: Some(u32::MAX) };
    assert_eq!(ProofWanted::open(&wanted.seal().unwrap()).unwrap(), wanted);
    let piece = Some(Piece::zeroed());
    assert_eq!(Option::<Piece>::open(&piece.seal().unwrap()).unwrap(), piece);
    assert_eq!(FarmerAppInfoRequest::open(&[1]).unwrap(), FarmerAppInfoRequest);
}

#[test]
fn the_largest_messages_fit_a_nats_message() {
    for bytes in [
        ProveRequest::MAX_BYTES,
        Option::<Piece>::MAX_BYTES,
        Contents::MAX_BYTES,
        Vec::<Option<SegmentHeader>>::MAX_BYTES,
        Vec::<SpooledSector>::MAX_BYTES,
        MemberStatus::MAX_BYTES,
    ] {
        assert!(bytes < MIN_MAX_PAYLOAD);
    }
    let proof = |bytes| {
        let asker = InstanceId::generate();
        ProveRequest { asker, id: u64::MAX, distance: u64::MAX, input: vec![7; bytes] }
    };
    let full = proof(1_300_000);
    assert_eq!(ProveRequest::open(&full.seal().unwrap()).unwrap(), full);
    let segment_headers = SegmentHeadersRequest { indices: vec![SegmentIndex(u64::MAX); 1000] };
    segment_headers.seal().unwrap();
    let mut contents = Contents::collect(PieceIndex(0), [PieceIndex(0), PieceIndex(8 * 1024 * 1024 - 1)]);
    assert_eq!(contents.next, None);
    assert_eq!(Contents::open(&contents.seal().unwrap()).unwrap(), contents);
    contents = Contents::collect(PieceIndex(0), [PieceIndex(5), PieceIndex(8 * 1024 * 1024)]);
    assert_eq!(contents.next, Some(PieceIndex(8 * 1024 * 1024)));
    assert_eq!(contents.pieces.iter().collect::<Vec<_>>(), [PieceIndex(5)]);
    let headers: Vec<Option<SegmentHeader>> = vec![
        Some(SegmentHeader::V0 {
            segment_index: SegmentIndex(u64::MAX),
            segment_commitment: SegmentCommitment([9; 48]),
            prev_segment_header_hash: Blake3Hash([8; 32]),
            last_archived_block: segments::LastArchivedBlock {
                number: u32::MAX,
                archived_progress: segments::ArchivedBlockProgress::Partial(u32::MAX),
            },
        });
        1000
    ];
    assert_eq!(Vec::<Option<SegmentHeader>>::open(&headers.seal().unwrap()).unwrap(), headers);
}

#[test]
fn what_is_out_of_bounds_is_neither_sent_nor_taken() {
    for pieces in [0, 1001] {
        assert!(matches!(offer(pieces).seal(), Err(EnvelopeError::Malformed(_))));
    }
    let too_many = SegmentHeadersRequest { indices: vec![SegmentIndex(1); 1001] };
    assert!(too_many.seal().is_err());
    let mut bytes = vec![1];
    parity_scale_codec::Encode::encode_to(&too_many, &mut bytes);
    assert!(matches!(SegmentHeadersRequest::open(&bytes), Err(EnvelopeError::TooLarge { .. })));
    assert!(status(513).seal().is_err());
    let asker = InstanceId::generate();
    assert!(ProveRequest { asker, id: 0, distance: 0, input: vec![0; 1_300_001] }.seal().is_err());
    let long = SolutionOutcome::Rejected { reason: "x".repeat(2000) };
    assert!(long.seal().is_err());
    let clipped = SolutionOutcome::Rejected { reason: clip("ä".repeat(2000)) };
    clipped.seal().unwrap();
    // An answer that is out of bounds becomes a refusal, not silence.
    let reply = open_reply::<SolutionOutcome>(&seal_reply(Ok(long))).unwrap();
    assert!(matches!(reply, Err(Refusal::Failed(_))));
}

#[test]
fn other_versions_and_garbage_are_told_apart() {
    let good = offer(5).seal().unwrap().to_vec();
    let mut other = good.clone();
    other[0] = 2;
    let error = OfferRequest::open(&other).unwrap_err();
    assert_eq!(error, EnvelopeError::Version { found: 2, expected: 1 });
    assert!(error.to_string().contains("version 2") && error.to_string().contains("same build"));
    assert_eq!(OfferRequest::open(&[]), Err(EnvelopeError::Empty));
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(OfferRequest::open(&longer), Err(EnvelopeError::Malformed(_))));
    assert!(matches!(OfferRequest::open(&good[..good.len() - 1]), Err(EnvelopeError::Malformed(_))));

    let refusal = Refusal::Version { found: 2, expected: 1 };
    assert_eq!(open_reply::<bool>(&seal_reply::<bool>(Err(refusal.clone()))).unwrap(), Err(refusal));
    // The form of a refusal is frozen: peers of any version must read it.
    assert_eq!(&seal_reply::<bool>(Err(Refusal::Version { found: 2, expected: 1 }))[..], [0, 0, 2, 1]);
    assert_eq!(&seal_reply::<bool>(Err(Refusal::unavailable("no")))[..], [0, 2, 8, b'n', b'o']);
    assert!(matches!(open_reply::<bool>(&[0, 9]), Err(EnvelopeError::Malformed(_))));
    assert!(matches!(open_reply::<bool>(&[]), Err(EnvelopeError::Empty)));
}

#[test]
fn names_are_checked() {
    for name in ["default", "a", "farm-1_b"] {
        assert_eq!(name.parse::<ClusterName>().unwrap().to_string(), name);
    }
    for name in ["", "A", "a.b", "a*", "a b", ">", &"x".repeat(49)] {
        assert!(name.parse::<ClusterName>().is_err(), "{name:?}");
    }
    for role in Role::ALL {
        assert_eq!(role.name().parse::<Role>().unwrap(), role);
    }
    assert!("farmer".parse::<Role>().is_err());
    let id = InstanceId::generate();
    assert_eq!(id.to_string().parse::<InstanceId>().unwrap(), id);
    assert!("nope".parse::<InstanceId>().is_err());
}

proptest! {
    #[test]
    fn bytes_from_anyone_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), version in any::<bool>()) {
        let mut bytes = bytes;
        if version && !bytes.is_empty() {
            bytes[0] = 1;
        }
        let _ = OfferRequest::open(&bytes);
        let _ = MemberStatus::open(&bytes);
        let _ = SolutionSubmission::open(&bytes);
        let _ = SegmentHeadersRequest::open(&bytes);
        let _ = ProveRequest::open(&bytes);
        let _ = open_reply::<Vec<Option<SegmentHeader>>>(&bytes);
        let _ = open_reply::<Option<Piece>>(&bytes);
        let _ = open_reply::<OfferReply>(&bytes);
        let _ = open_reply::<FarmerAppInfo>(&bytes);
        let _ = open_reply::<Vec<SpooledSector>>(&bytes);
        if let Ok(Ok(contents)) = open_reply::<Contents>(&bytes) {
            prop_assert_eq!(contents.pieces.iter().count() as u64, contents.pieces.len());
        }
    }

    #[test]
    fn a_piece_set_holds_what_was_put_into_it(
        first in 0..u64::MAX / 2,
        offsets in prop::collection::btree_set(0u64..5000, 0..60),
    ) {
        let indices: Vec<_> = offsets.iter().map(|offset| PieceIndex(first + offset)).collect();
        let contents = Contents::collect(PieceIndex(first), indices.iter().copied());
        let contents = Contents::open(&contents.seal().unwrap()).unwrap();
        prop_assert_eq!(contents.pieces.iter().collect::<Vec<_>>(), indices.clone());
        prop_assert_eq!(contents.pieces.len(), indices.len() as u64);
        for offset in 0..5000 {
            let index = PieceIndex(first + offset);
            prop_assert_eq!(contents.pieces.contains(index), offsets.contains(&offset));
        }
        prop_assert_eq!(contents.pieces.is_empty(), indices.is_empty());
    }
}
