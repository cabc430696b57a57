//! A batch of records through all kernels.
//!
//! Buffers are allocated once for a number of records. Of the tables four are in memory at a time: table 1 gives its
//! place to table 5, table 2 to table 6, and what the proofs are walked through is the rest: 3, 4, 5 and 6.

#[doc(hidden)]
pub mod inspect;

use crate::extension::ExtensionTables;
use crate::sizes::{CANDIDATES, CHUNK_BYTES, ENTRY_BYTES, RECORD_CHUNKS, S_BUCKETS, STATUS_BYTES};
use crate::{Argument, Device, Kernel, KernelError, Sizes};
use primitives::sectors::PosSeed;
use std::collections::HashMap;

/// Left buckets that a block of the matching kernels does one after the other: the next right bucket's entries are read
/// once, and the map is cleared by taking out what was put in.
const BUCKETS_PER_BLOCK: u32 = 8;
/// Blocks that compare ties, four at a time each; there are some 500 ties in a record.
const TIE_BLOCKS: u32 = 64;

/// Bits of a record's status, as `cuda/parameters.cuh` has them.
const OVERFULL: u32 = 1 | 2 | 4 | 8;
const NOT_A_SCALAR: u32 = 16;
const ZERO_CHUNK: u32 = 32;

/// How a record fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordStatus {
    /// It is encoded. So many s-buckets have a proof.
    Encoded {
        /// s-buckets that have a proof.
        proofs: u32,
    },
    /// This source chunk is the first that is no scalar.
    NotAScalar(usize),
    /// It does not fit the kernels' buffers (bits 0 to 3 of `cuda/parameters.cuh`), or has a chunk that is masked to zero
    /// (bit 5): to be encoded on the CPU.
    Exceptional(u32),
}

impl RecordStatus {
    fn parse(bytes: &[u8]) -> Self {
        let word = |index: usize| {
            let bytes = bytes[4 * index..].first_chunk().expect("a status has 8 words");
            u32::from_le_bytes(*bytes)
        };
        let flags = word(0);
        if flags & NOT_A_SCALAR != 0 {
            Self::NotAScalar(word(1) as usize)
        } else if flags & (OVERFULL | ZERO_CHUNK) != 0 {
            Self::Exceptional(flags)
        } else {
            Self::Encoded { proofs: word(4) }
        }
    }
}

/// What a batch's records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordForm {
    /// 32,768 source chunks.
    Source,
    /// 65,536 chunks, source and parity by turns.
    Extended,
}

impl RecordForm {
    /// Bytes of a record.
    pub fn bytes(self) -> usize {
        match self {
            Self::Source => RECORD_CHUNKS * CHUNK_BYTES,
            Self::Extended => S_BUCKETS * CHUNK_BYTES,
        }
    }
}

/// Memory of a batch.
struct Buffers<B> {
    seeds: B,
    tables: [B; 4],
    /// Of the buckets of tables 1 to 6: each table's for all records, table after table.
    lengths: B,
    candidates: B,
    first: B,
    heads: B,
    nexts: B,
    ties: B,
    contents: B,
    ranks: B,
    order: B,
    proofs: B,
    hashes: B,
    source: B,
    parity: B,
    stored: B,
    status: B,
}

/// Memory of the host that the device copies from and to: as long as the pipeline, since recordings point to it.
struct Staging<H> {
    seeds: H,
    initial_status: H,
    source: H,
    stored: H,
    contents: H,
    status: H,
}

/// A device's kernels with the memory of a batch.
pub struct RecordPipeline<D: Device> {
    /// By number and form of the records. Before the device and the memory, since they point there.
    recordings: HashMap<(usize, RecordForm), Option<D::Recording>>,
    staging: Option<Staging<D::HostBuffer>>,
    device: D,
    sizes: Sizes,
    room: usize,
    /// Records of the batch in the buffers.
    records: usize,
    buffers: Buffers<D::Buffer>,
    inverse: D::Buffer,
    forward: D::Buffer,
    factors: D::Buffer,
}

