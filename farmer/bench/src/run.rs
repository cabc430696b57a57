//! Runs the cases.

use crate::archiving_cases::{self, archive, block, parity, thousand_pieces};
use crate::case::Case;
use crate::farming_cases::{Auditing, Plotting, Proving};
use crate::measure::{Cost, cost, median};
use crate::table_cases::{generate, hash_proofs, seeds};
use anyhow::{Context, Result, ensure};
use archiving::archiver::ArchivedSegment;
use archiving::reconstruction::reconstruct_pieces;
use archiving::{Kzg, Srs, verify_pieces};
use farming::encoding::SectorEncoder;
use farming::io::PlotReader;
use farming::proving::CpuProver;
use proof_of_space::{Simd, TableGenerator};
use std::hint::black_box;
use std::path::Path;

/// What a case cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) case: Case,
    /// Median over the runs.
    pub(crate) cost: Cost,
    pub(crate) runs: usize,
}

/// Name of the code path of this process, as `AUTONOMYS_SIMD` has it.
pub(crate) fn simd() -> &'static str {
    Simd::best().name()
}

/// Runs cases one after the other, saying so on standard error.
pub(crate) fn run(cases: &[Case], scratch: &Path, quick: bool) -> Result<Vec<Figure>> {
    let mut session = Session::new(scratch, quick)?;
    cases.iter().map(|case| session.run(*case)).collect()
}

/// What cases share.
struct Session<'a> {
    scratch: &'a Path,
    quick: bool,
    /// A pool of one thread; the global one has a thread for each core.
    one_thread: rayon::ThreadPool,
    kzg: Option<Kzg>,
    segment: Option<ArchivedSegment>,
}

impl<'a> Session<'a> {
    fn new(scratch: &'a Path, quick: bool) -> Result<Self> {
        let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        Ok(Self { scratch, quick, one_thread, kzg: None, segment: None })
    }

    fn run(&mut self, case: Case) -> Result<Figure> {
        eprint!("{:20} ", case.key());
        let runs = case.runs(self.quick);
        let costs = match case {
            Case::Table => table(runs),
            Case::AllProofs => all_proofs(runs),
            Case::Record => record(runs),
            Case::Audit => self.audit(runs),
            Case::Solution => self.solution(runs)?,
            Case::Commitment => self.commitment(runs)?,
            Case::ArchiveSegment => self.archive_segment(runs)?,
            Case::ReconstructSegment => self.reconstruct_segment(runs)?,
            Case::PieceCheck => self.piece_check(runs)?,
        };
        let cost = median(&costs);
        eprintln!("{:.3e} s CPU, {:.3e} s wall, {} runs, {}", cost.cpu_s, cost.wall_s, costs.len(), simd());
        Ok(Figure { case, cost, runs: costs.len() })
    }

    /// KZG whose precomputed multiples are there, as in any process that has committed once.
    fn kzg(&mut self) -> Result<Kzg> {
        if let Some(kzg) = &self.kzg {
            return Ok(kzg.clone());
        }
        let path = archiving_cases::string(self.scratch);
        let kzg = Kzg::new(Srs::load(&path).context("cannot load the reference string")?);
        black_box(kzg.commit(&kzg.polynomial(&archiving_cases::record())?));
        black_box(kzg.commit(&kzg.polynomial(&archiving_cases::record()[..256])?));
        Ok(self.kzg.insert(kzg).clone())
    }

    fn segment(&mut self) -> Result<&ArchivedSegment> {
        if self.segment.is_none() {
            self.segment = Some(archive(&self.kzg()?, block()));
        }
        Ok(self.segment.as_ref().expect("just made"))
    }

    fn audit(&self, runs: usize) -> Vec<Cost> {
        let auditing = Auditing::new();
        let slots = Auditing::SLOTS;
        let audit = |_| (0..slots).for_each(|slot| self.one_thread.install(|| auditing.audit(slot)));
        audit(0);
        repeat(runs, slots * usize::from(Auditing::SECTORS), audit)
    }

    fn solution(&mut self, runs: usize) -> Result<Vec<Cost>> {
        let proving = Proving::new(8);
        let directory = tempfile::tempdir_in(self.scratch)?;
        let path = directory.path().join("plot.bin");
        std::fs::write(&path, &proving.sector)?;
        let plot = PlotReader::open_buffered(&path)?;
        let prover = CpuProver::new(self.kzg()?);
        // Inside the pool, as roles prove.
        let solve = |run| rayon::scope(|_| proving.solve(&plot, &prover, run));
        solve(0);
        Ok(repeat(runs, 1, solve))
    }

    fn commitment(&mut self, runs: usize) -> Result<Vec<Cost>> {
        let kzg = self.kzg()?;
        let polynomial = kzg.polynomial(&archiving_cases::record())?;
        let commit = |_| self.one_thread.install(|| kzg.commit(&polynomial));
        commit(0);
        Ok(repeat(runs, 1, commit))
    }

    fn archive_segment(&mut self, runs: usize) -> Result<Vec<Cost>> {
        let kzg = self.kzg()?;
        let run = |_| {
            let block = block();
            let (cost, segment) = cost(|| archive(&kzg, block));
            self.segment = Some(segment);
            cost
        };
        Ok((0..runs).map(run).collect())
    }

    fn reconstruct_segment(&mut self, runs: usize) -> Result<Vec<Cost>> {
        let kzg = self.kzg()?;
        let segment = self.segment()?;
        let parity = parity(segment);
        let run = |_| {
            let (cost, pieces) = cost(|| reconstruct_pieces(&kzg, &parity));
            ensure!(pieces? == segment.pieces, "the pieces reconstructed are not those archived");
            Ok(cost)
        };
        (0..runs).map(run).collect()
    }

    fn piece_check(&mut self, runs: usize) -> Result<Vec<Cost>> {
        let kzg = self.kzg()?;
        let pieces = thousand_pieces(self.segment()?);
        let run = |_| {
            let (cost, results) = cost(|| verify_pieces(&kzg, &pieces));
            ensure!(results.iter().all(Result::is_ok), "a piece of the segment does not pass the check");
            Ok(cost.divided_by(pieces.len()))
        };
        (0..runs).map(run).collect()
    }
}

/// Costs of one part of each run, which does `parts` of them.
fn repeat<T>(runs: usize, parts: usize, mut work: impl FnMut(usize) -> T) -> Vec<Cost> {
    (0..runs).map(|run| cost(|| black_box(work(run))).0.divided_by(parts)).collect()
}

fn table(runs: usize) -> Vec<Cost> {
    let (mut seeds, mut generator) = (seeds(), TableGenerator::new());
    let mut make = |_| generate(&mut generator, &seeds());
    make(0);
    repeat(runs, 1, make)
}

fn all_proofs(runs: usize) -> Vec<Cost> {
    let mut generator = TableGenerator::new();
    let table = generator.generate(&seeds()());
    let hash = |_| hash_proofs(&table, usize::MAX);
    hash(0);
    repeat(runs, 1, hash)
}

fn record(runs: usize) -> Vec<Cost> {
    let mut encoder = SectorEncoder::cpu(rayon::current_num_threads());
    let sectors = [4, 12].map(Plotting::new);
    let mut bytes = Vec::with_capacity(sectors[1].sector_size());
    let mut plot = |_| {
        for sector in &sectors {
            sector.plot(&mut encoder, &mut bytes);
            black_box(&bytes);
        }
    };
    plot(0);
    repeat(runs, 4 + 12, plot)
}
