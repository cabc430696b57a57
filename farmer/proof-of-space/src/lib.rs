//! K=20 proof-of-space tables: create, find a proof, verify (archival §3).
//!
//! ```
//! use primitives::sectors::PosSeed;
//! use proof_of_space::{TableGenerator, is_proof_valid};
//!
//! let seed = PosSeed([7; 32]);
//! let mut generator = TableGenerator::new();
//! let table = generator.generate(&seed);
//! let proof = (0..65_536).find_map(|index| Some((index, table.find_proof(index)?)));
//! let (s_bucket, proof) = proof.expect("60 % of the s-buckets have one");
//! assert!(is_proof_valid(&seed, s_bucket, &proof));
//! ```
//!
//! # How
//! A pass for each table reads its parent bucket by bucket, matches each bucket with its right neighbour, hashes the
//! matches, one a lane, and appends each new entry, 16 bytes, to the chunked list of its bucket.
//!
//! * **Matching.** Row and column of an entry are `r / C` and `r % C`. A match at distance m of the rows must have the
//!   column `left column + (2m + parity)²` mod C: for one left entry a table of 64 bytes, which fits a register. It is
//!   looked up for 64 (AVX-512) right entries at once by the distances of their rows.
//! * **Order.** Nothing is sorted. An entry's position is its place of arrival, and the canonical order (§3.4) is asked
//!   for only where it decides: between entries of table 7 with equal y that answer one s-bucket, some 500 in a table.
//! * **No truncation.** Lists and arenas grow. A bucket of more than 512 entries, 17 standard deviations above the mean,
//!   does not fit the 9-bit arithmetic of a pass: such a seed is handed to a plain generator without any limit.
//! * **Proofs.** Kept are the four x of each entry of table 3 (10 bytes) and the back pointers of tables 4 to 6 (4 bytes
//!   each), so that a proof is 30 reads. Of table 7 only the first entry of each s-bucket is kept.
//!
//! Architecture invariant: the instruction set never shows in a result, and neither does the number of threads. `unsafe`
//! is in `vector::avx2`, `vector::avx512` and `dispatch` alone; `vector::portable` is the twin they are tested against.
//!
//! # The floor
//! For one seed, from the sizes of its tables (2^20 entries, give or take some percent):
//!
//! | what | how much | least time on one 4 GHz core with 16 lanes |
//! |---|---|---|
//! | BLAKE3 compressions of one block, tables 2 to 7 | 6 × 2^20 | 35 ms: 714 operations on registers for 16, at 2 a cycle |
//! | right entries looked at: 236 for each left one | 6 × 2^20 × 236 | 25 ms: 4 blocks of 64, 13 instructions each, at 4 a cycle |
//! | entries written and read again, 16 bytes, tables 1 to 6 | 2 × 101 MB | 8 ms at 25 GB/s |
//! | kept for the search: written | 10 + 3 × 4 bytes an entry, 23 MB | 1 ms |
//! | ChaCha8 blocks | 40,960 | 1 ms |
//!
//! About 70 ms where the passes overlap none of these; a table takes 95 to 100 ms on a Zen 5 core, one third of it BLAKE3.
//! All proofs of a table read 40,000 × 30 places of 23 MB and make 3 compressions each: 10 ms.

mod buckets;
mod dispatch;
mod generator;
mod hashing;
#[doc(hidden)]
pub mod inspect;
mod local;
mod params;
mod passes;
mod reference;
mod scalar;
mod search;
mod table;
mod vector;
mod verify;

#[doc(hidden)]
pub use generator::Inspect;
pub use generator::TableGenerator;
pub use primitives::simd::Simd;
pub use table::Table;
pub use verify::is_proof_valid;

#[cfg(test)]
mod tests;
