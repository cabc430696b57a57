//! The one border to blst: safe functions over its field elements, points and pairings.
//!
//! Everything here is a thin wrapper: blst's functions read and write through pointers to plain structures of limbs and
//! keep no reference, so each call is sound when every pointer comes from a Rust reference to an initialised value.
//! Scalars and coordinates are in Montgomery form, as blst keeps them.

#![allow(unsafe_code)]

use blst::{
    BLST_ERROR, blst_fp, blst_fp6, blst_fp12, blst_fr, blst_p1, blst_p1_affine, blst_p2, blst_p2_affine,
    blst_scalar,
};
use std::ops::{Add, Neg, Sub};

pub(crate) type RawScalar = blst_fr;
pub(crate) type Fp = blst_fp;

/// Product in the scalar field.
#[inline]
pub(crate) fn fr_mul(a: &RawScalar, b: &RawScalar) -> RawScalar {
    let mut out = RawScalar::default();
    // SAFETY: all three pointers come from references to initialised values.
    unsafe { blst::blst_fr_mul(&mut out, a, b) };
    out
}

/// Inverse in the scalar field; zero for zero. Variable time.
pub(crate) fn fr_inverse(a: &RawScalar) -> RawScalar {
    let mut out = RawScalar::default();
    // SAFETY: both pointers come from references to initialised values.
    unsafe { blst::blst_fr_eucl_inverse(&mut out, a) };
    out
}

/// Limbs of the integer, least significant first.
pub(crate) fn fr_to_limbs(a: &RawScalar) -> [u64; 4] {
    let mut out = [0; 4];
    // SAFETY: the output has room for the four limbs that are written.
    unsafe { blst::blst_uint64_from_fr(out.as_mut_ptr(), a) };
    out
}

/// The integer of `limbs`, least significant first, mod r.
pub(crate) fn fr_from_limbs(limbs: &[u64; 4]) -> RawScalar {
    let mut out = RawScalar::default();
    // SAFETY: four limbs are read, as many as the array has.
    unsafe { blst::blst_fr_from_uint64(&mut out, limbs.as_ptr()) };
    out
}

/// Big-endian bytes, of any length, mod r.
pub(crate) fn fr_from_wide_bytes(bytes: &[u8]) -> RawScalar {
    let mut scalar = blst_scalar::default();
    let mut out = RawScalar::default();
    // SAFETY: exactly `bytes.len()` bytes are read; the other pointers come from references. The first call reduces
    // mod r, so that the second gets a canonical scalar.
    unsafe {
        blst::blst_scalar_from_be_bytes(&mut scalar, bytes.as_ptr(), bytes.len());
        blst::blst_fr_from_scalar(&mut out, &scalar);
    }
    out
}

/// Product in the base field.
#[inline]
pub(crate) fn fp_mul(a: &Fp, b: &Fp) -> Fp {
    let mut out = Fp::default();
    // SAFETY: all three pointers come from references to initialised values.
    unsafe { blst::blst_fp_mul(&mut out, a, b) };
    out
}

/// Square in the base field.
#[inline]
pub(crate) fn fp_sqr(a: &Fp) -> Fp {
    let mut out = Fp::default();
    // SAFETY: both pointers come from references to initialised values.
    unsafe { blst::blst_fp_sqr(&mut out, a) };
    out
}

/// The base field's order, 64-bit limbs, least significant first.
pub(crate) const FIELD_ORDER: [u64; 6] = [
    0xb9fe_ffff_ffff_aaab,
    0x1eab_fffe_b153_ffff,
    0x6730_d2a0_f6b0_f624,
    0x6477_4b84_f385_12bf,
    0x4b1b_a7b6_434b_acd7,
    0x1a01_11ea_397f_e69a,
];

