//! Erasure coding at rate 1/2 (archival §6): one rule for records of a segment, for commitments and for sectors.

use crate::fft::{self, Direction, DomainSizeError};
use crate::kzg::Polynomial;
use crate::scalar::Scalar;
use std::sync::OnceLock;

mod recovery;
pub(crate) use recovery::Recovery;

/// Largest number of source scalars.
pub const MAX_SOURCE: usize = 1 << (fft::MAX_LOG - 1);

/// Why erasure coding was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErasureError {
    /// The number of source scalars is no power of two up to 32,768.
    #[error("source has a power of two up to 32,768 scalars, not {0}")]
    SourceSize(usize),
    /// The number of shards is no power of two in 2..=65,536.
    #[error("shards number a power of two from 2 to 65,536, not {0}")]
    ShardsSize(usize),
    /// Fewer than half of the shards are present.
    #[error("recovery needs {needed} shards, {present} are present")]
    TooFew {
        /// Half of all shards.
        needed: usize,
        /// Shards present.
        present: usize,
    },
}

/// Exponent of a number of source scalars.
pub(crate) fn source_log(n: usize) -> Result<u32, ErasureError> {
    match fft::domain_log(n) {
        Ok(log) if log < fft::MAX_LOG => Ok(log),
        Ok(_) | Err(DomainSizeError(_)) => Err(ErasureError::SourceSize(n)),
    }
}

/// `w(2k)^i / k` in bit-reversed order: moves a polynomial from the even to the odd half of the double domain.
pub(crate) fn parity_scale(log: u32) -> &'static [Scalar] {
    static TABLES: [OnceLock<Vec<Scalar>>; fft::MAX_LOG as usize] =
        [const { OnceLock::new() }; fft::MAX_LOG as usize];
    TABLES[log as usize].get_or_init(|| {
        let mut scale = fft::powers(fft::inverse_of_size(log), fft::root(log + 1), 1 << log);
        fft::bit_reverse(&mut scale);
        scale
    })
}

/// The parity scalars of k source scalars, k of them.
///
/// Source and parity interleaved (source first) are the values of one polynomial of degree below k at `w(2k)^j`.
///
/// # Errors
/// When k is no power of two up to 32,768.
pub fn extend(source: &[Scalar]) -> Result<Vec<Scalar>, ErasureError> {
    let mut parity = source.to_vec();
    extend_in_place(&mut parity)?;
    Ok(parity)
}

/// [`extend`] that replaces the source scalars by the parity scalars.
///
/// # Errors
/// When the length is no power of two up to 32,768.
pub fn extend_in_place(values: &mut [Scalar]) -> Result<(), ErasureError> {
    let log = source_log(values.len())?;
    fft::scatter(values, Direction::Inverse);
    fft::multiply(values, parity_scale(log));
    fft::gather(values, Direction::Forward);
    Ok(())
}

/// All 2k shards, source and parity interleaved, from any k of them.
///
/// Shards that are present beyond the first k are not compared with what the others imply; they come back as given.
///
/// # Errors
/// When the number of shards is no power of two in 2..=65,536, or fewer than half are present.
pub fn recover(shards: &[Option<Scalar>]) -> Result<Vec<Scalar>, ErasureError> {
    let recovery = Recovery::new(&presence(shards))?;
    let given: Vec<Scalar> = shards.iter().map(|shard| shard.unwrap_or_default()).collect();
    if shards.iter().all(Option::is_some) {
        return Ok(given);
    }
    let mut values = recovery.shards(&given);
    for (value, shard) in values.iter_mut().zip(shards) {
        *value = shard.unwrap_or(*value);
    }
    Ok(values)
}

/// The polynomial of degree below k whose values at `w(2k)^j` are the shards, from any k of the 2k.
///
/// # Errors
/// When the number of shards is no power of two in 2..=65,536, or fewer than half are present.
pub fn recover_polynomial(shards: &[Option<Scalar>]) -> Result<Polynomial, ErasureError> {
    let recovery = Recovery::new(&presence(shards))?;
    let given: Vec<Scalar> = shards.iter().map(|shard| shard.unwrap_or_default()).collect();
    let mut coefficients = recovery.coefficients(&given);
    fft::bit_reverse(&mut coefficients);
    Ok(Polynomial::from_coefficients(coefficients).expect("half of at most 65,536 shards"))
}

fn presence(shards: &[Option<Scalar>]) -> Vec<bool> {
    shards.iter().map(Option::is_some).collect()
}
