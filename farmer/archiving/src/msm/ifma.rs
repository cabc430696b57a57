//! Batched affine arithmetic on the 52-bit multipliers of AVX-512: eight points at a time.
//!
//! A coordinate is eight limbs of 52 bits in Montgomery form with radix 2^416. That leaves 35 bits above p, so that
//! products take factors of several p, and only sums that are stored are brought back to below 1.001 p. The scalar twin
//! of everything here is [`super::portable`]; a test compares them.

#![allow(unsafe_code)]

use super::{Engine, Job, NEGATIVE};
use crate::bls::{self, Fp, G1, G1Affine};
use crate::simd;
use std::arch::x86_64::*;
use std::array::from_fn;

/// Vectors of additions that share one inversion.
const BATCH: usize = 192;
/// Vectors by which loads of points run ahead.
const PREFETCH: usize = 3;

const LIMB: u64 = (1 << 52) - 1;
/// The base field's order.
const P: [u64; 8] = split(&bls::FIELD_ORDER);
/// -1/p mod 2^52.
const P_INVERSE: u64 = 0x0003_fffc_fffc_fffd;
/// From blst's form, whose radix is 2^384, to this one.
const FROM_BLST: Fp = Fp { l: power_of_two(416) };
/// From this form, taken for blst's, to blst's.
const TO_BLST: Fp = Fp { l: power_of_two(352) };
/// From the inverse of a number of this form, taken for blst's, to this form.
const FROM_INVERSE: Fp = Fp { l: power_of_two(448) };
/// 2^52 / (p / 2^364), rounded down: finds the multiple of p in a number by its highest limb.
const QUOTIENT: u64 = (1 << 52) / (P[7] + 1);
/// 4p / 2^364 less 5, which covers what the lower limbs can take away.
const QUOTIENT_OFFSET: u64 = 4 * P[7] - 5;

/// 2^exponent mod p.
const fn power_of_two(exponent: u32) -> [u64; 6] {
    let mut value = [1, 0, 0, 0, 0, 0];
    let mut step = 0;
    while step < exponent {
        // p has 381 bits: doubling does not overflow.
        let mut carry = 0;
        let mut i = 0;
        while i < 6 {
            let doubled = value[i] << 1 | carry;
            carry = value[i] >> 63;
            value[i] = doubled;
            i += 1;
        }
        value = reduce_once(value);
        step += 1;
    }
    value
}

/// Subtracts p where that leaves no borrow.
const fn reduce_once(value: [u64; 6]) -> [u64; 6] {
    let mut out = [0; 6];
    let mut borrow = false;
    let mut i = 0;
    while i < 6 {
        let (difference, under) = value[i].overflowing_sub(bls::FIELD_ORDER[i]);
        let (difference, under_again) = difference.overflowing_sub(borrow as u64);
        out[i] = difference;
        borrow = under | under_again;
        i += 1;
    }
    if borrow { value } else { out }
}

/// 64-bit limbs to 52-bit limbs.
const fn split(limbs: &[u64; 6]) -> [u64; 8] {
    let mut out = [0; 8];
    let mut i = 0;
    while i < 8 {
        let bit = 52 * i;
        let (limb, shift) = (bit / 64, bit % 64);
        let mut bits = limbs[limb] >> shift;
        if shift > 12 && limb < 5 {
            bits |= limbs[limb + 1] << (64 - shift);
        }
        out[i] = bits & LIMB;
        i += 1;
    }
    out
}

/// 52-bit limbs of a number below 2p to 64-bit limbs of a number below p.
fn join(limbs: &[u64; 8]) -> [u64; 6] {
    let mut out = [0; 6];
    for (i, limb) in limbs.iter().enumerate() {
        let bit = 52 * i;
        out[bit / 64] |= limb << (bit % 64);
        if bit % 64 > 12 && bit / 64 < 5 {
            out[bit / 64 + 1] |= limb >> (64 - bit % 64);
        }
    }
    reduce_once(out)
}

