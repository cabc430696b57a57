//! Sums of products with fixed points: commitments are nothing else.
//!
//! For a window of c bits the multiples `2^(cj) P` of every base are precomputed, so that all windows of all scalars
//! share one set of buckets and no doubling is left: with 32,768 bases and c = 16 that is 2^19 additions into 2^15
//! buckets. Additions are affine, with inversions shared by hundreds of them: 5 products and a square each. The buckets
//! are summed up by rows and by columns of a grid in the same way.
//!
//! Affine addition cannot add a point to itself or to its negative. Among multiples of independent bases that happens
//! with negligible probability unless somebody knows the secret of the string; when it does, the sum is given up
//! ([`FixedBase::multiply_sum`] returns none) and the caller takes a method without exceptions.

#[cfg(target_arch = "x86_64")]
mod ifma;
mod portable;

use crate::bls::{G1, G1Affine};
use crate::scalar::Scalar;
use portable::Portable;
use primitives::simd::Simd;
use rayon::prelude::*;

/// Marks, in an index of a point, that its negative is meant.
const NEGATIVE: u32 = 1 << 31;
/// Buckets that one task sums up: their points have to stay in the second-level cache.
const BUCKETS_PER_TASK: usize = 1024;

/// An addition of two points.
#[derive(Clone, Copy, Debug)]
struct Job {
    /// Index of a point, with [`NEGATIVE`].
    left: u32,
    /// Index of another point, with [`NEGATIVE`].
    right: u32,
    /// Where the sum goes.
    out: u32,
}

/// Batches of affine arithmetic on one kind of instructions.
trait Engine {
    /// An affine point that is not infinity, as this engine keeps it.
    type Point: Copy + Default + Send + Sync;

    /// Converts points, none of them infinity.
    fn convert(points: &[G1Affine]) -> Vec<Self::Point>;

    /// Converts a point back.
    fn restore(point: &Self::Point) -> G1;

    /// The negative.
    fn negate(point: &Self::Point) -> Self::Point;

    /// Doubles every point `times` times.
    fn double(points: &mut [Self::Point], times: u32);

    /// Does all jobs; false when one of them was to add a point to itself or to its negative.
    #[must_use]
    fn add(source: &[Self::Point], jobs: &[Job], out: &mut [Self::Point]) -> bool;
}

/// Precomputed multiples of bases.
struct Table<E: Engine> {
    /// Bits of a window.
    window: u32,
    bases: usize,
    /// `2^(window j) P_i` at `j * bases + i`.
    points: Vec<E::Point>,
}

/// Fixed bases with their precomputed multiples.
pub(crate) struct FixedBase(AnyTable);

enum AnyTable {
    Portable(Table<Portable>),
    #[cfg(target_arch = "x86_64")]
    Ifma(Table<ifma::Ifma>),
}

impl FixedBase {
    /// Precomputes for windows of up to 16 bits. No base may be infinity.
    pub(crate) fn new(bases: &[G1Affine], window: u32) -> Self {
        #[cfg(target_arch = "x86_64")]
        if Simd::limit() == Simd::Avx512 && ifma::Ifma::is_supported() {
            return Self(AnyTable::Ifma(Table::new(bases, window)));
        }
        Self(AnyTable::Portable(Table::new(bases, window)))
    }

    /// Sum of the products of the first bases with `scalars`; none in an exceptional case (see the module).
    pub(crate) fn multiply_sum(&self, scalars: &[Scalar]) -> Option<G1> {
        match &self.0 {
            AnyTable::Portable(table) => table.multiply_sum(scalars),
            #[cfg(target_arch = "x86_64")]
            AnyTable::Ifma(table) => table.multiply_sum(scalars),
        }
    }

    /// Adds each second multiple to the one before it, over and over until that are `count` additions.
    pub(crate) fn add_neighbours(&self, count: usize) {
        match &self.0 {
            AnyTable::Portable(table) => table.add_neighbours(count),
            #[cfg(target_arch = "x86_64")]
            AnyTable::Ifma(table) => table.add_neighbours(count),
        }
    }
}

/// Number of windows in a scalar of 255 bits; the last one takes up the last carry.
const fn windows(window: u32) -> usize {
    256u32.div_ceil(window) as usize
}

