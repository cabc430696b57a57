//! Messages from and to controllers.

use super::{Broadcast, InstanceId, InstanceRequest, Payload, QueueRequest, Request, check_text};
use parity_scale_codec::{Decode, Encode};
use primitives::rpc::MAX_SEGMENT_HEADERS_PER_REQUEST;
use primitives::{
    Blake3Hash, BlockNumber, FarmerAppInfo, Piece, PieceIndex, RewardSignatureResponse, RewardSigningInfo,
    SegmentHeader, SegmentIndex, SlotInfo, SlotNumber, SolutionResponse,
};
use std::time::Duration;

/// A slot, from every controller; a plot-client takes the first copy of (number, challenge).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SlotBroadcast {
    /// The controller that says so; it takes the solutions.
    pub controller: InstanceId,
    /// The slot.
    pub slot: SlotInfo,
}

impl Payload for SlotBroadcast {
    const MAX_BYTES: usize = 256;
}

impl Broadcast for SlotBroadcast {
    const SUBJECT: &'static str = "controller.slot";
}

/// Most bytes of a node's address in [`NodeViewBroadcast`].
const MAX_NODE: usize = 256;

/// How a controller's node stands; each controller compares its own with the others'.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeViewBroadcast {
    /// The controller that says so.
    pub controller: InstanceId,
    /// Address of its node, for people.
    pub node: String,
    /// Number of the node's best block.
    pub best_block: BlockNumber,
    /// Number and hash of a block that is deep enough to stay.
    pub settled_block: (BlockNumber, Blake3Hash),
    /// Index and hash of the newest segment header.
    pub segment: Option<(SegmentIndex, Blake3Hash)>,
    /// Number and challenge of the newest slot.
    pub slot: Option<(SlotNumber, Blake3Hash)>,
}

impl Payload for NodeViewBroadcast {
    const MAX_BYTES: usize = 512;

    fn check(&self) -> Result<(), &'static str> {
        if self.node.len() > MAX_NODE { Err("a node's address of more than 256 bytes") } else { Ok(()) }
    }
}

impl Broadcast for NodeViewBroadcast {
    const SUBJECT: &'static str = "controller.node-view";
}

/// A newly archived segment, after its pieces were stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SegmentHeaderBroadcast {
    /// The controller that says so.
    pub controller: InstanceId,
    /// The header.
    pub header: SegmentHeader,
}

impl Payload for SegmentHeaderBroadcast {
    const MAX_BYTES: usize = 256;
}

impl Broadcast for SegmentHeaderBroadcast {
    const SUBJECT: &'static str = "controller.segment-header";
}

/// A block or vote that a farm is asked to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct RewardSigningBroadcast {
    /// The controller whose node asks; it takes the signature.
    pub controller: InstanceId,
    /// What is to be signed, by whom.
    pub info: RewardSigningInfo,
}

impl Payload for RewardSigningBroadcast {
    const MAX_BYTES: usize = 256;
}

impl Broadcast for RewardSigningBroadcast {
    const SUBJECT: &'static str = "controller.reward-signing";
}

/// Asks for the chain and what its protocol wants of farms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct FarmerAppInfoRequest;

impl Payload for FarmerAppInfoRequest {
    const MAX_BYTES: usize = 0;
}

impl Request for FarmerAppInfoRequest {
    type Reply = FarmerAppInfo;
    const SUBJECT: &'static str = "controller.farmer-app-info";
    const DEADLINE: Duration = Duration::from_secs(10);
}

impl QueueRequest for FarmerAppInfoRequest {}

impl Payload for FarmerAppInfo {
    const MAX_BYTES: usize = 64 * 1024;
}

/// Asks for segment headers by index, at most 1000.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SegmentHeadersRequest {
    /// Indices of the segments.
    pub indices: Vec<SegmentIndex>,
}

impl Payload for SegmentHeadersRequest {
    const MAX_BYTES: usize = 8 * MAX_SEGMENT_HEADERS_PER_REQUEST + 4;

    fn check(&self) -> Result<(), &'static str> {
        if self.indices.len() > MAX_SEGMENT_HEADERS_PER_REQUEST {
            return Err("more than 1000 segment indices");
        }
        Ok(())
    }
}

