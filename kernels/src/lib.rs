//! Plotting on NVIDIA GPUs: the CUDA sources, what launches them, and a shim that runs them on a CPU in tests.
//!
//! * `cuda/`: one step of the algorithm a file. Only [`Kernel`] names them, only [`pipeline`] launches them.
//! * [`Device`]: memory and launches. [`pipeline`] is written for any of them: [`CudaDevice`] is one, the shim (feature `shim`)
//!   another.
//! * [`RecordPipeline`]: batches of records through all kernels; the bytes are those of [`farming`]'s CPU encoder, which
//!   is the oracle of every test and the refuge for a record that does not fit the kernels' buffers.
//!
//! Architecture invariant: nothing is truncated. A bucket, queue or list that would overflow marks its record, and the
//! record is encoded on the CPU.

pub mod bundle;
pub mod check;
pub mod cuda;
pub mod device;
pub mod encoder;
pub mod error;
pub mod extension;
pub mod images;
pub mod nvrtc;
pub mod pipeline;
#[cfg(feature = "shim")]
pub mod shim;
pub mod sizes;
pub mod sources;

pub use cuda::CudaDevice;
pub use device::{Argument, Device, Kernel};
pub use encoder::{DeviceEncoders, DeviceRecordEncoder};
pub use error::KernelError;
pub use pipeline::{RecordPipeline, RecordStatus};
pub use sizes::Sizes;