/// Difference in the base field. Too short for a call: blst's own would cost twice as much.
#[inline]
pub(crate) fn fp_sub(a: &Fp, b: &Fp) -> Fp {
    let mut out = Fp::default();
    let mut borrow = false;
    for i in 0..6 {
        let (difference, under) = a.l[i].overflowing_sub(b.l[i]);
        let (difference, under_again) = difference.overflowing_sub(u64::from(borrow));
        out.l[i] = difference;
        borrow = under | under_again;
    }
    let mask = if borrow { u64::MAX } else { 0 };
    let mut carry = false;
    for (limb, order) in out.l.iter_mut().zip(FIELD_ORDER) {
        let (sum, over) = limb.overflowing_add(order & mask);
        let (sum, over_again) = sum.overflowing_add(u64::from(carry));
        *limb = sum;
        carry = over | over_again;
    }
    out
}

/// Additive inverse in the base field.
#[inline]
pub(crate) fn fp_neg(a: &Fp) -> Fp {
    fp_sub(&Fp::default(), a)
}

/// Inverse in the base field; zero for zero. Variable time.
pub(crate) fn fp_inverse(a: &Fp) -> Fp {
    let mut out = Fp::default();
    // SAFETY: both pointers come from references to initialised values.
    unsafe { blst::blst_fp_eucl_inverse(&mut out, a) };
    out
}

/// Why 48 or 96 bytes are no point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// The bytes are not the compressed form of any coordinate.
    #[error("not a compressed point")]
    Encoding,
    /// The coordinate belongs to no point of the curve.
    #[error("the point is not on the curve")]
    NotOnCurve,
    /// The point is on the curve but not in the group of order r.
    #[error("the point is not in the group of order r")]
    NotInGroup,
}

fn check(error: BLST_ERROR) -> Result<(), PointError> {
    match error {
        BLST_ERROR::BLST_SUCCESS => Ok(()),
        BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Err(PointError::NotOnCurve),
        BLST_ERROR::BLST_POINT_NOT_IN_GROUP => Err(PointError::NotInGroup),
        _ => Err(PointError::Encoding),
    }
}

/// A point of G1's curve, affine; all zeroes is the point at infinity.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub(crate) struct G1Affine(blst_p1_affine);

impl G1Affine {
    /// The generator.
    pub(crate) fn generator() -> Self {
        // SAFETY: the function returns a pointer to a constant of the library.
        Self(unsafe { *blst::blst_p1_affine_generator() })
    }

    /// Decompresses and checks that the point is on the curve, as the reference does (archival §4).
    pub(crate) fn from_compressed(bytes: &[u8; 48]) -> Result<Self, PointError> {
        let mut out = blst_p1_affine::default();
        // SAFETY: 48 bytes are read, as many as the array has.
        check(unsafe { blst::blst_p1_uncompress(&mut out, bytes.as_ptr()) })?;
        Ok(Self(out))
    }

    /// Whether the point is in the group of order r; infinity is.
    pub(crate) fn is_in_group(&self) -> bool {
        // SAFETY: the pointer comes from a reference to an initialised value.
        unsafe { blst::blst_p1_affine_in_g1(&self.0) }
    }

    pub(crate) fn to_compressed(self) -> [u8; 48] {
        let mut out = [0; 48];
        // SAFETY: 48 bytes are written, as many as the array has.
        unsafe { blst::blst_p1_affine_compress(out.as_mut_ptr(), &self.0) };
        out
    }

    pub(crate) fn is_infinity(&self) -> bool {
        // SAFETY: the pointer comes from a reference to an initialised value.
        unsafe { blst::blst_p1_affine_is_inf(&self.0) }
    }

    /// The coordinates.
    #[inline]
    pub(crate) fn coordinates(&self) -> (&Fp, &Fp) {
        (&self.0.x, &self.0.y)
    }

    /// A point of coordinates that are known to be on the curve.
    #[inline]
    pub(crate) fn from_coordinates(x: Fp, y: Fp) -> Self {
        Self(blst_p1_affine { x, y })
    }
}

/// A point of G1's curve, projective.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(crate) struct G1(blst_p1);

