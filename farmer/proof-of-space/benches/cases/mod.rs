//! The cases of proof of space. There is one place for each: the benches beside this file and the driver (`bench`) both
//! take them from here.

use primitives::sectors::PosSeed;
use proof_of_space::{Table, TableGenerator};
use std::hint::black_box;
use std::ops::ControlFlow;

/// Seeds that no two runs share: BLAKE3-XOF("bench/pos/i").
pub(crate) fn seeds() -> impl FnMut() -> PosSeed {
    let mut number = 0;
    move || {
        let bytes = vectors::xof(&format!("bench/pos/{number}"), PosSeed::SIZE);
        number += 1;
        PosSeed::try_from(bytes.as_slice()).expect("32 bytes")
    }
}

/// Makes a table on this thread.
pub(crate) fn generate(generator: &mut TableGenerator, seed: &PosSeed) {
    black_box(generator.generate(seed));
}

/// Looks all s-buckets up and hashes the proofs found, up to `wanted` of them; returns how many there were.
pub(crate) fn hash_proofs(table: &Table<'_>, wanted: usize) -> usize {
    let mut found = 0;
    table.for_each_proof_hash(|_, hash| {
        black_box(hash);
        found += 1;
        if found == wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    found
}