/// A point: coordinates below 1.001 p.
#[derive(Clone, Copy, Default)]
#[repr(C, align(128))]
pub(super) struct Point {
    x: [u64; 8],
    y: [u64; 8],
}

pub(super) struct Ifma;

impl Ifma {
    /// Whether this processor has what the engine needs. No other function here may be called without.
    pub(super) fn is_supported() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
    }
}

impl Engine for Ifma {
    type Point = Point;

    fn convert(points: &[G1Affine]) -> Vec<Point> {
        let coordinate = |value: &Fp| split(&bls::fp_mul(value, &FROM_BLST).l);
        let convert = |point: &G1Affine| {
            let (x, y) = point.coordinates();
            Point { x: coordinate(x), y: coordinate(y) }
        };
        points.iter().map(convert).collect()
    }

    fn restore(point: &Point) -> G1 {
        let coordinate = |limbs: &[u64; 8]| bls::fp_mul(&Fp { l: join(limbs) }, &TO_BLST);
        G1Affine::from_coordinates(coordinate(&point.x), coordinate(&point.y)).into()
    }

    fn negate(point: &Point) -> Point {
        let y = bls::fp_neg(&Fp { l: join(&point.y) });
        Point { x: point.x, y: split(&y.l) }
    }

    fn double(points: &mut [Point], times: u32) {
        assert!(Self::is_supported());
        for points in points.chunks_mut(8 * BATCH) {
            // SAFETY: the instructions that the function is compiled for were found just now.
            unsafe { double_batch(points, times) }
        }
    }

    fn add(source: &[Point], jobs: &[Job], out: &mut [Point]) -> bool {
        assert!(Self::is_supported());
        jobs.chunks(8 * BATCH).all(|jobs| {
            // SAFETY: the instructions that the function is compiled for were found just now.
            unsafe { add_batch(source, jobs, out) }
        })
    }
}

/// Eight numbers, limb by limb.
type Eight = [__m512i; 8];

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn broadcast(limbs: &[u64; 8]) -> Eight {
    limbs.map(|limb| _mm512_set1_epi64(limb as i64))
}

/// Loads one number from each of eight places.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load(numbers: [&[u64; 8]; 8]) -> Eight {
    // SAFETY: each reference is to 64 bytes.
    simd::transpose(&numbers.map(|number| unsafe { _mm512_loadu_si512(number.as_ptr().cast()) }))
}

/// Stores eight numbers, each as its limbs.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn unload(numbers: &Eight) -> [[u64; 8]; 8] {
    let rows = simd::transpose(numbers);
    let mut out = [[0; 8]; 8];
    for (out, row) in out.iter_mut().zip(rows) {
        // SAFETY: the reference is to 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), row) };
    }
    out
}

/// Carries, signed, so that every limb has 52 bits. The number must not be negative.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carry(mut limbs: Eight) -> Eight {
    let mask = _mm512_set1_epi64(LIMB as i64);
    for i in 0..7 {
        limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], _mm512_srai_epi64::<52>(limbs[i]));
        limbs[i] = _mm512_and_si512(limbs[i], mask);
    }
    limbs
}

/// Product, below 1.01 p, of numbers whose product is below 2^795.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn mul(a: &Eight, b: &Eight) -> Eight {
    let zero = _mm512_setzero_si512();
    let p = broadcast(&P);
    let inverse = _mm512_set1_epi64(P_INVERSE as i64);
    let mut t = [zero; 8];
    for b in b {
        t[0] = _mm512_madd52lo_epu64(t[0], a[0], *b);
        let m = _mm512_madd52lo_epu64(zero, t[0], inverse);
        for j in 1..8 {
            t[j] = _mm512_madd52lo_epu64(t[j], a[j], *b);
        }
        // The lowest limb becomes zero but for its carry, and all others move down by one.
        let carry = _mm512_srli_epi64::<52>(_mm512_madd52lo_epu64(t[0], m, p[0]));
        for j in 1..8 {
            t[j - 1] = _mm512_madd52lo_epu64(t[j], m, p[j]);
        }
        t[0] = _mm512_add_epi64(t[0], carry);
        t[7] = zero;
        for j in 0..8 {
            t[j] = _mm512_madd52hi_epu64(t[j], a[j], *b);
            t[j] = _mm512_madd52hi_epu64(t[j], m, p[j]);
        }
    }
    carry(t)
}

