//! K=20 proof-of-space tables: create, find a proof, verify (archival §3).

#[doc(hidden)]
pub mod inspect;
mod params;
mod reference;
mod scalar;
mod table;
mod verify;

pub use table::{Table, TableGenerator};
pub use verify::is_proof_valid;
