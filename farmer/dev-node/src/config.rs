//! Parameters of a development chain.

use crate::Error;
use parity_scale_codec::{Decode, Encode};
use primitives::solutions::pieces_to_solution_range;
use primitives::{BlockNumber, HistorySize, SolutionRange};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Slots from a slot to the end of its usefulness (farming §1: the block authoring delay).
pub const FARMING_TIMEOUT_SLOTS: u64 = 4;
/// Solutions that one slot takes: nine expected votes and a block (farming §9).
pub const SOLUTIONS_PER_SLOT: usize = 10;
/// The voting range is so many times the block range (farming §1).
pub(crate) const VOTING_RANGE_FACTOR: u64 = 10;
/// Without a block from a solution for so many slots, a block is made all the same.
pub const DEV_BLOCK_SLOTS: u64 = 6;
/// Blocks from solutions in an era of the solution range.
pub const ERA_BLOCKS: u32 = 10;
/// Slots in which the same solution is not rewarded twice.
pub const REWARD_WINDOW_SLOTS: u64 = 600;
/// Most blocks and slots that a node may be made to stay behind.
const MAX_LAG: u32 = 10_000;
/// Largest payload of a block, bytes: `chain_getBlock` answers with two hex digits for each.
pub(crate) const MAX_BLOCK_BYTES: u32 = 8 * 1024 * 1024;

/// What makes a chain this chain and no other; it stands in the genesis block.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ChainParameters {
    /// Seed of everything random.
    pub seed: String,
    /// Pieces in a sector.
    pub pieces_in_sector: u16,
    /// Segments that a sector lives at least.
    pub min_sector_lifetime: u64,
    /// Newest segments from which pieces are preferred.
    pub recent_segments: u64,
    /// A block is archived when so many others stand on it.
    pub confirmation_depth: u32,
    /// Payload of a block, bytes.
    pub block_bytes: u32,
    /// BLAKE3 over names and contents of the files that the first blocks carry, if any.
    pub files_digest: Option<[u8; 32]>,
}

impl ChainParameters {
    /// What differs between two chains, for a message.
    pub(crate) fn difference(&self, asked: &Self) -> String {
        let mut differences = Vec::new();
        let mut note = |flag: &str, there: String, asked: String| {
            if there != asked {
                differences.push(format!("{flag} is {there} there, {asked} was asked for"));
            }
        };
        note("--seed", format!("{:?}", self.seed), format!("{:?}", asked.seed));
        note("--pieces-in-sector", self.pieces_in_sector.to_string(), asked.pieces_in_sector.to_string());
        note(
            "--min-sector-lifetime",
            self.min_sector_lifetime.to_string(),
            asked.min_sector_lifetime.to_string(),
        );
        note("--recent-segments", self.recent_segments.to_string(), asked.recent_segments.to_string());
        note(
            "--confirmation-depth",
            self.confirmation_depth.to_string(),
            asked.confirmation_depth.to_string(),
        );
        note("--block-bytes", self.block_bytes.to_string(), asked.block_bytes.to_string());
        let files = |digest: &Option<[u8; 32]>| match digest {
            Some(digest) => format!("files with digest {}", &hex::encode(digest)[..16]),
            None => "no files".to_owned(),
        };
        note("--blocks", files(&self.files_digest), files(&asked.files_digest));
        differences.join("; ")
    }
}

/// How a development chain is run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seed of everything random; the same seed and parameters give the same history.
    pub seed: String,
    /// Directory of the chain: its database is in `db`.
    pub data: PathBuf,
    /// Files that the first blocks carry.
    pub blocks: Option<PathBuf>,
    /// Pieces in a sector, 1..=1000.
    pub pieces_in_sector: u16,
    /// Time between two slots, milliseconds.
    pub slot_ms: u64,
    /// Segments that a sector lives at least.
    pub min_sector_lifetime: u64,
    /// Newest segments from which pieces are preferred.
    pub recent_segments: u64,
    /// A block is archived when so many others stand on it.
    pub confirmation_depth: u32,
    /// Payload of a block, bytes.
    pub block_bytes: u32,
    /// Segments that exist before the first slot.
    pub archive_ahead: u64,
    /// Slots that the chain aims at between two blocks from solutions.
    pub slots_per_block: u64,
    /// Solution range of a new chain; without one, that of one sector of the chain.
    pub initial_solution_range: Option<SolutionRange>,
    /// Where the RPC listens.
    pub rpc_listen_on: SocketAddr,
    /// Where the development reference string is kept; without one, the user's cache directory.
    pub srs_cache: Option<PathBuf>,
    /// The development node whose chain and slots are replicated, if this is not the first node of its chain.
    pub follow: Option<String>,
    /// Blocks and slots that this node stays behind the one it follows.
    pub lag: u32,
    /// The last block that this node has in common with the one it follows; from there on it goes on alone.
    pub fork_at: Option<BlockNumber>,
    /// How long a block waits for its reward signature.
    pub signature_timeout: Duration,
    /// How long archiving waits for the acknowledgements of a segment header.
    pub acknowledgement_timeout: Duration,
}

