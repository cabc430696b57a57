//! A device as an encoder of records.

use crate::pipeline::RecordForm;
use crate::sizes::{CHUNK_BYTES, RECORD_CHUNKS, S_BUCKETS};
use crate::{Device, KernelError, RecordPipeline, RecordStatus};
use farming::encoding::{CpuRecordEncoder, RecordEncoder, RecordEncoderError};
use farming::sector::{Bitfield, Chunk};
use primitives::pieces::Record;
use primitives::sectors::PosSeed;

/// Encodes on a device, one record at a time, and on the CPU what does not fit the kernels' buffers.
pub struct DeviceRecordEncoder<D: Device> {
    pipeline: RecordPipeline<D>,
    cpu: Option<CpuRecordEncoder>,
}

impl<D: Device> DeviceRecordEncoder<D> {
    /// Encodes on this device.
    ///
    /// # Errors
    /// When the device has not the memory of a record.
    pub fn new(device: D) -> Result<Self, KernelError> {
        Ok(Self { pipeline: RecordPipeline::new(device, 1)?, cpu: None })
    }

    fn failure(&self, source: KernelError) -> RecordEncoderError {
        RecordEncoderError::Device { device: self.pipeline.device().name(), source: Box::new(source) }
    }

    /// Encodes; false when the CPU has to.
    fn encode(
        &mut self,
        seed: &PosSeed,
        form: RecordForm,
        record: &[u8],
    ) -> Result<bool, RecordEncoderError> {
        let statuses = self.pipeline.encode(&[*seed], form, &[record]);
        match statuses.map_err(|error| self.failure(error))?.first() {
            Some(RecordStatus::Encoded { .. }) => Ok(true),
            Some(RecordStatus::NotAScalar(index)) => Err(RecordEncoderError::NotAScalar(*index)),
            Some(RecordStatus::Exceptional(flags)) => {
                let device = self.pipeline.device().name();
                tracing::warn!(
                    device,
                    flags,
                    "A record does not fit the kernels' buffers: the CPU encodes it"
                );
                Ok(false)
            }
            None => unreachable!("a status for each record"),
        }
    }

    fn fetch(
        &self,
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        let fetched = self.pipeline.stored(0, chunks.as_flattened_mut(), contents);
        fetched.map_err(|error| self.failure(error))
    }
}

impl<D: Device + Send> RecordEncoder for DeviceRecordEncoder<D>
where
    D::Buffer: Send,
{
    fn encode_record(
        &mut self,
        seed: &PosSeed,
        chunks: &mut [Chunk; Record::NUM_CHUNKS],
        contents: &mut Bitfield,
    ) -> Result<(), RecordEncoderError> {
        if self.encode(seed, RecordForm::Source, chunks.as_flattened())? {
            return self.fetch(chunks, contents);
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
        if self.encode(seed, RecordForm::Extended, extended.as_flattened())? {
            return self.fetch(chunks, contents);
        }
        self.cpu.get_or_insert_default().encode_extended_record(seed, extended, chunks, contents)
    }
}

const _: () = assert!(
    Record::NUM_CHUNKS == RECORD_CHUNKS
        && Record::NUM_S_BUCKETS == S_BUCKETS
        && size_of::<Chunk>() == CHUNK_BYTES
);
