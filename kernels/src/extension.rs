//! Factors of the erasure extension, as its kernels want them.

use crate::sizes::RECORD_CHUNKS;
use archiving::Scalar;

/// Tables of scalars in Montgomery form, 32 bytes little-endian each.
pub struct ExtensionTables {
    /// Powers of the inverse of the root of unity of order 2^15: 2^14 of them.
    pub inverse: Vec<u8>,
    /// Powers of the root of unity of order 2^15: 2^14 of them.
    pub forward: Vec<u8>,
    /// `w(2^16)^i / 2^15` for i in bit-reversed order: what takes coefficients to those of the odd half of the domain.
    pub factors: Vec<u8>,
}

/// `first * ratio^i`.
fn powers(first: Scalar, ratio: Scalar, count: usize) -> Vec<Scalar> {
    std::iter::successors(Some(first), |power| Some(*power * ratio)).take(count).collect()
}

/// The numbers times 2^256, little-endian.
fn montgomery(scalars: impl IntoIterator<Item = Scalar>) -> Vec<u8> {
    let mut two_to_256 = [0; 33];
    two_to_256[0] = 1;
    let form = Scalar::from_bytes_reduced(&two_to_256);
    scalars.into_iter().flat_map(|scalar| (scalar * form).to_bytes().into_iter().rev()).collect()
}

impl ExtensionTables {
    /// Computes them.
    pub fn new() -> Self {
        let root = Scalar::root_of_unity(RECORD_CHUNKS).expect("a power of two");
        let odd = Scalar::root_of_unity(2 * RECORD_CHUNKS).expect("a power of two");
        let inverse = root.inverse().expect("a root of unity is not zero");
        let scale = Scalar::from(RECORD_CHUNKS as u64).inverse().expect("a power of two is not zero");
        let natural = powers(scale, odd, RECORD_CHUNKS);
        let bits = RECORD_CHUNKS.trailing_zeros();
        let reversed = (0..RECORD_CHUNKS).map(|index| natural[index.reverse_bits() >> (usize::BITS - bits)]);
        Self {
            inverse: montgomery(powers(Scalar::ONE, inverse, RECORD_CHUNKS / 2)),
            forward: montgomery(powers(Scalar::ONE, root, RECORD_CHUNKS / 2)),
            factors: montgomery(reversed),
        }
    }
}

impl Default for ExtensionTables {
    fn default() -> Self {
        Self::new()
    }
}
