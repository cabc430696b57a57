//! Which chain the cluster farms, and whether everybody means the same one.

use crate::roles::{Error, RoleContext};
use crate::status::State;
use archiving::SrsKind;
use cluster::contract::{FarmerAppInfoRequest, IdentifyRequest, MemberStatus, Role};
use cluster::{Backoff, ClusterClient};
use node::NodeClient;
use primitives::FarmerAppInfo;
use primitives::rpc::GenesisHash;
use std::time::Duration;

/// How long members are waited for that tell their chain.
const IDENTIFY_WINDOW: Duration = Duration::from_millis(500);
/// Waits for a controller.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The chain as a controller tells it.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Genesis: its name.
    pub genesis: GenesisHash,
    /// What the protocol asks of farms, as of now.
    pub info: FarmerAppInfo,
}

impl RoleContext {
    /// Waits for a controller and learns the chain from it; refuses one with another reference string.
    ///
    /// # Errors
    /// When the cluster's controllers use another reference string, or disagree; on shutdown.
    pub async fn chain(&self, client: &ClusterClient) -> Result<Chain, Error> {
        self.unless_stopped(self.wait_for_chain(client)).await?
    }

    async fn wait_for_chain(&self, client: &ClusterClient) -> Result<Chain, Error> {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
        loop {
            match self.ask_for_chain(client).await? {
                Ok(chain) => return Ok(chain),
                Err(what) => self.status.set(State::Waiting(what)),
            }
            backoff.wait().await;
        }
    }

    /// The chain, or what is to be waited for.
    async fn ask_for_chain(&self, client: &ClusterClient) -> Result<Result<Chain, String>, Error> {
        let cluster = client.cluster();
        let info = match client.request(&FarmerAppInfoRequest).await {
            Ok(info) => info,
            Err(error) => {
                return Ok(Err(format!("a controller of cluster {cluster} that has a node: {error}")));
            }
        };
        let genesis = info.genesis_hash;
        let request = IdentifyRequest { role: Some(Role::Controller) };
        let controllers = match client.scatter(&request, IDENTIFY_WINDOW).await {
            Ok(controllers) => controllers,
            Err(error) => return Ok(Err(format!("a controller of cluster {cluster}: {error}"))),
        };
        let known: Vec<_> = controllers.iter().filter(|controller| controller.genesis.is_some()).collect();
        if known.is_empty() {
            return Ok(Err(format!("a controller of cluster {cluster} to tell its reference string")));
        }
        for controller in known {
            self.agree(controller, genesis)?;
        }
        self.set_genesis(genesis);
        Ok(Ok(Chain { genesis, info }))
    }

    /// Refuses a cluster whose controllers are on another chain or under another reference string than this role.
    ///
    /// # Errors
    /// [`Error::Config`] that names both.
    pub fn agree(&self, controller: &MemberStatus, genesis: GenesisHash) -> Result<(), Error> {
        let instance = controller.instance;
        if let (Some(ours), Some(theirs)) = (self.srs_digest(), controller.srs_digest)
            && ours != theirs
        {
            let name =
                |digest| SrsKind::from_digest(digest).map_or("unknown".to_owned(), |kind| kind.to_string());
            return Err(Error::Config(format!(
                "reference strings differ: this {} has {ours} ({}), controller {instance} has {theirs} ({}); give every \
                 role of the cluster the same --srs (or --dev-srs-cache)",
                self.role,
                name(ours),
                name(theirs)
            )));
        }
        match controller.genesis {
            Some(theirs) if theirs != genesis => Err(Error::Config(format!(
                "chains differ: genesis {genesis} here, {theirs} at controller {instance}; all nodes of a cluster must \
                 be of one chain: give a second chain another --cluster"
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a reference string that is not that of the node's chain.
    ///
    /// # Errors
    /// [`Error::Config`] when it is another's.
    pub fn fits_node(&self, kind: SrsKind, node: &NodeClient, development: bool) -> Result<(), Error> {
        let url = node.url();
        match (kind, development) {
            (SrsKind::Live, false) | (SrsKind::Development, true) => Ok(()),
            (SrsKind::Development, false) => Err(Error::Config(format!(
                "the node at {url} is on a live chain; the development reference string {} is INSECURE and refused \
                 there: name the live one ({}) with --srs FILE or AUTONOMYS_SRS",
                SrsKind::Development.digest(),
                SrsKind::Live.digest()
            ))),
            (SrsKind::Live, true) => Err(Error::Config(format!(
                "the node at {url} is a development node; its chain uses the development reference string {}, not the \
                 live one {}: give --dev-srs-cache DIR instead of --srs",
                SrsKind::Development.digest(),
                SrsKind::Live.digest()
            ))),
        }
    }
}

/// Whether the node says of itself that its chain is a development chain: only our development node has `dev_stats`.
///
/// # Errors
/// Those of the node.
pub async fn is_development_node(node: &NodeClient) -> Result<bool, node::Error> {
    match node.read::<serde_json::Value>("dev_stats").await {
        Ok(stats) => Ok(stats["insecure"] == true),
        Err(node::Error::UnknownMethod { .. } | node::Error::UnsafeMethod { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
