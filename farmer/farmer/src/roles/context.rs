//! What every role has: its identity, its status, its shutdown, its place in the cluster.

mod address;
mod chain;
mod identity;
mod membership;
mod tls;

pub use chain::{Chain, is_development_node};
pub use identity::Home;
pub use tls::load_tls;

use crate::cli::{NatsArguments, SrsArguments};
use crate::roles::Error;
use crate::shutdown::Shutdown;
use crate::status::{BUILD, State, Status};
use archiving::{Kzg, Srs, SrsKind};
use cluster::client::{ConnectionState, Serving};
use cluster::contract::member::MAX_COUNTERS;
use cluster::contract::{
    Counter, IdentifyRequest, InstanceId, MemberState, MemberStatus, Role, StatusRequest, TcpAddress, clip,
};
use cluster::{ClientError, ClusterClient};
use parking_lot::Mutex;
use primitives::Blake3Hash;
use primitives::rpc::GenesisHash;
use prometheus_client::metrics::gauge::Gauge;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Longest name of a counter that the contract lets pass, bytes.
const MAX_COUNTER_NAME: usize = 128;

/// What the command line says for every role.
#[derive(Debug)]
pub struct Shared {
    /// NATS.
    pub nats: NatsArguments,
    /// Reference string.
    pub srs: SrsArguments,
    /// Where the status is served.
    pub prometheus_listen_on: Option<SocketAddr>,
    /// The shutdown.
    pub shutdown: Shutdown,
    /// Why the cluster refuses this member, if it does.
    pub verdict: Arc<OnceLock<Error>>,
}

/// What a member tells of itself beside its status; filled as it becomes known.
#[derive(Debug, Clone, Copy, Default)]
struct About {
    srs_digest: Option<Blake3Hash>,
    genesis: Option<GenesisHash>,
    address: Option<TcpAddress>,
}

/// What every role has.
pub struct RoleContext {
    /// The role.
    pub role: Role,
    /// This instance.
    pub instance: InstanceId,
    /// Status; its HTTP server runs from [`Self::new`] on.
    pub status: Status,
    /// The shutdown.
    pub shutdown: Shutdown,
    shared: Shared,
    about: Arc<Mutex<About>>,
    serving: Mutex<Vec<Serving>>,
    nats: Mutex<Option<watch::Receiver<ConnectionState>>>,
    joined: Mutex<Option<membership::Joined>>,
}

impl RoleContext {
    /// Finds or makes the instance's identity and serves the status, so that whoever looks can see from the first second
    /// on what the role waits for.
    ///
    /// # Errors
    /// When the identity cannot be read or kept, or the address of the status is taken.
    pub async fn new(role: Role, home: Home, shared: Shared) -> Result<Self, Error> {
        let instance = home.instance()?;
        let status = Status::new(role.name(), instance.to_string());
        tracing::info!(%role, %instance, version = BUILD, "Starting");
        let shutdown = shared.shutdown.clone();
        if let Some(address) = shared.prometheus_listen_on {
            let serving = status.serve(address, shutdown.clone()).await;
            serving.map_err(|source| Error::Listen { what: "--prometheus-listen-on", address, source })?;
        }
        Ok(Self {
            role,
            instance,
            status,
            shutdown,
            shared,
            about: Arc::default(),
            serving: Mutex::default(),
            nats: Mutex::default(),
            joined: Mutex::default(),
        })
    }

    /// Loads the reference string that the command line names: 0.6 s of CPU; the development string is made when it is
    /// asked for the first time.
    ///
    /// # Errors
    /// When none is named, or the file is damaged or another one.
    pub async fn reference_string(&self) -> Result<Kzg, Error> {
        self.status.set(State::Waiting("its reference string".into()));
        let srs = self.unless_stopped(load_reference_string(self.shared.srs.clone())).await??;
        self.about.lock().srs_digest = Some(srs.digest());
        let insecure = srs.kind() == SrsKind::Development;
        insecure_reference_string(&self.status).set(insecure.into());
        if insecure {
            tracing::warn!(digest = %srs.digest(), "INSECURE development reference string: anyone can forge proofs under it");
        } else {
            tracing::info!(digest = %srs.digest(), "Reference string of the live network");
        }
        Ok(Kzg::new(srs))
    }

    /// Connects to NATS, waiting for it as long as it takes, and answers whoever asks how this member is.
    ///
    /// # Errors
    /// When the servers or the cluster's name cannot be used, or on shutdown.
    pub async fn connect(&self) -> Result<ClusterClient, Error> {
        let options = self.shared.nats.options(format!("{} {} {BUILD}", self.role, self.instance))?;
        self.status.set(State::Waiting(format!("a NATS server ({})", options.servers.join(", "))));
        let client = self.unless_stopped(ClusterClient::connect(&options)).await??;
        *self.nats.lock() = Some(client.watch_state());
        self.answer_for_itself(&client).await?;
        Ok(client)
    }

