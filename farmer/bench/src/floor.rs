//! The least CPU time that a case can take on this machine: operations counted, divided by the rates measured.
//!
//! Arithmetic adds up, since all of it wants the same units of a core; memory is taken to move meanwhile, so that the
//! floor is the larger of both times. The counts are those of the methods used here: a better method has another floor.

use crate::case::Case;
use crate::machine::Rates;
use proof_of_space::Simd;
use std::ops::{Add, Mul};

/// Operations, and bytes read or written in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Work {
    pub(crate) hashes: f64,
    pub(crate) keystream_blocks: f64,
    pub(crate) cycles: f64,
    pub(crate) butterflies: f64,
    pub(crate) additions: f64,
    pub(crate) points: f64,
    pub(crate) bytes: f64,
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hashes: self.hashes + other.hashes,
            keystream_blocks: self.keystream_blocks + other.keystream_blocks,
            cycles: self.cycles + other.cycles,
            butterflies: self.butterflies + other.butterflies,
            additions: self.additions + other.additions,
            points: self.points + other.points,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Mul<f64> for Work {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self {
            hashes: self.hashes * times,
            keystream_blocks: self.keystream_blocks * times,
            cycles: self.cycles * times,
            butterflies: self.butterflies * times,
            additions: self.additions * times,
            points: self.points * times,
            bytes: self.bytes * times,
        }
    }
}

/// Entries of one table of a seed.
const ENTRIES: f64 = (1 << 20) as f64;
/// Tables with parents.
const TABLES: f64 = 6.0;
/// S-buckets of a table that have a proof.
const PROOFS: f64 = 41_258.0;
/// Chunks of a record; also the s-buckets that encoding needs a proof for.
const CHUNKS: f64 = 32_768.0;
/// Records of a segment, and pieces.
const RECORDS: f64 = 128.0;
const PIECES: f64 = 256.0;
/// Bytes of a record.
const RECORD_BYTES: f64 = 32.0 * CHUNKS;
/// Chunks that an audit hashes.
const AUDITED: f64 = 500.0;

impl Work {
    /// Tables 2 to 7: a hash for each entry; 13 instructions, 4 of them a cycle, for each register full of right entries
    /// that may match a left one, of which there are 236; 16 bytes an entry written and read, 22 kept.
    fn table(simd: Simd) -> Self {
        let registers = if simd == Simd::Avx512 { 4.0 } else { 8.0 };
        Self {
            hashes: TABLES * ENTRIES,
            keystream_blocks: 40_960.0,
            cycles: TABLES * ENTRIES * registers * 13.0 / 4.0,
            bytes: (TABLES * 2.0 * 16.0 + 22.0) * ENTRIES,
            ..Self::default()
        }
    }

    /// Three compressions a proof, whose 64 values are found through 30 cache lines.
    fn proofs(count: f64) -> Self {
        Self { hashes: 3.0 * count, bytes: 30.0 * 64.0 * count, ..Self::default() }
    }

    /// One transform of `2^log` scalars.
    fn transform(log: u32) -> Self {
        Self { butterflies: f64::from(log) * 2f64.powi(log as i32 - 1), ..Self::default() }
    }

    /// So many products of scalars, each counted as a butterfly.
    fn products(count: f64) -> Self {
        Self { butterflies: count, ..Self::default() }
    }

    /// Bytes moved.
    fn bytes(count: f64) -> Self {
        Self { bytes: count, ..Self::default() }
    }

    /// Parity of a record: to coefficients, onto the coset, to values; the record read, twice as much written.
    fn extension() -> Self {
        Self::transform(15) * 2.0 + Self::products(CHUNKS) + Self::bytes(3.0 * RECORD_BYTES)
    }

    /// Table, the proofs of as many s-buckets as there are chunks, parity.
    fn record(simd: Simd) -> Self {
        Self::table(simd) + Self::proofs(CHUNKS) + Self::extension() + Self::bytes(3.0 * RECORD_BYTES)
    }

    /// A hash for each chunk and one for the challenge; the chunks read.
    fn audit() -> Self {
        Self { hashes: AUDITED + 1.0, bytes: 32.0 * AUDITED, ..Self::default() }
    }

    /// 16 digits a scalar fall into 2^15 buckets, whose points are then added up by row and by column.
    fn commitment() -> Self {
        let (points, buckets) = (16.0 * CHUNKS, CHUNKS);
        Self { additions: points - buckets + 2.0 * buckets, bytes: points * 96.0, ..Self::default() }
    }

    /// 255 scalars of 32 digits each, into 2^7 buckets.
    fn record_witness() -> Self {
        Self { additions: 255.0 * 32.0 + 128.0, ..Self::default() }
    }

    /// A point times a scalar: by the curve's endomorphism 128 doublings and some 60 additions, each as an addition.
    fn multiplication() -> Self {
        Self { additions: 190.0, ..Self::default() }
    }

    /// Commitments of the parity records: two transforms of 128 points and their move onto the coset.
    fn parity_commitments() -> Self {
        Self::multiplication() * (2.0 * 7.0 * 64.0 + RECORDS)
    }

