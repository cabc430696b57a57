use ::vectors::{Hex, load, xof};
use archiving::archiver::extend_commitments;
use archiving::{Commitment, Kzg, Scalar, Witness, erasure};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    set: String,
    generator: String,
    commitment_extension: CommitmentExtension,
    erasure_onehot: Vec<OneHot>,
    erasure_record: Record,
    erasure_small: Vec<Small>,
    kzg_record: KzgRecord,
    kzg_small: Vec<KzgSmall>,
    record_recovery: RecordRecovery,
    scalar_validity: Vec<Validity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitmentExtension {
    extended_interleaved: Vec<Hex>,
    labels: Vec<String>,
    source: Vec<Hex>,
    values_per_commitment: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneHot {
    index: usize,
    n: usize,
    parity: Vec<Hex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    input_bytes: String,
    label: String,
    n: usize,
    parity_concat32_blake3: Hex,
    parity_samples: Vec<(usize, Hex)>,
    source_concat32_blake3: Hex,
    source_samples: Vec<(usize, Hex)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Small {
    label: String,
    n: usize,
    parity: Vec<Hex>,
    recover: Vec<Recover>,
    source: Vec<Hex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recover {
    name: String,
    present_positions: Vec<usize>,
    recovered_equals_interleaved: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KzgRecord {
    commitment: Hex,
    constant_one_commitment: Hex,
    domain: usize,
    label: String,
    num_values: usize,
    witnesses: Vec<Opening>,
    zero_record_commitment: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    index: usize,
    value: Hex,
    witness: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KzgSmall {
    commitment: Hex,
    domain: usize,
    label: String,
    num_values: usize,
    values: Option<Vec<Hex>>,
    witnesses: Vec<Opening>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordRecovery {
    mask_label: String,
    present_bitmap_blake3: Hex,
    recovers_source: bool,
    rule: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Validity {
    bytes: Hex,
    valid: bool,
}

fn scalars_of(label: &str, count: usize) -> Vec<Scalar> {
    let bytes = xof(label, 31 * count);
    bytes.as_chunks().0.iter().map(Scalar::from_safe_bytes).collect()
}

fn bytes_of(scalars: &[Scalar]) -> Vec<[u8; 32]> {
    scalars.iter().map(|scalar| scalar.to_bytes()).collect()
}

fn arrays<const N: usize>(hex: &[Hex]) -> Vec<[u8; N]> {
    hex.iter().map(Hex::array).collect()
}

fn hash_of(scalars: &[Scalar]) -> [u8; 32] {
    *blake3::hash(bytes_of(scalars).as_flattened()).as_bytes()
}

fn interleave(source: &[Scalar], parity: &[Scalar]) -> Vec<Scalar> {
    source.iter().zip(parity).flat_map(|(source, parity)| [*source, *parity]).collect()
}

fn keep(shards: &[Scalar], present: impl Fn(usize) -> bool) -> Vec<Option<Scalar>> {
    shards.iter().enumerate().map(|(index, shard)| present(index).then_some(*shard)).collect()
}

fn check_erasure(file: &File) {
    assert!(!file.erasure_small.is_empty() && !file.erasure_onehot.is_empty());
    for Small { label, n, parity, recover, source } in &file.erasure_small {
        let scalars = scalars_of(label, *n);
        assert_eq!(bytes_of(&scalars), arrays(source), "{label}");
        let extended = erasure::extend(&scalars).unwrap();
        assert_eq!(bytes_of(&extended), arrays(parity), "{label}");
        let shards = interleave(&scalars, &extended);
        for Recover { name, present_positions, recovered_equals_interleaved } in recover {
            let present = keep(&shards, |index| present_positions.contains(&index));
            let recovered = erasure::recover(&present).unwrap();
            assert_eq!(recovered == shards, *recovered_equals_interleaved, "{label} {name}");
            let polynomial = erasure::recover_polynomial(&present).unwrap();
            assert_eq!(polynomial, archiving::Polynomial::interpolate(&scalars).unwrap(), "{label} {name}");
        }
    }
    for OneHot { index, n, parity } in &file.erasure_onehot {
        let mut source = vec![Scalar::ZERO; *n];
        source[*index] = Scalar::ONE;
        assert_eq!(bytes_of(&erasure::extend(&source).unwrap()), arrays(parity), "{n} {index}");
    }
}

fn check_record(file: &File) -> (Vec<Scalar>, Vec<Scalar>) {
    let record = &file.erasure_record;
    assert_eq!(record.input_bytes, "xof(label, 32768*31), 31-byte big-endian groups");
    let source = scalars_of(&record.label, record.n);
    let parity = erasure::extend(&source).unwrap();
    assert_eq!(hash_of(&source), record.source_concat32_blake3.array());
    assert_eq!(hash_of(&parity), record.parity_concat32_blake3.array());
    for (samples, scalars) in [(&record.source_samples, &source), (&record.parity_samples, &parity)] {
        for (index, bytes) in samples {
            assert_eq!(scalars[*index].to_bytes(), bytes.array(), "{index}");
        }
    }
    (source, parity)
}

fn check_recovery(recovery: &RecordRecovery, source: &[Scalar], parity: &[Scalar]) {
    assert_eq!(
        recovery.rule,
        "m = xof(label,65536); sort positions by (m[i], i); first 32768 positions are present in the interleaved \
         65536 shards (source 2i, parity 2i+1)"
    );
    let shards = interleave(source, parity);
    let mask = xof(&recovery.mask_label, shards.len());
    let mut positions: Vec<usize> = (0..shards.len()).collect();
    positions.sort_by_key(|position| (mask[*position], *position));
    let mut present = vec![false; shards.len()];
    positions[..source.len()].iter().for_each(|position| present[*position] = true);
    // One byte a position, or one bit: the file does not say; one of the usual forms has to match.
    let bytes: Vec<u8> = present.iter().map(|present| u8::from(*present)).collect();
    let bits = |most_first: bool| -> Vec<u8> {
        let byte = |bits: &[bool; 8]| {
            let bit = |(index, present): (usize, &bool)| {
                u8::from(*present) << if most_first { 7 - index } else { index }
            };
            bits.iter().enumerate().map(bit).sum()
        };
        present.as_chunks().0.iter().map(byte).collect()
    };
    let hashes = [bytes, bits(false), bits(true)].map(|bitmap| *blake3::hash(&bitmap).as_bytes());
    assert!(hashes.contains(&recovery.present_bitmap_blake3.array()));
    let recovered = erasure::recover(&keep(&shards, |index| present[index])).unwrap();
    assert_eq!(recovered == shards, recovery.recovers_source);
}

fn check_openings(kzg: &Kzg, values: &[Scalar], domain: usize, commitment: &Hex, openings: &[Opening]) {
    let polynomial = kzg.polynomial(values).unwrap();
    let committed = kzg.commit(&polynomial);
    assert_eq!(committed.to_bytes(), commitment.array());
    assert_eq!(Commitment::from_bytes_strict(&commitment.array()).unwrap(), committed);
    let shards = match domain / values.len() {
        1 => values.to_vec(),
        _ => interleave(values, &erasure::extend(values).unwrap()),
    };
    assert!(!openings.is_empty());
    for Opening { index, value, witness } in openings {
        let scalar = Scalar::from_bytes(&value.array()).unwrap();
        assert_eq!(shards[*index], scalar);
        let opened = kzg.witness(&polynomial, domain, *index).unwrap();
        assert_eq!(opened.to_bytes(), witness.array(), "{domain} {index}");
        assert_eq!(Witness::from_bytes_strict(&witness.array()).unwrap(), opened);
        assert!(kzg.verify(&committed, domain, *index, scalar, &opened));
        assert!(!kzg.verify(&committed, domain, *index, scalar + Scalar::ONE, &opened));
        // A polynomial of one coefficient has the same value and the same witness everywhere.
        let elsewhere = kzg.verify(&committed, domain.max(2), (*index + 1) % domain.max(2), scalar, &opened);
        assert_eq!(elsewhere, values.len() == 1);
    }
}

fn check(kzg: &Kzg, name: &str, set: &str) {
    let file: File = load(name);
    assert_eq!(file.set, set);
    assert_eq!(
        file.generator,
        "xof(label,len) = BLAKE3(label as UTF-8).finalize_xof() first len bytes; scalar i = bytes[31*i..31*i+31] \
         prefixed by one zero byte, big-endian"
    );
    check_erasure(&file);
    let (source, parity) = check_record(&file);
    check_recovery(&file.record_recovery, &source, &parity);
    assert!(!file.scalar_validity.is_empty() && !file.kzg_small.is_empty());
    for Validity { bytes, valid } in &file.scalar_validity {
        assert_eq!(Scalar::from_bytes(&bytes.array()).is_some(), *valid);
    }
    for KzgSmall { commitment, domain, label, num_values, values, witnesses } in &file.kzg_small {
        let scalars = scalars_of(label, *num_values);
        if let Some(values) = values {
            assert_eq!(bytes_of(&scalars), arrays(values), "{label}");
        }
        check_openings(kzg, &scalars, *domain, commitment, witnesses);
    }
    let record = &file.kzg_record;
    let values = scalars_of(&record.label, record.num_values);
    assert_eq!(values, source);
    check_openings(kzg, &values, record.domain, &record.commitment, &record.witnesses);
    for (value, expected) in
        [(Scalar::ONE, &record.constant_one_commitment), (Scalar::ZERO, &record.zero_record_commitment)]
    {
        let polynomial = kzg.polynomial(&vec![value; record.num_values]).unwrap();
        assert_eq!(kzg.commit(&polynomial).to_bytes(), expected.array());
    }
    let CommitmentExtension { extended_interleaved, labels, source, values_per_commitment } =
        &file.commitment_extension;
    let commitments: Vec<Commitment> = labels
        .iter()
        .map(|label| kzg.commit(&kzg.polynomial(&scalars_of(label, *values_per_commitment)).unwrap()))
        .collect();
    let bytes =
        |commitments: &[Commitment]| commitments.iter().map(|point| point.to_bytes()).collect::<Vec<_>>();
    assert_eq!(bytes(&commitments), arrays(source));
    assert_eq!(bytes(&extend_commitments(&commitments).unwrap()), arrays(extended_interleaved));
}

#[test]
fn vectors_dev_erasure_kzg() {
    check(&super::development(), "dev/erasure_kzg.json", "dev-public");
}

#[test]
fn vectors_live_erasure_kzg() {
    let Some(kzg) = super::live("vectors_live_erasure_kzg") else { return };
    check(&kzg, "erasure_kzg.json", "shared");
}
