//! Errors of the transfer.

use std::io;
use std::net::SocketAddr;

/// Why a transfer did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The peer cannot be reached.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The peer.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {peer} broke: {source}")]
    Io {
        /// The peer.
        peer: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The peer was silent for too long.
    #[error("{peer} was silent for too long while {what} was due")]
    TimedOut {
        /// The peer.
        peer: SocketAddr,
        /// What was waited for.
        what: &'static str,
    },
    /// The peer speaks something else.
    #[error("{peer} does not speak this cluster's transfer protocol")]
    NotAPeer {
        /// The peer.
        peer: SocketAddr,
    },
    /// The peer speaks another version.
    #[error(
        "{peer} speaks version {found} of the transfer, this build version {expected}: run the same build everywhere"
    )]
    Version {
        /// The peer.
        peer: SocketAddr,
        /// Its version.
        found: u16,
        /// Our version.
        expected: u16,
    },
    /// The peer does not know the cluster's secret, or knows another.
    #[error("{peer} has another cluster secret: give every role the same --cluster-secret-file")]
    WrongSecret {
        /// The peer.
        peer: SocketAddr,
    },
    /// The peer uses TLS, this end does not.
    #[error(
        "{peer} uses TLS, this role does not: give every role --tls-cert, --tls-key and --tls-ca, or none of them"
    )]
    PeerWithTls {
        /// The peer.
        peer: SocketAddr,
    },
    /// This end uses TLS, the peer does not.
    #[error(
        "{peer} does not use TLS, this role does: give every role --tls-cert, --tls-key and --tls-ca, or none of them"
    )]
    PeerWithoutTls {
        /// The peer.
        peer: SocketAddr,
    },
    /// The ends do not agree on TLS, or one does not accept the other's certificate.
    #[error(
        "TLS with {peer} failed: {reason}; every role's --tls-cert must be of the authority in everyone's --tls-ca, and a \
         server's must have the address it is reached at among its subjectAltNames"
    )]
    Tls {
        /// The peer.
        peer: SocketAddr,
        /// What TLS says.
        reason: rustls::Error,
    },
    /// The peer takes no more connections, or is going to stop.
    #[error("{peer} takes no connection now: {reason}")]
    Unavailable {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The peer violated the protocol.
    #[error("{peer} violated the protocol: {what}")]
    Protocol {
        /// The peer.
        peer: SocketAddr,
        /// How.
        what: String,
    },
    /// The peer answered a request with an error.
    #[error("{peer}: {reason}")]
    Refused {
        /// The peer.
        peer: SocketAddr,
        /// Its words.
        reason: String,
    },
    /// The peer does not know the sector that was asked for.
    #[error("{peer} does not know the sector")]
    UnknownSector {
        /// The peer.
        peer: SocketAddr,
    },
    /// The plot-server could not make the sector.
    #[error("{peer} could not make the sector: {reason}")]
    SectorFailed {
        /// The peer.
        peer: SocketAddr,
        /// Its words.
        reason: String,
    },
    /// A block of a sector has another hash than its manifest says.
    #[error("block {block} of the sector from {peer} is damaged")]
    DamagedBlock {
        /// The peer.
        peer: SocketAddr,
        /// Number of the block.
        block: u32,
    },
    /// The sector was made anew between two attempts: what was fetched of it is void, and it begins with block 0 again.
    #[error("the sector at {peer} was made anew; fetching it begins anew")]
    SectorChanged {
        /// The peer.
        peer: SocketAddr,
    },
    /// The caller's sink refused what was fetched.
    #[error("what was fetched could not be stored: {0}")]
    Sink(String),
    /// An earlier operation was cut off in the middle.
    #[error("the connection to {peer} cannot be used any more")]
    Broken {
        /// The peer.
        peer: SocketAddr,
    },
    /// The caller asked for something impossible.
    #[error("{0}")]
    Usage(&'static str),
}

impl TransferError {
    /// What the end of a connection means, which with TLS may be a word of TLS.
    pub(crate) fn broken(peer: SocketAddr, source: io::Error) -> Self {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            // What came was no record of TLS.
            Some(rustls::Error::InvalidMessage(_)) => Self::PeerWithoutTls { peer },
            Some(reason) => Self::Tls { peer, reason: reason.clone() },
            None => Self::Io { peer, source },
        }
    }

    /// Whether another attempt, with this peer or another, makes sense without anyone's doing.
    pub fn is_transient(&self) -> bool {
        !matches!(
            self,
            Self::Listen { .. }
                | Self::Version { .. }
                | Self::WrongSecret { .. }
                | Self::NotAPeer { .. }
                | Self::PeerWithTls { .. }
                | Self::PeerWithoutTls { .. }
                | Self::Tls { .. }
                | Self::SectorFailed { .. }
                | Self::UnknownSector { .. }
                | Self::Usage(_)
        )
    }
}