impl Config {
    /// The defaults of the command line for a chain in `data`.
    pub fn new(data: PathBuf) -> Self {
        Self {
            seed: "autonomys-dev".to_owned(),
            data,
            blocks: None,
            pieces_in_sector: 12,
            slot_ms: 1000,
            min_sector_lifetime: 4,
            recent_segments: 5,
            confirmation_depth: 5,
            block_bytes: 65_536,
            archive_ahead: 1,
            slots_per_block: 60,
            initial_solution_range: None,
            rpc_listen_on: SocketAddr::from((Ipv4Addr::LOCALHOST, 9944)),
            srs_cache: None,
            follow: None,
            lag: 0,
            fork_at: None,
            signature_timeout: Duration::from_millis(500),
            acknowledgement_timeout: Duration::from_secs(30),
        }
    }

    /// Checks every parameter's range.
    ///
    /// # Errors
    /// [`Error::Parameter`].
    pub fn validate(&self) -> Result<(), Error> {
        let within = |flag: &'static str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            let reason = format!("{value} is out of range, {min} to {max} is allowed");
            Err(Error::Parameter { flag, reason })
        };
        within("pieces-in-sector", self.pieces_in_sector.into(), 1, 1000)?;
        within("slot-ms", self.slot_ms, 50, 60_000)?;
        within("min-sector-lifetime", self.min_sector_lifetime, 1, 1_000_000)?;
        within("recent-segments", self.recent_segments, 1, 1_000_000)?;
        within("confirmation-depth", self.confirmation_depth.into(), 1, 1000)?;
        within("block-bytes", self.block_bytes.into(), 1, MAX_BLOCK_BYTES.into())?;
        within("archive-ahead", self.archive_ahead, 1, 1000)?;
        within("slots-per-block", self.slots_per_block, 1, 1_000_000)?;
        within("lag", self.lag.into(), 0, MAX_LAG.into())?;
        for (flag, given) in [("lag", self.lag > 0), ("fork-at", self.fork_at.is_some())] {
            if given && self.follow.is_none() {
                let reason = "there is no node to differ from; name one with --follow URL".to_owned();
                return Err(Error::Parameter { flag, reason });
            }
        }
        within("seed", self.seed.len() as u64, 1, 256).map_err(|_| Error::Parameter {
            flag: "seed",
            reason: format!("{} bytes, 1 to 256 are allowed", self.seed.len()),
        })?;
        if self.initial_solution_range == Some(0) {
            let reason = "a range of 0 is won by nobody".to_owned();
            return Err(Error::Parameter { flag: "initial-solution-range", reason });
        }
        Ok(())
    }

    /// Solution range of the first era. By default one sector of the chain wins a block in `slots_per_block` slots, and
    /// a vote ten times as often.
    pub fn first_solution_range(&self) -> SolutionRange {
        self.initial_solution_range.unwrap_or_else(|| {
            pieces_to_solution_range(self.pieces_in_sector.into(), (1, self.slots_per_block)).max(1)
        })
    }

    /// Time from a slot to the end of its usefulness.
    pub fn farming_timeout(&self) -> Duration {
        Duration::from_millis(self.slot_ms * FARMING_TIMEOUT_SLOTS)
    }

    pub(crate) fn chain_parameters(&self, files_digest: Option<[u8; 32]>) -> ChainParameters {
        ChainParameters {
            seed: self.seed.clone(),
            pieces_in_sector: self.pieces_in_sector,
            min_sector_lifetime: self.min_sector_lifetime,
            recent_segments: self.recent_segments,
            confirmation_depth: self.confirmation_depth,
            block_bytes: self.block_bytes,
            files_digest,
        }
    }

    /// Share of a sector that is preferred from recent segments, as on the live network.
    pub(crate) fn recent_history_fraction() -> (HistorySize, HistorySize) {
        (HistorySize::ONE, HistorySize::new(10).expect("10 is not zero"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_out_of_range_name_their_flag() {
        let good = Config::new("data".into());
        good.validate().expect("the defaults are valid");
        type Spoil = fn(&mut Config);
        let wrong: [(&str, Spoil); 9] = [
            ("lag", |config| config.lag = 1),
            ("fork-at", |config| config.fork_at = Some(1)),
            ("pieces-in-sector", |config| config.pieces_in_sector = 0),
            ("slot-ms", |config| config.slot_ms = 0),
            ("recent-segments", |config| config.recent_segments = 0),
            ("confirmation-depth", |config| config.confirmation_depth = 0),
            ("block-bytes", |config| config.block_bytes = MAX_BLOCK_BYTES + 1),
            ("seed", |config| config.seed.clear()),
            ("initial-solution-range", |config| config.initial_solution_range = Some(0)),
        ];
        for (flag, spoil) in wrong {
            let mut config = good.clone();
            spoil(&mut config);
            let error = config.validate().expect_err(flag).to_string();
            assert!(error.starts_with(&format!("--{flag}: ")), "{error}");
        }
    }

    #[test]
    fn a_sector_votes_every_six_slots_by_default() {
        let config = Config::new("data".into());
        // A win needs a distance of at most half the range on either side: the range over 2^64 is the chance of a
        // chunk; on average half of the pieces have a chunk in the audited s-bucket.
        let chance = config.first_solution_range() as f64 / u64::MAX as f64 * 6.0;
        assert!((chance * 60.0 - 1.0).abs() < 0.01, "{chance}");
    }
}
