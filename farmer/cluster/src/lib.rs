//! How the roles of a cluster find each other and talk: the NATS [`contract`], its [`client`], membership and leases on
//! JetStream, the TCP transfer of pieces and sectors.
//!
//! NATS carries control, TCP carries data (design §4). Farming needs core NATS only; what needs JetStream (membership,
//! leases) freezes while JetStream is gone and goes on when it is back.
//!
//! Architecture invariant: this crate moves bytes and names. It knows no proof, no plot and no store: what it serves it
//! takes from trait objects, what it fetches it checks by hash and writes into the caller's buffers.

mod backoff;
pub mod client;
pub mod contract;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod kv;
pub mod lease;
pub mod membership;
mod secret;
pub mod sharding;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transfer;

pub use backoff::Backoff;
pub use client::{ClusterClient, ConnectionState, NatsOptions};
pub use error::ClientError;
pub use identity::{Disagreement, IdentityError};
pub use lease::{Leadership, Lease};
pub use membership::{MemberInfo, Members, Membership};
pub use secret::{ClusterSecret, SecretError};