impl Request for SegmentHeadersRequest {
    type Reply = Vec<Option<SegmentHeader>>;
    const SUBJECT: &'static str = "controller.segment-headers";
    const DEADLINE: Duration = Duration::from_secs(10);
}

impl QueueRequest for SegmentHeadersRequest {}

/// Headers in the order asked for; none for a segment that does not exist.
impl Payload for Vec<Option<SegmentHeader>> {
    const MAX_BYTES: usize = 128 * MAX_SEGMENT_HEADERS_PER_REQUEST + 4;

    fn check(&self) -> Result<(), &'static str> {
        if self.len() > MAX_SEGMENT_HEADERS_PER_REQUEST {
            return Err("more than 1000 segment headers");
        }
        Ok(())
    }
}

/// Asks for one piece: the last resort of a plot-server, when no cache has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PieceRequest {
    /// Index of the piece.
    pub index: PieceIndex,
}

impl Payload for PieceRequest {
    const MAX_BYTES: usize = 8;
}

impl Request for PieceRequest {
    type Reply = Option<Piece>;
    const SUBJECT: &'static str = "controller.piece";
    /// A controller may have to reconstruct it.
    const DEADLINE: Duration = Duration::from_secs(60);
}

impl QueueRequest for PieceRequest {}

impl Payload for Option<Piece> {
    const MAX_BYTES: usize = Piece::SIZE + 5;
}

/// Gives a controller a solution for its node: sent to the one whose copy of the slot was taken.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SolutionSubmission {
    /// The solution and its slot.
    pub response: SolutionResponse,
}

impl Payload for SolutionSubmission {
    const MAX_BYTES: usize = 1024;
}

impl Request for SolutionSubmission {
    type Reply = SolutionOutcome;
    const SUBJECT: &'static str = "controller.solution";
    const DEADLINE: Duration = Duration::from_secs(10);
}

impl InstanceRequest for SolutionSubmission {}

/// What became of a solution.
///
/// Only after [`Self::Ignored`], [`Self::NotDelivered`] or a [`crate::ClientError::is_not_delivered`] may the same
/// solution go to another controller; after silence never, since the chain treats the same vote under a second
/// signature as equivocation (design §4).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum SolutionOutcome {
    /// The node took it.
    #[codec(index = 0)]
    Accepted,
    /// The node refused it.
    #[codec(index = 1)]
    Rejected {
        /// The node's words.
        reason: String,
    },
    /// The node ignored it: the slot is gone there, or its queue is full.
    #[codec(index = 2)]
    Ignored,
    /// The controller could not hand it to its node, and knows that the node has not seen it.
    #[codec(index = 3)]
    NotDelivered {
        /// Why.
        reason: String,
    },
}

impl SolutionOutcome {
    /// Whether the same solution may be sent to another controller.
    pub fn may_go_elsewhere(&self) -> bool {
        matches!(self, Self::Ignored | Self::NotDelivered { .. })
    }
}

impl Payload for SolutionOutcome {
    const MAX_BYTES: usize = 2048;

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Rejected { reason } | Self::NotDelivered { reason } => check_text(reason),
            Self::Accepted | Self::Ignored => Ok(()),
        }
    }
}

/// Gives a controller the signature that its node asked for.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RewardSignatureSubmission {
    /// The signature.
    pub response: RewardSignatureResponse,
}

impl Payload for RewardSignatureSubmission {
    const MAX_BYTES: usize = 256;
}

impl Request for RewardSignatureSubmission {
    type Reply = RewardSignatureOutcome;
    const SUBJECT: &'static str = "controller.reward-signature";
    const DEADLINE: Duration = Duration::from_secs(5);
}

impl InstanceRequest for RewardSignatureSubmission {}

/// What became of a reward signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RewardSignatureOutcome {
    /// The node took it.
    #[codec(index = 0)]
    Accepted,
    /// The node refused it, or could not be reached.
    #[codec(index = 1)]
    Rejected {
        /// Why.
        reason: String,
    },
}

impl Payload for RewardSignatureOutcome {
    const MAX_BYTES: usize = 2048;

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Rejected { reason } => check_text(reason),
            Self::Accepted => Ok(()),
        }
    }
}
