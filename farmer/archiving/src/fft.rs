//! Number-theoretic transforms over the scalar field, in natural order (archival §4).
//!
//! Inside the crate the transforms come as a pair that leaves out the bit reversal: `scatter` takes natural order to
//! bit-reversed order, `gather` takes it back. With the twiddles of the inverse in the first and those of the forward
//! transform in the second, a round trip through coefficients needs no permutation at all.

use crate::scalar::Scalar;
use std::sync::OnceLock;

/// Largest transform, as a power of two: the chunks of an erasure-coded record.
pub(crate) const MAX_LOG: u32 = 16;
/// Transforms up to this size run level by level; larger ones split first, so that each half stays in cache.
const LEVEL_BY_LEVEL: usize = 1 << 12;

/// A transform of a size that this crate has no domain for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a domain has a power of two up to 65,536 elements, not {0}")]
pub struct DomainSizeError(pub usize);

/// Powers of a root of unity: `w^i` for i in 0..n/2.
type Twiddles = [Scalar];

/// The exponent of a size that has a domain.
pub(crate) fn domain_log(n: usize) -> Result<u32, DomainSizeError> {
    if n.is_power_of_two() && n.trailing_zeros() <= MAX_LOG {
        Ok(n.trailing_zeros())
    } else {
        Err(DomainSizeError(n))
    }
}

/// Direction of a transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Coefficients to values.
    Forward,
    /// Values to coefficients, without the division by the size.
    Inverse,
}

/// `w^i`, or `w^-i`, for i below half of `2^log`.
pub(crate) fn twiddles(log: u32, direction: Direction) -> &'static Twiddles {
    static TABLES: [[OnceLock<Vec<Scalar>>; MAX_LOG as usize + 1]; 2] =
        [const { [const { OnceLock::new() }; MAX_LOG as usize + 1] }; 2];
    TABLES[direction as usize][log as usize].get_or_init(|| {
        let mut root = root(log);
        if direction == Direction::Inverse {
            root = root.inverse().expect("a root of unity is not zero");
        }
        powers(Scalar::ONE, root, (1 << log) / 2)
    })
}

/// The primitive root of unity of order `2^log`.
pub(crate) fn root(log: u32) -> Scalar {
    Scalar::root_of_unity(1 << log).expect("a power of two up to 2^32")
}

/// `first * ratio^i` for i below `count`.
pub(crate) fn powers(first: Scalar, ratio: Scalar, count: usize) -> Vec<Scalar> {
    std::iter::successors(Some(first), |power| Some(*power * ratio)).take(count).collect()
}

/// Permutes the values by reversing the bits of their indices.
pub(crate) fn bit_reverse<T>(values: &mut [T]) {
    let log = values.len().trailing_zeros();
    if log == 0 {
        return;
    }
    for index in 0..values.len() {
        let reversed = index.reverse_bits() >> (usize::BITS - log);
        if index < reversed {
            values.swap(index, reversed);
        }
    }
}

/// Natural order in, bit-reversed order out. The length is a power of two up to 65,536.
pub(crate) fn scatter(values: &mut [Scalar], direction: Direction) {
    let n = values.len();
    if n <= 1 {
        return;
    }
    scatter_level(values, twiddles(n.trailing_zeros(), direction));
    if n > LEVEL_BY_LEVEL {
        let (low, high) = values.split_at_mut(n / 2);
        scatter(low, direction);
        scatter(high, direction);
        return;
    }
    let mut size = n / 2;
    while size > 1 {
        let twiddles = twiddles(size.trailing_zeros(), direction);
        for block in values.chunks_exact_mut(size) {
            scatter_level(block, twiddles);
        }
        size /= 2;
    }
}

#[inline]
fn scatter_level(block: &mut [Scalar], twiddles: &Twiddles) {
    let (low, high) = block.split_at_mut(block.len() / 2);
    for ((a, b), twiddle) in low.iter_mut().zip(high).zip(twiddles) {
        let (sum, difference) = (*a + *b, *a - *b);
        *a = sum;
        *b = difference * *twiddle;
    }
}

/// Bit-reversed order in, natural order out. The length is a power of two up to 65,536.
pub(crate) fn gather(values: &mut [Scalar], direction: Direction) {
    let n = values.len();
    if n <= 1 {
        return;
    }
    if n > LEVEL_BY_LEVEL {
        let (low, high) = values.split_at_mut(n / 2);
        gather(low, direction);
        gather(high, direction);
    } else {
        let mut size = 2;
        while size < n {
            let twiddles = twiddles(size.trailing_zeros(), direction);
            for block in values.chunks_exact_mut(size) {
                gather_level(block, twiddles);
            }
            size *= 2;
        }
    }
    gather_level(values, twiddles(n.trailing_zeros(), direction));
}

#[inline]
fn gather_level(block: &mut [Scalar], twiddles: &Twiddles) {
    let (low, high) = block.split_at_mut(block.len() / 2);
    for ((a, b), twiddle) in low.iter_mut().zip(high).zip(twiddles) {
        let product = *b * *twiddle;
        *b = *a - product;
        *a += product;
    }
}

/// [`scatter`] of each column of a matrix of `rows` rows, row after row.
pub(crate) fn scatter_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
    let width = matrix.len() / rows;
    let mut size = rows;
    while size > 1 {
        let twiddles = twiddles(size.trailing_zeros(), direction);
        for block in matrix.chunks_exact_mut(size * width) {
            let (low, high) = block.split_at_mut(size / 2 * width);
            let rows = low.chunks_exact_mut(width).zip(high.chunks_exact_mut(width));
            for ((low, high), twiddle) in rows.zip(twiddles) {
                for (a, b) in low.iter_mut().zip(high) {
                    let (sum, difference) = (*a + *b, *a - *b);
                    *a = sum;
                    *b = difference * *twiddle;
                }
            }
        }
        size /= 2;
    }
}

/// [`gather`] of each column of a matrix of `rows` rows, row after row.
pub(crate) fn gather_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
    let width = matrix.len() / rows;
    let mut size = 2;
    while size <= rows {
        let twiddles = twiddles(size.trailing_zeros(), direction);
        for block in matrix.chunks_exact_mut(size * width) {
            let (low, high) = block.split_at_mut(size / 2 * width);
            let rows = low.chunks_exact_mut(width).zip(high.chunks_exact_mut(width));
            for ((low, high), twiddle) in rows.zip(twiddles) {
                for (a, b) in low.iter_mut().zip(high) {
                    let product = *b * *twiddle;
                    *b = *a - product;
                    *a += product;
                }
            }
        }
        size *= 2;
    }
}

/// Values of the polynomial with these coefficients at `w(n)^i`, in place; n is the number of coefficients.
///
/// # Errors
/// When the length is no power of two up to 65,536.
pub fn fft(values: &mut [Scalar]) -> Result<(), DomainSizeError> {
    domain_log(values.len())?;
    scatter(values, Direction::Forward);
    bit_reverse(values);
    Ok(())
}

/// Coefficients of the polynomial of degree below n with these values at `w(n)^i`, in place.
///
/// # Errors
/// When the length is no power of two up to 65,536.
pub fn inverse_fft(values: &mut [Scalar]) -> Result<(), DomainSizeError> {
    let log = domain_log(values.len())?;
    scatter(values, Direction::Inverse);
    bit_reverse(values);
    let scale = inverse_of_size(log);
    for value in values {
        *value *= scale;
    }
    Ok(())
}

/// `1 / 2^log`.
pub(crate) fn inverse_of_size(log: u32) -> Scalar {
    Scalar::from(1 << log).inverse().expect("a power of two is not zero")
}
