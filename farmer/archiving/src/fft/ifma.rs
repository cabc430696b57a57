//! Transforms on the 52-bit multipliers of AVX-512: eight scalars at a time.
//!
//! A scalar is five limbs of 52 bits. Values keep blst's Montgomery form, with radix 2^256, while twiddles have the radix
//! of this multiplication, 2^260: their product then has the values' form. Between levels values are below 2r, in the
//! middle of a group of levels below 16r, which still fits 260 bits. The scalar twin is the parent module; a test
//! compares them.

#![allow(unsafe_code)]

use super::{Direction, MAX_LOG};
use crate::bls::RawScalar;
use crate::scalar::{ORDER, Scalar};
use crate::simd;
use std::arch::x86_64::*;
use std::array::from_fn;
use std::sync::OnceLock;

/// Transforms of up to this many vectors run level by level; larger ones split first, so that each half stays in cache.
const LEVEL_BY_LEVEL: usize = 1 << 10;

const LIMB: u64 = (1 << 52) - 1;
/// The field's order.
const R: [u64; 5] = split(&ORDER);
/// -1/r mod 2^52.
const R_INVERSE: u64 = 0x000f_fffe_ffff_ffff;
/// 2^52 / (r / 2^208), rounded down: finds the multiple of r in a number by its highest limb.
const QUOTIENT: u64 = (1 << 52) / (R[4] + 1);

/// 64-bit limbs to 52-bit limbs.
const fn split(limbs: &[u64; 4]) -> [u64; 5] {
    [
        limbs[0] & LIMB,
        (limbs[0] >> 52 | limbs[1] << 12) & LIMB,
        (limbs[1] >> 40 | limbs[2] << 24) & LIMB,
        (limbs[2] >> 28 | limbs[3] << 36) & LIMB,
        limbs[3] >> 16,
    ]
}

/// Whether this processor has what the module needs.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
}

/// Eight scalars, limb by limb.
type Eight = [__m512i; 5];

/// Twiddles in this multiplication's form, one for all lanes.
fn broadcast_twiddles(log: u32, direction: Direction) -> &'static [[u64; 5]] {
    static TABLES: [[OnceLock<Vec<[u64; 5]>>; MAX_LOG as usize + 1]; 2] =
        [const { [const { OnceLock::new() }; MAX_LOG as usize + 1] }; 2];
    TABLES[direction as usize][log as usize]
        .get_or_init(|| super::twiddles(log, direction).iter().map(twiddle).collect())
}

/// To the Montgomery form of radix 2^260.
fn twiddle(scalar: &Scalar) -> [u64; 5] {
    split(&(*scalar * Scalar::from(16)).0.l)
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn broadcast(limbs: &[u64; 5]) -> Eight {
    limbs.map(|limb| _mm512_set1_epi64(limb as i64))
}

/// Carries, signed, so that every limb has 52 bits. The number must not be negative.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carry(mut limbs: Eight) -> Eight {
    let mask = _mm512_set1_epi64(LIMB as i64);
    for i in 0..4 {
        limbs[i + 1] = _mm512_add_epi64(limbs[i + 1], _mm512_srai_epi64::<52>(limbs[i]));
        limbs[i] = _mm512_and_si512(limbs[i], mask);
    }
    limbs
}

/// Product of a number below 16r with one below 1.1r, over 2^260: below 1.5r.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn mul(a: &Eight, b: &Eight) -> Eight {
    let zero = _mm512_setzero_si512();
    let r = broadcast(&R);
    let inverse = _mm512_set1_epi64(R_INVERSE as i64);
    let mut t = [zero; 5];
    for b in b {
        t[0] = _mm512_madd52lo_epu64(t[0], a[0], *b);
        let m = _mm512_madd52lo_epu64(zero, t[0], inverse);
        for j in 1..5 {
            t[j] = _mm512_madd52lo_epu64(t[j], a[j], *b);
        }
        // The lowest limb becomes zero but for its carry, and all others move down by one.
        let carry = _mm512_srli_epi64::<52>(_mm512_madd52lo_epu64(t[0], m, r[0]));
        for j in 1..5 {
            t[j - 1] = _mm512_madd52lo_epu64(t[j], m, r[j]);
        }
        t[0] = _mm512_add_epi64(t[0], carry);
        t[4] = zero;
        for j in 0..5 {
            t[j] = _mm512_madd52hi_epu64(t[j], a[j], *b);
            t[j] = _mm512_madd52hi_epu64(t[j], m, r[j]);
        }
    }
    carry(t)
}

