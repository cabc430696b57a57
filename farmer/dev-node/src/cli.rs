//! The command line of `autonomys-dev-node`.

use crate::{Config, DevNode};
use clap::{Args, Parser, Subcommand};
use primitives::{BlockNumber, SolutionRange};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A development chain in one process: makes blocks, archives them, keeps slots, verifies solutions, and serves a
/// node's JSON-RPC to any farmer. INSECURE: its reference string's secret is public; never use it for a live network.
#[derive(Debug, Parser)]
#[command(name = "autonomys-dev-node", version = crate::VERSION)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Directory of the chain; made when it is not there.
    #[arg(long, value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// Where to serve JSON-RPC, over WebSocket and HTTP.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9944")]
    rpc_listen_on: SocketAddr,
    #[command(flatten)]
    chain: ChainArguments,
    #[command(subcommand)]
    stand_in: Option<StandIn>,
}

#[derive(Debug, Subcommand)]
enum StandIn {
    /// Takes the command line of the network's own node, and stands in for it
    Run(RunArguments),
}

/// What a farming setup says to the network's node.
#[derive(Debug, Args)]
struct RunArguments {
    /// Directory of the chain; made when it is not there.
    #[arg(long, value_name = "DIR")]
    base_path: PathBuf,
    /// Only `dev` can be stood in for.
    #[arg(long, value_parser = ["dev"])]
    chain: String,
    /// Where to serve JSON-RPC, over WebSocket and HTTP.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9944")]
    rpc_listen_on: SocketAddr,
    /// Serve farmers, which this node always does.
    #[arg(long)]
    farmer: bool,
    /// All methods are served, whatever is said.
    #[arg(long, value_name = "METHODS")]
    rpc_methods: Option<String>,
    /// There is nothing to synchronise with.
    #[arg(long, value_name = "MODE")]
    sync: Option<String>,
    #[command(flatten)]
    parameters: ChainArguments,
}

/// What chain it is and how it goes.
#[derive(Debug, Args)]
struct ChainArguments {
    /// Seed of everything random: the same seed and parameters give the same history.
    #[arg(long, default_value = "autonomys-dev")]
    seed: String,
    /// Files that the first blocks carry, by name, each in parts of --block-bytes; afterwards random bytes.
    #[arg(long, value_name = "DIR")]
    blocks: Option<PathBuf>,
    /// Payload of a block, bytes: up to 131072 random ones, then zeros. A segment holds 130 MB of blocks.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    block_bytes: u32,
    /// Largest number of pieces in a sector; the live network has 1000.
    #[arg(long, value_name = "N", default_value_t = 12)]
    pieces_in_sector: u16,
    /// Time between two slots, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    slot_ms: u64,
    /// Segments that a sector lives at least.
    #[arg(long, value_name = "SEGMENTS", default_value_t = 4)]
    min_sector_lifetime: u64,
    /// Newest segments from which a tenth of a sector's pieces comes.
    #[arg(long, value_name = "SEGMENTS", default_value_t = 5)]
    recent_segments: u64,
    /// A block is archived when so many others stand on it; the live network has 100.
    #[arg(long, value_name = "BLOCKS", default_value_t = 5)]
    confirmation_depth: u32,
    /// Archives until so many segments exist before the first slot, with blocks made as fast as that takes.
    #[arg(long, value_name = "SEGMENTS", default_value_t = 1)]
    archive_ahead: u64,
    /// Slots that the chain aims at between two blocks from solutions; the live network has 6. There are ten votes for
    /// each such block, and each costs its farm a proof. Without one for 6 slots a block is made all the same.
    #[arg(long, value_name = "SLOTS", default_value_t = 60)]
    slots_per_block: u64,
    /// Solution range for blocks of a new chain [default: one sector wins a vote in a tenth of --slots-per-block].
    #[arg(long, value_name = "RANGE")]
    initial_solution_range: Option<SolutionRange>,
    /// Where the INSECURE development reference string is kept [default: autonomys in the user's cache directory].
    #[arg(long, value_name = "DIR")]
    srs_cache: Option<PathBuf>,
    /// Another development node of the same chain, as ws://HOST:PORT: its blocks and slots are replicated, and solutions
    /// and reward signatures are passed on to it. Give the same seed and parameters as there.
    #[arg(long, value_name = "URL")]
    follow: Option<String>,
    /// Stays so many blocks and slots behind the node that is followed: a node that is behind.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "follow")]
    lag: u32,
    /// Leaves the followed chain after this block and goes on alone, with other blocks and challenges: a fork. For good:
    /// give it again at each start.
    #[arg(long, value_name = "BLOCK", requires = "follow")]
    fork_at: Option<BlockNumber>,
}

impl Cli {
    /// The chain's configuration.
    pub fn into_config(self) -> Config {
        let Self { data, rpc_listen_on, chain, stand_in } = self;
        match stand_in {
            Some(StandIn::Run(run)) => run.parameters.into_config(run.base_path, run.rpc_listen_on),
            None => chain.into_config(data.expect("required without a subcommand"), rpc_listen_on),
        }
    }
}

impl ChainArguments {
    fn into_config(self, data: PathBuf, rpc_listen_on: SocketAddr) -> Config {
        Config {
            seed: self.seed,
            blocks: self.blocks,
            pieces_in_sector: self.pieces_in_sector,
            slot_ms: self.slot_ms,
            min_sector_lifetime: self.min_sector_lifetime,
            recent_segments: self.recent_segments,
            confirmation_depth: self.confirmation_depth,
            block_bytes: self.block_bytes,
            archive_ahead: self.archive_ahead,
            slots_per_block: self.slots_per_block,
            initial_solution_range: self.initial_solution_range,
            rpc_listen_on,
            srs_cache: self.srs_cache,
            follow: self.follow,
            lag: self.lag,
            fork_at: self.fork_at,
            ..Config::new(data)
        }
    }
}

/// Runs the binary: parses the command line, runs the chain until SIGTERM or SIGINT.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "Cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli.into_config()));
    // What is left are detached reads; the chain is closed.
    runtime.shutdown_background();
    code
}

async fn run(config: Config) -> ExitCode {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "Cannot listen for signals");
                return ExitCode::FAILURE;
            }
        };
    let starting = DevNode::start(config);
    let node = tokio::select! {
        node = starting => node,
        _ = terminate.recv() => return ExitCode::SUCCESS,
        _ = interrupt.recv() => return ExitCode::SUCCESS,
    };
    let node = match node {
        Ok(node) => node,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(address = %node.address(), version = crate::VERSION, "Serving JSON-RPC");
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        () = node.stopped() => {}
    }
    match node.shutdown().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn it_stands_in_for_the_networks_node() {
        let guide = "autonomys-node run --base-path /var/autonomys-node --farmer --rpc-listen-on 192.168.1.1:9944 --chain dev \
                     --sync full --rpc-methods unsafe --pieces-in-sector 4";
        let config = Cli::parse_from(guide.split_whitespace()).into_config();
        assert_eq!(config.data, PathBuf::from("/var/autonomys-node"));
        assert_eq!((config.rpc_listen_on.port(), config.pieces_in_sector), (9944, 4));
        let live = guide.replace("--chain dev", "--chain mainnet");
        Cli::try_parse_from(live.split_whitespace()).expect_err("there is only one chain that it is");
        Cli::try_parse_from(["autonomys-dev-node"]).expect_err("the chain's directory is missing");
        let plain = Cli::parse_from(["autonomys-dev-node", "--data", "/d", "--seed", "x"]).into_config();
        assert_eq!((plain.data, plain.seed.as_str()), (PathBuf::from("/d"), "x"));
    }
}
