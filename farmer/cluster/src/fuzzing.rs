//! What the fuzz targets reach of the private decoders; no part of the interface.

use crate::contract::{Envelope, InstanceId, LeaseKey, PlotProgress};
use crate::identity::Identity;
use crate::lease::LeaseValue;
use crate::secret::ClusterSecret;
use crate::transfer::frame::{
    BLOCK_PREFIX, FetchSector, GetPieces, HEADER_SIZE, Header, Kind, MAX_PIECES_PER_REQUEST, PIECE_PREFIX,
    PUT_PREFIX, PiecePrefix, PutPrefix, RemoteError, decode,
};
use crate::transfer::{ItemType, PutOutcome, SectorManifest, TransferError, handshake};
use bytes::Bytes;
use parity_scale_codec::{Decode, Encode};
use primitives::{Blake3Hash, HistorySize, PieceIndex, PublicKey};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// Decodes one frame as both ends do; gives it encoded again.
///
/// # Errors
/// Why it was refused.
///
/// # Panics
/// When what was accepted is out of the stated bounds.
pub fn frame(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (header, payload) = bytes.split_first_chunk::<HEADER_SIZE>().ok_or("a part of a header")?;
    let header = Header::decode(header)?;
    assert!(header.length <= header.kind.max_payload(), "{header:?} is longer than its kind may be");
    if payload.len() != header.length {
        return Err("a part of a frame, or more than one".to_owned());
    }
    let again = match header.kind {
        Kind::GetPieces => {
            let get: GetPieces = decode(payload, "get")?;
            assert!(get.indices.len() <= MAX_PIECES_PER_REQUEST, "{} pieces", get.indices.len());
            get.encode()
        }
        Kind::PutPiece => prefixed::<PutPrefix>(payload, PUT_PREFIX)?,
        Kind::Piece => prefixed::<PiecePrefix>(payload, PIECE_PREFIX)?,
        Kind::Block => prefixed::<u32>(payload, BLOCK_PREFIX)?,
        Kind::FetchSector => decode::<FetchSector>(payload, "fetch")?.encode(),
        Kind::AckSector => decode::<LeaseKey>(payload, "acknowledgement")?.encode(),
        Kind::Ping | Kind::Pong | Kind::Done => Vec::new(),
        Kind::Missing => decode::<PieceIndex>(payload, "answer")?.encode(),
        Kind::PutResult => decode::<PutOutcome>(payload, "result")?.encode(),
        Kind::Progress => decode::<PlotProgress>(payload, "progress")?.encode(),
        Kind::Manifest => {
            let manifest: SectorManifest = decode(payload, "manifest")?;
            manifest.check()?;
            let blocks = 0..manifest.blocks();
            let bytes: u64 = blocks.map(|block| manifest.block_size(block) as u64).sum();
            assert_eq!(bytes, manifest.size_bytes, "the blocks of a manifest make up its sector");
            manifest.encode()
        }
        Kind::Error => decode::<RemoteError>(payload, "error")?.encode(),
    };
    Ok([&header.encode()[..], &again].concat())
}

/// Fields, then bytes that are taken as they are.
fn prefixed<T: Decode + Encode>(payload: &[u8], size: usize) -> Result<Vec<u8>, String> {
    let (fields, bytes) = payload.split_at_checked(size).ok_or("fields cut off")?;
    Ok([&decode::<T>(fields, "fields")?.encode()[..], bytes].concat())
}

/// Whether these bytes greet a peer of this version.
pub fn hello(bytes: &[u8]) -> bool {
    let Ok(hello) = bytes.try_into() else { return false };
    handshake::read_hello(hello, SocketAddr::from(([127, 0, 0, 1], 1))).is_ok()
}

/// A greeting.
pub fn sample_hello() -> Vec<u8> {
    handshake::hello(InstanceId(ulid::Ulid(7)), 0).to_vec()
}

/// Opens a lease's entry; gives it sealed again.
pub fn lease_entry(bytes: &[u8]) -> Option<Bytes> {
    Some(LeaseValue::open(bytes).ok()?.seal().expect("what was opened is within its bounds"))
}

/// Opens the entry with the cluster's identity; gives it sealed again.
pub fn identity_entry(bytes: &[u8]) -> Option<Bytes> {
    Some(Identity::open(bytes).ok()?.seal().expect("what was opened is within its bounds"))
}

/// Entries of a lease and of the cluster's identity.
pub fn sample_entries() -> [Bytes; 2] {
    let instance = InstanceId(ulid::Ulid(7));
    let lease = LeaseValue { holder: Some(instance), fence: 3, beat: 9 }.seal();
    let identity = Identity {
        srs_digest: Some(Blake3Hash([1; 32])),
        genesis: None,
        by: instance,
        role: crate::contract::Role::Controller,
    };
    [lease, identity.seal()].map(|entry| entry.expect("samples are within their bounds"))
}

/// Connects to a transfer server and passes the handshake.
///
/// # Errors
/// Those of the handshake.
pub async fn connect(server: SocketAddr, secret: &ClusterSecret) -> Result<TcpStream, TransferError> {
    let io = |source| TransferError::Io { peer: server, source };
    let mut stream = TcpStream::connect(server).await.map_err(io)?;
    handshake::as_client(&mut stream, server, secret, InstanceId(ulid::Ulid(8))).await?;
    Ok(stream)
}

/// A frame of each kind, bulk left short.
pub fn sample_frames() -> Vec<(String, Vec<u8>)> {
    let hash = Blake3Hash([5; 32]);
    let key = LeaseKey { public_key: PublicKey([1; 32]), sector_index: 2, history_size: HistorySize::ONE };
    let get = GetPieces { item: ItemType::Piece, indices: vec![PieceIndex(1), PieceIndex(300)] };
    let put = PutPrefix { item: ItemType::SplitParityPiece, fence: 4, index: PieceIndex(9), hash };
    let manifest =
        SectorManifest { size_bytes: 1_500_000, metadata: vec![7; 40], block_hashes: vec![hash; 2] };
    let payloads: Vec<(Kind, Vec<u8>)> = vec![
        (Kind::GetPieces, get.encode()),
        (Kind::PutPiece, [put.encode(), vec![3; 20]].concat()),
        (Kind::FetchSector, FetchSector { key, from_block: 1 }.encode()),
        (Kind::AckSector, key.encode()),
        (Kind::Ping, vec![]),
        (Kind::Piece, [PiecePrefix { index: PieceIndex(9), hash }.encode(), vec![3; 20]].concat()),
        (Kind::Missing, PieceIndex(4).encode()),
        (Kind::Done, vec![]),
        (Kind::PutResult, PutOutcome::StaleFence { highest: 7 }.encode()),
        (Kind::Progress, PlotProgress::Downloading { done: 1, of: 12 }.encode()),
        (Kind::Manifest, manifest.encode()),
        (Kind::Block, [0_u32.encode(), vec![8; 30]].concat()),
        (Kind::Error, RemoteError::Failed("no".to_owned()).encode()),
        (Kind::Pong, vec![]),
    ];
    let frame = |(kind, payload): (Kind, Vec<u8>)| {
        let header = Header { kind, id: 1, length: payload.len() }.encode();
        (format!("{kind:?}").to_lowercase(), [&header[..], &payload].concat())
    };
    payloads.into_iter().map(frame).collect()
}