/// Sum without carrying.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn add(a: &Eight, b: &Eight) -> Eight {
    from_fn(|i| _mm512_add_epi64(a[i], b[i]))
}

/// a - b + multiple * r without carrying.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn sub(a: &Eight, b: &Eight, multiple: u64) -> Eight {
    from_fn(|i| {
        let multiple = _mm512_set1_epi64((multiple * R[i]) as i64);
        _mm512_add_epi64(_mm512_sub_epi64(a[i], b[i]), multiple)
    })
}

/// Brings a number below 16r, of limbs below 2^60, to below 1.2r.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduce(raw: &Eight) -> Eight {
    // Only the first fifteen multiples can occur; what the lower limbs carry is less than the highest limb's error.
    let raw = carry(*raw);
    let quotient = _mm512_madd52hi_epu64(_mm512_setzero_si512(), raw[4], _mm512_set1_epi64(QUOTIENT as i64));
    carry(from_fn(|i| {
        let r = R[i] as i64;
        let low = _mm512_setr_epi64(0, r, 2 * r, 3 * r, 4 * r, 5 * r, 6 * r, 7 * r);
        let high = _mm512_setr_epi64(8 * r, 9 * r, 10 * r, 11 * r, 12 * r, 13 * r, 14 * r, 15 * r);
        _mm512_sub_epi64(raw[i], _mm512_permutex2var_epi64(low, quotient, high))
    }))
}

/// From below 16r to below r.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn canonical(raw: &Eight) -> Eight {
    let below_two = reduce(raw);
    let mut difference: Eight = from_fn(|i| _mm512_sub_epi64(below_two[i], _mm512_set1_epi64(R[i] as i64)));
    difference = carry(difference);
    let negative = _mm512_cmplt_epi64_mask(difference[4], _mm512_setzero_si512());
    from_fn(|i| _mm512_mask_blend_epi64(negative, difference[i], below_two[i]))
}

/// Loads scalars at `first`, `first + stride`, and so on.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load(values: &[Scalar], first: usize, stride: usize) -> Eight {
    let pair = |a: usize, b: usize| {
        let (a, b) = (&values[first + a * stride], &values[first + b * stride]);
        // SAFETY: both references are to 32 bytes.
        let (a, b) =
            unsafe { (_mm256_loadu_si256(a.0.l.as_ptr().cast()), _mm256_loadu_si256(b.0.l.as_ptr().cast())) };
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
    };
    // Lanes 0 and 4, 1 and 5, and so on, so that unpacking and one shuffle put all in order.
    let rows = [pair(0, 4), pair(1, 5), pair(2, 6), pair(3, 7)];
    let low = [_mm512_unpacklo_epi64(rows[0], rows[1]), _mm512_unpacklo_epi64(rows[2], rows[3])];
    let high = [_mm512_unpackhi_epi64(rows[0], rows[1]), _mm512_unpackhi_epi64(rows[2], rows[3])];
    let join = |halves: [__m512i; 2], upper: bool| {
        let base = if upper { 2 } else { 0 };
        let order =
            _mm512_setr_epi64(base, base + 1, base + 8, base + 9, base + 4, base + 5, base + 12, base + 13);
        _mm512_permutex2var_epi64(halves[0], order, halves[1])
    };
    let words = [join(low, false), join(high, false), join(low, true), join(high, true)];
    let mask = _mm512_set1_epi64(LIMB as i64);
    [
        _mm512_and_si512(words[0], mask),
        _mm512_and_si512(
            _mm512_or_si512(_mm512_srli_epi64::<52>(words[0]), _mm512_slli_epi64::<12>(words[1])),
            mask,
        ),
        _mm512_and_si512(
            _mm512_or_si512(_mm512_srli_epi64::<40>(words[1]), _mm512_slli_epi64::<24>(words[2])),
            mask,
        ),
        _mm512_and_si512(
            _mm512_or_si512(_mm512_srli_epi64::<28>(words[2]), _mm512_slli_epi64::<36>(words[3])),
            mask,
        ),
        _mm512_srli_epi64::<16>(words[3]),
    ]
}

