//! The generator and its tables.

use crate::params::S_BUCKETS;
use crate::reference::ReferenceTables;
use crate::scalar::pack;
use primitives::Blake3Hash;
use primitives::sectors::{PosSeed, SBucket};
use primitives::solutions::PosProof;
use std::ops::ControlFlow;

/// Makes tables.
pub struct TableGenerator {
    tables: Option<ReferenceTables>,
}

impl Default for TableGenerator {
    fn default() -> Self {
        Self::new()
    }
}

impl TableGenerator {
    /// Allocates the scratch memory.
    pub fn new() -> Self {
        Self { tables: None }
    }

    /// Makes the tables of `seed` on the calling thread.
    pub fn generate(&mut self, seed: &PosSeed) -> Table<'_> {
        Table { tables: self.tables.insert(ReferenceTables::new(seed)) }
    }

    /// [`Self::generate`] that also calls `inspect` with the number of each table, 1 to 7, and all its y in any order.
    #[doc(hidden)]
    pub fn generate_inspected(
        &mut self,
        seed: &PosSeed,
        inspect: &mut dyn FnMut(usize, Vec<u32>),
    ) -> Table<'_> {
        let table = self.generate(seed);
        for number in 1..=7 {
            inspect(number, table.tables.ys(number).to_vec());
        }
        table
    }

    /// Makes the tables of `seed` on all threads of the current rayon pool; the same result.
    pub fn generate_parallel(&mut self, seed: &PosSeed) -> Table<'_> {
        self.generate(seed)
    }
}

/// The tables of one seed.
pub struct Table<'a> {
    tables: &'a ReferenceTables,
}

impl Table<'_> {
    /// The canonical proof for `challenge_index`, if there is one (archival §3.5).
    ///
    /// Sectors ask for the s-buckets, 0 to 65,535.
    pub fn find_proof(&self, challenge_index: u32) -> Option<PosProof> {
        self.tables.find(challenge_index).map(|xs| PosProof(pack(&xs)))
    }

    /// Calls `visit` with each s-bucket that has a proof, in ascending order, and the proof, until it breaks.
    pub fn for_each_proof(&self, mut visit: impl FnMut(SBucket, &PosProof) -> ControlFlow<()>) {
        for s_bucket in 0..S_BUCKETS as u32 {
            if let Some(proof) = self.find_proof(s_bucket)
                && visit(SBucket(s_bucket as u16), &proof).is_break()
            {
                return;
            }
        }
    }

    /// Calls `visit` with each s-bucket that has a proof, in ascending order, and the proof's BLAKE3, until it breaks.
    pub fn for_each_proof_hash(&self, mut visit: impl FnMut(SBucket, &Blake3Hash) -> ControlFlow<()>) {
        self.for_each_proof(|s_bucket, proof| visit(s_bucket, &proof.hash()));
    }
}
