//! Sector encoding, auditing, proving, verification; farms on disk (farming §1-§8).
//!
//! Architecture invariant: nothing here knows a network. What plots, proves or signs is given bytes and gives bytes
//! back; heavy work runs in the caller's rayon pool, and the CPU code is the oracle of the GPU's.

pub mod audit;
pub mod encoding;
pub mod expiry;
pub mod identity;
pub mod io;
pub mod plot;
pub mod proving;
pub mod sector;
pub mod verification;