/// Stores numbers below 16r as scalars at `first`, `first + stride`, and so on.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn store(numbers: &Eight, values: &mut [Scalar], first: usize, stride: usize) {
    let limbs = canonical(numbers);
    let or_shifted = |low: __m512i, high: __m512i| _mm512_or_si512(low, high);
    let words = [
        or_shifted(limbs[0], _mm512_slli_epi64::<52>(limbs[1])),
        or_shifted(_mm512_srli_epi64::<12>(limbs[1]), _mm512_slli_epi64::<40>(limbs[2])),
        or_shifted(_mm512_srli_epi64::<24>(limbs[2]), _mm512_slli_epi64::<28>(limbs[3])),
        or_shifted(_mm512_srli_epi64::<36>(limbs[3]), _mm512_slli_epi64::<16>(limbs[4])),
    ];
    let mut lanes = [[0u64; 8]; 4];
    for (lanes, word) in lanes.iter_mut().zip(words) {
        // SAFETY: the reference is to 64 bytes.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), word) };
    }
    for lane in 0..8 {
        values[first + lane * stride] = Scalar(RawScalar { l: from_fn(|word| lanes[word][lane]) });
    }
}

/// One level of [`super::scatter`] on rows of `width` vectors; values below `bound` r become values below twice that,
/// or below 2r where `last` of a group.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn scatter_level(block: &mut [Eight], width: usize, twiddles: &[[u64; 5]], bound: u64, last: bool) {
    let (low, high) = block.split_at_mut(block.len() / 2);
    let rows = low.chunks_exact_mut(width).zip(high.chunks_exact_mut(width));
    for ((low, high), twiddle) in rows.zip(twiddles) {
        let twiddle = broadcast(twiddle);
        for (a, b) in low.iter_mut().zip(high) {
            let sum = add(a, b);
            let difference = carry(sub(a, b, bound));
            *a = if last { reduce(&sum) } else { sum };
            *b = mul(&difference, &twiddle);
        }
    }
}

/// [`super::scatter`] of each column, from values below 2r to values below 16r. `level` counts the levels done.
#[target_feature(enable = "avx512f,avx512ifma")]
fn scatter_rows(matrix: &mut [Eight], width: usize, direction: Direction, mut level: u32) {
    let mut size = matrix.len() / width;
    let one_level = |block: &mut [Eight], level: u32| {
        let twiddles = broadcast_twiddles((block.len() / width).trailing_zeros(), direction);
        scatter_level(block, width, twiddles, 2 << (level % 3), level % 3 == 2);
    };
    if matrix.len() > LEVEL_BY_LEVEL && size > 2 {
        one_level(matrix, level);
        let (low, high) = matrix.split_at_mut(matrix.len() / 2);
        scatter_rows(low, width, direction, level + 1);
        scatter_rows(high, width, direction, level + 1);
        return;
    }
    while size > 1 {
        for block in matrix.chunks_exact_mut(size * width) {
            one_level(block, level);
        }
        level += 1;
        size /= 2;
    }
}

/// One level of [`super::gather`] on rows of `width` vectors; values below `bound` r become values below 2r more.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn gather_level(block: &mut [Eight], width: usize, twiddles: &[[u64; 5]], reduced: bool) {
    let (low, high) = block.split_at_mut(block.len() / 2);
    let rows = low.chunks_exact_mut(width).zip(high.chunks_exact_mut(width));
    for ((low, high), twiddle) in rows.zip(twiddles) {
        let twiddle = broadcast(twiddle);
        for (a, b) in low.iter_mut().zip(high) {
            let product = mul(&carry(*b), &twiddle);
            let start = if reduced { reduce(a) } else { *a };
            *b = sub(&start, &product, 2);
            *a = add(&start, &product);
        }
    }
}

