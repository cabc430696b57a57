//! Making of a solution.

use super::ProofInput;
use crate::sector::{RecordContents, RecoverError, mask, record_polynomial};
use archiving::{Kzg, Scalar};
use parking_lot::Mutex;
use primitives::pieces::Record;
use primitives::{SBucket, ScalarBytes, Solution};
use proof_of_space::TableGenerator;

/// Why there is no solution.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The s-bucket is not the one that the slot audits in this sector.
    #[error("the slot audits s-bucket {}, not {}", expected.0, found.0)]
    NotAudited {
        /// The s-bucket that the challenge names.
        expected: SBucket,
        /// The s-bucket in the input.
        found: SBucket,
    },
    /// More encoded chunks than a record has chunks.
    #[error("the record's bitfield has more than {} bits set", Record::NUM_CHUNKS)]
    Contents,
    /// The record has no encoded chunk in the s-bucket, or it is elsewhere.
    #[error("the record has no encoded chunk in s-bucket {} at place {chunk_index}", s_bucket.0)]
    NoChunk {
        /// The s-bucket.
        s_bucket: SBucket,
        /// Place among the record's chunks.
        chunk_index: u16,
    },
    /// The record cannot be recovered: the plot is damaged, or was made with other tables.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The device failed.
    #[error("{device}: {source}")]
    Device {
        /// Name of the device.
        device: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes solutions; may be asked from several threads at once. All provers give the same solution.
pub trait Prover: Send + Sync {
    /// Makes the solution of one winning chunk: table, proof, recovery of the record, opening.
    ///
    /// The record is taken as it is: a damaged one gives a solution that does not verify.
    ///
    /// # Errors
    /// [`ProveError`].
    fn prove(&self, input: &ProofInput) -> Result<Solution, ProveError>;
}

/// Proves on the current rayon pool.
pub struct CpuProver {
    kzg: Kzg,
    /// Tables of proofs past, to be used again: their memory is large.
    generators: Mutex<Vec<TableGenerator>>,
}

impl CpuProver {
    /// Proves under this reference string.
    pub fn new(kzg: Kzg) -> Self {
        Self { kzg, generators: Mutex::new(Vec::new()) }
    }
}

/// What the input says of the winning chunk, checked: the record's contents and the masked chunk.
fn check(input: &ProofInput) -> Result<(RecordContents<'_>, &[u8; 32]), ProveError> {
    let challenge = input.sector_id().derive_sector_slot_challenge(&input.global_challenge);
    let expected = challenge.s_bucket_audit_index();
    if input.s_bucket != expected {
        return Err(ProveError::NotAudited { expected, found: input.s_bucket });
    }
    let contents = RecordContents::new(&input.contents).ok_or(ProveError::Contents)?;
    let place = contents.chunk_index(input.s_bucket);
    if !contents.is_encoded(input.s_bucket) || place != Some(usize::from(input.chunk_index)) {
        return Err(ProveError::NoChunk { s_bucket: input.s_bucket, chunk_index: input.chunk_index });
    }
    Ok((contents, &input.chunks[usize::from(input.chunk_index)]))
}

impl Prover for CpuProver {
    fn prove(&self, input: &ProofInput) -> Result<Solution, ProveError> {
        let (contents, masked) = check(input)?;
        let s_bucket = input.s_bucket;
        let seed = input.sector_id().derive_evaluation_seed(input.piece_offset);
        let mut generator = self.generators.lock().pop().unwrap_or_default();
        let table = generator.generate_parallel(&seed);
        let proof = table.find_proof(u32::from(s_bucket.0)).ok_or(RecoverError::NoProof(s_bucket));
        let polynomial = record_polynomial(&table, contents, &input.chunks);
        self.generators.lock().push(generator);
        let (proof, polynomial) = (proof?, polynomial?);
        let chunk = mask(masked, &proof.hash());
        if Scalar::from_bytes(&chunk).is_none() {
            return Err(RecoverError::NotAScalar(s_bucket).into());
        }
        let witness = self
            .kzg
            .witness(&polynomial, Record::NUM_S_BUCKETS, usize::from(s_bucket.0))
            .expect("an s-bucket is an index of the domain of 65,536");
        Ok(Solution {
            public_key: input.public_key,
            reward_address: input.reward_address,
            sector_index: input.sector_index,
            history_size: input.history_size,
            piece_offset: input.piece_offset,
            record_commitment: input.metadata.commitment,
            record_witness: input.metadata.witness,
            chunk: ScalarBytes(chunk),
            chunk_witness: witness.into(),
            proof_of_space: proof,
        })
    }
}
