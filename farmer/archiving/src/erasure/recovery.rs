//! Recovery of a polynomial from half of its values.
//!
//! With Z the polynomial that vanishes at the k positions left out, P·Z has degree below 2k and is known on the whole
//! domain. Its coefficients come by one transform; P, having degree below k, then needs a division on a coset of only k
//! points, where Z has no zero.

use super::ErasureError;
use crate::fft::{self, Direction};
use crate::scalar::Scalar;

/// Products of up to this many linear factors are multiplied out term by term.
const LEAF: usize = 32;
/// Shifts the domain off itself: a generator of the whole multiplicative group is in no subgroup.
const COSET_SHIFT: u64 = 7;

/// Everything that depends on which shards are present, and not on their values.
pub(crate) struct Recovery {
    /// Exponent of the number of shards.
    log: u32,
    method: Method,
}

enum Method {
    /// All source shards are there.
    Source,
    /// All parity shards are there, and some source shard is not.
    Parity,
    Any(Box<Vanishing>),
}

struct Vanishing {
    /// Z at each position of the domain; zero at the k positions left out.
    at_positions: Vec<Scalar>,
    /// `g^i / 2k`, bit-reversed.
    to_coset: Vec<Scalar>,
    /// 1/Z at `g w(k)^i`.
    inverse_on_coset: Vec<Scalar>,
    /// `g^-i / k`, bit-reversed.
    from_coset: Vec<Scalar>,
}

impl Recovery {
    /// Prepares recovery of 2k shards of which those marked are present; the first k of them are used.
    pub(crate) fn new(present: &[bool]) -> Result<Self, ErasureError> {
        let log = match fft::domain_log(present.len()) {
            Ok(log) if log > 0 => log,
            _ => return Err(ErasureError::ShardsSize(present.len())),
        };
        let needed = present.len() / 2;
        let count = present.iter().filter(|present| **present).count();
        if count < needed {
            return Err(ErasureError::TooFew { needed, present: count });
        }
        let method = if present.iter().step_by(2).all(|present| *present) {
            Method::Source
        } else if present.iter().skip(1).step_by(2).all(|present| *present) {
            Method::Parity
        } else {
            Method::Any(Box::new(Vanishing::new(present, log)))
        };
        Ok(Self { log, method })
    }

    /// Coefficients in bit-reversed order; values at positions that are not present are ignored.
    pub(crate) fn coefficients(&self, shards: &[Scalar]) -> Vec<Scalar> {
        let mut values = shards.to_vec();
        self.columns_to_coefficients(&mut values);
        values
    }

    /// All shards, whether they were present or not.
    pub(crate) fn shards(&self, shards: &[Scalar]) -> Vec<Scalar> {
        let mut values = self.coefficients(shards);
        self.coefficients_to_columns(&mut values);
        values
    }

    /// A matrix whose rows are the 2k shards of each of its columns becomes one of the k coefficients, bit-reversed.
    pub(crate) fn columns_to_coefficients(&self, matrix: &mut Vec<Scalar>) {
        let rows = 1 << self.log;
        let width = matrix.len() / rows;
        let half = self.log - 1;
        match &self.method {
            Method::Source => {
                keep_rows(matrix, width, 0);
                transform(matrix, width, Direction::Inverse, Order::ToReversed);
                let scale = fft::inverse_of_size(half);
                matrix.iter_mut().for_each(|value| *value *= scale);
            }
            Method::Parity => {
                keep_rows(matrix, width, 1);
                transform(matrix, width, Direction::Inverse, Order::ToReversed);
                let root = fft::root(self.log).inverse().expect("a root of unity is not zero");
                let mut scale = fft::powers(fft::inverse_of_size(half), root, rows / 2);
                fft::bit_reverse(&mut scale);
                fft::scale_rows(matrix, width, &scale);
            }
            Method::Any(vanishing) => {
                fft::scale_rows(matrix, width, &vanishing.at_positions);
                transform(matrix, width, Direction::Inverse, Order::ToReversed);
                fft::scale_rows(matrix, width, &vanishing.to_coset);
                fold_rows(matrix, width);
                transform(matrix, width, Direction::Forward, Order::ToNatural);
                fft::scale_rows(matrix, width, &vanishing.inverse_on_coset);
                transform(matrix, width, Direction::Inverse, Order::ToReversed);
                fft::scale_rows(matrix, width, &vanishing.from_coset);
            }
        }
    }

