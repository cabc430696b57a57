//! Transforms on blst's multiplication, for every processor.

use super::{Direction, Twiddles, twiddles};
use crate::scalar::Scalar;

/// Transforms up to this size run level by level; larger ones split first, so that each half stays in cache.
const LEVEL_BY_LEVEL: usize = 1 << 12;

pub(super) fn scatter(values: &mut [Scalar], direction: Direction) {
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

pub(super) fn gather(values: &mut [Scalar], direction: Direction) {
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

pub(super) fn scatter_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
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

pub(super) fn gather_columns(matrix: &mut [Scalar], rows: usize, direction: Direction) {
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

pub(super) fn multiply(values: &mut [Scalar], by: &[Scalar]) {
    values.iter_mut().zip(by).for_each(|(value, factor)| *value *= *factor);
}

pub(super) fn scale_rows(matrix: &mut [Scalar], width: usize, factors: &[Scalar]) {
    for (row, factor) in matrix.chunks_exact_mut(width).zip(factors) {
        row.iter_mut().for_each(|value| *value *= *factor);
    }
}