impl<E: Engine> Table<E> {
    fn new(bases: &[G1Affine], window: u32) -> Self {
        assert!((2..=16).contains(&window), "a digit and its sign fit 17 bits");
        let windows = windows(window);
        let mut points = vec![E::Point::default(); windows * bases.len()];
        let mut rows: Vec<Vec<&mut [E::Point]>> = Vec::new();
        const BASES_PER_TASK: usize = 512;
        for row in points.chunks_exact_mut(bases.len().max(1)) {
            for (task, chunk) in row.chunks_mut(BASES_PER_TASK).enumerate() {
                if rows.len() <= task {
                    rows.push(Vec::with_capacity(windows));
                }
                rows[task].push(chunk);
            }
        }
        rows.into_par_iter().zip(bases.par_chunks(BASES_PER_TASK)).for_each(|(rows, bases)| {
            let mut multiples = E::convert(bases);
            for (row, out) in rows.into_iter().enumerate() {
                if row > 0 {
                    E::double(&mut multiples, window);
                }
                out.copy_from_slice(&multiples);
            }
        });
        Self { window, bases: bases.len(), points }
    }

    fn add_neighbours(&self, count: usize) {
        let pairs = self.points.len() / 2;
        let job = |pair: usize| Job { left: 2 * pair as u32, right: 2 * pair as u32 + 1, out: pair as u32 };
        let jobs: Vec<Job> = (0..pairs).map(job).cycle().take(count).collect();
        let mut sums = vec![E::Point::default(); pairs];
        assert!(E::add(&self.points, &jobs, &mut sums), "neighbouring multiples differ");
    }

    fn multiply_sum(&self, scalars: &[Scalar]) -> Option<G1> {
        assert!(scalars.len() <= self.bases, "no more scalars than bases");
        let buckets = Buckets::sort(self, scalars);
        let task = |first: usize| {
            let last = (first + BUCKETS_PER_TASK).min(buckets.count());
            let (entries, lengths, numbers) = buckets.range(first, last);
            Some((numbers, sum_lists::<E>(&self.points, entries, lengths)?))
        };
        let firsts: Vec<usize> = (0..buckets.count()).step_by(BUCKETS_PER_TASK).collect();
        let sums: Option<Vec<_>> = firsts.into_par_iter().map(task).collect();
        let (numbers, sums): (Vec<Vec<u32>>, Vec<Vec<E::Point>>) = sums?.into_iter().unzip();
        weighted_sum::<E>(&numbers.concat(), &sums.concat(), self.window - 1)
    }
}

/// Indices of multiples, sorted by the digit they are to be multiplied with.
struct Buckets {
    /// Indices into the table, with signs.
    entries: Vec<u32>,
    /// Where each bucket ends in `entries`; bucket b is for digit b + 1.
    ends: Vec<u32>,
}

impl Buckets {
    fn sort<E: Engine>(table: &Table<E>, scalars: &[Scalar]) -> Self {
        let limbs: Vec<[u64; 4]> = scalars.iter().map(|scalar| scalar.to_limbs()).collect();
        let mut ends = vec![0u32; 1 << (table.window - 1)];
        for limbs in &limbs {
            for_each_digit(limbs, table.window, |_, magnitude, _| ends[magnitude - 1] += 1);
        }
        let mut total = 0;
        for end in &mut ends {
            total += std::mem::replace(end, total);
        }
        let mut entries = vec![0; total as usize];
        for (base, limbs) in limbs.iter().enumerate() {
            for_each_digit(limbs, table.window, |window, magnitude, negative| {
                let place = &mut ends[magnitude - 1];
                let index = (window * table.bases + base) as u32;
                entries[*place as usize] = if negative { index | NEGATIVE } else { index };
                *place += 1;
            });
        }
        Self { entries, ends }
    }

    fn count(&self) -> usize {
        self.ends.len()
    }

    /// Entries of the buckets from `first` to before `last`, and, of those that are not empty, lengths and numbers.
    fn range(&self, first: usize, last: usize) -> (&[u32], Vec<u32>, Vec<u32>) {
        let mut start = if first == 0 { 0 } else { self.ends[first - 1] };
        let entries = &self.entries[start as usize..self.ends[last - 1] as usize];
        let (mut lengths, mut numbers) = (Vec::with_capacity(last - first), Vec::with_capacity(last - first));
        for (number, &end) in (first..last).zip(&self.ends[first..last]) {
            if end > start {
                lengths.push(end - start);
                numbers.push(number as u32);
            }
            start = end;
        }
        (entries, lengths, numbers)
    }
}

