//! A check and a measurement of a device, as one report: every step against the CPU, and how long it takes.
//!
//! Steps are started and waited for one by one, so their times contain a launch each; the record's is that of a batch as
//! plotting runs it.

use crate::pipeline::RecordForm;
use crate::sizes::RECORD_CHUNKS;
use crate::{Device, DeviceEncoders, KernelError, RecordPipeline, RecordStatus, Sizes};
use archiving::Scalar;
use farming::encoding::{CpuRecordEncoder, RecordEncoder};
use farming::sector::{Bitfield, Chunk};
use primitives::pieces::Record;
use primitives::sectors::PosSeed;
use std::time::{Duration, Instant};

/// Operations of the integer lanes in a BLAKE3 compression of one short block, counted in compiled code (docs/book/gpu.md).
const OPERATIONS_PER_COMPRESSION: f64 = 490.0;

/// A step and its time for a whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepTime {
    /// The step.
    pub step: &'static str,
    /// The least of all batches.
    pub time: Duration,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The device.
    pub device: String,
    /// Records of a batch.
    pub batch_records: usize,
    /// Records whose bytes were compared with the CPU's.
    pub records_compared: u64,
    /// Of them, those that differ.
    pub records_different: u64,
    /// Records that the kernels left to the CPU.
    pub records_left_to_cpu: u64,
    /// Times of the steps for a batch.
    pub steps: Vec<StepTime>,
    /// Time of a batch from the host's memory and back.
    pub batch_time: Duration,
}

/// Random records: seeds and chunks that are scalars.
struct Random {
    state: blake3::OutputReader,
}

impl Random {
    fn new(label: &str) -> Self {
        Self { state: blake3::Hasher::new().update(label.as_bytes()).finalize_xof() }
    }

    fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.state.fill(&mut bytes);
        bytes
    }

    fn record(&mut self) -> (PosSeed, Vec<Chunk>) {
        let seed = PosSeed(self.bytes());
        let chunk = |random: &mut Self| Scalar::from_bytes_reduced(&random.bytes()).to_bytes();
        (seed, (0..RECORD_CHUNKS).map(|_| chunk(self)).collect())
    }
}

/// Encodes random records, one batch at least and new ones until `duration` is over, and compares them with the CPU's.
///
/// # Errors
/// The device's failure.
pub fn check<D: Device>(
    pipeline: &mut RecordPipeline<D>,
    label: &str,
    duration: Duration,
) -> Result<Report, KernelError> {
    let mut report = Report {
        device: pipeline.device().name(),
        batch_records: pipeline.room(),
        records_compared: 0,
        records_different: 0,
        records_left_to_cpu: 0,
        steps: time_steps(pipeline, label)?,
        batch_time: Duration::MAX,
    };
    let (mut random, mut cpu) = (Random::new(label), CpuRecordEncoder::new());
    let begun = Instant::now();
    loop {
        let records: Vec<_> = (0..pipeline.room()).map(|_| random.record()).collect();
        let seeds: Vec<PosSeed> = records.iter().map(|(seed, _)| *seed).collect();
        let bytes: Vec<&[u8]> = records.iter().map(|(_, chunks)| chunks.as_flattened()).collect();
        let started = Instant::now();
        let statuses = pipeline.encode(&seeds, RecordForm::Source, &bytes)?;
        report.batch_time = report.batch_time.min(started.elapsed());
        for (index, ((seed, chunks), status)) in records.into_iter().zip(statuses).enumerate() {
            if !matches!(status, RecordStatus::Encoded { .. }) {
                report.records_left_to_cpu += 1;
                continue;
            }
            report.records_compared += 1;
            let same = is_the_cpus(&mut cpu, &seed, chunks, pipeline.stored(index));
            report.records_different += u64::from(!same);
        }
        if begun.elapsed() >= duration {
            return Ok(report);
        }
    }
}

/// Encodes a random record on a device and compares it with the CPU's, before anything is stored of what that device makes: a
/// farm full of wrong sectors is found only when it earns nothing.
///
/// # Errors
/// [`KernelError::WrongBytes`], or [`KernelError::Launch`] when the device encoded nothing.
pub fn try_out(encoders: &DeviceEncoders, label: &str) -> Result<(), KernelError> {
    let (seed, mut chunks) = Random::new(label).record();
    let source = chunks.clone();
    let array: &mut [Chunk; Record::NUM_CHUNKS] =
        chunks.as_mut_slice().try_into().expect("a record has 2^15 chunks");
    let mut contents: Box<Bitfield> = Box::new([0; Record::NUM_S_BUCKETS / 8]);
    encoders.encoder().encode_record(&seed, array, &mut contents).expect("random chunks are scalars");
    let device = encoders.name().to_owned();
    if encoders.counts().encoded == 0 {
        let message = "the record that it was tried with was left to the CPU".to_owned();
        return Err(KernelError::Launch { device, message });
    }
    let stored = (chunks.as_flattened(), contents.as_slice());
    match is_the_cpus(&mut CpuRecordEncoder::new(), &seed, source, stored) {
        true => Ok(()),
        false => Err(KernelError::WrongBytes { device }),
    }
}

