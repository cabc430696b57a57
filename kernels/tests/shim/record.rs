//! A whole record of the network's K.

use super::chunks::chunks;
use super::{SMALL_K, pos_seed};
use farming::encoding::{CpuRecordEncoder, RecordEncoder, RecordEncoderError};
use farming::sector::{Bitfield, Chunk};
use kernels::shim::ShimDevice;
use kernels::sizes::{RECORD_CHUNKS, S_BUCKETS};
use kernels::{DeviceRecordEncoder, KernelError, RecordPipeline, Sizes};
use primitives::pieces::Record;
use primitives::sectors::PosSeed;

type Chunks = Box<[Chunk; Record::NUM_CHUNKS]>;

fn boxed<const N: usize>(chunks: Vec<Chunk>) -> Box<[Chunk; N]> {
    chunks.into_boxed_slice().try_into().unwrap()
}

fn encoded(encoder: &mut dyn RecordEncoder, seed: &PosSeed, source: &Chunks) -> (Chunks, Box<Bitfield>) {
    let (mut chunks, mut contents) = (source.clone(), Box::new([0xff; S_BUCKETS / 8]));
    encoder.encode_record(seed, &mut chunks, &mut contents).unwrap();
    (chunks, contents)
}

#[test]
fn shim_record_of_the_network_is_encoded_to_the_bytes_of_the_cpu() {
    let seed = pos_seed("kernels/record");
    let source: Chunks = boxed(chunks("kernels/record", RECORD_CHUNKS));
    let (expected, expected_contents) = encoded(&mut CpuRecordEncoder::new(), &seed, &source);
    let mut encoder = DeviceRecordEncoder::new(ShimDevice::new(Sizes::NETWORK.k, 0)).unwrap();
    let (found, contents) = encoded(&mut encoder, &seed, &source);
    assert!(contents == expected_contents && found == expected);

    // The same memory again: erasure-coded already, and then a record that is refused.
    let seed = pos_seed("kernels/extended-record");
    let extended: Box<[Chunk; Record::NUM_S_BUCKETS]> = boxed(chunks("kernels/extended-record", S_BUCKETS));
    let both = [&mut encoder as &mut dyn RecordEncoder, &mut CpuRecordEncoder::new()].map(|encoder| {
        let (mut chunks, mut contents) = (source.clone(), Box::new([0; S_BUCKETS / 8]));
        encoder.encode_extended_record(&seed, &extended, &mut chunks, &mut contents).unwrap();
        (chunks, contents)
    });
    assert!(both[0] == both[1]);
}

#[test]
fn shim_encoder_refuses_what_is_no_scalar() {
    let mut source: Chunks = boxed(chunks("kernels/refused", RECORD_CHUNKS));
    source[5] = [0xff; 32];
    let mut encoder = DeviceRecordEncoder::new(ShimDevice::new(SMALL_K, 0)).unwrap();
    let error =
        encoder.encode_record(&pos_seed("refused"), &mut source, &mut [0; S_BUCKETS / 8]).unwrap_err();
    assert!(matches!(error, RecordEncoderError::NotAScalar(5)), "{error}");
}

#[test]
fn shim_pipeline_refuses_batches_without_room() {
    let batch = |room| RecordPipeline::new(ShimDevice::new(SMALL_K, 0), room);
    assert!(matches!(batch(0), Err(KernelError::BatchSize { room: 0, found: 0 })));
    let mut pipeline = batch(1).unwrap();
    for found in [0, 2] {
        let error = pipeline.begin(&vec![PosSeed([0; 32]); found]).unwrap_err();
        assert_eq!(error, KernelError::BatchSize { room: 1, found });
    }
}
