//! The generator: runs the passes on one thread or many and keeps what the search of proofs needs.

use crate::buckets::{BUCKET_CAPACITY, Buckets, boxed_array};
use crate::dispatch;
use crate::params::{BUCKETS, S_BUCKETS, X_VALUES};
use crate::passes::{Candidate, Keep, Leaf, Pass, Scratch, Sink, Source, Wanted, X_BATCH, entry_y};
use crate::reference::ReferenceTables;
use crate::search::resolve_candidates;
use crate::table::{Table, Tables};
use primitives::sectors::PosSeed;
use primitives::simd::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Entries of table `table` for which memory is allocated at once. The size of a table is a random walk that begins at
/// 2^20: the more tables behind, the more room. Larger ones make the memory grow.
const fn usual_entries(table: usize) -> usize {
    (1 << 20) / 100 * (100 + table)
}

/// Tasks of a parallel pass at most: each has buckets of its own, the last chunk of each half empty.
const TASKS_MAX: usize = 16;

/// Makes the tables of one seed after another in memory that it allocates when first used and keeps: 61 MiB for one
/// thread, growing by some MiB for a seed with uncommonly large tables. With n threads it is about n × 2.5 MiB more.
pub struct TableGenerator {
    simd: Simd,
    /// Entries that a bucket may have.
    bucket_limit: usize,
    pub(crate) search: SearchTables,
    /// Tables 1, 3 and 5 while they are needed; a part for each task.
    odd: Vec<Buckets>,
    scratch: Vec<Scratch>,
    candidates: Vec<Vec<Candidate>>,
    reference: Option<ReferenceTables>,
}

/// What the search of proofs needs of the tables of one seed.
pub(crate) struct SearchTables {
    pub(crate) simd: Simd,
    pub(crate) seed: PosSeed,
    /// Table 3: four values of x.
    pub(crate) leaves: Vec<Leaf>,
    /// Tables 4, 5, 6: back pointers.
    pub(crate) parents: [Vec<u32>; 3],
    /// Table 6 itself (2 and 4 before it); a part for each task.
    pub(crate) even: Vec<Buckets>,
    /// Parts of `even` in use.
    pub(crate) tasks: usize,
    /// Position of the first entry of each bucket of table 6 (of the parent table before).
    pub(crate) starts: Box<[u32; BUCKETS + 1]>,
    /// The canonical entry of table 7 for each s-bucket.
    pub(crate) first: Box<[Option<Candidate>; S_BUCKETS]>,
}

/// A bucket has more entries than the fast passes can hold.
struct Overfull;

impl Default for TableGenerator {
    fn default() -> Self {
        Self::new()
    }
}

impl TableGenerator {
    /// A generator that uses the fastest instructions of this machine ([`Simd::best`]).
    pub fn new() -> Self {
        Self::with_simd(Simd::best())
    }

    /// A generator that uses `simd`.
    ///
    /// # Panics
    /// When this machine does not have it.
    pub fn with_simd(simd: Simd) -> Self {
        assert!(simd.is_available(), "this machine has no {simd:?}");
        Self {
            simd,
            bucket_limit: BUCKET_CAPACITY,
            search: SearchTables {
                simd,
                seed: PosSeed::default(),
                leaves: Vec::new(),
                parents: Default::default(),
                even: Vec::new(),
                tasks: 1,
                starts: boxed_array(0),
                first: boxed_array(None),
            },
            odd: Vec::new(),
            scratch: Vec::new(),
            candidates: Vec::new(),
            reference: None,
        }
    }