/// a - b + multiple, limb by limb without carrying.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn sub_raw(a: &Eight, b: &Eight) -> Eight {
    from_fn(|i| _mm512_sub_epi64(a[i], b[i]))
}

/// a - b + kp for numbers with b at most kp.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn sub<const K: u64>(a: &Eight, b: &Eight) -> Eight {
    carry(from_fn(|i| {
        let multiple = _mm512_set1_epi64((K * P[i]) as i64);
        _mm512_add_epi64(_mm512_sub_epi64(a[i], b[i]), multiple)
    }))
}

/// Brings a number between -2.1 p and 2.1 p, of signed limbs below 2^54, to between 0 and 1.001 p.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduce(raw: &Eight) -> Eight {
    let estimate = _mm512_add_epi64(raw[7], _mm512_set1_epi64(QUOTIENT_OFFSET as i64));
    let quotient =
        _mm512_madd52hi_epu64(_mm512_setzero_si512(), estimate, _mm512_set1_epi64(QUOTIENT as i64));
    carry(from_fn(|i| {
        // (4 - quotient) p.
        let p = P[i] as i64;
        let multiples = _mm512_setr_epi64(4 * p, 3 * p, 2 * p, p, 0, -p, -2 * p, -3 * p);
        _mm512_add_epi64(raw[i], _mm512_permutexvar_epi64(quotient, multiples))
    }))
}

/// Inverts each of eight numbers; none when one of them is zero.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn invert(numbers: &Eight) -> Option<Eight> {
    let numbers = unload(numbers).map(|limbs| Fp { l: join(&limbs) });
    let mut products = numbers;
    for i in 1..8 {
        products[i] = bls::fp_mul(&products[i - 1], &numbers[i]);
    }
    if products[7] == Fp::default() {
        return None;
    }
    let mut inverse = bls::fp_inverse(&products[7]);
    let mut out = [[0; 8]; 8];
    for i in (0..8).rev() {
        let own = if i == 0 { inverse } else { bls::fp_mul(&inverse, &products[i - 1]) };
        inverse = bls::fp_mul(&inverse, &numbers[i]);
        out[i] = split(&bls::fp_mul(&own, &FROM_INVERSE).l);
    }
    Some(load(from_fn(|i| &out[i])))
}

