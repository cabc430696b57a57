//! The roles under test, each as a task of its own.

use crate::world::Node;
use archiving::Kzg;
use cluster::ClusterSecret;
use cluster::contract::Role;
use cluster::testing::{NatsServer, free_address};
use farmer::cli::{
    AdvertiseArguments, BackendArguments, FarmPath, NatsArguments, PlotClientArguments, PlotServerArguments,
    ProofServerArguments, Space, SrsArguments, TlsArguments,
};
use farmer::roles::context::{Home, Shared};
use farmer::roles::piece_source::directory::Cache;
use farmer::roles::{Error, RoleContext, plot_client, plot_server, proof_server};
use farmer::shutdown::Shutdown;
use farmer::status::Status;
use farming::plot::{Farm, FarmError, FarmMode, FarmOptions};
use primitives::{HistorySize, PublicKey, ss58};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A role at work.
pub struct Running {
    status: Status,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// A counter, with all its labels together.
    pub fn counter(&self, name: &str) -> i64 {
        let counters = self.status.report().counters;
        let labelled = format!("{name}{{");
        counters
            .iter()
            .filter(|(key, _)| *key == name || key.starts_with(&labelled))
            .map(|(_, count)| count)
            .sum()
    }

    /// Shuts down, which has to be prompt.
    pub async fn stop(self) {
        self.shutdown.trigger();
        let started = Instant::now();
        self.task.await.unwrap().unwrap();
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

async fn context(nats: &NatsServer, srs_cache: &Path, role: Role, home: Home) -> RoleContext {
    let shared = Shared {
        nats: NatsArguments {
            nats_servers: vec![nats.url()],
            cluster: "default".into(),
            cluster_secret_file: None,
            tls: TlsArguments::default(),
        },
        srs: SrsArguments { srs: None, dev_srs_cache: Some(srs_cache.to_owned()) },
        prometheus_listen_on: None,
        shutdown: Shutdown::default(),
        verdict: Arc::default(),
    };
    RoleContext::new(role, home, shared).await.unwrap()
}

fn kzg(context: &RoleContext) -> impl Future<Output = Result<Kzg, Error>> {
    context.reference_string()
}

pub struct Server {
    running: Running,
    port: u16,
}

impl Server {
    pub async fn start(
        nats: &NatsServer,
        secret: &ClusterSecret,
        srs_cache: &Path,
        base_path: &Path,
        caches: Vec<Cache>,
        advertise: Option<SocketAddr>,
    ) -> Self {
        let port = free_address().port();
        let arguments = PlotServerArguments {
            backend: BackendArguments::default(),
            base_path: base_path.to_owned(),
            listen_port: port,
            advertise: AdvertiseArguments { advertise: advertise.map(|address| address.to_string()) },
            priority_cache: false,
            record_encoding_concurrency: None,
            spool_sectors: 2,
        };
        let home = Home::Kept(base_path.to_owned());
        let context = context(nats, srs_cache, Role::PlotServer, home).await;
        let (status, shutdown) = (context.status.clone(), context.shutdown.clone());
        let secret = secret.clone();
        let task = tokio::spawn(async move {
            let kzg = kzg(&context).await?;
            let client = context.connect().await?;
            let surroundings = plot_server::Surroundings {
                client,
                credentials: secret.into(),
                kzg,
                caches: Some(Arc::new(caches)),
            };
            plot_server::serve(&context, &arguments, surroundings).await
        });
        Self { running: Running { status, shutdown, task }, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn counter(&self, name: &str) -> i64 {
        self.running.counter(name)
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }
}

pub struct ProofServer(Running);

impl ProofServer {
    pub async fn start(nats: &NatsServer, srs_cache: &Path) -> Self {
        let context = context(nats, srs_cache, Role::ProofServer, Home::Fresh).await;
        let (status, shutdown) = (context.status.clone(), context.shutdown.clone());
        let kzg = kzg(&context).await.unwrap();
        let client = context.connect().await.unwrap();
        let task = tokio::spawn(async move {
            let arguments = ProofServerArguments { proof_concurrency: 1 };
            proof_server::serve(&context, &arguments, &client, kzg).await
        });
        Self(Running { status, shutdown, task })
    }

    pub fn counter(&self, name: &str) -> i64 {
        self.0.counter(name)
    }

    pub async fn stop(self) {
        self.0.stop().await;
    }
}

pub struct Client {
    running: Running,
    directory: PathBuf,
}

impl Client {
    pub async fn start(
        nats: &NatsServer,
        secret: &ClusterSecret,
        srs_cache: &Path,
        node: &Arc<Node>,
        directory: &Path,
        sectors: u16,
    ) -> Self {
        let farm = FarmPath { path: directory.to_owned(), space: Space::Sectors(sectors) };
        let arguments = PlotClientArguments {
            farms: vec![farm],
            reward_address: ss58::encode(ss58::AUTONOMYS_PREFIX, &PublicKey([5; 32])),
            max_pieces_in_sector: None,
            allow_shrink: false,
            new_segment_delay_max: Duration::from_secs(1),
        };
        let context = context(nats, srs_cache, Role::PlotClient, Home::Fresh).await;
        let (status, shutdown) = (context.status.clone(), context.shutdown.clone());
        let (secret, chain) = (secret.clone(), node.chain());
        let task = tokio::spawn(async move {
            let kzg = kzg(&context).await?;
            let client = context.connect().await?;
            let surroundings = plot_client::Surroundings { client, credentials: secret.into(), kzg, chain };
            plot_client::serve(&context, &arguments, surroundings).await
        });
        Self { running: Running { status, shutdown, task }, directory: directory.to_owned() }
    }

    pub fn counter(&self, name: &str) -> i64 {
        self.running.counter(name)
    }

    /// The farm's key, from its files: the farm itself is locked.
    pub fn public_key(&self) -> PublicKey {
        farming::identity::Identity::open(&self.directory).unwrap().unwrap().public_key()
    }

    /// History sizes of the plotted sectors, from the farm's files.
    pub fn history_sizes(&self) -> Vec<HistorySize> {
        sector_metadata(&self.directory).into_iter().map(|metadata| metadata.history_size).collect()
    }

    /// Stops it and waits for its farm: in a process of its own the lock would be gone with the process.
    pub async fn stop(self) {
        self.running.stop().await;
        let options = FarmOptions::existing(&self.directory, FarmMode::ReadOnly);
        // What was computed for a slot on every core is finished and then not used.
        crate::world::eventually("the farm's lock", Duration::from_secs(60), || {
            !matches!(Farm::open(&options), Err(FarmError::Locked { .. }))
        })
        .await;
    }
}

/// Metadata of the sectors that are plotted, in order.
fn sector_metadata(directory: &Path) -> Vec<primitives::sectors::SectorMetadata> {
    use parity_scale_codec::Decode;
    use primitives::Blake3Checksummed;
    use primitives::sectors::SectorMetadata;
    let bytes = std::fs::read(directory.join(farming::plot::METADATA_FILE)).unwrap();
    bytes[primitives::farms::RESERVED_METADATA as usize..]
        .chunks_exact(SectorMetadata::ENCODED_SIZE)
        .filter_map(|mut bytes| Blake3Checksummed::<SectorMetadata>::decode(&mut bytes).ok())
        .map(|Blake3Checksummed(metadata)| metadata)
        .filter(|metadata| !metadata.is_dummy())
        .collect()
}
