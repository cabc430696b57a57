//! What a pipeline asks of a device.

use crate::{KernelError, Sizes};

macro_rules! kernels {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $threads:expr;)*) => {
        /// A kernel of `cuda/`, whose comments say what it does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kernel { $($(#[$doc])* $variant),* }

        impl Kernel {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Name in the sources.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Threads of a block.
            pub fn threads(self, sizes: Sizes) -> u32 {
                let threads: fn(Sizes) -> u32 = match self { $(Self::$variant => $threads),* };
                threads(sizes)
            }
        }
    };
}
kernels! {
    /// Table 1.
    FirstTable = "first_table", |sizes| 8 * sizes.k;
    /// Table 2 of table 1.
    Match2 = "match_2", |_| 256;
    /// Table 3 of table 2.
    Match3 = "match_3", |_| 256;
    /// Table 4 of table 3.
    Match4 = "match_4", |_| 256;
    /// Table 5 of table 4.
    Match5 = "match_5", |_| 256;
    /// Table 6 of table 5.
    Match6 = "match_6", |_| 256;
    /// What answers s-buckets in table 7 of table 6.
    Match7 = "match_7", |_| 256;
    /// Candidates that only the canonical order tells apart.
    FindTies = "find_ties", |_| 256;
    /// The first of them.
    ResolveTies = "resolve_ties", |_| 128;
    /// Which s-buckets have proofs, and in which order they are stored.
    RankProofs = "rank_proofs", |_| 1024;
    /// The proofs.
    WalkProofs = "walk_proofs", |_| 256;
    /// Their hashes.
    HashProofs = "hash_proofs", |_| 128;
    /// First third of the erasure extension.
    ExtendColumnsInverse = "extend_columns_inverse", |_| 256;
    /// Second third of the erasure extension.
    ExtendRows = "extend_rows", |_| 256;
    /// Last third of the erasure extension.
    ExtendColumnsForward = "extend_columns_forward", |_| 256;
    /// Chunks, masked and in the order in which they are stored.
    EncodeChunks = "encode_chunks", |_| 256;
}

/// An argument of a kernel.
#[derive(Debug)]
pub enum Argument<'a, B> {
    /// A pointer to this byte of a buffer.
    Buffer(&'a B, usize),
    /// A number.
    U32(u32),
}

/// Memory and launches of a device. Launches and copies take place in the order in which they were asked for, some time before
/// [`Self::synchronize`] returns.
pub trait Device {
    /// Memory of the device, freed when dropped.
    type Buffer;
    /// Memory of the host that the device copies from and to by itself, freed when dropped.
    type HostBuffer: std::ops::DerefMut<Target = [u8]>;
    /// Launches and copies that are started as a whole.
    type Recording;

    /// The device, for messages.
    fn name(&self) -> String;

    /// What its kernels were compiled for.
    fn sizes(&self) -> Sizes;

    /// Memory of `bytes` bytes, contents undefined.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], or the device's failure.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, KernelError>;

    /// Memory of the host, zeroed.
    ///
    /// # Errors
    /// As [`Self::allocate`].
    fn host_buffer(&self, bytes: usize) -> Result<Self::HostBuffer, KernelError>;

    /// Sets every byte of a buffer.
    ///
    /// # Errors
    /// The device's failure.
    fn fill(&self, buffer: &Self::Buffer, byte: u8) -> Result<(), KernelError>;

    /// Copies bytes to a buffer, from byte `offset` of it on.
    ///
    /// # Errors
    /// [`KernelError::OutOfBounds`], or the device's failure.
    fn upload(&self, buffer: &Self::Buffer, offset: usize, bytes: &[u8]) -> Result<(), KernelError>;

    /// Copies bytes from a buffer, from byte `offset` of it on, after everything asked for before is done.
    ///
    /// # Errors
    /// [`KernelError::OutOfBounds`], or the failure of the device or of an earlier kernel.
    fn download(&self, buffer: &Self::Buffer, offset: usize, bytes: &mut [u8]) -> Result<(), KernelError>;

    /// Copies the first `bytes` bytes of the host's memory to the beginning of a buffer, at some time.
    ///
    /// # Safety
    /// Until [`Self::synchronize`] returns, `from` is neither written to nor dropped; as long as a recording has the copy,
    /// neither of the two is dropped.
    ///
    /// # Errors
    /// [`KernelError::OutOfBounds`], or the device's failure.
    #[allow(unsafe_code, reason = "the device reads the host's memory by itself")]
    unsafe fn enqueue_upload(
        &self,
        buffer: &Self::Buffer,
        from: &Self::HostBuffer,
        bytes: usize,
    ) -> Result<(), KernelError>;

    /// Copies the first `bytes` bytes of a buffer to the beginning of the host's memory, at some time.
    ///
    /// # Safety
    /// As [`Self::enqueue_upload`]; `to` is not read from either.
    ///
    /// # Errors
    /// [`KernelError::OutOfBounds`], or the device's failure.
    #[allow(unsafe_code, reason = "the device writes the host's memory by itself")]
    unsafe fn enqueue_download(
        &self,
        buffer: &Self::Buffer,
        to: &mut Self::HostBuffer,
        bytes: usize,
    ) -> Result<(), KernelError>;

    /// Starts what `work` launches and enqueues: the first time by recording it, then out of the recording, without `work`
    /// being called. A device that cannot record calls it every time.
    ///
    /// # Errors
    /// What `work` ends with, or the device's failure.
    fn replay(
        &self,
        recording: &mut Option<Self::Recording>,
        work: &mut dyn FnMut() -> Result<(), KernelError>,
    ) -> Result<(), KernelError>;

    /// Waits until everything asked for is done.
    ///
    /// # Errors
    /// The failure of the device or of an earlier kernel.
    fn synchronize(&self) -> Result<(), KernelError>;

    /// Launches a kernel on a grid of blocks.
    ///
    /// # Safety
    /// Arguments are those of the kernel in `cuda/`, in number, kind and order, and its buffers have what it reads and room
    /// for what it writes for this grid.
    ///
    /// # Errors
    /// The device's failure.
    #[allow(unsafe_code, reason = "a kernel writes where its arguments point to")]
    unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [u32; 2],
        arguments: &[Argument<'_, Self::Buffer>],
    ) -> Result<(), KernelError>;
}
