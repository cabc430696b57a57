//! Verification of a proof (archival §3.7).

use crate::params::challenge_bits;
use crate::scalar::{Entry, Keystream, combine, matches, unpack};
use primitives::sectors::PosSeed;
use primitives::solutions::PosProof;

/// The entries of a proof's tree, table by table: 64 of table 1, 32 of table 2, …, 1 of table 7.
///
/// None when a pair does not match.
pub(crate) fn levels(seed: &PosSeed, proof: &PosProof) -> Option<[Vec<Entry>; 7]> {
    let mut keystream = Keystream::new(seed);
    let mut levels: [Vec<Entry>; 7] = Default::default();
    levels[0] = unpack(&proof.0).iter().map(|&x| keystream.entry(x)).collect();
    for table in 2..=7 {
        let parents = levels[table - 2].as_chunks::<2>().0;
        let children = parents
            .iter()
            .map(|[left, right]| matches(left.y, right.y).then(|| combine(table, left, right)))
            .collect::<Option<Vec<_>>>()?;
        levels[table - 1] = children;
    }
    Some(levels)
}

/// Whether `proof` is a proof of space for `challenge_index` under `seed`.
///
/// Every pair of every level has to match, and the bits of the last y have to be the challenge's; which of several
/// valid proofs is the canonical one is not asked (archival §3.7).
pub fn is_proof_valid(seed: &PosSeed, challenge_index: u32, proof: &PosProof) -> bool {
    levels(seed, proof).is_some_and(|levels| levels[6][0].y >> 6 == challenge_bits(challenge_index))
}
