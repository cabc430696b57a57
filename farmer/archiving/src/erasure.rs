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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    fn sources() -> impl Strategy<Value = Vec<Scalar>> {
        let value = any::<[u8; 32]>().prop_map(|bytes| Scalar::from_bytes_reduced(&bytes));
        (0..9u32).prop_flat_map(move |log| prop::collection::vec(value.clone(), 1 << log))
    }

    fn interleave(source: &[Scalar]) -> Vec<Scalar> {
        let parity = extend(source).expect("a power of two");
        source.iter().zip(parity).flat_map(|(source, parity)| [*source, parity]).collect()
    }

    fn keep(shards: &[Scalar], present: &[usize]) -> Vec<Option<Scalar>> {
        let mut kept = vec![None; shards.len()];
        present.iter().for_each(|&index| kept[index] = Some(shards[index]));
        kept
    }

    proptest! {
        #[test]
        fn any_half_or_more_recovers(
            (shards, present) in sources().prop_flat_map(|source| {
                let (shards, half) = (interleave(&source), source.len());
                let positions: Vec<usize> = (0..2 * half).collect();
                (Just(shards), subsequence(positions, half..=2 * half))
            }),
        ) {
            let kept = keep(&shards, &present);
            prop_assert_eq!(&recover(&kept).expect("enough shards"), &shards);
            let polynomial = recover_polynomial(&kept).expect("enough shards");
            let source: Vec<Scalar> = shards.iter().step_by(2).copied().collect();
            prop_assert_eq!(polynomial, Polynomial::interpolate(&source).expect("a power of two"));
        }

        #[test]
        fn less_than_half_is_refused(
            (shards, present) in sources().prop_flat_map(|source| {
                let (shards, half) = (interleave(&source), source.len());
                let positions: Vec<usize> = (0..2 * half).collect();
                (Just(shards), subsequence(positions, 0..half))
            }),
        ) {
            let error = ErasureError::TooFew { needed: shards.len() / 2, present: present.len() };
            prop_assert_eq!(recover(&keep(&shards, &present)), Err(error));
            prop_assert_eq!(recover_polynomial(&keep(&shards, &present)), Err(error));
        }
    }

    #[test]
    fn whole_records_recover_from_any_pattern() {
        let mut state = Scalar::from(11);
        let source: Vec<Scalar> = std::iter::repeat_with(|| {
            state = state.square() + Scalar::ONE;
            state
        })
        .take(MAX_SOURCE)
        .collect();
        let shards = interleave(&source);
        let first: Vec<usize> = (0..MAX_SOURCE).collect();
        let last: Vec<usize> = (MAX_SOURCE..2 * MAX_SOURCE).collect();
        let odd: Vec<usize> = (1..2 * MAX_SOURCE).step_by(2).collect();
        let most: Vec<usize> = (0..2 * MAX_SOURCE).filter(|index| index % 3 != 1).collect();
        for present in [first, last, odd, most] {
            assert!(recover(&keep(&shards, &present)).expect("enough shards") == shards);
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        for wrong in [0, 3, 2 * MAX_SOURCE] {
            assert_eq!(extend(&vec![Scalar::ONE; wrong]), Err(ErasureError::SourceSize(wrong)));
        }
        for wrong in [0, 1, 6, 4 * MAX_SOURCE] {
            assert_eq!(recover(&vec![Some(Scalar::ONE); wrong]), Err(ErasureError::ShardsSize(wrong)));
        }
    }
}
