//! The command line of the exporter.

use crate::cli::SrsArguments;
use crate::logging::LogFormat;
use clap::Parser;
use primitives::BlockNumber;
use std::path::PathBuf;

const LONG_ABOUT: &str = "\
Makes all pieces of the history from a node's blocks and writes them into a store that a full-piece-sharded-cache serves \
as it is.

A node does not keep pieces: it serves those of its newest segment for a moment, and no others. This program archives the \
blocks again, about ten seconds of CPU for each segment of 256 pieces (268 MB), compares every segment header with the \
node's own, and keeps what it has: stopped or killed at any moment, it goes on from there when it is run again.

The blocks come from one of two places:

  --node-url URL   a running node's RPC. The node has to have all blocks: run it with
                   `--sync full --blocks-pruning archive-canonical` (or archive).
  --node-db DIR    the database of a stopped node, or a copy of one: the node's base path or the `db` in it. It is only
                   read; nothing stored in it changes. ParityDB locks it even so: a node that runs on it has to be
                   stopped, or a copy used. ParityDB opens the files for writing, so they must be writable.";

const EXAMPLES: &str = "\
Examples:
  # As in the operators' guides: into ./full-cache-tmp, from a node on another host
  NODE_URL=http://192.168.1.1:9944 AUTONOMYS_SRS=eth-public-parameters.bin autonomys-export-piece

  # From the database of a node that was stopped, into a directory of choice
  autonomys-export-piece --node-db /var/lib/autonomys-node --output /mnt/pieces --srs eth-public-parameters.bin

  # Serve what was exported
  autonomys-farmer cluster --nats-server nats://192.168.1.1:4222 --srs eth-public-parameters.bin \\
      full-piece-sharded-cache path=/mnt/pieces

Exit status: 0 all is exported; 75 stopped by a signal, run it again; 69 the source cannot be had (not reachable, locked, \
pruned); 65 the source or the store is damaged or lies; 78 something on the command line does not fit; 74 the disk fails.";

/// Makes all pieces of the history from a node's blocks, into a store that a full-piece-sharded-cache serves
#[derive(Debug, Parser)]
#[command(name = "autonomys-export-piece", version, long_about = LONG_ABOUT, after_long_help = EXAMPLES)]
pub struct Cli {
    /// RPC of a node that has all blocks: ws://HOST:PORT, wss://HOST, http://HOST:PORT
    #[arg(
        long,
        value_name = "URL",
        env = "NODE_URL",
        required_unless_present = "node_db",
        conflicts_with = "node_db"
    )]
    pub node_url: Option<String>,
    /// Database of a stopped node, or a copy of one; it is only read
    #[arg(long, value_name = "DIR")]
    pub node_db: Option<PathBuf>,
    /// Let ParityDB finish the log that a killed node left: this changes the database, so work on a copy
    #[arg(long)]
    pub replay_log: bool,
    /// Directory of the store; made if it is not there, gone on with if it is
    #[arg(long, value_name = "DIR", default_value = "full-cache-tmp")]
    pub output: PathBuf,
    /// Reference string.
    #[command(flatten)]
    pub srs: SrsArguments,
    /// Export from this segment on: for a node that no longer has the older blocks
    #[arg(long, value_name = "SEGMENT", default_value_t = 0)]
    pub from_segment: u64,
    /// Leave out blocks that fewer others stand on [default: what the node has archived; 100 where a database does not
    /// say]
    #[arg(long, value_name = "BLOCKS")]
    pub confirmation_depth: Option<BlockNumber>,
    /// Check all pieces that are in the store already against the chain, not only those that a crash may have harmed
    #[arg(long)]
    pub verify: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Form of the log on standard error; RUST_LOG filters it
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }
}
