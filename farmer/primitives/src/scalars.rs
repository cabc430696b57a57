//! Scalars of BLS12-381 as bytes; arithmetic on them lives in `archiving`.

use crate::bytes::{fixed_bytes, serde_as_text};

/// Order of the scalar field, 32 bytes big-endian (archival §4).
pub const SCALAR_FIELD_ORDER: [u8; 32] = [
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05, 0x53,
    0xbd, 0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01,
];

fixed_bytes! {
    /// 32 big-endian bytes that may or may not be a scalar: see [`ScalarBytes::is_canonical`].
    ScalarBytes, 32
}

impl ScalarBytes {
    /// Bytes of source data that always fit a scalar.
    pub const SAFE_BYTES: usize = 31;

    /// Whether the bytes are less than the field order; anything else is an error wherever a scalar is expected.
    pub fn is_canonical(&self) -> bool {
        self.0 < SCALAR_FIELD_ORDER
    }
}

// Farming §6: unlike every other byte string of the RPC, a chunk is a JSON array of 32 numbers.
impl serde::Serialize for ScalarBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for ScalarBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(<[u8; 32]>::deserialize(deserializer)?))
    }
}

fixed_bytes! {
    /// Compressed G1 point that opens a record commitment at one s-bucket.
    ChunkWitness, 48
}
serde_as_text!(ChunkWitness);
