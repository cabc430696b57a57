//! What the roles say to each other over NATS (design §4): every message, its subject, its bounds and its deadline.
//!
//! A subject is `autonomys.v1.<cluster>.<role>.<verb>`, with `.<instance>` behind it where one instance is addressed; the
//! `<role>.<verb>` is a constant of the message. A payload is one version byte and the SCALE of the message; a reply
//! whose first byte is 0 is a [`Refusal`] instead, in a form that never changes, so that peers of different versions can
//! at least tell each other so. Lengths and counts are checked before a payload is used ([`envelope`]).
//!
//! | pattern | trait | who answers |
//! |---|---|---|
//! | request to a role | [`QueueRequest`] | one instance of the role (queue group) |
//! | request to an instance | [`InstanceRequest`] | that instance |
//! | request to all | [`ScatterRequest`] | every member, within a window |
//! | broadcast | [`Broadcast`] | nobody |

pub mod cache;
pub mod controller;
pub mod envelope;
pub mod member;
pub mod names;
pub mod plot_server;
pub mod proof_server;

pub use cache::{
    CacheState, CacheStatus, CacheStatusRequest, Contents, ContentsRequest, PieceSet, ReinitializeBroadcast,
};
pub use controller::{
    FarmerAppInfoRequest, NodeViewBroadcast, PieceRequest, RewardSignatureOutcome, RewardSignatureSubmission,
    RewardSigningBroadcast, SegmentHeaderBroadcast, SegmentHeadersRequest, SlotBroadcast, SolutionOutcome,
    SolutionSubmission,
};
pub use envelope::{Envelope, EnvelopeError, Refusal};
pub use member::{Counter, IdentifyRequest, MemberState, MemberStatus, StatusRequest};
pub use names::{ClusterName, InstanceId, NameError, Role, TcpAddress};
pub use plot_server::{
    CancelRequest, FarmId, Lease, LeaseKey, OfferReply, OfferRequest, PlotProgress, ProgressRequest,
    SpoolRequest, SpooledSector,
};
pub use proof_server::{ProofWanted, ProofWantedRequest, ProveError, ProveRequest};

use parity_scale_codec::{Decode, Encode};
use std::fmt;
use std::time::Duration;

/// Version of the subject tree; not of the messages.
pub const SUBJECT_PREFIX: &str = "autonomys.v1";
/// Smallest `max_payload` of a NATS server that the cluster can work with.
pub const MIN_MAX_PAYLOAD: usize = 2 * 1024 * 1024;
/// Longest free text in a message, in bytes; longer text is cut by the sender.
pub const MAX_TEXT: usize = 1024;

/// Something that crosses NATS: SCALE behind a version byte, bounded.
pub trait Payload: Encode + Decode + fmt::Debug + Send + Sync + 'static {
    /// Version byte; not 0, which marks a [`Refusal`]. Raised whenever the SCALE form changes.
    const VERSION: u8 = 1;
    /// Most bytes of the SCALE form; checked before it is decoded.
    const MAX_BYTES: usize;

    /// Checks counts and lengths that [`Self::MAX_BYTES`] does not.
    ///
    /// # Errors
    /// What is out of bounds, in words.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

/// A message that is answered.
pub trait Request: Payload {
    /// The answer.
    type Reply: Payload;
    /// `<role>.<verb>`.
    const SUBJECT: &'static str;
    /// How long the requester waits for an answer; the responder gives up after the same time.
    const DEADLINE: Duration;
}

/// A request that any instance of the role may answer.
pub trait QueueRequest: Request {}

/// A request to one instance.
pub trait InstanceRequest: Request {}

/// A request that every instance answers.
pub trait ScatterRequest: Request {}

/// A message to whoever listens.
pub trait Broadcast: Payload {
    /// `<role>.<verb>`.
    const SUBJECT: &'static str;
}

/// Cuts free text to what a message may carry.
pub fn clip(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT - 3;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// [`Payload::check`] of a free text.
pub(crate) fn check_text(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_TEXT { Err("a text of more than 1024 bytes") } else { Ok(()) }
}
