//! Scalars of BLS12-381 with their arithmetic (archival §4).

use crate::bls::{self, RawScalar};
use primitives::ScalarBytes;
use std::fmt;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// Limbs of the field's order, least significant first.
pub(crate) const ORDER: [u64; 4] =
    [0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48];
/// 2^256 mod r: one in Montgomery form.
const MONTGOMERY_ONE: [u64; 4] =
    [0x0000_0001_ffff_fffe, 0x5884_b7fa_0003_4802, 0x998c_4fef_ecbc_4ff5, 0x1824_b159_acc5_056f];

/// An element of the scalar field.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Scalar(pub(crate) RawScalar);

impl Scalar {
    /// Zero.
    pub const ZERO: Self = Self(RawScalar { l: [0; 4] });
    /// One.
    pub const ONE: Self = Self(RawScalar { l: MONTGOMERY_ONE });

    /// The scalar of 32 bytes big-endian; none when the number is not below the field's order.
    #[inline]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let limbs = limbs_of(bytes);
        (!at_least_order(&limbs)).then(|| Self(bls::fr_from_limbs(&limbs)))
    }

    /// The scalar of 31 bytes big-endian, which always exists.
    #[inline]
    pub fn from_safe_bytes(bytes: &[u8; ScalarBytes::SAFE_BYTES]) -> Self {
        let mut padded = [0; 32];
        padded[1..].copy_from_slice(bytes);
        Self(bls::fr_from_limbs(&limbs_of(&padded)))
    }

    /// The number of big-endian bytes of any length, mod r.
    pub fn from_bytes_reduced(bytes: &[u8]) -> Self {
        Self(bls::fr_from_wide_bytes(bytes))
    }

    /// 32 bytes big-endian.
    #[inline]
    pub fn to_bytes(self) -> [u8; 32] {
        let limbs = self.to_limbs();
        let mut bytes = [0; 32];
        for (bytes, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(limbs.iter().rev()) {
            *bytes = limb.to_be_bytes();
        }
        bytes
    }

    /// 32 bytes little-endian.
    pub(crate) fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = self.to_bytes();
        bytes.reverse();
        bytes
    }

    /// Limbs of the number, least significant first.
    #[inline]
    pub(crate) fn to_limbs(self) -> [u64; 4] {
        bls::fr_to_limbs(&self.0)
    }

    /// The square.
    #[inline]
    pub fn square(self) -> Self {
        self * self
    }

    /// The power.
    pub fn pow(self, exponent: u64) -> Self {
        let mut result = Self::ONE;
        for bit in (0..u64::BITS - exponent.leading_zeros()).rev() {
            result = result.square();
            if exponent >> bit & 1 == 1 {
                result *= self;
            }
        }
        result
    }

    /// The inverse; none for zero.
    pub fn inverse(self) -> Option<Self> {
        (self != Self::ZERO).then(|| Self(bls::fr_inverse(&self.0)))
    }

    /// Whether this is zero.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Inverts every scalar for the price of one inversion and three products each; zeroes stay zero.
    pub fn batch_inverse(scalars: &mut [Self]) {
        let mut prefix = Vec::with_capacity(scalars.len());
        let mut product = Self::ONE;
        for scalar in scalars.iter() {
            prefix.push(product);
            if !scalar.is_zero() {
                product *= *scalar;
            }
        }
        let mut inverse = product.inverse().expect("a product of scalars that are not zero");
        for (scalar, prefix) in scalars.iter_mut().zip(prefix).rev() {
            if !scalar.is_zero() {
                let next = inverse * *scalar;
                *scalar = inverse * prefix;
                inverse = next;
            }
        }
    }

    /// The primitive root of unity of order `n` (archival §4); none unless `n` is a power of two up to 2^32.
    pub fn root_of_unity(n: usize) -> Option<Self> {
        if !n.is_power_of_two() || n.trailing_zeros() > 32 {
            return None;
        }
        // 7^((r-1)/2^32), squared down to the order that is asked for.
        let mut exponent = ORDER;
        exponent[0] -= 1;
        let odd_part = [
            exponent[0] >> 32 | exponent[1] << 32,
            exponent[1] >> 32 | exponent[2] << 32,
            exponent[2] >> 32 | exponent[3] << 32,
            exponent[3] >> 32,
        ];
        let seven = Self::from(7);
        let mut root = Self::ONE;
        for bit in (0..256).rev() {
            root = root.square();
            if odd_part[bit / 64] >> (bit % 64) & 1 == 1 {
                root *= seven;
            }
        }
        for _ in n.trailing_zeros()..32 {
            root = root.square();
        }
        Some(root)
    }
}

#[inline]
fn limbs_of(bytes: &[u8; 32]) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().rev().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_be_bytes(*bytes);
    }
    limbs
}

#[inline]
fn at_least_order(limbs: &[u64; 4]) -> bool {
    let (_, borrow) = subtract(limbs, &ORDER);
    !borrow
}

#[inline]
fn subtract(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], bool) {
    let mut out = [0; 4];
    let mut borrow = false;
    for i in 0..4 {
        let (difference, under) = a[i].overflowing_sub(b[i]);
        let (difference, under_again) = difference.overflowing_sub(u64::from(borrow));
        out[i] = difference;
        borrow = under | under_again;
    }
    (out, borrow)
}