/// Levels of [`super::gather`] after which values are brought back below 2r: they grow by 2r a level.
const GATHER_GROUP: u32 = 6;

/// [`super::gather`] of each column, from values below 2r to values below 16r.
#[target_feature(enable = "avx512f,avx512ifma")]
fn gather_rows(matrix: &mut [Eight], width: usize, direction: Direction) {
    let size = matrix.len() / width;
    if size <= 1 {
        return;
    }
    let one_level = |block: &mut [Eight]| {
        let log = (block.len() / width).trailing_zeros();
        let reduced = log.is_multiple_of(GATHER_GROUP);
        gather_level(block, width, broadcast_twiddles(log, direction), reduced);
    };
    if matrix.len() > LEVEL_BY_LEVEL && size > 2 {
        let (low, high) = matrix.split_at_mut(matrix.len() / 2);
        gather_rows(low, width, direction);
        gather_rows(high, width, direction);
    } else {
        let mut part = 2;
        while part < size {
            for block in matrix.chunks_exact_mut(part * width) {
                one_level(block);
            }
            part *= 2;
        }
    }
    one_level(matrix);
}

/// Eight by eight scalars: lanes and places exchanged.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn transpose(square: &[Eight; 8]) -> [Eight; 8] {
    let limbs: [[__m512i; 8]; 5] = from_fn(|limb| simd::transpose(&from_fn(|i| square[i][limb])));
    from_fn(|i| from_fn(|limb| limbs[limb][i]))
}

/// Twiddles of eight neighbouring places.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn lane_twiddles(twiddles: &[[u64; 5]], first: usize) -> Eight {
    let twiddles: &[[u64; 5]; 8] = twiddles[first..first + 8].try_into().expect("eight of them");
    let indices = _mm512_setr_epi64(0, 5, 10, 15, 20, 25, 30, 35);
    from_fn(|limb| {
        // SAFETY: the indices, 5 words apart, stay inside the forty words of the eight twiddles.
        unsafe { _mm512_i64gather_epi64::<8>(indices, twiddles.as_ptr().cast::<i64>().add(limb)) }
    })
}

