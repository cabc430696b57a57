//! A device as encoders of records: workers with a pipeline each, a queue before them.
//!
//! A sector is encoded by many [`DeviceRecordEncoder`]s, a thread each, which hand their records in and wait. A worker takes what
//! is there, up to a batch, and runs it; a second one copies meanwhile. What a device cannot do, because a record does not
//! fit its buffers or because the device is lost, the waiting thread does on its CPU: nothing is half-written.

use crate::pipeline::RecordForm;
use crate::sizes::{CHUNK_BYTES, RECORD_CHUNKS, S_BUCKETS};
use crate::{Device, KernelError, RecordPipeline, RecordStatus};
use farming::encoding::{CpuRecordEncoder, RecordEncoder, RecordEncoderError};
use farming::sector::{Bitfield, Chunk};
use primitives::pieces::Record;
use primitives::sectors::PosSeed;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

/// A record that waits for a worker.
struct Job {
    seed: PosSeed,
    form: RecordForm,
    /// The record; chunks and contents of what is stored when it comes back.
    bytes: Vec<u8>,
    reply: mpsc::Sender<(Vec<u8>, Outcome)>,
}

/// What became of a record.
enum Outcome {
    Encoded,
    NotAScalar(usize),
    /// The CPU has to.
    NotHere,
}

/// What workers and encoders share.
struct Queue {
    jobs: Mutex<Jobs>,
    changed: Condvar,
    counters: Counters,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// Workers that still take jobs.
    workers: usize,
    closed: bool,
}

#[derive(Default)]
struct Counters {
    encoded: AtomicU64,
    batches: AtomicU64,
    left_to_cpu: AtomicU64,
    failures: AtomicU64,
}

/// What a device has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceCounts {
    /// Records that the device encoded.
    pub encoded: u64,
    /// Batches that they were in.
    pub batches: u64,
    /// Records that were left to the CPU.
    pub left_to_cpu: u64,
    /// Failures of the device; a worker that had one takes no more records.
    pub failures: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // Jobs are whole whenever the lock is free.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for jobs of one form, at most `room`; none when the queue is closed.
    fn take(&self, room: usize) -> Option<Vec<Job>> {
        let mut jobs = self.lock();
        loop {
            if let Some(form) = jobs.waiting.front().map(|job| job.form) {
                let same = jobs.waiting.iter().take(room).take_while(|job| job.form == form).count();
                return Some(jobs.waiting.drain(..same).collect());
            }
            if jobs.closed {
                return None;
            }
            jobs = self.changed.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a worker out; who waits for the last one is answered.
    fn leave(&self) {
        let mut jobs = self.lock();
        jobs.workers -= 1;
        if jobs.workers == 0 {
            // Their senders go with them.
            jobs.waiting.clear();
        }
    }
}

/// A device that encodes for any number of [`DeviceRecordEncoder`]s until it is dropped.
pub struct DeviceEncoders {
    name: String,
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    records_in_flight: usize,
}

impl DeviceEncoders {
    /// Starts a worker for each pipeline; all of them are of one device.
    ///
    /// # Errors
    /// [`KernelError::BatchSize`] without a pipeline, or when the system starts no thread.
    pub fn start<D>(pipelines: Vec<RecordPipeline<D>>) -> Result<Self, KernelError>
    where
        D: Device + Send + 'static,
        RecordPipeline<D>: Send,
    {
        let name = match pipelines.first() {
            Some(pipeline) => pipeline.device().name(),
            None => return Err(KernelError::BatchSize { room: 0, found: 0 }),
        };
        let jobs = Mutex::new(Jobs { workers: pipelines.len(), ..Jobs::default() });
        let queue = Arc::new(Queue { jobs, changed: Condvar::new(), counters: Counters::default() });
        let records_in_flight = pipelines.iter().map(RecordPipeline::room).sum();
        let mut encoders = Self { name, queue, workers: Vec::new(), records_in_flight };
        for pipeline in pipelines {
            let queue = Arc::clone(&encoders.queue);
            let thread = std::thread::Builder::new().name("device-encoder".into());
            let worker = thread.spawn(move || work(pipeline, &queue));
            encoders.workers.push(worker.map_err(|error| KernelError::Launch {
                device: encoders.name.clone(),
                message: format!("no thread for a worker: {error}"),
            })?);
        }
        Ok(encoders)
    }

    /// The device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records that the workers have at a time: as many encoders keep the device busy, twice as many the copies, too.
    pub fn records_in_flight(&self) -> usize {
        self.records_in_flight
    }

    /// An encoder of this device.
    pub fn encoder(&self) -> DeviceRecordEncoder {
        DeviceRecordEncoder {
            name: self.name.clone(),
            queue: Arc::clone(&self.queue),
            bytes: Vec::new(),
            cpu: None,
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> DeviceCounts {
        let Counters { encoded, batches, left_to_cpu, failures } = &self.queue.counters;
        let [encoded, batches, left_to_cpu, failures] =
            [encoded, batches, left_to_cpu, failures].map(|counter| counter.load(Ordering::Relaxed));
        DeviceCounts { encoded, batches, left_to_cpu, failures }
    }
}

impl Drop for DeviceEncoders {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has left the queue.
            let _ = worker.join();
        }
    }
}

/// Leaves the queue, however the worker ends.
struct Leaving<'a>(&'a Queue);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

