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
    /// A null pointer.
    Null,
    /// A number.
    U32(u32),
}

/// Memory and launches of a device. Launches and copies take place in the order in which they were asked for.
pub trait Device {
    /// Memory of the device, freed when dropped.
    type Buffer;

    /// The device, for messages.
    fn name(&self) -> String;

    /// What its kernels were compiled for.
    fn sizes(&self) -> Sizes;

    /// Memory of `bytes` bytes, contents undefined.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], or the device's failure.
    fn allocate(&self, bytes: usize) -> Result<Self::Buffer, KernelError>;

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