/// Calls `f(window, magnitude, negative)` for each signed digit that is not zero.
#[inline]
fn for_each_digit(limbs: &[u64; 4], window: u32, mut f: impl FnMut(usize, usize, bool)) {
    let mut carry = 0;
    for index in 0..windows(window) {
        let bit = index as u32 * window;
        let (limb, shift) = ((bit / 64) as usize, bit % 64);
        let mut bits = limbs[limb] >> shift;
        if shift + window > 64 && limb < 3 {
            bits |= limbs[limb + 1] << (64 - shift);
        }
        let digit = (bits & ((1 << window) - 1)) + carry;
        carry = u64::from(digit > 1 << (window - 1));
        match carry {
            0 if digit == 0 => {}
            0 => f(index, digit as usize, false),
            // 2^window itself is zero here and one in the next window.
            _ if digit == 1 << window => {}
            _ => f(index, ((1 << window) - digit) as usize, true),
        }
    }
    debug_assert_eq!(carry, 0, "a scalar has fewer bits than all windows");
}

/// The sum of each list of points. `entries` holds the lists one after the other, none of them empty.
fn sum_lists<E: Engine>(
    source: &[E::Point],
    entries: &[u32],
    mut lengths: Vec<u32>,
) -> Option<Vec<E::Point>> {
    let mut jobs = Vec::with_capacity(entries.len() / 2);
    let mut points = vec![E::Point::default(); halve(&mut lengths.clone())];
    let (mut from, mut out) = (0, 0);
    for &length in &lengths {
        let list = &entries[from..from + length as usize];
        from += length as usize;
        let (pairs, rest) = list.as_chunks();
        for &[left, right] in pairs {
            jobs.push(Job { left, right, out });
            out += 1;
        }
        for &entry in rest {
            let point = source[(entry & !NEGATIVE) as usize];
            points[out as usize] = if entry & NEGATIVE == 0 { point } else { E::negate(&point) };
            out += 1;
        }
    }
    if !E::add(source, &jobs, &mut points) {
        return None;
    }
    halve(&mut lengths);
    while lengths.iter().any(|length| *length > 1) {
        jobs.clear();
        let mut sums = vec![E::Point::default(); halve(&mut lengths.clone())];
        let (mut from, mut out) = (0, 0);
        for &length in &lengths {
            for pair in 0..length / 2 {
                jobs.push(Job { left: from + 2 * pair, right: from + 2 * pair + 1, out });
                out += 1;
            }
            from += length;
            if length % 2 == 1 {
                sums[out as usize] = points[from as usize - 1];
                out += 1;
            }
        }
        if !E::add(&points, &jobs, &mut sums) {
            return None;
        }
        points = sums;
        halve(&mut lengths);
    }
    Some(points)
}

/// Halves lengths, rounding up; returns their sum.
fn halve(lengths: &mut [u32]) -> usize {
    lengths.iter_mut().for_each(|length| *length = length.div_ceil(2));
    lengths.iter().map(|length| *length as usize).sum()
}

/// Sum of `(number + 1) * point`; numbers have `bits` bits.
fn weighted_sum<E: Engine>(numbers: &[u32], points: &[E::Point], bits: u32) -> Option<G1> {
    let low_bits = bits / 2;
    let by = |part: &dyn Fn(u32) -> u32, count: usize| -> Option<Vec<G1>> {
        // Counting sort of the points by that part of their number.
        let mut lengths = vec![0u32; count];
        numbers.iter().for_each(|number| lengths[part(*number) as usize] += 1);
        let mut next = Vec::with_capacity(count);
        let mut total = 0;
        for length in &lengths {
            next.push(total);
            total += length;
        }
        let mut entries = vec![0; numbers.len()];
        for (index, number) in numbers.iter().enumerate() {
            let place = &mut next[part(*number) as usize];
            entries[*place as usize] = index as u32;
            *place += 1;
        }
        let filled: Vec<u32> = lengths.iter().copied().filter(|length| *length > 0).collect();
        let mut sums = sum_lists::<E>(points, &entries, filled)?.into_iter();
        let sum = |length: &u32| match length {
            0 => G1::INFINITY,
            _ => E::restore(&sums.next().expect("one for each list that is not empty")),
        };
        Some(lengths.iter().map(sum).collect())
    };
    let (rows, columns) = rayon::join(
        || by(&|number| number >> low_bits, 1 << (bits - low_bits)),
        || by(&|number| number & ((1 << low_bits) - 1), 1 << low_bits),
    );
    let (rows, columns) = (rows?, columns?);
    let (plain, mut high) = running_sum(&rows);
    for _ in 0..low_bits {
        high = high.double();
    }
    Some(high + running_sum(&columns).1 + plain)
}

