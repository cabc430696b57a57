//! The reference cluster's own NATS payloads, `farming/nats_messages.json`: our SCALE and our wire types give the same
//! bytes.
#![allow(clippy::unwrap_used, missing_docs)]

mod reference;

use parity_scale_codec::{Decode, DecodeAll, Encode};
use primitives::checksum::Blake3Checksummed;
use primitives::hashes::blake3_hash;
use primitives::sectors::{PlottedSector, SectorMetadata};
use primitives::*;
use reference::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;
use ulid::Ulid;
use vectors::Hex;

const ID: &str = "0G3J7DV0DKE5A2B3T3J08EZJ7E";
const ACK: &str = "stream-response-ack.01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    messages: Vec<Message>,
    note: String,
    seed: String,
    tagged_id_scale: Hex,
    ulid: String,
    ulid_as_u128: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Message {
    kind: String,
    message: String,
    subject: String,
    value: Value,
    scale: Option<Hex>,
    scale_blake3: Option<Hex>,
    scale_first64: Option<Hex>,
    scale_size: Option<usize>,
}

/// What is due of a message beside its bytes.
struct Due<'a> {
    kind: &'a str,
    subject: String,
}

impl Message {
    /// The message's value as a type; every field of it must be known to the type.
    fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.value.clone()).unwrap_or_else(|error| panic!("{}: {error}", self.message))
    }

    /// Compares the encoding of `typed` with the vector, and decodes it again.
    fn is<T: Encode + Decode + PartialEq + Debug>(&self, typed: &T) {
        let encoded = typed.encode();
        match (&self.scale, &self.scale_blake3, &self.scale_first64, self.scale_size) {
            (Some(scale), None, None, None) => {
                assert_eq!(hex::encode(&encoded), hex::encode(&scale.0), "{}", self.message);
            }
            (None, Some(hash), Some(first), Some(size)) => {
                assert_eq!(encoded.len(), size, "{}", self.message);
                assert_eq!(hex::encode(&encoded[..64]), hex::encode(&first.0), "{}", self.message);
                assert_eq!(blake3_hash(&encoded).0, hash.array(), "{}", self.message);
            }
            _ => panic!("{}: neither whole nor hashed bytes", self.message),
        }
        assert_eq!(&T::decode_all(&mut &encoded[..]).unwrap(), typed, "{}", self.message);
    }

    /// The value says nothing beyond these words.
    fn says(&self, value: &Value) {
        assert_eq!(&self.value, value, "{}", self.message);
    }
}

fn id() -> Ulid {
    Ulid::from_string(ID).unwrap()
}

