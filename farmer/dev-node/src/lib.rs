//! The development chain: archives, keeps slots, verifies and signs, in one process.
//!
//! It serves a node's JSON-RPC (farming §9) to any farmer and keeps its blocks in a node's database (archival §11). Its
//! reference string is the development one, **insecure** by design: its secret is public.
//!
//! What differs from a real node: there is no network, no runtime and no balances; the proof of time is a hash of seed
//! and slot; blocks without a solution are made when none came for six slots, so that the chain never stalls; segment
//! headers stand in the database's aux column only, not in block bodies, so that a block's archived bytes depend on the
//! chain's parameters and its number alone.
//!
//! With `--follow URL` it is a second node of the same chain: it replicates another development node's blocks and slots, and
//! passes solutions and signatures on to it. With `--lag` it stays behind, with `--fork-at` it leaves the chain it followed.

mod acknowledgements;
mod archiver;
mod blocks;
mod chain;
pub mod cli;
mod config;
mod error;
mod follow;
mod node;
mod rewards;
mod rpc;
mod segments;
mod shared;
mod slots;
mod solution_range;
mod stats;
mod verification;

pub use blocks::{BlockSource, SEAL_ENGINE_ID, Seal};
pub use config::{
    ChainParameters, Config, DEV_BLOCK_SLOTS, ERA_BLOCKS, FARMING_TIMEOUT_SLOTS, REWARD_WINDOW_SLOTS,
    SOLUTIONS_PER_SLOT,
};
pub use error::Error;
pub use node::DevNode;
pub use rpc::VERSION;
pub use solution_range::{Era, next_solution_range, voting_solution_range};
pub use stats::{BlockStats, DevStats, RewardStats, SegmentStats, SlotStats, SolutionStats};
