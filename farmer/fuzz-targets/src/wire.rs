//! What comes over TCP and NATS.

use crate::packing::unpacked;
use archiving::archiver::SegmentItem;
use cluster::contract::envelope::{open_reply, seal_reply};
use cluster::contract::*;
use cluster::transfer::{ServerOptions, TransferServer};
use cluster::{ClusterSecret, MemberInfo, fuzzing};
use farming::proving::ProofInput;
use parity_scale_codec::{DecodeAll, Encode};
use primitives::{FarmerAppInfo, Piece, SegmentHeader, Solution};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

pub(crate) fn transfer_frame(bytes: &[u8]) -> bool {
    let Ok(again) = fuzzing::frame(bytes) else { return false };
    assert_eq!(again, bytes, "a frame is encoded as it came");
    true
}

pub(crate) fn transfer_hello(bytes: &[u8]) -> bool {
    fuzzing::hello(bytes)
}

/// A server that serves nothing, and the runtime that it lives on.
struct Serving {
    runtime: Runtime,
    server: TransferServer,
    secret: ClusterSecret,
}

/// Time in which a server must have said goodbye.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// A real server, the handshake passed: whatever follows, it answers or hangs up, and lives on.
pub(crate) fn transfer_server(bytes: &[u8]) -> bool {
    static SERVING: OnceLock<Serving> = OnceLock::new();
    let Serving { runtime, server, secret } = SERVING.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let secret = ClusterSecret::from_bytes(b"of the fuzz targets");
        let options = ServerOptions::new(secret.clone(), InstanceId::generate());
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime.block_on(TransferServer::start(loopback, options)).expect("a free port");
        Serving { runtime, server, secret }
    });
    runtime.block_on(async {
        let mut stream = fuzzing::connect(server.address(), secret).await.expect("the server lives");
        // It may hang up in the middle.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let goodbye = tokio::time::timeout(ANSWER_TIME, stream.read_to_end(&mut answer)).await;
        assert!(goodbye.is_ok(), "the server neither answers nor hangs up");
    });
    true
}

macro_rules! messages {
    ($($message:ty),* $(,)?) => {
        /// Every message of the contract: an input's first byte is the place of its message. New ones go to the end.
        pub const MESSAGES: &[(&str, fn(&[u8]) -> bool)] = &[$((stringify!($message), opened::<$message>)),*];
    };
}

messages![
    SlotBroadcast,
    NodeViewBroadcast,
    SegmentHeaderBroadcast,
    RewardSigningBroadcast,
    ReinitializeBroadcast,
    FarmerAppInfoRequest,
    FarmerAppInfo,
    SegmentHeadersRequest,
    Vec<Option<SegmentHeader>>,
    PieceRequest,
    Option<Piece>,
    SolutionSubmission,
    SolutionOutcome,
    RewardSignatureSubmission,
    RewardSignatureOutcome,
    ContentsRequest,
    Contents,
    CacheStatusRequest,
    CacheStatus,
    StatusRequest,
    IdentifyRequest,
    MemberStatus,
    OfferRequest,
    OfferReply,
    ProgressRequest,
    Option<PlotProgress>,
    CancelRequest,
    bool,
    SpoolRequest,
    Vec<SpooledSector>,
    ProveRequest,
    Result<Solution, ProveError>,
    ProofWantedRequest,
    ProofWanted,
];

/// Opens a message, or the refusal in its place.
fn opened<T: Payload + PartialEq>(bytes: &[u8]) -> bool {
    match open_reply::<T>(bytes) {
        Ok(Ok(message)) => {
            // Addresses have several spellings, so not the bytes are compared.
            let again = message.seal().expect("what was opened is within its bounds");
            assert_eq!(T::open(&again), Ok(message));
            true
        }
        Ok(Err(refusal)) => {
            let again = seal_reply::<T>(Err(refusal.clone()));
            assert_eq!(again, bytes, "a refusal is encoded as it came");
            assert_eq!(open_reply::<T>(&again), Ok(Err(refusal)));
            true
        }
        Err(_) => false,
    }
}

pub(crate) fn nats_message(input: &[u8]) -> bool {
    let Some((&message, bytes)) = input.split_first() else { return false };
    let Some((_, open)) = MESSAGES.get(usize::from(message)) else { return false };
    if let Ok(contents) = Contents::open(bytes) {
        let held: Vec<_> = contents.pieces.iter().collect();
        assert_eq!(held.len() as u64, contents.pieces.len());
        assert!(
            held.iter().all(|piece| contents.pieces.contains(*piece)),
            "a piece listed and not contained"
        );
    }
    open(bytes)
}

type OpenEntry = fn(&[u8]) -> bool;

/// Entries of JetStream's buckets, as [`MESSAGES`].
pub const ENTRIES: &[(&str, OpenEntry)] = &[
    ("Lease", |bytes| same(bytes, fuzzing::lease_entry(bytes))),
    ("Identity", |bytes| same(bytes, fuzzing::identity_entry(bytes))),
    ("MemberInfo", opened::<MemberInfo>),
];

fn same(bytes: &[u8], again: Option<impl AsRef<[u8]>>) -> bool {
    let Some(again) = again else { return false };
    assert_eq!(again.as_ref(), bytes, "an entry is encoded as it came");
    true
}

pub(crate) fn kv_entry(input: &[u8]) -> bool {
    let Some((&entry, bytes)) = input.split_first() else { return false };
    ENTRIES.get(usize::from(entry)).is_some_and(|(_, open)| open(bytes))
}

pub(crate) fn proof_input(input: &[u8]) -> bool {
    let bytes = unpacked(input);
    let Ok(decoded) = ProofInput::decode_all(&mut &bytes[..]) else { return false };
    assert!(decoded.piece_offset.0 < decoded.pieces_in_sector, "a record outside of its sector");
    assert!(decoded.encode() == bytes, "a proof's input is encoded as it came");
    true
}

pub(crate) fn segment_headers(bytes: &[u8]) -> bool {
    let list = Vec::<SegmentHeader>::decode_all(&mut &*bytes);
    if let Ok(headers) = &list {
        assert_eq!(headers.encode(), bytes, "headers are encoded as they came");
    }
    let one = SegmentHeader::decode_all(&mut &*bytes);
    if let Ok(header) = &one {
        assert_eq!(header.encode(), bytes, "a header is encoded as it came");
    }
    list.is_ok() || one.is_ok()
}

pub(crate) fn segment_items(bytes: &[u8]) -> bool {
    let Ok(items) = SegmentItem::decode_segment(bytes) else { return false };
    let data: usize = items.iter().map(SegmentItem::data_length).sum();
    assert!(data <= bytes.len(), "{data} bytes of blocks in {} bytes of a segment", bytes.len());
    true
}

/// What a control machine and a host say to each other: frames of JSON and bytes.
pub(crate) fn provision_frame(bytes: &[u8]) -> bool {
    provision::transport::frames_in(bytes) > 0
}