    /// The way back from [`Self::columns_to_coefficients`]: 2k rows from k.
    pub(crate) fn coefficients_to_columns(&self, matrix: &mut Vec<Scalar>) {
        let rows = 1 << self.log;
        let width = matrix.len() / (rows / 2);
        // In bit-reversed order the upper half of the coefficients, all zero, takes the odd places.
        let mut padded = vec![Scalar::ZERO; rows * width];
        for (coefficients, pair) in matrix.chunks_exact(width).zip(padded.chunks_exact_mut(2 * width)) {
            pair[..width].copy_from_slice(coefficients);
        }
        transform_rows(&mut padded, rows, Direction::Forward, Order::ToNatural);
        *matrix = padded;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    ToReversed,
    ToNatural,
}

fn transform(matrix: &mut [Scalar], width: usize, direction: Direction, order: Order) {
    let rows = matrix.len() / width;
    transform_rows(matrix, rows, direction, order);
}

fn transform_rows(matrix: &mut [Scalar], rows: usize, direction: Direction, order: Order) {
    match (matrix.len() == rows, order) {
        (true, Order::ToReversed) => fft::scatter(matrix, direction),
        (true, Order::ToNatural) => fft::gather(matrix, direction),
        (false, Order::ToReversed) => fft::scatter_columns(matrix, rows, direction),
        (false, Order::ToNatural) => fft::gather_columns(matrix, rows, direction),
    }
}

/// Keeps every second row from `first` on.
fn keep_rows(matrix: &mut Vec<Scalar>, width: usize, first: usize) {
    let rows = matrix.len() / width / 2;
    for row in 0..rows {
        let from = (2 * row + first) * width;
        matrix.copy_within(from..from + width, row * width);
    }
    matrix.truncate(rows * width);
}

/// Adds each odd row to the even row before it: on a domain of half the size, coefficients i and i + k meet.
fn fold_rows(matrix: &mut Vec<Scalar>, width: usize) {
    for pair in matrix.chunks_exact_mut(2 * width) {
        let (even, odd) = pair.split_at_mut(width);
        even.iter_mut().zip(odd).for_each(|(even, odd)| *even += *odd);
    }
    keep_rows(matrix, width, 0);
}

impl Vanishing {
    fn new(present: &[bool], log: u32) -> Self {
        let n = 1usize << log;
        let k = n / 2;
        let half = log - 1;
        let powers = fft::powers(Scalar::ONE, fft::root(log), n);
        let mut used = 0;
        let left_out: Vec<Scalar> = present
            .iter()
            .zip(&powers)
            .filter(|(present, _)| {
                let used_here = **present && used < k;
                used += usize::from(used_here);
                !used_here
            })
            .map(|(_, power)| *power)
            .collect();
        let mut low = vanishing_polynomial(&left_out);

        let mut at_positions = low.clone();
        at_positions.push(Scalar::ONE);
        at_positions.resize(n, Scalar::ZERO);
        fft::scatter(&mut at_positions, Direction::Forward);
        fft::bit_reverse(&mut at_positions);

        let shift = Scalar::from(COSET_SHIFT);
        let mut to_coset = fft::powers(fft::inverse_of_size(log), shift, n);
        fft::bit_reverse(&mut to_coset);
        // The leading coefficient stands at k and folds onto the constant one.
        let shifts = fft::powers(Scalar::ONE, shift, k + 1);
        low.iter_mut().zip(&shifts).for_each(|(coefficient, shift)| *coefficient *= *shift);
        low[0] += shifts[k];
        fft::scatter(&mut low, Direction::Forward);
        fft::bit_reverse(&mut low);
        Scalar::batch_inverse(&mut low);

        let inverse_shift = shift.inverse().expect("the shift is not zero");
        let mut from_coset = fft::powers(fft::inverse_of_size(half), inverse_shift, k);
        fft::bit_reverse(&mut from_coset);
        Self { at_positions, to_coset, inverse_on_coset: low, from_coset }
    }
}

/// The product of X - root over all roots, a power of two of them: its coefficients below the leading one.
fn vanishing_polynomial(roots: &[Scalar]) -> Vec<Scalar> {
    if roots.len() <= LEAF {
        let mut coefficients = Vec::with_capacity(roots.len());
        for root in roots {
            // Times X - root, the leading one being left out of the vector.
            coefficients.push(Scalar::ONE);
            let mut previous = Scalar::ZERO;
            for coefficient in coefficients.iter_mut() {
                let next = previous - *coefficient * *root;
                previous = *coefficient;
                *coefficient = next;
            }
        }
        return coefficients;
    }
    let size = roots.len();
    let (left, right) = roots.split_at(size / 2);
    let (left, right) = rayon::join(|| vanishing_polynomial(left), || vanishing_polynomial(right));
    let mut product = values_of_monic(left, size);
    let right = values_of_monic(right, size);
    fft::multiply(&mut product, &right);
    fft::gather(&mut product, Direction::Inverse);
    let scale = fft::inverse_of_size(size.trailing_zeros());
    product.iter_mut().for_each(|coefficient| *coefficient *= scale);
    // The leading one wrapped around to the constant coefficient.
    product[0] -= Scalar::ONE;
    product
}

/// Values in bit-reversed order on the domain of `size` of the monic polynomial with these lower coefficients.
fn values_of_monic(mut coefficients: Vec<Scalar>, size: usize) -> Vec<Scalar> {
    coefficients.push(Scalar::ONE);
    coefficients.resize(size, Scalar::ZERO);
    fft::scatter(&mut coefficients, Direction::Forward);
    coefficients
}