impl G1 {
    /// The point at infinity.
    pub(crate) const INFINITY: Self =
        Self(blst_p1 { x: blst_fp { l: [0; 6] }, y: blst_fp { l: [0; 6] }, z: blst_fp { l: [0; 6] } });

    pub(crate) fn double(&self) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: both pointers come from references to initialised values.
        unsafe { blst::blst_p1_double(&mut out, &self.0) };
        Self(out)
    }

    pub(crate) fn add_affine(&self, other: &G1Affine) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: all pointers come from references to initialised values.
        unsafe { blst::blst_p1_add_or_double_affine(&mut out, &self.0, &other.0) };
        Self(out)
    }

    /// The multiple by the integer of `scalar`, 32 bytes little-endian, below r.
    ///
    /// blst splits the scalar by the curve's endomorphism, which is a multiplication only in the group of order r: of a
    /// point outside, the component of small order comes out wrong, but stays of small order.
    pub(crate) fn multiply(&self, scalar: &[u8; 32]) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: 255 bits, thus at most 32 bytes, are read from the array.
        unsafe { blst::blst_p1_mult(&mut out, &self.0, scalar.as_ptr(), 255) };
        Self(out)
    }

    /// The affine form.
    pub(crate) fn to_affine(self) -> G1Affine {
        let mut out = blst_p1_affine::default();
        // SAFETY: both pointers come from references to initialised values.
        unsafe { blst::blst_p1_to_affine(&mut out, &self.0) };
        G1Affine(out)
    }

    /// The affine forms of many points, for one inversion.
    pub(crate) fn batch_to_affine(points: &[Self]) -> Vec<G1Affine> {
        // blst cannot invert a batch that contains infinity.
        let finite: Vec<*const blst_p1> =
            points.iter().filter(|point| !point.is_infinity()).map(|point| &raw const point.0).collect();
        let mut affine = vec![blst_p1_affine::default(); finite.len()];
        if !finite.is_empty() {
            // SAFETY: `finite` holds as many pointers to initialised points, borrowed for the call, as `affine` has room.
            unsafe { blst::blst_p1s_to_affine(affine.as_mut_ptr(), finite.as_ptr(), finite.len()) };
        }
        let mut affine = affine.into_iter();
        points
            .iter()
            .map(|point| match point.is_infinity() {
                true => G1Affine::default(),
                false => G1Affine(affine.next().expect("one for each finite point")),
            })
            .collect()
    }

    pub(crate) fn is_infinity(&self) -> bool {
        // SAFETY: the pointer comes from a reference to an initialised value.
        unsafe { blst::blst_p1_is_inf(&self.0) }
    }
}

impl From<G1Affine> for G1 {
    fn from(point: G1Affine) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: both pointers come from references to initialised values.
        unsafe { blst::blst_p1_from_affine(&mut out, &point.0) };
        Self(out)
    }
}

impl Add for G1 {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let mut out = blst_p1::default();
        // SAFETY: all pointers come from references to initialised values.
        unsafe { blst::blst_p1_add_or_double(&mut out, &self.0, &other.0) };
        Self(out)
    }
}

impl Neg for G1 {
    type Output = Self;

    fn neg(mut self) -> Self {
        // SAFETY: the pointer comes from a reference to an initialised value.
        unsafe { blst::blst_p1_cneg(&mut self.0, true) };
        self
    }
}

impl Sub for G1 {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl PartialEq for G1 {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: both pointers come from references to initialised values.
        unsafe { blst::blst_p1_is_equal(&self.0, &other.0) }
    }
}