/// Whether the CPU encodes the record to the same bytes.
fn is_the_cpus(
    cpu: &mut CpuRecordEncoder,
    seed: &PosSeed,
    mut chunks: Vec<Chunk>,
    (stored, bits): (&[u8], &[u8]),
) -> bool {
    let mut contents: Box<Bitfield> = Box::new([0; Record::NUM_S_BUCKETS / 8]);
    let array: &mut [Chunk; Record::NUM_CHUNKS] =
        chunks.as_mut_slice().try_into().expect("a record has 2^15 chunks");
    cpu.encode_record(seed, array, &mut contents).expect("random chunks are scalars");
    stored == chunks.as_flattened() && bits == contents.as_slice()
}

/// Batches whose steps are timed; the first one warms up.
const TIMED: usize = 2;

fn time_steps<D: Device>(
    pipeline: &mut RecordPipeline<D>,
    label: &str,
) -> Result<Vec<StepTime>, KernelError> {
    let mut random = Random::new(&format!("{label}/steps"));
    let records: Vec<_> = (0..pipeline.room()).map(|_| random.record()).collect();
    let seeds: Vec<PosSeed> = records.iter().map(|(seed, _)| *seed).collect();
    let bytes: Vec<&[u8]> = records.iter().map(|(_, chunks)| chunks.as_flattened()).collect();
    type Step<D> = (&'static str, fn(&RecordPipeline<D>) -> Result<(), KernelError>);
    let steps: [Step<D>; 11] = [
        ("table 1", |pipeline| pipeline.make_table(1)),
        ("table 2", |pipeline| pipeline.make_table(2)),
        ("table 3", |pipeline| pipeline.make_table(3)),
        ("table 4", |pipeline| pipeline.make_table(4)),
        ("table 5", |pipeline| pipeline.make_table(5)),
        ("table 6", |pipeline| pipeline.make_table(6)),
        ("table 7", |pipeline| pipeline.make_table(7)),
        ("canonical order and search", RecordPipeline::find_proofs),
        ("proofs and their hashes", RecordPipeline::hash_proofs),
        ("erasure extension", RecordPipeline::extend),
        ("encoding", |pipeline| pipeline.encode_chunks(RecordForm::Source)),
    ];
    let mut times = steps.map(|(step, _)| StepTime { step, time: Duration::MAX });
    for _ in 0..TIMED {
        pipeline.begin(&seeds)?;
        pipeline.upload_records(RecordForm::Source, &bytes)?;
        for ((_, run), best) in steps.iter().zip(&mut times) {
            let started = Instant::now();
            run(pipeline)?;
            pipeline.device().synchronize()?;
            best.time = best.time.min(started.elapsed());
        }
    }
    Ok(times.into())
}

impl Report {
    /// Whether every record was encoded to the CPU's bytes.
    pub fn is_sound(&self) -> bool {
        self.records_different == 0 && self.records_compared > 0
    }

    /// BLAKE3 compressions a second in the matching kernels together, matching included.
    pub fn compressions_per_second(&self) -> f64 {
        let tables =
            self.steps.iter().filter(|step| step.step.starts_with("table ") && step.step != "table 1");
        let seconds: f64 = tables.map(|step| step.time.as_secs_f64()).sum();
        6.0 * Sizes::NETWORK.x_values() as f64 * self.batch_records as f64 / seconds
    }

    /// Seconds for 1,000 records at the speed of a single batch in flight.
    pub fn sector_seconds(&self) -> f64 {
        self.batch_time.as_secs_f64() / self.batch_records as f64 * 1000.0
    }

    /// The least time for the BLAKE3 compressions of one of tables 2 to 7, on a device of so many operations a second.
    pub fn table_floor(&self, operations_per_second: f64) -> Duration {
        let compressions = (Sizes::NETWORK.x_values() * self.batch_records) as f64;
        Duration::from_secs_f64(compressions * OPERATIONS_PER_COMPRESSION / operations_per_second)
    }
}
