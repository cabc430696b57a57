//! A whole record of the network's K.

use super::chunks::chunks;
use super::{SMALL_K, pos_seed};
use farming::encoding::{CpuRecordEncoder, RecordEncoder, RecordEncoderError};
use farming::sector::{Bitfield, Chunk};
use kernels::check::{check, try_out};
use kernels::encoder::DeviceCounts;
use kernels::shim::ShimDevice;
use kernels::sizes::{RECORD_CHUNKS, S_BUCKETS};
use kernels::{DeviceEncoders, KernelError, RecordPipeline, Sizes};
use primitives::pieces::Record;
use primitives::sectors::PosSeed;
use std::time::Duration;

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
    let device = encoders(Sizes::NETWORK.k, &[1]);
    let mut encoder = device.encoder();
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
    let expected = DeviceCounts { encoded: 2, batches: 2, left_to_cpu: 0, failures: 0 };
    assert_eq!(device.counts(), expected);
    try_out(&device, "kernels/try-out").unwrap();
}

/// Small K makes other bytes than the CPU's, and a device that is lost makes none.
#[test]
fn shim_device_that_computes_wrongly_is_not_plotted_on() {
    let wrong = try_out(&encoders(SMALL_K, &[1]), "kernels/try-out");
    assert!(matches!(wrong, Err(KernelError::WrongBytes { .. })), "{wrong:?}");
    let lost = try_out(&encoders(12, &[1]), "kernels/try-out");
    assert!(matches!(lost, Err(KernelError::Launch { .. })), "{lost:?}");
}

/// Encoders of a shim with pipelines of so much room.
fn encoders(k: u32, rooms: &[usize]) -> DeviceEncoders {
    let pipeline = |room: &usize| RecordPipeline::new(ShimDevice::new(k, 0), *room).unwrap();
    DeviceEncoders::start(rooms.iter().map(pipeline).collect()).unwrap()
}

/// Small K makes other bytes than the network's, but the same in every batch.
#[test]
fn shim_batches_of_any_size_give_the_same_bytes_as_single_records() {
    let seeds: Vec<PosSeed> = (0..3).map(|index| pos_seed(&format!("kernels/batch/{index}"))).collect();
    let source: Chunks = boxed(chunks("kernels/batch", RECORD_CHUNKS));
    let single = encoders(SMALL_K, &[1]);
    let expected: Vec<_> = seeds.iter().map(|seed| encoded(&mut single.encoder(), seed, &source)).collect();
    let several = encoders(SMALL_K, &[2, 1]);
    assert_eq!(several.records_in_flight(), 3);
    let found: Vec<_> = std::thread::scope(|scope| {
        let spawn = |seed| {
            let (mut encoder, source) = (several.encoder(), &source);
            scope.spawn(move || encoded(&mut encoder, seed, source))
        };
        let threads: Vec<_> = seeds.iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found == expected);
    let counts = several.counts();
    assert_eq!((counts.encoded, counts.left_to_cpu), (3, 0));
    assert!((2..=3).contains(&counts.batches), "{counts:?}");
}

#[test]
fn shim_check_of_a_device_compares_and_times() {
    let mut pipeline = RecordPipeline::new(ShimDevice::new(Sizes::NETWORK.k, 0), 1).unwrap();
    let report = check(&mut pipeline, "kernels/check", Duration::ZERO).unwrap();
    assert_eq!((report.records_compared, report.records_different, report.records_left_to_cpu), (1, 0, 0));
    assert!(report.is_sound());
    assert!(
        report.steps.iter().all(|step| step.time > Duration::ZERO && step.time < Duration::from_secs(600))
    );
    // Small K makes other bytes than the CPU's: that is found.
    let mut pipeline = RecordPipeline::new(ShimDevice::new(SMALL_K, 0), 1).unwrap();
    let report = check(&mut pipeline, "kernels/check", Duration::ZERO).unwrap();
    assert_eq!((report.records_compared, report.records_different), (1, 1));
    assert!(!report.is_sound());
}

/// There are no kernels for this K: every batch fails, as it does on a device that is lost.
#[test]
fn shim_records_of_a_lost_device_are_encoded_on_the_cpu() {
    let seed = pos_seed("kernels/lost");
    let source: Chunks = boxed(chunks("kernels/lost", RECORD_CHUNKS));
    let expected = encoded(&mut CpuRecordEncoder::new(), &seed, &source);
    let lost = encoders(12, &[1]);
    for _ in 0..2 {
        assert!(encoded(&mut lost.encoder(), &seed, &source) == expected);
    }
    let expected = DeviceCounts { encoded: 0, batches: 0, left_to_cpu: 2, failures: 1 };
    assert_eq!(lost.counts(), expected);
}

#[test]
fn shim_encoder_refuses_what_is_no_scalar() {
    let mut source: Chunks = boxed(chunks("kernels/refused", RECORD_CHUNKS));
    source[5] = [0xff; 32];
    let device = encoders(SMALL_K, &[1]);
    let seed = pos_seed("refused");
    let error = device.encoder().encode_record(&seed, &mut source, &mut [0; S_BUCKETS / 8]).unwrap_err();
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