/// Place of table `table`, 1 to 6, among the four.
fn table_place(table: usize) -> usize {
    (table - 1) % 4
}

impl<D: Device> RecordPipeline<D> {
    /// Allocates memory for batches of up to `room` records, [`Sizes::record_bytes`] each.
    ///
    /// # Errors
    /// The device's failure.
    pub fn new(device: D, room: usize) -> Result<Self, KernelError> {
        if room == 0 {
            return Err(KernelError::BatchSize { room, found: 0 });
        }
        let sizes = device.sizes();
        let allocate = |bytes_per_record: usize| device.allocate(room * bytes_per_record);
        let table = || allocate(sizes.slots() * ENTRY_BYTES);
        let buffers = Buffers {
            seeds: allocate(32)?,
            tables: [table()?, table()?, table()?, table()?],
            lengths: allocate(6 * sizes.buckets() * 4)?,
            candidates: allocate(CANDIDATES * 8)?,
            first: allocate(S_BUCKETS * 8)?,
            heads: allocate(S_BUCKETS * 4)?,
            nexts: allocate(CANDIDATES * 4)?,
            ties: allocate(S_BUCKETS * 4)?,
            contents: allocate(S_BUCKETS / 8)?,
            ranks: allocate(S_BUCKETS / 8)?,
            order: allocate(RECORD_CHUNKS * 4)?,
            proofs: allocate(RECORD_CHUNKS * sizes.proof_bytes())?,
            hashes: allocate(RECORD_CHUNKS * 32)?,
            source: allocate(RecordForm::Extended.bytes())?,
            parity: allocate(RECORD_CHUNKS * CHUNK_BYTES)?,
            stored: allocate(RECORD_CHUNKS * CHUNK_BYTES)?,
            status: allocate(STATUS_BYTES)?,
        };
        let mut initial_status = [0; STATUS_BYTES];
        initial_status[4..8].fill(0xff);
        let host = |bytes_per_record: usize| device.host_buffer(room * bytes_per_record);
        let mut staging = Staging {
            seeds: host(32)?,
            initial_status: host(STATUS_BYTES)?,
            source: host(RecordForm::Extended.bytes())?,
            stored: host(RECORD_CHUNKS * CHUNK_BYTES)?,
            contents: host(S_BUCKETS / 8)?,
            status: host(STATUS_BYTES)?,
        };
        staging.initial_status.copy_from_slice(&initial_status.repeat(room));
        let tables = ExtensionTables::new();
        let constant = |bytes: &[u8]| {
            let buffer = device.allocate(bytes.len())?;
            device.upload(&buffer, 0, bytes)?;
            Ok(buffer)
        };
        let (inverse, forward) = (constant(&tables.inverse)?, constant(&tables.forward)?);
        let factors = constant(&tables.factors)?;
        let (recordings, staging) = (HashMap::new(), Some(staging));
        Ok(Self { recordings, staging, device, sizes, room, records: 0, buffers, inverse, forward, factors })
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Records that a batch can have.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Encodes the records of a batch: copies and kernels as one recording.
    ///
    /// `records` are of the form `form`; the result has their statuses. What is stored of them is [`Self::stored`].
    ///
    /// # Errors
    /// [`KernelError::BatchSize`], or the device's failure; nothing of the batch is then of use.
    ///
    /// # Panics
    /// When there are not as many records as seeds, or one has not the size of its form.
    pub fn encode(
        &mut self,
        seeds: &[PosSeed],
        form: RecordForm,
        records: &[&[u8]],
    ) -> Result<Vec<RecordStatus>, KernelError> {
        if seeds.is_empty() || seeds.len() > self.room {
            return Err(KernelError::BatchSize { room: self.room, found: seeds.len() });
        }
        assert_eq!(records.len(), seeds.len(), "a record for each seed");
        self.records = seeds.len();
        let mut staging = self.staging.take().expect("put back by every batch");
        for (index, (seed, record)) in seeds.iter().zip(records).enumerate() {
            staging.seeds[32 * index..][..32].copy_from_slice(&seed.0);
            staging.source[form.bytes() * index..][..form.bytes()].copy_from_slice(record);
        }
        let mut recording = self.recordings.remove(&(self.records, form)).flatten();
        let this = &*self;
        let started = this.device.replay(&mut recording, &mut || this.enqueue(&mut staging, form));
        // Whatever was started is through before the host's memory is looked at or written again.
        let finished = self.device.synchronize();
        self.recordings.insert((self.records, form), recording);
        let statuses = staging.status.chunks_exact(STATUS_BYTES).take(self.records);
        let statuses = statuses.map(RecordStatus::parse).collect();
        self.staging = Some(staging);
        started.and(finished).map(|()| statuses)
    }

    /// What a batch is made of, from the host's memory and back.
    #[allow(unsafe_code, reason = "copies that go on after their call")]
    fn enqueue(&self, staging: &mut Staging<D::HostBuffer>, form: RecordForm) -> Result<(), KernelError> {
        let (device, buffers, records) = (&self.device, &self.buffers, self.records);
        // SAFETY: `encode`, the only caller, leaves the staging memory alone until it has synchronized, and recordings are
        // dropped before staging memory and buffers.
        unsafe {
            device.enqueue_upload(&buffers.seeds, &staging.seeds, records * 32)?;
            device.enqueue_upload(&buffers.status, &staging.initial_status, records * STATUS_BYTES)?;
            device.enqueue_upload(&buffers.source, &staging.source, records * form.bytes())?;
        }
        self.clear()?;
        self.make_tables()?;
        self.find_proofs()?;
        self.hash_proofs()?;
        if form == RecordForm::Source {
            self.extend()?;
        }
        self.encode_chunks(form)?;
        // SAFETY: as above.
        unsafe {
            device.enqueue_download(
                &buffers.stored,
                &mut staging.stored,
                records * RECORD_CHUNKS * CHUNK_BYTES,
            )?;
            device.enqueue_download(&buffers.contents, &mut staging.contents, records * S_BUCKETS / 8)?;
            device.enqueue_download(&buffers.status, &mut staging.status, records * STATUS_BYTES)
        }
    }

    /// What is stored of a record of the batch that was encoded last: its chunks (1 MiB) and its contents bitfield (8 KiB).
    ///
    /// # Panics
    /// When the batch had not so many records.
    pub fn stored(&self, record: usize) -> (&[u8], &[u8]) {
        assert!(record < self.records, "the batch has {} records", self.records);
        let staging = self.staging.as_ref().expect("put back by every batch");
        let chunks = RECORD_CHUNKS * CHUNK_BYTES;
        (
            &staging.stored[record * chunks..][..chunks],
            &staging.contents[record * S_BUCKETS / 8..][..S_BUCKETS / 8],
        )
    }

    /// Empties what the kernels of a batch count in.
    fn clear(&self) -> Result<(), KernelError> {
        self.device.fill(&self.buffers.lengths, 0)?;
        self.device.fill(&self.buffers.first, 0xff)?;
        self.device.fill(&self.buffers.heads, 0xff)
    }

    /// Takes the seeds of a batch and empties what its kernels count in.
    ///
    /// # Errors
    /// [`KernelError::BatchSize`], or the device's failure.
    pub fn begin(&mut self, seeds: &[PosSeed]) -> Result<(), KernelError> {
        if seeds.is_empty() || seeds.len() > self.room {
            return Err(KernelError::BatchSize { room: self.room, found: seeds.len() });
        }
        self.records = seeds.len();
        let bytes: Vec<u8> = seeds.iter().flat_map(|seed| seed.0).collect();
        self.device.upload(&self.buffers.seeds, 0, &bytes)?;
        self.clear()?;
        let mut status = [0; STATUS_BYTES];
        status[4..8].fill(0xff);
        self.device.upload(&self.buffers.status, 0, &status.repeat(self.records))
    }

    /// Takes the records of a batch.
    ///
    /// # Errors
    /// The device's failure.
    ///
    /// # Panics
    /// When there are not as many as seeds, or one has not the size of its form.
    pub fn upload_records(&mut self, form: RecordForm, records: &[&[u8]]) -> Result<(), KernelError> {
        assert_eq!(records.len(), self.records, "a record for each seed");
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.len(), form.bytes(), "a record of the form {form:?}");
            self.device.upload(&self.buffers.source, index * form.bytes(), record)?;
        }
        Ok(())
    }

    /// Tables 1 to 7.
    ///
    /// # Errors
    /// The device's failure.
    pub fn make_tables(&self) -> Result<(), KernelError> {
        (1..=7).try_for_each(|table| self.make_table(table))
    }

    /// Table `table`, 1 to 7, of the one before.
    ///
    /// # Errors
    /// The device's failure.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn make_table(&self, table: usize) -> Result<(), KernelError> {
        use Argument::{Buffer, U32};
        let buffers = &self.buffers;
        let status = || Buffer(&buffers.status, 0);
        let entries = |table: usize| Buffer(&buffers.tables[table_place(table)], 0);
        let lengths = |table: usize| Buffer(&buffers.lengths, self.lengths_offset(table));
        if table == 1 {
            let blocks = self.sizes.x_values() / 4096;
            let arguments = [Buffer(&buffers.seeds, 0), entries(1), lengths(1), status()];
            return self.launch(Kernel::FirstTable, blocks as u32, &arguments);
        }
        let kernels =
            [Kernel::Match2, Kernel::Match3, Kernel::Match4, Kernel::Match5, Kernel::Match6, Kernel::Match7];
        let blocks = (self.sizes.buckets() as u32 - 1).div_ceil(BUCKETS_PER_BLOCK);
        let (targets, counts) = match table {
            7 => (Buffer(&buffers.candidates, 0), Buffer(&buffers.first, 0)),
            _ => (entries(table), lengths(table)),
        };
        let arguments =
            [entries(table - 1), lengths(table - 1), targets, counts, status(), U32(BUCKETS_PER_BLOCK)];
        self.launch(kernels[table - 2], blocks, &arguments)
    }

    /// The first proof of each s-bucket in the canonical order, and their order in the record.
    ///
    /// # Errors
    /// The device's failure.
    pub fn find_proofs(&self) -> Result<(), KernelError> {
        use Argument::Buffer;
        let buffers = &self.buffers;
        let [first, fourth, fifth, sixth] = self.walked();
        let [candidates, firsts] = [&buffers.candidates, &buffers.first].map(|buffer| Buffer(buffer, 0));
        let [heads, nexts, ties] =
            [&buffers.heads, &buffers.nexts, &buffers.ties].map(|buffer| Buffer(buffer, 0));
        let arguments = [candidates, firsts, heads, nexts, ties, Buffer(&buffers.status, 0)];
        self.launch(Kernel::FindTies, (CANDIDATES / 256) as u32, &arguments)?;
        let [candidates, firsts, heads, nexts, ties, status] = arguments;
        let seeds = Buffer(&buffers.seeds, 0);
        let arguments = [seeds, first, fourth, fifth, sixth, candidates, firsts, heads, nexts, ties, status];
        self.launch(Kernel::ResolveTies, TIE_BLOCKS, &arguments)?;
        let arguments = [
            Buffer(&buffers.candidates, 0),
            Buffer(&buffers.first, 0),
            Buffer(&buffers.contents, 0),
            Buffer(&buffers.ranks, 0),
            Buffer(&buffers.order, 0),
            Buffer(&buffers.status, 0),
        ];
        self.launch(Kernel::RankProofs, 1, &arguments)
    }

    /// The proofs of the first 32,768 s-buckets that have one, and their hashes.
    ///
    /// # Errors
    /// The device's failure.
    pub fn hash_proofs(&self) -> Result<(), KernelError> {
        use Argument::Buffer;
        let buffers = &self.buffers;
        let [third, fourth, fifth, sixth] = self.walked();
        let [order, proofs, status] =
            [&buffers.order, &buffers.proofs, &buffers.status].map(|buffer| Buffer(buffer, 0));
        let arguments = [third, fourth, fifth, sixth, order, proofs, status];
        self.launch(Kernel::WalkProofs, (RECORD_CHUNKS * 16 / 256) as u32, &arguments)?;
        let arguments = [&buffers.proofs, &buffers.hashes, &buffers.status].map(|buffer| Buffer(buffer, 0));
        self.launch(Kernel::HashProofs, (RECORD_CHUNKS / 128) as u32, &arguments)
    }

    /// The parity chunks of records that are source chunks.
    ///
    /// # Errors
    /// The device's failure.
    pub fn extend(&self) -> Result<(), KernelError> {
        use Argument::{Buffer, U32};
        let buffers = &self.buffers;
        let blocks = (RECORD_CHUNKS / 1024) as u32;
        let parity = || Buffer(&buffers.parity, 0);
        let (inverse, forward) = (|| Buffer(&self.inverse, 0), || Buffer(&self.forward, 0));
        let arguments = [
            Buffer(&buffers.source, 0),
            U32(1),
            U32(RECORD_CHUNKS as u32),
            parity(),
            inverse(),
            Buffer(&buffers.status, 0),
        ];
        self.launch(Kernel::ExtendColumnsInverse, blocks, &arguments)?;
        let arguments = [parity(), inverse(), forward(), Buffer(&self.factors, 0)];
        self.launch(Kernel::ExtendRows, blocks, &arguments)?;
        self.launch(Kernel::ExtendColumnsForward, blocks, &[parity(), forward()])
    }

    /// The chunks that are stored.
    ///
    /// # Errors
    /// The device's failure.
    pub fn encode_chunks(&self, form: RecordForm) -> Result<(), KernelError> {
        use Argument::{Buffer, U32};
        let buffers = &self.buffers;
        let (odd, stride, per_record) = match form {
            RecordForm::Source => (Buffer(&buffers.parity, 0), 1, RECORD_CHUNKS),
            RecordForm::Extended => (Buffer(&buffers.source, CHUNK_BYTES), 2, S_BUCKETS),
        };
        let arguments = [
            Buffer(&buffers.source, 0),
            odd,
            U32(stride),
            U32(per_record as u32),
            U32(per_record as u32),
            Buffer(&buffers.hashes, 0),
            Buffer(&buffers.contents, 0),
            Buffer(&buffers.ranks, 0),
            Buffer(&buffers.stored, 0),
            Buffer(&buffers.status, 0),
        ];
        self.launch(Kernel::EncodeChunks, (S_BUCKETS / 256) as u32, &arguments)
    }

    /// How the records of the batch fared.
    ///
    /// # Errors
    /// The device's failure.
    pub fn statuses(&self) -> Result<Vec<RecordStatus>, KernelError> {
        let mut bytes = vec![0; self.records * STATUS_BYTES];
        self.device.download(&self.buffers.status, 0, &mut bytes)?;
        Ok(bytes.chunks_exact(STATUS_BYTES).map(RecordStatus::parse).collect())
    }

    /// Tables 3 to 6.
    fn walked(&self) -> [Argument<'_, D::Buffer>; 4] {
        [3, 4, 5, 6].map(|table| Argument::Buffer(&self.buffers.tables[table_place(table)], 0))
    }

    fn lengths_offset(&self, table: usize) -> usize {
        (table - 1) * self.room * self.sizes.buckets() * 4
    }

    fn launch(
        &self,
        kernel: Kernel,
        blocks: u32,
        arguments: &[Argument<'_, D::Buffer>],
    ) -> Result<(), KernelError> {
        let grid = [blocks, self.records as u32];
        // SAFETY: the callers in this module give each kernel the arguments that it has in `cuda/`; buffers have room for
        // `self.room` records, `self.records` are not more, and each grid covers what the kernel's comment asks for.
        #[allow(unsafe_code, reason = "the one place where kernels are launched")]
        unsafe {
            self.device.launch(kernel, grid, arguments)
        }
    }
}
