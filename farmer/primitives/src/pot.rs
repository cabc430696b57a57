//! Proof-of-time outputs and the challenges made of them (farming §2).

use crate::SlotNumber;
use crate::bytes::{fixed_bytes, serde_as_text};
use crate::hashes::{Blake3Hash, blake3_hash, blake3_hash_list};

fixed_bytes! {
    /// Output of the proof of time for one slot.
    PotOutput, 16
}
serde_as_text!(PotOutput);

impl PotOutput {
    /// Global randomness of the slot.
    pub fn derive_global_randomness(&self) -> Blake3Hash {
        blake3_hash(&self.0)
    }

    /// Global challenge of `slot`.
    pub fn derive_global_challenge(&self, slot: SlotNumber) -> Blake3Hash {
        blake3_hash_list(&[self.derive_global_randomness().as_ref(), &slot.to_le_bytes()])
    }
}