/// Sum of the points, and sum of the points times their indices.
fn running_sum(points: &[G1]) -> (G1, G1) {
    let (mut sum, mut weighted) = (G1::INFINITY, G1::INFINITY);
    for point in points.iter().rev() {
        weighted = weighted + sum;
        sum = sum + *point;
    }
    (sum, weighted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bls;

    const WINDOWS: [u32; 4] = [2, 7, 8, 16];

    fn bases(count: usize) -> Vec<G1Affine> {
        let mut multiple = G1::from(G1Affine::generator());
        let points: Vec<G1> = (0..count)
            .map(|_| {
                // Steps that nobody knows a relation between.
                let next = blake3::hash(&multiple.to_affine().to_compressed());
                multiple = multiple.multiply(&Scalar::from_bytes_reduced(next.as_bytes()).to_le_bytes());
                multiple
            })
            .collect();
        G1::batch_to_affine(&points)
    }

    fn scalars(count: usize) -> Vec<Scalar> {
        let mut scalars =
            vec![Scalar::ZERO, -Scalar::ONE, Scalar::ONE, Scalar::from(1 << 15), Scalar::from(u64::MAX)];
        let mut state = Scalar::from(3);
        while scalars.len() < count {
            state = state.square() + Scalar::ONE;
            scalars.push(state);
        }
        scalars.truncate(count);
        scalars
    }

    fn plain(bases: &[G1Affine], scalars: &[Scalar]) -> G1 {
        let products = bases.iter().zip(scalars);
        let multiply = |(base, scalar): (&G1Affine, &Scalar)| G1::from(*base).multiply(&scalar.to_le_bytes());
        products.map(multiply).fold(G1::INFINITY, |sum, product| sum + product)
    }

    fn check<E: Engine>() {
        let bases = bases(300);
        for window in WINDOWS {
            let table = Table::<E>::new(&bases, window);
            for count in [0, 1, 2, 5, 37, 300] {
                let scalars = scalars(count);
                let expected = plain(&bases, &scalars);
                assert!(table.multiply_sum(&scalars) == Some(expected), "{window} {count}");
                let as_bytes: Vec<[u8; 32]> = scalars.iter().map(|scalar| scalar.to_le_bytes()).collect();
                assert!(bls::multiply_sum(&bases[..count], &as_bytes) == expected);
            }
            // Only zeroes, and the same digit everywhere.
            assert!(table.multiply_sum(&[Scalar::ZERO; 300]) == Some(G1::INFINITY));
            let equal = [Scalar::from(5); 300];
            assert!(table.multiply_sum(&equal) == Some(plain(&bases, &equal)), "{window}");
        }
    }

    fn check_exceptions<E: Engine>() {
        let bases = bases(20);
        let mut repeated = bases.clone();
        repeated[19] = repeated[3];
        let mut opposite = bases.clone();
        opposite[19] = (-G1::from(bases[3])).to_affine();
        let mut scalars = vec![Scalar::ZERO; 20];
        (scalars[3], scalars[19]) = (Scalar::ONE, Scalar::ONE);
        for bases in [repeated, opposite] {
            assert!(Table::<E>::new(&bases, 8).multiply_sum(&scalars).is_none());
        }
    }

    #[test]
    fn portable_sums_are_right_or_given_up() {
        check::<Portable>();
        check_exceptions::<Portable>();
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn eight_lane_sums_are_right_or_given_up() {
        if ifma::Ifma::is_supported() {
            check::<ifma::Ifma>();
            check_exceptions::<ifma::Ifma>();
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn eight_lane_multiples_are_those_of_blst() {
        if !ifma::Ifma::is_supported() {
            return;
        }
        let bases = bases(77);
        let narrow = Table::<Portable>::new(&bases, 16);
        let wide = Table::<ifma::Ifma>::new(&bases, 16);
        for (narrow, wide) in narrow.points.iter().zip(&wide.points) {
            assert!(Portable::restore(narrow) == ifma::Ifma::restore(wide));
            let negative = ifma::Ifma::restore(&ifma::Ifma::negate(wide));
            assert!(negative == -Portable::restore(narrow));
        }
    }
}
