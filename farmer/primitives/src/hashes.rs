//! BLAKE3, the network's only hash (archival §2.3), and BLAKE2b-256 of Substrate block headers.

use crate::ScalarBytes;
use crate::bytes::{fixed_bytes, serde_as_text};

fixed_bytes! {
    /// BLAKE3-256.
    Blake3Hash, 32
}
serde_as_text!(Blake3Hash);

/// BLAKE3-256 of `data`.
pub fn blake3_hash(data: &[u8]) -> Blake3Hash {
    Blake3Hash(*blake3::hash(data).as_bytes())
}

/// BLAKE3-256 of the concatenation of `parts`.
pub fn blake3_hash_list(parts: &[&[u8]]) -> Blake3Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    Blake3Hash(*hasher.finalize().as_bytes())
}

/// Keyed BLAKE3-256 of the concatenation of `parts`.
pub fn blake3_hash_list_with_key(key: &[u8; 32], parts: &[&[u8]]) -> Blake3Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in parts {
        hasher.update(part);
    }
    Blake3Hash(*hasher.finalize().as_bytes())
}

/// BLAKE3-256 with the two top bits of byte 0 cleared: always a valid big-endian scalar (archival §2.3).
pub fn blake3_254_hash_to_scalar(data: &[u8]) -> ScalarBytes {
    let mut bytes = blake3_hash(data).0;
    bytes[0] &= 0b0011_1111;
    ScalarBytes(bytes)
}

/// BLAKE2b-256, the hash of Substrate block headers (archival §11).
pub fn blake2b_256(data: &[u8]) -> [u8; 32] {
    use blake2::Digest;
    blake2::Blake2b::<blake2::digest::consts::U32>::digest(data).into()
}
