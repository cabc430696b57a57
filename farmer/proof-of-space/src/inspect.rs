//! What tests and measurements want to see of the inside: intermediate values of archival §3, none of which farming needs.

use crate::dispatch;
use crate::params::X_VALUES;
use crate::scalar::{Keystream, unpack};
use crate::verify::levels;
use primitives::sectors::PosSeed;
use primitives::simd::Simd;
use primitives::solutions::PosProof;

/// The first 64 bytes of the keystream of `seed`.
pub fn keystream_head(seed: &PosSeed) -> [u8; 64] {
    Keystream::new(seed).head()
}

/// y of `x` in table 1.
///
/// # Panics
/// When `x` is not less than 2^20.
pub fn first_table_y(seed: &PosSeed, x: u32) -> u32 {
    assert!((x as usize) < X_VALUES, "x has 20 bits, found {x}");
    Keystream::new(seed).entry(x).y
}

/// The 64 x values of a proof.
pub fn proof_xs(proof: &PosProof) -> [u32; 64] {
    unpack(&proof.0)
}

/// (y, metadata) of every entry of a proof's tree, from table 1 to table 7; none when a pair does not match.
pub fn proof_tree(seed: &PosSeed, proof: &PosProof) -> Option<Vec<Vec<(u32, u128)>>> {
    let tree = levels(seed, proof)?;
    Some(tree.iter().map(|level| level.iter().map(|entry| (entry.y, entry.metadata)).collect()).collect())
}

/// Hashes `blocks` blocks of 24 bytes, rounded down to a multiple of 16, as the passes do; returns something of the last.
///
/// # Panics
/// When this machine does not have `simd`.
pub fn hash_blocks(simd: Simd, blocks: usize) -> u32 {
    let mut word = 0;
    dispatch::hash_blocks(simd, blocks, &mut word);
    word
}