/// [`super::scatter`] for at least 64 scalars. The processor must be supported.
pub(super) fn scatter(values: &mut [Scalar], direction: Direction) {
    assert!(is_supported());
    // SAFETY: the instructions that the function is compiled for were found just now.
    unsafe { scatter_scalars(values, direction) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn scatter_scalars(values: &mut [Scalar], direction: Direction) {
    let n = values.len();
    let log = n.trailing_zeros();
    let tables = [log, log - 1, log - 2].map(|log| broadcast_twiddles(log, direction));
    let zero = [_mm512_setzero_si512(); 5];
    // Lane k is the k-th eighth of the values; the first three levels are what mixes the lanes.
    let mut lanes = vec![zero; n / 8];
    for (group, out) in lanes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let place = 8 * group;
        let mut square: [Eight; 8] = from_fn(|k| load(values, k * (n / 8) + place, 1));
        for (level, twiddles) in tables.into_iter().enumerate() {
            let half = 4 >> level;
            for a in (0..8).filter(|k| k & half == 0) {
                let twiddle = lane_twiddles(twiddles, (a % half) * (n / 8) + place);
                let sum = add(&square[a], &square[a + half]);
                let difference = carry(sub(&square[a], &square[a + half], 2 << level));
                square[a] = if level == 2 { reduce(&sum) } else { sum };
                square[a + half] = mul(&difference, &twiddle);
            }
        }
        *out = transpose(&square);
    }
    scatter_rows(&mut lanes, 1, direction, 0);
    for (place, numbers) in lanes.iter().enumerate() {
        store(numbers, values, place, n / 8);
    }
}

/// [`super::gather`] for at least 64 scalars. The processor must be supported.
pub(super) fn gather(values: &mut [Scalar], direction: Direction) {
    assert!(is_supported());
    // SAFETY: the instructions that the function is compiled for were found just now.
    unsafe { gather_scalars(values, direction) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn gather_scalars(values: &mut [Scalar], direction: Direction) {
    let n = values.len();
    let log = n.trailing_zeros();
    let tables = [log - 2, log - 1, log].map(|log| broadcast_twiddles(log, direction));
    let mut lanes: Vec<Eight> = (0..n / 8).map(|place| load(values, place, n / 8)).collect();
    gather_rows(&mut lanes, 1, direction);
    for (group, square) in lanes.as_chunks::<8>().0.iter().enumerate() {
        let place = 8 * group;
        let mut square = transpose(square);
        for (level, twiddles) in tables.into_iter().enumerate() {
            let half = 1 << level;
            for a in (0..8).filter(|k| k & half == 0) {
                let twiddle = lane_twiddles(twiddles, (a % half) * (n / 8) + place);
                let start = if level == 0 { reduce(&square[a]) } else { square[a] };
                let product = mul(&carry(square[a + half]), &twiddle);
                square[a + half] = sub(&start, &product, 2);
                square[a] = add(&start, &product);
            }
        }
        for (k, numbers) in square.iter().enumerate() {
            store(numbers, values, k * (n / 8) + place, 1);
        }
    }
}

/// [`super::scatter_columns`] for rows of a multiple of eight scalars. The processor must be supported.
pub(super) fn scatter_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
    assert!(is_supported());
    // SAFETY: the instructions that the function is compiled for were found just now.
    unsafe { transform_columns(matrix, rows, |vectors, width| scatter_rows(vectors, width, direction, 0)) }
}

/// [`super::gather_columns`] for rows of a multiple of eight scalars. The processor must be supported.
pub(super) fn gather_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
    assert!(is_supported());
    // SAFETY: the instructions that the function is compiled for were found just now.
    unsafe { transform_columns(matrix, rows, |vectors, width| gather_rows(vectors, width, direction)) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn transform_columns(matrix: &mut [Scalar], rows: usize, transform: impl FnOnce(&mut [Eight], usize)) {
    let width = matrix.len() / rows / 8;
    let mut vectors: Vec<Eight> = (0..matrix.len() / 8).map(|index| load(matrix, 8 * index, 1)).collect();
    transform(&mut vectors, width);
    for (index, numbers) in vectors.iter().enumerate() {
        store(numbers, matrix, 8 * index, 1);
    }
}

/// Multiplies each row of a matrix, a multiple of eight scalars wide, with its factor. The processor must be supported.
pub(super) fn scale_rows(matrix: &mut [Scalar], width: usize, factors: &[Scalar]) {
    assert!(is_supported() && width.is_multiple_of(8));
    // SAFETY: the instructions that the function is compiled for were found just now.
    unsafe { scale_rows_of_scalars(matrix, width, factors) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn scale_rows_of_scalars(matrix: &mut [Scalar], width: usize, factors: &[Scalar]) {
    for (row, factor) in matrix.chunks_exact_mut(width).zip(factors) {
        let factor = broadcast(&twiddle(factor));
        for first in (0..width).step_by(8) {
            let product = mul(&load(row, first, 1), &factor);
            store(&product, row, first, 1);
        }
    }
}

/// Multiplies each scalar with its partner. The processor must be supported.
pub(super) fn multiply(values: &mut [Scalar], by: &[Scalar]) {
    assert!(is_supported() && values.len() == by.len() && values.len().is_multiple_of(8));
    // SAFETY: the instructions that the function is compiled for were found just now.
    unsafe { multiply_scalars(values, by) }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn multiply_scalars(values: &mut [Scalar], by: &[Scalar]) {
    // Both factors have radix 2^256: four bits are missing in the product, which one factor gets beforehand.
    for first in (0..values.len()).step_by(8) {
        let shifted = load(by, first, 1).map(|limb| _mm512_slli_epi64::<4>(limb));
        let product = mul(&carry(shifted), &load(values, first, 1));
        store(&product, values, first, 1);
    }
}