    /// Makes the tables of `seed` on the calling thread.
    pub fn generate(&mut self, seed: &PosSeed) -> Table<'_> {
        self.generate_with(seed, 1, &mut None)
    }

    /// Makes the tables of `seed` on all threads of the current rayon pool: the same result, sooner.
    pub fn generate_parallel(&mut self, seed: &PosSeed) -> Table<'_> {
        self.generate_with(seed, rayon::current_num_threads().min(TASKS_MAX), &mut None)
    }

    /// [`Self::generate`] that also calls `inspect` with the number of each table, 1 to 7, and all its y in any order.
    #[doc(hidden)]
    pub fn generate_inspected(&mut self, seed: &PosSeed, inspect: &mut Inspect<'_>) -> Table<'_> {
        self.generate_with(seed, 1, &mut Some(inspect))
    }

    fn generate_with(
        &mut self,
        seed: &PosSeed,
        tasks: usize,
        inspect: &mut Option<&mut Inspect<'_>>,
    ) -> Table<'_> {
        self.reference = None;
        let result = self.run(seed, tasks, inspect);
        let tables = match result {
            Ok(()) => Tables::Fast(&self.search),
            Err(Overfull) => {
                let reference = self.reference.insert(ReferenceTables::new(seed));
                if let Some(inspect) = inspect {
                    (1..=7).for_each(|table| inspect(table, reference.ys(table).to_vec()));
                }
                Tables::Reference(reference)
            }
        };
        Table { tables }
    }

    /// Runs all passes.
    fn run(
        &mut self,
        seed: &PosSeed,
        tasks: usize,
        inspect: &mut Option<&mut Inspect<'_>>,
    ) -> Result<(), Overfull> {
        self.prepare(seed, tasks);
        let simd = self.simd;
        let ranges = split(X_VALUES / X_BATCH, tasks).map(|range| range.start * X_BATCH..range.end * X_BATCH);
        for_each_task(self.odd[..tasks].iter_mut().zip(ranges).collect(), |(part, range)| {
            part.clear();
            dispatch::first_table(simd, seed, range, part);
        });
        for table in 2..=7 {
            self.run_pass(table, tasks, inspect)?;
        }
        let candidates = self.candidates[..tasks].iter().flatten().copied();
        resolve_candidates(&mut self.search, candidates);
        Ok(())
    }

    /// Sees to it that every task has its memory.
    fn prepare(&mut self, seed: &PosSeed, tasks: usize) {
        self.search.seed = *seed;
        self.search.tasks = tasks;
        while self.odd.len() < tasks {
            self.search.even.push(Buckets::new());
            self.odd.push(Buckets::new());
            self.scratch.push(Scratch::new());
            self.candidates.push(Vec::new());
        }
        self.search.even[..tasks].iter_mut().for_each(|part| part.reserve(usual_entries(6) / tasks));
        self.odd[..tasks].iter_mut().for_each(|part| part.reserve(usual_entries(5) / tasks));
        reserve(&mut self.search.leaves, usual_entries(3));
        for (parents, table) in self.search.parents.iter_mut().zip(4..) {
            reserve(parents, usual_entries(table));
        }
        self.candidates.iter_mut().for_each(Vec::clear);
    }

    /// Makes table `table` of its parent.
    fn run_pass(
        &mut self,
        table: usize,
        tasks: usize,
        inspect: &mut Option<&mut Inspect<'_>>,
    ) -> Result<(), Overfull> {
        let SearchTables { leaves, parents, even, starts, .. } = &mut self.search;
        let (even, odd) = (&mut even[..tasks], &mut self.odd[..tasks]);
        let (parts, targets) = if table.is_multiple_of(2) { (odd, even) } else { (even, odd) };
        let size = index(parts, starts, self.bucket_limit)?;
        if let Some(inspect) = inspect {
            inspect(table - 1, collect_ys(parts));
        }
        let source = Source { parts, starts };
        let mut keeps = match table {
            4 => Keep::Leaves(resized(leaves, size)),
            5..=7 => Keep::Parents(resized(&mut parents[table - 5], size)),
            _ => Keep::Nothing,
        };
        let wanted = if inspect.is_some() { Wanted::ALL } else { Wanted::S_BUCKETS };
        let mut passes = Vec::with_capacity(tasks);
        let outputs = targets.iter_mut().zip(&mut self.candidates);
        for ((range, scratch), (target, candidates)) in
            split(BUCKETS - 1, tasks).zip(&mut self.scratch).zip(outputs)
        {
            target.clear();
            let end = if range.end == BUCKETS - 1 { BUCKETS } else { range.end };
            let keep = keeps.take((starts[end] - starts[range.start]) as usize);
            let sink = if table < 7 { Sink::Buckets(target) } else { Sink::Candidates(candidates, wanted) };
            passes.push(Pass { source, range, keep, sink, scratch });
        }
        let simd = self.simd;
        for_each_task(passes, |pass| dispatch::pass(simd, table, pass));
        if let (7, Some(inspect)) = (table, inspect) {
            inspect(7, self.candidates.iter().flatten().map(|candidate| candidate.y).collect());
        }
        Ok(())
    }

    /// Refuses buckets of more than `limit` entries, as if that were all the fast passes can hold.
    #[cfg(test)]
    pub(crate) fn limit_buckets(&mut self, limit: usize) {
        self.bucket_limit = limit;
    }

    /// Whether the last tables came from the reference generator.
    #[cfg(test)]
    pub(crate) fn took_refuge(&self) -> bool {
        self.reference.is_some()
    }
}

/// Takes the number of a table and its y.
#[doc(hidden)]
pub type Inspect<'a> = dyn FnMut(usize, Vec<u32>) + 'a;

/// `count` things in `tasks` ranges of nearly equal length.
fn split(count: usize, tasks: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tasks).map(move |task| count * task / tasks..count * (task + 1) / tasks)
}

/// Runs tasks, one on this thread, several on those of the current rayon pool.
fn for_each_task<T: Send>(mut tasks: Vec<T>, run: impl Fn(T) + Send + Sync) {
    if tasks.len() == 1 {
        tasks.drain(..).for_each(run);
    } else {
        tasks.into_par_iter().with_max_len(1).for_each(run);
    }
}

/// Counts the entries in front of every bucket; returns the size of the table.
fn index(parts: &[Buckets], starts: &mut [u32; BUCKETS + 1], limit: usize) -> Result<usize, Overfull> {
    if parts.iter().any(Buckets::is_overfull) {
        return Err(Overfull);
    }
    let mut position = 0;
    for (bucket, start) in starts.iter_mut().enumerate() {
        *start = position as u32;
        if bucket < BUCKETS {
            let len = parts.iter().map(|part| part.len(bucket)).sum::<usize>();
            if len > limit {
                return Err(Overfull);
            }
            position += len;
        }
    }
    Ok(position)
}

fn resized<T: Clone + Default>(values: &mut Vec<T>, size: usize) -> &mut [T] {
    reserve(values, size);
    values.resize(size, T::default());
    values
}

/// Sees to room for `size` values.
fn reserve<T>(values: &mut Vec<T>, size: usize) {
    values.reserve_exact(size.saturating_sub(values.len()));
}

/// All y of a table.
fn collect_ys(parts: &[Buckets]) -> Vec<u32> {
    let entries = |part: &Buckets, bucket| {
        (0..part.len(bucket)).map(|index| entry_y(bucket, part.get(bucket, index))).collect::<Vec<_>>()
    };
    parts.iter().flat_map(|part| (0..BUCKETS).flat_map(move |bucket| entries(part, bucket))).collect()
}
