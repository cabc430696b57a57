//! Number-theoretic transforms over the scalar field, in natural order (archival §4).
//!
//! Inside the crate the transforms come as a pair that leaves out the bit reversal: `scatter` takes natural order to
//! bit-reversed order, `gather` takes it back. With the twiddles of the inverse in the first and those of the forward
//! transform in the second, a round trip through coefficients needs no permutation at all.

#[cfg(target_arch = "x86_64")]
mod ifma;
mod portable;

use crate::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use primitives::simd::Simd;
use std::sync::OnceLock;

/// Largest transform, as a power of two: the chunks of an erasure-coded record.
pub(crate) const MAX_LOG: u32 = 16;
/// Shortest transform that eight lanes can do.
const WIDE_LEN: usize = 64;

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

/// Whether the eight-lane transforms are to be used.
fn wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Simd::limit() == Simd::Avx512 && ifma::is_supported();
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Lets the eight-lane code do it where there is some and the condition holds, else the portable one.
macro_rules! dispatch {
    ($condition:expr, $function:ident($($argument:expr),*)) => {
        match $condition && wide() {
            #[cfg(target_arch = "x86_64")]
            true => ifma::$function($($argument),*),
            _ => portable::$function($($argument),*),
        }
    };
}

/// Natural order in, bit-reversed order out. The length is a power of two up to 65,536.
pub(crate) fn scatter(values: &mut [Scalar], direction: Direction) {
    dispatch!(values.len() >= WIDE_LEN, scatter(values, direction));
}

/// Bit-reversed order in, natural order out. The length is a power of two up to 65,536.
pub(crate) fn gather(values: &mut [Scalar], direction: Direction) {
    dispatch!(values.len() >= WIDE_LEN, gather(values, direction));
}

/// [`scatter`] of each column of a matrix of `rows` rows, row after row.
pub(crate) fn scatter_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
    let width = matrix.len() / rows;
    dispatch!(width.is_multiple_of(8), scatter_columns(matrix, rows, direction));
}

/// [`gather`] of each column of a matrix of `rows` rows, row after row.
pub(crate) fn gather_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
    let width = matrix.len() / rows;
    dispatch!(width.is_multiple_of(8), gather_columns(matrix, rows, direction));
}

/// Multiplies each scalar with its partner.
pub(crate) fn multiply(values: &mut [Scalar], by: &[Scalar]) {
    dispatch!(values.len().is_multiple_of(8), multiply(values, by));
}

/// Multiplies each row of a matrix with its factor.
pub(crate) fn scale_rows(matrix: &mut [Scalar], width: usize, factors: &[Scalar]) {
    match width {
        1 => multiply(matrix, factors),
        _ => dispatch!(width.is_multiple_of(8), scale_rows(matrix, width, factors)),
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
    values.iter_mut().for_each(|value| *value *= scale);
    Ok(())
}

/// `1 / 2^log`.
pub(crate) fn inverse_of_size(log: u32) -> Scalar {
    Scalar::from(1 << log).inverse().expect("a power of two is not zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(seed: u64, count: usize) -> Vec<Scalar> {
        let mut state = Scalar::from(seed);
        // The extremes are among them.
        let mut values = vec![Scalar::ZERO, -Scalar::ONE, Scalar::ONE];
        values.extend((0..count).map(|_| {
            state = state.square() + Scalar::from(seed | 1);
            state
        }));
        values.truncate(count);
        values
    }

    #[test]
    fn transforms_are_sums_of_powers() {
        for log in 0..=7 {
            let n = 1 << log;
            let coefficients = scalars(log, n);
            let mut values = coefficients.clone();
            fft(&mut values).expect("a power of two");
            for (index, value) in values.iter().enumerate() {
                let at = root(log as u32).pow(index as u64);
                let sum = coefficients.iter().rev().fold(Scalar::ZERO, |sum, next| sum * at + *next);
                assert_eq!(*value, sum, "{n} {index}");
            }
            inverse_fft(&mut values).expect("a power of two");
            assert_eq!(values, coefficients, "{n}");
        }
        for wrong in [0, 3, 1 << 17] {
            assert_eq!(fft(&mut vec![Scalar::ONE; wrong]), Err(DomainSizeError(wrong)));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn eight_lanes_do_what_one_does() {
        if !ifma::is_supported() {
            return;
        }
        type Transform = fn(&mut [Scalar], Direction);
        let pairs: [(Transform, Transform); 2] =
            [(ifma::scatter, portable::scatter), (ifma::gather, portable::gather)];
        for log in 6..=MAX_LOG {
            for direction in [Direction::Forward, Direction::Inverse] {
                for (wide, narrow) in pairs {
                    // The largest scalar everywhere makes the largest sums.
                    for values in [scalars(u64::from(log), 1 << log), vec![-Scalar::ONE; 1 << log]] {
                        let mut expected = values.clone();
                        narrow(&mut expected, direction);
                        let mut found = values;
                        wide(&mut found, direction);
                        assert!(found == expected, "{log} {direction:?}");
                    }
                }
            }
        }
        for (rows, width) in [(2, 8), (128, 16), (256, 32), (1024, 8)] {
            let values = scalars(7, rows * width);
            let factors = scalars(9, rows);
            let run = |wide: bool| {
                let mut matrix = values.clone();
                for direction in [Direction::Forward, Direction::Inverse] {
                    if wide {
                        ifma::scatter_columns(&mut matrix, rows, direction);
                        ifma::scale_rows(&mut matrix, width, &factors);
                        ifma::gather_columns(&mut matrix, rows, direction);
                        ifma::multiply(&mut matrix, &values);
                    } else {
                        portable::scatter_columns(&mut matrix, rows, direction);
                        portable::scale_rows(&mut matrix, width, &factors);
                        portable::gather_columns(&mut matrix, rows, direction);
                        portable::multiply(&mut matrix, &values);
                    }
                }
                matrix
            };
            assert!(run(true) == run(false), "{rows} {width}");
        }
    }
}
