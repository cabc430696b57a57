//! Many tables at once, and audits of many sectors.

use crate::farming_cases::{PIECES_IN_SECTOR, slots, synthetic_metadata};
use crate::machine::kibibytes;
use crate::measure::{Cost, cost, median};
use crate::table_cases::{generate, seeds};
use anyhow::{Context, Result, ensure};
use farming::audit::audit_plot;
use farming::io::PlotReader;
use farming::plot::SectorState;
use primitives::{Blake3Hash, PublicKey, SectorGeometry};
use proof_of_space::TableGenerator;
use std::fs::{File, read_to_string};
use std::path::Path;
use std::sync::Arc;

/// Tables made at once.
const TABLES: [usize; 4] = [1, 2, 4, 8];
/// Sectors audited in a slot.
const SECTORS: [usize; 4] = [100, 1_000, 8_000, 60_000];
/// Sectors of a farm: its file, sparse as it is, has to fit the filesystem's limit, 16 TiB on ext4.
const SECTORS_PER_FARM: usize = 8_000;
/// Bytes of memory of a sector's state, rounded up.
const STATE_BYTES: f64 = 80_000.0;

/// Both curves.
pub(crate) struct Scaling {
    pub(crate) tables: Vec<TablesAtOnce>,
    pub(crate) audits: Vec<Audit>,
}

/// So many tables at once, each on a thread.
pub(crate) struct TablesAtOnce {
    pub(crate) threads: usize,
    /// Of one table: CPU, and wall time divided by all tables made.
    pub(crate) cost: Cost,
}

/// An audit of so many sectors.
pub(crate) struct Audit {
    pub(crate) sectors: usize,
    /// Of a slot, all sectors.
    pub(crate) slot: Cost,
    /// Calls to read, of one sector.
    pub(crate) reads: f64,
    /// Bytes asked for by them.
    pub(crate) bytes: f64,
    /// Whether they went past the page cache.
    pub(crate) direct: bool,
}

/// Measures both.
pub(crate) fn measure(scratch: &Path, quick: bool) -> Result<Scaling> {
    let tables =
        TABLES.into_iter().map(|threads| tables_at_once(threads, if quick { 1 } else { 8 })).collect();
    let available = kibibytes("/proc/meminfo", "MemAvailable")? * 1024.0;
    let mut audits = Vec::new();
    for sectors in SECTORS {
        let needed = sectors as f64 * STATE_BYTES;
        if needed > available {
            eprintln!(
                "SKIPPED: audit of {sectors} sectors, which needs {needed:.0} of {available:.0} bytes available"
            );
            continue;
        }
        audits.push(audit(sectors, scratch, if quick { 2 } else { 5 })?);
    }
    Ok(Scaling { tables, audits })
}

fn tables_at_once(threads: usize, tables: usize) -> TablesAtOnce {
    eprintln!("{threads} tables at once");
    let (mut seeds, mut generators) = (seeds(), Vec::new());
    generators.resize_with(threads, TableGenerator::new);
    let mut make = |tables: usize| {
        std::thread::scope(|scope| {
            for generator in &mut generators {
                let seeds: Vec<_> = (0..tables).map(|_| seeds()).collect();
                scope.spawn(move || seeds.iter().for_each(|seed| generate(generator, seed)));
            }
        });
    };
    // The first tables get the memory.
    make(1);
    let (cost, ()) = cost(|| make(tables));
    TablesAtOnce { threads, cost: cost.divided_by(threads * tables) }
}

/// A farm whose plot is a sparse file.
struct SparseFarm {
    plot: PlotReader,
    states: Vec<Option<Arc<SectorState>>>,
}

impl SparseFarm {
    fn new(directory: &Path, number: usize, sectors: usize) -> Result<Self> {
        let path = directory.join(format!("plot-{number}.bin"));
        let size = SectorGeometry::new(PIECES_IN_SECTOR).sector_size() as u64 * sectors as u64;
        let file = File::create(&path)?;
        file.set_len(size)
            .with_context(|| format!("cannot make {} a sparse file of {size} bytes", path.display()))?;
        let key = PublicKey([number as u8; 32]);
        let mut metadata = synthetic_metadata();
        let buckets = SectorState::from_metadata(&key, &metadata).context("the sizes do not add up")?.buckets;
        let state = |index: usize| {
            metadata.sector_index = index as u16;
            Some(Arc::new(SectorState::new(&key, &metadata, buckets.clone())))
        };
        Ok(Self { plot: PlotReader::open(&path)?, states: (0..sectors).map(state).collect() })
    }

    fn audit(&self, challenge: &Blake3Hash) -> Result<()> {
        let outcome = audit_plot(&self.plot, self.plot.path(), &self.states, challenge, 1, None);
        if let Some(error) = outcome.errors.into_iter().next() {
            return Err(error.into());
        }
        ensure!(outcome.candidates.is_empty(), "the range lets no chunk win");
        Ok(())
    }
}

fn audit(sectors: usize, scratch: &Path, runs: usize) -> Result<Audit> {
    eprintln!("audit of {sectors} sectors");
    let directory = tempfile::tempdir_in(scratch)?;
    let farm = |number: usize| {
        let left = sectors - number * SECTORS_PER_FARM;
        SparseFarm::new(directory.path(), number, left.min(SECTORS_PER_FARM))
    };
    let farms = (0..sectors.div_ceil(SECTORS_PER_FARM)).map(farm).collect::<Result<Vec<_>>>()?;
    let slot = |challenge: &Blake3Hash| farms.iter().try_for_each(|farm| farm.audit(challenge));
    let mut slots = slots();
    let mut next = || slots.next().expect("there is no last slot");
    slot(&next())?;
    let (calls, bytes) = reads()?;
    let mut costs = Vec::with_capacity(runs);
    for _ in 0..runs {
        let challenge = next();
        let (cost, audited) = cost(|| slot(&challenge));
        audited?;
        costs.push(cost);
    }
    let (calls_after, bytes_after) = reads()?;
    let audited = (sectors * runs) as f64;
    Ok(Audit {
        sectors,
        slot: median(&costs),
        reads: (calls_after - calls) / audited,
        bytes: (bytes_after - bytes) / audited,
        direct: farms.iter().all(|farm| farm.plot.is_direct()),
    })
}

/// Calls to read by this process so far, and bytes they gave.
fn reads() -> Result<(f64, f64)> {
    let text = read_to_string("/proc/self/io").context("this kernel does not count reads")?;
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value
            .and_then(|value| value.trim().parse::<f64>().ok())
            .with_context(|| format!("/proc/self/io has no {key}"))
    };
    Ok((value("syscr:")?, value("rchar:")?))
}