/// Sum of the products of points with integers of 32 bytes little-endian, below r, on this thread by blst itself.
///
/// Right for every input, infinity and repeated points included.
pub(crate) fn multiply_sum(points: &[G1Affine], scalars: &[[u8; 32]]) -> G1 {
    assert_eq!(points.len(), scalars.len(), "as many points as scalars");
    // blst's bucket method stops at a point at infinity.
    let (points, scalars): (Vec<*const blst_p1_affine>, Vec<*const u8>) = points
        .iter()
        .zip(scalars)
        .filter(|(point, _)| !point.is_infinity())
        .map(|(point, scalar)| (&raw const point.0, scalar.as_ptr()))
        .unzip();
    let mut out = blst_p1::default();
    if points.is_empty() {
        return G1(out);
    }
    // SAFETY: the two tables hold `points.len()` pointers each, to initialised points and to 32 bytes, borrowed for the
    // call; the scratch space has the size blst asks for.
    unsafe {
        let scratch = blst::blst_p1s_mult_pippenger_scratch_sizeof(points.len());
        let mut scratch = vec![0u64; scratch.div_ceil(8)];
        blst::blst_p1s_mult_pippenger(
            &mut out,
            points.as_ptr(),
            points.len(),
            scalars.as_ptr(),
            255,
            scratch.as_mut_ptr(),
        );
    }
    G1(out)
}

/// A point of G2's curve, affine.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct G2Affine(blst_p2_affine);

impl G2Affine {
    /// The generator.
    pub(crate) fn generator() -> Self {
        // SAFETY: the function returns a pointer to a constant of the library.
        Self(unsafe { *blst::blst_p2_affine_generator() })
    }

    /// Decompresses and checks that the point is on the curve.
    pub(crate) fn from_compressed(bytes: &[u8; 96]) -> Result<Self, PointError> {
        let mut out = blst_p2_affine::default();
        // SAFETY: 96 bytes are read, as many as the array has.
        check(unsafe { blst::blst_p2_uncompress(&mut out, bytes.as_ptr()) })?;
        Ok(Self(out))
    }

    pub(crate) fn to_compressed(self) -> [u8; 96] {
        let mut out = [0; 96];
        // SAFETY: 96 bytes are written, as many as the array has.
        unsafe { blst::blst_p2_affine_compress(out.as_mut_ptr(), &self.0) };
        out
    }

    /// The multiple by the integer of `scalar`, 32 bytes little-endian; the point must be in the group of order r.
    pub(crate) fn multiply(&self, scalar: &[u8; 32]) -> Self {
        let mut point = blst_p2::default();
        let mut product = blst_p2::default();
        let mut out = blst_p2_affine::default();
        // SAFETY: 255 bits, thus at most 32 bytes, are read from the array; the other pointers come from references.
        unsafe {
            blst::blst_p2_from_affine(&mut point, &self.0);
            blst::blst_p2_mult(&mut product, &point, scalar.as_ptr(), 255);
            blst::blst_p2_to_affine(&mut out, &product);
        }
        Self(out)
    }
}

/// Lines of a fixed G2 point, for many pairings with it.
pub(crate) struct PreparedG2(Box<[blst_fp6; 68]>);

impl PreparedG2 {
    pub(crate) fn new(point: &G2Affine) -> Self {
        let mut lines = Box::new([blst_fp6::default(); 68]);
        // SAFETY: blst writes 68 lines, as many as the array has.
        unsafe { blst::blst_precompute_lines(lines.as_mut_ptr(), &point.0) };
        Self(lines)
    }

    fn miller_loop(&self, point: &G1Affine) -> blst_fp12 {
        // The loop has no case for infinity, whose pairing with anything is one.
        if point.is_infinity() {
            // SAFETY: the function returns a pointer to a constant of the library.
            return unsafe { *blst::blst_fp12_one() };
        }
        let mut out = blst_fp12::default();
        // SAFETY: 68 lines are read, as many as the array has; the other pointers come from references.
        unsafe { blst::blst_miller_loop_lines(&mut out, self.0.as_ptr(), &point.0) };
        out
    }
}

/// Whether e(a, p) = e(b, q).
pub(crate) fn pairings_equal(a: &G1Affine, p: &PreparedG2, b: &G1Affine, q: &PreparedG2) -> bool {
    let left = p.miller_loop(a);
    let right = q.miller_loop(b);
    // SAFETY: both pointers come from references to initialised values.
    unsafe { blst::blst_fp12_finalverify(&left, &right) }
}
