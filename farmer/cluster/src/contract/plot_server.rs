//! Messages to plot-servers.

use super::{InstanceId, InstanceRequest, Payload, QueueRequest, Request, TcpAddress, check_text};
use parity_scale_codec::{Decode, Encode};
use primitives::{FarmerProtocolInfo, HistorySize, PublicKey, SectorIndex};
use std::time::Duration;

/// How long a lease lives without being renewed.
pub const LEASE_EXPIRY: Duration = Duration::from_secs(60);
/// Most spooled sectors that are listed at once.
pub const MAX_SPOOLED: usize = 1024;

/// Identity of a farm: the 16 bytes of its ULID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FarmId(pub u128);

/// What a sector in the making is known by: asking again finds the same one, in the spool or in the making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct LeaseKey {
    /// Public key of the farm.
    pub public_key: PublicKey,
    /// Sector in the farm.
    pub sector_index: SectorIndex,
    /// History size at which it is plotted.
    pub history_size: HistorySize,
}

/// Asks for a sector; a server with room answers with a lease, another keeps one waiting request per farm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct OfferRequest {
    /// Public key of the farm.
    pub public_key: PublicKey,
    /// The farm.
    pub farm_id: FarmId,
    /// Sector in the farm.
    pub sector_index: SectorIndex,
    /// What the protocol asks of the sector; its history size is that of the sector.
    pub protocol_info: FarmerProtocolInfo,
    /// Pieces in the sector; at most the protocol's.
    pub pieces_in_sector: u16,
}

impl OfferRequest {
    /// What the sector will be known by.
    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            public_key: self.public_key,
            sector_index: self.sector_index,
            history_size: self.protocol_info.history_size,
        }
    }
}

impl Payload for OfferRequest {
    const MAX_BYTES: usize = 256;

    fn check(&self) -> Result<(), &'static str> {
        if self.pieces_in_sector == 0 || self.pieces_in_sector > self.protocol_info.max_pieces_in_sector {
            return Err("the pieces in the sector are none or more than the protocol allows");
        }
        Ok(())
    }
}

impl Request for OfferRequest {
    type Reply = OfferReply;
    const SUBJECT: &'static str = "plot-server.offer";
    const DEADLINE: Duration = Duration::from_secs(5);
}

/// To any server with a free place; or to the one that is known to have the sector.
impl QueueRequest for OfferRequest {}
impl InstanceRequest for OfferRequest {}

/// Answer to an offer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum OfferReply {
    /// The server makes the sector, or has it already.
    #[codec(index = 0)]
    Lease(Lease),
    /// No place; ask again, the farm's turn is kept.
    #[codec(index = 1)]
    Busy {
        /// The server that is busy.
        server: InstanceId,
        /// Farms whose turn comes before this one's.
        waiting_before: u32,
        /// When to ask again.
        retry_after_ms: u32,
    },
}

impl Payload for OfferReply {
    const MAX_BYTES: usize = 4096;

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Lease(lease) => lease.check(),
            Self::Busy { .. } => Ok(()),
        }
    }
}

/// A server's promise to make a sector and keep it until it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Lease {
    /// Identity of the lease; another one after the server has restarted.
    pub id: InstanceId,
    /// The sector.
    pub key: LeaseKey,
    /// The server.
    pub server: InstanceId,
    /// Where the sector is fetched.
    pub address: TcpAddress,
    /// How long it lives without being renewed; fetching and [`ProgressRequest`] renew it.
    pub expires_in_ms: u32,
    /// How far the sector is.
    pub progress: PlotProgress,
}

impl Lease {
    fn check(&self) -> Result<(), &'static str> {
        self.progress.check()
    }
}

/// How far a sector is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum PlotProgress {
    /// It waits for its turn.
    #[codec(index = 0)]
    Queued,
    /// Its pieces are being fetched.
    #[codec(index = 1)]
    Downloading {
        /// Pieces fetched.
        done: u16,
        /// Pieces in the sector.
        of: u16,
    },
    /// Its records are being encoded.
    #[codec(index = 2)]
    Encoding {
        /// Records encoded.
        done: u16,
        /// Records in the sector.
        of: u16,
    },
    /// It is in the spool.
    #[codec(index = 3)]
    Ready {
        /// Bytes of the sector.
        size_bytes: u64,
    },
    /// It could not be made; the lease is over.
    #[codec(index = 4)]
    Failed {
        /// Why.
        reason: String,
    },
}

impl PlotProgress {
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Failed { reason } => check_text(reason),
            Self::Queued | Self::Downloading { .. } | Self::Encoding { .. } | Self::Ready { .. } => Ok(()),
        }
    }
}

/// Asks how far a sector is, and renews its lease; none when the server does not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ProgressRequest {
    /// The sector.
    pub key: LeaseKey,
}

impl Payload for ProgressRequest {
    const MAX_BYTES: usize = 64;
}

impl Request for ProgressRequest {
    type Reply = Option<PlotProgress>;
    const SUBJECT: &'static str = "plot-server.progress";
    const DEADLINE: Duration = Duration::from_secs(5);
}

impl InstanceRequest for ProgressRequest {}

impl Payload for Option<PlotProgress> {
    const MAX_BYTES: usize = 2048;

    fn check(&self) -> Result<(), &'static str> {
        self.as_ref().map_or(Ok(()), PlotProgress::check)
    }
}

/// Gives a sector up: work on it stops and its place in the spool is freed. True when the server knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CancelRequest {
    /// The sector.
    pub key: LeaseKey,
}

impl Payload for CancelRequest {
    const MAX_BYTES: usize = 64;
}

impl Request for CancelRequest {
    type Reply = bool;
    const SUBJECT: &'static str = "plot-server.cancel";
    const DEADLINE: Duration = Duration::from_secs(5);
}

impl InstanceRequest for CancelRequest {}

impl Payload for bool {
    const MAX_BYTES: usize = 1;
}

/// Asks what a server has in its spool for a farm: what a plot-client does after its own restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SpoolRequest {
    /// Public key of the farm.
    pub public_key: PublicKey,
}

impl Payload for SpoolRequest {
    const MAX_BYTES: usize = 64;
}

impl Request for SpoolRequest {
    type Reply = Vec<SpooledSector>;
    const SUBJECT: &'static str = "plot-server.spool";
    const DEADLINE: Duration = Duration::from_secs(5);
}

impl InstanceRequest for SpoolRequest {}

/// A sector in a server's spool, or in the making.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SpooledSector {
    /// The sector.
    pub key: LeaseKey,
    /// Pieces in it.
    pub pieces_in_sector: u16,
    /// How far it is.
    pub progress: PlotProgress,
}

impl Payload for Vec<SpooledSector> {
    const MAX_BYTES: usize = 256 * 1024;

    fn check(&self) -> Result<(), &'static str> {
        if self.len() > MAX_SPOOLED {
            return Err("more than 1024 spooled sectors");
        }
        self.iter().try_for_each(|sector| sector.progress.check())
    }
}
