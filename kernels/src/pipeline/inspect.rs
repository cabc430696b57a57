//! Intermediate values, as they lie on the device.

use super::{RecordPipeline, table_place};
use crate::sizes::{BUCKET_CAPACITY, ENTRY_BYTES, RECORD_CHUNKS, S_BUCKETS, STATUS_BYTES};
use crate::{Device, KernelError};

/// An entry of a table: words `high`, `low`, `rest` and `link` of `cuda/parameters.cuh`.
pub type Entry = [u32; 4];

/// An s-bucket with its proof and the proof's hash.
pub type Proof = (u16, Vec<u8>, [u8; 32]);

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

fn bytes_of(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

impl<D: Device> RecordPipeline<D> {
    /// The entries of a table of a record, bucket by bucket.
    ///
    /// # Errors
    /// The device's failure.
    pub fn table(&self, table: usize, record: usize) -> Result<Vec<Vec<Entry>>, KernelError> {
        let buckets = self.sizes.buckets();
        let mut lengths = vec![0; 4 * buckets];
        let offset = self.lengths_offset(table) + record * 4 * buckets;
        self.device.download(&self.buffers.lengths, offset, &mut lengths)?;
        let mut entries = vec![0; self.sizes.slots() * ENTRY_BYTES];
        let buffer = &self.buffers.tables[table_place(table)];
        self.device.download(buffer, record * entries.len(), &mut entries)?;
        let bucket_bytes = BUCKET_CAPACITY * ENTRY_BYTES;
        let buckets = entries.chunks_exact(bucket_bytes).zip(words(&lengths));
        Ok(buckets
            .map(|(bytes, length)| {
                let words: Vec<u32> = words(bytes).take(4 * length as usize).collect();
                words.as_chunks::<4>().0.to_vec()
            })
            .collect())
    }

    /// Replaces a table of a record.
    ///
    /// # Errors
    /// The device's failure.
    pub fn set_table(
        &mut self,
        table: usize,
        record: usize,
        buckets: &[Vec<Entry>],
    ) -> Result<(), KernelError> {
        let bytes = self.sizes.slots() * ENTRY_BYTES;
        let lengths = bytes_of(buckets.iter().map(|bucket| bucket.len() as u32));
        let offset = self.lengths_offset(table) + record * lengths.len();
        self.device.upload(&self.buffers.lengths, offset, &lengths)?;
        for (index, bucket) in buckets.iter().enumerate() {
            let offset = record * bytes + index * BUCKET_CAPACITY * ENTRY_BYTES;
            let entries = bytes_of(bucket.iter().flatten().copied());
            self.device.upload(&self.buffers.tables[table_place(table)], offset, &entries)?;
        }
        Ok(())
    }

    /// Those entries of table 7 that answer an s-bucket: y and link.
    ///
    /// # Errors
    /// The device's failure.
    pub fn candidates(&self, record: usize) -> Result<Vec<[u32; 2]>, KernelError> {
        let mut status = [0; STATUS_BYTES];
        self.device.download(&self.buffers.status, record * STATUS_BYTES, &mut status)?;
        let count = words(&status).nth(2).unwrap_or_default() as usize;
        let mut bytes = vec![0; 8 * count.min(crate::sizes::CANDIDATES)];
        self.device.download(&self.buffers.candidates, record * 8 * crate::sizes::CANDIDATES, &mut bytes)?;
        let words: Vec<u32> = words(&bytes).collect();
        Ok(words.as_chunks::<2>().0.to_vec())
    }

    /// s-buckets with equal first candidates.
    ///
    /// # Errors
    /// The device's failure.
    pub fn ties(&self, record: usize) -> Result<u32, KernelError> {
        let mut status = [0; STATUS_BYTES];
        self.device.download(&self.buffers.status, record * STATUS_BYTES, &mut status)?;
        Ok(words(&status).nth(3).unwrap_or_default())
    }

    /// The s-buckets whose proofs were walked to, with proofs and hashes, ascending.
    ///
    /// # Errors
    /// The device's failure.
    pub fn proofs(&self, record: usize) -> Result<Vec<Proof>, KernelError> {
        let mut contents = vec![0; S_BUCKETS / 8];
        self.device.download(&self.buffers.contents, record * S_BUCKETS / 8, &mut contents)?;
        let size = self.sizes.proof_bytes();
        let mut proofs = vec![0; RECORD_CHUNKS * size];
        self.device.download(&self.buffers.proofs, record * RECORD_CHUNKS * size, &mut proofs)?;
        let mut hashes = vec![0; RECORD_CHUNKS * 32];
        self.device.download(&self.buffers.hashes, record * RECORD_CHUNKS * 32, &mut hashes)?;
        let set = (0..=u16::MAX).filter(|&s| contents[usize::from(s / 8)] >> (s % 8) & 1 == 1);
        let found = proofs.chunks_exact(size).zip(hashes.as_chunks::<32>().0);
        Ok(set.zip(found).map(|(s_bucket, (proof, hash))| (s_bucket, proof.to_vec(), *hash)).collect())
    }

    /// Replaces what was found: the bitfield of s-buckets with proofs, and the proofs' hashes.
    ///
    /// # Errors
    /// The device's failure.
    pub fn set_hashes(
        &mut self,
        record: usize,
        contents: &[u8],
        hashes: &[[u8; 32]],
    ) -> Result<(), KernelError> {
        self.device.upload(&self.buffers.contents, record * S_BUCKETS / 8, contents)?;
        let mut before = 0;
        let ranks = bytes_of(words(contents).map(|word| {
            let rank = before;
            before += word.count_ones();
            rank
        }));
        self.device.upload(&self.buffers.ranks, record * S_BUCKETS / 8, &ranks)?;
        let proofs = (hashes.len() as u32).to_le_bytes();
        self.device.upload(&self.buffers.status, record * STATUS_BYTES + 16, &proofs)?;
        self.device.upload(&self.buffers.hashes, record * RECORD_CHUNKS * 32, hashes.as_flattened())
    }

    /// The parity chunks.
    ///
    /// # Errors
    /// The device's failure.
    pub fn parity(&self, record: usize) -> Result<Vec<[u8; 32]>, KernelError> {
        let mut bytes = vec![0; RECORD_CHUNKS * 32];
        self.device.download(&self.buffers.parity, record * RECORD_CHUNKS * 32, &mut bytes)?;
        Ok(bytes.as_chunks::<32>().0.to_vec())
    }

    /// What is stored, after [`Self::encode_chunks`] alone: chunks and contents bitfield.
    ///
    /// # Errors
    /// The device's failure.
    pub fn stored_chunks(&self, record: usize) -> Result<(Vec<[u8; 32]>, Vec<u8>), KernelError> {
        let (mut chunks, mut contents) = (vec![[0; 32]; RECORD_CHUNKS], vec![0; S_BUCKETS / 8]);
        self.device.download(&self.buffers.stored, record * RECORD_CHUNKS * 32, chunks.as_flattened_mut())?;
        self.device.download(&self.buffers.contents, record * S_BUCKETS / 8, &mut contents)?;
        Ok((chunks, contents))
    }
}
