//! What can go wrong between the host and a device.

/// A device did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// There is no driver, or only a part of it.
    #[error(
        "no NVIDIA driver: {reason}; install driver 525.60.13 or later, or run on the CPU (--backend cpu)"
    )]
    NoDriver {
        /// What is missing.
        reason: String,
    },
    /// The driver is older than CUDA 12.
    #[error("the NVIDIA driver knows CUDA {found}; 12.0 is needed: install driver 525.60.13 or later")]
    DriverTooOld {
        /// The driver's CUDA version.
        found: String,
    },
    /// There is no such card.
    #[error("there is no GPU {ordinal}: {count} are visible; check nvidia-smi and CUDA_VISIBLE_DEVICES")]
    NoDevice {
        /// Number of the card.
        ordinal: u32,
        /// Visible cards.
        count: u32,
    },
    /// The card is older than the kernels' oldest target.
    #[error("{device} is too old: the kernels need compute capability 7.0; run on the CPU (--backend cpu)")]
    UnsupportedCard {
        /// Name of the device.
        device: String,
    },
    /// There are no kernels for the card.
    #[error("{device}: {error}; `cargo xtask kernels` makes a bundle for all cards (--cuda-kernels FILE)")]
    NoImage {
        /// Name of the device.
        device: String,
        /// Why.
        error: String,
    },
    /// A call of the driver, or a kernel, failed.
    #[error("{device}: {call}: {error}; {advice}")]
    Driver {
        /// Name of the device.
        device: String,
        /// The call, or the kernel.
        call: String,
        /// The driver's name of the error.
        error: String,
        /// What to do.
        advice: &'static str,
    },
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
    /// The device computes something else than the CPU.
    #[error(
        "{device} encodes a record to other bytes than the CPU: nothing is plotted on it; `autonomys-farmer util benchmark gpu` \
         says how often, and then tell us"
    )]
    WrongBytes {
        /// Name of the device.
        device: String,
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