fn work<D: Device>(mut pipeline: RecordPipeline<D>, queue: &Queue) {
    let _leaving = Leaving(queue);
    while let Some(jobs) = queue.take(pipeline.room()) {
        let seeds: Vec<PosSeed> = jobs.iter().map(|job| job.seed).collect();
        let records: Vec<&[u8]> = jobs.iter().map(|job| job.bytes.as_slice()).collect();
        let statuses = pipeline.encode(&seeds, jobs[0].form, &records);
        match statuses {
            Ok(statuses) => {
                queue.counters.batches.fetch_add(1, Ordering::Relaxed);
                for (index, (job, status)) in jobs.into_iter().zip(statuses).enumerate() {
                    answer(&pipeline, index, job, status, &queue.counters);
                }
            }
            Err(error) => {
                tracing::error!(%error, "A device failed: this worker takes no more records, the CPU encodes these");
                queue.counters.failures.fetch_add(1, Ordering::Relaxed);
                for job in jobs {
                    // Who no longer waits needs no answer.
                    let _ = job.reply.send((job.bytes, Outcome::NotHere));
                }
                return;
            }
        }
    }
}

fn answer<D: Device>(
    pipeline: &RecordPipeline<D>,
    index: usize,
    job: Job,
    status: RecordStatus,
    counters: &Counters,
) {
    let Job { mut bytes, reply, .. } = job;
    let outcome = match status {
        RecordStatus::Encoded { .. } => {
            let (chunks, contents) = pipeline.stored(index);
            bytes.clear();
            bytes.extend_from_slice(chunks);
            bytes.extend_from_slice(contents);
            counters.encoded.fetch_add(1, Ordering::Relaxed);
            Outcome::Encoded
        }
        RecordStatus::NotAScalar(chunk) => Outcome::NotAScalar(chunk),
        RecordStatus::Exceptional(flags) => {
            let device = pipeline.device().name();
            tracing::warn!(device, flags, "A record does not fit the kernels' buffers: the CPU encodes it");
            Outcome::NotHere
        }
    };
    // As above.
    let _ = reply.send((bytes, outcome));
}

/// Chunks and contents bitfield of what is stored of a record.
type Stored<'a> = (&'a [u8], &'a [u8]);

/// Encodes on a device, and on the calling thread what the device does not.
pub struct DeviceRecordEncoder {
    name: String,
    queue: Arc<Queue>,
    /// Goes to the worker and comes back.
    bytes: Vec<u8>,
    cpu: Option<CpuRecordEncoder>,
}

impl DeviceRecordEncoder {
    /// Hands a record in and waits for it.
    fn submit(&mut self, seed: &PosSeed, form: RecordForm, record: &[u8]) -> Outcome {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.extend_from_slice(record);
        let (reply, answer) = mpsc::channel();
        {
            let mut jobs = self.queue.lock();
            if jobs.workers == 0 {
                return Outcome::NotHere;
            }
            jobs.waiting.push_back(Job { seed: *seed, form, bytes, reply });
        }
        self.queue.changed.notify_one();
        // Without an answer the last worker is gone.
        let Ok((bytes, outcome)) = answer.recv() else { return Outcome::NotHere };
        self.bytes = bytes;
        outcome
    }

    fn encode(
        &mut self,
        seed: &PosSeed,
        form: RecordForm,
        record: &[u8],
    ) -> Result<Option<Stored<'_>>, RecordEncoderError> {
        match self.submit(seed, form, record) {
            Outcome::Encoded => Ok(Some(self.bytes.split_at(RECORD_CHUNKS * CHUNK_BYTES))),
            Outcome::NotAScalar(chunk) => Err(RecordEncoderError::NotAScalar(chunk)),
            Outcome::NotHere => {
                self.queue.counters.left_to_cpu.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(device = self.name, "A record is encoded on the CPU");
                Ok(None)
            }
        }
    }
}

impl RecordEncoder for DeviceRecordEncoder {
    fn encode_record(
        &mut self,
        seed: &PosSeed,
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        if let Some((stored, bits)) = self.encode(seed, RecordForm::Source, chunks.as_flattened())? {
            chunks.as_flattened_mut().copy_from_slice(stored);
            contents.copy_from_slice(bits);
            return Ok(());
        }
        self.cpu.get_or_insert_default().encode_record(seed, chunks, contents)
    }

    fn encode_extended_record(
        &mut self,
        seed: &PosSeed,
        extended: &[Chunk; Record::NUM_S_BUCKETS],
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        if let Some((stored, bits)) = self.encode(seed, RecordForm::Extended, extended.as_flattened())? {
            chunks.as_flattened_mut().copy_from_slice(stored);
            contents.copy_from_slice(bits);
            return Ok(());
        }
        self.cpu.get_or_insert_default().encode_extended_record(seed, extended, chunks, contents)
    }
}

const _: () = assert!(
    Record::NUM_CHUNKS == RECORD_CHUNKS
        && Record::NUM_S_BUCKETS == S_BUCKETS
        && size_of::<Chunk>() == CHUNK_BYTES
);
