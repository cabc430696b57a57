//! Erasure extension and encoding of chunks.

use super::{SCHEDULES, pos_seed, small};
use archiving::{Scalar, erasure};
use farming::encoding::encode_chunks;
use kernels::RecordStatus;
use kernels::pipeline::RecordForm;
use kernels::sizes::{RECORD_CHUNKS, S_BUCKETS};
use primitives::pieces::Record;
use primitives::{Blake3Hash, SBucket};

/// Chunks that are scalars, the largest and the smallest among them.
pub(crate) fn chunks(label: &str, count: usize) -> Vec<[u8; 32]> {
    let bytes = vectors::xof(label, 32 * count);
    let mut chunks: Vec<[u8; 32]> =
        bytes.as_chunks::<32>().0.iter().map(|bytes| Scalar::from_bytes_reduced(bytes).to_bytes()).collect();
    chunks[1] = (-Scalar::ONE).to_bytes();
    chunks[2] = [0; 32];
    chunks
}

#[test]
fn shim_extension_is_the_erasure_coding_of_the_cpu() {
    let mut records =
        [chunks("kernels/extension/0", RECORD_CHUNKS), chunks("kernels/extension/1", RECORD_CHUNKS)];
    // The largest scalar everywhere makes the largest sums.
    records[1][..RECORD_CHUNKS / 2].fill((-Scalar::ONE).to_bytes());
    let seeds = [pos_seed("kernels/extension"); 2];
    for schedule in SCHEDULES {
        let mut pipeline = small(schedule, 2);
        pipeline.begin(&seeds).unwrap();
        let bytes = [records[0].as_flattened(), records[1].as_flattened()];
        pipeline.upload_records(RecordForm::Source, &bytes).unwrap();
        pipeline.extend().unwrap();
        for (index, record) in records.iter().enumerate() {
            let source: Vec<Scalar> = record.iter().map(|chunk| Scalar::from_bytes(chunk).unwrap()).collect();
            let parity: Vec<[u8; 32]> =
                erasure::extend(&source).unwrap().into_iter().map(Scalar::to_bytes).collect();
            assert!(pipeline.parity(index).unwrap() == parity, "record {index}, schedule {schedule}");
        }
        let statuses = pipeline.statuses().unwrap();
        assert!(statuses.iter().all(|status| *status == RecordStatus::Encoded { proofs: 0 }));
    }
}

#[test]
fn shim_extension_names_the_first_chunk_that_is_no_scalar() {
    let mut record = chunks("kernels/no-scalar", RECORD_CHUNKS);
    let order = primitives::scalars::SCALAR_FIELD_ORDER;
    (record[30_000], record[7_003], record[7_004]) = ([0xff; 32], order, order);
    let mut pipeline = small(1, 1);
    pipeline.begin(&[pos_seed("kernels/no-scalar")]).unwrap();
    pipeline.upload_records(RecordForm::Source, &[record.as_flattened()]).unwrap();
    pipeline.extend().unwrap();
    assert_eq!(pipeline.statuses().unwrap(), [RecordStatus::NotAScalar(7_003)]);
}

/// Encodes with hashes for these s-buckets, and compares with what the CPU makes of them.
fn check_encoding(label: &str, s_buckets: &[u16]) {
    let extended = chunks(label, S_BUCKETS);
    let hashes = vectors::xof(&format!("{label}/hashes"), 32 * s_buckets.len());
    let hashes = hashes.as_chunks::<32>().0;
    let mut contents = vec![0; S_BUCKETS / 8];
    s_buckets.iter().for_each(|s| contents[usize::from(s / 8)] |= 1 << (s % 8));

    let mut expected = vec![[0; 32]; RECORD_CHUNKS];
    let mut expected_contents = [0; S_BUCKETS / 8];
    let array: &mut [[u8; 32]; Record::NUM_CHUNKS] = expected.as_mut_slice().try_into().unwrap();
    encode_chunks(extended.as_slice().try_into().unwrap(), array, &mut expected_contents, |visit| {
        let found = s_buckets.iter().zip(hashes);
        found.into_iter().try_for_each(|(s, hash)| visit(SBucket(*s), &Blake3Hash(*hash))).is_break();
    });

    let mut pipeline = small(1, 1);
    pipeline.begin(&[pos_seed(label)]).unwrap();
    for form in [RecordForm::Extended, RecordForm::Source] {
        let mut record = extended.clone();
        if form == RecordForm::Source {
            // Its parity chunks are those of the extension, not those above.
            record = record.into_iter().step_by(2).collect();
        }
        pipeline.upload_records(form, &[record.as_flattened()]).unwrap();
        pipeline.set_hashes(0, &contents, hashes).unwrap();
        pipeline.encode_chunks(form).unwrap();
        let (found, found_contents) = pipeline.stored_chunks(0).unwrap();
        assert_eq!(found_contents, expected_contents);
        if form == RecordForm::Extended {
            assert!(found == expected, "{label}");
        }
        assert_eq!(pipeline.statuses().unwrap(), [RecordStatus::Encoded { proofs: s_buckets.len() as u32 }]);
    }
}

#[test]
fn shim_encoding_is_that_of_the_cpu_however_few_the_proofs_are() {
    check_encoding("kernels/encoding/none", &[]);
    check_encoding("kernels/encoding/last", &[u16::MAX]);
    let some: Vec<u16> = (0..=u16::MAX).filter(|s| s % 7 < 3).collect();
    check_encoding("kernels/encoding/some", &some);
    // Just enough, the last of them at the end.
    let enough: Vec<u16> = (0..32_767).chain([u16::MAX]).collect();
    check_encoding("kernels/encoding/enough", &enough);
}

#[test]
fn shim_a_chunk_that_is_masked_to_zero_is_left_to_the_cpu() {
    let label = "kernels/zero";
    let extended = chunks(label, S_BUCKETS);
    let mut pipeline = small(0, 1);
    pipeline.begin(&[pos_seed(label)]).unwrap();
    pipeline.upload_records(RecordForm::Extended, &[extended.as_flattened()]).unwrap();
    let mut contents = vec![0; S_BUCKETS / 8];
    contents[2] = 0b0100_0000;
    pipeline.set_hashes(0, &contents, &[extended[22]]).unwrap();
    pipeline.encode_chunks(RecordForm::Extended).unwrap();
    assert_eq!(pipeline.statuses().unwrap(), [RecordStatus::Exceptional(32)]);
}