    async fn answer_for_itself(&self, client: &ClusterClient) -> Result<(), Error> {
        let reporter = self.reporter();
        let status = {
            let reporter = reporter.clone();
            move |StatusRequest| std::future::ready(Ok(reporter.status()))
        };
        let role = self.role;
        let identify = move |request: IdentifyRequest| {
            let asked = request.role.is_none_or(|asked| asked == role);
            std::future::ready(asked.then(|| reporter.status()))
        };
        let status = client.serve_instance(self.instance, 1, status).await?;
        let identify = client.serve_scatter(identify).await?;
        self.keep_serving([status, identify]);
        Ok(())
    }

    /// Keeps services running for as long as this context lives.
    pub fn keep_serving(&self, services: impl IntoIterator<Item = Serving>) {
        self.serving.lock().extend(services);
    }

    /// Makes statuses of this member.
    pub fn reporter(&self) -> Reporter {
        Reporter {
            role: self.role,
            instance: self.instance,
            status: self.status.clone(),
            about: Arc::clone(&self.about),
        }
    }

    /// Lets others know the chain.
    pub fn set_genesis(&self, genesis: GenesisHash) {
        self.about.lock().genesis = Some(genesis);
    }

    /// Lets others know where this member takes TCP connections.
    pub fn set_address(&self, address: TcpAddress) {
        self.about.lock().address = Some(address);
    }

    /// Digest of the reference string, once it is loaded.
    pub fn srs_digest(&self) -> Option<Blake3Hash> {
        self.about.lock().srs_digest
    }

    /// The future's result, unless the shutdown comes first.
    ///
    /// # Errors
    /// [`Error::Stopped`] on shutdown.
    pub async fn unless_stopped<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        self.shutdown.unless_triggered(future).await.ok_or(Error::Stopped)
    }

    /// Says that the role is at work, or that it waits for NATS when that is lost, until the shutdown.
    pub async fn run_until_shutdown(&self) {
        let nats = self.nats.lock().clone();
        let follow = async {
            let Some(mut nats) = nats else { return std::future::pending::<()>().await };
            loop {
                match *nats.borrow_and_update() {
                    ConnectionState::Connected => self.status.set(State::Ready),
                    ConnectionState::Disconnected => self.status.set(State::Waiting("a NATS server".into())),
                }
                if nats.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        self.status.set(State::Ready);
        let _ = self.shutdown.unless_triggered(follow).await;
        self.status.set(State::Stopping);
        self.leave().await;
    }

    /// The command line's part that all roles have.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Registers which reference string is used.
pub(crate) fn insecure_reference_string(status: &Status) -> Gauge {
    status.gauge(
        "insecure_reference_string",
        "1 under the INSECURE development reference string, 0 under the live network's",
    )
}

const NO_REFERENCE_STRING: &str = "no reference string: name the live network's file (eth-public-parameters.bin) with \
                                   --srs FILE or AUTONOMYS_SRS, or, for a development chain only, give --dev-srs-cache \
                                   DIR";

/// Loads the reference string that the command line names.
///
/// # Errors
/// When none or two are named, or the file is damaged or another one.
pub async fn load_reference_string(arguments: SrsArguments) -> Result<Srs, Error> {
    let SrsArguments { srs, dev_srs_cache } = arguments;
    let loading = tokio::task::spawn_blocking(move || match (srs, dev_srs_cache) {
        (Some(file), Some(cache)) => Err(Error::Config(format!(
            "two reference strings: the live network's, {} (--srs or AUTONOMYS_SRS), and the development string in {} \
             (--dev-srs-cache); give one",
            file.display(),
            cache.display()
        ))),
        (Some(path), None) => Srs::load(&path).map_err(|error| Error::Config(error.to_string())),
        (None, Some(cache)) => Srs::development(&cache).map_err(|error| Error::Config(error.to_string())),
        (None, None) => Err(Error::Config(NO_REFERENCE_STRING.into())),
    });
    loading.await.map_err(|error| Error::Internal(error.to_string()))?
}

/// Makes statuses of a member; cheap to clone.
#[derive(Clone)]
pub struct Reporter {
    role: Role,
    instance: InstanceId,
    status: Status,
    about: Arc<Mutex<About>>,
}

impl Reporter {
    /// The status as it stands.
    pub fn status(&self) -> MemberStatus {
        let report = self.status.report();
        let About { srs_digest, genesis, address } = *self.about.lock();
        let state = match (report.state, report.waiting_for) {
            ("ready", _) => MemberState::Ready,
            ("stopping", _) => MemberState::Stopping,
            (_, reason) => MemberState::Waiting { reason: clip(reason.unwrap_or_default()) },
        };
        let counters = report.counters.into_iter().filter(|(name, _)| name.len() <= MAX_COUNTER_NAME);
        let counter = |(name, value)| Counter { name, value: u64::try_from(value).unwrap_or(0) };
        MemberStatus {
            role: self.role,
            instance: self.instance,
            build: BUILD.into(),
            state,
            uptime_s: report.uptime_s,
            srs_digest,
            genesis,
            address,
            counters: counters.take(MAX_COUNTERS).map(counter).collect(),
        }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Servers(_) | ClientError::MaxPayload { .. } => Self::Config(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
