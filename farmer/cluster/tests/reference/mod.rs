//! The payloads of the reference cluster (farming §10), declared anew from its description: test support only, our own
//! cluster speaks its own contract.

use parity_scale_codec::{Decode, Encode, Error, Input, Output};
use primitives::sectors::PlottedSector;
use primitives::{FarmerProtocolInfo, PublicKey};
use std::time::Duration;
use ulid::Ulid;

/// A ULID as u128: what is called a cluster farmer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainId(pub(crate) Ulid);

impl Encode for PlainId {
    fn encode_to<O: Output + ?Sized>(&self, dest: &mut O) {
        self.0.0.encode_to(dest);
    }
}

impl Decode for PlainId {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        u128::decode(input).map(|id| Self(Ulid(id)))
    }
}

/// Ids of farms, piece caches and cluster caches: a variant byte before the u128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum TaggedId {
    #[codec(index = 0)]
    Ulid(PlainId),
}

/// One message of a streamed answer.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum StreamResponses<T> {
    #[codec(index = 0)]
    Continue { index: u32, responses: Vec<T>, ack_subject: String },
    #[codec(index = 1)]
    Last { index: u32, responses: Vec<T> },
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum SectorUpdate {
    #[codec(index = 0)]
    Plotting(PlottingUpdate),
    #[codec(index = 1)]
    Expiration(ExpirationUpdate),
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum PlottingUpdate {
    #[codec(index = 0)]
    Starting { progress: f32, replotting: bool, last_queued: bool },
    #[codec(index = 1)]
    Downloading,
    #[codec(index = 2)]
    Downloaded(Duration),
    #[codec(index = 3)]
    Encoding,
    #[codec(index = 4)]
    Encoded(Duration),
    #[codec(index = 5)]
    Writing,
    #[codec(index = 6)]
    Written(Duration),
    #[codec(index = 7)]
    Finished { plotted: PlottedSector, old: Option<PlottedSector>, time: Duration },
    #[codec(index = 8)]
    Error(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
pub(crate) enum ExpirationUpdate {
    #[codec(index = 0)]
    Determined { expires_at: u64 },
    #[codec(index = 1)]
    AboutToExpire,
    #[codec(index = 2)]
    Expired,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum FarmingNotification {
    #[codec(index = 0)]
    Auditing { sectors: u16, time: Duration },
    #[codec(index = 1)]
    Proving { result: ProvingResult, time: Duration },
    #[codec(index = 2)]
    NonFatalError { error: String, is_fatal: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Encode, Decode)]
pub(crate) enum ProvingResult {
    #[codec(index = 0)]
    Success,
    #[codec(index = 1)]
    Timeout,
    #[codec(index = 2)]
    Rejected,
    #[codec(index = 3)]
    Failed,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) struct PlotSectorRequest {
    pub(crate) public_key: PublicKey,
    pub(crate) sector_index: u16,
    pub(crate) protocol_info: FarmerProtocolInfo,
    pub(crate) pieces_in_sector: u16,
}

#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub(crate) enum PlottingProgress {
    #[codec(index = 0)]
    Occupied,
    #[codec(index = 1)]
    Ping,
    #[codec(index = 2)]
    Downloading,
    #[codec(index = 3)]
    Downloaded(Duration),
    #[codec(index = 4)]
    Encoding,
    #[codec(index = 5)]
    Encoded(Duration),
    #[codec(index = 6)]
    Finished { plotted: PlottedSector, time: Duration },
    #[codec(index = 7)]
    SectorChunk(Result<Vec<u8>, String>),
    #[codec(index = 8)]
    Error(String),
}
