//! The command line. One definition feeds parsing, `--help` and the man pages.

use crate::logging::LogFormat;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub mod items;
pub mod paths;
pub mod utilities;

pub use items::CacheItemType;
pub use paths::{CachePath, FarmPath, Space};
pub use utilities::*;

/// The roles of an Autonomys farming cluster and its utilities.
#[derive(Debug, Parser)]
#[command(name = "autonomys-farmer", version, propagate_version = true)]
pub struct Cli {
    /// Form of the log on standard error; RUST_LOG filters it
    #[arg(long, global = true, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one role of the cluster
    Cluster(ClusterArguments),
    /// Ask, direct or measure a running cluster; look after farms and stores
    Util(UtilArguments),
}

/// Where the cluster's NATS is and which cluster is meant.
#[derive(Debug, Clone, Args)]
pub struct NatsArguments {
    /// NATS server, for example nats://192.168.1.1:4222; give it once for each server of the NATS cluster
    #[arg(
        long = "nats-server",
        alias = "nats-servers",
        value_name = "URL",
        global = true,
        env = "AUTONOMYS_NATS_SERVERS",
        value_delimiter = ','
    )]
    pub nats_servers: Vec<String>,
    /// Name of the cluster: several may share one NATS
    #[arg(long, value_name = "NAME", global = true, default_value = "default")]
    pub cluster: String,
    /// File with the secret that members prove to each other [default: one made once and kept in NATS]
    #[arg(long, value_name = "FILE", global = true, env = "AUTONOMYS_CLUSTER_SECRET_FILE")]
    pub cluster_secret_file: Option<PathBuf>,
    /// TLS between members.
    #[command(flatten)]
    pub tls: TlsArguments,
}

/// TLS around the TCP transfer of pieces and sectors: all three or none, and the same for every member.
#[derive(Debug, Clone, Default, Args)]
pub struct TlsArguments {
    /// PEM file with this member's certificate: of the authority in --tls-ca, for clients and servers, and with the
    /// address that others reach it at as subjectAltName. With it pieces and sectors go by TLS
    #[arg(long, value_name = "FILE", global = true, env = "AUTONOMYS_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the key of --tls-cert
    #[arg(long, value_name = "FILE", global = true, env = "AUTONOMYS_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// PEM file with the authority that all members' certificates are of
    #[arg(long, value_name = "FILE", global = true, env = "AUTONOMYS_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
}

/// Which reference string the chain uses. Whoever loads it refuses two: clap does not see a conflict of global arguments that
/// stand after a subcommand.
#[derive(Debug, Clone, Args)]
pub struct SrsArguments {
    /// The live network's reference string (eth-public-parameters.bin); its digest is checked
    #[arg(long, value_name = "FILE", global = true, env = "AUTONOMYS_SRS")]
    pub srs: Option<PathBuf>,
    /// INSECURE, for the development chain only: the development reference string, made once and kept in this directory
    #[arg(long, value_name = "DIR", global = true)]
    pub dev_srs_cache: Option<PathBuf>,
}

/// `autonomys-farmer cluster …`
#[derive(Debug, Args)]
pub struct ClusterArguments {
    /// NATS.
    #[command(flatten)]
    pub nats: NatsArguments,
    /// Reference string.
    #[command(flatten)]
    pub srs: SrsArguments,
    /// Serve /metrics, /ready and /status over HTTP on this address
    #[arg(long, value_name = "ADDR:PORT", global = true)]
    pub prometheus_listen_on: Option<SocketAddr>,
    /// The role.
    #[command(subcommand)]
    pub role: Role,
}

/// The roles.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Connects the cluster to a node: slots, segment headers, solutions, reward signatures; keeps the caches filled
    Controller(ControllerArguments),
    /// Holds its share of all pieces and serves them over TCP
    ShardedCache(ShardedCacheArguments),
    /// Holds every piece and serves them over TCP
    FullPieceShardedCache(FullPieceCacheArguments),
    /// Proves winning chunks for plot-clients
    ProofServer(ProofServerArguments),
    /// Encodes sectors for plot-clients
    PlotServer(PlotServerArguments),
    /// Farms: has sectors plotted, audits them every slot, submits solutions
    PlotClient(PlotClientArguments),
}

/// `controller`
#[derive(Debug, Args)]
pub struct ControllerArguments {
    /// WebSocket address of a node that allows unsafe RPC to this host
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:9944")]
    pub node_rpc_url: String,
    /// Directory that keeps this instance's identity
    #[arg(long, value_name = "DIR", conflicts_with = "tmp", required_unless_present = "tmp")]
    pub base_path: Option<PathBuf>,
    /// Take a new identity at every start
    #[arg(long)]
    pub tmp: bool,
}

/// Where a role that serves TCP listens and what it tells others.
#[derive(Debug, Clone, Args)]
pub struct AdvertiseArguments {
    /// Address that others reach this server at [default: the local address of its NATS connection and its port]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub advertise: Option<String>,
}

