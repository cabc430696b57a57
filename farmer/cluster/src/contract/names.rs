//! Names of clusters, roles and instances.

use parity_scale_codec::{Decode, Encode, Error, Input, Output};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use ulid::Ulid;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A cluster's name has characters that a subject or a bucket cannot carry.
    #[error("a cluster's name has 1 to 48 of a-z, 0-9, '-' and '_', not {0:?}")]
    Cluster(String),
    /// Not one of the roles.
    #[error("{0:?} is no role of the cluster")]
    Role(String),
    /// Not a ULID.
    #[error("{0:?} is no instance id (26 characters of a ULID)")]
    Instance(String),
}

/// Name of a cluster: several may share one NATS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if text.is_empty() || text.len() > 48 || !text.bytes().all(allowed) {
            return Err(NameError::Cluster(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A role of the cluster, named as on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Role {
    /// Stands between a node and the cluster.
    #[codec(index = 0)]
    Controller,
    /// Holds its share of all pieces.
    #[codec(index = 1)]
    ShardedCache,
    /// Holds every piece.
    #[codec(index = 2)]
    FullPieceShardedCache,
    /// Makes solutions of candidates.
    #[codec(index = 3)]
    ProofServer,
    /// Encodes sectors.
    #[codec(index = 4)]
    PlotServer,
    /// Keeps plots and audits them.
    #[codec(index = 5)]
    PlotClient,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 6] = [
        Self::Controller,
        Self::ShardedCache,
        Self::FullPieceShardedCache,
        Self::ProofServer,
        Self::PlotServer,
        Self::PlotClient,
    ];

    /// The subcommand of the role.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::ShardedCache => "sharded-cache",
            Self::FullPieceShardedCache => "full-piece-sharded-cache",
            Self::ProofServer => "proof-server",
            Self::PlotServer => "plot-server",
            Self::PlotClient => "plot-client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| NameError::Role(text.to_owned()))
    }
}

/// Identity of a running role, or of what is kept in its base path. SCALE: u128; text: ULID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub Ulid);

impl InstanceId {
    /// A new identity.
    pub fn generate() -> Self {
        Self(Ulid::from_parts(milliseconds_since_1970(), rand::random()))
    }
}

fn milliseconds_since_1970() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({})", self.0)
    }
}

impl FromStr for InstanceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ulid::from_string(text).map(Self).map_err(|_| NameError::Instance(text.to_owned()))
    }
}

impl Encode for InstanceId {
    fn size_hint(&self) -> usize {
        16
    }

    fn encode_to<O: Output + ?Sized>(&self, dest: &mut O) {
        self.0.0.encode_to(dest);
    }
}

impl Decode for InstanceId {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        u128::decode(input).map(|id| Self(Ulid(id)))
    }
}

/// Where a server takes TCP connections. SCALE: its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpAddress(pub SocketAddr);

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<SocketAddr> for TcpAddress {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl Encode for TcpAddress {
    fn encode_to<O: Output + ?Sized>(&self, dest: &mut O) {
        self.0.to_string().encode_to(dest);
    }
}

impl Decode for TcpAddress {
    fn decode<I: Input>(input: &mut I) -> Result<Self, Error> {
        let text = String::decode(input)?;
        text.parse().map(Self).map_err(|_| Error::from("not an IP address with a port"))
    }
}
