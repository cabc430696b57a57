//! The tables of a seed as their user sees them.

use crate::dispatch::hash_proofs;
use crate::generator::SearchTables;
use crate::params::S_BUCKETS;
use crate::passes::{Candidate, Leaf};
use crate::reference::ReferenceTables;
use crate::scalar::pack;
use crate::search::PROOF_LEAVES;
use crate::vector::MAX_LANES;
use primitives::Blake3Hash;
use primitives::sectors::SBucket;
use primitives::solutions::PosProof;
use std::ops::ControlFlow;

/// The tables of one seed.
pub struct Table<'a> {
    pub(crate) tables: Tables<'a>,
}

pub(crate) enum Tables<'a> {
    Fast(&'a SearchTables),
    Reference(&'a ReferenceTables),
}

/// Up to 16 proofs of consecutive s-buckets that have one.
struct Batch {
    s_buckets: [SBucket; MAX_LANES],
    proofs: [[u8; 160]; MAX_LANES],
    len: usize,
}

/// The bytes of a proof (archival §3.6).
fn proof_bytes(leaves: &[Leaf; PROOF_LEAVES]) -> [u8; 160] {
    let mut bytes = [0; 160];
    for (bytes, word) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(leaves.as_flattened()) {
        *bytes = word.to_be_bytes();
    }
    bytes
}

impl Table<'_> {
    /// The canonical proof for `challenge_index`, if there is one (archival §3.5).
    ///
    /// Sectors ask for the s-buckets, 0 to 65,535, which takes well below a microsecond; table 7 is not kept for other
    /// indices, each of which takes about a sixth of the time of making the tables.
    pub fn find_proof(&self, challenge_index: u32) -> Option<PosProof> {
        match self.tables {
            Tables::Fast(tables) => {
                let candidate = tables.find(challenge_index)?;
                let [leaves] = tables.leaves(&[candidate]);
                Some(PosProof(proof_bytes(&leaves)))
            }
            Tables::Reference(tables) => tables.find(challenge_index).map(|xs| PosProof(pack(&xs))),
        }
    }

    /// Whether `s_bucket` has a proof.
    pub fn has_proof(&self, s_bucket: SBucket) -> bool {
        match self.tables {
            Tables::Fast(tables) => tables.first[usize::from(s_bucket.0)].is_some(),
            Tables::Reference(tables) => tables.find(u32::from(s_bucket.0)).is_some(),
        }
    }

    /// Calls `visit` with each s-bucket that has a proof, in ascending order, and the proof, until it breaks.
    pub fn for_each_proof(&self, mut visit: impl FnMut(SBucket, &PosProof) -> ControlFlow<()>) {
        // What is left when the visitor breaks is of no interest.
        let _ = self.for_each_batch(|batch| {
            let proofs = batch.s_buckets.iter().zip(&batch.proofs).take(batch.len);
            proofs.into_iter().try_for_each(|(s_bucket, proof)| visit(*s_bucket, &PosProof(*proof)))
        });
    }

    /// Calls `visit` with each s-bucket that has a proof, in ascending order, and the proof's BLAKE3, until it breaks.
    ///
    /// Proofs are sought and hashed 16 at a time.
    pub fn for_each_proof_hash(&self, mut visit: impl FnMut(SBucket, &Blake3Hash) -> ControlFlow<()>) {
        let simd = match self.tables {
            Tables::Fast(tables) => tables.simd,
            Tables::Reference(_) => crate::Simd::Portable,
        };
        let mut hashes = [[0; 32]; MAX_LANES];
        // What is left when the visitor breaks is of no interest.
        let _ = self.for_each_batch(|batch| {
            hash_proofs(simd, &batch.proofs, &mut hashes);
            let hashes = batch.s_buckets.iter().zip(&hashes).take(batch.len);
            hashes.into_iter().try_for_each(|(s_bucket, hash)| visit(*s_bucket, &Blake3Hash(*hash)))
        });
    }

    fn for_each_batch(&self, mut visit: impl FnMut(&Batch) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut batch = Batch { s_buckets: [SBucket(0); MAX_LANES], proofs: [[0; 160]; MAX_LANES], len: 0 };
        match self.tables {
            Tables::Fast(tables) => {
                let mut candidates = [Candidate { y: 0, parents: 0 }; MAX_LANES];
                let found = tables.first.iter().enumerate();
                for (s_bucket, candidate) in found.filter_map(|(s_bucket, first)| Some((s_bucket, (*first)?)))
                {
                    candidates[batch.len] = candidate;
                    batch.s_buckets[batch.len] = SBucket(s_bucket as u16);
                    batch.len += 1;
                    if batch.len == MAX_LANES {
                        batch.proofs = tables.leaves(&candidates).map(|leaves| proof_bytes(&leaves));
                        visit(&batch)?;
                        batch.len = 0;
                    }
                }
                // Places behind the last candidate hold older ones, whose proofs nobody sees.
                batch.proofs = tables.leaves(&candidates).map(|leaves| proof_bytes(&leaves));
            }
            Tables::Reference(tables) => {
                for s_bucket in 0..S_BUCKETS as u32 {
                    let Some(xs) = tables.find(s_bucket) else { continue };
                    batch.proofs[batch.len] = pack(&xs);
                    batch.s_buckets[batch.len] = SBucket(s_bucket as u16);
                    batch.len += 1;
                    if batch.len == MAX_LANES {
                        visit(&batch)?;
                        batch.len = 0;
                    }
                }
            }
        }
        visit(&batch)
    }
}
