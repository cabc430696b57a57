//! Messages that every member answers, whatever its role.

use super::{InstanceId, InstanceRequest, Payload, Request, Role, ScatterRequest, TcpAddress, check_text};
use parity_scale_codec::{Decode, Encode};
use primitives::Blake3Hash;
use primitives::rpc::GenesisHash;
use std::time::Duration;

/// Most counters in a status.
pub const MAX_COUNTERS: usize = 512;
/// Longest name of a counter in bytes.
const MAX_COUNTER_NAME: usize = 128;

/// Asks one member how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct StatusRequest;

impl Payload for StatusRequest {
    const MAX_BYTES: usize = 0;
}

impl Request for StatusRequest {
    type Reply = MemberStatus;
    const SUBJECT: &'static str = "member.status";
    const DEADLINE: Duration = Duration::from_secs(2);
}

impl InstanceRequest for StatusRequest {}

/// Asks every member how it is; works without JetStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct IdentifyRequest {
    /// Only members of this role answer.
    pub role: Option<Role>,
}

impl Payload for IdentifyRequest {
    const MAX_BYTES: usize = 2;
}

impl Request for IdentifyRequest {
    type Reply = MemberStatus;
    const SUBJECT: &'static str = "member.identify";
    const DEADLINE: Duration = Duration::from_secs(1);
}

impl ScatterRequest for IdentifyRequest {}

/// Whether a member does its work.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum MemberState {
    /// It does.
    #[codec(index = 0)]
    Ready,
    /// It waits for something.
    #[codec(index = 1)]
    Waiting {
        /// For what, in words.
        reason: String,
    },
    /// It ends its work.
    #[codec(index = 2)]
    Stopping,
}

/// A counter of a member, named as in its metrics, for example `solutions_accepted` or
/// `solutions_rejected{reason="OutsideRange"}`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Counter {
    /// Name, at most 128 bytes.
    pub name: String,
    /// Value.
    pub value: u64,
}

/// How a member is: what `util ready` and `provision status` sum up.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MemberStatus {
    /// Its role.
    pub role: Role,
    /// Its identity.
    pub instance: InstanceId,
    /// Version and commit of its binary.
    pub build: String,
    /// Whether it does its work.
    pub state: MemberState,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Digest of its reference string, if its role needs one.
    pub srs_digest: Option<Blake3Hash>,
    /// Its chain, once known.
    pub genesis: Option<GenesisHash>,
    /// Where it takes TCP connections.
    pub address: Option<TcpAddress>,
    /// What it has counted, at most 512.
    pub counters: Vec<Counter>,
}

impl MemberStatus {
    /// Value of a counter.
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.counters.iter().find(|counter| counter.name == name).map(|counter| counter.value)
    }
}

impl Payload for MemberStatus {
    const MAX_BYTES: usize = 128 * 1024;

    fn check(&self) -> Result<(), &'static str> {
        if self.counters.len() > MAX_COUNTERS {
            return Err("more than 512 counters");
        }
        if self.counters.iter().any(|counter| counter.name.len() > MAX_COUNTER_NAME) {
            return Err("a counter's name of more than 128 bytes");
        }
        check_text(&self.build)?;
        match &self.state {
            MemberState::Waiting { reason } => check_text(reason),
            MemberState::Ready | MemberState::Stopping => Ok(()),
        }
    }
}
