//! What can go wrong between the host and a device.

/// A device did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// There is no kernel of this name for this K.
    #[error("{device} has no kernel {kernel} for K={k}: it was built from other sources; build it again")]
    NoKernel {
        /// Name of the device.
        device: String,
        /// Name of the kernel.
        kernel: String,
        /// Size parameter of the proof of space.
        k: u32,
    },
    /// A kernel was called with other arguments than it has.
    #[error("{device}: kernel {kernel} has {expected} arguments, {found} were given")]
    Arguments {
        /// Name of the device.
        device: String,
        /// Name of the kernel.
        kernel: String,
        /// Arguments of the kernel.
        expected: usize,
        /// Arguments given.
        found: usize,
    },
    /// A kernel failed.
    #[error("{device}: {message}")]
    Launch {
        /// Name of the device.
        device: String,
        /// What the device says, with the kernel's name.
        message: String,
    },
    /// A copy that does not lie within its buffer.
    #[error("{device}: {bytes} bytes at offset {offset} of a buffer of {size} bytes")]
    OutOfBounds {
        /// Name of the device.
        device: String,
        /// First byte.
        offset: usize,
        /// Number of bytes.
        bytes: usize,
        /// Size of the buffer.
        size: usize,
    },
    /// There is not so much memory.
    #[error(
        "{device} has no {bytes} bytes of memory left: fewer records in flight (GPU_CONCURRENCY) need less"
    )]
    OutOfMemory {
        /// Name of the device.
        device: String,
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// More records, or fewer than one, were given than the pipeline has room for.
    #[error("a batch has 1 to {room} records, {found} were given")]
    BatchSize {
        /// Records that the pipeline's buffers hold.
        room: usize,
        /// Records given.
        found: usize,
    },
}
