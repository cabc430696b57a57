//! What all members of a cluster must have in common: reference string, chain, secret.

use crate::backoff::Backoff;
use crate::client::ClusterClient;
use crate::contract::{Envelope, EnvelopeError, InstanceId, Payload, Role};
use crate::error::ClientError;
use crate::kv::{Bucket, Cas, Outage};
use crate::secret::ClusterSecret;
use parity_scale_codec::{Decode, Encode};
use primitives::Blake3Hash;
use primitives::rpc::GenesisHash;
use std::time::Duration;

const IDENTITY_KEY: &str = "identity";
const SECRET_KEY: &str = "secret";
/// How often a lost compare-and-set is tried again at once.
const ATTEMPTS: usize = 16;

/// Which cluster disagrees with which member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disagreement {
    /// The cluster.
    pub cluster: String,
    /// JetStream bucket that says what the cluster has agreed on.
    pub bucket: String,
    /// Who said it first.
    pub by: String,
    /// Role of the member that disagrees.
    pub role: Role,
}

/// Why a member may not be in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// It has another reference string.
    #[error(
        "cluster {:?} works with the reference string of digest {theirs} (said by {}), this {} has {ours}: give every \
         role the same --srs; if the whole cluster changes it, stop every role and remove key `identity` of the \
         JetStream bucket {}", between.cluster, between.by, between.role, between.bucket
    )]
    Srs {
        /// Who disagrees.
        between: Box<Disagreement>,
        /// The cluster's digest.
        theirs: Blake3Hash,
        /// This member's digest.
        ours: Blake3Hash,
    },
    /// It belongs to another chain.
    #[error(
        "cluster {:?} farms the chain with genesis {theirs} (said by {}), this {} has {ours}: connect it to a node of \
         that chain, or give it another --cluster; if the whole cluster changes its chain, stop every role and remove \
         key `identity` of the JetStream bucket {}", between.cluster, between.by, between.role, between.bucket
    )]
    Genesis {
        /// Who disagrees.
        between: Box<Disagreement>,
        /// The cluster's genesis.
        theirs: GenesisHash,
        /// This member's genesis.
        ours: GenesisHash,
    },
    /// What is stored was written by another version.
    #[error("what the JetStream bucket {bucket} says of the cluster cannot be read: {source}")]
    Unreadable {
        /// The bucket.
        bucket: String,
        /// What is wrong.
        source: EnvelopeError,
    },
}

/// What the cluster has agreed on so far.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Identity {
    pub(crate) srs_digest: Option<Blake3Hash>,
    pub(crate) genesis: Option<GenesisHash>,
    pub(crate) by: InstanceId,
    pub(crate) role: Role,
}

impl Payload for Identity {
    const MAX_BYTES: usize = 256;
}

/// What a member brings with it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) role: Role,
    pub(crate) instance: InstanceId,
    pub(crate) srs_digest: Option<Blake3Hash>,
    pub(crate) genesis: Option<GenesisHash>,
}

/// Compares what a member brings with what the cluster has agreed on; what it does not say yet is added.
///
/// The outer error is JetStream's, the inner one final.
pub(crate) async fn compare(
    bucket: &Bucket,
    cluster: &str,
    claim: &Claim,
) -> Result<Result<(), IdentityError>, ClientError> {
    for _ in 0..ATTEMPTS {
        let entry = bucket.entry(IDENTITY_KEY).await?;
        let known = match &entry {
            None => Identity { srs_digest: None, genesis: None, by: claim.instance, role: claim.role },
            Some(entry) => match Identity::open(&entry.value) {
                Ok(identity) => identity,
                Err(source) => {
                    return Ok(Err(IdentityError::Unreadable { bucket: bucket.name().to_owned(), source }));
                }
            },
        };
        if let Err(error) = agree(bucket, cluster, claim, &known) {
            return Ok(Err(error));
        }
        let merged = Identity {
            srs_digest: known.srs_digest.or(claim.srs_digest),
            genesis: known.genesis.or(claim.genesis),
            ..known.clone()
        };
        if entry.is_some() && merged == known {
            return Ok(Ok(()));
        }
        let value = merged.seal().expect("an identity is within its bounds");
        let written = match entry {
            None => bucket.create(IDENTITY_KEY, value).await?,
            Some(entry) => bucket.update(IDENTITY_KEY, value, entry.revision).await?,
        };
        if let Cas::Written(_) = written {
            return Ok(Ok(()));
        }
    }
    Err(ClientError::nats("agreeing on the cluster's identity", "too many members write it at once"))
}

fn agree(bucket: &Bucket, cluster: &str, claim: &Claim, known: &Identity) -> Result<(), IdentityError> {
    let between = || {
        Box::new(Disagreement {
            cluster: cluster.to_owned(),
            bucket: bucket.name().to_owned(),
            by: format!("{} {}", known.role, known.by),
            role: claim.role,
        })
    };
    if let (Some(theirs), Some(ours)) = (known.srs_digest, claim.srs_digest)
        && theirs != ours
    {
        return Err(IdentityError::Srs { between: between(), theirs, ours });
    }
    if let (Some(theirs), Some(ours)) = (known.genesis, claim.genesis)
        && theirs != ours
    {
        return Err(IdentityError::Genesis { between: between(), theirs, ours });
    }
    Ok(())
}

impl ClusterClient {
    /// The secret that the cluster keeps on its NATS, made by whoever needs it first: the fallback for clusters
    /// without `--cluster-secret-file` (design §4). Waits while JetStream cannot be reached.
    pub async fn shared_secret(&self) -> ClusterSecret {
        let bucket = Bucket::state(self);
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));
        let mut outage = Outage::default();
        loop {
            match shared_secret_once(&bucket).await {
                Ok(secret) => {
                    outage.succeeded("finding the cluster secret");
                    tracing::warn!(
                        bucket = bucket.name(),
                        "no --cluster-secret-file: the secret is kept on NATS, so whoever may use this NATS is in the \
                         cluster",
                    );
                    return secret;
                }
                Err(error) => outage.failed("finding the cluster secret", &error),
            }
            backoff.wait().await;
        }
    }
}

async fn shared_secret_once(bucket: &Bucket) -> Result<ClusterSecret, ClientError> {
    let (secret, bytes) = ClusterSecret::generate();
    if let Cas::Written(_) = bucket.create(SECRET_KEY, bytes.to_vec().into()).await? {
        return Ok(secret);
    }
    let entry = bucket.entry(SECRET_KEY).await?;
    let entry =
        entry.ok_or_else(|| ClientError::nats("reading the cluster secret", "it is not there yet"))?;
    Ok(ClusterSecret::from_bytes(&entry.value))
}
