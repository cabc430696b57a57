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

/// BLAKE2b-256 of `data` with a key: by it ParityDB finds the keys of a node's database.
pub fn blake2b_256_keyed(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    use blake2::digest::Mac;
    let keyed = blake2::Blake2bMac::<blake2::digest::consts::U32>::new_from_slice(key);
    keyed.expect("a key may have up to 64 bytes").chain_update(data).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_blake2b_is_that_of_pythons_hashlib() {
        let key = std::array::from_fn(|index| index as u8);
        for (data, expected) in [
            (&b"best"[..], "021ff9bf281e815b36788f0e1278b428161333e334b3f80e4250c8ffce0640e6"),
            (&[0; 200], "2c78f5222857cc68f3b0652fa72c580a12849aa5796f838daefbde09e4d98d9c"),
        ] {
            assert_eq!(hex::encode(blake2b_256_keyed(&key, data)), expected);
        }
    }
}