    /// The polynomial that vanishes at 2^15 positions by a tree of products, its values at all 2^16 positions and on a
    /// coset, one inversion for all of the latter, then three transforms.
    fn recovery() -> Self {
        let leaves = Self::products(CHUNKS * 32.0 / 2.0);
        let tree = (6..=15).map(|log| Self::transform(log) * 3.0 * 2f64.powi(15 - log as i32));
        let values = Self::transform(16) + Self::transform(15) + Self::products(3.0 * CHUNKS);
        let recovered = Self::transform(16) + Self::transform(15) * 2.0 + Self::products(6.0 * CHUNKS);
        tree.fold(leaves + values + recovered, Self::add)
    }

    /// Audit, table, unmasking, recovery, division of the polynomial, commitment to the quotient.
    fn solution(simd: Simd) -> Self {
        Self::audit()
            + Self::table(simd)
            + Self::proofs(CHUNKS)
            + Self::recovery()
            + Self::products(CHUNKS)
            + Self::commitment()
            + Self::bytes(2.0 * RECORD_BYTES)
    }

    /// The 128 commitments with their polynomials, 32,768 columns extended, the parity's commitments, all witnesses.
    fn archive_segment() -> Self {
        let column = Self::transform(7) * 2.0 + Self::products(RECORDS);
        (Self::transform(15) + Self::commitment()) * RECORDS
            + column * CHUNKS
            + Self::bytes(3.0 * RECORDS * RECORD_BYTES)
            + Self::parity_commitments()
            + Self::record_witness() * PIECES
    }

    /// Commitments decompressed and checked against the records in one combination, those missing interpolated (128 sums
    /// of 128 products by buckets of 5 bits), 32,768 columns recovered, all witnesses.
    fn reconstruct_segment() -> Self {
        let interpolated = Self { additions: 51.0 * (RECORDS + 2.0 * 16.0), ..Self::default() };
        let column = Self::transform(7) + Self::transform(8) + Self::products(RECORDS);
        let points = Self { points: RECORDS, ..Self::default() };
        points
            + Self::products(RECORDS * CHUNKS)
            + Self::transform(15)
            + Self::commitment()
            + interpolated * RECORDS
            + Self::parity_commitments()
            + column * CHUNKS
            + Self::bytes(4.0 * RECORDS * RECORD_BYTES)
            + Self::record_witness() * PIECES
    }

    /// Two points, and the record's share of a combination; what is done once for the whole batch is left out.
    fn piece_check() -> Self {
        Self { points: 2.0, ..Self::default() } + Self::products(CHUNKS) + Self::bytes(RECORD_BYTES)
    }

    /// What a case has to do; none on the portable path, whose matching nobody has counted.
    pub(crate) fn of(case: Case, simd: Simd) -> Option<Self> {
        if simd == Simd::Portable && matches!(case, Case::Table | Case::Record | Case::Solution) {
            return None;
        }
        Some(match case {
            Case::Table => Self::table(simd),
            Case::AllProofs => Self::proofs(PROOFS),
            Case::Record => Self::record(simd),
            Case::Audit => Self::audit(),
            Case::Solution => Self::solution(simd),
            Case::Commitment => Self::commitment(),
            Case::ArchiveSegment => Self::archive_segment(),
            Case::ReconstructSegment => Self::reconstruct_segment(),
            Case::PieceCheck => Self::piece_check(),
        })
    }

    /// Seconds at these rates.
    pub(crate) fn seconds(self, rates: &Rates) -> f64 {
        let arithmetic = self.hashes / rates.hashes
            + self.keystream_blocks / rates.keystream_blocks
            + self.cycles / rates.cycles
            + self.butterflies / rates.butterflies
            + self.additions / rates.additions
            + self.points / rates.points;
        arithmetic.max(self.bytes / rates.memory_bytes)
    }
}

/// The least CPU seconds of a case on this process's code path.
pub(crate) fn floor(case: Case, rates: &Rates) -> Option<f64> {
    Some(Work::of(case, Simd::best())?.seconds(rates))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONES: Rates = Rates {
        memory_bytes: 1.0,
        cache_bytes: 1.0,
        hashes: 1.0,
        keystream_blocks: 1.0,
        cycles: 1.0,
        butterflies: 1.0,
        additions: 1.0,
        points: 1.0,
    };

    #[test]
    fn counts_are_those_of_the_methods() {
        // A transform of 8 scalars has 3 layers of 4 butterflies.
        assert_eq!(Work::transform(3).butterflies, 12.0);
        // 16 digits of 32,768 scalars less one addition for each bucket, and twice the buckets.
        assert_eq!(Work::commitment().additions, 557_056.0);
        assert_eq!(Work::of(Case::Table, Simd::Avx512).map(|work| work.hashes), Some(6_291_456.0));
        assert_eq!(Work::of(Case::Table, Simd::Portable), None);
    }

    #[test]
    fn memory_hides_behind_arithmetic_or_arithmetic_behind_memory() {
        let work = Work { hashes: 3.0, additions: 4.0, bytes: 5.0, ..Work::default() };
        assert_eq!(work.seconds(&ONES), 7.0);
        assert_eq!((work + Work::bytes(10.0)).seconds(&ONES), 15.0);
        assert_eq!((work * 2.0).seconds(&ONES), 14.0);
    }
}