#[inline]
fn add(a: &[u64; 4], b: &[u64; 4]) -> [u64; 4] {
    let mut out = [0; 4];
    let mut carry = false;
    for i in 0..4 {
        let (sum, over) = a[i].overflowing_add(b[i]);
        let (sum, over_again) = sum.overflowing_add(u64::from(carry));
        out[i] = sum;
        carry = over | over_again;
    }
    out
}

impl Add for Scalar {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        // Twice the order is below 2^256: the sum cannot overflow.
        let sum = add(&self.0.l, &other.0.l);
        let (reduced, borrow) = subtract(&sum, &ORDER);
        let mut out = sum;
        for (out, reduced) in out.iter_mut().zip(reduced) {
            *out = if borrow { *out } else { reduced };
        }
        Self(RawScalar { l: out })
    }
}

impl Sub for Scalar {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        let (difference, borrow) = subtract(&self.0.l, &other.0.l);
        let mask = if borrow { u64::MAX } else { 0 };
        Self(RawScalar { l: add(&difference, &ORDER.map(|limb| limb & mask)) })
    }
}

impl Mul for Scalar {
    type Output = Self;

    #[inline]
    fn mul(self, other: Self) -> Self {
        Self(bls::fr_mul(&self.0, &other.0))
    }
}

impl Neg for Scalar {
    type Output = Self;

    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl AddAssign for Scalar {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Scalar {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl MulAssign for Scalar {
    #[inline]
    fn mul_assign(&mut self, other: Self) {
        *self = *self * other;
    }
}

impl From<u64> for Scalar {
    fn from(value: u64) -> Self {
        Self(bls::fr_from_limbs(&[value, 0, 0, 0]))
    }
}

impl From<Scalar> for ScalarBytes {
    fn from(scalar: Scalar) -> Self {
        Self(scalar.to_bytes())
    }
}

/// Bytes that are no scalar: their number is not below the field's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the 32 bytes {0} are not below the scalar field's order")]
pub struct NotAScalar(pub ScalarBytes);

impl TryFrom<ScalarBytes> for Scalar {
    type Error = NotAScalar;

    fn try_from(bytes: ScalarBytes) -> Result<Self, NotAScalar> {
        Self::from_bytes(&bytes.0).ok_or(NotAScalar(bytes))
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scalar({})", ScalarBytes::from(*self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_scalar() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(|bytes| Scalar::from_bytes_reduced(&bytes)),
            (0..4u64).prop_map(Scalar::from),
            (1..4u64).prop_map(|below| -Scalar::from(below)),
        ]
    }

    #[test]
    fn constants_are_what_they_say() {
        let mut order = [0; 32];
        for (bytes, limb) in order.as_chunks_mut::<8>().0.iter_mut().zip(ORDER.iter().rev()) {
            *bytes = limb.to_be_bytes();
        }
        assert_eq!(order, primitives::scalars::SCALAR_FIELD_ORDER);
        assert_eq!(Scalar::from(1), Scalar::ONE);
        assert_eq!(Scalar::from_bytes(&order), None);
        assert_eq!(Scalar::from_bytes_reduced(&order), Scalar::ZERO);
        for log in 0..=32 {
            let root = Scalar::root_of_unity(1 << log).expect("a power of two up to 2^32");
            assert_eq!(root.pow(1 << log), Scalar::ONE);
            assert!(log == 0 || root.pow(1 << (log - 1)) == -Scalar::ONE);
        }
        for wrong in [0, 3, 1 << 33] {
            assert_eq!(Scalar::root_of_unity(wrong), None);
        }
        // Archival §4.
        let root = Scalar::root_of_unity(65_536).map(|root| hex::encode(root.to_bytes()));
        let expected = "2155379d12180caa88f39a78f1aeb57867a665ae1fcadc91d7118f85cd96b8ad";
        assert_eq!(root.as_deref(), Some(expected));
    }

    proptest! {
        #[test]
        fn bytes_round_trip(scalar in any_scalar(), bytes in any::<[u8; 31]>()) {
            prop_assert_eq!(Scalar::from_bytes(&scalar.to_bytes()), Some(scalar));
            prop_assert_eq!(&Scalar::from_safe_bytes(&bytes).to_bytes()[1..], &bytes[..]);
        }

        #[test]
        fn field_laws(a in any_scalar(), b in any_scalar(), c in any_scalar()) {
            prop_assert_eq!(a + b, b + a);
            prop_assert_eq!((a + b) - b, a);
            prop_assert_eq!(a - b, -(b - a));
            prop_assert_eq!(a * (b + c), a * b + a * c);
            prop_assert_eq!(a.pow(5), a * a * a * a * a);
            prop_assert_eq!(a.inverse().map(|inverse| inverse * a), (!a.is_zero()).then_some(Scalar::ONE));
        }

        #[test]
        fn batch_inverse_is_inverse(mut scalars in prop::collection::vec(any_scalar(), 0..20)) {
            let each: Vec<Scalar> = scalars.iter().map(|scalar| scalar.inverse().unwrap_or_default()).collect();
            Scalar::batch_inverse(&mut scalars);
            prop_assert_eq!(scalars, each);
        }
    }
}