fn tagged() -> TaggedId {
    TaggedId::Ulid(PlainId(id()))
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn piece(seed: &str) -> Piece {
    Piece::try_from(vectors::xof(&format!("{seed}/piece"), Piece::SIZE)).unwrap()
}

/// "sector 5, history 9, 4 pieces, all s-bucket sizes 2"; which pieces those are follows from the hashes alone.
fn plotted(public_key: PublicKey) -> PlottedSector {
    let history_size = HistorySize::new(9).unwrap();
    PlottedSector {
        sector_id: public_key.sector_id(5, history_size),
        sector_index: 5,
        sector_metadata: Blake3Checksummed(SectorMetadata {
            sector_index: 5,
            pieces_in_sector: 4,
            s_bucket_sizes: vec![2; 65_536].try_into().unwrap(),
            history_size,
        }),
        piece_indexes: [1, 2, 3, 900].map(PieceIndex).to_vec(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SlotValue {
    instance: String,
    nats_msg_id_header: String,
    slot_info: SlotInfo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HeaderValue {
    header: SegmentHeader,
    nats_msg_id_header: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PlotSectorValue {
    public_key: PublicKey,
    sector_index: u16,
    farmer_protocol_info: FarmerProtocolInfo,
    pieces_in_sector: u16,
}

fn due(kind: &'static str, subject: &str) -> Due<'static> {
    Due { kind, subject: subject.to_owned() }
}

fn controller(message: &Message, seed: &str) -> Option<Due<'static>> {
    let subject = |name: &str| format!("subspace.controller.{name}");
    let (kind, name) = match message.message.strip_prefix("ClusterController")? {
        "FarmerIdentifyBroadcast" => {
            message.says(&json!({}));
            message.is(&());
            ("broadcast", "farmer-identify")
        }
        "CacheIdentifyBroadcast" => {
            message.says(&json!({"cacheGroup": "default"}));
            message.is(&());
            ("broadcast", "default.cache-identify")
        }
        "SlotInfoBroadcast" => {
            let value: SlotValue = message.json();
            assert_eq!(value.nats_msg_id_header, format!("slot-info-{}", value.slot_info.slot_number));
            message.is(&(value.slot_info, value.instance));
            ("broadcast", "slot-info")
        }
        "RewardSigningBroadcast" => {
            message.is(&message.json::<RewardSigningInfo>());
            ("broadcast", "reward-signing-info")
        }
        "ArchivedSegmentHeaderBroadcast" => {
            let value: HeaderValue = message.json();
            let index = value.header.segment_index();
            assert_eq!(value.nats_msg_id_header, format!("archived-segment-{index}"));
            message.is(&value.header);
            ("broadcast", "archived-segment-header")
        }
        "SolutionNotification" => {
            message.is(&message.json::<SolutionResponse>());
            ("notification", "inst-1.solution")
        }
        "RewardSignatureNotification" => {
            message.is(&message.json::<RewardSignatureResponse>());
            ("notification", "reward-signature")
        }
        "FarmerAppInfoRequest" => {
            message.says(&Value::Null);
            message.is(&());
            ("request", "farmer-app-info")
        }
        "FarmerAppInfoRequest response Ok" | "FarmerAppInfoRequest response Err" => {
            message.is(&message.json::<Result<FarmerAppInfo, String>>());
            return Some(due("response", ""));
        }
        "SegmentHeadersRequest" => {
            message.is(&message.json::<Vec<SegmentIndex>>());
            ("request", "segment-headers")
        }
        "SegmentHeadersRequest response" => {
            message.is(&message.json::<Vec<Option<SegmentHeader>>>());
            return Some(due("response", ""));
        }
        "FindPieceInCacheRequest" => {
            message.is(&message.json::<PieceIndex>());
            ("request", "default.find-piece-in-cache")
        }
        "FindPieceInCacheRequest response Some" => {
            message.says(&json!({"offset": 42, "pieceCacheId": ID}));
            message.is(&Some((tagged(), 42u32)));
            return Some(due("response", ""));
        }
        "FindPieceInCacheRequest response None" => {
            message.says(&Value::Null);
            message.is(&None::<(TaggedId, u32)>);
            return Some(due("response", ""));
        }
        "FindPiecesInCacheRequest" => {
            message.is(&message.json::<Vec<PieceIndex>>());
            ("stream-request", "default.find-pieces-in-cache")
        }
        "FindPiecesInCacheRequest stream Continue" => {
            message.says(&json!({"ackSubject": ACK, "index": 0, "responses": [[1, ID, 42]]}));
            message.is(&StreamResponses::Continue {
                index: 0,
                responses: vec![(PieceIndex(1), tagged(), 42u32)],
                ack_subject: ACK.to_owned(),
            });
            return Some(due("stream-response", "stream-response.<ulid>"));
        }
        "FindPiecesInCacheRequest stream Last" => {
            message.says(&json!({"index": 1, "responses": [[2, ID, 43]]}));
            let responses = vec![(PieceIndex(2), tagged(), 43u32)];
            message.is(&StreamResponses::Last { index: 1, responses });
            return Some(due("stream-response", "stream-response.<ulid>"));
        }
        "PieceRequest" => {
            message.is(&message.json::<PieceIndex>());
            ("request", "piece")
        }
        "PiecesRequest" => {
            message.is(&message.json::<Vec<PieceIndex>>());
            ("stream-request", "pieces")
        }
        "PieceRequest response Some" => {
            let text = format!("first 1048672 bytes of BLAKE3-XOF('{seed}/piece')");
            message.says(&json!({ "piece": text }));
            message.is(&Some(piece(seed)));
            return Some(due("response", ""));
        }
        "PieceRequest response None" => {
            message.says(&Value::Null);
            message.is(&None::<Piece>);
            return Some(due("response", ""));
        }
        _ => return None,
    };
    Some(Due { kind, subject: subject(name) })
}

fn cache(message: &Message, seed: &str) -> Option<Due<'static>> {
    let (kind, name) = match message.message.strip_prefix("Cluster")? {
        "CacheIdentifyBroadcast" => {
            message.says(&json!({"clusterCacheId": ID}));
            message.is(&tagged());
            return Some(due("broadcast", "subspace.cache.default.cache-identify"));
        }
        "CacheDetailsRequest" => {
            message.says(&Value::Null);
            message.is(&());
            ("stream-request", "details")
        }
        "PieceCacheDetails item" => {
            message.says(&json!({"maxNumElements": 1000, "pieceCacheId": ID}));
            message.is(&(tagged(), 1000u32));
            return Some(due("stream-response-item", ""));
        }
        "CacheWritePieceRequest" => {
            message.says(&json!({"offset": 3, "piece": "as above", "pieceIndex": 1234}));
            message.is(&(3u32, PieceIndex(1234), piece(seed)));
            ("request", "write-piece")
        }
        "CacheWritePieceRequest response Ok" => {
            message.is(&message.json::<Result<(), String>>());
            return Some(due("response", ""));
        }
        "CacheReadPieceIndexRequest" => {
            message.is(&message.json::<u32>());
            ("request", "read-piece-index")
        }
        "CacheReadPieceIndexRequest response" => {
            message.is(&message.json::<Result<Option<PieceIndex>, String>>());
            return Some(due("response", ""));
        }
        "CacheReadPieceRequest" => {
            message.is(&message.json::<u32>());
            ("request", "read-piece")
        }
        "CacheReadPieceRequest response" => {
            message.says(&json!({"Ok": [1234, "piece as above"]}));
            message.is(&Ok::<_, String>(Some((PieceIndex(1234), piece(seed)))));
            return Some(due("response", ""));
        }
        "CacheReadPiecesRequest" => {
            message.is(&message.json::<Vec<u32>>());
            ("stream-request", "read-pieces")
        }
        "CacheReadPiecesRequest item missing" => {
            message.says(&json!({"Ok": [4, null]}));
            message.is(&Ok::<_, String>((4u32, None::<(PieceIndex, Piece)>)));
            return Some(due("stream-response-item", ""));
        }
        "CacheContentsRequest" => {
            message.says(&Value::Null);
            message.is(&());
            ("stream-request", "contents")
        }
        "CacheContentsRequest item" => {
            message.is(&message.json::<Result<(u32, Option<PieceIndex>), String>>());
            return Some(due("stream-response-item", ""));
        }
        _ => return None,
    };
    Some(Due { kind, subject: format!("subspace.cache.{ID}.{name}") })
}

fn sector_update(message: &Message, public_key: PublicKey) -> Option<()> {
    use ExpirationUpdate::*;
    use PlottingUpdate::*;
    let (says, update) = match message.message.strip_prefix("ClusterFarmerSectorUpdateBroadcast ")? {
        "Starting" => (
            json!({"farmId": ID, "lastQueued": true, "progress": 12.5, "replotting": false, "sectorIndex": 5}),
            SectorUpdate::Plotting(Starting { progress: 12.5, replotting: false, last_queued: true }),
        ),
        "Downloading" => (json!({}), SectorUpdate::Plotting(Downloading)),
        "Downloaded(1.5s)" => (json!({}), SectorUpdate::Plotting(Downloaded(seconds(1.5)))),
        "Written(0.25s)" => (json!({}), SectorUpdate::Plotting(Written(seconds(0.25)))),
        "Finished" => (
            json!({
                "oldPlottedSector": null,
                "plottedSector": "sector 5, history 9, 4 pieces, all s-bucket sizes 2",
                "time": "90s",
            }),
            SectorUpdate::Plotting(Finished { plotted: plotted(public_key), old: None, time: seconds(90.0) }),
        ),
        "Error" => (json!({"error": "x"}), SectorUpdate::Plotting(Error("x".into()))),
        "Expiration::Determined" => {
            (json!({"expiresAt": 1000}), SectorUpdate::Expiration(Determined { expires_at: 1000 }))
        }
        "Expiration::AboutToExpire" => (json!({}), SectorUpdate::Expiration(AboutToExpire)),
        "Expiration::Expired" => (json!({}), SectorUpdate::Expiration(Expired)),
        _ => return None,
    };
    message.says(&says);
    message.is(&(tagged(), 5u16, update));
    Some(())
}

fn farming_notification(message: &Message) -> Option<()> {
    use FarmingNotification::*;
    let name = message.message.strip_prefix("ClusterFarmerFarmingNotificationBroadcast ")?;
    let (says, notification) = match name {
        "Auditing" => (
            json!({"sectorsCount": 8000, "time": "0.123s"}),
            Auditing { sectors: 8000, time: seconds(0.123) },
        ),
        "Proving Success" => (
            json!({"result": "Success", "time": "0.9s"}),
            Proving { result: ProvingResult::Success, time: seconds(0.9) },
        ),
        "NonFatalError" => {
            (json!({"error": "x", "isFatal": false}), NonFatalError { error: "x".into(), is_fatal: false })
        }
        _ => return None,
    };
    message.says(&says);
    message.is(&(tagged(), notification));
    Some(())
}

fn farmer(message: &Message, public_key: PublicKey) -> Option<Due<'static>> {
    let subject = |name: &str| format!("subspace.farmer.{ID}.{name}");
    if sector_update(message, public_key).is_some() {
        return Some(Due { kind: "broadcast", subject: subject("sector-update") });
    }
    if farming_notification(message).is_some() {
        return Some(Due { kind: "broadcast", subject: subject("farming-notification") });
    }
    let (kind, name) = match message.message.strip_prefix("ClusterFarmer")? {
        "IdentifyBroadcast" => {
            message.says(&json!({"farmerId": ID, "note": "plain u128, no variant byte"}));
            message.is(&PlainId(id()));
            ("broadcast", "farmer-identify")
        }
        "FarmDetailsRequest" => {
            message.says(&Value::Null);
            message.is(&());
            ("stream-request", "farm.details")
        }
        "FarmDetails item" => {
            message.says(&json!({"farmId": ID, "totalSectorsCount": 8000}));
            message.is(&(tagged(), 8000u16));
            return Some(due("stream-response-item", ""));
        }
        "SolutionBroadcast" => {
            message.is(&(tagged(), message.json::<SolutionResponse>()));
            ("broadcast", "solution-response")
        }
        "ReadPieceRequest" => {
            message.says(&json!({"pieceOffset": 7, "sectorIndex": 5}));
            message.is(&(5u16, PieceOffset(7)));
            ("request", "farm.read-piece")
        }
        "PlottedSectorsRequest" => {
            message.says(&Value::Null);
            message.is(&());
            ("stream-request", "farm.plotted-sectors")
        }
        "PlottedSectorsRequest item" => {
            message.says(&json!({"Ok": "plotted sector as above"}));
            message.is(&Ok::<_, String>(plotted(public_key)));
            return Some(due("stream-response-item", ""));
        }
        _ => return None,
    };
    Some(Due { kind, subject: subject(name) })
}

fn plotter(message: &Message, public_key: PublicKey) -> Option<Due<'static>> {
    use PlottingProgress::*;
    match message.message.strip_prefix("ClusterPlotter") {
        Some("FreeInstanceRequest") => {
            message.says(&Value::Null);
            message.is(&());
            return Some(due("request (queue group subspace.plotter)", "subspace.plotter.free-instance"));
        }
        Some("FreeInstanceRequest response Some") => {
            message.is(&message.json::<Option<String>>());
            message.says(&json!(ID));
            return Some(due("response", ""));
        }
        Some("PlotSectorRequest") => {
            let value: PlotSectorValue = message.json();
            message.is(&PlotSectorRequest {
                public_key: value.public_key,
                sector_index: value.sector_index,
                protocol_info: value.farmer_protocol_info,
                pieces_in_sector: value.pieces_in_sector,
            });
            return Some(due("stream-request", &format!("subspace.plotter.{ID}.plot-sector")));
        }
        _ => {}
    }
    let progress = match message.message.strip_prefix("ClusterSectorPlottingProgress ")? {
        "Occupied" => Occupied,
        "Ping" => Ping,
        "Downloading" => Downloading,
        "Downloaded(1.5s)" => Downloaded(seconds(1.5)),
        "Encoding" => Encoding,
        "Encoded(2s)" => Encoded(seconds(2.0)),
        "Finished" => Finished { plotted: plotted(public_key), time: seconds(90.0) },
        "SectorChunk Ok [1,2,3]" => SectorChunk(Ok(vec![1, 2, 3])),
        "SectorChunk Err" => SectorChunk(Err("x".into())),
        "Error" => Error("x".into()),
        _ => return None,
    };
    message.says(&json!({}));
    message.is(&progress);
    Some(due("stream-response-item", ""))
}

fn ack(message: &Message) -> Option<Due<'static>> {
    (message.message == "stream ack for index 0").then(|| {
        message.is(&message.json::<u32>());
        due("ack", ACK)
    })
}

#[test]
fn vectors_nats_messages() {
    let file: File = vectors::load("farming/nats_messages.json");
    assert!(file.note.contains("FarmId/ClusterCacheId = byte 0 + u128 LE"), "{}", file.note);
    assert_eq!(file.seed, "public-farming-1");
    assert_eq!(file.ulid, ID);
    assert_eq!(id().0.to_string(), file.ulid_as_u128);
    assert_eq!(tagged().encode(), file.tagged_id_scale.0);

    // The farm of all these messages is the one that is asked for its signature.
    let signing = file.messages.iter().find(|message| message.message.ends_with("RewardSigningBroadcast"));
    let public_key = signing.unwrap().json::<RewardSigningInfo>().public_key;
    let mut checked = BTreeMap::new();
    for message in &file.messages {
        let due = controller(message, &file.seed)
            .or_else(|| cache(message, &file.seed))
            .or_else(|| farmer(message, public_key))
            .or_else(|| plotter(message, public_key))
            .or_else(|| ack(message))
            .unwrap_or_else(|| panic!("{} is checked by nothing", message.message));
        assert_eq!(message.kind, due.kind, "{}", message.message);
        assert_eq!(message.subject, due.subject, "{}", message.message);
        *checked.entry(message.message.as_str()).or_insert(0) += 1;
    }
    assert_eq!((checked.len(), checked.values().max()), (68, Some(&1)));
}