/// `sharded-cache`
#[derive(Debug, Args)]
pub struct ShardedCacheArguments {
    /// Where pieces are kept and how much of the disk they may take; repeatable. Without a size: all that is free
    #[arg(value_name = "path=DIR[,size=SIZE]", required = true)]
    pub paths: Vec<CachePath>,
    /// In which form pieces are kept and offered; docs/book/item-types.md says which is faster where. Plot-servers fetch both
    #[arg(long, value_enum, value_name = "TYPE", default_value = "piece")]
    pub cache_item_type: CacheItemType,
    /// Address to serve pieces on
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:9950")]
    pub listen: SocketAddr,
    /// Advertised address.
    #[command(flatten)]
    pub advertise: AdvertiseArguments,
    /// Take a new identity at every start; the pieces under path= are kept
    #[arg(long)]
    pub tmp: bool,
}

/// `full-piece-sharded-cache`
#[derive(Debug, Args)]
pub struct FullPieceCacheArguments {
    /// Where the pieces are kept; an exported directory is one
    #[arg(value_name = "path=DIR", required = true)]
    pub path: CachePath,
    /// In which form pieces are kept and offered; docs/book/item-types.md says which is faster where. Plot-servers fetch both
    #[arg(long, value_enum, value_name = "TYPE", default_value = "piece")]
    pub cache_item_type: CacheItemType,
    /// Address to serve pieces on
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:9951")]
    pub listen: SocketAddr,
    /// Advertised address.
    #[command(flatten)]
    pub advertise: AdvertiseArguments,
    /// Take a new identity at every start; the pieces under path= are kept
    #[arg(long)]
    pub tmp: bool,
}

/// `proof-server`
#[derive(Debug, Args)]
pub struct ProofServerArguments {
    /// Proofs made at once; each takes all cores while it runs
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub proof_concurrency: usize,
}

/// What records are encoded on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Backend {
    /// The GPU if there is one that can, else the CPU
    #[default]
    Auto,
    /// The GPU, or not at all
    Cuda,
    /// The CPU
    Cpu,
}

/// The GPU that records are encoded on: the first that `CUDA_VISIBLE_DEVICES` leaves.
#[derive(Debug, Clone, Default, Args)]
pub struct BackendArguments {
    /// What records are encoded on
    #[arg(long, value_enum, value_name = "BACKEND", default_value_t)]
    pub backend: Backend,
    /// Bundle of compiled kernels [default: kernels.bundle beside this program, else they are compiled by this host's NVRTC]
    #[arg(long, value_name = "FILE")]
    pub cuda_kernels: Option<PathBuf>,
    /// Records on the GPU at once, each takes 160 MB of its memory [default: 24, or as many as fit]
    #[arg(long, value_name = "N", env = "GPU_CONCURRENCY")]
    pub gpu_concurrency: Option<NonZeroUsize>,
}

/// `plot-server`
#[derive(Debug, Args)]
pub struct PlotServerArguments {
    /// Directory of the spool: finished sectors wait in it until their plot-client has stored them
    #[arg(value_name = "BASE_PATH")]
    pub base_path: PathBuf,
    /// TCP port that plot-clients fetch sectors from
    #[arg(long, value_name = "PORT", default_value_t = 9966)]
    pub listen_port: u16,
    /// Advertised address.
    #[command(flatten)]
    pub advertise: AdvertiseArguments,
    /// Ask caches on this host first, for all they hold
    #[arg(long)]
    pub priority_cache: bool,
    /// Records encoded on the CPU at once [default: one per core]
    #[arg(long, value_name = "N")]
    pub record_encoding_concurrency: Option<usize>,
    /// What encodes.
    #[command(flatten)]
    pub backend: BackendArguments,
    /// Sectors in the spool at most, encoding or waiting to be fetched
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub spool_sectors: usize,
}

/// `plot-client`
#[derive(Debug, Args)]
pub struct PlotClientArguments {
    /// Farm directory and its number of sectors or the space it may take; repeatable, one a disk
    #[arg(value_name = "path=DIR,sectors=N|size=SIZE", required = true)]
    pub farms: Vec<FarmPath>,
    /// Address (SS58) that receives the rewards
    #[arg(long, value_name = "SS58")]
    pub reward_address: String,
    /// Pieces in a sector, at most what the chain allows [default: what the chain allows]
    #[arg(long, value_name = "N")]
    pub max_pieces_in_sector: Option<u16>,
    /// Let a farm shrink when fewer sectors are asked for than it has; the sectors at its end are lost
    #[arg(long)]
    pub allow_shrink: bool,
    /// Longest wait before sectors are checked for expiry after a new segment; the wait is drawn at random, from a tenth
    /// of this, so that not all farms of the network replot at once
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = parse_seconds)]
    pub new_segment_delay_max: Duration,
}

/// A span in seconds, at most a day.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err(format!("{seconds} s is not between 0 and 86400 (a day)"));
    }
    Ok(Duration::from_secs_f64(seconds))
}
