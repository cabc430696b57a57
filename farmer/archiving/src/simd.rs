//! What the modules for AVX-512 share.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;
#[cfg(target_arch = "x86_64")]
use std::array::from_fn;

/// Rows to columns of 8 by 8 words.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose(rows: &[__m512i; 8]) -> [__m512i; 8] {
    let quarter = |a: [__m512i; 4]| {
        let even_low = _mm512_shuffle_i64x2::<0x88>(a[0], a[1]);
        let odd_low = _mm512_shuffle_i64x2::<0xdd>(a[0], a[1]);
        let even_high = _mm512_shuffle_i64x2::<0x88>(a[2], a[3]);
        let odd_high = _mm512_shuffle_i64x2::<0xdd>(a[2], a[3]);
        [
            _mm512_shuffle_i64x2::<0x88>(even_low, even_high),
            _mm512_shuffle_i64x2::<0x88>(odd_low, odd_high),
            _mm512_shuffle_i64x2::<0xdd>(even_low, even_high),
            _mm512_shuffle_i64x2::<0xdd>(odd_low, odd_high),
        ]
    };
    let even = quarter(from_fn(|i| _mm512_unpacklo_epi64(rows[2 * i], rows[2 * i + 1])));
    let odd = quarter(from_fn(|i| _mm512_unpackhi_epi64(rows[2 * i], rows[2 * i + 1])));
    [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
}