/// Indices of the points of eight jobs; fewer jobs than eight are filled up with the last one.
#[inline]
fn eight(jobs: &[Job], index: impl Fn(&Job) -> u32) -> [u32; 8] {
    from_fn(|i| index(&jobs[i.min(jobs.len() - 1)]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load_x(source: &[Point], indices: [u32; 8]) -> Eight {
    load(indices.map(|index| &source[(index & !NEGATIVE) as usize].x))
}

/// Ordinates with their signs: limbs may be negative.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load_y(source: &[Point], indices: [u32; 8]) -> Eight {
    let y = load(indices.map(|index| &source[(index & !NEGATIVE) as usize].y));
    let negative = indices.iter().rev().fold(0, |mask, index| mask << 1 | (index >> 31) as u8);
    y.map(|limb| _mm512_mask_sub_epi64(limb, negative, _mm512_setzero_si512(), limb))
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn prefetch(source: &[Point], jobs: &[Job]) {
    for job in jobs {
        for index in [job.left, job.right] {
            let point = &source[(index & !NEGATIVE) as usize];
            _mm_prefetch::<_MM_HINT_T0>(point.x.as_ptr().cast());
            _mm_prefetch::<_MM_HINT_T0>(point.y.as_ptr().cast());
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn add_batch(source: &[Point], jobs: &[Job], out: &mut [Point]) -> bool {
    let vectors: Vec<&[Job]> = jobs.chunks(8).collect();
    let one = broadcast(&split(&power_of_two(416)));
    // Before each vector: the product of the differences so far, of the even and of the odd vectors apart, so that the
    // two chains overlap.
    let mut products = Vec::with_capacity(vectors.len());
    let mut product = [one, one];
    vectors[..PREFETCH.min(vectors.len())].iter().for_each(|jobs| prefetch(source, jobs));
    for (number, jobs) in vectors.iter().enumerate() {
        if let Some(ahead) = vectors.get(number + PREFETCH) {
            prefetch(source, ahead);
        }
        let left = load_x(source, eight(jobs, |job| job.left));
        let right = load_x(source, eight(jobs, |job| job.right));
        let difference = sub::<2>(&right, &left);
        let chain = &mut product[number % 2];
        products.push((difference, *chain));
        *chain = mul(chain, &difference);
    }
    let (Some(even), Some(odd)) = (invert(&product[0]), invert(&product[1])) else { return false };
    let mut inverse = [even, odd];
    for (number, jobs) in vectors.iter().enumerate().rev() {
        let (difference, before) = &products[number];
        let chain = &mut inverse[number % 2];
        let own = mul(chain, before);
        *chain = mul(chain, difference);
        let (left, right) = (eight(jobs, |job| job.left), eight(jobs, |job| job.right));
        let (x1, x2) = (load_x(source, left), load_x(source, right));
        let (y1, y2) = (load_y(source, left), load_y(source, right));
        let slope = mul(&sub::<4>(&y2, &y1), &own);
        let x = reduce(&sub_raw(&sub_raw(&mul(&slope, &slope), &x1), &x2));
        let y = reduce(&sub_raw(&mul(&slope, &sub::<2>(&x1, &x)), &y1));
        let (x, y) = (unload(&x), unload(&y));
        for (lane, job) in jobs.iter().enumerate() {
            out[job.out as usize] = Point { x: x[lane], y: y[lane] };
        }
    }
    true
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn double_batch(points: &mut [Point], times: u32) {
    let one = broadcast(&split(&power_of_two(416)));
    let zero = [_mm512_setzero_si512(); 8];
    let mut vectors: Vec<(Eight, Eight)> = points
        .chunks(8)
        .map(|points| {
            let at = |i: usize| &points[i.min(points.len() - 1)];
            (load(from_fn(|i| &at(i).x)), load(from_fn(|i| &at(i).y)))
        })
        .collect();
    let mut products = Vec::with_capacity(vectors.len());
    for _ in 0..times {
        let mut product = [one, one];
        products.clear();
        for (number, (_, y)) in vectors.iter().enumerate() {
            let twice = carry(from_fn(|i| _mm512_add_epi64(y[i], y[i])));
            let chain = &mut product[number % 2];
            products.push((twice, *chain));
            *chain = mul(chain, &twice);
        }
        let invert = |number: &Eight| invert(number).expect("no point of odd order has an ordinate of zero");
        let mut inverse = [invert(&product[0]), invert(&product[1])];
        for (number, (x, y)) in vectors.iter_mut().enumerate().rev() {
            let (twice, before) = &products[number];
            let chain = &mut inverse[number % 2];
            let own = mul(chain, before);
            *chain = mul(chain, twice);
            let square = mul(x, x);
            let numerator =
                carry(from_fn(|i| _mm512_add_epi64(square[i], _mm512_add_epi64(square[i], square[i]))));
            let slope = mul(&numerator, &own);
            let new_x = reduce(&sub_raw(&sub_raw(&mul(&slope, &slope), x), x));
            let y_negative = sub_raw(&zero, y);
            let rise = mul(&slope, &sub::<2>(x, &new_x));
            *y = reduce(&from_fn(|i| _mm512_add_epi64(rise[i], y_negative[i])));
            *x = new_x;
        }
    }
    for (points, (x, y)) in points.chunks_mut(8).zip(&vectors) {
        let (x, y) = (unload(x), unload(y));
        for (lane, point) in points.iter_mut().enumerate() {
            *point = Point { x: x[lane], y: y[lane] };
        }
    }
}
