//! K=20 proof-of-space tables: create, find a proof, verify (archival §3).

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
mod simd;
mod table;
mod vector;
mod verify;

#[doc(hidden)]
pub use generator::Inspect;
pub use generator::TableGenerator;
pub use simd::Simd;
pub use table::Table;
pub use verify::is_proof_valid;

#[cfg(test)]
mod tests;
