//! The utilities' command lines.

use super::{CacheItemType, NatsArguments, SrsArguments, parse_seconds};
use clap::{Args, Subcommand};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// `autonomys-farmer util …`
#[derive(Debug, Args)]
pub struct UtilArguments {
    /// NATS.
    #[command(flatten)]
    pub nats: NatsArguments,
    /// Reference string.
    #[command(flatten)]
    pub srs: SrsArguments,
    /// The utility.
    #[command(subcommand)]
    pub utility: Utility,
}

/// The utilities.
#[derive(Debug, Subcommand)]
pub enum Utility {
    /// Say whether members of a role are ready; exit status 0 when all that answer are
    Ready(ReadyArguments),
    /// Have every cache announce itself, verify what it holds and be filled again; nothing valid is thrown away
    ReinitializationCache(ReinitializationArguments),
    /// Fetch the pieces of sectors from the cluster as a plot-server does, and say how fast they come and from where
    ShardedCacheBenchmark(CacheBenchmarkArguments),
    /// Check every piece of a store against its hash and against the chain; exit status 65 when one is bad
    VerifyPiece(VerifyPieceArguments),
    /// Compare the checksums of a farm's sectors; exit status 65 when damage is found and not repaired
    Scrub(ScrubArguments),
    /// Put the passwords that follow from --cluster-secret-file into a nats-server's configuration, in the places of
    /// NATS-CLIENT-PASSWORD and NATS-ROUTE-PASSWORD
    NatsConfiguration(NatsConfigurationArguments),
    /// Say what farms and piece stores are and hold; also while they are in use
    Info(InfoArguments),
    /// Measure whether farms are fast enough
    #[command(subcommand)]
    Benchmark(BenchmarkUtility),
}

/// `util ready`
#[derive(Debug, Args)]
pub struct ReadyArguments {
    /// Role to ask: controller, sharded-cache, full-piece-sharded-cache, proof-server, plot-server, plot-client; or all
    #[arg(value_name = "ROLE")]
    pub role: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Give up after this long
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    pub timeout: Duration,
}

/// `util nats-configuration`
#[derive(Debug, Args)]
pub struct NatsConfigurationArguments {
    /// The configuration with places for the passwords
    #[arg(value_name = "FILE")]
    pub template: PathBuf,
    /// Where it is written with them, mode 0600
    #[arg(value_name = "OUTPUT")]
    pub output: PathBuf,
}

/// `util reinitialization-cache`
#[derive(Debug, Args)]
pub struct ReinitializationArguments {
    /// Seconds that the caches wait before they begin
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds)]
    pub delay: Duration,
}

/// `util sharded-cache-benchmark`
#[derive(Debug, Args)]
pub struct CacheBenchmarkArguments {
    /// Sectors whose pieces are fetched in each epoch
    #[arg(long, value_name = "N", default_value = "4")]
    pub sectors: NonZeroUsize,
    /// How often that is repeated, each time with other sectors
    #[arg(long, value_name = "N", default_value = "1")]
    pub epoch: NonZeroUsize,
    /// In which form pieces are fetched from the caches that hold them so; from the others as plain pieces
    #[arg(long, value_enum, value_name = "TYPE", default_value = "piece")]
    pub cache_item_type: CacheItemType,
    /// Sectors fetched at once [default: as many as a plot-server]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<NonZeroUsize>,
    /// Ask caches on this host first, for all they hold
    #[arg(long)]
    pub priority_cache: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `util verify-piece`
#[derive(Debug, Args)]
pub struct VerifyPieceArguments {
    /// Directories of piece stores, full or sharded
    #[arg(value_name = "DIR", default_value = "full-cache-tmp")]
    pub stores: Vec<PathBuf>,
    /// Node to ask for the segment headers [default: the cluster's controllers]
    #[arg(long, value_name = "URL")]
    pub node_url: Option<String>,
    /// Compare hashes only: finds what the disk has damaged, needs neither chain nor reference string
    #[arg(long)]
    pub hashes_only: bool,
    /// Directory that keeps how far it has come [default: the store's own]
    #[arg(long, value_name = "DIR")]
    pub progress_dir: Option<PathBuf>,
    /// Begin anew, whatever an earlier run has done
    #[arg(long)]
    pub restart: bool,
    /// Threads that read and check [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `util scrub`
#[derive(Debug, Args)]
pub struct ScrubArguments {
    /// Directories of farms, which no plot-client may have open
    #[arg(value_name = "PATH", required = true)]
    pub farms: Vec<PathBuf>,
    /// Mark damaged sectors as not plotted: the plot-client has them plotted again
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `util info`
#[derive(Debug, Args)]
pub struct InfoArguments {
    /// Directories of farms and piece stores
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `util benchmark …`
#[derive(Debug, Subcommand)]
pub enum BenchmarkUtility {
    /// Audit farms, all at once as in a slot; exit status 69 when one takes a second or more
    Audit(AuditArguments),
    /// Audit a farm and prove one of its chunks on this host's CPU; exit status 69 when that takes four seconds or more
    Prove(ProveArguments),
    /// Encode random records on the GPU, compare each with the CPU's bytes and time every step; exit status 65 when one differs
    Gpu(GpuArguments),
}

/// `util benchmark gpu`
#[derive(Debug, Args)]
pub struct GpuArguments {
    /// How long new records are encoded and compared; one batch at least
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub seconds: u32,
    /// Records of a batch
    #[arg(long, value_name = "N", default_value = "8")]
    pub batch: NonZeroUsize,
    /// Bundle of compiled kernels [default: kernels.bundle beside this program, else they are compiled by this host's NVRTC]
    #[arg(long, value_name = "FILE")]
    pub cuda_kernels: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `util benchmark audit`
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// Directories of farms
    #[arg(value_name = "PATH", required = true)]
    pub farms: Vec<PathBuf>,
    /// Audits of each farm
    #[arg(long, value_name = "N", default_value = "20")]
    pub audits: NonZeroUsize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `util benchmark prove`
#[derive(Debug, Args)]
pub struct ProveArguments {
    /// Directories of farms
    #[arg(value_name = "PATH", required = true)]
    pub farms: Vec<PathBuf>,
    /// Proofs of each farm
    #[arg(long, value_name = "N", default_value = "5")]
    pub proofs: NonZeroUsize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
